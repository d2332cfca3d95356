//! Signals and exit statuses through pidfds.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::outcome;

/// pidfd_send_signal(2) with any signal number, real-time ones too (the crate's type has no names for those).
///
/// # Errors
/// ESRCH: it has ended and was reaped; EINVAL: no such signal; EPERM.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    // SAFETY: integers and a NULL siginfo, which the kernel fills in itself.
    outcome(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// Waits for a child of this process and reaps it: its exit status, or 128 + the signal that ended it.
pub fn wait(pidfd: impl AsFd) -> Result<i32, Errno> {
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                return Ok(status.exit_status().or(signal).unwrap_or(1));
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
