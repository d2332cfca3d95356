//! seccomp(2): loads a filter into the calling thread. Never touches no_new_privs.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Error, Result};

/// Loads a filter with `SECCOMP_FILTER_FLAG_*`. Returns the listener if `NEW_LISTENER` is among the flags.
/// It is close-on-exec, as the kernel makes it.
///
/// Without no_new_privs the caller needs CAP_SYS_ADMIN in its user namespace.
pub fn load(program: &[libc::sock_filter], flags: u32) -> Result<Option<OwnedFd>> {
    let call = || format!("seccomp SET_MODE_FILTER flags={flags:#x} instructions={}", program.len());
    let len = u16::try_from(program.len()).map_err(|_| Error::os(call(), libc::EINVAL))?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    // SAFETY: `filter` describes exactly the memory of `program`, which outlives the call; the kernel
    // copies it and writes nothing. The pointer is mutable for historical reasons only.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, libc::c_ulong::from(flags), &raw const filter)
    };
    let listens = flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 != 0;
    match i32::try_from(result) {
        Ok(0) if !listens => Ok(None),
        Ok(fd @ 0..) if listens => {
            // SAFETY: with NEW_LISTENER a result that is not negative is a new descriptor, which
            // nobody else owns.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
        }
        // only TSYNC without TSYNC_ESRCH: the id of a thread that could not be brought along
        Ok(thread @ 1..) => {
            Err(Error::os(call(), libc::ESRCH).cause(format!("thread {thread} has a filter of its own")))
        }
        _ => Err(Error::os(call(), Errno::last())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use libc::sock_filter;
    use std::os::fd::AsRawFd;

    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

    fn returns(value: u32) -> sock_filter {
        sock_filter { code: RETURN, jt: 0, jf: 0, k: value }
    }

    /// Allows everything but getppid, which returns `value`.
    fn filter(value: u32) -> [sock_filter; 4] {
        let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        [
            sock_filter { code: load, jt: 0, jf: 0, k: 0 },
            sock_filter { code: equal, jt: 0, jf: 1, k: libc::SYS_getppid as u32 },
            returns(value),
            returns(libc::SECCOMP_RET_ALLOW),
        ]
    }

    /// Runs `check` in a child with no_new_privs and demands that it holds.
    fn in_child(check: impl FnOnce() -> bool) {
        // SAFETY: the child calls `check` and exits; `check` takes no lock that another thread may hold.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            // SAFETY: plain system calls without pointers.
            unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                libc::_exit(if check() { 0 } else { 1 });
            }
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    fn getppid() -> Result<i64, i32> {
        // SAFETY: a system call without arguments.
        match unsafe { libc::syscall(libc::SYS_getppid) } {
            -1 => Err(Errno::last_raw()),
            pid => Ok(pid),
        }
    }

    #[test]
    fn filter_is_in_force() {
        let bits = libc::SECCOMP_FILTER_FLAG_LOG | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        in_child(|| {
            load(&filter(libc::SECCOMP_RET_ERRNO | 99), bits as u32).is_ok_and(|listener| listener.is_none())
                && getppid() == Err(99)
        });
    }

    #[test]
    fn tsync_loads() {
        in_child(|| {
            load(&filter(libc::SECCOMP_RET_ERRNO | 98), libc::SECCOMP_FILTER_FLAG_TSYNC as u32).is_ok()
                && getppid() == Err(98)
        });
    }

    #[test]
    fn listener_is_returned_close_on_exec() {
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER
            | libc::SECCOMP_FILTER_FLAG_TSYNC
            | libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH
            | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        in_child(|| match load(&filter(libc::SECCOMP_RET_USER_NOTIF), flags as u32) {
            Ok(Some(fd)) => {
                // SAFETY: a system call without pointers.
                let bits = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
                bits == libc::FD_CLOEXEC
            }
            _ => false,
        });
    }

    #[test]
    fn refusal_names_the_call() {
        in_child(|| {
            load(&[], 0).is_err_and(|error| {
                error.to_string() == "seccomp SET_MODE_FILTER flags=0x0 instructions=0: invalid argument"
            })
        });
    }
}
