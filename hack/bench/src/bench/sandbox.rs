//! Where the runs happen: private namespaces, a tmpfs, and one cgroup parent in every hierarchy.
//!
//! It must never change the machine's own mounts, and removes exactly what it made: by recorded path, after the pid
//! namespace (and with it every process that a run left) is gone.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use crate::Res;
use crate::args::Options;
use crate::cgroups::{self, Layout};

const SYSTEMD: &str = "systemd";

/// Set in the inner process: the place, as text.
pub(crate) const INNER: &str = "FERRUN_BENCH_PLACE";

pub(crate) struct Place {
    /// On a tmpfs of the private mount namespace: bundles, state roots, scratch files.
    pub(crate) dir: PathBuf,
    /// Name of the cgroup that is the parent of all containers, in each hierarchy.
    pub(crate) cgroup: String,
    pub(crate) layout: Layout,
    /// The runtimes are told to use systemd.
    pub(crate) systemd: bool,
}

impl Place {
    pub(crate) fn from_text(text: &str) -> Res<Place> {
        let mut parts = text.split('|').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(dir), Some(cgroup), Some(word), Some(driver)) => {
                let (layout, systemd) = (Layout::from_word(&word), driver == SYSTEMD);
                Ok(Place { dir: dir.into(), cgroup, layout, systemd })
            }
            _ => Err(format!("{INNER} is not what the outer bench writes")),
        }
    }

    fn text(&self) -> String {
        let driver = if self.systemd { SYSTEMD } else { "" };
        format!("{}|{}|{}|{driver}", self.dir.display(), self.cgroup, self.layout.word())
    }

    pub(crate) fn cgroup_dirs(&self) -> Vec<PathBuf> {
        self.layout.directories(&self.cgroup)
    }

    /// For a config.json, from a container's cgroup.
    pub(crate) fn cgroups_path(&self, cgroup: &str) -> String {
        match cgroup.rsplit_once('/') {
            Some((_, name)) if self.systemd => format!("{}:bench:{name}", self.slice()),
            _ => format!("/{cgroup}"),
        }
    }

    /// Directly below the root: a dash would be a step down.
    pub(crate) fn slice(&self) -> String {
        format!("{}.slice", self.cgroup.replace('-', "_"))
    }
}

/// The outer process: makes the place, runs the inner one in it, removes the place.
pub(crate) fn supervise(options: &Options, words: &[String]) -> Res<ExitCode> {
    // Descriptors of whoever called (a lock, a pipe) are nothing for the containers.
    // SAFETY: no pointers; only marks close-on-exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    // Looked up before the namespaces, for its early message.
    crate::runtime::find(options)?;
    // And this: in a new mount namespace its path counts from the old mount that it is on.
    let exe = std::env::current_exe().map_err(|e| format!("current_exe: {e}"))?;
    let signals = block_signals();
    let place = Place {
        dir: std::env::temp_dir().join(format!("ferrun-bench-{}", std::process::id())),
        cgroup: format!("ferrun-bench-{}", std::process::id()),
        layout: Layout::find()?,
        systemd: options.systemd,
    };
    if place.systemd && !(place.layout == Layout::V2 && Path::new("/run/systemd/system").exists()) {
        return Err("--systemd-cgroup is for cgroup v2 under systemd, and this is not: hack/bench/vm has it".to_owned());
    }
    fs::create_dir(&place.dir).map_err(|e| format!("mkdir {}: {e}", place.dir.display()))?;
    let result = make(&place, options.limits).and_then(|()| spawn_inner(&place, &exe, words)).and_then(|child| {
        let group = child.id() as libc::pid_t;
        let code = watch(child, &signals);
        let ended = if place.systemd { end_processes(&place, group) } else { Ok(()) };
        code.and_then(|code| ended.map(|()| code))
    });
    // Both, whatever came before.
    let cgroups = cgroups::remove(&place);
    let dir = remove_dir(&place);
    let code = result?;
    cgroups.and(dir).map(|()| code)
}

fn make(place: &Place, limits: bool) -> Res<()> {
    // systemd must know the processes by the pids that the runtimes tell it.
    let namespaces = libc::CLONE_NEWNS | if place.systemd { 0 } else { libc::CLONE_NEWPID };
    // SAFETY: no pointers; this process has one thread.
    check("unshare", unsafe { libc::unshare(namespaces) })?;
    mount(c"none", "/", c"none", libc::MS_REC | libc::MS_PRIVATE)?;
    // crun refuses a cgroup2 with controllers beside v1: the same pure v1 view for everybody.
    if Path::new("/sys/fs/cgroup/unified/cgroup.procs").exists() {
        unmount("/sys/fs/cgroup/unified")?;
    }
    mount(c"tmpfs", &place.dir.to_string_lossy(), c"tmpfs", 0)?;
    cgroups::make(place, limits)
}

fn spawn_inner(place: &Place, exe: &Path, words: &[String]) -> Res<Child> {
    Command::new(exe).args(words).env(INNER, place.text()).spawn().map_err(|e| format!("spawn the inner bench: {e}"))
}

/// Waits for the inner process; the first SIGINT, SIGTERM or SIGHUP ends its pid namespace.
fn watch(mut child: Child, signals: &libc::sigset_t) -> Res<ExitCode> {
    loop {
        if let Some(status) = child.try_wait().map_err(|e| format!("wait: {e}"))? {
            return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        // SAFETY: the set is initialised; no siginfo is asked for.
        let signal = unsafe { libc::sigwaitinfo(signals, std::ptr::null_mut()) };
        if signal > 0 && signal != libc::SIGCHLD {
            child.kill().map_err(|e| format!("kill the inner bench: {e}"))?;
            child.wait().map_err(|e| format!("wait: {e}"))?;
            return Err(format!("interrupted by signal {signal}"));
        }
    }
}

/// What the end of a pid namespace does elsewhere: ends the runtimes that still run (they have the inner process's
/// group) and the containers, and removes the slice.
fn end_processes(place: &Place, group: libc::pid_t) -> Res<()> {
    // SAFETY: no pointers; the group is of the process that was spawned here, or gone.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    for dir in place.cgroup_dirs().into_iter().chain(place.layout.directories(&place.slice())) {
        // Not there: nothing was made in it.
        let _ = fs::write(dir.join("cgroup.kill"), "1");
    }
    let status = Command::new("systemctl").args(["stop", &place.slice()]).status();
    match status.map_err(|e| format!("systemctl: {e}"))?.success() {
        true => Ok(()),
        false => Err(format!("systemctl stop {} failed", place.slice())),
    }
}

/// SIGCHLD too: a blocked one stays pending, so `watch` cannot miss it between its two calls.
fn block_signals() -> libc::sigset_t {
    // SAFETY: sigset_t is plain integers; both calls get pointers to live sets.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        for signal in [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            libc::sigaddset(&mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        set
    }
}

fn remove_dir(place: &Place) -> Res<()> {
    // Only our private namespace has the tmpfs; not being mounted (an early failure) is fine.
    let _ = unmount(&place.dir.to_string_lossy());
    fs::remove_dir(&place.dir).map_err(|e| format!("rmdir {}: {e}", place.dir.display()))
}

/// The inner process's first steps: as PID 1, or as the one to whom orphans fall.
pub(crate) fn become_init(place: &Place) -> Res<()> {
    // SAFETY: no pointers but the set, which is initialised by zeroing and live.
    unsafe {
        // The supervisor removes what is left; without it nothing may go on here.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let set: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &set, std::ptr::null_mut());
    }
    if place.systemd {
        // SAFETY: no pointers.
        return check("become a subreaper", unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) });
    }
    if std::process::id() != 1 {
        return Err(format!("{INNER} is for the bench's own use"));
    }
    mount(c"proc", "/proc", c"proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
}

fn mount(source: &CStr, target: &str, kind: &CStr, flags: libc::c_ulong) -> Res<()> {
    let path = CString::new(target).map_err(|e| e.to_string())?;
    // SAFETY: four live C strings or null.
    let result = unsafe { libc::mount(source.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    check(&format!("mount {target}"), result)
}

fn unmount(target: &str) -> Res<()> {
    let path = CString::new(target).map_err(|e| e.to_string())?;
    // SAFETY: a live C string.
    check(&format!("umount {target}"), unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })
}

fn check(what: &str, result: libc::c_int) -> Res<()> {
    if result < 0 { Err(format!("{what}: {}", Error::last_os_error())) } else { Ok(()) }
}
