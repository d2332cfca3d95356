//! Sockets that a caller gives the runtime: console, pidfd, seccomp listener,
//! sd_notify.

use crate::case::{Context, Res, broken};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::fs;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::time::{Duration, Instant};

/// Accepts one connection and takes what comes with the first message: the
/// bytes and the descriptors.
pub fn receive(listener: &UnixListener) -> Res<(Vec<u8>, Vec<OwnedFd>)> {
    listener.set_nonblocking(true)?;
    let end = Instant::now() + Duration::from_secs(30);
    let stream = loop {
        match listener.accept() {
            Ok((s, _)) => break s,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(e) => return Err(e).context("nobody connects to the socket"),
        }
    };
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let (mut data, mut fds) = (Vec::new(), Vec::new());
    loop {
        let mut bytes = vec![0; 64 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let n = recvmsg(&stream, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?.bytes;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        data.extend_from_slice(&bytes[..n]);
        if n == 0 || !fds.is_empty() {
            break;
        }
    }
    if fds.is_empty() {
        return broken("no descriptor came over the socket");
    }
    Ok((data, fds))
}

/// Waits for one datagram.
pub fn datagram(socket: &UnixDatagram) -> Res<String> {
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut bytes = [0; 4096];
    let n = socket.recv(&mut bytes).context("no datagram came")?;
    Ok(String::from_utf8_lossy(&bytes[..n]).into_owned())
}

pub fn listen(path: &Path) -> Res<UnixListener> {
    let socket = UnixListener::bind(path).context(path.display())?;
    for_all(path)?;
    Ok(socket)
}

pub fn hear(path: &Path) -> Res<UnixDatagram> {
    let socket = UnixDatagram::bind(path).context(path.display())?;
    for_all(path)?;
    Ok(socket)
}

/// Whoever the runtime is may connect.
fn for_all(path: &Path) -> Res {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o666))?)
}
