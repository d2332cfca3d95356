//! `tmpcopyup`: a fresh tmpfs starts with what the directory below it holds.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fchmod, mkdirat, mknodat, openat,
    readlinkat, sendfile, statat, symlinkat,
};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};

/// Deeper than any image goes, and no stack is used up by a hostile one.
const MAX_DEPTH: u32 = 128;

/// Copies all below `from` (an O_PATH fd) into `to`, with modes and owners. Links are copied, never followed.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    directory(from, to, 0).map_err(|error| error.within("copy the directory up into the tmpfs"))
}

fn directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(format!("directories nested more than {MAX_DEPTH} deep")));
    }
    let readable = openat(from, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open".to_owned())?;
    for entry in Dir::read_from(&readable).call(|| "getdents".to_owned())? {
        let entry = entry.call(|| "getdents".to_owned())?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(&readable, to, name, depth).map_err(|error| error.within(name.to_string_lossy()))?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: u32) -> Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).call(|| "stat".to_owned())?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::from_raw_mode(0o700)).call(|| "mkdir".to_owned())?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = openat(from, name, flags, Mode::empty()).call(|| "open".to_owned())?;
            let copy = openat(to, name, flags, Mode::empty()).call(|| "open".to_owned())?;
            directory(&source, &copy, depth + 1)?;
            finish(to, name, &stat)?;
            chmodat(to, name, mode, AtFlags::empty()).call(|| "chmod".to_owned())
        }
        FileType::RegularFile => {
            file(from, to, name, mode)?;
            finish(to, name, &stat)?;
            // a change of owner clears the set-uid bit
            chmodat(to, name, mode, AtFlags::empty()).call(|| "chmod".to_owned())
        }
        FileType::Symlink => {
            let target = readlinkat(from, name, Vec::new()).call(|| "readlink".to_owned())?;
            symlinkat(target.as_c_str(), to, name).call(|| "symlink".to_owned())?;
            finish(to, name, &stat)
        }
        kind => {
            mknodat(to, name, kind, mode, stat.st_rdev).call(|| "mknod".to_owned())?;
            finish(to, name, &stat)
        }
    }
}

fn finish(to: &OwnedFd, name: &CStr, stat: &Stat) -> Result<()> {
    let owner = Some(Uid::from_raw(stat.st_uid));
    let group = Some(Gid::from_raw(stat.st_gid));
    chownat(to, name, owner, group, AtFlags::SYMLINK_NOFOLLOW).call(|| "chown".to_owned())
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, mode: Mode) -> Result<()> {
    let source =
        openat(from, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    let source = source.call(|| "open".to_owned())?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let copy = openat(to, name, flags, mode).call(|| "create".to_owned())?;
    fchmod(&copy, mode).call(|| "chmod".to_owned())?;
    loop {
        match sendfile(copy.as_fd(), source.as_fd(), None, 1 << 20) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| "sendfile".to_owned()),
        }
    }
}
