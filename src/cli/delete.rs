//! `delete`.

use clap::Parser;

use crate::container::delete;
use crate::error::Result;

use super::Options;

/// Delete a stopped container.
#[derive(Debug, Parser)]
#[command(name = "delete")]
pub(super) struct Arguments {
    /// Kill it first; it need not exist
    #[arg(long, short)]
    force: bool,
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    delete::delete(&options.store(), &arguments.id, arguments.force)?;
    Ok(0)
}
