//! The socket of a shim: one for each pod, found by its name.

use std::cell::Cell;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ferrun::error::{Call, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use sha2::{Digest, Sha256};

/// containerd's own shims use it too.
pub(crate) const DIRECTORY: &str = "/run/containerd/s";

/// Before the path, in an address.
pub(crate) const SCHEME: &str = "unix://";

/// In `start`.
#[derive(Debug)]
pub(crate) enum Socket {
    /// It is ours to serve.
    New(OwnedFd),
    /// Somebody serves it: the shim of the pod.
    Served,
}

/// The path of a socket that we serve. It is removed once: afterwards it may be another shim's.
#[derive(Debug)]
pub(crate) struct Name {
    path: PathBuf,
    removed: Cell<bool>,
}

impl Name {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), removed: Cell::new(false) }
    }

    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    pub(crate) fn remove(&self) {
        if !self.removed.replace(true) {
            remove(&self.path);
        }
    }
}

/// A path's length is limited to 107 bytes, those of names are not: hence the digest.
pub(crate) fn path(directory: &Path, address: &str, namespace: &str, group: &str) -> PathBuf {
    let digest = Sha256::digest(format!("{address}/{namespace}/{group}/io.containerd.ferrun.v1"));
    let mut name = String::with_capacity(64);
    for byte in digest {
        let _ = write!(name, "{byte:02x}");
    }
    directory.join(name)
}

/// Binds it, or finds it served. Only root, or who we are, can connect.
pub(crate) fn claim(path: &Path) -> Result<Socket> {
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    let _turn = take_turn(path)?;
    let mut made = make(path);
    if matches!(made, Err(Errno::ADDRINUSE)) {
        if is_served(path) {
            return Ok(Socket::Served);
        }
        remove(path);
        made = make(path);
    }
    made.map(Socket::New).call(|| format!("bind {}", path.display()))
}

/// How long a shim that was killed may take to close its socket: its connections may be closed before.
const END: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Removes it if nobody serves it.
pub(crate) fn remove_stale(path: &Path) {
    if let Ok(_turn) = take_turn(path)
        && call(path).is_none_or(|caller| caller.is_some_and(|caller| hangs_up(&caller)))
    {
        remove(path);
    }
}

/// One at a time: a socket is not served between bind(2) and listen(2), and who took it for one that is left behind
/// would remove it from under its shim.
fn take_turn(path: &Path) -> Result<OwnedFd> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let fd = open(directory, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let fd = fd.call(|| format!("open {}", directory.display()))?;
    // whoever can write there can put a socket of its own in the place of any
    let stat = fstat(&fd).call(|| format!("stat {}", directory.display()))?;
    if stat.st_mode & 0o022 != 0 || ![0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid) {
        return Err(Error::new(format!("directory of sockets {}: others may write to it", directory.display())));
    }
    flock(&fd, FlockOperation::LockExclusive).call(|| format!("flock {}", directory.display()))?;
    Ok(fd)
}

fn make_directory(directory: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let make = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    make.call(|| format!("mkdir {}", directory.display()))
}

fn make(path: &Path) -> Result<OwnedFd, Errno> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&socket, &address);
    rustix::process::umask(before);
    bound?;
    listen(&socket, 128)?;
    Ok(socket)
}

fn is_served(path: &Path) -> bool {
    call(path).is_some()
}

/// A connection to whoever serves it, Some(None) where that one has too many callers: without waiting, as a shim that is
/// stopped serves it too.
fn call(path: &Path) -> Option<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let address = SocketAddrUnix::new(path).ok()?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    match connect(&socket, &address) {
        Ok(()) => Some(Some(socket)),
        Err(Errno::AGAIN) => Some(None),
        Err(_) => None,
    }
}

/// A shim says nothing first: what can be read is its end.
fn hangs_up(caller: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(caller, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&END)), Ok(1))
}

pub(crate) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path); // one that is gone is what is wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn one_serves() {
        let directory = tempfile::tempdir().expect("directory");
        let sockets = directory.path().join("s");
        let path = path(&sockets, "/run/containerd/containerd.sock", "default", "pod");
        assert_eq!(path.file_name().expect("name").len(), 64);
        let Socket::New(first) = claim(&path).expect("socket") else { panic!("nobody serves it yet") };
        let mode = |path: &Path| std::fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
        assert_eq!((mode(&sockets), mode(&path)), (0o700, 0o600));
        assert!(matches!(claim(&path).expect("socket"), Socket::Served));
        // its shim was killed
        drop(first);
        let Socket::New(second) = claim(&path).expect("socket") else { panic!("nobody serves it any more") };
        // its shim is stopped, and so many have called that the next one would wait
        let address = SocketAddrUnix::new(&path).expect("address");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let call = || {
            let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            connect(&socket, &address).map(|()| socket)
        };
        let callers: Vec<OwnedFd> = std::iter::from_fn(|| call().ok()).take(1000).collect();
        assert!((1..1000).contains(&callers.len()), "{} have called", callers.len());
        assert!(matches!(claim(&path).expect("socket"), Socket::Served));
        remove_stale(&path);
        assert!(path.exists());
        drop(second);
        remove_stale(&path);
        assert!(!path.exists());
    }

    #[test]
    fn one_that_is_closed_late_is_removed() {
        let directory = tempfile::tempdir().expect("directory");
        let path = path(&directory.path().join("s"), "/run/containerd/containerd.sock", "default", "pod");
        let Socket::New(listener) = claim(&path).expect("socket") else { panic!("nobody serves it yet") };
        let last_moment = std::thread::spawn({
            let path = path.clone();
            move || remove_stale(&path)
        });
        // it has called by the time that there is a caller to be taken
        let mut fds = [PollFd::new(&listener, PollFlags::IN)];
        poll(&mut fds, None).expect("a caller");
        drop(listener);
        last_moment.join().expect("removed");
        assert!(!path.exists());
    }

    #[test]
    fn not_where_others_may_write() {
        let directory = tempfile::tempdir().expect("directory");
        let sockets = directory.path().join("s");
        std::fs::create_dir(&sockets).expect("directory");
        std::fs::set_permissions(&sockets, PermissionsExt::from_mode(0o777)).expect("chmod");
        let path = path(&sockets, "/run/containerd/containerd.sock", "default", "pod");
        let error = claim(&path).expect_err("a directory of everybody's").to_string();
        assert!(error.ends_with("others may write to it"), "{error}");
        assert!(!path.exists());
    }
}
