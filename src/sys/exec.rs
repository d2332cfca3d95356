//! execve(2), execveat(2), close_range(2) and fds to hand on.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::Errno;

use super::outcome;

/// As execve(2) wants them.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
}

/// execve(2). Returns only on failure.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: NUL-terminated strings in NULL-terminated arrays that outlive the call.
    let failed = unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    outcome(failed.into()).err().unwrap_or(Errno::IO)
}

/// execveat(2) of the file behind `fd`. Returns only on failure.
pub fn fexecve(fd: impl AsFd, args: &[CString], env: &[CString]) -> Errno {
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: as in `execve`; the empty path makes the kernel use the fd itself.
    let failed = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            args.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    outcome(failed).err().unwrap_or(Errno::IO)
}

/// Closes every fd from 3 on, save those in `keep` (close_range(2), Linux 5.9).
pub fn close_all_but(keep: &[RawFd]) -> Result<(), Errno> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).filter(|&fd| fd >= 3).collect();
    keep.sort_unstable();
    keep.dedup();
    let mut first = 3;
    for fd in keep {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

pub(super) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: closes fds by number. The callers own them all, and use none of them afterwards.
    outcome(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Clears close-on-exec of fd number `fd`, which must be open.
///
/// # Errors
/// EBADF: the caller did not hand it to us.
pub fn inherit(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: fcntl on a number; nothing is owned or closed.
    outcome(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into()).map(drop)
}

/// Whether fd number `fd` is open in this process and was so when it began: what is opened since is closed by the
/// next execve(2).
pub fn is_inherited(fd: RawFd) -> bool {
    // SAFETY: fcntl on a number; nothing is owned or closed.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}
