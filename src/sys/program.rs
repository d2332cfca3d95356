//! Starting a program of the host's beside what this process does: a hook, newuidmap(1).
//!
//! Never by posix_spawn(3), which std's Command uses too where it can: that of musl puts back this process's signal
//! mask without the signals 32 to 34, and one of them ends a `ferrun run` then that is to pass it on.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::clone::{Child, clone3, exit};
use super::exec::pointers;
use super::{outcome, pidfd, signal};

/// Starts the program with `stdio`, none of which is 0, 1 or 2, as its fds 0 to 2: as the leader of a process group,
/// with no signal blocked, and with SIGPIPE as it is by default.
///
/// # Errors
/// Those of fork and of execve(2).
pub fn spawn(path: &CStr, args: &[CString], env: &[CString], stdio: [&OwnedFd; 3]) -> Result<Child, Errno> {
    let (errors, report) = pipe()?;
    // now: the child allocates nothing, in case that another thread (there are some in tests) is just doing so
    let (args, env) = (pointers(args), pointers(env));
    let child = clone3(0, None, || {
        let errno = prepare(stdio).and_then(|()| {
            // SAFETY: the path ends in a NUL and both lists in a NULL pointer, and all of them outlive the call.
            outcome(unsafe { libc::execve(path.as_ptr(), args.as_ptr(), env.as_ptr()) }.into())
        });
        let errno = errno.err().unwrap_or(Errno::IO);
        let _ = rustix::io::write(&report, &errno.raw_os_error().to_ne_bytes());
        exit(127)
    })?;
    drop(report);
    let mut errno = [0; 4];
    // the program's execve closes the other end
    match rustix::io::retry_on_intr(|| rustix::io::read(&errors, &mut errno))? {
        0 => Ok(child),
        _ => {
            pidfd::wait(&child.pidfd)?;
            Err(Errno::from_raw_os_error(i32::from_ne_bytes(errno)))
        }
    }
}

/// Has `command` fork, and start the program as [`spawn`] does with signals.
pub fn forks(command: &mut Command) -> &mut Command {
    let before = || {
        signal::for_program();
        Ok(())
    };
    // SAFETY: what runs in the child are two system calls.
    unsafe { command.pre_exec(before) }
}

/// What the new process does before it becomes the program.
fn prepare(stdio: [&OwnedFd; 3]) -> Result<(), Errno> {
    for (fd, target) in stdio.into_iter().zip(0..) {
        // SAFETY: two integers; what is replaced are fds 0 to 2 of a process that goes on to its execve.
        outcome(unsafe { libc::dup2(fd.as_raw_fd(), target) }.into())?;
    }
    rustix::process::setpgid(None, None)?;
    signal::for_program();
    Ok(())
}

/// A close-on-exec pipe, none of whose ends is 0, 1 or 2: there the ends for a program would overwrite each other.
///
/// # Errors
/// Those of pipe2(2) and of fcntl(2).
pub fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_stdio(read)?, above_stdio(write)?))
}

fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { rustix::io::fcntl_dupfd_cloexec(&fd, 3) }
}
