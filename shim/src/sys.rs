//! The only place with `unsafe`: starting a program whose fds and end are decided before it runs; what no crate has.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use rustix::io::Errno;
use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

/// Gives the program these fds, from 3 on, and no others: what whoever started us has left open (a lock of a script's)
/// would stay open for as long as the program lives.
pub(crate) fn pass(command: &mut Command, fds: Vec<OwnedFd>) {
    let place = move || {
        // one that is where another goes would be closed by it: all are moved out of the way first
        let mut moved: Vec<RawFd> = Vec::new();
        for fd in &fds {
            let first_free = 3 + fds.len() as RawFd;
            // SAFETY: fcntl on an open fd; nothing is pointed to.
            match unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first_free) } {
                -1 => return Err(io::Error::last_os_error()),
                fd => moved.push(fd),
            }
        }
        for (target, fd) in (3..).zip(moved) {
            // SAFETY: the target is no fd that this process owns as a value: it is about to become another program.
            if unsafe { libc::dup2(fd, target) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        let (first, close_on_exec) = (3 + fds.len() as u32, libc::CLOSE_RANGE_CLOEXEC);
        // SAFETY: three numbers. Nothing is closed before this process has become another program.
        let rc = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, close_on_exec) };
        // a kernel before 5.11 has no such flag: they stay open, as they would have
        if rc == -1 && !matches!(Errno::from_io_error(&io::Error::last_os_error()), Some(Errno::INVAL | Errno::NOSYS)) {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: the process has one thread, so memory and locks are as they should be after fork.
    unsafe { command.pre_exec(place) };
}

/// The program is killed when this process ends, however it ends: a runtime that outlived its shim would work on a
/// container that is being removed.
pub(crate) fn die_with_us(command: &mut Command) {
    let us = getpid();
    let arrange = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // it may have ended before that was arranged
        if getppid() == Some(us) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: two system calls, no memory.
    unsafe { command.pre_exec(arrange) };
}

/// The listening socket that `start` left us as fd 3.
///
/// # Errors
/// Something else is there, or nothing.
pub(crate) fn inherited_socket() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: called once, at the beginning of the daemon, before anything else was opened: nobody owns fd 3 yet.
    let fd = unsafe { OwnedFd::from_raw_fd(3) };
    let kind = rustix::net::sockopt::socket_acceptconn(&fd);
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    match kind {
        Ok(true) => Ok(fd),
        Ok(false) => Err(io::ErrorKind::InvalidInput.into()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes the new shim a group of core scheduling of its own: PR_SCHED_CORE_CREATE for the process group.
pub(crate) fn own_core_group() -> io::Result<()> {
    // SAFETY: no pointers.
    let rc = unsafe {
        libc::prctl(libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_CREATE, 0, libc::PR_SCHED_CORE_SCOPE_PROCESS_GROUP, 0)
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
#[derive(Default)]
struct LoopConfig {
    file: u32,
    block_size: u32,
    device_inode_rdevice_offset_limit: [u64; 5],
    number_and_encryption: [u32; 3],
    flags: u32,
    names_and_keys: [u64; 22],
    reserved: [u64; 8],
}

const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const LOOP_CONFIGURE: u64 = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The number of a loop device that nobody uses, by /dev/loop-control: loop(4). It may be somebody's the next moment.
pub(crate) fn free_loop_device(control: impl AsFd) -> io::Result<i32> {
    // SAFETY: no pointers.
    let number = unsafe { libc::ioctl(control.as_fd().as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    if number >= 0 { Ok(number) } else { Err(io::Error::last_os_error()) }
}

/// Has the loop device `device` show `file`, until nobody has it open and it is mounted nowhere (Linux 5.8).
///
/// # Errors
/// EBUSY: it is somebody else's.
pub(crate) fn configure_loop_device(device: impl AsFd, file: impl AsFd, read_only: bool) -> io::Result<()> {
    let flags = LO_FLAGS_AUTOCLEAR | if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    let config = LoopConfig { file: file.as_fd().as_raw_fd().cast_unsigned(), flags, ..LoopConfig::default() };
    // SAFETY: a loop_config, as the kernel reads it; it outlives the call.
    let rc = unsafe { libc::ioctl(device.as_fd().as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the event loop tell when a file is ready, which it owns from here on.
///
/// # Errors
/// epoll_ctl(2): a regular file is never waited for.
pub(crate) fn watch<T: AsFd + AsRawFd>(file: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: a type of AsFd owns or borrows its fd for as long as it lives, and nobody here replaces it.
    unsafe { AsyncFd::register_with_interest(file, interest) }.map_err(|error| error.into_parts().1)
}
