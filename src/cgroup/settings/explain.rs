//! Why the kernel refused a limit, in words.

use std::path::Path;

use rustix::io::Errno;

use crate::error::Error;
use crate::plan::cgroupfs::{Hierarchies, Placement};
use crate::sys::proc;

use super::super::controllers;
use super::super::limits::{Rule, Setting};
use super::{Directory, Refusal};

/// On v1, a controller without a hierarchy.
pub(super) fn not_mounted(controller: &str) -> Error {
    Error::new(format!("the {controller} controller is not mounted on this host"))
        .hint("this limit cannot be applied here: leave it out, or mount the hierarchy of cgroup v1 that has it")
}

pub(super) fn refusal(placement: &Placement, directory: &Directory, setting: &Setting, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Told(error) => error,
        Refusal::Missing => missing(placement, directory, setting),
        Refusal::Open(errno) => {
            let path = directory.path.join(&setting.file);
            Error::os(format!("open {}", path.display()), errno).path(path)
        }
        Refusal::Write { file, value, errno } => refused(directory, &file, &value, errno),
    }
}

fn missing(placement: &Placement, directory: &Directory, setting: &Setting) -> Error {
    let Setting { controller, file, .. } = setting;
    let path = directory.path.join(file);
    let absent = match &setting.rule {
        Rule::Or { file: other, .. } => format!("neither {file} nor {other} is there"),
        _ => format!("{file} is not there"),
    };
    let error = |why: &str| Error::new(format!("{absent}: {why}")).path(&path);
    let Hierarchies::V2 { .. } = placement.hierarchies else {
        let error = error("this kernel has no such file");
        return if file.contains("memsw") {
            error.hint("swap accounting is off: boot with swapaccount=1")
        } else {
            error
        };
    };
    // `cgroup.max.depth` and the like belong to no controller
    if controller == "cgroup" {
        return error("this kernel has no such file");
    }
    match controllers::why_not(&directory.path, controller) {
        Some((why, hint)) => error(&why).hint(hint),
        None => error(&format!("the {controller} controller is enabled, but this kernel has no such file")),
    }
}

fn refused(directory: &Directory, file: &str, value: &str, errno: Errno) -> Error {
    let path = directory.path.join(file);
    let error = Error::os(format!("write {value:?} to {}", path.display()), errno).path(&path);
    if errno == Errno::BUSY && file.starts_with("memory.") {
        let number = |file: &str| directory.read(file).map_or("unknown".to_owned(), |text| text.trim().to_owned());
        let (usage, peak) = (number("memory.usage_in_bytes"), number("memory.max_usage_in_bytes"));
        return error
            .cause(format!("unable to set memory limit to {value} (current usage: {usage}, peak usage: {peak})"));
    }
    match hint(directory, file, errno) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// What usually is the matter.
fn hint(directory: &Directory, file: &str, errno: Errno) -> Option<String> {
    let read = |path: &Path| proc::read(path).ok().map(|text| text.trim().replace('\n', " "));
    let above = |file: &str| directory.path.parent().and_then(|parent| read(&parent.join(file)));
    let own = |file: &str| read(&directory.path.join(file)).unwrap_or_else(|| "unknown".to_owned());
    match (file, errno) {
        ("cpuset.cpus" | "cpuset.mems", _) => {
            let there = above(&format!("{file}.effective")).or_else(|| above(file))?;
            Some(format!("the parent cgroup has {there}"))
        }
        ("cpu.cfs_quota_us" | "cpu.cfs_period_us", Errno::INVAL) => {
            let (quota, period) = (above("cpu.cfs_quota_us")?, above("cpu.cfs_period_us")?);
            Some(format!("the parent cgroup has {quota} microseconds in {period}; no child may have a greater share"))
        }
        ("cpu.rt_runtime_us" | "cpu.rt_period_us", Errno::INVAL) => {
            let (runtime, period) = (above("cpu.rt_runtime_us")?, above("cpu.rt_period_us")?);
            Some(format!(
                "the parent cgroup has {runtime} microseconds in {period}; the children share them and cannot have more"
            ))
        }
        ("cpu.max" | "cpu.max.burst" | "cpu.cfs_burst_us", Errno::INVAL) => {
            Some("quota and burst together have a limit of the kernel's, and no burst is above its quota".to_owned())
        }
        ("cpu.shares" | "cpu.weight", Errno::INVAL) => {
            Some(format!("a cgroup that is idle has none, and cpu.idle is {}", own("cpu.idle")))
        }
        ("memory.memsw.limit_in_bytes" | "memory.limit_in_bytes", Errno::INVAL) => Some(format!(
            "memory and swap together must be at least the memory limit: now {} and {}",
            own("memory.memsw.limit_in_bytes"),
            own("memory.limit_in_bytes")
        )),
        ("net_prio.ifpriomap", Errno::NODEV | Errno::INVAL) => Some("is there such a network interface?".to_owned()),
        ("rdma.max", Errno::NODEV | Errno::INVAL) => Some("is there such an RDMA device?".to_owned()),
        (_, Errno::NODEV) => Some("is there such a block device? (whole disks only, no partitions)".to_owned()),
        (file, Errno::OPNOTSUPP) if file.contains("weight") => {
            Some("the device's I/O scheduler knows no weights".to_owned())
        }
        _ => None,
    }
}
