//! The container must not be able to overwrite this program through /proc/PID/exe (CVE-2019-5736): whatever
//! enters a container runs from a read-only place.
//!
//! A detached read-only clone of the mount that the program is on costs 20 to 50 µs; the program is not copied.

use std::ffi::{CString, OsString};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{
    Access, AtFlags, CWD, MemfdFlags, SealFlags, accessat, fcntl_add_seals, fcntl_get_seals, memfd_create, statfs,
};
use rustix::io::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::sys::exec::fexecve;
use crate::sys::mount::{self, SetAttr};

const SELF: &str = "/proc/self/exe";
const MOUNT_ATTR_RDONLY: u64 = 1;
const ST_RDONLY: u64 = 1;
/// What a memfd is on.
const TMPFS_MAGIC: u64 = 0x0102_1994;

const SEALS: SealFlags = SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Returns at once when this program cannot be written to through its mount; else runs it again from such a
/// place, with the same arguments.
pub fn seal(arguments: &[OsString]) -> Result<()> {
    if is_sealed()? || is_beyond_reach() {
        return Ok(());
    }
    let program = match readonly_clone() {
        // without CAP_SYS_ADMIN over this mount namespace
        Err(Errno::PERM | Errno::NOSYS) => sealed_copy()?,
        result => result.call(|| "open_tree".to_owned())?,
    };
    let to_c = |text: Vec<u8>| CString::new(text).map_err(|_| Error::new("a NUL in an argument"));
    let args: Vec<CString> =
        arguments.iter().map(|argument| to_c(argument.clone().into_vec())).collect::<Result<_>>()?;
    let env: Vec<CString> = std::env::vars_os()
        .map(|(mut variable, value)| {
            variable.push("=");
            variable.push(value);
            to_c(variable.into_vec())
        })
        .collect::<Result<_>>()?;
    Err(Error::os("execveat", fexecve(program, &args, &env))).context(|| "run from a read-only place".to_owned())
}

fn is_sealed() -> Result<bool> {
    let fs = statfs(SELF).call(|| format!("statfs {SELF}"))?;
    if fs.f_flags as u64 & ST_RDONLY != 0 {
        return Ok(true);
    }
    if fs.f_type as u64 != TMPFS_MAGIC {
        return Ok(false);
    }
    let sealed =
        rustix::fs::open(SELF, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
            .and_then(fcntl_get_seals)
            .is_ok_and(|seals| seals.contains(SEALS));
    Ok(sealed)
}

/// Of an ordinary caller nobody in the container has more rights than the caller, whose the program is not to write.
fn is_beyond_reach() -> bool {
    !rustix::process::geteuid().is_root()
        && rustix::fs::stat(SELF).is_ok_and(|stat| stat.st_uid == 0)
        && accessat(CWD, SELF, Access::WRITE_OK, AtFlags::EACCESS).is_err()
}

fn readonly_clone() -> Result<OwnedFd, Errno> {
    let program = mount::clone_tree(CWD, SELF, false)?;
    mount::set_attr(program.as_fd(), SetAttr { set: MOUNT_ATTR_RDONLY, ..SetAttr::default() })?;
    Ok(program)
}

fn sealed_copy() -> Result<OwnedFd> {
    let bytes = std::fs::read(SELF).call(|| format!("read {SELF}"))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // MFD_EXEC (Linux 6.3) for hosts that make memfds not executable by default
    let memfd = match memfd_create("ferrun", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("ferrun", flags),
        result => result,
    };
    let mut file = std::fs::File::from(memfd.call(|| "memfd_create".to_owned())?);
    file.write_all(&bytes).call(|| "write".to_owned())?;
    fcntl_add_seals(&file, SEALS).call(|| "fcntl F_ADD_SEALS".to_owned())?;
    // a memfd that is open for writing cannot be executed
    let readable = rustix::fs::open(
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)),
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    readable.call(|| "open".to_owned())
}
