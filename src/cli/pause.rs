//! `pause`.

use clap::Parser;

use crate::container::pause;
use crate::error::Result;

use super::Options;

/// Suspend all processes of a container.
#[derive(Debug, Parser)]
#[command(name = "pause")]
pub(super) struct Arguments {
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    pause::pause(&options.store(), &arguments.id)?;
    Ok(0)
}
