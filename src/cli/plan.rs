//! `plan`.

use clap::{Parser, ValueEnum};

use crate::error::{Context, Error, Result};
use crate::plan::Start;

use super::Options;
use super::bundle::{self, BundleOptions};

/// Show what create would do, without doing it.
#[derive(Debug, Parser)]
#[command(name = "plan")]
pub(super) struct Arguments {
    #[command(flatten)]
    bundle: BundleOptions,
    /// text or json
    #[arg(long, short, value_enum, default_value = "text")]
    format: Format,
    /// The container's name
    #[arg(default_value = "plan")]
    id: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let bundle =
        bundle::read(&arguments.id, &arguments.bundle, options, Start::Later, true).context(|| "plan".to_owned())?;
    let text = match arguments.format {
        Format::Text => bundle.plan.to_string(),
        Format::Json => {
            serde_json::to_string_pretty(&bundle.plan).map_err(|error| Error::new(error.to_string()))? + "\n"
        }
    };
    super::print(&text)?;
    Ok(0)
}
