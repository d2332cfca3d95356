//! clone3(2), unshare(2) and setns(2).

use std::convert::Infallible;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::UnshareFlags;

use super::{outcome, pidfd};

/// Linux 5.7; libc has it for glibc only.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// CLONE_NEW*: what may be asked for here. Others (CLONE_VM, CLONE_FILES) would share or part what safe code relies on.
const NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS
    | CLONE_NEWTIME) as u64;

/// Linux 5.6; libc has it for glibc only.
const CLONE_NEWTIME: libc::c_int = 0x80;

fn check(flags: u64) -> Result<(), Errno> {
    if flags & !NAMESPACES == 0 { Ok(()) } else { Err(Errno::INVAL) }
}

/// A process that this one has just made.
#[derive(Debug)]
pub struct Child {
    /// Its pid as this process sees it.
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Forks with clone3(2) (Linux 5.5). `flags` are CLONE_NEW* bits. With `cgroup` (the directory of a
/// cgroup v2) the child is born in it, without the RCU wait of a later move (Linux 5.7).
///
/// `child` runs in the new process and cannot return: it ends in execve or `_exit`.
///
/// # Errors
/// Those of clone(2): EAGAIN at a pids limit, ENOSPC at a namespace limit, EPERM, EBUSY for a cgroup
/// that has controllers on for its children.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>, child: impl FnOnce() -> Infallible) -> Result<Child, Errno> {
    check(flags)?;
    let made = fork(flags, libc::SIGCHLD, cgroup)?;
    if made.is_none() {
        child();
    }
    made.ok_or(Errno::CHILD)
}

/// A fork whose child is this process's sibling: it is the parent's of this one to wait for. `flags` are CLONE_NEW*
/// bits. None: this is it.
pub fn sibling(flags: u64) -> Result<Option<Child>, Errno> {
    check(flags)?;
    // the signal is that of this process
    fork(flags | libc::CLONE_PARENT as u64, 0, None)
}

fn fork(flags: u64, signal: i32, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Child>, Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a plain struct of integers, for which all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = signal as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM and a stack this is a fork: the child gets a copy of the address space.
    // The process has one thread, so no lock is held by a thread that the child lacks.
    let pid = match outcome(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) }) {
        Err(errno @ (Errno::NOSYS | Errno::PERM)) => return fork_filtered(flags, signal, cgroup, errno),
        result => result?,
    };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new fd that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid: pid as i32, pidfd }))
}

/// By clone(2): a seccomp filter cannot look into the arguments of clone3(2), so that many answer it with an error of
/// their own (`refused`), Docker's among them. The child waits until this process has put it into its cgroup.
fn fork_filtered(
    flags: u64,
    signal: i32,
    cgroup: Option<BorrowedFd<'_>>,
    refused: Errno,
) -> Result<Option<Child>, Errno> {
    if flags & CLONE_NEWTIME as u64 != 0 {
        // here it would be a part of the signal
        return Err(refused);
    }
    let gate = cgroup.map(|_| pipe_with(PipeFlags::CLOEXEC)).transpose()?;
    let mut pidfd: RawFd = -1;
    let flags = flags | (libc::CLONE_PIDFD | signal) as u64;
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: as in `fork`; with CLONE_PIDFD the third argument is where the new fd goes.
    let pid = outcome(unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, 0_u64, 0_u64) })?;
    if pid == 0 {
        if let Some((wait, open)) = gate {
            drop(open);
            let _ = rustix::io::read(&wait, &mut [0]);
        }
        return Ok(None);
    }
    // SAFETY: with CLONE_PIDFD the kernel stored a new fd that nobody else owns.
    let child = Child { pid: pid as i32, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } };
    if let Some(Err(errno)) = cgroup.map(|cgroup| enter(cgroup, child.pid)) {
        // before it can go on
        pidfd::send_signal(&child.pidfd, libc::SIGKILL)?;
        pidfd::wait(&child.pidfd)?;
        return Err(errno);
    }
    Ok(Some(child))
}

fn enter(cgroup: BorrowedFd<'_>, pid: i32) -> Result<(), Errno> {
    let procs = openat(cgroup, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(procs, pid.to_string().as_bytes()).map(drop)
}

/// unshare(2) with CLONE_NEW* bits.
pub fn unshare(flags: u64) -> Result<(), Errno> {
    check(flags)?;
    let flags = UnshareFlags::from_bits_retain(flags as u32);
    // SAFETY: there are only CLONE_NEW* bits, which leave the file table and the memory shared as they are.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// setns(2) into the namespace behind `fd`, which must be of the type that the CLONE_NEW* bit `kind` names.
pub fn setns(fd: impl AsFd, kind: u64) -> Result<(), Errno> {
    // SAFETY: two integers; setns touches no memory of ours.
    outcome(unsafe { libc::syscall(libc::SYS_setns, fd.as_fd().as_raw_fd(), kind as libc::c_int) }).map(drop)
}

/// Ends this process at once: no destructor, no atexit handler runs.
pub fn exit(status: i32) -> ! {
    // SAFETY: _exit never returns and has no preconditions.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_on_clone3_is_no_hindrance() {
        let child = match fork_filtered(0, libc::SIGCHLD, None, Errno::NOSYS).expect("clone") {
            Some(child) => child,
            None => exit(7),
        };
        assert_eq!(pidfd::wait(&child.pidfd), Ok(7));
        let refused = fork_filtered(CLONE_NEWTIME as u64, libc::SIGCHLD, None, Errno::NOSYS);
        assert_eq!(refused.expect_err("no child"), Errno::NOSYS);
    }

    #[test]
    fn only_namespaces_can_be_asked_for() {
        for flag in [libc::CLONE_VM, libc::CLONE_FILES, libc::CLONE_FS, libc::CLONE_VM | libc::CLONE_NEWNS] {
            assert_eq!(unshare(flag as u64), Err(Errno::INVAL), "{flag:#x}");
            let child = clone3(flag as u64, None, || exit(1));
            assert_eq!(child.expect_err("no child"), Errno::INVAL, "{flag:#x}");
        }
        assert_eq!(unshare(0), Ok(()));
    }
}
