//! Around the clone: what a birth and an exec have in common.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open, rename};
use rustix::io::Errno;

use crate::cgroup;
use crate::config::Config;
use crate::error::{Call, Context, Error, Result};
use crate::init::Init;
use crate::plan::Plan;
use crate::plan::cgroupfs::Hierarchies;
use crate::plan::step::{Asset, AssetEntry, Cpus, Event, NamespaceKind};
use crate::state::record::Record;
use crate::sys::clone::{self, Child};
use crate::sys::fd::close_all;
use crate::sys::{pidfd, proc, sched};

use super::assets;
use super::channel::{Channel, Message, send_fd};

/// Another cgroup for a child that the first one does not take.
pub(super) type OtherCgroup<'a> = &'a dyn Fn() -> Result<PathBuf>;

/// Clones; the child runs the plan's steps. `state` makes the OCI state document of a status and a pid.
pub(super) fn spawn(
    plan: &Plan,
    assets: Vec<Option<OwnedFd>>,
    state: &dyn Fn(&str, i32) -> String,
    other_cgroup: Option<OtherCgroup<'_>>,
) -> Result<(Child, Channel)> {
    let mut cgroup = match &plan.placement.hierarchies {
        Hierarchies::V2 { directory } if plan.spawn.into_cgroup => Some(open_directory(directory)?),
        _ => None,
    };
    let (ours, theirs) = Channel::pair()?;
    let flags = plan.spawn.namespaces.iter().fold(0, |flags, kind| flags | kind.flag());
    if let Some(cpus) = &plan.spawn.affinity {
        begin_on(cpus)?;
    }
    let restore = plan.spawn.join_pid.map(|id| enter_pid_namespace(&assets, &plan.assets, id.0)).transpose()?.flatten();
    let mut parts = Some((ours, theirs, assets));
    let mut birth = |cgroup: Option<&OwnedFd>| {
        clone::clone3(flags, cgroup.map(AsFd::as_fd), || {
            let Some((ours, theirs, assets)) = parts.take() else { clone::exit(1) };
            // else the init would never see the end of the stream
            drop(ours);
            if plan.is_reborn() {
                crate::log::leave();
            }
            Init::new(theirs, assets, &plan.assets, state).run(&plan.steps)
        })
    };
    let mut child = birth(cgroup.as_ref());
    if let (Err(Errno::BUSY), Some(other)) = (&child, other_cgroup) {
        cgroup = Some(open_directory(&other()?)?);
        child = birth(cgroup.as_ref());
    }
    // systemd may put it into the one that was asked for, too
    let may_be_outside = plan.placement.unit.is_some() || other_cgroup.is_some();
    if plan.spawn.or_outside && may_be_outside && cgroup.is_some() && matches!(child, Err(Errno::ACCESS)) {
        if plan.placement.unit.is_none() {
            tracing::warn!("this user may not move a process into the container's cgroup: it stays in the caller's");
        }
        child = birth(None);
    }
    let (ours, _, assets) = parts.ok_or_else(|| Error::new("no channel"))?;
    close_all(assets.into_iter().flatten().collect());
    if let Some(own) = restore {
        clone::setns(own, NamespaceKind::Pid.flag()).call(|| "setns".to_owned())?;
    }
    child.call(|| "clone3".to_owned()).map(|child| (child, ours))
}

/// A message and the descriptor with it.
pub(super) type Said = (Message, Option<OwnedFd>);

/// What is said by the process that was made, and by the one that takes its place when it is a courier. What that one
/// says may come before the courier's last word: it is heard after it.
pub(super) struct Hearing<'a> {
    channel: &'a Channel,
    courier: bool,
    early: VecDeque<Said>,
}

impl<'a> Hearing<'a> {
    pub(super) fn new(channel: &'a Channel, plan: &Plan) -> Self {
        Self { channel, courier: plan.is_reborn(), early: VecDeque::new() }
    }

    /// None: the end of the stream, or of a courier (which `child` is then) without its last word. What it may have
    /// made waits for us, as we would for the word.
    pub(super) fn next(&mut self, child: Option<&Child>) -> Result<Option<Said>> {
        loop {
            if !self.courier
                && let Some(said) = self.early.pop_front()
            {
                return Ok(Some(said));
            }
            if self.courier
                && let Some(courier) = child
                && self.ended_in_silence(courier)?
            {
                return Ok(None);
            }
            match self.channel.receive()? {
                Some(said) if self.courier && is_of_successor(&said.0) && self.early.len() < 4 => {
                    self.early.push_back(said);
                }
                said => {
                    self.courier &= !matches!(said, Some((Message::Spawned { .. }, _)));
                    return Ok(said);
                }
            }
        }
    }
}

impl Hearing<'_> {
    /// Waits for a message, or for the end of the courier when there is none: a small memory limit may have it killed
    /// before it has said whom it made.
    fn ended_in_silence(&self, courier: &Child) -> Result<bool> {
        loop {
            // in this order: by the time its end is seen, what it has said is there
            let mut fds = [PollFd::new(&courier.pidfd, PollFlags::IN), PollFd::new(self.channel, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => {}
                result => {
                    result.call(|| "poll".to_owned())?;
                    return Ok(fds[1].revents().is_empty());
                }
            }
        }
    }
}

fn is_of_successor(message: &Message) -> bool {
    !matches!(message, Message::Spawned { .. } | Message::Fault(_) | Message::Event(Event::Unplaced))
}

/// The courier has made another process, which takes its place.
pub(super) fn succeed(child: &mut Option<Child>, pid: i32, pidfd: OwnedFd) -> Result<()> {
    match child.replace(Child { pid, pidfd }) {
        Some(courier) => pidfd::wait(&courier.pidfd).call(|| "waitid".to_owned()).map(drop),
        None => Ok(()),
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open {}", path.display()))
}

/// The child inherits it, and this process does no more than wait for it.
fn begin_on(cpus: &Cpus) -> Result<()> {
    sched::set_affinity(&cpus.0)
        .call(|| "sched_setaffinity".to_owned())
        .context(|| format!("begin on the CPUs {cpus}"))
        .at(|| "/process/execCPUAffinity/initial".to_owned())
}

/// setns(2) with a pid namespace acts on children only. Gives back our own, to be restored for hooks; an exec, which
/// enters that of an init, makes no other child.
fn enter_pid_namespace(assets: &[Option<OwnedFd>], entries: &[AssetEntry], id: usize) -> Result<Option<OwnedFd>> {
    let own = match entries.get(id) {
        Some(AssetEntry { asset: Asset::Init, .. }) => None,
        _ => Some(proc::open_self("ns/pid", OFlags::RDONLY).call(|| "open /proc/self/ns/pid".to_owned())?),
    };
    let target = assets.get(id).and_then(Option::as_ref).ok_or_else(|| Error::new("the pid namespace is not open"))?;
    // inherited by the child, which others there see from its first moment on (CVE-2016-9962)
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .call(|| "prctl PR_SET_DUMPABLE".to_owned())?;
    clone::setns(target, NamespaceKind::Pid.flag())
        .call(|| "setns".to_owned())
        .context(|| "join the pid namespace".to_owned())
        .at(|| "/linux/namespaces".to_owned())?;
    Ok(own)
}

/// The end of the stream is the execve.
pub(super) fn until_exec(channel: &Channel) -> Result<()> {
    match channel.receive()? {
        None => Ok(()),
        Some((Message::Fault(error), _)) => Err(error),
        Some((message, _)) => Err(Error::new(format!("unexpected message of the container's init: {message:?}"))),
    }
}

/// How an init ended that said nothing; `fresh` is the plan of a container in which nobody else can have been killed.
pub(super) fn autopsy(child: Option<Child>, fresh: Option<&Plan>) -> Error {
    let status = child.and_then(|child| pidfd::wait(&child.pidfd).ok());
    if status == Some(128 + libc::SIGKILL) && fresh.is_some_and(out_of_memory) {
        return Error::new("container init was OOM-killed (memory limit too low?)").at("/linux/resources/memory/limit");
    }
    Error::new(match status {
        Some(status @ 129..) => format!("the container's init was killed by signal {}", status - 128),
        Some(status) => format!("the container's init ended with status {status}"),
        None => "the container's init is gone".to_owned(),
    })
}

/// systemd removes an emptied scope with all that it has counted: with a memory limit that is the likely cause.
fn out_of_memory(plan: &Plan) -> bool {
    cgroup::oom_killed(&plan.placement) || plan.placement.unit.is_some() && plan.limits.memory()
}

/// The filter's notification fd goes to whoever listens, with what it is about: config-linux.md, Container Process
/// State.
pub(super) fn send_listener(
    config: &Config,
    record: &Record,
    status: &str,
    pid: i32,
    listener: &OwnedFd,
) -> Result<()> {
    let target = config.seccomp.as_ref().and_then(|seccomp| seccomp.listener.as_ref());
    let Some(target) = target else { return Err(Error::new("a seccomp listener that nobody asked for")) };
    let send = || {
        let state = record.oci_state(status, record.init.map_or(pid, |init| init.pid));
        let mut document = serde_json::json!({
            "ociVersion": record.oci_version,
            "fds": ["seccompFd"],
            "pid": pid,
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

/// What the caller asks to be told of the process.
#[derive(Debug, Clone, Default)]
pub struct HandOver {
    pub pid_file: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
}

impl HandOver {
    pub(super) fn run(&self, child: &Child) -> Result<()> {
        let pid = child.pid;
        if let Some(path) = &self.pid_file {
            write_pid_file(path, pid).context(|| format!("write the pid file {}", path.display()))?;
        }
        if let Some(path) = &self.pidfd_socket {
            let send = || send_fd(assets::connect_to(path)?.as_fd(), pid.to_string().as_bytes(), child.pidfd.as_fd());
            send().context(|| format!("send the pidfd to {}", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn take_back(&self) {
        if let Some(path) = &self.pid_file {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Renamed into place: a watcher never reads half a number.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let temporary = path.with_file_name(name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file =
        open(&temporary, flags, Mode::from_raw_mode(0o644)).call(|| format!("create {}", temporary.display()))?;
    rustix::io::write(&file, pid.to_string().as_bytes()).call(|| "write".to_owned())?;
    rename(&temporary, path).call(|| "rename".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::step::{Entry, Step};

    #[test]
    fn a_successor_is_heard_after_its_courier() {
        let step = Step::Reborn { preserve: 0, namespaces: Vec::new() };
        let plan = Plan { steps: vec![Entry { step, pointer: None }], ..Plan::default() };
        let (ours, theirs) = Channel::pair().expect("a channel");
        let mut hearing = Hearing::new(&ours, &plan);
        let mut next = || hearing.next(None).expect("a message").map(|(message, fd)| (message, fd.is_some()));
        let fd = Some(ours.as_fd());
        // the courier's own, what its successor says too early, the courier's last word
        theirs.send(&Message::Event(Event::Unplaced)).expect("send");
        theirs.send(&Message::Event(Event::Unmapped)).expect("send");
        theirs.send_with(&Message::Console, fd).expect("send");
        theirs.send_with(&Message::Spawned { pid: 7 }, fd).expect("send");
        theirs.send(&Message::Event(Event::Ready)).expect("send");
        drop(theirs);
        assert_eq!(next(), Some((Message::Event(Event::Unplaced), false)));
        assert_eq!(next(), Some((Message::Spawned { pid: 7 }, true)));
        assert_eq!(next(), Some((Message::Event(Event::Unmapped), false)));
        assert_eq!(next(), Some((Message::Console, true)));
        assert_eq!(next(), Some((Message::Event(Event::Ready), false)));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_courier_that_ends_in_silence_is_no_endless_wait() {
        let step = Step::Reborn { preserve: 0, namespaces: Vec::new() };
        let plan = Plan { steps: vec![Entry { step, pointer: None }], ..Plan::default() };
        let (ours, theirs) = Channel::pair().expect("a channel");
        let mut hearing = Hearing::new(&ours, &plan);
        let courier = clone::clone3(0, None, || clone::exit(3)).expect("clone3");
        // its successor, which has the other end
        theirs.send(&Message::Event(Event::Ready)).expect("send");
        assert_eq!(hearing.next(Some(&courier)).expect("no message").map(|(message, _)| message), None);
        assert_eq!(pidfd::wait(&courier.pidfd), Ok(3));
        drop(theirs);
    }
}
