//! The only place with `unsafe`: what the kernel offers and no crate wraps, each call once.
//!
//! Nothing here knows of containers. Every fd is close-on-exec from birth.

#![allow(unsafe_code)]

pub mod alloc;
pub mod bpf;
pub mod clone;
pub mod entry;
pub mod exec;
pub mod fd;
pub mod ioctl;
pub mod key;
pub mod mempolicy;
pub mod mount;
pub mod mountinfo;
pub mod pidfd;
pub mod proc;
pub mod program;
pub mod root;
pub mod sched;
pub mod seccomp;
pub mod signal;

use rustix::io::Errno;

/// The outcome of a raw system call made through libc.
fn outcome(ret: libc::c_long) -> Result<libc::c_long, Errno> {
    if ret == -1 { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) } else { Ok(ret) }
}
