//! The signal state of this process, and what a new program starts with.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

use super::outcome;

/// kill(2) with any signal number, real-time ones too.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: two integers.
    outcome(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// What execve(2) hands on: no signal is blocked, and SIGPIPE is not ignored, as it is in what systemd starts
/// (systemd.exec(5), IgnoreSIGPIPE=). SIGHUP and SIGINT stay as they are: nohup(1) is meant for the program.
pub fn for_program() {
    // SAFETY: a zeroed sigset_t is an empty set on Linux; the calls change this thread's mask and a disposition, to
    // one that is no function of ours.
    unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}

/// Blocks every signal but `kept`: an fd from which they are read as they come. The masks are the kernel's own:
/// musl leaves three real-time signals out of its own sets, and those would end this process.
pub fn read_all_but(kept: &[i32]) -> Result<OwnedFd, Errno> {
    let mask = kept.iter().fold(u64::MAX, |mask, signal| mask & !(1 << (signal - 1)));
    // SAFETY: both calls read eight bytes, which are there.
    unsafe {
        let old = std::ptr::null_mut::<u64>();
        outcome(libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, old, size_of_val(&mask)))?;
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        let fd = outcome(libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, size_of_val(&mask), flags))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// The number of the next that waits on such an fd.
pub fn next(signals: &OwnedFd) -> Result<Option<i32>, Errno> {
    // signalfd(2): 128 bytes for each, the number first
    let mut info = [0; 128];
    match rustix::io::read(signals, &mut info) {
        Ok(_) => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A caller may have left SIGCHLD ignored: then the kernel reaps our children before we know how they ended.
pub fn wait_for_children() {
    // SAFETY: SIG_DFL is no function of ours that could run at a bad moment.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// While it lives, a write to a closed pipe is an error and not the end of this process. Not for longer: an
/// ignored signal would stay ignored in the container's program.
#[derive(Debug)]
pub struct BrokenPipesIgnored(libc::sighandler_t);

impl BrokenPipesIgnored {
    pub fn begin() -> Self {
        // SAFETY: SIG_IGN is no function of ours that could run at a bad moment.
        Self(unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) })
    }
}

impl Drop for BrokenPipesIgnored {
    fn drop(&mut self) {
        // SAFETY: what is put back was in place before.
        unsafe { libc::signal(libc::SIGPIPE, self.0) };
    }
}
