//! Closing fds in bulk: hundreds of close(2) calls are a good part of what a birth would cost.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::exec::close_range;

/// Numbers below this are left to the one close_range(2) before the execve; a process may have only so many
/// fds, so the others are closed at once.
const LEFT_OPEN: i32 = 256;

/// A short-lived fd of the init, which closes everything in one call before it waits for the start.
#[derive(Debug)]
pub struct Loose(ManuallyDrop<OwnedFd>);

impl From<OwnedFd> for Loose {
    fn from(fd: OwnedFd) -> Self {
        Self(ManuallyDrop::new(fd))
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        if self.0.as_raw_fd() >= LEFT_OPEN {
            // SAFETY: dropped once, here, and never used again.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

impl Deref for Loose {
    type Target = OwnedFd;

    fn deref(&self) -> &OwnedFd {
        &self.0
    }
}

impl AsFd for Loose {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Closes all: with one call when their numbers follow each other.
pub fn close_all(fds: Vec<OwnedFd>) {
    let numbers = || fds.iter().map(|fd| fd.as_raw_fd() as u32);
    if let (Some(first), Some(last)) = (numbers().min(), numbers().max())
        && (last - first) as usize + 1 == fds.len()
        && close_range(first, last).is_ok()
    {
        fds.into_iter().for_each(std::mem::forget);
    }
}
