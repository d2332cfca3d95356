//! `events`: what a container uses, and that it ran out of memory.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::cgroup::events::OomWatch;
use crate::cgroup::stats::{Groups, Reader};
use crate::error::{Call, Context, Error, Result};
use crate::state::record::{Record, Status};
use crate::state::store::Store;

use super::report::Event;

/// All that runc reports.
const REPORTED: Groups = Groups::CPU
    .and(Groups::CPUSET)
    .and(Groups::MEMORY)
    .and(Groups::PIDS)
    .and(Groups::IO)
    .and(Groups::HUGETLB)
    .and(Groups::PRESSURE);

/// Tells `emit` once what a container uses.
///
/// # Errors
/// `does not exist`; `is not running`.
pub fn once(store: &Store, id: &str, emit: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
    let record = running(store, id)?;
    let stats = Reader::default().read(&record.placement, REPORTED).context(|| format!("events {id}"))?;
    emit(&Event::stats(id, stats))
}

/// Tells `emit` every `interval` what a container uses, and at once when one of its processes was killed for
/// want of memory; until the container ends.
///
/// # Errors
/// As [`once`].
pub fn stream(store: &Store, id: &str, interval: Duration, emit: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
    let record = running(store, id)?;
    // before the first look at the process: what happens in between is not missed
    let mut watch = OomWatch::new(&record.placement).context(|| format!("events {id}"))?;
    if watch.is_none() {
        tracing::warn!("nobody watches the memory of container {id}: there will be no oom events");
    }
    let Some(init) = record.init.map(|init| init.open()).transpose()?.flatten() else { return Ok(()) };
    let mut reader = Reader::default();
    let mut next = Instant::now() + interval;
    loop {
        let ended = wait(&init, watch.as_ref(), next)?;
        // looked at also at the end: it may be what ended the container
        if watch.as_mut().is_some_and(OomWatch::happened) {
            emit(&Event::oom(id))?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            match reader.read(&record.placement, REPORTED) {
                Ok(stats) => emit(&Event::stats(id, stats))?,
                Err(error) => tracing::error!("{error}"),
            }
            next = Instant::now().max(next + interval);
        }
    }
}

fn running(store: &Store, id: &str) -> Result<Record> {
    let entry = store.enter(id)?;
    let record = entry.load_created()?;
    match entry.status(&record)? {
        Status::Creating | Status::Stopped => Err(Error::new(format!("container with id {id} is not running"))),
        _ if record.placement.directories().is_empty() => {
            Err(Error::new(format!("container {id} has no cgroup: nobody counts what it uses")))
        }
        Status::Created | Status::Running | Status::Paused => Ok(record),
    }
}

/// Waits until there is something to look at, `until` at the latest. True: the container has ended.
fn wait(init: impl AsFd, watch: Option<&OomWatch>, until: Instant) -> Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut fds = vec![PollFd::new(&init, PollFlags::IN)];
    fds.extend(watch.map(|watch| PollFd::new(watch, watch.flags())));
    match poll(&mut fds, Some(&timeout)) {
        Err(Errno::INTR) => Ok(false),
        result => result.call(|| "poll".to_owned()).map(|_| !fds[0].revents().is_empty()),
    }
}
