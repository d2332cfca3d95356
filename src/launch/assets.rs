//! Opens what the plan lists, in the host's view of the file system, before there is a child.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, makedev, mknodat, open, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Asset, AssetEntry, Attributes, PropagationKind};
use crate::state::store::{Entry, FAULT, START_FIFO};
use crate::sys::mount::{self, MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE, SetAttr};

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Opens all, in order.
pub(super) fn open_all(assets: &[AssetEntry], entry: &Entry) -> Result<Vec<Option<OwnedFd>>> {
    assets.iter().map(|asset| open_one(asset, entry).map(Some)).collect()
}

fn open_one(asset: &AssetEntry, entry: &Entry) -> Result<OwnedFd> {
    let opened = match &asset.asset {
        Asset::Tree { path, recursive, attributes, procfs } => {
            let open = || tree(path, *recursive, attributes, *procfs);
            open().map_err(|error| error.path(path)).context(|| format!("open {}", path.display()))
        }
        Asset::Null => null(),
        Asset::Namespace { path, kind } => {
            let opened = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| "open".to_owned());
            opened
                .map_err(|error| error.path(path))
                .context(|| format!("open the {kind:?} namespace {}", path.display()))
        }
        Asset::ConsoleSocket { path } => {
            connect_to(path).context(|| format!("connect to the console socket {}", path.display()))
        }
        Asset::StartFifo => start_fifo(entry),
        Asset::FaultFile => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
            openat(entry.directory(), FAULT, flags, Mode::from_raw_mode(0o600)).call(|| format!("create {FAULT}"))
        }
    };
    match &asset.pointer {
        Some(pointer) => opened.at(|| pointer.clone()),
        None => opened,
    }
}

fn tree(path: &Path, recursive: bool, attributes: &[Attributes], procfs: bool) -> Result<OwnedFd> {
    let name = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8"))?;
    let tree = mount::clone_tree(CWD, name, recursive).call(|| "open_tree".to_owned())?;
    if procfs && fstatfs(&tree).call(|| "fstatfs".to_owned())?.f_type as u64 != PROC_SUPER_MAGIC {
        return Err(Error::new("only a procfs may be mounted on /proc"));
    }
    for change in attributes {
        let propagation = change.propagation.map_or(0, |kind| match kind {
            PropagationKind::Shared => MS_SHARED,
            PropagationKind::Slave => MS_SLAVE,
            PropagationKind::Private => MS_PRIVATE,
            PropagationKind::Unbindable => MS_UNBINDABLE,
        });
        let change = SetAttr { set: change.set, clear: change.clear, propagation, recursive: change.recursive };
        mount::set_attr(&tree, change).call(|| "mount_setattr".to_owned())?;
    }
    Ok(tree)
}

/// The host's own /dev/null, proved by number: the one of the root file system may be anything.
fn null() -> Result<OwnedFd> {
    let tree = mount::clone_tree(CWD, "/dev/null", false).call(|| "open_tree /dev/null".to_owned())?;
    let stat = fstat(&tree).call(|| "fstat /dev/null".to_owned())?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3) {
        Ok(tree)
    } else {
        Err(Error::new("the host's /dev/null is not the null device"))
    }
}

/// Open for reading and writing, so that the init's read waits instead of seeing the end of the file while
/// nobody writes.
fn start_fifo(entry: &Entry) -> Result<OwnedFd> {
    let make = || {
        mknodat(entry.directory(), START_FIFO, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .call(|| "mkfifo".to_owned())?;
        openat(entry.directory(), START_FIFO, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).call(|| "open".to_owned())
    };
    make().context(|| "make the start FIFO".to_owned())
}

/// A stream connection to a listening socket.
pub(super) fn connect_to(path: &Path) -> Result<OwnedFd> {
    let address = SocketAddrUnix::new(path).call(|| "sockaddr_un".to_owned())?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .call(|| "socket".to_owned())?;
    connect(&socket, &address).call(|| "connect".to_owned()).map_err(|error| error.path(path))?;
    Ok(socket)
}
