//! Version 2: which controllers a cgroup has. Each parent hands them down, by its `cgroup.subtree_control`.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::host::CGROUP_ROOT;

use super::{read, write};

/// What every container gets where there is it, limited or not: statistics are counted from the start only.
const USUAL: [&str; 8] = ["cpu", "cpuset", "hugetlb", "io", "memory", "misc", "pids", "rdma"];

/// Makes the usual controllers and `needed` available in `directory`, as far as that is possible: what is missing
/// is noticed by who needs it.
pub(super) fn hand_down<'a>(directory: &Path, needed: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut missing: Vec<&str> = USUAL.into_iter().chain(needed.filter(|name| *name != "cgroup")).collect();
    missing.sort_unstable();
    missing.dedup();
    without(&mut missing, &read(directory, "cgroup.controllers")?);
    if missing.is_empty() {
        return Ok(());
    }
    let root = read(Path::new(CGROUP_ROOT), "cgroup.controllers")?;
    missing.retain(|name| has(&root, name));
    if missing.is_empty() {
        return Ok(());
    }
    let levels = levels(directory);
    // those above the first that has all of them hand them down already
    let has_all = |level: &&PathBuf| {
        level.as_path() == Path::new(CGROUP_ROOT)
            || read(level, "cgroup.controllers").is_ok_and(|text| missing.iter().all(|name| has(&text, name)))
    };
    let first = levels.iter().rposition(|level| has_all(&level)).unwrap_or_default();
    for level in levels.iter().skip(first) {
        enable(level, &missing);
    }
    Ok(())
}

fn has(text: &str, controller: &str) -> bool {
    text.split_whitespace().any(|name| name == controller)
}

fn without(names: &mut Vec<&str>, text: &str) {
    names.retain(|name| !has(text, name));
}

/// The cgroups above `directory`, the root first.
fn levels(directory: &Path) -> Vec<PathBuf> {
    let above = directory.ancestors().skip(1).take_while(|level| level.starts_with(CGROUP_ROOT));
    let mut levels: Vec<PathBuf> = above.map(Path::to_owned).collect();
    levels.reverse();
    levels
}

/// All at once; if one is refused, so are all, and each is tried by itself. None where processes live in the cgroup
/// itself: those controllers that may be had all the same (cpu, pids) would make it the root of a threaded subtree, and
/// nobody could be put into its children any more (cgroup-v2.rst, Threads).
fn enable(level: &Path, controllers: &[&str]) {
    if is_inhabited(level) {
        tracing::debug!("{} has processes of its own, and hands down no more controllers", level.display());
        return;
    }
    let words: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
    if write(level, "cgroup.subtree_control", &words.join(" ")).is_err() {
        for word in &words {
            if let Err(error) = write(level, "cgroup.subtree_control", word) {
                tracing::debug!("{error}");
            }
        }
    }
}

/// Processes of its own, beside those in its children. The machine's root may have them: it has no type, while that of a
/// cgroup namespace has.
fn is_inhabited(level: &Path) -> bool {
    read(level, "cgroup.type").is_ok() && read(level, "cgroup.procs").is_ok_and(|text| !text.trim().is_empty())
}

/// Why `directory` has no `controller`, and what may be done about it. None: it has.
pub(super) fn why_not(directory: &Path, controller: &str) -> Option<(String, String)> {
    let root = Path::new(CGROUP_ROOT);
    let lacks = |level: &Path, file: &str| !read(level, file).is_ok_and(|text| has(&text, controller));
    if lacks(root, "cgroup.controllers") {
        let why = format!("there is no {controller} controller in {CGROUP_ROOT}/cgroup.controllers");
        return Some((why, "this kernel lacks it, or cgroup v1 has it; leave the limit out".to_owned()));
    }
    let level = levels(directory).into_iter().find(|level| lacks(level, "cgroup.subtree_control"))?;
    let why = format!("the {controller} controller is not enabled in {}/cgroup.subtree_control", level.display());
    let again = || write(&level, "cgroup.subtree_control", &format!("+{controller}")).err().and_then(|e| e.errno());
    let errno = if is_inhabited(&level) { Some(libc::EBUSY) } else { again() };
    let hint = match errno {
        Some(libc::EBUSY) => "processes in that cgroup itself prevent it: move them into a child of it",
        Some(libc::EOPNOTSUPP) => "that cgroup is threaded, and this controller is not",
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => "this user may not: have it delegated",
        _ => "its owner may have taken it away: try again",
    };
    Some((why, hint.to_owned()))
}
