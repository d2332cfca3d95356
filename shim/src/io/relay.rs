//! Moves bytes from one open file to another, one of which is a pipe, without touching them: splice(2).
//!
//! Where the reader stops, the relay stops, and nothing else: what was not taken stays in the pipe.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// As much as a pipe holds.
const CHUNK: usize = 64 << 10;

/// An end of a relay: a pipe or terminal, which is waited for.
#[derive(Debug)]
pub(super) struct End(AsyncFd<OwnedFd>);

impl End {
    pub(super) fn new(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        crate::sys::watch(fd, interest).map(Self)
    }

    /// Forgets that it was ready, then waits until it is: a relay that found it not to be calls this.
    async fn await_change(&self, write: bool) -> io::Result<()> {
        let fd = &self.0;
        let mut guard = if write { fd.writable().await? } else { fd.readable().await? };
        // an event since our look at it is still to come: nothing but this thread's wait brings it in
        if !is_ready(fd.as_fd(), write) {
            guard.clear_ready();
            drop(guard);
            drop(if write { fd.writable().await? } else { fd.readable().await? });
        }
        Ok(())
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Hung up and failed is ready: the next call says so.
pub(super) fn is_ready(fd: BorrowedFd<'_>, write: bool) -> bool {
    let wanted = if write { PollFlags::OUT } else { PollFlags::IN };
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    !matches!(poll(&mut fds, Some(&now)), Ok(0))
}

/// What stopped a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The source is at its end.
    Ended,
    /// It was asked to, and there is nothing in the source any more.
    Asked,
    /// Nobody takes what it brings.
    Refused,
}

/// Asks a relay to end: once it finds its source empty.
#[derive(Debug, Default)]
pub(super) struct Brake {
    pulled: Cell<bool>,
    notify: Notify,
}

impl Brake {
    pub(super) fn pull(&self) {
        self.pulled.set(true);
        self.notify.notify_waiters();
    }

    pub(super) async fn pulled(&self) {
        while !self.pulled.get() {
            self.notify.notified().await;
        }
    }
}

/// Appends to a file what a terminal says, as long as [`relay`] would, and counts the bytes: splice(2) does not append.
pub(super) async fn append(source: &End, mut file: File, brake: &Brake, moved: &Cell<u64>) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let done = match rustix::io::read(source, &mut buffer) {
            // a terminal that nobody has open any more
            Ok(0) | Err(Errno::IO) => return,
            Ok(bytes) => {
                moved.set(moved.get().wrapping_add(bytes as u64));
                let done = file.write_all(&buffer[..bytes]);
                // others have their turn
                tokio::task::yield_now().await;
                done
            }
            Err(Errno::INTR) => Ok(()),
            Err(Errno::AGAIN) => tokio::select! {
                biased;
                waited = source.await_change(false) => waited,
                () = brake.pulled() => return,
            },
            Err(errno) => Err(errno.into()),
        };
        if let Err(error) = done {
            return crate::log::warn(format!("append output to a file: {error}"));
        }
    }
}

/// Relays until one of [`Stop`], and counts the bytes.
pub(super) async fn relay(source: &End, sink: &End, brake: &Brake, moved: &Cell<u64>) -> Stop {
    loop {
        match splice(source, None, sink, None, CHUNK, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
            Ok(0) => return Stop::Ended,
            Ok(bytes) => {
                moved.set(moved.get().wrapping_add(bytes as u64));
                // others have their turn
                tokio::task::yield_now().await;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if is_ready(source.as_fd(), false) => {
                if is_ready(sink.as_fd(), true) {
                    // a splice wants a whole free page, a poll does not: let the reader go on
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                } else if sink.await_change(true).await.is_err() {
                    return Stop::Refused;
                }
            }
            Err(Errno::AGAIN) => {
                let waited = tokio::select! {
                    biased;
                    waited = source.await_change(false) => waited,
                    () = brake.pulled() => return Stop::Asked,
                };
                if waited.is_err() {
                    return Stop::Ended;
                }
            }
            // a terminal that nobody has open any more
            Err(Errno::IO) => return Stop::Ended,
            Err(_) => return Stop::Refused,
        }
    }
}
