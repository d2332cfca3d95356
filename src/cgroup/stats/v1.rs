//! The counters of version 1: each controller's in its own hierarchy.

use std::path::{Path, PathBuf};

use crate::cgroup::v1::has_controller;
use crate::error::Result;

use super::file::{Buffer, Files, page_sizes, strange};
use super::{Counter, Cpuset, Groups, Hugetlb, Io, IoEntry, Stats, forms};

/// USER_HZ, in which cpuacct.stat counts, is 100 on every architecture that we run on.
const TICK: u64 = 10_000_000;

type Part = fn(&mut Files, &mut Stats) -> Result<()>;

/// What is read where.
const PARTS: [(Groups, &str, Part); 9] = [
    (Groups::CPU, "cpuacct", cpuacct),
    (Groups::CPU, "cpu", throttling),
    (Groups::CPUSET, "cpuset", cpuset),
    (Groups::MEMORY, "memory", memory),
    (Groups::PIDS, "pids", pids),
    (Groups::IO, "blkio", io),
    (Groups::HUGETLB, "hugetlb", huge_pages),
    (Groups::RDMA, "rdma", rdma),
    (Groups::OOM, "memory", oom),
];

pub(super) fn read(directories: &[PathBuf], groups: Groups, buffer: &mut Buffer) -> Result<Stats> {
    let mut stats = Stats::default();
    for (group, controller, part) in PARTS {
        if groups.has(group)
            && let Some(directory) = directories.iter().find(|directory| has_controller(directory, controller))
        {
            part(&mut Files { directory, buffer: &mut *buffer }, &mut stats)?;
        }
    }
    Ok(stats)
}

fn cpuacct(files: &mut Files, stats: &mut Stats) -> Result<()> {
    let cpu = &mut stats.cpu;
    cpu.total = files.number_or_0("cpuacct.usage")?;
    files.pairs("cpuacct.stat", |key, ticks| match key {
        "user" => cpu.user = ticks.saturating_mul(TICK),
        "system" => cpu.kernel = ticks.saturating_mul(TICK),
        _ => {}
    })?;
    if let Some(text) = files.text("cpuacct.usage_percpu")? {
        cpu.per_cpu = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    }
    if let Some(text) = files.text("cpuacct.usage_all")? {
        // "cpu user system", then a line for each
        for line in text.lines().skip(1) {
            let numbers: Vec<u64> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
            if let [_, user, kernel] = numbers[..] {
                cpu.per_cpu_user.push(user);
                cpu.per_cpu_kernel.push(kernel);
            }
        }
    }
    Ok(())
}

fn throttling(files: &mut Files, stats: &mut Stats) -> Result<()> {
    let cpu = &mut stats.cpu;
    let take = |key: &str, value: u64| match key {
        "nr_periods" => cpu.periods = value,
        "nr_throttled" => cpu.throttled_periods = value,
        "throttled_time" => cpu.throttled = value,
        "nr_bursts" => cpu.burst_periods = value,
        "burst_time" => cpu.burst = value,
        _ => {}
    };
    files.pairs("cpu.stat", take).map(drop)
}

fn cpuset(files: &mut Files, stats: &mut Stats) -> Result<()> {
    let level = files.text("cpuset.sched_relax_domain_level")?.and_then(|text| text.trim().parse().ok());
    stats.cpuset = Cpuset {
        cpus: list(files, "cpuset.cpus")?,
        cpu_exclusive: files.number_or_0("cpuset.cpu_exclusive")?,
        mems: list(files, "cpuset.mems")?,
        mem_hardwall: files.number_or_0("cpuset.mem_hardwall")?,
        mem_exclusive: files.number_or_0("cpuset.mem_exclusive")?,
        memory_migrate: files.number_or_0("cpuset.memory_migrate")?,
        memory_spread_page: files.number_or_0("cpuset.memory_spread_page")?,
        memory_spread_slab: files.number_or_0("cpuset.memory_spread_slab")?,
        memory_pressure: files.number_or_0("cpuset.memory_pressure")?,
        sched_load_balance: files.number_or_0("cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.unwrap_or(0),
    };
    Ok(())
}

/// `0-3,7`.
fn list(files: &mut Files, name: &str) -> Result<Vec<u32>> {
    let directory = files.directory;
    let Some(text) = files.text(name)? else { return Ok(Vec::new()) };
    forms::numbers(text).ok_or_else(|| strange(&directory.join(name), text))
}

fn memory(files: &mut Files, stats: &mut Stats) -> Result<()> {
    let memory = &mut stats.memory;
    files.pairs("memory.stat", |key, value| {
        memory.raw.insert(key.to_owned(), value);
    })?;
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    memory.usage = counter(files, "memory")?;
    memory.swap = counter(files, "memory.memsw")?;
    memory.kernel = counter(files, "memory.kmem")?;
    memory.kernel_tcp = counter(files, "memory.kmem.tcp")?;
    Ok(())
}

/// Swap and kernel memory may not be counted.
fn counter(files: &mut Files, of: &str) -> Result<Counter> {
    let Some(usage) = files.number(&format!("{of}.usage_in_bytes"))? else { return Ok(Counter::default()) };
    Ok(Counter {
        usage,
        peak: files.number_or_0(&format!("{of}.max_usage_in_bytes"))?,
        limit: files.number_or_0(&format!("{of}.limit_in_bytes"))?,
        failures: files.number_or_0(&format!("{of}.failcnt"))?,
    })
}

fn pids(files: &mut Files, stats: &mut Stats) -> Result<()> {
    let limit = files.number_or_0("pids.max")?;
    stats.pids.limit = if limit == u64::MAX { 0 } else { limit };
    stats.pids.current = files.number_or_0("pids.current")?;
    Ok(())
}

/// The first family that the kernel keeps; the first file of a family tells.
fn io(files: &mut Files, stats: &mut Stats) -> Result<()> {
    const ALL: [&str; 8] = [
        "sectors_recursive",
        "io_service_time_recursive",
        "io_wait_time_recursive",
        "io_merged_recursive",
        "io_queued_recursive",
        "time_recursive",
        "io_serviced_recursive",
        "io_service_bytes_recursive",
    ];
    const FAMILIES: [(&str, &[&str]); 5] = [
        ("blkio.bfq", &ALL),
        // without debugging bfq has these only
        ("blkio.bfq", &["io_serviced_recursive", "io_service_bytes_recursive"]),
        ("blkio", &ALL),
        ("blkio.throttle", &["io_serviced_recursive", "io_service_bytes_recursive"]),
        ("blkio.throttle", &["io_serviced", "io_service_bytes"]),
    ];
    for (prefix, names) in FAMILIES {
        for (index, name) in names.iter().enumerate() {
            let entries = entries(files, &format!("{prefix}.{name}"))?;
            if index == 0 && entries.is_empty() {
                break;
            }
            *place(&mut stats.io, name) = entries;
            if index + 1 == names.len() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn place<'a>(io: &'a mut Io, name: &str) -> &'a mut Vec<IoEntry> {
    match name.strip_suffix("_recursive").unwrap_or(name) {
        "sectors" => &mut io.sectors,
        "io_service_time" => &mut io.service_time,
        "io_wait_time" => &mut io.wait_time,
        "io_merged" => &mut io.merged,
        "io_queued" => &mut io.queued,
        "time" => &mut io.time,
        "io_serviced" => &mut io.serviced,
        _ => &mut io.service_bytes,
    }
}

/// Lines of `8:0 Read 4096` or `8:0 12`, and a `Total 4096` that is left out.
fn entries(files: &mut Files, name: &str) -> Result<Vec<IoEntry>> {
    let directory = files.directory;
    let Some(text) = files.text(name)? else { return Ok(Vec::new()) };
    let lines = text.lines().filter(|line| !line.starts_with("Total"));
    lines.map(|line| forms::entry(line).ok_or_else(|| strange(&directory.join(name), line))).collect()
}

fn huge_pages(files: &mut Files, stats: &mut Stats) -> Result<()> {
    for size in page_sizes() {
        if let Some(counter) = hugetlb(files, &size)? {
            stats.hugetlb.insert(size, counter);
        }
    }
    Ok(())
}

fn hugetlb(files: &mut Files, size: &str) -> Result<Option<Hugetlb>> {
    for prefix in [format!("hugetlb.{size}.rsvd"), format!("hugetlb.{size}")] {
        if let Some(usage) = files.number(&format!("{prefix}.usage_in_bytes"))? {
            let peak = files.number_or_0(&format!("{prefix}.max_usage_in_bytes"))?;
            let failures = files.number_or_0(&format!("{prefix}.failcnt"))?;
            return Ok(Some(Hugetlb { usage, peak, limit: 0, failures }));
        }
    }
    Ok(None)
}

fn rdma(files: &mut Files, stats: &mut Stats) -> Result<()> {
    stats.rdma.current = files.rdma("rdma.current")?;
    stats.rdma.limit = files.rdma("rdma.max")?;
    Ok(())
}

fn oom(files: &mut Files, stats: &mut Stats) -> Result<()> {
    let take = |key: &str, value| match key {
        "oom_kill" => stats.oom.kill = value,
        "oom_kill_disable" => stats.oom.kill_disable = value,
        "under_oom" => stats.oom.under_oom = value,
        _ => {}
    };
    files.pairs("memory.oom_control", take).map(drop)
}

/// The memory controller's directory, where it is mounted.
pub(in crate::cgroup) fn memory_directory(directories: &[PathBuf]) -> Option<&Path> {
    directories.iter().find(|directory| has_controller(directory, "memory")).map(PathBuf::as_path)
}
