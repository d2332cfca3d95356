//! Session keyrings: keyctl(2).

use std::ffi::CStr;

use rustix::io::Errno;

use super::outcome;

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_int = 1;
const KEYCTL_SETPERM: libc::c_int = 5;

/// Possessor: all; owner: view, read, search. Without the owner's search a process of the container that
/// changed its session keyring could not find its keys again.
const PERMISSIONS: u32 = 0x3f0b_0000;

/// Joins a session keyring of its own called `name`, made when missing.
///
/// # Errors
/// EDQUOT: the user's quota of keys (kernel.keys.maxkeys) is used up; ENOSYS: a kernel without keys.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    // SAFETY: a NUL-terminated string that outlives the call.
    let key = outcome(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) })?;
    // SAFETY: three integers.
    outcome(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, PERMISSIONS) }).map(drop)
}
