//! ioctls without a wrapper elsewhere.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use super::outcome;

/// The user namespace that owns the namespace behind `fd`: ioctl_ns(2), Linux 4.9.
///
/// # Errors
/// EPERM: it is not this process's own, nor one below that.
pub fn owner(fd: impl AsFd) -> Result<OwnedFd, Errno> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: NS_GET_USERNS takes no argument.
    let owner = outcome(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_USERNS as _) }.into())?;
    // SAFETY: the kernel has just made this fd, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(owner as RawFd) })
}

/// Sets the loopback interface of this network namespace up: netdevice(7).
pub fn loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is a plain C struct, for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives through the call.
    outcome(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into())
        .map(drop)
}
