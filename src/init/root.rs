//! The container's root: attached, entered, finished.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, fchdir};

use crate::error::{Call, Context, Result};
use crate::plan::step::{Propagation, PropagationKind};
use crate::sys::fd::Loose;
use crate::sys::mount::{self, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, SetAttr};
use crate::sys::root::{Root, Target};

const MOUNT_ATTR_RDONLY: u64 = 1;

pub(super) fn flag(kind: PropagationKind) -> u64 {
    match kind {
        PropagationKind::Shared => MS_SHARED,
        PropagationKind::Slave => MS_SLAVE,
        PropagationKind::Private => MS_PRIVATE,
        PropagationKind::Unbindable => MS_UNBINDABLE,
    }
}

/// The copies of the host's mounts in our namespace still send to the host: from here on they do not. They go
/// away with the old root.
pub(super) fn detach_propagation() -> Result<()> {
    mount::set_attr_of_root(SetAttr { propagation: MS_SLAVE, recursive: true, ..SetAttr::default() })
        .call(|| "mount_setattr".to_owned())
        .context(|| "cut this namespace's mounts off from the host's".to_owned())
}

/// Attaches the root's detached copy at its own path, which makes it a mount point that can be pivoted to. The root of
/// a user namespace may have no way there; then any other place does, and hooks alone could tell.
pub(super) fn attach(tree: OwnedFd, path: &Path) -> Result<OwnedFd> {
    let directory = |path: &Path| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let target = match directory(path) {
        Err(Errno::ACCESS) => directory(Path::new("/")),
        result => result,
    };
    target
        .call(|| "open".to_owned())
        .and_then(|target| mount::attach(&tree, Loose::from(target)).call(|| "move_mount".to_owned()))
        .map_err(|error| error.path(path))
        .context(|| format!("attach the root file system {}", path.display()))?;
    Ok(tree)
}

pub(super) fn make_directory(root: Root<'_>, path: &Path) -> Result<()> {
    root.resolve_or_make(path, Target::Directory)
        .call(|| "mkdir".to_owned())
        .map(|fd| drop(Loose::from(fd)))
        .map_err(|error| error.path(path))
        .context(|| format!("make the directory {}", path.display()))
}

/// pivot_root(2) with both places being the new root: the old one ends up mounted over the new, and its
/// detaching uncovers it. Needs no directory in the container.
pub(super) fn pivot(root: &OwnedFd) -> Result<()> {
    let pivot = || {
        fchdir(root).call(|| "fchdir".to_owned())?;
        rustix::process::pivot_root(".", ".").call(|| "pivot_root".to_owned())?;
        unmount(".", UnmountFlags::DETACH).call(|| "umount".to_owned())?;
        chdir("/").call(|| "chdir".to_owned())
    };
    pivot().map_err(|error| match error.errno() {
        Some(libc::EINVAL) => error.hint("the root cannot be pivoted away from (an initramfs?); --no-pivot may help"),
        _ => error,
    })
}

/// MS_MOVE over the old root. What the host has at /proc and /sys stays mounted below, where a process that
/// keeps CAP_SYS_CHROOT could find its way to it: it is detached first.
pub(super) fn move_over(root: &OwnedFd) -> Result<()> {
    for directory in ["/proc", "/sys"] {
        match unmount(directory, UnmountFlags::DETACH) {
            Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno).call(|| format!("umount {directory}")),
        }
    }
    fchdir(root).call(|| "fchdir".to_owned())?;
    let old =
        open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).call(|| "open /".to_owned())?;
    mount::attach(root, old).call(|| "move_mount".to_owned())?;
    rustix::process::chroot(".").call(|| "chroot".to_owned())?;
    chdir("/").call(|| "chdir".to_owned())
}

/// Without a mount namespace of our own only the root directory changes.
pub(super) fn chroot(root: Option<OwnedFd>, path: &Path) -> Result<OwnedFd> {
    let root = match root {
        Some(root) => root,
        None => open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .call(|| "open".to_owned())
            .map_err(|error| error.path(path))?,
    };
    fchdir(&root).call(|| "fchdir".to_owned())?;
    rustix::process::chroot(".").call(|| "chroot".to_owned())?;
    Ok(root)
}

pub(super) fn propagation(root: impl AsFd, propagation: Propagation) -> Result<()> {
    let change =
        SetAttr { propagation: flag(propagation.kind), recursive: propagation.recursive, ..SetAttr::default() };
    mount::set_attr(root, change)
        .call(|| "mount_setattr".to_owned())
        .context(|| "set the propagation of the root".to_owned())
}

pub(super) fn readonly(root: impl AsFd) -> Result<()> {
    let change = SetAttr { set: MOUNT_ATTR_RDONLY, ..SetAttr::default() };
    mount::set_attr(root, change).call(|| "mount_setattr".to_owned()).context(|| "make the root read-only".to_owned())
}
