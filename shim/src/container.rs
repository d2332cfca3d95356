//! A container: its processes, and what is done to it through the runtime.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use containerd_shim_protos::types::task::Status;
use ferrun::error::{Call, Error};
use ferrun::state::record as state;
use ferrun::state::store::Store;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;

use crate::failure::{Failure, Result};
use crate::io::{ConsoleSocket, Files, Io, Owner};
use crate::process::Process;
use crate::reaper::{Child, Ended, Reaper};
use crate::runtime::{Runtime, create_arguments};

/// Where in the bundle the pid of the init stands; containerd's own shims use the name too.
pub(crate) const PID_FILE: &str = "init.pid";

/// Where the end of the init is kept, for a `delete` that has no shim to ask.
const EXIT_FILE: &str = "exit.json";

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) runtime: Runtime,
    pub(crate) init: Rc<Process>,
    pub(crate) execs: RefCell<BTreeMap<String, Rc<Process>>>,
    pub(crate) pause: Cell<Pause>,
    /// Held by who changes the container: one at a time.
    pub(crate) change: Mutex<()>,
    /// Whether `create` has succeeded.
    pub(crate) created: Cell<bool>,
    /// Ends with the container.
    pub(crate) memory_watch: RefCell<Option<AbortHandle>>,
    /// Execs that are being started.
    starting: Cell<usize>,
    /// An exec has ended, or was not started after all.
    fewer: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    No,
    UnderWay,
    Yes,
}

/// What of the configuration the shim itself must know.
#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(default)]
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

/// `exit.json`.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) status: u32,
    /// Since 1970.
    pub(crate) seconds: u64,
    pub(crate) nanos: u32,
}

impl Exit {
    /// None: no time that there is. The file may be a damaged one.
    pub(crate) fn at(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.seconds))?.checked_add(Duration::from_nanos(self.nanos.into()))
    }
}

impl Container {
    pub(crate) fn new(id: &str, bundle: PathBuf, runtime: Runtime, init: Process) -> Self {
        Self {
            id: id.to_owned(),
            bundle,
            runtime,
            init: Rc::new(init),
            execs: RefCell::default(),
            pause: Cell::new(Pause::No),
            change: Mutex::new(()),
            created: Cell::new(false),
            memory_watch: RefCell::default(),
            starting: Cell::new(0),
            fewer: Notify::new(),
        }
    }

    /// # Errors
    /// There is no such process.
    pub(crate) fn process(&self, exec: &str) -> Result<Rc<Process>> {
        if exec.is_empty() {
            return Ok(Rc::clone(&self.init));
        }
        let process = self.execs.borrow().get(exec).cloned();
        process.ok_or_else(|| Failure::not_found(format!("process {exec}: not found")))
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    pub(crate) fn status(&self, process: &Process) -> Status {
        match (process.status(), self.pause.get()) {
            (Status::RUNNING, Pause::UnderWay) => Status::PAUSING,
            (Status::RUNNING, Pause::Yes) => Status::PAUSED,
            (status, _) => status,
        }
    }

    /// What the container is doing, whatever a runtime has said of it that was killed when it had done its work.
    /// None: nobody knows.
    pub(crate) fn look(&self) -> Option<state::Status> {
        let entry = Store::new(self.runtime.root().to_owned()).enter(&self.id).ok()?;
        entry.status(&entry.load_created().ok()?).ok()
    }

    /// Has the runtime make the init.
    pub(crate) async fn create(&self, reaper: &Rc<Reaper>, sockets: &Path, owner: &Owner) -> Result<()> {
        let (io, files) = Io::open(&self.init.wanted, owner).await?;
        let pid_file = self.bundle.join(PID_FILE);
        let console = self.init.wanted.terminal.then(|| ConsoleSocket::new(sockets)).transpose()?;
        let socket = console.as_ref().map(ConsoleSocket::path);
        let mut arguments = create_arguments(self.runtime.options(), &self.bundle, &pid_file, socket);
        arguments.push((&self.id).into());
        let hold = reaper.hold();
        let created = self.runtime.run("create", &arguments, files).await;
        let created = created.map_err(|error| failed("OCI runtime create failed", &error));
        let made = created.and_then(|()| take(reaper, &pid_file, console.as_ref(), &io));
        drop(hold);
        match made {
            Ok(child) => self.init.made(child, io),
            Err(failure) => {
                self.remove_remains().await;
                return Err(failure);
            }
        }
        Ok(())
    }

    /// After a create that failed: a runtime that was killed has left what it had made. A container of the same
    /// name that is another bundle's is not touched.
    async fn remove_remains(&self) {
        let entry = Store::new(self.runtime.root().to_owned()).enter(&self.id);
        let Ok(record) = entry.and_then(|entry| entry.load()) else { return };
        if record.is_none_or(|record| record.bundle == self.bundle)
            && let Err(failure) = self.delete(true).await
        {
            crate::log::warn(failure.words);
        }
    }

    pub(crate) async fn start(&self) -> Result<()> {
        let started = self.runtime.run("start", &[&self.id], Files::default()).await;
        if started.is_err() && self.look() == Some(state::Status::Running) {
            return Ok(());
        }
        started.map_err(|error| failed("OCI runtime start failed", &error))
    }

    /// Has the runtime make the process of an exec, and start it.
    pub(crate) async fn start_exec(
        &self,
        exec: &Process,
        reaper: &Rc<Reaper>,
        sockets: &Path,
        owner: &Owner,
    ) -> Result<()> {
        self.starting.set(self.starting.get() + 1);
        let made = self.make_exec(exec, reaper, sockets, owner).await;
        self.starting.set(self.starting.get() - 1);
        self.fewer.notify_waiters();
        made
    }

    async fn make_exec(&self, exec: &Process, reaper: &Rc<Reaper>, sockets: &Path, owner: &Owner) -> Result<()> {
        let (io, files) = Io::open(&exec.wanted, owner).await?;
        let spec = Temporary(self.bundle.join(format!("exec-{}.json", exec.id)));
        let pid_file = Temporary(self.bundle.join(format!("exec-{}.pid", exec.id)));
        crate::files::replace(&spec.0, &exec.spec)?;
        let console = exec.wanted.terminal.then(|| ConsoleSocket::new(sockets)).transpose()?;
        let mut arguments: Vec<std::ffi::OsString> = vec!["--process".into(), (&spec.0).into(), "--detach".into()];
        arguments.extend(["--pid-file".into(), (&pid_file.0).into()]);
        if let Some(console) = &console {
            arguments.extend(["--console-socket".into(), console.path().into()]);
        }
        arguments.push((&self.id).into());
        let hold = reaper.hold();
        if let Err(error) = self.runtime.run("exec", &arguments, files).await {
            // one that was killed may have done its work
            if let Ok(child) = read_pid(&pid_file.0).and_then(|pid| reaper.watch(pid)) {
                let _ = child.signal(libc::SIGKILL); // it may have ended
            }
            return Err(failed("OCI runtime exec failed", &error));
        }
        let child = take(reaper, &pid_file.0, console.as_ref(), &io)?;
        drop(hold);
        exec.made(child, io);
        exec.set_started();
        Ok(())
    }

    pub(crate) fn exec_ended(&self) {
        self.fewer.notify_waiters();
    }

    /// Until no exec runs, nor is about to: the exit of the init comes last.
    pub(crate) async fn until_alone(&self) {
        while self.starting.get() > 0 || self.execs.borrow().values().any(|exec| exec.runs()) {
            self.fewer.notified().await;
        }
    }

    /// Whether other processes outlive the init: it has no pid namespace of its own.
    pub(crate) fn shares_pids(&self) -> bool {
        let text = std::fs::read(self.bundle.join("config.json")).unwrap_or_default();
        // one that cannot be read any more says nothing: kill in doubt
        let spec = serde_json::from_slice::<Spec>(&text).unwrap_or_default();
        !spec.linux.namespaces.iter().any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }

    pub(crate) async fn kill_all(&self) -> Result<()> {
        let signal = libc::SIGKILL.to_string();
        Ok(self.runtime.run("kill", &["--all", &self.id, &signal], Files::default()).await?)
    }

    pub(crate) async fn kill(&self, signal: u32, all: bool) -> Result<()> {
        let signal = signal.to_string();
        let all: &[&str] = if all { &["--all"] } else { &[] };
        let arguments = [all, &[&self.id, &signal]].concat();
        self.runtime.run("kill", &arguments, Files::default()).await.map_err(|error| kill_failed(&error))
    }

    /// Has the runtime delete it. One that is gone is what is wanted.
    pub(crate) async fn delete(&self, force: bool) -> Result<()> {
        let force: &[&str] = if force { &["--force"] } else { &[] };
        let arguments = [force, &[&self.id]].concat();
        match self.runtime.run("delete", &arguments, Files::default()).await {
            Err(error) if !error.to_string().contains("does not exist") => {
                Err(failed("OCI runtime delete failed", &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes down how the init ended.
    pub(crate) fn keep_exit(&self, ended: Ended) -> Result<(), Error> {
        let since = ended.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let exit = Exit { status: ended.status, seconds: since.as_secs(), nanos: since.subsec_nanos() };
        let text = serde_json::to_vec(&exit).map_err(|error| Error::new(error.to_string()))?;
        crate::files::replace(&self.bundle.join(EXIT_FILE), &text)
    }
}

/// The process that the runtime has made, with its terminal. One whose terminal did not come is killed.
fn take(reaper: &Reaper, pid_file: &Path, console: Option<&ConsoleSocket>, io: &Io) -> Result<Rc<Child>> {
    let child = reaper.watch(read_pid(pid_file)?)?;
    if let Some(console) = console
        && let Err(error) = console.receive().and_then(|master| io.join(master))
    {
        let _ = child.signal(libc::SIGKILL); // it may have ended
        return Err(error.into());
    }
    Ok(child)
}

/// What [`Container::keep_exit`] wrote.
pub(crate) fn kept_exit(bundle: &Path) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(bundle.join(EXIT_FILE)).ok()?).ok()
}

pub(crate) fn read_pid(path: &Path) -> Result<i32, Error> {
    let text = std::fs::read_to_string(path).call(|| format!("read {}", path.display()))?;
    text.trim().parse().map_err(|_| Error::new(format!("{}: {text:?} is no pid", path.display())))
}

/// A file that is removed in any case.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The words before the runtime's, which Docker and people know.
pub(crate) fn failed(what: &str, error: &Error) -> Failure {
    Failure::new(containerd_shim_protos::ttrpc::Code::UNKNOWN, format!("{what}: {error}"))
}

/// containerd's clients expect `NotFound` of a process that has ended.
fn kill_failed(error: &Error) -> Failure {
    let text = error.to_string();
    let ended = ["process already finished", "container not running", "no such process"];
    if ended.iter().any(|words| text.contains(words)) {
        return finished();
    }
    if text.contains("does not exist") {
        return Failure::not_found("no such container: not found");
    }
    failed("unknown error after kill", error)
}

pub(crate) fn finished() -> Failure {
    Failure::not_found("process already finished: not found")
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::ttrpc::Code;

    #[test]
    fn an_end_at_no_time() {
        let exit = |seconds, nanos| Exit { status: 1, seconds, nanos }.at();
        assert_eq!(exit(u64::MAX, u32::MAX), None);
        assert_eq!(exit(7, 5), Some(UNIX_EPOCH + Duration::new(7, 5)));
    }

    #[test]
    fn what_kill_says() {
        for words in ["kill c: container not running", "os: process already finished", "kill: no such process"] {
            let failure = kill_failed(&Error::new(words));
            assert_eq!((failure.code, failure.words.contains("already finished")), (Code::NOT_FOUND, true), "{words}");
        }
        assert_eq!(kill_failed(&Error::new("container \"c\" does not exist")).code, Code::NOT_FOUND);
        assert_eq!(kill_failed(&Error::new("operation not permitted")).code, Code::UNKNOWN);
    }
}
