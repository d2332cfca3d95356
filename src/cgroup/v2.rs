//! Version 2: one directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};
use crate::host::CGROUP_ROOT;
use crate::sys::proc;

use super::{EMPTY_DEADLINE, read, v1, write};

/// The cgroup in which process `pid` is: an init that made cgroups of its own has left the one that we gave it, which
/// takes no processes any more.
///
/// # Errors
/// It is gone, or in none.
pub fn of(pid: i32) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/cgroup");
    let text = proc::read(Path::new(&path)).call(|| format!("read {path}"))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    own.map(|own| Path::new(CGROUP_ROOT).join(own)).ok_or_else(|| Error::new(format!("process {pid} is in no cgroup")))
}

pub(super) fn make(directory: &Path) -> Result<()> {
    let mkdir = || mkdirat(CWD, directory, Mode::from_raw_mode(0o755));
    let made = match mkdir() {
        Err(Errno::NOENT) => {
            let parent = directory.parent().ok_or_else(|| Error::os("mkdir", Errno::NOENT))?;
            make_parents(parent)?;
            mkdir()
        }
        result => result,
    };
    match made {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => refuse_busy(directory),
        Err(errno) => Err(errno).call(|| "mkdir".to_owned()),
    }
}

fn make_parents(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory).call(|| "mkdir".to_owned())
}

fn refuse_busy(directory: &Path) -> Result<()> {
    let events = read(directory, "cgroup.events")?;
    let has = |line: &str| events.lines().any(|event| event == line);
    if has("populated 1") {
        let processes = v1::pids(directory)?.len();
        return Err(Error::new(format!("container's cgroup is not empty: {processes} process(es) found"))
            .hint("another container uses this cgroupsPath"));
    }
    if has("frozen 1") {
        return Err(Error::new("the cgroup is frozen").hint("thaw or remove it"));
    }
    Ok(())
}

/// `cgroup.kill` (Linux 5.14) reaches all below at once, frozen or not. False: there is no such cgroup any more.
pub(super) fn kill_all(directory: &Path) -> Result<bool> {
    match write(directory, "cgroup.kill", "1") {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        result => result.map(|()| true),
    }
}

/// systemd removes an empty one of its own.
fn populated(directory: &Path) -> Result<bool> {
    match read(directory, "cgroup.events") {
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => Ok(false),
        events => Ok(events?.lines().any(|line| line == "populated 1")),
    }
}

/// Kills all and waits until they are gone.
pub(super) fn kill(directory: &Path) -> Result<()> {
    if !kill_all(directory)? {
        return Ok(());
    }
    let deadline = Instant::now() + EMPTY_DEADLINE;
    while populated(directory)? {
        if Instant::now() > deadline {
            return Err(super::left_over(directory));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
