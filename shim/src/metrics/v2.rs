//! `io.containerd.cgroups.v2.Metrics`: microseconds and bytes, as the kernel's files have them.

use std::collections::BTreeMap;

use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat, RdmaEntry,
    RdmaStat,
};
use containerd_shim_protos::protobuf::MessageField;
use ferrun::cgroup::stats::{self, Cpu, Io, IoEntry, Memory, Oom, Pressure, Rdma, Stall, Stats};

const MICROSECOND: u64 = 1000;

pub(super) fn metrics(stats: &Stats) -> Metrics {
    // the message has the file's words, where "max" is this number
    let limit = if stats.pids.limit == 0 { u64::MAX } else { stats.pids.limit };
    Metrics {
        pids: some(PidsStat { current: stats.pids.current, limit, ..PidsStat::default() }),
        cpu: some(cpu(&stats.cpu, stats.pressure.cpu.as_ref())),
        memory: some(memory(&stats.memory, stats.pressure.memory.as_ref())),
        rdma: some(rdma(&stats.rdma)),
        io: some(io(&stats.io, stats.pressure.io.as_ref())),
        hugetlb: stats.hugetlb.iter().map(|(size, counter)| hugetlb(size, counter)).collect(),
        memory_events: some(events(&stats.oom)),
        ..Metrics::default()
    }
}

fn some<T>(message: T) -> MessageField<T> {
    MessageField::some(message)
}

fn cpu(cpu: &Cpu, pressure: Option<&Pressure>) -> CPUStat {
    CPUStat {
        usage_usec: cpu.total / MICROSECOND,
        user_usec: cpu.user / MICROSECOND,
        system_usec: cpu.kernel / MICROSECOND,
        nr_periods: cpu.periods,
        nr_throttled: cpu.throttled_periods,
        throttled_usec: cpu.throttled / MICROSECOND,
        nr_bursts: cpu.burst_periods,
        burst_usec: cpu.burst / MICROSECOND,
        psi: pressure.map(psi).into(),
        ..CPUStat::default()
    }
}

fn psi(pressure: &Pressure) -> PSIStats {
    let data = |stall: &Stall| PSIData {
        avg10: stall.avg10,
        avg60: stall.avg60,
        avg300: stall.avg300,
        total: stall.total,
        ..PSIData::default()
    };
    PSIStats { some: some(data(&pressure.some)), full: some(data(&pressure.full)), ..PSIStats::default() }
}

fn memory(memory: &Memory, pressure: Option<&Pressure>) -> MemoryStat {
    let raw = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    // split in two since 5.9
    let workingset = |key: &str| raw(key) + raw(&format!("{key}_anon")) + raw(&format!("{key}_file"));
    MemoryStat {
        anon: raw("anon"),
        file: raw("file"),
        kernel_stack: raw("kernel_stack"),
        slab: raw("slab"),
        sock: raw("sock"),
        shmem: raw("shmem"),
        file_mapped: raw("file_mapped"),
        file_dirty: raw("file_dirty"),
        file_writeback: raw("file_writeback"),
        anon_thp: raw("anon_thp"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        slab_reclaimable: raw("slab_reclaimable"),
        slab_unreclaimable: raw("slab_unreclaimable"),
        pgfault: raw("pgfault"),
        pgmajfault: raw("pgmajfault"),
        workingset_refault: workingset("workingset_refault"),
        workingset_activate: workingset("workingset_activate"),
        workingset_nodereclaim: raw("workingset_nodereclaim"),
        pgrefill: raw("pgrefill"),
        pgscan: raw("pgscan"),
        pgsteal: raw("pgsteal"),
        pgactivate: raw("pgactivate"),
        pgdeactivate: raw("pgdeactivate"),
        pglazyfree: raw("pglazyfree"),
        pglazyfreed: raw("pglazyfreed"),
        thp_fault_alloc: raw("thp_fault_alloc"),
        thp_collapse_alloc: raw("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        swap_usage: memory.swap_alone.usage,
        swap_limit: memory.swap_alone.limit,
        max_usage: memory.usage.peak,
        swap_max_usage: memory.swap_alone.peak,
        psi: pressure.map(psi).into(),
        ..MemoryStat::default()
    }
}

fn events(oom: &Oom) -> MemoryEvents {
    MemoryEvents {
        low: oom.low,
        high: oom.high,
        max: oom.max,
        oom: oom.oom,
        oom_kill: oom.kill,
        oom_group_kill: oom.group_kill,
        ..MemoryEvents::default()
    }
}

/// One entry for each device.
fn io(io: &Io, pressure: Option<&Pressure>) -> IOStat {
    let mut devices: BTreeMap<(u64, u64), IOEntry> = BTreeMap::new();
    let mut add = |entries: &[IoEntry], add: fn(&mut IOEntry, bool, u64)| {
        for entry in entries {
            let device = devices.entry((entry.major, entry.minor)).or_default();
            add(device, entry.operation == "Read", entry.value);
        }
    };
    add(&io.service_bytes, |device, read, value| if read { device.rbytes = value } else { device.wbytes = value });
    add(&io.serviced, |device, read, value| if read { device.rios = value } else { device.wios = value });
    let entry = |((major, minor), entry)| IOEntry { major, minor, ..entry };
    IOStat { usage: devices.into_iter().map(entry).collect(), psi: pressure.map(psi).into(), ..IOStat::default() }
}

fn hugetlb(size: &str, counter: &stats::Hugetlb) -> HugeTlbStat {
    HugeTlbStat {
        current: counter.usage,
        max: counter.limit,
        pagesize: size.to_owned(),
        failcnt: counter.failures,
        ..HugeTlbStat::default()
    }
}

fn rdma(rdma: &Rdma) -> RdmaStat {
    let entries = |entries: &[stats::RdmaEntry]| entries.iter().map(rdma_entry).collect();
    RdmaStat { current: entries(&rdma.current), limit: entries(&rdma.limit), ..RdmaStat::default() }
}

fn rdma_entry(entry: &stats::RdmaEntry) -> RdmaEntry {
    RdmaEntry {
        device: entry.device.clone(),
        hca_handles: entry.hca_handles,
        hca_objects: entry.hca_objects,
        ..RdmaEntry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferrun::cgroup::stats::{Counter, Hugetlb, Pids};

    #[test]
    fn each_number_is_in_its_place() {
        let cpu = Cpu { total: 3_000, user: 1_000, kernel: 2_999, throttled: 4_000, burst: 5_000, ..Cpu::default() };
        let mut stats = Stats { cpu, ..Stats::default() };
        stats.memory.raw = [("anon", 6), ("workingset_refault_anon", 7), ("workingset_refault_file", 8)]
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        stats.memory.usage = Counter { usage: 9, peak: 10, limit: u64::MAX, failures: 0 };
        stats.memory.swap = Counter { usage: 20, limit: u64::MAX, ..Counter::default() };
        stats.memory.swap_alone = Counter { usage: 11, peak: 12, limit: 13, failures: 0 };
        stats.pids = Pids { current: 14, limit: 0 };
        stats.hugetlb.insert("2MB".into(), Hugetlb { usage: 15, peak: 0, limit: 16, failures: 17 });
        stats.oom = Oom { kill: 18, ..Oom::default() };
        let stall = Stall { avg10: 1.5, total: 19, ..Stall::default() };
        stats.pressure.io = Some(Pressure { some: stall, full: Stall::default() });

        let metrics = metrics(&stats);
        let cpu = metrics.cpu();
        assert_eq!((cpu.user_usec, cpu.system_usec, cpu.usage_usec), (1, 2, 3));
        assert_eq!((cpu.throttled_usec, cpu.burst_usec, cpu.psi.is_some()), (4, 5, false));
        let memory = metrics.memory();
        assert_eq!((memory.anon, memory.workingset_refault), (6, 15));
        assert_eq!((memory.usage, memory.max_usage, memory.usage_limit), (9, 10, u64::MAX));
        assert_eq!((memory.swap_usage, memory.swap_max_usage, memory.swap_limit), (11, 12, 13));
        assert_eq!((metrics.pids().current, metrics.pids().limit), (14, u64::MAX));
        let page = &metrics.hugetlb[0];
        assert_eq!((page.current, page.max, page.failcnt, page.pagesize.as_str()), (15, 16, 17, "2MB"));
        assert_eq!(metrics.memory_events().oom_kill, 18);
        assert_eq!((metrics.io().psi().some().avg10, metrics.io().psi().some().total), (1.5, 19));
    }

    #[test]
    fn a_device_has_one_entry() {
        let entry = |minor, operation: &str, value| IoEntry { major: 8, minor, operation: operation.into(), value };
        let read = Io {
            service_bytes: vec![entry(0, "Read", 1), entry(0, "Write", 2), entry(16, "Write", 5)],
            serviced: vec![entry(0, "Read", 3), entry(0, "Write", 4)],
            ..Io::default()
        };
        let usage = io(&read, None).usage;
        let numbers: Vec<_> =
            usage.iter().map(|entry| (entry.minor, entry.rbytes, entry.wbytes, entry.rios, entry.wios)).collect();
        assert_eq!(numbers, [(0, 1, 2, 3, 4), (16, 0, 5, 0, 0)]);
    }
}
