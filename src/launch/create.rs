//! A birth from the parent's side. Whatever fails, all that was made is taken back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::cgroup;
use crate::config::Config;
use crate::container::notify;
use crate::error::{Call, Context, Error, Result};
use crate::hooks;
use crate::init::Init;
use crate::plan::cgroupfs::{Hierarchies, Placement};
use crate::plan::step::{Event, NamespaceKind};
use crate::plan::{Plan, Request, Start};
use crate::state::process::Process;
use crate::state::record::{Phase, Record, VERSION};
use crate::state::store::{Entry, Store};
use crate::sys::clone::{self, Child};
use crate::sys::fd::close_all;
use crate::sys::pidfd;

use super::channel::{Channel, Message, send_fd};
use super::{assets, tune};

/// All that a birth needs.
pub struct Order<'a> {
    pub store: &'a Store,
    pub config: &'a Config,
    pub plan: &'a Plan,
    pub request: &'a Request,
    /// config.json as it was read.
    pub config_json: &'a [u8],
    pub pid_file: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
}

/// A container whose init waits for the start, or (with [`Start::Now`]) runs the user's program.
pub struct Born {
    pub entry: Entry,
    pub record: Record,
    pub child: Child,
    /// The master of its terminal, where this process relays.
    pub console: Option<OwnedFd>,
}

/// What exists so far, to be taken back.
struct Unborn<'a> {
    order: &'a Order<'a>,
    entry: Entry,
    record: Record,
    child: Option<Child>,
    console: Option<OwnedFd>,
    /// From then on there may be a scope.
    asked_systemd: bool,
}

/// Creates the container; with [`Start::Now`] starts it too.
///
/// # Errors
/// `container with given ID already exists`; any step's. Nothing is left then.
pub fn create(order: &Order<'_>) -> Result<Born> {
    let entry = claim(order)?;
    let record = record(order)?;
    let mut unborn = Unborn { order, entry, record, child: None, console: None, asked_systemd: false };
    match unborn.bring_up() {
        Ok(()) => {
            let Unborn { entry, record, child, console, .. } = unborn;
            let child = child.ok_or_else(|| Error::new("no child was made"))?;
            Ok(Born { entry, record, child, console })
        }
        Err(error) => {
            unborn.take_back();
            Err(error)
        }
    }
}

/// An id whose creator died belongs to nobody: it is cleaned up and taken.
fn claim(order: &Order<'_>) -> Result<Entry> {
    let Order { store, request, .. } = order;
    for _ in 0..3 {
        if let Some(entry) = store.claim(&request.id)? {
            return Ok(entry);
        }
        let Ok(entry) = store.enter(&request.id) else { continue };
        if !entry.try_lock()? {
            break;
        }
        if !entry.is_current()? {
            continue;
        }
        if entry.load()?.is_some_and(|record| record.phase != Phase::Creating) {
            break;
        }
        tracing::debug!("container {}: cleaning up after a creator that died", request.id);
        match entry.load()? {
            Some(record) => crate::container::delete::clean_up(store, &entry, &record)?,
            None => entry.remove(store)?,
        }
    }
    Err(Error::new(format!("container with given ID already exists: {}", request.id)))
}

fn record(order: &Order<'_>) -> Result<Record> {
    let Order { config, plan, request, .. } = order;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Record {
        version: VERSION,
        id: request.id.clone(),
        phase: Phase::Creating,
        oci_version: config.oci_version.clone(),
        bundle: request.bundle.clone(),
        rootfs: request.rootfs.clone(),
        created: crate::log::rfc3339(now.as_secs() as i64, now.subsec_nanos()),
        owner: rustix::process::getuid().as_raw(),
        init: None,
        own_pid_namespace: config.namespaces.pid.is_new(),
        placement: plan.placement.clone(),
        annotations: config.annotations.clone(),
        poststart: config.hooks.poststart.clone(),
        poststop: config.hooks.poststop.clone(),
    })
}

impl Unborn<'_> {
    fn bring_up(&mut self) -> Result<()> {
        let Order { plan, request, config_json, .. } = self.order;
        self.entry.save(&self.record)?;
        if plan.placement.unit.is_none() {
            cgroup::make(&plan.placement)?;
            self.entry.save_config(config_json)?;
            self.limit()?;
        }
        if request.notify.is_some() {
            notify::prepare(&self.entry)?;
        }
        let channel = self.spawn()?;
        let pid = self.pid();
        tracing::debug!("container {}: init is process {pid}, {} steps", request.id, plan.steps.len());
        tune::all(&plan.after_clone, pid)?;
        self.until_ready(&channel)?;
        tune::all(&plan.at_ready, pid)?;
        tracing::debug!("container {}: ready to start", request.id);
        self.record.init = Some(Process::of(pid)?);
        self.record.phase = Phase::Created;
        self.entry.save(&self.record)?;
        self.hand_over()?;
        channel.send(&Message::Go { pid })?;
        match request.start {
            Start::Later => Ok(()),
            Start::Now => self.until_exec(&channel),
        }
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    /// Opens the assets and clones.
    fn spawn(&mut self) -> Result<Channel> {
        let plan = self.order.plan;
        let assets = assets::open_all(&plan.assets, &self.entry)?;
        let cgroup = match &plan.placement.hierarchies {
            Hierarchies::V2 { directory } if plan.spawn.into_cgroup => Some(open_directory(directory)?),
            _ => None,
        };
        let (ours, theirs) = Channel::pair()?;
        let flags = plan.spawn.namespaces.iter().fold(0, |flags, kind| flags | kind.flag());
        let restore = plan.spawn.join_pid.map(|id| enter_pid_namespace(&assets, id.0)).transpose()?;
        let record = &self.record;
        let state = |status: &str, pid: i32| record.oci_state(status, pid);
        let mut ours = Some(ours);
        let mut assets = Some(assets);
        let child = clone::clone3(flags, cgroup.as_ref().map(AsFd::as_fd), || {
            // else the init would never see the end of the stream
            drop(ours.take());
            Init::new(theirs, assets.take().unwrap_or_default(), &plan.assets, &state).run(&plan.steps)
        });
        close_all(assets.into_iter().flatten().flatten().collect());
        self.child = child.call(|| "clone3".to_owned()).map(Some)?;
        if let Some(own) = restore {
            clone::setns(own, NamespaceKind::Pid.flag()).call(|| "setns".to_owned())?;
        }
        ours.ok_or_else(|| Error::new("no channel"))
    }

    /// Does the parent's part at each barrier.
    fn until_ready(&mut self, channel: &Channel) -> Result<()> {
        let hooks = &self.order.config.hooks;
        loop {
            match channel.receive()? {
                Some((Message::Event(Event::Ready), _)) => return Ok(()),
                Some((Message::Event(Event::Unplaced), _)) => self.place(channel)?,
                Some((Message::Event(Event::Mounted), _)) => {
                    let state = |status: &str| self.record.oci_state(status, self.pid());
                    // prestart hooks come after step 2 of runtime.md's lifecycle, which is what `created` means;
                    // the others are told what runc tells them
                    hooks::run("prestart", &hooks.prestart, &state("created"))?;
                    hooks::run("createRuntime", &hooks.create_runtime, &state("creating"))?;
                    channel.send(&Message::Go { pid: self.pid() })?;
                }
                Some((Message::Listener, Some(listener))) => self.send_listener(&listener)?,
                Some((Message::Console, master)) => self.console = master,
                Some((Message::Fault(error), _)) => return Err(error),
                Some((message, _)) => {
                    return Err(Error::new(format!("unexpected message of the container's init: {message:?}")));
                }
                None => return Err(self.autopsy()),
            }
        }
    }

    /// Before there is a process that would need them.
    fn limit(&self) -> Result<()> {
        let plan = self.order.plan;
        cgroup::apply(&plan.placement, &plan.limits)?;
        plan.cgroup_owner.map_or(Ok(()), |uid| cgroup::give(&plan.placement, uid))
    }

    /// systemd makes cgroups around processes, not before.
    fn place(&mut self, channel: &Channel) -> Result<()> {
        let Order { plan, config_json, .. } = self.order;
        let systemd = cgroup::reach_systemd(&plan.placement)?;
        self.asked_systemd = true;
        cgroup::enter_unit(systemd, &plan.placement, &plan.limits, &plan.properties, self.pid())?;
        self.entry.save_config(config_json)?;
        self.limit()?;
        channel.send(&Message::Go { pid: self.pid() })
    }

    /// The end of the stream is the execve.
    fn until_exec(&mut self, channel: &Channel) -> Result<()> {
        match channel.receive()? {
            None => Ok(()),
            Some((Message::Fault(error), _)) => Err(error),
            Some((message, _)) => Err(Error::new(format!("unexpected message of the container's init: {message:?}"))),
        }
    }

    /// How an init ended that said nothing.
    fn autopsy(&mut self) -> Error {
        let status = self.child.take().and_then(|child| pidfd::wait(&child.pidfd).ok());
        if status == Some(128 + libc::SIGKILL) && cgroup::oom_killed(&self.order.plan.placement) {
            return Error::new("container init was OOM-killed (memory limit too low?)")
                .at("/linux/resources/memory/limit");
        }
        let plan = self.order.plan;
        if status == Some(128 + libc::SIGKILL) && plan.placement.unit.is_some() && plan.limits.memory() {
            // systemd removes the cgroup of an ended scope, and what it counted with it
            return Error::new(
                "the container's init was killed by signal 9: perhaps it was OOM-killed (memory limit too low?)",
            )
            .at("/linux/resources/memory/limit");
        }
        Error::new(match status {
            Some(status @ 129..) => format!("the container's init was killed by signal {}", status - 128),
            Some(status) => format!("the container's init ended with status {status}"),
            None => "the container's init is gone".to_owned(),
        })
    }

    /// The filter's notification fd goes to whoever listens, with what it is about: config-linux.md,
    /// Container Process State.
    fn send_listener(&self, listener: &OwnedFd) -> Result<()> {
        let seccomp = self.order.config.seccomp.as_ref().and_then(|seccomp| seccomp.listener.as_ref());
        let Some(target) = seccomp else { return Err(Error::new("a seccomp listener that nobody asked for")) };
        let send = || {
            let state = self.record.oci_state("creating", self.pid());
            let mut document = serde_json::json!({
                "ociVersion": self.record.oci_version,
                "fds": ["seccompFd"],
                "pid": self.pid(),
                "state": serde_json::from_str::<serde_json::Value>(&state).map_err(|error| Error::new(error.to_string()))?,
            });
            if let Some(metadata) = &target.metadata {
                document["metadata"] = metadata.as_str().into();
            }
            let socket = assets::connect_to(&target.path)?;
            send_fd(socket.as_fd(), document.to_string().as_bytes(), listener.as_fd())
        };
        send().context(|| "hand over the seccomp listener".to_owned()).at(|| "/linux/seccomp/listenerPath".to_owned())
    }

    /// What the caller asked to be told.
    fn hand_over(&self) -> Result<()> {
        let pid = self.pid();
        if let Some(path) = &self.order.pid_file {
            write_pid_file(path, pid).context(|| format!("write the pid file {}", path.display()))?;
        }
        if let (Some(path), Some(child)) = (&self.order.pidfd_socket, &self.child) {
            let send = || send_fd(assets::connect_to(path)?.as_fd(), pid.to_string().as_bytes(), child.pidfd.as_fd());
            send().context(|| format!("send the pidfd to {}", path.display()))?;
        }
        Ok(())
    }

    /// As if it had never been tried. What resists is said in the log; the record stays for `delete` then.
    fn take_back(mut self) {
        if let Some(child) = self.child.take() {
            let _ = pidfd::send_signal(&child.pidfd, libc::SIGKILL);
            let _ = pidfd::wait(&child.pidfd);
        }
        if let Some(path) = &self.order.pid_file
            && self.record.init.is_some()
        {
            let _ = std::fs::remove_file(path);
        }
        self.record.phase = Phase::Creating;
        if self.record.placement.unit.is_some() && !self.asked_systemd {
            self.record.placement = Placement::default();
        }
        if let Err(error) = crate::container::delete::clean_up(self.order.store, &self.entry, &self.record) {
            tracing::warn!("{}", error.within(format!("clean up {}", self.record.id)));
        }
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open {}", path.display()))
}

/// setns(2) with a pid namespace acts on children only. Gives back our own, to be restored.
fn enter_pid_namespace(assets: &[Option<OwnedFd>], id: usize) -> Result<OwnedFd> {
    use rustix::fs::OFlags;
    let own = crate::sys::proc::open_self("ns/pid", OFlags::RDONLY).call(|| "open /proc/self/ns/pid".to_owned())?;
    let target = assets.get(id).and_then(Option::as_ref).ok_or_else(|| Error::new("the pid namespace is not open"))?;
    clone::setns(target, NamespaceKind::Pid.flag())
        .call(|| "setns".to_owned())
        .context(|| "join the pid namespace".to_owned())
        .at(|| "/linux/namespaces".to_owned())?;
    Ok(own)
}

/// Renamed into place: a watcher never reads half a number.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    use rustix::fs::{Mode, OFlags, open, rename};
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file =
        open(&temporary, flags, Mode::from_raw_mode(0o644)).call(|| format!("create {}", temporary.display()))?;
    rustix::io::write(&file, pid.to_string().as_bytes()).call(|| "write".to_owned())?;
    rename(&temporary, path).call(|| "rename".to_owned())
}
