//! The signal state of this process, and what a new program starts with.

use rustix::io::Errno;

use super::outcome;

/// kill(2) with any signal number, real-time ones too.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: two integers.
    outcome(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Resets the mask that execve(2) hands on: no signal is blocked.
pub fn unblock_all() {
    // SAFETY: a zeroed sigset_t is an empty set on Linux; the call changes this thread's mask only.
    unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
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
