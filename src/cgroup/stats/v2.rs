//! The counters of version 2: one directory, other names and other units.

use std::path::Path;

use crate::error::Result;

use super::file::{Buffer, Files, page_sizes, strange};
use super::{Counter, Cpu, Groups, Hugetlb, Io, Memory, Oom, Pids, Stats, forms};

const MICROSECOND: u64 = 1000;

pub(super) fn read(directory: &Path, groups: Groups, buffer: &mut Buffer) -> Result<Stats> {
    let mut stats = Stats::default();
    let files = &mut Files { directory, buffer };
    if groups.has(Groups::CPU) {
        stats.cpu = cpu(files)?;
    }
    if groups.has(Groups::MEMORY) {
        stats.memory = memory(files)?;
    }
    if groups.has(Groups::PIDS) {
        stats.pids = pids(files)?;
    }
    if groups.has(Groups::IO) {
        stats.io = io(files)?;
    }
    if groups.has(Groups::HUGETLB) {
        for size in page_sizes() {
            if let Some(counter) = hugetlb(files, &size)? {
                stats.hugetlb.insert(size, counter);
            }
        }
    }
    if groups.has(Groups::RDMA) {
        stats.rdma.current = files.rdma("rdma.current")?;
        stats.rdma.limit = files.rdma("rdma.max")?;
    }
    if groups.has(Groups::PRESSURE) {
        stats.pressure.cpu = files.pressure("cpu.pressure")?;
        stats.pressure.memory = files.pressure("memory.pressure")?;
        stats.pressure.io = files.pressure("io.pressure")?;
    }
    if groups.has(Groups::OOM) {
        stats.oom = oom(files)?;
    }
    Ok(stats)
}

fn cpu(files: &mut Files) -> Result<Cpu> {
    let mut cpu = Cpu::default();
    files.pairs("cpu.stat", |key, value| match key {
        "usage_usec" => cpu.total = nanoseconds(value),
        "user_usec" => cpu.user = nanoseconds(value),
        "system_usec" => cpu.kernel = nanoseconds(value),
        "nr_periods" => cpu.periods = value,
        "nr_throttled" => cpu.throttled_periods = value,
        "throttled_usec" => cpu.throttled = nanoseconds(value),
        "nr_bursts" => cpu.burst_periods = value,
        "burst_usec" => cpu.burst = nanoseconds(value),
        _ => {}
    })?;
    Ok(cpu)
}

/// The kernel's numbers are far from it, but a sum that wraps would be a small one.
fn nanoseconds(microseconds: u64) -> u64 {
    microseconds.saturating_mul(MICROSECOND)
}

fn memory(files: &mut Files) -> Result<Memory> {
    let mut memory = Memory::default();
    let take = |key: &str, value| {
        memory.raw.insert(key.to_owned(), value);
    };
    if !files.pairs("memory.stat", take)? {
        return Ok(memory);
    }
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    memory.usage = counter(files, "memory")?;
    let swap = counter(files, "memory.swap")?;
    memory.swap_alone = swap;
    // as version 1 has it
    memory.swap.usage = swap.usage.saturating_add(memory.usage.usage);
    memory.swap.limit = swap.limit.saturating_add(memory.usage.limit);
    Ok(memory)
}

fn counter(files: &mut Files, of: &str) -> Result<Counter> {
    let Some(usage) = files.number(&format!("{of}.current"))? else { return Ok(Counter::default()) };
    let limit = files.number_or_0(&format!("{of}.max"))?;
    // memory.peak came with 5.19
    Ok(Counter { usage, peak: files.number_or_0(&format!("{of}.peak"))?, limit, failures: 0 })
}

fn pids(files: &mut Files) -> Result<Pids> {
    match files.number("pids.current")? {
        Some(current) => {
            let limit = files.number_or_0("pids.max")?;
            Ok(Pids { current, limit: if limit == u64::MAX { 0 } else { limit } })
        }
        None => {
            let processes = files.text("cgroup.procs")?.map_or(0, |text| text.lines().count());
            Ok(Pids { current: processes as u64, limit: 0 })
        }
    }
}

/// Lines of `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io(files: &mut Files) -> Result<Io> {
    let directory = files.directory;
    let mut io = Io::default();
    let Some(text) = files.text("io.stat")? else { return Ok(io) };
    for line in text.lines() {
        forms::device(line, &mut io).ok_or_else(|| strange(&directory.join("io.stat"), line))?;
    }
    Ok(io)
}

fn hugetlb(files: &mut Files, size: &str) -> Result<Option<Hugetlb>> {
    let mut prefix = format!("hugetlb.{size}.rsvd");
    let mut usage = files.number(&format!("{prefix}.current"))?;
    if usage.is_none() {
        prefix = format!("hugetlb.{size}");
        usage = files.number(&format!("{prefix}.current"))?;
    }
    let Some(usage) = usage else { return Ok(None) };
    let limit = files.number_or_0(&format!("{prefix}.max"))?;
    let mut failures = 0;
    files.pairs(&format!("hugetlb.{size}.events"), |key, value| {
        if key == "max" {
            failures = value
        }
    })?;
    Ok(Some(Hugetlb { usage, peak: 0, limit, failures }))
}

fn oom(files: &mut Files) -> Result<Oom> {
    let mut oom = Oom::default();
    files.pairs("memory.events", |key, value| match key {
        "low" => oom.low = value,
        "high" => oom.high = value,
        "max" => oom.max = value,
        "oom" => oom.oom = value,
        "oom_kill" => oom.kill = value,
        "oom_group_kill" => oom.group_kill = value,
        _ => {}
    })?;
    Ok(oom)
}
