//! The container's cgroups: made, limited, emptied, removed. One facade over both versions and systemd.

mod controllers;
pub mod devices;
pub mod events;
pub mod freezer;
pub mod limits;
mod settings;
pub mod stats;
pub mod systemd;
mod v1;
mod v2;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, chownat, mkdirat, open, unlinkat};
use rustix::io::Errno;

use crate::config::resources::DeviceRule;
use crate::error::{Call, Context, Error, Result};
use crate::host::{CGROUP_ROOT, Cgroups};
use crate::plan::cgroupfs::{Hierarchies, Placement, Unit};
use crate::sys;

pub use v2::of;

use limits::{Limits, Rule, Version};
use systemd::Scope;
use systemd::unit::Property;

/// What is to be given away with a cgroup, since Linux 4.15.
const DELEGATED: &str = "/sys/kernel/cgroup/delegate";
const DELEGATED_ALWAYS: &str = "cgroup.procs\ncgroup.threads\ncgroup.subtree_control\n";

/// How long the kernel may take to get rid of killed processes.
const EMPTY_DEADLINE: Duration = Duration::from_secs(10);

/// Makes the container's cgroups, which must not exist or be empty. What a failure leaves is for
/// [`remove_unused`].
///
/// # Errors
/// One exists and has processes in it, or is frozen; the file system refuses.
pub fn make(placement: &Placement) -> Result<()> {
    for directory in placement.directories() {
        let made = match &placement.hierarchies {
            Hierarchies::V1 { .. } => v1::make(directory),
            _ => v2::make(directory),
        };
        made.map_err(|error| error.path(directory).at("/linux/cgroupsPath"))
            .context(|| format!("make cgroup {}", directory.display()))?;
    }
    Ok(())
}

/// The directory in which this process would have to make a cgroup, or of which it would have to be, and may not.
/// None: nothing is in the way.
pub fn refusal(placement: &Placement, cgroups: &Cgroups) -> Option<PathBuf> {
    let may_write =
        |path: &Path| rustix::fs::accessat(CWD, path, rustix::fs::Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    let exists = |path: &&Path| rustix::fs::lstat(*path).is_ok();
    for directory in placement.directories() {
        let parent = directory.ancestors().skip(1).find(exists)?;
        if !may_write(parent) {
            return Some(parent.to_owned());
        }
        // who moves a process needs the right to do so where both cgroups meet: cgroups(7), Delegation Containment
        if let Cgroups::V2 { own } = cgroups {
            let own = Path::new(CGROUP_ROOT).join(own.strip_prefix("/").unwrap_or(own));
            let common = directory.ancestors().find(|ancestor| own.starts_with(ancestor))?;
            if !may_write(&common.join("cgroup.procs")) {
                return Some(common.to_owned());
            }
        }
    }
    None
}

/// Gives a cgroup of version 2 to `uid`: the directory and the files that the kernel lists for that.
///
/// # Errors
/// chown(2) refuses.
pub fn give(placement: &Placement, uid: u32) -> Result<()> {
    let Hierarchies::V2 { directory } = &placement.hierarchies else { return Ok(()) };
    let chown = |path: &Path| {
        let uid = Some(rustix::fs::Uid::from_raw(uid));
        match chownat(CWD, path, uid, None, AtFlags::SYMLINK_NOFOLLOW) {
            // of a controller that this cgroup does not have
            Err(Errno::NOENT) => Ok(()),
            result => result.call(|| "chown".to_owned()).map_err(|error| error.path(path)),
        }
    };
    let give = || {
        chown(directory)?;
        let files = sys::proc::read(Path::new(DELEGATED)).unwrap_or_else(|_| DELEGATED_ALWAYS.to_owned());
        files.lines().try_for_each(|file| chown(&directory.join(file)))
    };
    give().context(|| format!("give cgroup {} to user {uid}", directory.display()))
}

/// Writes the limits of a new container's cgroups, device rules among them.
///
/// # Errors
/// One that this host cannot apply: it names the JSON pointer, the controller and the hierarchy.
pub fn apply(placement: &Placement, limits: &Limits) -> Result<()> {
    settings::apply(placement, &limits.settings)?;
    match &limits.devices {
        Some(rules) => devices::apply(placement, rules),
        None => Ok(()),
    }
}

/// Changes the limits of a container that exists, and tells systemd where that made the cgroups.
///
/// # Errors
/// As [`apply`]; a memory limit below what is used. The old limits stand then.
pub fn update(placement: &Placement, limits: &Limits, version: Version) -> Result<()> {
    let undo = settings::update(placement, &limits.settings, limits.check_memory)?;
    let rest = || {
        if let Some(unit) = &placement.unit {
            tell(unit, placement, limits, version)?;
        }
        // after systemd, which attaches programs of its own
        limits.devices.as_ref().map_or(Ok(()), |rules| devices::update(placement, rules))
    };
    rest().inspect_err(|_| undo.run(placement))
}

/// Tells systemd what was written.
fn tell(unit: &Unit, placement: &Placement, limits: &Limits, version: Version) -> Result<()> {
    let limits = in_force(placement, limits)?;
    let properties = systemd::unit::changes(unit, &limits, version)?;
    if let (Some(rules), Some(program)) = (&limits.devices, &unit.program) {
        pin(rules, program)?;
    }
    systemd::set(unit, &properties)?;
    // systemd has written its own, rounded ones
    settings::update(placement, &limits.settings, false).map(drop)
}

/// The same limits with what the files made of those that count from what was there.
fn in_force(placement: &Placement, limits: &Limits) -> Result<Limits> {
    let mut limits = limits.clone();
    let parts = ["cpu.max", "memory.swap.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"];
    for setting in limits.settings.iter_mut().filter(|setting| parts.contains(&setting.file.as_str())) {
        let has = |directory: &&PathBuf| {
            matches!(placement.hierarchies, Hierarchies::V2 { .. })
                || v1::has_controller(directory, &setting.controller)
        };
        let Some(directory) = placement.directories().iter().find(has) else { continue };
        match read(directory, &setting.file) {
            Ok(text) => (setting.value, setting.rule) = (text.trim().to_owned(), Rule::Plain),
            // a kernel that cannot swap
            Err(error) if error.errno() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(limits)
}

/// Whether the kernel killed a process of the container because a memory limit was reached.
pub fn oom_killed(placement: &Placement) -> bool {
    let killed = |text: String| text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|n| n != "0"));
    let file = |directory: &&PathBuf| match &placement.hierarchies {
        Hierarchies::V1 { .. } => v1::has_controller(directory, "memory").then_some("memory.oom_control"),
        _ => Some("memory.events"),
    };
    placement
        .directories()
        .iter()
        .any(|directory| file(&directory).is_some_and(|file| read(directory, file).is_ok_and(killed)))
}

/// Reaches the systemd that is to make the container's scope; nothing is made yet.
///
/// # Errors
/// There is no bus.
pub fn reach_systemd(placement: &Placement) -> Result<Scope<'_>> {
    match &placement.unit {
        Some(unit) => Scope::reach(unit),
        None => Err(Error::new("there is no unit to enter")),
    }
}

/// Has systemd make the container's scope around process `pid`, which waits outside of it.
///
/// # Errors
/// systemd refuses, does not answer in time, or puts the process into another cgroup than planned.
pub fn enter_unit(
    scope: Scope<'_>,
    placement: &Placement,
    limits: &Limits,
    properties: &[Property],
    pid: i32,
) -> Result<()> {
    let program = placement.unit.as_ref().and_then(|unit| unit.program.as_ref());
    let pin = || match (&limits.devices, program) {
        (Some(rules), Some(program)) => pin(rules, program),
        _ => Ok(()),
    };
    scope.make(properties, pid, pin)?;
    check_entered(placement, pid).context(|| "enter the scope".to_owned())?;
    if let Hierarchies::V1 { directories } = &placement.hierarchies {
        // systemd makes those of its own controllers only
        for directory in directories.iter().filter(|directory| std::fs::symlink_metadata(directory).is_err()) {
            v1::make(directory).map_err(|error| error.path(directory))?;
        }
    }
    Ok(())
}

/// Has systemd put process `pid` of the caller's into `wanted`, which is the container's cgroup or one below: the systemd
/// of a user may, where the user may not.
///
/// # Errors
/// It refuses, or does not answer in time.
pub fn attach(container: &Placement, wanted: &Hierarchies, pid: i32) -> Result<()> {
    let (Some(unit), Hierarchies::V2 { directory: scope }, Hierarchies::V2 { directory }) =
        (&container.unit, &container.hierarchies, wanted)
    else {
        return Err(Error::new("there is no unit to enter"));
    };
    let below = directory.strip_prefix(scope).map_err(|_| {
        Error::new(format!("{} is not in the container's cgroup {}", directory.display(), scope.display()))
    })?;
    systemd::attach(unit, below, pid)
}

/// Pins the program of the device rules where systemd is told to find it.
fn pin(rules: &[DeviceRule], program: &Path) -> Result<()> {
    if let Some(directory) = program.parent() {
        match mkdirat(CWD, directory, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::os("mkdir", errno).path(directory)),
        }
    }
    devices::pin(rules, program)
}

fn unpin(placement: &Placement) -> Result<()> {
    let program = placement.unit.as_ref().and_then(|unit| unit.program.as_ref());
    program.map_or(Ok(()), |program| devices::unpin(program))
}

/// The limits would go to a cgroup that the process is not in.
fn check_entered(placement: &Placement, pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/cgroup");
    let text = sys::proc::read(Path::new(&path)).call(|| format!("read {path}"))?;
    let (prefix, mount) = match &placement.hierarchies {
        Hierarchies::V1 { .. } => (":name=systemd:", Path::new(CGROUP_ROOT).join("systemd")),
        _ => ("0::", CGROUP_ROOT.into()),
    };
    let Some(own) = text.lines().find_map(|line| line.split_once(prefix)).map(|(_, own)| own) else { return Ok(()) };
    let own = mount.join(own.trim_start_matches('/'));
    let planned = placement.directories();
    if planned.contains(&own) || !planned.iter().any(|directory| directory.starts_with(&mount)) {
        return Ok(());
    }
    let planned = planned.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(", ");
    Err(Error::new(format!("systemd put the process into {}, not into {planned}", own.display())))
}

/// Ends every process in the container's cgroups and waits until they are gone.
pub fn kill(placement: &Placement) -> Result<()> {
    match &placement.hierarchies {
        Hierarchies::None => Ok(()),
        Hierarchies::V1 { directories } => v1::kill(directories),
        Hierarchies::V2 { directory } => v2::kill(directory),
    }
}

/// Sends `signal` to every process in the container's cgroups. SIGKILL reaches the frozen too.
pub fn signal_all(placement: &Placement, signal: i32) -> Result<()> {
    match (&placement.hierarchies, signal) {
        (Hierarchies::V2 { directory }, libc::SIGKILL) => v2::kill_all(directory).map(drop),
        _ => match (v1::for_processes(placement.directories()), signal) {
            (Some(directory), libc::SIGKILL) => v1::kill_all(directory),
            (Some(directory), _) => v1::signal_all(directory, signal),
            (None, _) => Ok(()),
        },
    }
}

/// All processes in the container's cgroups and those below. One that our pid namespace does not see is none.
pub fn pids(placement: &Placement) -> Result<Vec<i32>> {
    let Some(directory) = v1::for_processes(placement.directories()) else { return Ok(Vec::new()) };
    let mut pids = v1::pids(directory)?;
    pids.retain(|&pid| pid > 0);
    Ok(pids)
}

/// Processes that were killed and are still there: who, and where they are.
fn left_over(directory: &Path) -> Error {
    let tasks = v1::pids(directory).unwrap_or_default();
    let left: Vec<String> =
        tasks.into_iter().filter_map(sys::proc::Whereabouts::of).map(|task| task.to_string()).collect();
    Error::new(format!("processes do not end: {}", left.join(", ")))
        .path(directory)
        .within(format!("empty cgroup {}", directory.display()))
}

/// Removes those of the container's cgroups that are empty: none of its processes was ever in them.
///
/// # Errors
/// systemd does not answer in time.
pub fn remove_unused(placement: &Placement) -> Result<()> {
    let stopped = placement.unit.as_ref().map_or(Ok(true), systemd::stop_unused);
    for directory in placement.directories() {
        // somebody else's if it is busy
        let _ = rmdir(directory);
    }
    if stopped? { unpin(placement) } else { Ok(()) }
}

/// Removes the container's cgroups. What is gone already is fine; only when one is busy are its processes
/// ended and its children removed.
pub fn remove(placement: &Placement) -> Result<()> {
    let mut busy = false;
    for directory in placement.directories() {
        match rmdir(directory) {
            Ok(()) => {}
            Err(Errno::BUSY | Errno::NOTEMPTY) => busy = true,
            Err(errno) => return Err(removal_failed(directory, errno)),
        }
    }
    if busy {
        kill(placement)?;
        for directory in placement.directories() {
            remove_tree(directory)?;
        }
    }
    placement.unit.as_ref().map_or(Ok(()), systemd::stop)?;
    unpin(placement)
}

fn removal_failed(directory: &Path, errno: Errno) -> Error {
    Error::os("rmdir", errno).path(directory).within(format!("remove cgroup {}", directory.display()))
}

fn rmdir(directory: &Path) -> Result<(), Errno> {
    match unlinkat(CWD, directory, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Children first. A process that was just killed keeps its cgroup busy for a moment.
fn remove_tree(directory: &Path) -> Result<()> {
    for child in children(directory)? {
        remove_tree(&directory.join(child))?;
    }
    let deadline = Instant::now() + EMPTY_DEADLINE;
    let mut pause = Duration::from_millis(1);
    loop {
        match rmdir(directory) {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(errno) => return Err(removal_failed(directory, errno)),
        }
    }
}

/// The names of the cgroups directly below.
fn children(directory: &Path) -> Result<Vec<std::ffi::OsString>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::os("open", error).path(directory)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // one that vanishes meanwhile is none
        if let Ok(entry) = entry
            && entry.file_type().is_ok_and(|kind| kind.is_dir())
        {
            names.push(entry.file_name());
        }
    }
    Ok(names)
}

/// A file of a cgroup, whole.
fn read(directory: &Path, file: &str) -> Result<String> {
    let path = directory.join(file);
    sys::proc::read(&path).call(|| format!("read {}", path.display()))
}

fn write(directory: &Path, file: &str, text: &str) -> Result<()> {
    let path = directory.join(file);
    let write = || {
        let fd = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::write(&fd, text.as_bytes()).map(drop)
    };
    write().call(|| format!("write {text} to {}", path.display()))
}

/// Cgroups below the container's own: each of `paths` is for all controllers, or after `CONTROLLER[,CONTROLLER]:`
/// for these (v1 only).
///
/// # Errors
/// A path that leads out of the container's cgroup; a controller without a hierarchy.
pub fn below(placement: &Placement, paths: &[String]) -> Result<Placement> {
    let mut below = placement.clone();
    for spec in paths {
        let (controllers, path) = match spec.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), spec.as_str()),
        };
        let path = Path::new(path.trim_start_matches('/'));
        if path.components().any(|part| !matches!(part, std::path::Component::Normal(_) | std::path::Component::CurDir))
        {
            return Err(Error::new(format!("{spec} leads out of the container's cgroup")));
        }
        match &mut below.hierarchies {
            Hierarchies::None => return Err(Error::new("the container has no cgroup")),
            Hierarchies::V2 { directory } if controllers.is_empty() => *directory = directory.join(path),
            Hierarchies::V2 { .. } => {
                return Err(Error::new(format!("{spec}: cgroup v2 has one hierarchy: no controller can be named")));
            }
            Hierarchies::V1 { directories } => {
                let wanted = |directory: &Path| {
                    controllers.is_empty() || controllers.iter().any(|one| v1::has_controller(directory, one))
                };
                if let Some(one) =
                    controllers.iter().find(|one| !directories.iter().any(|dir| v1::has_controller(dir, one)))
                {
                    return Err(Error::new(format!("{spec}: no hierarchy has the controller {one}")));
                }
                for directory in directories.iter_mut().filter(|directory| wanted(directory)) {
                    *directory = directory.join(path);
                }
            }
        }
    }
    Ok(below)
}
