//! Opens what the plan lists, in the host's view of the file system, before there is a child.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, mknodat, open, openat};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::{Call, Context, Error, Result};
use crate::init::tree;
use crate::plan::step::{Asset, AssetEntry, NamespaceKind};
use crate::state::store::{Entry, FAULT, START_FIFO};

use super::{lock, maps};

/// Opens all that the init does not open itself, in order. The caller has the pidfd of an init.
pub(super) fn open_all(assets: &[AssetEntry], entry: &Entry) -> Result<Vec<Option<OwnedFd>>> {
    let not_ours = |asset: &AssetEntry| {
        matches!(asset.asset, Asset::Tree { late: true, .. } | Asset::Device { late: true, .. } | Asset::Init)
    };
    let mut opened = Vec::with_capacity(assets.len());
    for asset in assets {
        let open = if not_ours(asset) { None } else { Some(open_one(asset, &opened, entry)?) };
        opened.push(open);
    }
    lock::lock(assets, &mut opened)?;
    Ok(opened)
}

/// `before` are the assets before it.
fn open_one(asset: &AssetEntry, before: &[Option<OwnedFd>], entry: &Entry) -> Result<OwnedFd> {
    let opened = match &asset.asset {
        Asset::Tree { .. } | Asset::Device { .. } => tree::open(&asset.asset, before),
        Asset::Namespace { path, kind } => namespace(path, *kind)
            .map_err(|error| error.path(path))
            .context(|| format!("open the {} namespace {}", format!("{kind:?}").to_lowercase(), path.display())),
        Asset::IdMap { maps } => {
            maps::namespace(maps).context(|| "make a user namespace for id-mapped mounts".to_owned())
        }
        Asset::ConsoleSocket { path } => {
            connect_to(path).context(|| format!("connect to the console socket {}", path.display()))
        }
        Asset::Init => return Err(Error::new("an init is not opened by name")),
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

fn namespace(path: &Path, kind: NamespaceKind) -> Result<OwnedFd> {
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| "open".to_owned())?;
    let own = match kind {
        NamespaceKind::Mount => "/proc/self/ns/mnt",
        NamespaceKind::User => "/proc/self/ns/user",
        _ => return Ok(fd),
    };
    let own = rustix::fs::stat(own).call(|| format!("stat {own}"))?;
    let asked = fstat(&fd).call(|| "fstat".to_owned())?;
    if (own.st_dev, own.st_ino) != (asked.st_dev, asked.st_ino) {
        return Ok(fd);
    }
    Err(match kind {
        NamespaceKind::Mount => Error::new("it is the runtime's own, in which nothing is ever mounted")
            .hint("to share it, leave the mount namespace out"),
        _ => Error::new("it is the runtime's own").hint("to share it, leave the user namespace out"),
    })
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
