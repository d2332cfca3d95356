//! Detached copies of the host's mounts, finished before anybody can see them.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, fstatfs, major, makedev, minor, readlink, statx,
};

use crate::error::{Call, Context, Error, Result, errno_words};
use crate::plan::step::{Asset, AssetEntry, AssetId, Attributes, DeviceKind};
use crate::sys::mount::{self, MS_PRIVATE, SetAttr};
use crate::sys::mountinfo::{self, MountInfo};
use crate::sys::proc;

use super::mount::set_attributes;

const PROC_SUPER_MAGIC: u64 = 0x9fa0;
const MOUNT_ATTR_NOSUID_NOEXEC: u64 = 0x2 | 0x8;

/// Opens an [`Asset::Tree`] or [`Asset::Device`], in the parent or in the init's copy of the host's mounts; `opened` are
/// the assets before it.
pub(crate) fn open(asset: &Asset, opened: &[Option<OwnedFd>]) -> Result<OwnedFd> {
    let (path, opened) = match asset {
        Asset::Tree { path, .. } => (path, copy(asset, opened)),
        Asset::Device { path, kind, major, minor, .. } => (path, device(path, *kind, makedev(*major, *minor))),
        _ => return Err(Error::new("this asset is no mount")),
    };
    opened.map_err(|error| error.path(path)).context(|| format!("open {}", path.display()))
}

/// The trees that are to be locked, of those that the parent opens or of those that the init does.
pub(crate) fn to_lock(entries: &[AssetEntry], by_init: bool) -> Vec<AssetId> {
    let wanted = |entry: &AssetEntry| matches!(entry.asset, Asset::Tree { locked: true, late, .. } if late == by_init);
    (0..entries.len()).filter(|id| wanted(&entries[*id])).map(AssetId).collect()
}

/// Finishes what was opened as a tree to be locked, when it is. Of what is unbindable no copy could be had before, and
/// that of what is shared is a slave.
pub(crate) fn finish(entry: &AssetEntry, tree: &OwnedFd) -> Result<()> {
    let Asset::Tree { path, attributes, .. } = &entry.asset else { return Err(Error::new("this asset is no tree")) };
    let only = |change: &Attributes| Attributes { set: 0, clear: 0, ..*change };
    let propagation: Vec<_> = attributes.iter().filter(|change| change.propagation.is_some()).map(only).collect();
    let finished = set_attributes(tree, &propagation).map_err(|error| error.path(path));
    let finished = finished.context(|| format!("bind {}", path.display()));
    match &entry.pointer {
        Some(pointer) => finished.at(|| pointer.clone()),
        None => finished,
    }
}

/// In the mount namespace of a user namespace no mount may uncover what others hide.
fn explain(error: Error, recursive: bool) -> Error {
    match error.errno() {
        Some(libc::EINVAL) if !recursive => {
            error.hint("if there are mounts below it, an unprivileged caller can only bind it with them: rbind")
        }
        _ => error,
    }
}

/// Proved by number: the name may be anything's.
fn device(path: &Path, kind: DeviceKind, number: u64) -> Result<OwnedFd> {
    let name = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8"))?;
    let tree = mount::clone_tree(CWD, name, false).call(|| format!("open_tree {name}"))?;
    let stat = fstat(&tree).call(|| format!("fstat {name}"))?;
    let wanted = if kind == DeviceKind::Block { FileType::BlockDevice } else { FileType::CharacterDevice };
    if FileType::from_raw_mode(stat.st_mode) != wanted || stat.st_rdev != number {
        return Err(Error::new(format!("the host's {name} is not device {}:{}", major(number), minor(number))));
    }
    // a peer of the host's: what the container mounts over it would be mounted over the host's
    let private = SetAttr { set: MOUNT_ATTR_NOSUID_NOEXEC, propagation: MS_PRIVATE, ..SetAttr::default() };
    mount::set_attr(&tree, private).call(|| format!("mount_setattr {name}"))?;
    Ok(tree)
}

fn copy(asset: &Asset, opened: &[Option<OwnedFd>]) -> Result<OwnedFd> {
    let Asset::Tree { path, recursive, attributes, idmap, nofollow, procfs, locked, .. } = asset else {
        return Err(Error::new("this asset is no tree"));
    };
    let name = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8"))?;
    let tree = mount::clone_entry(name, *recursive, *nofollow)
        .call(|| "open_tree".to_owned())
        .map_err(|error| explain(error, *recursive))?;
    if *procfs && fstatfs(&tree).call(|| "fstatfs".to_owned())?.f_type as u64 != PROC_SUPER_MAGIC {
        return Err(Error::new("only a procfs may be mounted on /proc"));
    }
    if let Some(idmap) = idmap {
        map_ids(&tree, path, idmap.recursive, namespace(opened, idmap.users)?)?;
    }
    if *locked {
        let flags = |change: &Attributes| Attributes { propagation: None, ..*change };
        let some = |change: &Attributes| change.set | change.clear != 0;
        set_attributes(&tree, &attributes.iter().map(flags).filter(some).collect::<Vec<_>>())?;
    } else {
        set_attributes(&tree, attributes)?;
    }
    Ok(tree)
}

fn namespace(opened: &[Option<OwnedFd>], id: AssetId) -> Result<BorrowedFd<'_>> {
    let open = opened.get(id.0).and_then(Option::as_ref).map(OwnedFd::as_fd);
    open.ok_or_else(|| Error::new(format!("asset {} is not open", id.0)))
}

/// Makes the files of `tree`, a copy of what is mounted at `path`, belong to whom the user namespace `users` says.
///
/// # Errors
/// The kernel refuses: the error names the mount and its file system.
pub fn map_ids(tree: &OwnedFd, path: &Path, recursive: bool, users: BorrowedFd<'_>) -> Result<()> {
    mount::set_idmap(tree, users, recursive)
        .call(|| "mount_setattr(MOUNT_ATTR_IDMAP)".to_owned())
        .map_err(|error| explain_idmap(error, path, recursive, users))
}

/// The kernel says neither which mount of the tree it is about nor why.
fn explain_idmap(error: Error, path: &Path, recursive: bool, users: BorrowedFd<'_>) -> Error {
    let Some(MountInfo { point, fstype, idmapped, .. }) = refusing(path, recursive, users) else { return error };
    let (point, words) = (point.display(), errno_words(error.errno().unwrap_or_default()));
    match error.errno() {
        Some(libc::EINVAL) => error.cause(format!("{words}: {fstype} ({point}) cannot be id-mapped on this kernel")),
        Some(libc::EPERM) if idmapped => {
            error.cause(format!("{words}: the mount at {point} is id-mapped already, which is for good"))
        }
        Some(libc::EPERM) => error.cause(format!(
            "{words}: it takes CAP_SYS_ADMIN where {fstype} ({point}) was mounted, in that user namespace"
        )),
        _ => error,
    }
}

/// The mount below `path` that cannot be id-mapped, or else the one that `path` is in.
fn refusing(path: &Path, recursive: bool, users: BorrowedFd<'_>) -> Option<MountInfo> {
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let id = statx(&place, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?.stx_mnt_id;
    let real = readlink(format!("/proc/self/fd/{}", place.as_raw_fd()), Vec::new()).ok()?.into_bytes();
    let real = Path::new(OsStr::from_bytes(&real));
    let all = mountinfo::parse(&proc::read(Path::new("/proc/self/mountinfo")).ok()?);
    let refuses = |mount: &&MountInfo| {
        let copy = mount.point.to_str().map(|point| mount::clone_entry(point, false, false));
        copy.is_some_and(|copy| copy.is_ok_and(|copy| mount::set_idmap(copy, users, false).is_err()))
    };
    let below = |mount: &&MountInfo| recursive && mount.id != id && mount.point.starts_with(real);
    let found = all.iter().filter(below).find(refuses).or_else(|| all.iter().find(|mount| mount.id == id));
    found.cloned()
}
