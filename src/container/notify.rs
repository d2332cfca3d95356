//! sd_notify(3) for containers: what they say to a socket of ours goes on to the caller's NOTIFY_SOCKET.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, mkdirat};

use super::label;
use crate::error::{Call, Context, Result};
use crate::state::store::{Entry, NOTIFY};

const SOCKET: &str = "notify.sock";

/// Makes the directory that the container sees. The socket comes with the start: the process that reads it
/// must still be there.
pub fn prepare(entry: &Entry) -> Result<()> {
    mkdirat(entry.directory(), NOTIFY, Mode::from_raw_mode(0o755))
        .call(|| "mkdir".to_owned())
        .context(|| "prepare for notifications".to_owned())
}

/// A container's messages on their way to the caller's socket.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Notify {
    /// Listens for the container of `entry`; None when it was not created for that, or nobody wants to hear.
    /// Its socket gets SELinux's `label`.
    pub fn listen(entry: &Entry, label: Option<&str>) -> Result<Option<Self>> {
        let directory = entry.path.join(NOTIFY);
        let Some(to) = std::env::var_os("NOTIFY_SOCKET").filter(|to| !to.is_empty()) else { return Ok(None) };
        if rustix::fs::lstat(&directory).is_err() {
            return Ok(None);
        }
        let listen = || {
            let path = directory.join(SOCKET);
            let bind = || UnixDatagram::bind(&path).call(|| format!("bind {}", path.display()));
            let socket = label::sockets(label, bind)?;
            rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).call(|| "chmod".to_owned())?;
            Ok(Some(Self { socket, to: address(&to)? }))
        };
        listen().context(|| "listen for notifications".to_owned())
    }

    /// Forwards one message. True: the container said that it is ready.
    pub fn forward(&self, pid: i32) -> Result<bool> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).call(|| "recv".to_owned())?;
        let ready = buffer[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1");
        let sender = UnixDatagram::unbound().call(|| "socket".to_owned())?;
        if ready {
            // the pid that the service manager is to watch is the container's
            sender.send_to_addr(format!("MAINPID={pid}\n").as_bytes(), &self.to).call(|| "send".to_owned())?;
        }
        sender.send_to_addr(&buffer[..length], &self.to).call(|| "send".to_owned())?;
        Ok(ready)
    }

    /// Forwards until the container is ready or has ended.
    pub fn until_ready(&self, pid: i32, init: BorrowedFd<'_>) -> Result<()> {
        let forward = || loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::from_borrowed_fd(init, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result.call(|| "poll".to_owned())?,
            };
            let (said, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if said && self.forward(pid)? || ended && !said {
                return Ok(());
            }
        };
        forward().context(|| "forward notifications".to_owned())
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A path, or an abstract name after `@`.
fn address(to: &OsString) -> Result<SocketAddr> {
    match to.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(to),
    }
    .call(|| format!("NOTIFY_SOCKET {}", to.display()))
}
