//! `kill`: a signal for the init, or for all.

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::state::record::Status;
use crate::state::store::Store;

/// Sends `signal` to the container's init, or with `all` to every process in its cgroups.
///
/// # Errors
/// `does not exist`; `container not running` for one that is neither created, running nor paused.
pub fn kill(store: &Store, id: &str, signal: i32, all: bool) -> Result<()> {
    let entry = store.enter(id)?;
    let record = entry.load_created()?;
    let send = || {
        // without a cgroup the init is all that is known
        if all && !record.placement.directories().is_empty() {
            return cgroup::signal_all(&record.placement, signal);
        }
        if !matches!(entry.status(&record)?, Status::Created | Status::Running | Status::Paused) {
            return Err(Error::new("container not running"));
        }
        let init = record.init.ok_or_else(|| Error::new("container not running"))?;
        init.signal(signal)?;
        if signal != libc::SIGKILL {
            return Ok(());
        }
        // without a pid namespace of its own the end of the init ends nobody else
        if !record.own_pid_namespace {
            cgroup::signal_all(&record.placement, signal)?;
        }
        cgroup::freezer::thaw_to_die(&record.placement)
    };
    send().context(|| format!("kill {id}"))
}

/// A signal by number or name, with or without `SIG`: signal(7).
///
/// # Errors
/// No such signal.
pub fn parse_signal(text: &str) -> Result<i32> {
    let unknown =
        || Error::new(format!("unknown signal {text:?}: a name such as TERM or a number from 1 to 64 is wanted"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(number) = real_time(name) {
        return Ok(number);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().map(|signal| signal as i32).map_err(|_| unknown())
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-2`.
fn real_time(name: &str) -> Option<i32> {
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let (base, rest) = match name.split_at_checked(5)? {
        ("RTMIN", rest) => (RTMIN, rest),
        ("RTMAX", rest) => (RTMAX, rest),
        _ => return None,
    };
    let offset = if rest.is_empty() { 0 } else { rest.parse::<i32>().ok()? };
    let number = base.checked_add(offset)?;
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse_signal;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("TERM", 15), ("SIGTERM", 15), ("sigkill", 9), ("9", 9), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("64", 64)]
        {
            assert_eq!(parse_signal(text).expect(text), number);
        }
        for text in ["", "SIG", "NOPE", "65", "-1", "RTMIN+99", "RTMAX+1", "1.5", "é"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }
}
