//! Mounts: made detached, finished, and only then attached.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, XattrFlags, fsetxattr, fstat, mkdirat, openat, readlinkat, symlinkat};
use rustix::io::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Attributes, CgroupBind, FsLabel, FsMount, Link, Mount, MountWhat, SymlinkRule};
use crate::sys::fd::Loose;
use crate::sys::mount::{self, ContextError, SetAttr};
use crate::sys::root::{Root, Target, file_type};

use super::root::flag;
use super::{Init, security, tmpcopyup};

const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID_NODEV_NOEXEC: u64 = 0xe;

pub(super) fn mount(init: &mut Init<'_>, step: &Mount) -> Result<()> {
    let destination = &step.destination;
    let what = match &step.what {
        MountWhat::Fs(fs) => fs.fstype.as_str(),
        MountWhat::Tree { .. } => "bind",
        MountWhat::CgroupV1 { .. } => "cgroup",
        MountWhat::Remount => "remount",
    };
    let result = match &step.what {
        MountWhat::Fs(fs) => fs_or_bind(init, step, fs).map(|mounted| {
            // what is mounted over or above it hides it
            init.kernel.retain(|(covered, _)| !covered.starts_with(destination));
            if step.real_directory {
                init.kernel.push((destination.clone(), mounted));
            }
        }),
        MountWhat::Tree { tree, symlinks } => {
            let tree = Loose::from(init.take(*tree)?);
            init.kernel.retain(|(covered, _)| !covered.starts_with(destination));
            attach_tree(init.root()?, destination, &tree, *symlinks)
        }
        MountWhat::CgroupV1 { hierarchies, links, readonly, label } => {
            let directory = controllers_directory(label.as_deref())?;
            cgroup_v1(init, step, directory, hierarchies, links, *readonly)
        }
        MountWhat::Remount => remount(init.root()?, step),
    };
    result.map_err(|error| error.path(destination)).context(|| format!("mount {what} on {}", destination.display()))
}

pub(super) fn context_error(error: ContextError) -> Error {
    let ContextError { call, errno, message } = error;
    let error = Error::os(call, errno);
    match message {
        Some(message) => error.cause(message),
        None => error,
    }
}

pub(super) fn set_attributes(mount: impl AsFd, changes: &[Attributes]) -> Result<()> {
    for change in changes {
        let change = SetAttr {
            set: change.set,
            clear: change.clear,
            propagation: change.propagation.map_or(0, flag),
            recursive: change.recursive,
        };
        mount::set_attr(mount.as_fd(), change).call(|| "mount_setattr".to_owned())?;
    }
    Ok(())
}

/// A bind of a file needs a file to be mounted on, one of a directory a directory.
fn attach_tree(root: Root<'_>, destination: &Path, tree: &OwnedFd, symlinks: SymlinkRule) -> Result<()> {
    let kind = || file_type(tree).call(|| "fstat".to_owned());
    if symlinks == SymlinkRule::Copy && kind()? == FileType::Symlink {
        return copy_symlink(root, destination, tree);
    }
    let found = match symlinks {
        SymlinkRule::Cover => root.open(destination, OFlags::PATH | OFlags::NOFOLLOW),
        SymlinkRule::Follow | SymlinkRule::Copy => root.resolve(destination),
    };
    let target = match found {
        Err(Errno::NOENT) => {
            let target = if kind()? == FileType::Directory { Target::Directory } else { Target::File };
            root.resolve_or_make(destination, target)
        }
        result => result,
    };
    let target = Loose::from(target.call(|| "open the destination".to_owned())?);
    mount::attach(tree, &target).call(|| "move_mount".to_owned())
}

/// What is there already may be just that link.
fn copy_symlink(root: Root<'_>, destination: &Path, tree: &OwnedFd) -> Result<()> {
    let link = readlinkat(tree, "", Vec::new()).call(|| "readlink the source".to_owned())?;
    let (Some(parent), Some(name)) = (destination.parent(), destination.file_name()) else {
        return Err(Error::new("no place for a symlink"));
    };
    let parent = root.resolve_or_make(parent, Target::Directory).call(|| "open the destination".to_owned())?;
    let parent = Loose::from(parent);
    match symlinkat(&*link, &*parent, name) {
        Err(Errno::EXIST) => match readlinkat(&*parent, name, Vec::new()) {
            Ok(there) if there == link => Ok(()),
            _ => Err(Error::os("symlink", Errno::EXIST)
                .hint(format!("what is there is no symlink to {}", link.to_string_lossy()))),
        },
        result => result.call(|| "symlink".to_owned()),
    }
}

/// The directory to mount on. For /proc and /sys neither it nor a parent may be a link: the masks and the
/// writes that follow would go elsewhere.
fn target(root: Root<'_>, step: &Mount) -> Result<OwnedFd> {
    let destination = &step.destination;
    if !step.real_directory {
        return root.resolve_or_make(destination, Target::Directory).call(|| "open the destination".to_owned());
    }
    let opened = match root.resolve_real_directory(destination) {
        Err(Errno::NOENT) => {
            root.resolve_or_make(destination, Target::Directory).call(|| "mkdir".to_owned())?;
            root.resolve_real_directory(destination)
        }
        result => result,
    };
    opened.call(|| "open the destination".to_owned()).map_err(|error| match error.errno() {
        Some(libc::ELOOP | libc::ENOTDIR) => {
            error.cause("must be mounted on ordinary directory, not on a symlink or a file")
        }
        _ => error,
    })
}

/// Gives back the mount: of the file system, or where this user namespace may not make one, of the host's.
fn fs_or_bind(init: &mut Init<'_>, step: &Mount, fs: &FsMount) -> Result<Loose> {
    match (fs_mount(init.root()?, step, fs), fs.else_bind) {
        (Err(error), Some(tree)) if error.errno() == Some(libc::EPERM) => {
            let tree = Loose::from(init.take(tree).map_err(|_| error)?);
            mount::attach(&tree, Loose::from(target(init.root()?, step)?)).call(|| "move_mount".to_owned())?;
            Ok(tree)
        }
        (result, _) => result,
    }
}

/// Gives back the mount.
fn fs_mount(root: Root<'_>, step: &Mount, fs: &FsMount) -> Result<Loose> {
    let target = Loose::from(target(root, step)?);
    let context = mount::Context::open(&fs.fstype).map_err(context_error)?;
    if !fs.source.is_empty() {
        context.string("source", &fs.source).map_err(context_error)?;
    }
    for flag in &fs.flags {
        context.flag(flag).map_err(context_error)?;
    }
    for data in &fs.data {
        let set = match &data.value {
            Some(value) => set_string(&context, &fs.fstype, &data.key, value),
            None => context.flag(&data.key),
        };
        set.map_err(|error| context_error(error).at(format!("options/{}", data.index)))?;
    }
    if fs.inherit_mode {
        let mode = fstat(&target).call(|| "fstat".to_owned())?.st_mode & 0o7777;
        context.string("mode", &format!("{mode:o}")).map_err(context_error)?;
    }
    let labelled = match &fs.label {
        Some(FsLabel::Context(label)) => Some(label.as_str()),
        _ => None,
    };
    create(&context, labelled)?;
    let first = step.attributes.first().filter(|change| !change.recursive && change.propagation.is_none());
    // a tmpfs that is to be filled is made read-only afterwards
    let at_birth = first.filter(|_| !fs.tmpcopyup).map_or(0, |change| change.set);
    let mounted = Loose::from(context.mount(at_birth).map_err(context_error)?);
    if let Some(FsLabel::Root(label)) = &fs.label {
        label_root(&mounted, label)?;
    }
    if fs.tmpcopyup {
        tmpcopyup::copy(&target, &mounted)?;
    }
    // what is to be cleared was never set on a new mount
    let rest = if first.is_none() || fs.tmpcopyup { &step.attributes[..] } else { &step.attributes[1..] };
    set_attributes(&mounted, rest)?;
    mount::attach(&mounted, &target).call(|| "move_mount".to_owned())?;
    Ok(mounted)
}

/// fsconfig(2) takes strings of up to 255 bytes; overlay's list of layers is often longer, and can be given
/// layer by layer (Linux 6.8).
fn set_string(context: &mount::Context, fstype: &str, key: &str, value: &str) -> Result<(), ContextError> {
    if fstype == "overlay" && key == "lowerdir" && value.len() > 255 {
        return value.split(':').try_for_each(|layer| context.string("lowerdir+", layer));
    }
    context.string(key, value)
}

fn remount(root: Root<'_>, step: &Mount) -> Result<()> {
    let target = Loose::from(root.resolve(&step.destination).call(|| "open the destination".to_owned())?);
    set_attributes(&target, &step.attributes)
}

/// With SELinux's label of all its files, where there is one.
pub(super) fn create(context: &mount::Context, label: Option<&str>) -> Result<()> {
    let create = || {
        if let Some(label) = label {
            context.string("context", label).map_err(context_error)?;
        }
        context.create().map_err(context_error)
    };
    create().map_err(|error| match label {
        Some(label) => security::explain_file_label(error, label, "filesystem"),
        None => error,
    })
}

fn label_root(mounted: &OwnedFd, label: &str) -> Result<()> {
    let name = c"security.selinux";
    let set = || {
        // the fd of a mount is one of a path, which takes no attributes
        let root =
            Loose::from(openat(mounted, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?);
        fsetxattr(&root, name, label.as_bytes(), XattrFlags::empty())
    };
    set()
        .call(|| format!("fsetxattr security.selinux={label}"))
        .map_err(|error| security::explain_file_label(error, label, "dir"))
}

/// What [`cgroup_v1`] fills.
fn controllers_directory(label: Option<&str>) -> Result<OwnedFd> {
    let context = mount::Context::open("tmpfs").map_err(context_error)?;
    context.string("source", "tmpfs").map_err(context_error)?;
    context.string("mode", "0755").map_err(context_error)?;
    create(&context, label)?;
    context.mount(MOUNT_ATTR_NOSUID_NODEV_NOEXEC).map_err(context_error)
}

/// The layout that every host has: a directory for each hierarchy, links for controllers mounted together.
fn cgroup_v1(
    init: &mut Init<'_>,
    step: &Mount,
    directory: OwnedFd,
    hierarchies: &[CgroupBind],
    links: &[Link],
    readonly: bool,
) -> Result<()> {
    let directory = Loose::from(directory);
    // what lies below a detached mount cannot be mounted on before Linux 6.15: attached first, filled then
    mount::attach(&directory, Loose::from(target(init.root()?, step)?)).call(|| "move_mount".to_owned())?;
    for CgroupBind { name, tree } in hierarchies {
        let tree = Loose::from(init.take(*tree)?);
        mkdirat(&directory, name.as_str(), Mode::from_raw_mode(0o755)).call(|| format!("mkdir {name}"))?;
        mount::attach_at(&tree, directory.as_fd(), name).call(|| format!("move_mount {name}"))?;
    }
    for Link { link, target, .. } in links {
        symlinkat(target.as_str(), &directory, link.as_str()).call(|| format!("symlink {link}"))?;
    }
    let mut all = Attributes { set: MOUNT_ATTR_NOSUID_NODEV_NOEXEC, recursive: true, ..Attributes::default() };
    if readonly {
        all.set |= MOUNT_ATTR_RDONLY;
    }
    set_attributes(&directory, &[all])?;
    let propagation = step.attributes.iter().filter(|change| change.propagation.is_some());
    set_attributes(
        &directory,
        &propagation.map(|change| Attributes { set: 0, clear: 0, ..*change }).collect::<Vec<_>>(),
    )
}
