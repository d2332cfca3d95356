//! `resume`.

use clap::Parser;

use crate::container::pause;
use crate::error::Result;

use super::Options;

/// Let the processes of a paused container go on.
#[derive(Debug, Parser)]
#[command(name = "resume")]
pub(super) struct Arguments {
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    pause::resume(&options.store(), &arguments.id)?;
    Ok(0)
}
