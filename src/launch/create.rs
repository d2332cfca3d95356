//! A birth from the parent's side. Whatever fails, all that was made is taken back.

use std::os::fd::OwnedFd;

use crate::cgroup;
use crate::config::Config;
use crate::container::notify::{self, Notify};
use crate::error::{Call, Error, Result};
use crate::hooks;
use crate::plan::cgroupfs::Placement;
use crate::plan::step::Event;
use crate::plan::{Plan, Request, Start};
use crate::state::process::Process;
use crate::state::record::{Phase, Record, VERSION};
use crate::state::store::{Entry, Store};
use crate::sys::clone::Child;
use crate::sys::{pidfd, proc};

use super::channel::{Channel, Message};
use super::spawn::{self, HandOver, Hearing};
use super::{assets, lock, maps, terminal, tune};

/// All that a birth needs.
pub struct Order<'a> {
    pub store: &'a Store,
    pub config: &'a Config,
    pub plan: &'a Plan,
    pub request: &'a Request,
    /// config.json as it was read.
    pub config_json: &'a [u8],
    pub hand_over: HandOver,
}

/// A container whose init waits for the start, or (with [`Start::Now`]) runs the user's program.
pub struct Born {
    pub entry: Entry,
    pub record: Record,
    pub child: Child,
    /// The master of its terminal, where this process relays.
    pub console: Option<OwnedFd>,
    /// With [`Start::Now`]: what hears the program, from its first word.
    pub notify: Option<Notify>,
}

/// What exists so far, to be taken back.
struct Unborn<'a> {
    order: &'a Order<'a>,
    entry: Entry,
    record: Record,
    child: Option<Child>,
    console: Option<OwnedFd>,
    notify: Option<Notify>,
    /// From then on there may be a scope.
    asked_systemd: bool,
}

/// Creates the container; with [`Start::Now`] starts it too.
///
/// # Errors
/// `container with given ID already exists`; any step's. Nothing is left then.
pub fn create(order: &Order<'_>) -> Result<Born> {
    // start, kill and delete need it: better no container than one that nobody can end
    rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
        .map(drop)
        .call(|| "pidfd_open".to_owned())
        .map_err(|error| error.hint("Linux 5.14 is the least; a seccomp filter on the caller may refuse it"))?;
    let entry = claim(order)?;
    let record = record(order)?;
    let mut unborn = Unborn { order, entry, record, child: None, console: None, notify: None, asked_systemd: false };
    match unborn.bring_up() {
        Ok(()) => {
            let Unborn { entry, record, child, console, notify, .. } = unborn;
            let child = child.ok_or_else(|| Error::new("no child was made"))?;
            Ok(Born { entry, record, child, console, notify })
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
        mapped: request.mapped,
        no_new_keyring: request.no_new_keyring,
        socket_label: plan.socket_label.clone(),
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
            if request.start == Start::Now {
                self.notify = Notify::listen(&self.entry, self.record.socket_label.as_deref())?;
            }
        }
        let assets = assets::open_all(&plan.assets, &self.entry)?;
        let record = &self.record;
        let (child, channel) = spawn::spawn(plan, assets, &|status, pid| record.oci_state(status, pid), None)?;
        let pid = child.pid;
        self.child = Some(child);
        tracing::debug!("container {}: init is process {pid}, {} steps", request.id, plan.steps.len());
        if !plan.is_reborn() {
            tune::all(&plan.after_clone, pid)?;
        }
        self.until_ready(&channel)?;
        let pid = self.pid();
        tune::all(&plan.at_ready, pid)?;
        tracing::debug!("container {}: ready to start", request.id);
        self.record.init = Some(Process::of(pid)?);
        self.record.phase = Phase::Created;
        self.entry.save(&self.record)?;
        if let Some(child) = &self.child {
            self.order.hand_over.run(child)?;
        }
        channel.send(&Message::Go { pid })?;
        match request.start {
            Start::Later => Ok(()),
            Start::Now => spawn::until_exec(&channel),
        }
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    /// Does the parent's part at each barrier.
    fn until_ready(&mut self, channel: &Channel) -> Result<()> {
        let hooks = &self.order.config.hooks;
        let plan = self.order.plan;
        let mut hearing = Hearing::new(channel, plan);
        loop {
            match hearing.next(self.child.as_ref())? {
                Some((Message::Event(Event::Ready), _)) => return Ok(()),
                Some((Message::Event(Event::Unplaced), _)) => self.place(channel)?,
                Some((Message::Spawned { pid }, Some(pidfd))) => {
                    spawn::succeed(&mut self.child, pid, pidfd)?;
                    tracing::debug!("container {}: init is process {pid}", self.record.id);
                    tune::all(&plan.after_clone, pid)?;
                }
                Some((Message::Event(Event::Unmapped), _)) => {
                    plan.id_maps.iter().try_for_each(|maps| maps::write(maps, self.pid()))?;
                    channel.send(&Message::Go { pid: self.pid() })?;
                }
                Some((Message::Event(Event::Mounted), _)) => {
                    let state = |status: &str| self.record.oci_state(status, self.pid());
                    // prestart hooks come after step 2 of runtime.md's lifecycle, which is what `created` means;
                    // the others are told what runc tells them
                    hooks::run("prestart", &hooks.prestart, &state("created"))?;
                    hooks::run("createRuntime", &hooks.create_runtime, &state("creating"))?;
                    channel.send(&Message::Go { pid: self.pid() })?;
                }
                Some((Message::Trees { count }, _)) => {
                    channel.send(&Message::Go { pid: self.pid() })?;
                    lock::lock_for_init(count, channel)?;
                }
                Some((Message::Listener, Some(listener))) => {
                    spawn::send_listener(self.order.config, &self.record, "creating", self.pid(), &listener)?;
                }
                Some((Message::Console, master)) => {
                    // before there is a program that could ask
                    master.as_ref().into_iter().for_each(terminal::fit);
                    self.console = master;
                }
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
        let Some(uid) = plan.cgroup_owner else { return Ok(()) };
        match cgroup::give(&plan.placement, uid) {
            // to give away takes privileges; the container can do without
            Err(error) if self.order.request.rootless && error.errno() == Some(libc::EPERM) => {
                tracing::warn!("{error}");
                Ok(())
            }
            result => result,
        }
    }

    /// systemd makes cgroups around processes, not before.
    fn place(&mut self, channel: &Channel) -> Result<()> {
        let Order { plan, config_json, .. } = self.order;
        let systemd = cgroup::reach_systemd(&plan.placement)?;
        self.asked_systemd = true;
        cgroup::enter_unit(systemd, &plan.placement, &plan.limits, &plan.properties, self.pid())
            .map_err(|error| if self.has_ended() { self.autopsy() } else { error })?;
        self.entry.save_config(config_json)?;
        self.limit()?;
        channel.send(&Message::Go { pid: self.pid() })
    }

    fn has_ended(&self) -> bool {
        proc::stat(self.pid()).is_ok_and(|stat| stat.state == b'Z')
    }

    fn autopsy(&mut self) -> Error {
        spawn::autopsy(self.child.take(), Some(self.order.plan))
    }

    /// As if it had never been tried. What resists is said in the log; the record stays for `delete` then.
    fn take_back(mut self) {
        if let Some(child) = self.child.take() {
            let _ = pidfd::send_signal(&child.pidfd, libc::SIGKILL);
            let _ = pidfd::wait(&child.pidfd);
        }
        if self.record.init.is_some() {
            self.order.hand_over.take_back();
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
