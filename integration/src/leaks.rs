//! What a case may not leave behind: processes, mounts, descriptors, cgroups, units,
//! state. Looked at from the worker, beside the case.

use crate::case::open_fds;
use crate::cgroup;
use crate::mountinfo;
use crate::options::Options;
use crate::systemd;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

pub struct Before {
    processes: BTreeSet<i32>,
    mounts: String,
    fds: usize,
}

/// Time for what dies by itself: an orphan is reaped, a killed cgroup empties.
const GRACE: Duration = Duration::from_secs(10);

impl Before {
    pub fn look(options: &Options) -> Self {
        Self { processes: processes(options.init), mounts: mounts(), fds: open_fds() }
    }

    /// One sentence for each thing that was not there before.
    pub fn leftovers(&self, state: &Path, options: &Options) -> Vec<String> {
        let end = Instant::now() + GRACE;
        loop {
            let left = self.now(state, options);
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn now(&self, state: &Path, options: &Options) -> Vec<String> {
        let mut left = Vec::new();
        for pid in processes(options.init).difference(&self.processes) {
            left.push(format!("process {pid} ({})", command_line(*pid)));
        }
        if mounts() != self.mounts {
            left.push(format!("mounts of the host changed: {}", mountinfo::difference(&self.mounts, &mounts())));
        }
        if open_fds() != self.fds {
            left.push(format!("descriptors: {} before, {} after", self.fds, open_fds()));
        }
        left.extend(cgroups_left(options));
        if options.systemd() {
            left.extend(systemd::units(&options.tag).iter().map(|u| format!("unit {u}")));
        }
        for entry in fs::read_dir(state).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // crun keeps compiled seccomp filters for all containers there.
            if !(name == ".cache" && options.kind == "crun") {
                left.push(format!("state {name}"));
            }
        }
        left
    }

    /// Removes what is left, by the pids and paths that were found.
    pub fn clean(&self, options: &Options) {
        let tag = &options.tag;
        for round in 0..50 {
            let left: Vec<i32> = processes(options.init).difference(&self.processes).copied().collect();
            for pid in &left {
                if let Some(p) = Pid::from_raw(*pid) {
                    let _ = kill_process(p, Signal::KILL);
                }
            }
            thaw(tag);
            if left.is_empty() && round > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(if round == 0 { 0 } else { 10 }));
        }
        self.unmount_new();
        if options.systemd() {
            systemd::stop(&systemd::units(tag));
        }
        for h in cgroup::hierarchies() {
            cgroup::remove_tagged(&h, tag);
        }
    }

    /// Only what came since `look`, and only in this sandbox's own namespace.
    fn unmount_new(&self) {
        let old: BTreeSet<u32> = mountinfo::parse(&self.mounts).iter().map(|m| m.id).collect();
        for m in mountinfo::parse(&mounts()).iter().rev().filter(|m| !old.contains(&m.id)) {
            let _ = unmount(&m.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

/// A frozen process does not die.
fn thaw(tag: &str) {
    for h in cgroup::hierarchies() {
        for top in cgroup::tagged(&h, tag) {
            let mut todo = vec![top];
            while let Some(dir) = todo.pop() {
                let _ = fs::write(dir.join("freezer.state"), "THAWED");
                let _ = fs::write(dir.join("cgroup.freeze"), "0");
                todo.extend(cgroup::children(&dir));
            }
        }
    }
}

/// The case's own parent was made by the worker; below it, and anywhere else with
/// the tag in its name, nothing may be.
fn cgroups_left(options: &Options) -> Vec<String> {
    let mut left: Vec<String> = Vec::new();
    let own = options.cgroup_parent();
    for h in cgroup::hierarchies() {
        for dir in cgroup::tagged(&h, &options.tag) {
            if dir == h.join(own.trim_start_matches('/')) {
                left.extend(cgroup::children(&dir).iter().map(|d| format!("cgroup {}", d.display())));
            } else {
                left.push(format!("cgroup {}", dir.display()));
            }
        }
    }
    let more = left.len().saturating_sub(2);
    left.truncate(2);
    if more > 0 {
        left.push(format!("{more} more cgroups"));
    }
    left
}

/// The sandbox's init and its descendants. It adopts the orphans (as pid 1 or as
/// their subreaper), so what does not descend from it is not the sandbox's.
pub fn processes(init: i32) -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_string_lossy().parse().ok());
    let parents: BTreeMap<i32, i32> = pids.filter_map(|p| Some((p, parent(p)?))).collect();
    let descends = |mut pid: i32| {
        while pid != init {
            match parents.get(&pid) {
                Some(&p) if p != 0 => pid = p,
                _ => return false,
            }
        }
        true
    };
    parents.keys().copied().filter(|p| descends(*p)).collect()
}

/// None: it has gone meanwhile.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // PID (COMMAND) STATE PARENT …: the command may have blanks and brackets.
    let text = String::from_utf8_lossy(&stat).into_owned();
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn command_line(pid: i32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ").trim().to_owned()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}
