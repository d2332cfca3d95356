//! Mounts of the host's, locked before who is root in a user namespace gets them: mount_namespaces(7).
//!
//! Whoever has CAP_SYS_ADMIN over a mount namespace may make what is mounted in it writable, and take it away. The kernel
//! forbids that for mounts that came from a mount namespace of another user namespace, but not for those that are
//! attached by descriptor, as ours are. So they go that way once: into a mount namespace of our own, with that into a
//! user namespace, and there they are copied again. Nobody else is ever in either. An ordinary user's are opened by the
//! init, which is in the user namespace of the container's already: they come from there, and go back.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{chroot, fchdir, getegid, geteuid};

use crate::config::{IdMapping, IdMaps};
use crate::error::{Call, Context, Error, Result};
use crate::init::tree;
use crate::plan::step::{AssetEntry, MapWriter, NamespaceKind, WriteMaps};
use crate::sys::mount::{self, MS_PRIVATE, SetAttr};
use crate::sys::{clone, pidfd};

use super::channel::{Channel, Message};
use super::maps;

/// Puts a locked copy in the place of each tree that is to be locked.
pub(super) fn lock(assets: &[AssetEntry], opened: &mut [Option<OwnedFd>]) -> Result<()> {
    let wanted = tree::to_lock(assets, false);
    let trees: Vec<&OwnedFd> = wanted.iter().filter_map(|id| opened[id.0].as_ref()).collect();
    if trees.is_empty() {
        return Ok(());
    }
    for (id, copy) in wanted.iter().zip(copies(&trees, None)?) {
        tree::finish(&assets[id.0], &copy)?;
        opened[id.0] = Some(copy);
    }
    Ok(())
}

/// Sends back locked copies of what the init sends. Who may not mount here does it in a user namespace of its own.
pub(super) fn lock_for_init(count: usize, init: &Channel) -> Result<()> {
    let trees: Option<Vec<OwnedFd>> = (0..count).map(|_| receive(init)).collect::<Result<_>>()?;
    let trees = trees.ok_or_else(|| Error::new("the container's init is gone"))?;
    let trees: Vec<&OwnedFd> = trees.iter().collect();
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let own = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    let maps = WriteMaps { maps: IdMaps { uids: own(uid), gids: own(gid) }, how: MapWriter::OwnIds };
    copies(&trees, Some(&maps))?.iter().try_for_each(|copy| init.send_with(&Message::Tree, Some(copy.as_fd())))
}

fn copies(trees: &[&OwnedFd], users: Option<&WriteMaps>) -> Result<Vec<OwnedFd>> {
    made_by_another(trees, users).context(|| "lock the mounts of the host's".to_owned())
}

fn made_by_another(trees: &[&OwnedFd], users: Option<&WriteMaps>) -> Result<Vec<OwnedFd>> {
    let (ours, theirs) = Channel::pair()?;
    let mut ends = Some((ours, theirs));
    let flags = NamespaceKind::Mount.flag() | users.map_or(0, |_| NamespaceKind::User.flag());
    let child = clone::clone3(flags, None, || {
        let Some((ours, theirs)) = ends.take() else { clone::exit(1) };
        drop(ours);
        if users.is_none() || matches!(theirs.receive(), Ok(Some((Message::Go { .. }, _)))) {
            send_copies(trees, &theirs);
        }
        clone::exit(1)
    })
    .call(|| "clone3".to_owned())?;
    let (ours, theirs) = ends.ok_or_else(|| Error::new("no channel"))?;
    drop(theirs);
    // without ids nothing can be made in a file system
    let go = |users| maps::write(users, child.pid).and_then(|()| ours.send(&Message::Go { pid: child.pid }));
    let received = users.map_or(Ok(()), go).and_then(|()| trees.iter().map(|_| receive(&ours)).collect());
    // else it would wait for a word, whatever it has said
    drop(ours);
    let status = pidfd::wait(&child.pidfd).call(|| "waitid".to_owned())?;
    match received {
        Ok(None) => Err(Error::new(format!("the process for it ended with status {status}"))),
        Ok(Some(copies)) => Ok(copies),
        Err(error) => Err(error),
    }
}

fn receive(channel: &Channel) -> Result<Option<OwnedFd>> {
    match channel.receive()? {
        Some((Message::Tree, Some(tree))) => Ok(Some(tree)),
        Some((Message::Fault(error), _)) => Err(error),
        Some((message, _)) => Err(Error::new(format!("unexpected message: {message:?}"))),
        None => Ok(None),
    }
}

/// In the new process, in a copy of the host's mount namespace.
fn send_copies(trees: &[&OwnedFd], channel: &Channel) -> Infallible {
    match pass(trees, channel) {
        Ok(()) => clone::exit(0),
        Err(error) => {
            // nobody is left to hear of a failure to say it
            let _ = channel.send(&Message::Fault(error));
            clone::exit(1)
        }
    }
}

fn pass(trees: &[&OwnedFd], channel: &Channel) -> Result<()> {
    let names: Vec<String> = (0..trees.len()).map(|number| number.to_string()).collect();
    let stage = enter_stage()?;
    for (tree, name) in trees.iter().zip(&names) {
        place(&stage, name, tree)?;
    }
    // the root and the working directory are in the new mount namespace then
    clone::unshare(NamespaceKind::User.flag() | NamespaceKind::Mount.flag()).call(|| "unshare".to_owned())?;
    for name in &names {
        let copy = mount::clone_entry(name, true, true).call(|| "open_tree".to_owned())?;
        channel.send_with(&Message::Tree, Some(copy.as_fd()))?;
    }
    Ok(())
}

/// A file system of our own, over the root: who is in another root than the mount namespace's may make no user namespace.
fn enter_stage() -> Result<OwnedFd> {
    mount::set_attr_of_root(SetAttr { propagation: MS_PRIVATE, ..SetAttr::default() })
        .call(|| "mount_setattr".to_owned())?;
    let tmpfs = || {
        let context = mount::Context::open("tmpfs")?;
        context.create()?;
        context.mount(0)
    };
    let stage = tmpfs().map_err(|failed| Error::new(failed.to_string()).within("mount a tmpfs"))?;
    let root =
        open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).call(|| "open /".to_owned())?;
    mount::attach(&stage, &root).call(|| "move_mount".to_owned())?;
    fchdir(&stage).call(|| "fchdir".to_owned())?;
    chroot(".").call(|| "chroot".to_owned())?;
    Ok(stage)
}

/// The kernel refuses a file on a directory, which tells them apart: who has mounted it may let nobody else ask.
fn place(stage: &OwnedFd, name: &str, tree: &OwnedFd) -> Result<()> {
    mkdirat(stage, name, Mode::from_raw_mode(0o755)).call(|| "mkdir".to_owned())?;
    match mount::attach_at(tree, stage.as_fd(), name) {
        Err(Errno::NOTDIR | Errno::INVAL) => {}
        result => return result.call(|| "move_mount".to_owned()),
    }
    unlinkat(stage, name, AtFlags::REMOVEDIR).call(|| "rmdir".to_owned())?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
    openat(stage, name, flags, Mode::from_raw_mode(0o644)).call(|| "create".to_owned())?;
    mount::attach_at(tree, stage.as_fd(), name).call(|| "move_mount".to_owned())
}
