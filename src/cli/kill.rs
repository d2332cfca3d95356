//! `kill`.

use clap::Parser;

use crate::container::kill;
use crate::error::Result;

use super::Options;

/// Send a signal to a container.
#[derive(Debug, Parser)]
#[command(name = "kill")]
pub(super) struct Arguments {
    /// To every process of the container, not only its first
    #[arg(long, short)]
    all: bool,
    /// The container's name
    id: String,
    /// By name or number
    #[arg(default_value = "SIGTERM")]
    signal: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let signal = kill::parse_signal(&arguments.signal)?;
    kill::kill(&options.store(), &arguments.id, signal, arguments.all)?;
    Ok(0)
}
