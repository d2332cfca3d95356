//! Version 1: one directory in each hierarchy.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};
use crate::host::CGROUP_ROOT;
use crate::sys::signal;

use super::freezer::freezer;
use super::{EMPTY_DEADLINE, children, read, write};

/// How often processes that fork are followed before they are given up.
const ROUNDS: usize = 100;

/// The controllers of the hierarchy that `directory` is in.
pub(super) fn has_controller(directory: &Path, controller: &str) -> bool {
    let below = directory.strip_prefix(CGROUP_ROOT).ok().and_then(|path| path.iter().next());
    below.and_then(|name| name.to_str()).is_some_and(|name| name.split(',').any(|one| one == controller))
}

pub(super) fn make(directory: &Path) -> Result<()> {
    make_one(directory, true)
}

fn make_one(directory: &Path, own: bool) -> Result<()> {
    let mkdir = || mkdirat(CWD, directory, Mode::from_raw_mode(0o755));
    let made = match mkdir() {
        Err(Errno::NOENT) => {
            let parent = directory.parent().ok_or_else(|| Error::os("mkdir", Errno::NOENT))?;
            make_one(parent, false)?;
            mkdir()
        }
        result => result,
    };
    match made {
        Ok(()) if has_controller(directory, "cpuset") => inherit_cpuset(directory),
        Ok(()) => Ok(()),
        Err(Errno::EXIST) if !own => Ok(()),
        Err(Errno::EXIST) => refuse_busy(directory),
        Err(errno) => Err(errno).call(|| "mkdir".to_owned()),
    }
}

/// One that exists must be empty and thawed.
fn refuse_busy(directory: &Path) -> Result<()> {
    if has_controller(directory, "freezer")
        && read(directory, "freezer.state").is_ok_and(|state| state.trim() != "THAWED")
    {
        return Err(Error::new("the cgroup is frozen").hint("thaw or remove it"));
    }
    let processes = pids(directory)?.len();
    if processes == 0 {
        return Ok(());
    }
    Err(Error::new(format!("container's cgroup is not empty: {processes} process(es) found"))
        .hint("another container uses this cgroupsPath"))
}

/// Nobody can join a cpuset without CPUs and memory nodes, and a new one has none.
fn inherit_cpuset(directory: &Path) -> Result<()> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut value = read(parent, file)?;
        if value.trim().is_empty() && parent != Path::new(CGROUP_ROOT) {
            inherit_cpuset(parent)?;
            value = read(parent, file)?;
        }
        write(directory, file, value.trim())?;
    }
    Ok(())
}

/// The directory that tells which processes belong to the container: all do, so any hierarchy will do, but
/// only one can freeze them.
pub(super) fn for_processes(directories: &[PathBuf]) -> Option<&Path> {
    freezer(directories).or(directories.first()).map(PathBuf::as_path)
}

/// All processes in `directory` and below. A cgroup that vanishes meanwhile is empty.
pub(super) fn pids(directory: &Path) -> Result<Vec<i32>> {
    members(directory, "cgroup.procs")
}

/// The ids in `file` of `directory` and of all below it.
pub(super) fn members(directory: &Path, file: &str) -> Result<Vec<i32>> {
    let mut ids: Vec<i32> = match read(directory, file) {
        Ok(text) => text.lines().filter_map(|line| line.parse().ok()).collect(),
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Vec::new(),
        Err(error) => return Err(error),
    };
    for child in children(directory)? {
        ids.extend(members(&directory.join(child), file)?);
    }
    Ok(ids)
}

/// Those that are made meanwhile get it too.
pub(super) fn signal_all(directory: &Path, number: i32) -> Result<()> {
    let mut told = BTreeSet::new();
    for _ in 0..ROUNDS {
        // 0 stands for a process that our pid namespace does not see
        let fresh: Vec<i32> = pids(directory)?.into_iter().filter(|&pid| pid > 0 && told.insert(pid)).collect();
        if fresh.is_empty() {
            break;
        }
        for pid in fresh {
            match signal::kill(pid, number) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::os(format!("kill {pid}"), errno)),
            }
        }
    }
    Ok(())
}

/// Frozen first, so that none can fork away from the list; thawed to die.
pub(super) fn kill_all(directory: &Path) -> Result<()> {
    let freezer = has_controller(directory, "freezer");
    if freezer {
        let _ = write(directory, "freezer.state", "FROZEN");
    }
    let killed = signal_all(directory, libc::SIGKILL);
    if freezer {
        let _ = write(directory, "freezer.state", "THAWED");
    }
    killed
}

/// Kills all and waits until they are gone.
pub(super) fn kill(directories: &[PathBuf]) -> Result<()> {
    let Some(directory) = for_processes(directories) else { return Ok(()) };
    let deadline = Instant::now() + EMPTY_DEADLINE;
    loop {
        if pids(directory)?.is_empty() {
            return Ok(());
        }
        kill_all(directory)?;
        if Instant::now() > deadline {
            return Err(super::left_over(directory));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
