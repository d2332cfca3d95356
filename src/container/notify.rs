//! sd_notify(3) for containers: that one is ready, as it says to a socket of ours, is told to the caller's
//! NOTIFY_SOCKET. Nothing else is: the pids, descriptors and times of a container are none of the host's.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, chmodat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};

use super::label;
use crate::error::{Call, Context, Result};
use crate::state::store::{Entry, NOTIFY};

const SOCKET: &str = "notify.sock";

/// A manager that reads nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the directory that the container sees. The socket comes with the start: the process that reads it
/// must still be there.
pub fn prepare(entry: &Entry) -> Result<()> {
    mkdirat(entry.directory(), NOTIFY, Mode::from_raw_mode(0o755))
        .call(|| "mkdir".to_owned())
        .context(|| "prepare for notifications".to_owned())
}

/// A container's word on its way to the caller's socket.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    to: OsString,
    /// None: the container's init.
    main_pid: Option<u32>,
    /// What comes afterwards is read, so that the container never waits for us, and dropped.
    ready: Cell<bool>,
}

impl Notify {
    /// Listens for the container of `entry`, whose program does not run yet; None when it was not created for
    /// that, or nobody wants to hear. Its socket gets SELinux's `label`.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn listen(entry: &Entry, label: Option<&str>) -> Result<Option<Self>> {
        let Some(to) = std::env::var_os("NOTIFY_SOCKET").filter(|to| !to.is_empty()) else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match openat(entry.directory(), NOTIFY, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            result => result.call(|| format!("open {NOTIFY}"))?,
        };
        let listen = || {
            // of a start that failed
            let _ = unlinkat(&directory, SOCKET, AtFlags::empty());
            // an address has room for 107 bytes: less than a long id below a long root
            let path = format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd());
            let socket = label::sockets(label, || UnixDatagram::bind(path).call(|| "bind".to_owned()))?;
            socket.set_nonblocking(true).call(|| "ioctl FIONBIO".to_owned())?;
            chmodat(&directory, SOCKET, Mode::from_raw_mode(0o777), AtFlags::empty()).call(|| "chmod".to_owned())?;
            Ok(Some(Self { socket, to, main_pid: None, ready: Cell::new(false) }))
        };
        listen().context(|| "listen for notifications".to_owned())
    }

    /// In the foreground the manager's child is this process, which ends as the container does.
    #[must_use]
    pub fn of_this_process(self) -> Self {
        Self { main_pid: Some(std::process::id()), ..self }
    }

    /// Reads one message; the first that says so makes the container of `init` a ready one. True: it is. That the
    /// manager cannot be told is no reason to end the container.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn forward(&self, init: i32) -> Result<bool> {
        let mut buffer = [0; 4096];
        let length = match self.socket.recv(&mut buffer) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            result => result.call(|| "recv".to_owned()).context(|| "read a notification".to_owned())?,
        };
        if !self.ready.get() && buffer[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") {
            self.ready.set(true);
            // in one message: no moment at which the manager would watch another process
            let main_pid = self.main_pid.unwrap_or(init.unsigned_abs());
            let told = self.manager().and_then(|manager| {
                manager.send(format!("READY=1\nMAINPID={main_pid}\n").as_bytes()).call(|| "send".to_owned())
            });
            self.warn_unless(told.map(drop));
        }
        Ok(self.ready.get())
    }

    /// Forwards until the container is ready or has ended, and the manager knows.
    ///
    /// # Errors
    /// Those of poll(2) and recv(2).
    pub fn until_ready(&self, pid: i32, init: BorrowedFd<'_>) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                result => result.call(|| "poll".to_owned()).context(|| "wait for notifications".to_owned())?,
            };
            let (said, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if said && self.forward(pid)? {
                self.warn_unless(self.manager().and_then(|manager| barrier(&manager)));
                return Ok(());
            }
            if ended && !said {
                return Ok(());
            }
        }
    }

    /// `to` is a path, or an abstract name after `@`.
    fn manager(&self) -> Result<UnixDatagram> {
        let socket = UnixDatagram::unbound().call(|| "socket".to_owned())?;
        socket.set_write_timeout(Some(PATIENCE)).call(|| "setsockopt SO_SNDTIMEO".to_owned())?;
        let address = match self.to.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&self.to),
        };
        address.and_then(|address| socket.connect_addr(&address)).call(|| "connect".to_owned())?;
        Ok(socket)
    }

    fn warn_unless(&self, told: Result<()>) {
        if let Err(error) = told {
            tracing::warn!("{}", error.within(format!("tell {} that the container is ready", self.to.display())));
        }
    }
}

/// sd_notify_barrier(3): systemd does not know who said something once that process has left. It closes the pipe
/// when it gets there.
fn barrier(manager: &UnixDatagram) -> Result<()> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe".to_owned())?;
    let fds = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(manager, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL).call(|| "sendmsg".to_owned())?;
    drop(theirs);
    let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    // whoever does not know barriers keeps nobody waiting for longer
    poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&limit)).call(|| "poll".to_owned()).map(drop)
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
