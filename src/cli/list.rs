//! `list`.

use clap::{Parser, ValueEnum};

use crate::container::list::{self, Row};
use crate::error::{Error, Result};

use super::Options;

/// List the containers.
#[derive(Debug, Parser)]
#[command(name = "list")]
pub(super) struct Arguments {
    /// table or json
    #[arg(long, short, value_enum, default_value = "table")]
    format: Format,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let rows = list::list(&options.store())?;
    let text = match (arguments.quiet, arguments.format) {
        (true, _) => rows.iter().map(|row| row.id.clone() + "\n").collect(),
        (false, Format::Json) => json(&rows)?,
        (false, Format::Table) => table(&rows),
    };
    super::print(&text)?;
    Ok(0)
}

/// runc prints `null` for no containers; callers take both, and a list is a list.
fn json(rows: &[Row]) -> Result<String> {
    serde_json::to_string(rows).map(|text| text + "\n").map_err(|error| Error::new(error.to_string()))
}

/// Columns as wide as runc's: at least 12, three blanks between.
fn table(rows: &[Row]) -> String {
    let heading = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let cells = |row: &Row| {
        [
            row.id.clone(),
            row.pid.to_string(),
            row.status.name().to_owned(),
            row.bundle.display().to_string(),
            row.created.clone(),
            row.owner.clone(),
        ]
    };
    let lines: Vec<[String; 6]> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count() + 3).max().unwrap_or(0).max(12);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            text += &format!("{cell:<width$}");
        }
        text += &format!("{}\n", line[5]);
    }
    text
}
