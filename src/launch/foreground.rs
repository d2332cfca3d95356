//! A container in the foreground: signals passed on, the terminal relayed, orphans reaped, the exit status.
//! One process, one thread, one poll loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::{Call, Context, Result};
use crate::sys::clone::Child;
use crate::sys::pidfd;
use crate::sys::signal::BrokenPipesIgnored;

use crate::container::notify::Notify;

/// Signals that arrive from now on wait to be read. To be called before the clone: a container that ends at
/// once would be missed otherwise.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    pub fn block() -> Result<Self> {
        let all = SigSet::all();
        all.thread_block().call(|| "sigprocmask".to_owned())?;
        SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map(Self)
            .call(|| "signalfd".to_owned())
    }
}

/// Waits for the container's end: its exit status, or 128 + the signal that ended it.
pub fn supervise(child: &Child, signals: &Signals, console: Option<OwnedFd>, notify: Option<&Notify>) -> Result<i32> {
    // a reader of our output that goes away is no reason to leave the container alone
    let _ignored = BrokenPipesIgnored::begin();
    let mut terminal = console.map(Terminal::new).transpose()?;
    loop {
        if let Some(status) = handle_signals(child, signals, terminal.as_ref())? {
            if let Some(terminal) = &mut terminal {
                terminal.drain();
            }
            return Ok(status);
        }
        let mut fds = vec![PollFd::from_borrowed_fd(signals.0.as_fd(), PollFlags::IN)];
        if let Some(notify) = notify {
            fds.push(PollFd::from_borrowed_fd(notify.as_fd(), PollFlags::IN));
        }
        let relay = fds.len();
        if let Some(terminal) = &terminal {
            fds.extend(terminal.wanted());
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            result => result.call(|| "poll".to_owned())?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(notify) = notify
            && ready[1]
        {
            notify.forward(child.pid)?;
        }
        if let Some(terminal) = &mut terminal {
            terminal.relay(&ready[relay..])?;
        }
    }
}

/// Reads all signals that wait. The status, when the container has ended.
fn handle_signals(child: &Child, signals: &Signals, terminal: Option<&Terminal>) -> Result<Option<i32>> {
    while let Some(info) = signals.0.read_signal().call(|| "read signalfd".to_owned())? {
        match info.ssi_signo as i32 {
            libc::SIGCHLD => {
                if let Some(status) = reap(child)? {
                    return Ok(Some(status));
                }
            }
            // our own broken pipe, and what the Go runtime of a caller sends to itself
            libc::SIGPIPE | libc::SIGURG => {}
            libc::SIGWINCH if terminal.is_some() => {
                if let Some(terminal) = terminal {
                    terminal.resize();
                }
            }
            signal => match pidfd::send_signal(&child.pidfd, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => {
                    return Err(errno).call(|| "kill".to_owned()).context(|| format!("pass on signal {signal}"));
                }
            },
        }
    }
    Ok(None)
}

/// Reaps every child that has ended: as a subreaper we get the container's orphans.
fn reap(child: &Child) -> Result<Option<i32>> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid.as_raw() == child.pid => ended = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child.pid => ended = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::ECHILD) => return Ok(ended),
            // a real-time signal ended it, which the crate's type has no name for
            Err(nix::errno::Errno::EINVAL) => return pidfd::wait(&child.pidfd).call(|| "waitid".to_owned()).map(Some),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).call(|| "waitpid".to_owned()),
        }
    }
}

/// The caller's terminal (if it is one) in raw mode, and the container's.
struct Terminal {
    master: OwnedFd,
    /// What to set the caller's back to.
    before: Option<Termios>,
    stdin_open: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self> {
        let mut terminal = Self { master, before: None, stdin_open: true };
        if isatty(stdin()) {
            let before = tcgetattr(stdin()).call(|| "tcgetattr".to_owned())?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw).call(|| "tcsetattr".to_owned())?;
            terminal.before = Some(before);
            terminal.resize();
        }
        Ok(terminal)
    }

    /// A size that cannot be had is not worth an error.
    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(stdin()) {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    fn wanted(&self) -> Vec<PollFd<'_>> {
        let mut fds = vec![PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
        if self.stdin_open {
            fds.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
        fds
    }

    fn relay(&mut self, ready: &[bool]) -> Result<()> {
        // EIO: nobody has the slave open just now, or any more; the end is told by SIGCHLD
        if ready.first() == Some(&true) && matches!(copy(self.master.as_fd(), stdout()), Err(Errno::IO)) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if ready.get(1) == Some(&true) && !matches!(copy(stdin(), self.master.as_fd()), Ok(1..) | Err(Errno::AGAIN)) {
            self.stdin_open = false;
        }
        Ok(())
    }

    /// What the container said last.
    fn drain(&mut self) {
        while let Ok(1..) = copy(self.master.as_fd(), stdout()) {}
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut buffer = [0; 8192];
    let length = match rustix::io::read(from, &mut buffer) {
        Err(Errno::INTR) => return Err(Errno::AGAIN),
        result => result?,
    };
    let mut left = &buffer[..length];
    while !left.is_empty() {
        match rustix::io::write(to, left) {
            Ok(written) => left = &left[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(length)
}
