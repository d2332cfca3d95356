//! The FIFOs through which containerd's clients read and write. They come and go, and containerd with them.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferrun::error::{Call, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};

/// Open for reading and writing, so that opening waits for nobody and no reader's going is an error. None: it is no
/// FIFO.
pub(super) fn open_both(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = match open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::ISDIR) => return Ok(None),
        fd => fd.call(|| format!("open {}", path.display()))?,
    };
    let kind = FileType::from_raw_mode(fstat(&fd).call(|| "fstat".to_owned())?.st_mode);
    Ok((kind == FileType::Fifo).then_some(fd))
}

/// The same FIFO, one of its ends.
pub(super) fn reopen(fifo: BorrowedFd<'_>, end: OFlags) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fifo.as_raw_fd());
    open(&*path, end | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).call(|| "open a FIFO again".to_owned())
}

/// Its writing end.
pub(super) fn writer(fifo: BorrowedFd<'_>) -> Result<OwnedFd> {
    reopen(fifo, OFlags::WRONLY)
}

/// Whether somebody has it open for reading: we do not.
pub(super) fn has_reader(writer: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(writer, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = poll(&mut fds, Some(&now));
    !fds[0].revents().contains(PollFlags::ERR)
}
