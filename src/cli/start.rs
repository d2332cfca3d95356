//! `start`.

use clap::Parser;

use crate::container::start;
use crate::error::Result;

use super::Options;

/// Start the user's program in a created container.
#[derive(Debug, Parser)]
#[command(name = "start")]
pub(super) struct Arguments {
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    start::start(&options.store(), &arguments.id)?;
    Ok(0)
}
