//! `delete`: every part idempotent, so that the next one finishes what an interrupted one began.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::cgroup;
use crate::error::{Call, Context, Error, Result};
use crate::hooks;
use crate::state::record::{Phase, Record, Status};
use crate::state::store::{Entry, Store};
use crate::sys::proc::Whereabouts;

/// How long a killed init may take to end.
const DEADLINE: Duration = Duration::from_secs(10);

/// Deletes a stopped container, or with `force` any, which is killed first.
///
/// # Errors
/// `does not exist`, unless forced; it is not stopped; something does not go away.
pub fn delete(store: &Store, id: &str, force: bool) -> Result<()> {
    let entry = match store.enter(id).and_then(|entry| entry.lock().map(|()| entry)) {
        Ok(entry) => entry,
        Err(error) => {
            crate::state::id::check(id)?;
            let gone = !store.has(id);
            return if gone && (store.bury(id)? || force) { Ok(()) } else { Err(error) };
        }
    };
    remove_container(store, &entry, force).context(|| format!("delete {id}"))
}

fn remove_container(store: &Store, entry: &Entry, force: bool) -> Result<()> {
    let record = match entry.load() {
        Ok(Some(record)) => record,
        // the creator died before it wrote a record: nothing else was made
        Ok(None) => return entry.remove(store),
        // a damaged record says nothing of processes and cgroups: only its own directory can be removed
        Err(error) if force => {
            tracing::warn!("{error}: removing the directory only");
            return entry.remove(store);
        }
        Err(error) => return Err(error),
    };
    let status = entry.status(&record)?;
    // with the lock in hand nobody is creating it any more
    let stopped = status == Status::Stopped || record.phase == Phase::Creating;
    if !stopped {
        // one that was never started has nothing to lose
        if !force && status != Status::Created {
            let words = format!("cannot delete container {} that is not stopped: {}", record.id, status.name());
            return Err(Error::new(words).hint("stop it first, or use --force"));
        }
        end(&record)?;
    }
    clean_up(store, entry, &record)
}

/// Kills the init and waits until it is gone.
pub(super) fn end(record: &Record) -> Result<()> {
    let Some(init) = record.init else { return Ok(()) };
    let Some(pidfd) = init.open()? else { return Ok(()) };
    match crate::sys::pidfd::send_signal(&pidfd, libc::SIGKILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(errno) => return Err(errno).call(|| format!("kill {}", init.pid)),
    }
    cgroup::freezer::thaw_to_die(&record.placement)?;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let Some(stuck) = Whereabouts::of(init.pid) else { return Ok(()) };
            return Err(Error::new(format!("{stuck} and does not end")));
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            result => return result.call(|| "poll".to_owned()).map(drop),
        }
    }
}

/// What a container leaves: cgroups, its record; poststop hooks run in between.
pub fn clean_up(store: &Store, entry: &Entry, record: &Record) -> Result<()> {
    if record.phase == Phase::Creating && !entry.has_config() {
        cgroup::remove_unused(&record.placement)?;
    } else {
        if !record.own_pid_namespace {
            cgroup::kill(&record.placement)?;
        }
        cgroup::remove(&record.placement)?;
    }
    // hooks of a container that never was are none of its life's
    if record.phase == Phase::Created {
        hooks::run_all_logging("poststop", &record.poststop, &record.oci_state("stopped", 0));
    }
    entry.remove(store)
}
