//! The container's cgroups: made and limited by the parent, entered by the child, removed after it.

use ferrun_bench::shape;

use crate::sys::{Done, open_directory, sys, write_each, write_file};
use crate::{Cgroups, Group, Job, c, devices};

/// On v2: the open directory that the child is to be born in.
pub(crate) fn make(job: &Job) -> Done<Option<i32>> {
    match &job.cgroups {
        Cgroups::V1(groups) => make_v1(job, groups).map(|()| None),
        Cgroups::V2(path) => make_v2(job, path).map(Some),
    }
}

fn make_v1(job: &Job, groups: &[Group]) -> Done<()> {
    for group in groups {
        sys!(mkdir, c(&group.path).as_c_str(), 0o755; &group.path)?;
        if group.hierarchy == "cpuset" {
            // A fresh cpuset is empty and takes no task until it has processors and memory nodes.
            inherit_cpuset(group)?;
        }
    }
    if job.limits { groups.iter().try_for_each(|group| limit_v1(job, group)) } else { Ok(()) }
}

fn inherit_cpuset(group: &Group) -> Done<()> {
    let parent = group.path.rsplit_once('/').map_or("/", |(parent, _)| parent);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = std::fs::read(format!("{parent}/{file}")).unwrap_or_default();
        write_file(&c(&format!("{}/{file}", group.path)), &value)?;
    }
    Ok(())
}

fn limit_v1(job: &Job, group: &Group) -> Done<()> {
    let set = |file: &str, value: &str| write_file(&c(&format!("{}/{file}", group.path)), value.as_bytes());
    match group.hierarchy.as_str() {
        "devices" => limit_devices_v1(&group.path),
        "memory" if job.full => set("memory.limit_in_bytes", &shape::MEMORY_LIMIT.to_string()),
        "pids" if job.full => set("pids.max", &shape::PIDS_LIMIT.to_string()),
        "cpu" if job.full => {
            set("cpu.shares", &shape::CPU_SHARES.to_string())?;
            set("cpu.cfs_period_us", &shape::CPU_PERIOD.to_string())?;
            set("cpu.cfs_quota_us", &shape::CPU_QUOTA.to_string())
        }
        _ => Ok(()),
    }
}

/// The minimal bundle says only "deny all"; the rest is every runtime's own addition.
fn limit_devices_v1(group: &str) -> Done<()> {
    write_file(&c(&format!("{group}/devices.deny")), b"a")?;
    let number = |n: &Option<i64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let rule = |&(kind, major, minor, access): &shape::DeviceRule| {
        format!("{kind} {}:{} {access}", number(&major), number(&minor))
    };
    // The kernel takes one rule a write, but the file need not be opened for each.
    write_each(&c(&format!("{group}/devices.allow")), shape::DEVICES.iter().map(rule))
}

fn make_v2(job: &Job, path: &str) -> Done<i32> {
    sys!(mkdir, c(path).as_c_str(), 0o755; path)?;
    let directory = open_directory(path)?;
    if job.limits {
        if job.full {
            let set = |file: &str, value: &str| write_file(&c(&format!("{path}/{file}")), value.as_bytes());
            set("memory.max", &shape::MEMORY_LIMIT.to_string())?;
            set("cpu.weight", &shape::CPU_WEIGHT.to_string())?;
            set("cpu.max", &format!("{} {}", shape::CPU_QUOTA, shape::CPU_PERIOD))?;
            set("pids.max", &shape::PIDS_LIMIT.to_string())?;
        }
        devices::limit(directory)?;
    }
    Ok(directory)
}

/// Done by the child, on v1: a single-threaded process that writes `0` into `tasks` spares the kernel the lock that
/// every write to `cgroup.procs` takes for an RCU grace period (10 ms). On v2 it was born in its cgroup.
pub(crate) fn join(job: &Job) -> Done<()> {
    match &job.cgroups {
        Cgroups::V1(groups) => {
            groups.iter().try_for_each(|group| write_file(&c(&format!("{}/tasks", group.path)), b"0"))
        }
        Cgroups::V2(_) => Ok(()),
    }
}

pub(crate) fn remove(job: &Job) -> Done<()> {
    let rmdir = |path: &str| sys!(rmdir, c(path).as_c_str(); path).map(drop);
    match &job.cgroups {
        Cgroups::V1(groups) => groups.iter().try_for_each(|group| rmdir(&group.path)),
        Cgroups::V2(path) => rmdir(path),
    }
}
