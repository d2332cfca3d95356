//! `ps`.

use std::ffi::OsString;

use clap::{Parser, ValueEnum};

use crate::container::ps;
use crate::error::{Error, Result};

use super::Options;

/// Show the processes of a container.
#[derive(Debug, Parser)]
#[command(name = "ps")]
pub(super) struct Arguments {
    /// table or json: a list of pids
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    /// The container's name, and options for ps(1) [default: -ef]
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "ID [PS OPTIONS]")]
    rest: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let Some((id, rest)) = arguments.rest.split_first() else { return Err(Error::new("a container's name is wanted")) };
    let id = id.to_string_lossy();
    if id.starts_with('-') {
        return Err(Error::new(format!("unknown option {id:?}")).hint("options for ps(1) come after the name"));
    }
    let store = options.store();
    let default = [OsString::from("-ef")];
    let text = match arguments.format {
        Format::Json => {
            let pids = ps::pids(&store, &id)?;
            serde_json::to_string(&pids).map_err(|error| Error::new(error.to_string()))? + "\n"
        }
        Format::Table => ps::table(&store, &id, if rest.is_empty() { &default } else { rest })?,
    };
    super::print(&text)?;
    Ok(0)
}
