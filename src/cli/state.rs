//! `state`.

use clap::Parser;

use crate::container::list;
use crate::error::{Error, Result};

use super::Options;

/// Show the state of a container as JSON.
#[derive(Debug, Parser)]
#[command(name = "state")]
pub(super) struct Arguments {
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let row = list::state(&options.store(), &arguments.id)?;
    let text = serde_json::to_string_pretty(&row).map_err(|error| Error::new(error.to_string()))?;
    super::print(&(text + "\n"))?;
    Ok(0)
}
