//! The files of version 1: Documentation/admin-guide/cgroup-v1.

use super::{Draft, Rule, for_device, hugetlb, rdma, tasks};
use crate::config::resources::{BlockIo, Cpu, Memory, Resources, Throttle};
use crate::error::{Error, Result};

/// What the kernel makes of any number beyond them, without a word.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

pub(super) fn settings(draft: &mut Draft, resources: &Resources) -> Result<()> {
    if let Some((file, _)) = resources.unified.first() {
        let error = Error::new("invalid configuration: cannot use unified on cgroup v1");
        return Err(error.at(draft.pointer(&format!("unified/{}", super::step(file)))));
    }
    cpuset(draft, &resources.cpu);
    memory(draft, &resources.memory)?;
    cpu(draft, &resources.cpu)?;
    if let Some(limit) = resources.pids {
        draft.set("pids/limit", "pids.max", tasks(limit));
    }
    blkio(draft, &resources.block_io);
    hugetlb(draft, resources, "limit_in_bytes");
    if let Some(id) = resources.network.class_id {
        draft.set("network/classID", "net_cls.classid", id);
    }
    for (index, (name, priority)) in resources.network.priorities.iter().enumerate() {
        draft.set(&format!("network/priorities/{index}"), "net_prio.ifpriomap", format!("{name} {priority}"));
    }
    rdma(draft, resources);
    Ok(())
}

fn cpuset(draft: &mut Draft, cpu: &Cpu) {
    if let Some(cpus) = &cpu.cpus {
        draft.set("cpu/cpus", "cpuset.cpus", cpus);
    }
    if let Some(mems) = &cpu.mems {
        draft.set("cpu/mems", "cpuset.mems", mems);
    }
}

fn memory(draft: &mut Draft, memory: &Memory) -> Result<()> {
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    if draft.new && memory.limit.is_none() && memory.swap.is_some_and(|swap| swap > 0) {
        return Err(draft.error("memory/swap", "unable to set swap limit without memory limit"));
    }
    if let Some(limit) = memory.limit {
        draft.set("memory/limit", "memory.limit_in_bytes", limit);
    }
    match memory.swap {
        Some(swap) => draft.set("memory/swap", SWAP, swap),
        // no limit of memory is above that of memory and swap
        None if memory.limit == Some(-1) => draft.set_by("memory/limit", SWAP, -1, Rule::IfThere),
        None => {}
    }
    if let Some(reservation) = memory.reservation {
        draft.set("memory/reservation", "memory.soft_limit_in_bytes", reservation);
    }
    match memory.disable_oom_killer {
        Some(true) => draft.set("memory/disableOOMKiller", "memory.oom_control", 1),
        Some(false) if !draft.new => draft.set("memory/disableOOMKiller", "memory.oom_control", 0),
        _ => {}
    }
    if let Some(swappiness) = memory.swappiness {
        draft.set("memory/swappiness", "memory.swappiness", swappiness);
    }
    Ok(())
}

fn cpu(draft: &mut Draft, cpu: &Cpu) -> Result<()> {
    if let Some(period) = cpu.realtime_period {
        draft.set("cpu/realtimePeriod", "cpu.rt_period_us", period);
    }
    if let Some(runtime) = cpu.realtime_runtime {
        draft.set("cpu/realtimeRuntime", "cpu.rt_runtime_us", runtime);
    }
    if let Some(idle) = cpu.idle {
        draft.set("cpu/idle", "cpu.idle", idle);
    }
    if let Some(shares) = cpu.shares {
        if shares < *SHARES.start() {
            let words = format!("the minimum allowed cpu-shares is {}", SHARES.start());
            return Err(draft.error("cpu/shares", &words));
        }
        if shares > *SHARES.end() {
            let words = format!("the maximum allowed cpu-shares is {}", SHARES.end());
            return Err(draft.error("cpu/shares", &words));
        }
        // an idle cgroup has no shares
        if cpu.idle != Some(1) {
            draft.set("cpu/shares", "cpu.shares", shares);
        }
    }
    if let Some(period) = cpu.period {
        draft.set("cpu/period", "cpu.cfs_period_us", period);
    }
    if let Some(quota) = cpu.quota {
        draft.set("cpu/quota", "cpu.cfs_quota_us", quota);
    }
    if let Some(burst) = cpu.burst {
        draft.set("cpu/burst", "cpu.cfs_burst_us", burst);
    }
    Ok(())
}

fn blkio(draft: &mut Draft, io: &BlockIo) {
    // CFQ's files are gone since Linux 5.0, but for what vendors kept
    let or_bfq = |file: &str, value: String| Rule::Or { file: file.to_owned(), value };
    if let Some(weight) = io.weight {
        draft.set_by("blockIO/weight", "blkio.weight", weight, or_bfq("blkio.bfq.weight", weight.to_string()));
    }
    if let Some(weight) = io.leaf_weight {
        draft.set("blockIO/leafWeight", "blkio.leaf_weight", weight);
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let value = |weight: u16| for_device(device.major, device.minor, weight);
        if let Some(weight) = device.weight {
            let place = format!("blockIO/weightDevice/{index}/weight");
            let rule = or_bfq("blkio.bfq.weight_device", value(weight));
            draft.set_by(&place, "blkio.weight_device", value(weight), rule);
        }
        if let Some(weight) = device.leaf_weight {
            let place = format!("blockIO/weightDevice/{index}/leafWeight");
            draft.set(&place, "blkio.leaf_weight_device", value(weight));
        }
    }
    throttle(draft, "throttleReadBpsDevice", "blkio.throttle.read_bps_device", &io.throttle_read_bps_device);
    throttle(draft, "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", &io.throttle_write_bps_device);
    throttle(draft, "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", &io.throttle_read_iops_device);
    throttle(draft, "throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", &io.throttle_write_iops_device);
}

fn throttle(draft: &mut Draft, key: &str, file: &str, list: &[Throttle]) {
    for (index, one) in list.iter().enumerate() {
        let value = for_device(one.major, one.minor, one.rate);
        draft.set(&format!("blockIO/{key}/{index}/rate"), file, value);
    }
}
