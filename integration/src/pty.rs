//! Both ends of what the runtime relays: terminals and pipes of the case's own, and the runtime between.

use crate::case::{Context, Res, broken};
use crate::probe::Pattern;
use crate::run::{LIMIT, lossy, wait_until};
use crate::stage::{Stage, ticks};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::io::{PipeReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A terminal without a screen: what is written to the master is typed.
pub struct Pty {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Pty {
    pub fn open() -> Res<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        Ok(Self { master, slave })
    }

    /// For one of the runtime's descriptors.
    pub fn end(&self) -> Res<Stdio> {
        Ok(self.slave.try_clone()?.into())
    }

    /// Waits until whoever has the other end takes what is typed as it is.
    pub fn becomes_raw(&self) -> Res {
        crate::run::eventually("the outer terminal is raw", || {
            Ok(!tcgetattr(&self.slave)?.local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO))
        })
    }

    /// What somebody types.
    pub fn types(&self, bytes: &[u8]) -> Res {
        File::from(self.master.try_clone()?).write_all(bytes).context("type")
    }

    /// What the terminal shows.
    pub fn output(&self) -> Res<Output> {
        Ok(Output { from: self.master.try_clone()?, seen: Vec::new() })
    }
}

/// What comes out of the runtime, to be read with a deadline.
pub struct Output {
    from: OwnedFd,
    /// Read, and not asked for yet.
    seen: Vec<u8>,
}

impl From<PipeReader> for Output {
    fn from(pipe: PipeReader) -> Self {
        Self { from: pipe.into(), seen: Vec::new() }
    }
}

impl Output {
    /// Some bytes, or none at the end.
    fn more(&mut self) -> Res<usize> {
        let wait = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
        if poll(&mut [PollFd::from_borrowed_fd(self.from.as_fd(), PollFlags::IN)], Some(&wait))? == 0 {
            return broken(format!("no output for {} s", LIMIT.as_secs()));
        }
        let mut bytes = [0; 65536];
        let read = match rustix::io::read(&self.from, &mut bytes) {
            // a terminal's way to say that nobody has the other end
            Err(Errno::IO) => 0,
            result => result?,
        };
        self.seen.extend_from_slice(&bytes[..read]);
        Ok(read)
    }

    /// Waits for words, and takes all up to their end: it is returned.
    pub fn says(&mut self, words: &str) -> Res<String> {
        loop {
            if let Some(at) = self.seen.windows(words.len()).position(|w| w == words.as_bytes()) {
                let taken: Vec<u8> = self.seen.drain(..at + words.len()).collect();
                return Ok(String::from_utf8_lossy(&taken).into_owned());
            }
            if self.more()? == 0 {
                let seen = String::from_utf8_lossy(&self.seen).into_owned();
                return broken(format!("the output ended without {words:?}: {seen:?}"));
            }
        }
    }

    /// So many bytes, which are the pattern's next.
    pub fn is(&mut self, pattern: &mut Pattern, length: usize) -> Res {
        let mut done = 0;
        while done < length {
            if self.seen.is_empty() && self.more()? == 0 {
                return broken(format!("the output ended after {done} bytes of {length}"));
            }
            let now = self.seen.len().min(length - done);
            let mut want = vec![0; now];
            pattern.fill(&mut want);
            if let Some(at) = (0..now).find(|&at| self.seen[at] != want[at]) {
                return broken(format!("byte {} is {:#x}, not {:#x}", done + at, self.seen[at], want[at]));
            }
            self.seen.drain(..now);
            done += now;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub fn ends(&mut self) -> Res {
        while self.more()? > 0 {}
        match self.seen.is_empty() {
            true => Ok(()),
            false => broken(format!("{} bytes too many: {:?}", self.seen.len(), String::from_utf8_lossy(&self.seen))),
        }
    }
}

/// The runtime between its descriptors.
pub struct Relay {
    child: Child,
    errors: PathBuf,
}

impl Relay {
    /// stderr is a file, if the command does not close it.
    pub fn start(stage: &Stage<'_>, mut command: Command, stdin: Stdio, stdout: Stdio) -> Res<Self> {
        let errors = stage.dir.join("stderr");
        let child = command.stdin(stdin).stdout(stdout).stderr(File::create(&errors)?).spawn()?;
        Ok(Self { child, errors })
    }

    /// Typed into a terminal, read from a pipe.
    pub fn typed(stage: &Stage<'_>) -> Res<(Self, Pty, Output)> {
        let pty = Pty::open()?;
        let (output, stdout) = std::io::pipe()?;
        let relay = Self::start(stage, stage.command(), pty.end()?, stdout.into())?;
        Ok((relay, pty, output.into()))
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its end: the exit status must be this.
    pub fn exits(&mut self, code: i32) -> Res {
        let Some(status) = wait_until(&mut self.child, Instant::now() + LIMIT)? else {
            return broken(format!("the runtime does not end; it says {:?}", lossy(&self.errors)));
        };
        if status.code() == Some(code) {
            return Ok(());
        }
        broken(format!("{status}, want {code}; it says {:?}", lossy(&self.errors)))
    }

    /// A runtime that has nothing to do does nothing for a second.
    pub fn rests(&mut self) -> Res {
        let begin = ticks(self.pid())?;
        std::thread::sleep(Duration::from_secs(1));
        if self.child.try_wait()?.is_some() {
            return broken(format!("the runtime has ended; it says {:?}", lossy(&self.errors)));
        }
        match ticks(self.pid())? - begin {
            0..10 => Ok(()),
            used => broken(format!("the runtime used {used} ticks of 10 ms in a second")),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
