//! The parent of all containers' cgroups: found its place, made, removed again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Res;
use crate::sandbox::Place;

const ROOT: &str = "/sys/fs/cgroup";
/// What the limits of the bundles need.
const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

/// What the containers' cgroups are made in.
#[derive(Clone, PartialEq)]
pub(crate) enum Layout {
    /// Directory names of the hierarchies below /sys/fs/cgroup.
    V1(Vec<String>),
    /// One cgroup2 at /sys/fs/cgroup.
    V2,
}

impl Layout {
    /// As the machine has it: any v1 hierarchy makes it v1, whatever cgroup2 is beside it.
    pub(crate) fn find() -> Res<Layout> {
        let text = fs::read_to_string("/proc/self/mountinfo").map_err(|e| format!("/proc/self/mountinfo: {e}"))?;
        let mounts = || {
            text.lines().filter_map(|line| {
                let (mount, source) = line.split_once(" - ")?;
                Some((mount.split(' ').nth(4)?.strip_prefix(ROOT)?, source.split(' ').next()?))
            })
        };
        let name = |(point, kind): (&str, &str)| (kind == "cgroup").then(|| point.trim_start_matches('/').to_owned());
        let hierarchies: Vec<String> = mounts().filter_map(name).collect();
        if !hierarchies.is_empty() {
            return Ok(Layout::V1(hierarchies));
        }
        let v2 = mounts().any(|mount| mount == ("", "cgroup2"));
        if v2 { Ok(Layout::V2) } else { Err(format!("no cgroup file system below {ROOT}")) }
    }

    /// One word, for the floor and for the inner process.
    pub(crate) fn word(&self) -> String {
        match self {
            Layout::V1(hierarchies) => hierarchies.join(":"),
            Layout::V2 => "v2".to_owned(),
        }
    }

    pub(crate) fn from_word(word: &str) -> Layout {
        match word {
            "v2" => Layout::V2,
            hierarchies => Layout::V1(hierarchies.split(':').map(str::to_owned).collect()),
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self {
            Layout::V1(hierarchies) => format!("cgroup v1: {}", hierarchies.join(" ")),
            Layout::V2 => format!("cgroup v2: {}", read(&Path::new(ROOT).join("cgroup.controllers"))),
        }
    }

    /// The cgroup of that name in each hierarchy.
    pub(crate) fn directories(&self, cgroup: &str) -> Vec<PathBuf> {
        match self {
            Layout::V1(hierarchies) => hierarchies.iter().map(|h| Path::new(ROOT).join(h).join(cgroup)).collect(),
            Layout::V2 => vec![Path::new(ROOT).join(cgroup)],
        }
    }
}

pub(crate) fn make(place: &Place, limits: bool) -> Res<()> {
    if place.layout == Layout::V2 && limits {
        delegate_needed(Path::new(ROOT))?;
    }
    for dir in place.cgroup_dirs() {
        fs::create_dir(&dir).map_err(|e| format!("mkdir {}: {e}", dir.display()))?;
        match place.layout {
            Layout::V1(_) => inherit_cpuset(&dir)?,
            Layout::V2 => delegate_all(&dir)?,
        }
    }
    Ok(())
}

/// A fresh v1 cpuset takes no task until it has processors and memory nodes.
fn inherit_cpuset(dir: &Path) -> Res<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read(dir.with_file_name(file)) {
            fs::write(dir.join(file), value).map_err(|e| format!("{}/{file}: {e}", dir.display()))?;
        }
    }
    Ok(())
}

/// Nearly always they are enabled there; if not, a runtime would have to enable them too, and nobody takes them back
/// while a cgroup of ours passes them on.
fn delegate_needed(root: &Path) -> Res<()> {
    let (there, enabled) = (read(&root.join("cgroup.controllers")), read(&root.join("cgroup.subtree_control")));
    let has = |list: &str, name: &str| list.split(' ').any(|word| word == name);
    if let Some(name) = NEEDED.iter().find(|name| !has(&there, name)) {
        return Err(format!(
            "cgroup v2 here has no controller {name} (only: {there}), so no runtime can apply the limits of the bundles: \
             --no-limits leaves them out"
        ));
    }
    NEEDED.iter().filter(|name| !has(&enabled, name)).try_for_each(|name| enable(root, name))
}

/// Every runtime enables all that it can on the way to a container's cgroup: done before, so that none does it for
/// the others.
fn delegate_all(dir: &Path) -> Res<()> {
    read(&dir.join("cgroup.controllers")).split_whitespace().try_for_each(|name| enable(dir, name))
}

fn enable(dir: &Path, controller: &str) -> Res<()> {
    let file = dir.join("cgroup.subtree_control");
    fs::write(&file, format!("+{controller}")).map_err(|e| format!("+{controller} to {}: {e}", file.display()))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

pub(crate) fn remove(place: &Place) -> Res<()> {
    let mut left = Vec::new();
    for dir in place.cgroup_dirs().into_iter().filter(|dir| dir.exists()) {
        remove_tree(&dir, &mut left);
        if let Err(e) = fs::remove_dir(&dir) {
            left.push(format!("{} ({e})", dir.display()));
        }
    }
    if !left.is_empty() {
        eprintln!(
            "bench: cgroups that a runtime left behind (now removed, unless it says why not):\n  {}",
            left.join("\n  ")
        );
    }
    let stuck = place.cgroup_dirs().into_iter().find(|dir| dir.exists());
    stuck.map_or(Ok(()), |dir| Err(format!("cannot remove {}", dir.display())))
}

/// Depth first; a cgroup directory's files are not entries that one removes.
fn remove_tree(dir: &Path, left: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), left);
            let note = fs::remove_dir(entry.path()).err().map(|e| format!(" ({e})")).unwrap_or_default();
            left.push(format!("{}{note}", entry.path().display()));
        }
    }
}
