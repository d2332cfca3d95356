//! /proc: process identity, and a procfs of our own that nothing can be mounted over.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::fd::Loose;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// Reads a file that the kernel makes up as it is read (procfs, cgroupfs), whole.
///
/// Such a file gives as much as there is and the buffer takes: less than that is all, and the read that would
/// only say so is saved.
pub fn read(path: &Path) -> Result<String, Errno> {
    read_open(open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.as_fd())
}

/// The same of one that is open, from its beginning.
pub fn read_open(fd: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = rustix::io::read(fd, &mut buffer)?;
        text.extend_from_slice(&buffer[..length]);
        // a line that did not fit is left for the next read: short means the end only by far
        if length < buffer.len() / 2 {
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
}

/// What tells a process from a later one with the same pid: proc_pid_stat(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` and so on.
    pub state: u8,
    /// On its way out; the init of a pid namespace is until all others in it are reaped.
    pub exiting: bool,
    /// Clock ticks after boot.
    pub start_time: u64,
}

/// linux/magic.h
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Of the flags in /proc/PID/stat: the kernel's sched.h.
const PF_EXITING: u64 = 4;

/// Reads /proc/PID/stat of the host's /proc.
///
/// # Errors
/// ENOENT or ESRCH: no such process.
pub fn stat(pid: i32) -> Result<Stat, Errno> {
    let mut buffer = [0; 512];
    let fd = open(format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = rustix::io::read(fd, &mut buffer)?;
    parse_stat(&buffer[..length]).ok_or(Errno::IO)
}

/// The text of a `stat`: of a zombie or a kernel thread too. None: it is none.
///
/// The name in parentheses may itself hold blanks and parentheses, so fields count from the last `)`.
pub fn parse_stat(line: &[u8]) -> Option<Stat> {
    let after_name = line.iter().rposition(|&b| b == b')')? + 2;
    let mut fields = line.get(after_name..)?.split(|&b| b == b' ');
    let state = *fields.next()?.first()?;
    let mut number = |skipped| -> Option<u64> { std::str::from_utf8(fields.nth(skipped)?).ok()?.parse().ok() };
    let exiting = number(5)? & PF_EXITING != 0;
    let start_time = number(12)?;
    Some(Stat { state, exiting, start_time })
}

/// What a task is doing, for the error about one that does not do what it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whereabouts {
    pub pid: i32,
    /// Its name: proc_pid_comm(5).
    pub name: String,
    /// `R`, `S`, `D` and so on; `?` when it has just gone.
    pub state: char,
    /// The kernel's function that it waits in: proc_pid_wchan(5). `0`: none, or not for us to know.
    pub wchan: String,
}

impl Whereabouts {
    /// None: it is gone.
    pub fn of(pid: i32) -> Option<Self> {
        let file = |name: &str| read(Path::new(&format!("/proc/{pid}/{name}")));
        let name = file("comm").ok()?.trim_end().to_owned();
        let state = stat(pid).map_or('?', |stat| stat.state.into());
        Some(Self { pid, name, state, wchan: file("wchan").unwrap_or_else(|_| "0".to_owned()) })
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}) is in state {}", self.pid, self.name, self.state)?;
        if self.wchan == "0" { Ok(()) } else { write!(f, ", in {}", self.wchan) }
    }
}

/// A procfs instance of the caller's pid namespace, mounted nowhere: what the container mounts over its own
/// /proc cannot redirect a write here (CVE-2019-16884, CVE-2025-52881).
#[derive(Debug)]
pub struct Proc(OwnedFd);

impl Proc {
    pub fn open() -> Result<Self, Errno> {
        let context = Loose::from(fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?);
        fsconfig_create(context.as_fd())?;
        let attributes =
            MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes).map(Self)
    }

    /// The host's own, before the root is entered. Where none can be mounted this is the next best: nothing of the
    /// container is in it, and whatever is mounted over its files is not written to.
    pub fn of_host() -> Result<Self, Errno> {
        let root = open("/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::fs::fstatfs(&root)?.f_type as u64 == PROC_SUPER_MAGIC { Ok(Self(root)) } else { Err(Errno::NOENT) }
    }

    /// The number that this process has in it.
    pub fn own_number(&self) -> Result<String, Errno> {
        let link = rustix::fs::readlinkat(&self.0, "self", Vec::new())?;
        Ok(link.to_string_lossy().into_owned())
    }

    /// Opens `path` below it for writing: no symlink, nothing outside.
    pub fn open_for_writing(&self, path: &str) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        openat2(&self.0, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Opens a file of the host's /proc about this very process.
pub fn open_self(name: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, format!("/proc/self/{name}"), flags | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_count_from_the_last_parenthesis() {
        let line = b"42 (a) (b c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(line), Some(Stat { state: b'S', exiting: false, start_time: 987_654 }));
        assert_eq!(parse_stat(b"42 (x"), None);
        assert_eq!(parse_stat(b"42 (x) S 1"), None);
    }

    #[test]
    fn this_process_runs() {
        let stat = stat(std::process::id() as i32).expect("own stat");
        assert!(stat.start_time > 0);
    }
}
