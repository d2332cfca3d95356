//! The container's v1 cgroups: made and limited by the parent, joined by the child, removed after it.

use ferrun_bench::shape;

use crate::sys::{Done, sys, write_each, write_file};
use crate::{Group, Job, c};

pub(crate) fn make(job: &Job) -> Done<()> {
    for group in &job.cgroups {
        sys!(mkdir, c(&group.path).as_c_str(), 0o755; &group.path)?;
        if group.hierarchy == "cpuset" {
            // A fresh cpuset is empty and takes no task until it has processors and memory nodes.
            inherit_cpuset(group)?;
        }
    }
    if job.limits { limit(job) } else { Ok(()) }
}

fn inherit_cpuset(group: &Group) -> Done<()> {
    let parent = group.path.rsplit_once('/').map_or("/", |(parent, _)| parent);
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = std::fs::read(format!("{parent}/{file}")).unwrap_or_default();
        write_file(&c(&format!("{}/{file}", group.path)), &value)?;
    }
    Ok(())
}

fn limit(job: &Job) -> Done<()> {
    for group in &job.cgroups {
        let set = |file: &str, value: &str| write_file(&c(&format!("{}/{file}", group.path)), value.as_bytes());
        match group.hierarchy.as_str() {
            "devices" => limit_devices(&group.path)?,
            "memory" if job.full => set("memory.limit_in_bytes", &shape::MEMORY_LIMIT.to_string())?,
            "pids" if job.full => set("pids.max", &shape::PIDS_LIMIT.to_string())?,
            "cpu" if job.full => {
                set("cpu.shares", &shape::CPU_SHARES.to_string())?;
                set("cpu.cfs_period_us", &shape::CPU_PERIOD.to_string())?;
                set("cpu.cfs_quota_us", &shape::CPU_QUOTA.to_string())?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The minimal bundle says only "deny all"; the rest is every runtime's own addition.
fn limit_devices(group: &str) -> Done<()> {
    write_file(&c(&format!("{group}/devices.deny")), b"a")?;
    let number = |n: &Option<i64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    let rule = |&(kind, major, minor, access): &shape::DeviceRule| {
        format!("{kind} {}:{} {access}", number(&major), number(&minor))
    };
    // The kernel takes one rule a write, but the file need not be opened for each.
    write_each(&c(&format!("{group}/devices.allow")), shape::DEVICES.iter().map(rule))
}

/// Done by the child: a single-threaded process that writes `0` into `tasks` spares the kernel the lock that every
/// write to `cgroup.procs` takes for an RCU grace period (10 ms).
pub(crate) fn join(job: &Job) -> Done<()> {
    job.cgroups.iter().try_for_each(|group| write_file(&c(&format!("{}/tasks", group.path)), b"0"))
}

pub(crate) fn remove(job: &Job) -> Done<()> {
    job.cgroups.iter().try_for_each(|group| sys!(rmdir, c(&group.path).as_c_str(); &group.path).map(drop))
}
