//! The machine's cgroup hierarchies, v1 and v2 alike.

use std::fs;
use std::path::{Path, PathBuf};

/// The mount point of each hierarchy.
pub fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found: Vec<PathBuf> = text
        .lines()
        .filter_map(|l| {
            let mut w = l.split(' ');
            let (_, point, kind) = (w.next()?, w.next()?, w.next()?);
            (kind.starts_with("cgroup") && point.starts_with("/sys/fs/cgroup")).then(|| point.into())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The directories of this name in the hierarchies that have it.
pub fn directories(path: &str) -> Vec<PathBuf> {
    let inside = path.trim_start_matches('/');
    hierarchies().into_iter().map(|h| h.join(inside)).filter(|p| p.is_dir()).collect()
}

/// Makes a parent for one case everywhere. An empty v1 cpuset admits nobody, so
/// it gets what its own parent has.
pub fn make(path: &str) -> std::io::Result<()> {
    for h in hierarchies() {
        let mut dir = h.clone();
        for part in path.trim_start_matches('/').split('/') {
            let above = dir.clone();
            dir.push(part);
            if dir.is_dir() {
                continue;
            }
            fs::create_dir(&dir)?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(v) = fs::read(above.join(file)) {
                    let _ = fs::write(dir.join(file), v);
                }
            }
        }
    }
    Ok(())
}

/// Directories below `top` whose own name contains the tag (not those below
/// such a one).
pub fn tagged(top: &Path, tag: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![top.to_path_buf()];
    while let Some(dir) = todo.pop() {
        for path in children(&dir) {
            let hit = path.file_name().is_some_and(|n| n.to_string_lossy().contains(tag));
            if hit { found.push(path) } else { todo.push(path) }
        }
    }
    found
}

pub fn children(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

/// rmdir of a tree of cgroups, leaves first. The kernel refuses those in use.
pub fn remove_tree(dir: &Path) {
    for c in children(dir) {
        remove_tree(&c);
    }
    let _ = fs::remove_dir(dir);
}

pub fn remove_tagged(top: &Path, tag: &str) {
    for dir in tagged(top, tag) {
        remove_tree(&dir);
    }
}

/// The paths of a /proc/PID/cgroup that a runtime must have chosen: a v2 beside
/// v1 hierarchies may be left alone, v2 by itself may not. It is by itself where it is what is mounted, even if
/// the kernel has v1 hierarchies that nobody sees.
pub fn paths(text: &str) -> Vec<&str> {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    text.lines().filter(|line| line.starts_with("0:") == v2).filter_map(last_field).collect()
}

fn last_field(line: &str) -> Option<&str> {
    line.splitn(3, ':').nth(2)
}

/// The pids in a cgroup (of one hierarchy's directory).
pub fn procs(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}
