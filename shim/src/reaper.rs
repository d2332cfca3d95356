//! Children: the runtime while it works, and the processes of containers, which become ours when the runtime that
//! made them ends (we are their subreaper).
//!
//! Every exit is collected here, on SIGCHLD. A pid cannot be another process's before its zombie is collected, and
//! nobody else collects: so there is no other name for a child than its pid. One that nobody knows is an orphan, and
//! is collected too; but not while somebody holds ([`Reaper::hold`]) because a runtime is about to tell a pid:
//! that process may have ended before we hear of it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;
use std::time::SystemTime;

use ferrun::error::{Error, Result};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid, waitpid};
use tokio::sync::Notify;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit status, or 128 and the number of the signal.
    pub(crate) status: u32,
    pub(crate) at: SystemTime,
}

/// A child that somebody knows.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    ended: Cell<Option<Ended>>,
    end: Notify,
}

impl Child {
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get()
    }

    pub(crate) async fn wait(&self) -> Ended {
        loop {
            if let Some(ended) = self.ended.get() {
                return ended;
            }
            self.end.notified().await;
        }
    }

    /// Sends it a signal, of any number that the kernel has.
    ///
    /// # Errors
    /// None: it has ended. kill(2).
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Option<i32>> {
        if self.ended.get().is_some() {
            return Err(None);
        }
        // it has not been collected: the pid is its
        ferrun::sys::signal::kill(self.pid(), signal).map_err(|errno| match errno {
            rustix::io::Errno::SRCH => None,
            errno => Some(errno.raw_os_error()),
        })
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reaper {
    known: RefCell<HashMap<i32, Rc<Child>>>,
    holds: Cell<usize>,
}

/// While there is one, children that nobody knows stay.
#[derive(Debug)]
pub(crate) struct Hold(Rc<Reaper>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.set(self.0.holds.get().saturating_sub(1));
        self.0.collect();
    }
}

impl Reaper {
    pub(crate) fn hold(self: &Rc<Self>) -> Hold {
        self.holds.set(self.holds.get() + 1);
        Hold(Rc::clone(self))
    }

    /// Makes a child known. It is one that we have started since we last gave way to other tasks, or somebody holds.
    ///
    /// # Errors
    /// It is no child of ours.
    pub(crate) fn watch(&self, pid: i32) -> Result<Rc<Child>> {
        let no_child = || Error::new(format!("process {pid} is no child of the shim"));
        let id = (pid > 0).then(|| Pid::from_raw(pid)).flatten().ok_or_else(no_child)?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(id), options).map_err(|_| no_child())?;
        let child = Rc::new(Child { pid: id, ended: Cell::new(None), end: Notify::new() });
        match self.known.borrow_mut().entry(pid) {
            // whose it is shall still hear of its end
            Entry::Occupied(_) => return Err(Error::new(format!("process {pid} is another one's"))),
            Entry::Vacant(place) => place.insert(Rc::clone(&child)),
        };
        self.look(id);
        Ok(child)
    }

    /// Called on SIGCHLD.
    pub(crate) fn collect(&self) {
        if self.holds.get() > 0 {
            let pids: Vec<Pid> = self.known.borrow().values().map(|child| child.pid).collect();
            pids.into_iter().for_each(|pid| self.look(pid));
            return;
        }
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            self.note(pid, status);
        }
    }

    fn look(&self, pid: Pid) {
        if let Ok(Some((pid, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
            self.note(pid, status);
        }
    }

    fn note(&self, pid: Pid, status: WaitStatus) {
        let Some(child) = self.known.borrow_mut().remove(&pid.as_raw_nonzero().get()) else { return };
        let code = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => code,
            (None, Some(signal)) => 128 + signal,
            (None, None) => 255,
        };
        child.ended.set(Some(Ended { status: code as u32, at: SystemTime::now() }));
        child.end.notify_waiters();
    }
}

/// For tests that have children: a reaper collects every child of the process, and tests share one.
#[cfg(test)]
pub(crate) fn children() -> std::sync::MutexGuard<'static, ()> {
    static CHILDREN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    CHILDREN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[expect(clippy::zombie_processes, reason = "to collect it is what is tried")]
    fn start(script: &str) -> i32 {
        let child = Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).spawn().expect("sh");
        child.id() as i32
    }

    /// Until the process is a zombie: without collecting it.
    fn until_ended(pid: i32) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_raw(pid).expect("pid")), options).expect("waitid");
    }

    #[test]
    fn each_exit_arrives_once() {
        let _children = children();
        let reaper = Rc::new(Reaper::default());
        let hold = reaper.hold();
        // it has ended before anybody asks for it, and a SIGCHLD came meanwhile
        let early = start("exit 7");
        until_ended(early);
        reaper.collect();
        let early = reaper.watch(early).expect("a zombie is still there");
        assert_eq!(early.ended().map(|ended| ended.status), Some(7));
        assert!(reaper.watch(early.pid()).is_err(), "collected");
        let killed = reaper.watch(start("kill -9 $$")).expect("child");
        // whether it has ended or not
        assert!(reaper.watch(killed.pid()).is_err(), "one that somebody knows");
        let orphan = start("exit 1");
        // it may have been quicker than we
        if killed.ended().is_none() {
            until_ended(killed.pid());
        }
        until_ended(orphan);
        reaper.collect();
        assert_eq!(killed.ended().map(|ended| ended.status), Some(137));
        assert_eq!(killed.signal(15), Err(None));
        drop(hold);
        assert!(reaper.watch(orphan).is_err(), "an orphan is collected when nobody holds");
        assert!(reaper.watch(1).is_err());
        assert!(reaper.watch(-1).is_err());
        assert!(reaper.known.borrow().is_empty());
    }
}
