//! The container's terminal in the foreground: relayed to and from the caller's stdin and stdout, whose terminal is
//! raw meanwhile. Nothing here waits: neither a reader that stops nor a program that does not read may keep signals
//! from being passed on.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, open};
use rustix::io::{Errno, read, write};
use rustix::process::getpgrp;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Call, Result};

/// More than what waits in a terminal can be: 64 KiB on its way and 4 KiB to be read (drivers/tty of Linux 6).
const LAST_WORDS: usize = 128 * 1024;

/// The caller's terminal (if it is one) in raw mode, and the container's.
#[derive(Debug)]
pub struct Terminal {
    master: OwnedFd,
    /// Kept open: a program that closes its terminal for a while (systemd does) has not hung up.
    _slave: Option<OwnedFd>,
    /// Our own open file of what stdout is: O_NONBLOCK on the caller's would reach all who share it.
    out: Option<OwnedFd>,
    /// The settings of the caller's terminal to go back to.
    before: Option<Termios>,
    /// It has ours.
    raw: Cell<bool>,
    input: Flow,
    output: Flow,
}

impl Terminal {
    /// # Errors
    /// fcntl(2).
    pub fn new(master: OwnedFd) -> Result<Self> {
        let flags = fcntl_getfl(&master).call(|| "fcntl F_GETFL".to_owned())?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).call(|| "fcntl F_SETFL".to_owned())?;
        let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).ok();
        let before = if isatty(stdin()) { tcgetattr(stdin()).ok() } else { None };
        let raw = Cell::new(false);
        let (input, output) = (Flow::new(), Flow::new());
        let terminal = Self { master, _slave: slave, out: reopened_stdout(), before, raw, input, output };
        terminal.make_raw();
        Ok(terminal)
    }

    /// In the background this stops us (SIGTTOU), as it would any program, until the shell lets us go on. It fails
    /// when there is no shell any more that could: then the terminal is not ours to change.
    fn make_raw(&self) {
        if let Some(before) = &self.before {
            let mut raw = before.clone();
            raw.make_raw();
            self.raw.set(tcsetattr(stdin(), OptionalActions::Now, &raw).is_ok());
            fit(&self.master);
        }
    }

    /// After a stop: who had the terminal meanwhile has set it as they like.
    pub fn go_on(&self) {
        self.raw.set(false);
        self.make_raw_in_front();
    }

    /// In the background nothing is changed: that would be another stop.
    fn make_raw_in_front(&self) {
        if tcgetpgrp(stdin()).is_ok_and(|group| group == getpgrp()) {
            self.make_raw();
        }
    }

    /// Back to what the caller's was.
    pub fn restore(&self) {
        if let Some(before) = &self.before
            && self.raw.replace(false)
        {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }

    /// The caller's has another size now.
    pub fn resize(&self) {
        fit(&self.master);
    }

    /// What [`Terminal::relay`] waits for.
    pub fn wanted(&self) -> [Option<PollFd<'_>>; 2] {
        let (master, out) = (self.master.as_fd(), writable(self.out.as_ref()));
        [self.input.wanted(stdin(), master), self.output.wanted(master, out)]
    }

    /// Moves what can be moved of input and of output. False: the caller's terminal has hung up.
    pub fn relay(&mut self, ready: [bool; 2]) -> bool {
        if ready[0] {
            if self.before.is_some() && !self.raw.get() {
                // a shell says nothing to a job in the background that it brings to the front
                self.make_raw_in_front();
            }
            self.input.step(stdin(), self.master.as_fd());
        }
        if ready[1] {
            let out = writable(self.out.as_ref());
            self.output.step(self.master.as_fd(), out);
        }
        // a raw terminal knows no other end of file
        self.input.open || self.before.is_none()
    }

    /// The container has ended: what it said already is left to be told.
    pub fn last_words(&mut self) {
        self.output.left = Some(LAST_WORDS);
    }

    pub fn is_done(&self) -> bool {
        !self.output.open && self.output.is_empty()
    }

    /// Output that waits for the caller to take it.
    pub fn unwritten(&self) -> Option<PollFd<'_>> {
        if self.output.is_empty() { None } else { self.wanted()[1].clone() }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Gives the container's terminal the size of the caller's. A size that cannot be had is not worth an error.
pub fn fit(master: impl AsFd) {
    if let Ok(size) = tcgetwinsize(stdin()).or_else(|_| tcgetwinsize(stdout())) {
        let _ = tcsetwinsize(master, size);
    }
}

fn writable(out: Option<&OwnedFd>) -> BorrowedFd<'_> {
    match out {
        Some(out) => out.as_fd(),
        None => stdout(),
    }
}

/// None where writing does not wait (files) or where there is no way to it (sockets, terminals of other users):
/// there a short write after poll(2) must do.
fn reopened_stdout() -> Option<OwnedFd> {
    let kind = FileType::from_raw_mode(fstat(stdout()).ok()?.st_mode);
    if kind != FileType::Fifo && !isatty(stdout()) {
        return None;
    }
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    open("/proc/self/fd/1", flags, Mode::empty()).ok()
}

/// Bytes on their way: what has been read and not yet been written. No more is read before that.
#[derive(Debug)]
struct Flow {
    buffer: [u8; 4096],
    start: usize,
    end: usize,
    /// There is more to read.
    open: bool,
    /// The reader has gone: what comes is thrown away, so that the writer can go on.
    deaf: bool,
    /// How much may still be read.
    left: Option<usize>,
}

impl Flow {
    fn new() -> Self {
        Self { buffer: [0; 4096], start: 0, end: 0, open: true, deaf: false, left: None }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn forget(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    fn wanted<'fd>(&self, from: BorrowedFd<'fd>, to: BorrowedFd<'fd>) -> Option<PollFd<'fd>> {
        if !self.is_empty() {
            Some(PollFd::from_borrowed_fd(to, PollFlags::OUT))
        } else {
            self.open.then(|| PollFd::from_borrowed_fd(from, PollFlags::IN))
        }
    }

    /// Writes what there is, or reads.
    fn step(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
        if self.is_empty() { self.read(from) } else { self.write(to) }
    }

    fn read(&mut self, from: BorrowedFd<'_>) {
        self.forget();
        match read(from, &mut self.buffer) {
            Ok(0) => self.open = false,
            Ok(length) => {
                self.end = if self.deaf { 0 } else { length };
                if let Some(left) = &mut self.left {
                    *left = left.saturating_sub(length);
                    self.open = *left > 0;
                }
            }
            Err(Errno::INTR) => {}
            // the last words have been read
            Err(Errno::AGAIN) => self.open = self.left.is_none(),
            Err(_) => self.open = false,
        }
    }

    fn write(&mut self, to: BorrowedFd<'_>) {
        match write(to, &self.buffer[self.start..self.end]) {
            Ok(written) => self.start += written,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                self.deaf = true;
                self.forget();
            }
        }
    }
}
