//! /dev: device nodes and links, made inside the root by descriptor.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chmodat, chownat, makedev, mknodat, openat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Device, DeviceHow, DeviceKind, Link};
use crate::sys::fd::Loose;
use crate::sys::mount;
use crate::sys::root::{Root, Target, file_type, is_device};

use super::Init;

/// The directory that was last worked in: nearly all go into /dev.
struct Directory<'a> {
    root: Root<'a>,
    open: Option<(std::path::PathBuf, Loose)>,
}

impl Directory<'_> {
    /// The parent directory of `path`, which must be real all the way (CVE-2026-41579: /dev a link to the
    /// host's), and the last name.
    fn of<'p>(&mut self, path: &'p Path) -> Result<(&OwnedFd, &'p OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new(format!("{} is no place for a device", path.display())));
        };
        if self.open.as_ref().is_none_or(|(open, _)| open != parent) {
            let opened = match self.root.resolve_real_directory(parent) {
                Err(Errno::NOENT) => {
                    self.root.resolve_or_make(parent, Target::Directory).call(|| "mkdir".to_owned())?;
                    self.root.resolve_real_directory(parent)
                }
                result => result,
            };
            let fd =
                opened.call(|| "open".to_owned()).context(|| format!("open the directory {}", parent.display()))?;
            self.open = Some((parent.to_owned(), fd.into()));
        }
        match &self.open {
            Some((_, fd)) => Ok((fd, name)),
            None => Err(Error::new("no directory is open")),
        }
    }
}

pub(super) fn devices(init: &mut Init<'_>, devices: &[Device], links: &[Link]) -> Result<()> {
    // the modes asked for are exact
    rustix::process::umask(Mode::empty());
    let mut trees = Vec::new();
    for device in devices {
        if let DeviceHow::Bind(tree) = device.how {
            trees.push(Loose::from(init.take(tree)?));
        }
    }
    let mut trees = trees.iter();
    let mut directory = Directory { root: init.root()?, open: None };
    for step in devices {
        let made = match step.how {
            DeviceHow::Bind(_) => trees.next().map_or(Ok(()), |tree| bind(&mut directory, step, tree)),
            DeviceHow::Mknod => node(&mut directory, step),
        };
        located(made, step)?;
    }
    for step in links {
        link(&mut directory, step).context(|| format!("link {} to {}", step.link, step.target))?;
    }
    Ok(())
}

fn located(result: Result<()>, device: &Device) -> Result<()> {
    let result = result
        .map_err(|error| error.path(&device.path))
        .context(|| format!("make the device {}", device.path.display()));
    match &device.pointer {
        Some(pointer) => result.at(|| pointer.clone()),
        None => result,
    }
}

fn node(directory: &mut Directory<'_>, device: &Device) -> Result<()> {
    let (parent, name) = directory.of(&device.path)?;
    let kind = match device.kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let mode = Mode::from_raw_mode(device.mode);
    let number = makedev(device.major, device.minor);
    match mknodat(parent, name, kind, mode, number) {
        Ok(()) => {}
        // what is there may stay only if it is just that device: not a link to, or a copy of, something else
        Err(Errno::EXIST) => {
            if !is_device(parent, name, kind, number).call(|| "stat".to_owned())? {
                return Err(
                    Error::os("mknod", Errno::EXIST).hint("the root file system holds something else under that name")
                );
            }
            chmodat(parent, name, mode, AtFlags::empty()).call(|| "chmod".to_owned())?;
        }
        Err(errno) => return Err(errno).call(|| "mknod".to_owned()),
    }
    if (device.uid, device.gid) != (0, 0) {
        let (uid, gid) = (Some(Uid::from_raw(device.uid)), Some(Gid::from_raw(device.gid)));
        chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).call(|| "chown".to_owned())?;
    }
    Ok(())
}

/// Mounts the host's device on a file of that name. No link is followed.
fn bind(directory: &mut Directory<'_>, device: &Device, tree: &OwnedFd) -> Result<()> {
    let (parent, name) = directory.of(&device.path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    match openat(parent, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => drop(Loose::from(file)),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).call(|| "create".to_owned()),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = Loose::from(openat(parent, name, flags, Mode::empty()).call(|| "open".to_owned())?);
    if file_type(&*target).call(|| "fstat".to_owned())? == FileType::Symlink {
        return Err(Error::new("a symbolic link is there"));
    }
    mount::attach(tree, &target).call(|| "move_mount".to_owned())
}

fn link(directory: &mut Directory<'_>, link: &Link) -> Result<()> {
    let (parent, name) = directory.of(Path::new(&link.link))?;
    match symlinkat(link.target.as_str(), parent, name) {
        Err(Errno::EXIST) if link.replace => {
            unlinkat(parent, name, AtFlags::empty()).call(|| "unlink".to_owned())?;
            symlinkat(link.target.as_str(), parent, name).call(|| "symlink".to_owned())
        }
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).call(|| "symlink".to_owned()),
    }
}
