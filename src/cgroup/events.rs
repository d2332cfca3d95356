//! What the kernel says of itself: that it killed a process because memory was short.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, pread};

use crate::error::{Call, Context, Result};
use crate::plan::cgroupfs::{Hierarchies, Placement};

use super::stats::memory_directory;
use super::write;

/// Watches the memory of a container.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// An eventfd, and the file that it is registered with, which must stay open.
    V1 { control: OwnedFd },
    /// memory.events; how many were killed when it was last read.
    V2 { killed: u64 },
}

impl OomWatch {
    /// None: nobody watches memory here.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(placement: &Placement) -> Result<Option<Self>> {
        let watch = match &placement.hierarchies {
            Hierarchies::None => return Ok(None),
            Hierarchies::V1 { directories } => memory_directory(directories).map(watch_v1).transpose(),
            Hierarchies::V2 { directory } => watch_v2(directory),
        };
        watch.context(|| "watch the memory of its cgroup".to_owned())
    }

    /// What to poll its fd for.
    pub fn flags(&self) -> PollFlags {
        match self.kind {
            Kind::V1 { .. } => PollFlags::IN,
            Kind::V2 { .. } => PollFlags::PRI,
        }
    }

    /// Whether it happened since the last time. Does not wait.
    pub fn happened(&mut self) -> bool {
        match &mut self.kind {
            Kind::V1 { control } => {
                let mut count = [0; 8];
                // the removal of the cgroup is told in the same way
                rustix::io::read(&self.fd, &mut count).is_ok() && kills(control, "oom_kill_disable").is_some()
            }
            Kind::V2 { killed } => {
                let before = *killed;
                *killed = kills(&self.fd, "oom_kill").unwrap_or(before);
                *killed > before
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// For event loops that want it so.
impl AsRawFd for OomWatch {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// The number behind `key`. None: the cgroup is gone.
fn kills(fd: &OwnedFd, key: &str) -> Option<u64> {
    let mut text = [0; 512];
    let length = pread(fd, &mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

fn open_file(directory: &Path, name: &str) -> Result<OwnedFd, Errno> {
    open(directory.join(name), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}

/// cgroup v1's memory.rst, 10. OOM Control.
fn watch_v1(directory: &Path) -> Result<OomWatch> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).call(|| "eventfd".to_owned())?;
    let control = open_file(directory, "memory.oom_control").call(|| "open memory.oom_control".to_owned())?;
    write(directory, "cgroup.event_control", &format!("{} {}", fd.as_raw_fd(), control.as_raw_fd()))?;
    Ok(OomWatch { fd, kind: Kind::V1 { control } })
}

fn watch_v2(directory: &Path) -> Result<Option<OomWatch>> {
    let fd = match open_file(directory, "memory.events") {
        Err(Errno::NOENT) => return Ok(None),
        result => result.call(|| "open memory.events".to_owned())?,
    };
    // the first read also arms the poll
    let killed = kills(&fd, "oom_kill").unwrap_or(0);
    Ok(Some(OomWatch { fd, kind: Kind::V2 { killed } }))
}
