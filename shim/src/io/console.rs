//! The terminal of a process: the socket on which the runtime hands it over, and its master.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ferrun::error::{Call, Error, Result};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::IoSliceMut;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, listen, recvmsg, socket_with, sockopt,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::termios::{Winsize, tcsetwinsize};

/// `--console-socket`.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    listener: OwnedFd,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Socket {
    /// In `directory`, which is root's alone.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!("pty-{}-{count}", std::process::id()));
        let make = || {
            let address = SocketAddrUnix::new(&path)?;
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            let _ = std::fs::remove_file(&path); // of an earlier shim with our pid
            let before = rustix::process::umask(Mode::from_raw_mode(0o177));
            let bound = bind(&listener, &address);
            rustix::process::umask(before);
            bound?;
            listen(&listener, 1)?;
            Ok(listener)
        };
        let listener =
            make().map_err(|errno: rustix::io::Errno| Error::os(format!("bind {}", path.display()), errno))?;
        Ok(Self { path, listener })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The master that the runtime has sent, which has ended by now.
    ///
    /// # Errors
    /// It has not, or somebody else has.
    pub(crate) fn receive(&self) -> Result<OwnedFd> {
        let none = |errno| Error::os("the runtime sent no terminal: accept", errno);
        let connection = accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).map_err(none)?;
        let peer = sockopt::socket_peercred(&connection).call(|| "getsockopt SO_PEERCRED".to_owned())?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return Err(Error::new(format!("uid {} has sent a terminal", peer.uid.as_raw())));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 256];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(&connection, &mut [IoSliceMut::new(&mut name)], &mut control, flags).call(|| "recvmsg".to_owned())?;
        let mut fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        fds.next().and_then(|mut fds| fds.next()).ok_or_else(|| Error::new("the runtime sent no terminal"))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[derive(Debug)]
pub(super) struct Console {
    master: OwnedFd,
    /// While the process runs: one that closes its terminal for a while (systemd does) has not hung up.
    slave: RefCell<Option<OwnedFd>>,
}

impl Console {
    pub(super) fn new(master: OwnedFd) -> Result<Self> {
        let flags = fcntl_getfl(&master).call(|| "fcntl F_GETFL".to_owned())?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).call(|| "fcntl F_SETFL".to_owned())?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        Ok(Self { master, slave: RefCell::new(slave) })
    }

    /// Another fd of the master.
    pub(super) fn side(&self) -> Result<OwnedFd> {
        self.master.try_clone().call(|| "dup a terminal".to_owned())
    }

    pub(super) fn let_hang_up(&self) {
        self.slave.take();
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).call(|| "set the size of a terminal".to_owned())
    }
}
