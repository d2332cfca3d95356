//! The container's init until its execve: a short loop over the plan's steps, one function for each.
//!
//! It runs in the forked child, single-threaded, between the host's world and the container's. It cannot
//! name the config: what is not in a step does not exist here. It never returns: its ends are execve and
//! `_exit`. It resolves no name of the container by path string, only through `sys::root`.

mod cgroup;
mod device;
pub mod environ;
pub(crate) mod identity;
mod landlock;
mod mask;
mod mount;
mod namespaces;
pub mod preflight;
mod root;
mod security;
mod tmpcopyup;
pub mod tree;
mod tty;

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::io::Errno;

use crate::error::{Call, Context as _, Error, Result};
use crate::hooks;
use crate::launch::channel::{Channel, Message};
use crate::plan::step::{Asset, AssetEntry, AssetId, Entry, Hook, HookKind, NamespaceKind, Step};
use crate::sys::fd::Loose;
use crate::sys::proc::Proc;
use crate::sys::root::Root;
use crate::sys::{clone, exec, signal};

use self::mask::Places;

/// All that an init has.
pub struct Init<'a> {
    pub channel: Channel,
    /// What the parent opened, by [`AssetId`].
    pub assets: Vec<Option<OwnedFd>>,
    pub entries: &'a [AssetEntry],
    /// The OCI state document for hooks, of a status and a pid.
    pub state: &'a dyn Fn(&str, i32) -> String,
    /// This process as the parent sees it; 0 before the first word of the parent.
    pid: i32,
    root: Option<OwnedFd>,
    /// What was mounted on /proc and /sys: destination and mount.
    kernel: Vec<(PathBuf, Loose)>,
    proc: Option<Proc>,
    program: Option<CString>,
    home: Option<String>,
    /// What a security module is to make of it at the execve.
    label: Option<String>,
    /// The working directory could not be entered as root.
    chdir_again: bool,
    /// The parent of a `create` has left.
    alone: bool,
    /// Landlock may refuse what the file's mode allows.
    landlocked: bool,
}

impl<'a> Init<'a> {
    pub fn new(
        channel: Channel,
        assets: Vec<Option<OwnedFd>>,
        entries: &'a [AssetEntry],
        state: &'a dyn Fn(&str, i32) -> String,
    ) -> Self {
        Self {
            channel,
            assets,
            entries,
            state,
            pid: 0,
            root: None,
            kernel: Vec::new(),
            proc: None,
            program: None,
            home: None,
            label: None,
            chdir_again: false,
            alone: false,
            landlocked: false,
        }
    }

    /// Runs the steps. The last is an execve.
    pub fn run(mut self, steps: &[Entry]) -> Infallible {
        // what the program inherits; the container's filter might refuse the call later
        signal::for_program();
        for entry in steps {
            if let Err(error) = self.step(&entry.step) {
                let error = match &entry.pointer {
                    Some(pointer) => error.below(pointer),
                    None => error,
                };
                self.fail(error.step(entry.step.name()));
            }
        }
        self.fail(Error::new("the plan has no exec"))
    }

    fn fail(&self, error: Error) -> ! {
        let fault = self.entries.iter().position(|entry| entry.asset == Asset::FaultFile).map(AssetId);
        match fault.filter(|_| self.alone).and_then(|id| self.asset(id).ok()) {
            // nobody is left to hear of a failure to write it
            Some(file) => drop(rustix::io::write(file, serde_json::to_string(&error).unwrap_or_default().as_bytes())),
            None => drop(self.channel.send(&Message::Fault(error))),
        }
        clone::exit(1)
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Barrier { event } => self.await_go(&Message::Event(*event)),
            Step::Setsid => rustix::process::setsid().call(|| "setsid".to_owned()).map(drop),
            Step::OomScoreAdj(score) => identity::oom_score_adj("self", *score),
            Step::NotDumpable => security::not_dumpable(),
            Step::JoinCgroup { directories } => cgroup::join(directories),
            Step::Affinity { cpus } => cgroup::affinity(cpus.as_ref()),
            Step::JoinNamespace { kind, namespace } => namespaces::join(*kind, self.asset(*namespace)?),
            Step::EnterNamespaces { init, namespaces } => {
                self.root = namespaces::enter(self.asset(*init)?, namespaces)?;
                Ok(())
            }
            Step::Reborn { preserve, namespaces } => self.reborn(*preserve, namespaces),
            Step::BecomeRoot { setgroups } => identity::become_root(*setgroups),
            Step::HostProc => {
                let proc = Proc::of_host().call(|| "open /proc".to_owned())?;
                self.proc = Some(proc);
                Ok(())
            }
            Step::Open { asset } => self.open(*asset),
            Step::Unshare { namespaces } => namespaces::unshare(namespaces),
            Step::EnterTimeNamespace { offsets } => namespaces::enter_time(offsets),
            Step::Loopback => namespaces::loopback(),
            Step::Hostname { name } => namespaces::hostname(name),
            Step::Domainname { name } => namespaces::domainname(name),
            Step::DetachPropagation => root::detach_propagation(),
            Step::LockTrees => self.lock_trees(),
            Step::AttachRoot { root, path } => root::attach(self.take(*root)?, path).map(|fd| self.root = Some(fd)),
            Step::Mount(mount) => mount::mount(self, mount),
            Step::MakeDirectory { path } => root::make_directory(self.root()?, path),
            Step::Devices { devices, links } => device::devices(self, devices, links),
            Step::Hooks { kind, hooks } => self.hooks(*kind, hooks),
            Step::PivotRoot => root::pivot(self.root_fd()?),
            Step::MoveRoot => root::move_over(self.root_fd()?),
            Step::Chroot { path } => {
                self.root = Some(root::chroot(self.root.take(), path)?);
                Ok(())
            }
            Step::RootPropagation { propagation } => root::propagation(self.root_fd()?, *propagation),
            Step::Console(console) => tty::console(self, console),
            Step::Sysctl { settings } => security::sysctl(self.proc()?, settings),
            Step::RootReadonly => root::readonly(self.root_fd()?),
            Step::ReadonlyPaths { paths } => mask::readonly(&self.places()?, paths),
            Step::MaskedPaths { paths, null, label } => {
                let null = self.take(*null)?;
                mask::mask(&self.places()?, paths, null, label.as_deref())
            }
            Step::Keyring { name } => security::keyring(name),
            Step::Personality { domain } => security::personality(*domain),
            Step::MemoryPolicy(policy) => security::memory_policy(policy),
            Step::Umask { mask } => identity::umask(*mask),
            Step::LsmLabel { attribute, label } => {
                security::label(self.proc()?, attribute, label)?;
                if attribute.ends_with("exec") {
                    self.label = Some(label.clone());
                }
                Ok(())
            }
            Step::NoNewPrivileges => security::no_new_privileges(),
            Step::Seccomp(seccomp) => security::seccomp(&self.channel, seccomp),
            Step::Rlimits { rlimits } => identity::rlimits(rlimits),
            Step::Chdir { path } => environ::chdir_as_root(path).map(|again| self.chdir_again = again),
            Step::User { uid, gid, groups, keep, setgroups } => identity::user(*uid, *gid, groups, *keep, *setgroups),
            Step::BoundingSet { keep } => identity::bounding_set(*keep),
            Step::Capabilities(sets) => identity::capabilities(sets),
            Step::DropCapabilities(sets) => identity::capset(sets),
            Step::ProveCwd { path } => environ::prove_cwd(path, self.chdir_again),
            Step::Home { uid } => {
                self.home = Some(environ::home(*uid));
                Ok(())
            }
            Step::FindProgram { name, path } => {
                environ::find_program(name, path.as_deref()).map(|program| self.program = Some(program))
            }
            Step::CloseFds { preserve } => self.close_fds(*preserve),
            Step::AwaitStart { fifo } => self.await_start(*fifo),
            Step::Landlock(rules) => landlock::restrict(rules).map(|()| self.landlocked = true),
            Step::Exec { args, env } => self.exec(args, env),
        }
    }

    fn await_go(&mut self, said: &Message) -> Result<()> {
        self.channel.send(said)?;
        match self.channel.receive()? {
            Some((Message::Go { pid }, _)) => {
                self.pid = pid;
                Ok(())
            }
            _ => Err(Error::new("the runtime is gone")),
        }
    }

    fn hooks(&self, kind: HookKind, hooks: &[Hook]) -> Result<()> {
        let status = if kind == HookKind::StartContainer { "created" } else { "creating" };
        hooks::run(kind.name(), hooks, &(self.state)(status, self.pid))
    }

    fn asset(&self, id: AssetId) -> Result<BorrowedFd<'_>> {
        self.assets
            .get(id.0)
            .and_then(Option::as_ref)
            .map(OwnedFd::as_fd)
            .ok_or_else(|| Error::new(format!("asset {} is not open", id.0)))
    }

    /// What the parent opened, or what is to be opened now.
    fn take(&mut self, id: AssetId) -> Result<OwnedFd> {
        if let Some(open) = self.assets.get_mut(id.0).and_then(Option::take) {
            return Ok(open);
        }
        match self.entries.get(id.0) {
            Some(AssetEntry {
                asset: asset @ (Asset::Tree { late: true, .. } | Asset::Device { late: true, .. }),
                pointer,
            }) => tree::open(asset, &self.assets).map_err(|error| match pointer {
                Some(pointer) => error.at(pointer.clone()),
                None => error,
            }),
            _ => Err(Error::new(format!("asset {} is not open", id.0))),
        }
    }

    fn open(&mut self, id: AssetId) -> Result<()> {
        let open = self.take(id)?;
        if let Some(place) = self.assets.get_mut(id.0) {
            *place = Some(open);
        }
        Ok(())
    }

    /// By the parent: one process more would be one more in the container.
    fn lock_trees(&mut self) -> Result<()> {
        let wanted = tree::to_lock(self.entries, true);
        self.await_go(&Message::Trees { count: wanted.len() })?;
        for id in &wanted {
            let tree = self.take(*id)?;
            self.channel.send_with(&Message::Tree, Some(tree.as_fd()))?;
        }
        for id in wanted {
            let Some((Message::Tree, Some(tree))) = self.channel.receive()? else {
                return Err(Error::new("the runtime is gone"));
            };
            tree::finish(&self.entries[id.0], &tree)?;
            self.assets[id.0] = Some(tree);
        }
        Ok(())
    }

    fn root_fd(&self) -> Result<&OwnedFd> {
        self.root.as_ref().ok_or_else(|| Error::new("the container has no root yet"))
    }

    fn root(&self) -> Result<Root<'_>> {
        self.root_fd().map(Root::new)
    }

    fn places(&self) -> Result<Places<'_>> {
        Ok(Places { root: self.root()?, kernel: &self.kernel })
    }

    fn proc(&mut self) -> Result<&Proc> {
        if self.proc.is_none() {
            self.proc = Some(Proc::open().call(|| "fsopen proc".to_owned())?);
        }
        self.proc.as_ref().ok_or_else(|| Error::new("no procfs"))
    }

    /// The courier's end, and its successor's beginning.
    fn reborn(&mut self, preserve: u32, namespaces: &[NamespaceKind]) -> Result<()> {
        // what a later step wants is none of the host's directories
        let gone = self.entries.iter().position(|entry| entry.asset == Asset::Init);
        if let Some(pidfd) = gone.and_then(|place| self.assets.get_mut(place)) {
            drop(pidfd.take());
        }
        let open = self.assets.iter().chain([&self.root]).flatten();
        let mut keep: Vec<RawFd> = open.map(AsRawFd::as_raw_fd).collect();
        keep.extend(self.proc.as_ref().map(|proc| proc.as_fd().as_raw_fd()));
        keep.push(self.channel.as_fd().as_raw_fd());
        keep.extend(3..3 + preserve as RawFd);
        exec::close_all_but(&keep).call(|| "close_range".to_owned())?;
        let flags = namespaces.iter().fold(0, |flags, kind| flags | kind.flag());
        let sibling = clone::sibling(flags)
            .call(|| "clone3".to_owned())
            .context(|| "make the process that goes on in the namespaces entered".to_owned())?;
        let Some(successor) = sibling else {
            return rustix::process::setsid().call(|| "setsid".to_owned()).map(drop);
        };
        self.channel.send_with(&Message::Spawned { pid: successor.pid }, Some(successor.pidfd.as_fd()))?;
        clone::exit(0)
    }

    /// Nothing of the host may be reachable through /proc/PID/fd, in the wait for the start and after the
    /// execve (CVE-2024-21626): no directory, no mount, nothing that the caller leaked to us.
    fn close_fds(&mut self, preserve: u32) -> Result<()> {
        let last = |entry: &AssetEntry| matches!(entry.asset, Asset::StartFifo | Asset::FaultFile);
        let kept =
            self.entries.iter().zip(&self.assets).filter(|(entry, _)| last(entry)).filter_map(|(_, fd)| fd.as_ref());
        let mut keep: Vec<RawFd> = kept.map(AsRawFd::as_raw_fd).collect();
        keep.push(self.channel.as_fd().as_raw_fd());
        let preserved = 3..3 + preserve as RawFd;
        for fd in preserved.clone() {
            exec::inherit(fd).call(|| format!("preserved fd {fd}"))?;
        }
        keep.extend(preserved);
        // their numbers are about to be closed in one call: nothing may close them a second time
        for (entry, fd) in self.entries.iter().zip(&mut self.assets) {
            if !last(entry) {
                std::mem::forget(fd.take());
            }
        }
        std::mem::forget(self.root.take());
        std::mem::forget(std::mem::take(&mut self.kernel));
        std::mem::forget(self.proc.take());
        exec::close_all_but(&keep).call(|| "close_range".to_owned())
    }

    /// The FIFO is open for reading and writing here, so the read blocks until `start` writes its byte.
    fn await_start(&mut self, fifo: AssetId) -> Result<()> {
        self.alone = true;
        let mut byte = [0];
        loop {
            match rustix::io::read(self.asset(fifo)?, &mut byte) {
                Err(Errno::INTR) => {}
                result => return result.call(|| "read the start FIFO".to_owned()).map(drop),
            }
        }
    }

    fn exec(&mut self, args: &[String], env: &[String]) -> Result<()> {
        let c_strings = |strings: &mut dyn Iterator<Item = String>| -> Result<Vec<CString>> {
            strings.map(|text| CString::new(text).map_err(|_| Error::new("a NUL in an argument"))).collect()
        };
        let program = self.program.take().ok_or_else(|| Error::new("no program was found"))?;
        let home = self.home.take().map(|home| format!("HOME={home}"));
        let args = c_strings(&mut args.iter().cloned())?;
        let env = c_strings(&mut env.iter().cloned().chain(home))?;
        let errno = exec::execve(&program, &args, &env);
        let name = program.to_string_lossy();
        let cause = preflight::explain(&name, errno, self.label.as_deref());
        let mut error = Error::os(format!("exec {name}"), errno).cause(cause);
        if self.landlocked && errno == Errno::ACCESS {
            error =
                error.hint("the annotations dev.ferrun.landlock.* must allow its execution, and that of its loader");
        }
        Err(error).context(|| "start the container process".to_owned())
    }
}
