//! What the parent and the init say to each other: one JSON message a packet, over a SOCK_SEQPACKET pair.
//!
//! Both ends are close-on-exec, so the end of the stream tells the parent that the execve worked, or that
//! the init is dead.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use crate::error::{Call, Error, Result};
use crate::plan::step::Event;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Parent: go on. The init learns its pid as the parent sees it.
    Go { pid: i32 },
    /// Init: this much is done.
    Event(Event),
    /// Courier: the fd with this message is the pidfd of the process that goes on in my place.
    Spawned { pid: i32 },
    /// Init: that many trees are to be locked.
    Trees { count: usize },
    /// [`super::lock`]: the fd with this message is the next of the trees, there and back.
    Tree,
    /// Init: the fd with this message is a seccomp listener.
    Listener,
    /// Init: the fd with this message is the master of the terminal.
    Console,
    /// Init: this went wrong, and I am gone.
    Fault(Error),
}

impl Message {
    /// From the bytes of one packet. The init shares its memory with nobody, but it has been in the container.
    ///
    /// # Errors
    /// It is no message.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes)
            .map_err(|error| Error::new(error.to_string()).within("message of the container's init"))
    }
}

/// Errors longer than this are cut by whoever makes them; a packet is never split.
const MAX_MESSAGE: usize = 16 * 1024;

#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// The parent's end and the init's.
    pub fn pair() -> Result<(Self, Self)> {
        let (parent, init) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .call(|| "socketpair".to_owned())?;
        Ok((Self(parent), Self(init)))
    }

    pub fn send(&self, message: &Message) -> Result<()> {
        self.send_with(message, None)
    }

    /// # Errors
    /// EPIPE: the other end is gone.
    pub fn send_with(&self, message: &Message, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let text = serde_json::to_vec(message).map_err(|error| Error::new(error.to_string()))?;
        send(self.0.as_fd(), &text, fd)
    }

    /// The next message, or None at the end of the stream.
    pub fn receive(&self) -> Result<Option<(Message, Option<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            match recvmsg(&self.0, &mut [std::io::IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
            {
                Err(Errno::INTR) => {}
                // a peer that died with unread data in its buffer
                Err(Errno::CONNRESET) => return Ok(None),
                result => break result.call(|| "recvmsg".to_owned())?,
            }
        };
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        if received.bytes == 0 {
            return Ok(None);
        }
        Ok(Some((Message::parse(&buffer[..received.bytes])?, fd)))
    }
}

/// Sends `fd` with `text` over a connected socket, as terminals, pidfds and seccomp listeners are handed over.
pub fn send_fd(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    send(socket, text, Some(fd))
}

fn send(socket: BorrowedFd<'_>, text: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<()> {
    let fds: &[BorrowedFd<'_>] = fd.as_slice();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL).call(|| "sendmsg".to_owned())?;
    Ok(())
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
