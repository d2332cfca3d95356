//! `events`.

use clap::Parser;

use crate::container::events;
use crate::container::report::Event;
use crate::error::{Error, Result};

use super::Options;
use super::numbers::duration;

/// Show what a container uses, and when it runs out of memory, as lines of JSON until it ends.
#[derive(Debug, Parser)]
#[command(name = "events")]
pub(super) struct Arguments {
    /// Time between two reports: 5s, 1m30s, 200ms
    #[arg(long, value_name = "DURATION", default_value = "5s", allow_hyphen_values = true)]
    interval: String,
    /// Report once, now
    #[arg(long)]
    stats: bool,
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let Arguments { interval, stats, id } = arguments;
    let (negative, size) = interval.strip_prefix('-').map_or((false, interval.as_str()), |size| (true, size));
    let interval = duration(size).map_err(|error| error.within("invalid value for interval"))?;
    if negative || interval.is_zero() {
        return Err(Error::new("duration interval must be greater than 0"));
    }
    let store = options.store();
    if stats {
        events::once(&store, &id, &mut emit)?;
    } else {
        events::stream(&store, &id, interval, &mut emit)?;
    }
    Ok(0)
}

fn emit(event: &Event) -> Result<()> {
    let text = serde_json::to_string(event).map_err(|error| Error::new(error.to_string()))?;
    super::print(&(text + "\n"))
}
