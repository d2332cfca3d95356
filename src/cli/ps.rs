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
    /// The container's name
    id: String,
    /// Options for ps(1) [default: -ef]
    #[arg(value_name = "PS OPTIONS")]
    rest: Vec<OsString>,
}

/// Marks where the name begins: what comes after it is for ps(1), even if it looks like an option of ours.
pub(super) fn fence(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let mut at = 1;
    while let Some(argument) = arguments.get(at).filter(|argument| argument.as_encoded_bytes().starts_with(b"-")) {
        if argument == "--" {
            return arguments;
        }
        at += if argument == "-f" || argument == "--format" { 2 } else { 1 };
    }
    if at < arguments.len() {
        arguments.insert(at, "--".into());
    }
    arguments
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let Arguments { format, id, rest } = arguments;
    let store = options.store();
    let default = [OsString::from("-ef")];
    let text = match format {
        Format::Json => {
            let pids = ps::pids(&store, &id)?;
            serde_json::to_string(&pids).map_err(|error| Error::new(error.to_string()))? + "\n"
        }
        Format::Table => ps::table(&store, &id, if rest.is_empty() { &default } else { &rest })?,
    };
    super::print(&text)?;
    Ok(0)
}
