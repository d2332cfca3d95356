//! The files of version 2: Documentation/admin-guide/cgroup-v2.rst.

use super::{Draft, Rule, convert, for_device, hugetlb, or_max, rdma, step, tasks};
use crate::config::resources::{BlockIo, Cpu, Memory, Resources, Throttle};
use crate::error::Result;

pub(super) fn settings(draft: &mut Draft, resources: &Resources) -> Result<()> {
    if let Some(limit) = resources.pids {
        draft.set("pids/limit", "pids.max", tasks(limit));
    }
    memory(draft, &resources.memory)?;
    io(draft, &resources.block_io);
    cpu(draft, &resources.cpu);
    if let Some(cpus) = &resources.cpu.cpus {
        draft.set("cpu/cpus", "cpuset.cpus", cpus);
    }
    if let Some(mems) = &resources.cpu.mems {
        draft.set("cpu/mems", "cpuset.mems", mems);
    }
    hugetlb(draft, resources, "max");
    rdma(draft, resources);
    draft.note(resources.network.class_id.is_some(), "network/classID", "v2");
    draft.note(!resources.network.priorities.is_empty(), "network/priorities", "v2");
    unified(draft, resources);
    Ok(())
}

fn memory(draft: &mut Draft, memory: &Memory) -> Result<()> {
    let (limit, swap) = (memory.limit.unwrap_or_default(), memory.swap.unwrap_or_default());
    let place = if swap == 0 { "memory/limit" } else { "memory/swap" };
    if !draft.new && limit == 0 && swap > 0 {
        draft.set_by(place, "memory.swap.max", swap, Rule::LessMemory);
    } else {
        match convert::swap(swap, limit).map_err(|words| draft.error(place, words))? {
            0 if swap == 0 => {}
            // a kernel that cannot swap needs no limit for it
            alone @ (-1 | 0) => draft.set_by(place, "memory.swap.max", or_max(alone), Rule::IfThere),
            alone => draft.set(place, "memory.swap.max", alone),
        }
    }
    if let Some(limit) = memory.limit {
        draft.set("memory/limit", "memory.max", or_max(limit));
    }
    if let Some(reservation) = memory.reservation {
        draft.set("memory/reservation", "memory.low", or_max(reservation));
    }
    draft.note(memory.swappiness.is_some(), "memory/swappiness", "v2");
    draft.note(memory.disable_oom_killer == Some(true), "memory/disableOOMKiller", "v2");
    Ok(())
}

fn io(draft: &mut Draft, io: &BlockIo) {
    // the scheduler that is used has a file of its own, with v1's numbers
    if let Some(weight) = io.weight {
        let rule = Rule::Or { file: "io.weight".to_owned(), value: convert::io_weight(weight).to_string() };
        draft.set_by("blockIO/weight", "io.bfq.weight", weight, rule);
    }
    draft.note(io.leaf_weight.is_some(), "blockIO/leafWeight", "v2");
    for (index, device) in io.weight_device.iter().enumerate() {
        if let Some(weight) = device.weight {
            let value = for_device(device.major, device.minor, convert::io_weight(weight));
            let rule = Rule::Or { file: "io.weight".to_owned(), value };
            let place = format!("blockIO/weightDevice/{index}/weight");
            draft.set_by(&place, "io.bfq.weight", for_device(device.major, device.minor, weight), rule);
        }
        let place = format!("blockIO/weightDevice/{index}/leafWeight");
        draft.note(device.leaf_weight.is_some(), &place, "v2");
    }
    throttle(draft, "throttleReadBpsDevice", "rbps", &io.throttle_read_bps_device);
    throttle(draft, "throttleWriteBpsDevice", "wbps", &io.throttle_write_bps_device);
    throttle(draft, "throttleReadIOPSDevice", "riops", &io.throttle_read_iops_device);
    throttle(draft, "throttleWriteIOPSDevice", "wiops", &io.throttle_write_iops_device);
}

fn throttle(draft: &mut Draft, key: &str, name: &str, list: &[Throttle]) {
    for (index, one) in list.iter().enumerate() {
        // 0 takes a limit away on v1, and is refused here
        let rate = if one.rate == 0 { "max".to_owned() } else { one.rate.to_string() };
        let value = for_device(one.major, one.minor, format_args!("{name}={rate}"));
        draft.set(&format!("blockIO/{key}/{index}/rate"), "io.max", value);
    }
}

fn cpu(draft: &mut Draft, cpu: &Cpu) {
    if let Some(idle) = cpu.idle {
        draft.set("cpu/idle", "cpu.idle", idle);
    }
    // an idle cgroup has no weight
    if let Some(shares) = cpu.shares.filter(|_| cpu.idle != Some(1)) {
        draft.set("cpu/shares", "cpu.weight", convert::cpu_weight(shares));
    }
    match (cpu.quota.map(or_max), cpu.period) {
        (Some(quota), Some(period)) => draft.set("cpu/quota", "cpu.max", format_args!("{quota} {period}")),
        // the kernel leaves the period as it is
        (Some(quota), None) => draft.set("cpu/quota", "cpu.max", quota),
        (None, Some(period)) if draft.new => draft.set("cpu/period", "cpu.max", format_args!("max {period}")),
        (None, Some(period)) => draft.set_by("cpu/period", "cpu.max", period, Rule::BehindQuota),
        (None, None) => {}
    }
    if let Some(burst) = cpu.burst {
        draft.set("cpu/burst", "cpu.max.burst", burst);
    }
    draft.note(cpu.realtime_period.is_some(), "cpu/realtimePeriod", "v2");
    draft.note(cpu.realtime_runtime.is_some(), "cpu/realtimeRuntime", "v2");
}

/// Line by line: most files take one at a time.
fn unified(draft: &mut Draft, resources: &Resources) {
    for (file, value) in &resources.unified {
        let place = format!("unified/{}", step(file));
        let lines = if value.is_empty() { vec![""] } else { value.lines().collect() };
        for line in lines {
            draft.set(&place, file, line);
        }
    }
}
