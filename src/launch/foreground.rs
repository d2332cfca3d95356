//! A container in the foreground: signals passed on, the terminal relayed, orphans reaped, the exit status.
//! One process, one thread, one poll loop.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait as wait_for_child};

use crate::error::{Call, Result};
use crate::sys::clone::Child;
use crate::sys::pidfd;
use crate::sys::signal::{self, BrokenPipesIgnored};

use crate::container::notify::Notify;

use super::terminal::Terminal;

/// Signals that arrive from now on wait to be read. To be called before the clone: a container that ends at
/// once would be missed otherwise.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// # Errors
    /// sigprocmask(2), signalfd(2).
    pub fn block() -> Result<Self> {
        // these two stop who uses a terminal in the background
        signal::read_all_but(&[libc::SIGTTIN, libc::SIGTTOU]).map(Self).call(|| "signalfd".to_owned())
    }

    fn wanted(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)
    }

    /// The number of one that waits.
    fn next(&self) -> Result<Option<i32>> {
        signal::next(&self.0).call(|| "read signalfd".to_owned())
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
                last_words(terminal, signals)?;
            }
            return Ok(status);
        }
        let [input, output] = terminal.as_ref().map_or([None, None], Terminal::wanted);
        let told = notify.map(|notify| PollFd::from_borrowed_fd(notify.as_fd(), PollFlags::IN));
        let [_, told, input, output] = wait([Some(signals.wanted()), told, input, output])?;
        if let Some(notify) = notify
            && told
        {
            notify.forward(child.pid)?;
        }
        if let Some(relay) = &mut terminal
            && !relay.relay([input, output])
        {
            // the container's hangs up as well
            terminal = None;
        }
    }
}

/// Which of the fds are ready.
fn wait<const N: usize>(fds: [Option<PollFd<'_>>; N]) -> Result<[bool; N]> {
    let present = fds.each_ref().map(Option::is_some);
    let mut fds: Vec<_> = fds.into_iter().flatten().collect();
    match poll(&mut fds, None) {
        Err(Errno::INTR) => return Ok([false; N]),
        result => result.call(|| "poll".to_owned())?,
    };
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(present.map(|present| present && ready.next() == Some(true)))
}

/// What the container said last. Who does not want to wait for a reader that does not read sends us a signal.
fn last_words(terminal: &mut Terminal, signals: &Signals) -> Result<()> {
    terminal.last_words();
    while !terminal.is_done() {
        let unwritten = terminal.unwritten();
        let waits = unwritten.is_some();
        let [_, reader] = if waits { wait([Some(signals.wanted()), unwritten])? } else { [false; 2] };
        while let Some(signal) = signals.next()? {
            if [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM].contains(&signal) {
                return Ok(());
            }
        }
        terminal.relay([false, reader || !waits]);
    }
    Ok(())
}

/// Reads all signals that wait. The status, when the container has ended.
fn handle_signals(child: &Child, signals: &Signals, terminal: Option<&Terminal>) -> Result<Option<i32>> {
    while let Some(signal) = signals.next()? {
        match signal {
            libc::SIGCHLD => {
                if let Some(status) = reap(child)? {
                    return Ok(Some(status));
                }
                continue;
            }
            // our own broken pipe, and what the Go runtime of a caller sends to itself
            libc::SIGPIPE | libc::SIGURG => continue,
            libc::SIGWINCH if let Some(terminal) = terminal => {
                terminal.resize();
                continue;
            }
            libc::SIGCONT => terminal.into_iter().for_each(Terminal::go_on),
            _ => {}
        }
        match pidfd::send_signal(&child.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => tracing::warn!("pass on signal {signal} to the container: {errno}"),
        }
        if signal == libc::SIGTSTP {
            terminal.into_iter().for_each(Terminal::restore);
            stop_here()?;
        }
    }
    Ok(None)
}

/// Lets SIGTSTP do what it does to any program: nothing where there is no shell that could let us go on.
fn stop_here() -> Result<()> {
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    raise(Signal::SIGTSTP).call(|| "raise".to_owned())?;
    stop.thread_unblock().and_then(|()| stop.thread_block()).call(|| "sigprocmask".to_owned())
}

/// Reaps every child that has ended: as a subreaper we get the container's orphans.
fn reap(child: &Child) -> Result<Option<i32>> {
    let mut ended = None;
    loop {
        match wait_for_child(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == child.pid => {
                ended = status.exit_status().or(status.terminating_signal().map(|signal| 128 + signal));
            }
            Ok(None) | Err(Errno::CHILD) => return Ok(ended),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| "wait4".to_owned()),
        }
    }
}
