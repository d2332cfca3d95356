//! Stopping all processes of a container where they are, and letting them go on.
//!
//! Version 2 says with an event when all are frozen; version 1 has to be asked, and asked again: a process that
//! is made while the others freeze may keep it in FREEZING until FROZEN is written once more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread};

use crate::error::{Call, Error, Result};
use crate::plan::cgroupfs::{Hierarchies, Placement};
use crate::sys::proc;

use super::{read, v1, write};

/// How long processes may take to freeze.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest time between two looks at version 1.
const NAP: Duration = Duration::from_millis(20);

/// So many tries of version 1, and all are let go for a moment: what keeps one of them from freezing may be
/// another that is frozen already.
const TRIES: u32 = 50;

/// How many of the processes that do not freeze an error names.
const NAMED: usize = 3;

/// Where a task waits while it is frozen, by version 1 and 2.
const FROZEN_IN: [&str; 2] = ["__refrigerator", "do_freezer_trap"];

/// Whether the container was frozen as a whole, and not by somebody above it. What cannot be read is not.
pub fn is_frozen(placement: &Placement) -> bool {
    let says = |directory: &Path, file: &str, word: &str| read(directory, file).is_ok_and(|text| has_line(&text, word));
    match &placement.hierarchies {
        Hierarchies::None => false,
        Hierarchies::V1 { directories } => freezer(directories).is_some_and(|directory| {
            says(directory, "freezer.state", "FROZEN") && says(directory, "freezer.self_freezing", "1")
        }),
        Hierarchies::V2 { directory } => {
            says(directory, "cgroup.freeze", "1") && says(directory, "cgroup.events", "frozen 1")
        }
    }
}

/// Freezes all processes and returns when the kernel says that they are. A failure lets them go on.
///
/// # Errors
/// There is no freezer; a process does not freeze in time: it is named, and where it waits.
pub fn freeze(placement: &Placement) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    let frozen = match &placement.hierarchies {
        Hierarchies::None => return Err(no_freezer("the container has no cgroup")),
        Hierarchies::V1 { directories } => match freezer(directories) {
            Some(directory) => freeze_v1(directory, deadline),
            None => return Err(no_freezer("no hierarchy has the freezer controller")),
        },
        Hierarchies::V2 { directory } => freeze_v2(directory, deadline),
    };
    frozen.inspect_err(|_| {
        if let Err(error) = thaw(placement) {
            tracing::warn!("{error}");
        }
    })
}

fn no_freezer(why: &str) -> Error {
    Error::new(format!("freezer not supported: {why}"))
}

/// Lets a frozen container go on.
pub fn thaw(placement: &Placement) -> Result<()> {
    match &placement.hierarchies {
        Hierarchies::None => Ok(()),
        Hierarchies::V1 { directories } => freezer(directories).map_or(Ok(()), |directory| thaw_v1(directory)),
        Hierarchies::V2 { directory } => write(directory, "cgroup.freeze", "0"),
    }
}

/// As [`thaw`], for processes that were just killed: version 2 lets the frozen die as they are.
pub fn thaw_to_die(placement: &Placement) -> Result<()> {
    match &placement.hierarchies {
        Hierarchies::V1 { .. } => match thaw(placement) {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
            result => result,
        },
        _ => Ok(()),
    }
}

pub(super) fn freezer(directories: &[PathBuf]) -> Option<&PathBuf> {
    directories.iter().find(|directory| v1::has_controller(directory, "freezer"))
}

fn thaw_v1(directory: &Path) -> Result<()> {
    write(directory, "freezer.state", "THAWED")
}

fn freeze_v1(directory: &Path, deadline: Instant) -> Result<()> {
    let mut nap = Duration::from_micros(100);
    for attempt in 1.. {
        write(directory, "freezer.state", "FROZEN")?;
        if has_line(&read(directory, "freezer.state")?, "FROZEN") {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(stuck(directory, "tasks"));
        }
        std::thread::sleep(nap);
        nap = (nap * 2).min(NAP);
        if attempt % TRIES == 0 {
            thaw_v1(directory)?;
        }
    }
    Ok(())
}

fn freeze_v2(directory: &Path, deadline: Instant) -> Result<()> {
    let path = directory.join("cgroup.events");
    // opened before the freezing begins: an event in between is not missed
    let events =
        open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open {}", path.display()))?;
    write(directory, "cgroup.freeze", "1")?;
    loop {
        let mut text = [0; 256];
        let length = pread(&events, &mut text, 0).call(|| format!("read {}", path.display()))?;
        if has_line(&String::from_utf8_lossy(&text[..length]), "frozen 1") {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(stuck(directory, "cgroup.threads"));
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            result => drop(result.call(|| "poll".to_owned())?),
        }
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|one| one == line)
}

/// Why: the tasks that are not frozen, and where they are.
fn stuck(directory: &Path, tasks: &str) -> Error {
    let mut awake: Vec<proc::Whereabouts> = v1::members(directory, tasks)
        .unwrap_or_default()
        .into_iter()
        .filter_map(proc::Whereabouts::of)
        .filter(|task| !FROZEN_IN.contains(&task.wchan.as_str()))
        .collect();
    // where the kernel does not tell who is frozen, those that cannot be interrupted come first
    awake.sort_by_key(|task| task.state != 'D');
    let awake: Vec<String> = awake.iter().map(ToString::to_string).collect();
    let seconds = DEADLINE.as_secs();
    let who = match awake.len() {
        0 => "no process of it is in the way any more".to_owned(),
        count if count > NAMED => format!("{} and {} more", awake[..NAMED].join(", "), count - NAMED),
        _ => awake.join(", "),
    };
    Error::new(format!("unable to freeze in {seconds} s: {who}")).path(directory)
}
