//! Masked and read-only paths: config-linux.md.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Call, Context, Result};
use crate::sys::fd::Loose;
use crate::sys::mount::{self, SetAttr};
use crate::sys::root::Root;

use super::mount::{context_error, create};

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Where the names of masked and read-only paths begin.
pub(super) struct Places<'a> {
    pub root: Root<'a>,
    /// Mounts of /proc and /sys, with their destinations.
    pub kernel: &'a [(PathBuf, Loose)],
}

impl Places<'_> {
    /// What is below such a mount is looked up in that very mount: its mount point may have been renamed meanwhile
    /// by a neighbour with the same rootfs, and a path that is absent then would stay bare.
    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let below = self.kernel.iter().rev().find_map(|(point, mount)| {
            let rest = path.strip_prefix(point).ok()?;
            let plain = rest.components().all(|part| matches!(part, Component::Normal(_)));
            (plain && rest != Path::new("")).then_some((mount, rest))
        });
        match below {
            Some((mount, rest)) => Root::new(&**mount).resolve(rest),
            None => self.root.resolve(path),
        }
    }
}

/// Covers each path that exists: a file with the host's /dev/null, a directory with an empty tmpfs. All
/// directories share one: a superblock for each stalls the kernel's shrinkers on machines with many CPUs.
pub(super) fn mask(places: &Places<'_>, paths: &[PathBuf], null: OwnedFd, label: Option<&str>) -> Result<()> {
    let mut file = Cover { tree: Some(null.into()), attached: None };
    let mut directory = Cover::default();
    for path in paths {
        cover(places, path, &mut file, &mut directory, label)
            .map_err(|error| error.path(path))
            .context(|| format!("mask {}", path.display()))?;
    }
    Ok(())
}

fn cover(places: &Places<'_>, path: &Path, file: &mut Cover, directory: &mut Cover, label: Option<&str>) -> Result<()> {
    let target = match places.resolve(path) {
        Ok(target) => Loose::from(target),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno).call(|| "open".to_owned()),
    };
    // the kernel refuses a file on a directory, which tells them apart without a further call
    match file.attach(&target) {
        Err(Errno::NOTDIR | Errno::INVAL) => {}
        result => return result.call(|| "move_mount".to_owned()),
    }
    if directory.tree.is_none() && directory.attached.is_none() {
        directory.tree = Some(empty_directory(label)?.into());
    }
    directory.attach(&target).call(|| "move_mount".to_owned())
}

/// A mount to be put in several places. A detached mount can only be copied since Linux 6.15, an attached one
/// always: the first is used up, the others are copies of it.
#[derive(Default)]
struct Cover {
    tree: Option<Loose>,
    attached: Option<Loose>,
}

impl Cover {
    fn attach(&mut self, target: &Loose) -> Result<(), Errno> {
        let tree = match (self.tree.take(), &self.attached) {
            (Some(tree), _) => tree,
            (None, Some(attached)) => mount::clone_tree(attached, "", false)?.into(),
            (None, None) => return Err(Errno::BADF),
        };
        match mount::attach(&tree, target) {
            Ok(()) => {
                self.attached.get_or_insert(tree);
                Ok(())
            }
            Err(errno) => {
                self.tree = Some(tree);
                Err(errno)
            }
        }
    }
}

fn empty_directory(label: Option<&str>) -> Result<OwnedFd> {
    let tmpfs = || {
        let context = mount::Context::open("tmpfs").map_err(context_error)?;
        context.string("nr_inodes", "1").map_err(context_error)?;
        context.string("mode", "0755").map_err(context_error)?;
        create(&context, label)?;
        context.mount(MOUNT_ATTR_RDONLY | 0xe).map_err(context_error)
    };
    tmpfs().context(|| "make an empty directory".to_owned())
}

/// Binds each path that exists onto itself, with all below it, read-only.
pub(super) fn readonly(places: &Places<'_>, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        let bind = || {
            let target = match places.resolve(path) {
                Ok(target) => Loose::from(target),
                Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
                Err(errno) => return Err(errno).call(|| "open".to_owned()),
            };
            let tree = Loose::from(mount::clone_tree(&*target, "", true).call(|| "open_tree".to_owned())?);
            let change = SetAttr { set: MOUNT_ATTR_RDONLY, recursive: true, ..SetAttr::default() };
            mount::set_attr(tree.as_fd(), change).call(|| "mount_setattr".to_owned())?;
            mount::attach(&tree, &target).call(|| "move_mount".to_owned())
        };
        bind().map_err(|error| error.path(path)).context(|| format!("make {} read-only", path.display()))?;
    }
    Ok(())
}
