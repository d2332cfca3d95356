//! The machine's cgroup hierarchies, v1 and v2 alike.

use crate::systemd;
use rustix::fs::{Access, access, getxattr};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
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

/// A cgroupsPath as a path in the hierarchies: `a-b.slice:prefix:name` is the scope
/// `prefix-name.scope` in the slice `a-b.slice`, which is in `a.slice`.
pub fn resolve(path: &str) -> String {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else { return path.to_owned() };
    let words: Vec<&str> = slice.trim_end_matches(".slice").split('-').collect();
    let slices: String = (1..=words.len()).map(|n| format!("/{}.slice", words[..n].join("-"))).collect();
    format!("{}{slices}/{prefix}-{name}.scope", systemd::top())
}

/// The directories of this cgroupsPath in the hierarchies that have it.
pub fn directories(path: &str) -> Vec<PathBuf> {
    let path = resolve(path);
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

/// `TOP/NAME`, and the v2 controllers that are there may be used below it. (Nothing is
/// enabled in the root: that is the machine's own affair.)
pub fn make_parent(top: &str, name: &str) -> std::io::Result<()> {
    let path = format!("{top}/{name}");
    make(&path)?;
    let enabled: Vec<&str> = if top.is_empty() { vec![&path] } else { vec![top, &path] };
    for dir in enabled.into_iter().flat_map(directories) {
        enable_controllers(&dir);
    }
    Ok(())
}

/// What is to be given away with a cgroup: cgroups(7), Cgroups delegation.
const DELEGATED: [&str; 4] = ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];

/// Gives a cgroup to a user.
pub fn give(dir: &Path, uid: u32, gid: u32) -> std::io::Result<()> {
    for file in DELEGATED {
        match chown(dir.join(file), Some(uid), Some(gid)) {
            // v1 has not all of them
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(())
}

/// Makes `path` below `dir`, as the owner of `dir` would.
pub fn make_below(dir: &Path, path: &str) -> std::io::Result<()> {
    let owner = fs::metadata(dir)?;
    let mut dir = dir.to_path_buf();
    for part in path.split('/') {
        dir.push(part);
        fs::create_dir(&dir)?;
        give(&dir, owner.uid(), owner.gid())?;
    }
    Ok(())
}

/// A directory with processes of its own refuses; it stays as it is.
fn enable_controllers(dir: &Path) {
    let all = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    for c in all.split_whitespace() {
        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{c}"));
    }
}

/// Whether there is a hierarchy in which this process may make cgroups.
pub fn can_be_made() -> bool {
    hierarchies().iter().any(|dir| access(dir, Access::WRITE_OK).is_ok())
}

/// The cgroup around this process that systemd has delegated, as a path in the v2
/// hierarchy; empty without one. Elsewhere systemd may take controllers away at any
/// time, and with them the limits that a case has set.
pub fn delegated() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or_default();
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return String::new();
    }
    let mut ancestors = Path::new(own).ancestors().skip(1);
    let found = ancestors.find(|dir| {
        let dir = Path::new("/sys/fs/cgroup").join(dir.strip_prefix("/").unwrap_or(dir));
        let mut value = [0; 8];
        getxattr(dir, "trusted.delegate", &mut value).is_ok_and(|n| n == 1 && value[0] == b'1')
    });
    found.map(|d| d.display().to_string()).unwrap_or_default()
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

/// The pids in a cgroup and those below it: crun puts a container into
/// SCOPE/container.
pub fn members(dir: &Path) -> Vec<i32> {
    let mut all = procs(dir);
    for c in children(dir) {
        all.extend(members(&c));
    }
    all
}

/// The pids in a cgroup (of one hierarchy's directory).
pub fn procs(dir: &Path) -> Vec<i32> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|l| l.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::resolve;

    #[test]
    fn scopes_are_in_the_slices_of_their_slices_name() {
        assert_eq!(resolve("a-b-c.slice:p:n"), "/a.slice/a-b.slice/a-b-c.slice/p-n.scope");
        assert_eq!(resolve("system.slice:runc:web"), "/system.slice/runc-web.scope");
        assert_eq!(resolve("/top/name"), "/top/name");
    }
}
