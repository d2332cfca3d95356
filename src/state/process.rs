//! A process that is told from a later one with the same pid.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::{Call, Error, Result};
use crate::sys::{pidfd, proc};

/// A pid and when its process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks after boot: proc_pid_stat(5).
    pub start_time: u64,
}

impl Process {
    /// The running process `pid`, which cannot be reaped meanwhile (it is our child).
    pub fn of(pid: i32) -> Result<Self> {
        let stat = proc::stat(pid).call(|| format!("read /proc/{pid}/stat"))?;
        Ok(Self { pid, start_time: stat.start_time })
    }

    /// Whether it still is: neither gone, nor a zombie, nor another process by now.
    pub fn is_alive(&self) -> bool {
        proc::stat(self.pid).is_ok_and(|stat| stat.start_time == self.start_time && !matches!(stat.state, b'Z' | b'X'))
    }

    /// As [`Self::is_alive`]; one that has begun to end is not.
    pub fn runs(&self) -> bool {
        self.is_alive() && proc::stat(self.pid).is_ok_and(|stat| !stat.exiting)
    }

    /// A pidfd of just this process; None when it is gone.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            result => result.call(|| format!("pidfd_open {}", self.pid))?,
        };
        // looked at after the fd was opened: the pid cannot change hands behind it
        Ok(self.is_alive().then_some(fd))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `container not running` when it has ended.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Some(fd) = self.open()? else { return Err(Error::new("container not running")) };
        match pidfd::send_signal(fd, signal) {
            Err(Errno::SRCH) => Err(Error::new("container not running")),
            result => result.call(|| format!("send signal {signal}")),
        }
    }
}
