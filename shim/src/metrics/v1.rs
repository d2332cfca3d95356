//! `io.containerd.cgroups.v1.Metrics`: nanoseconds and bytes.

use std::path::Path;

use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat, Metrics,
    PidsStat, RdmaEntry, RdmaStat, Throttle,
};
use containerd_shim_protos::protobuf::MessageField;
use ferrun::cgroup::stats::{self, Counter, Cpu, Io, IoEntry, Memory, Oom, Rdma, Stats};

/// `device_name` finds the device file of a block device.
pub(super) fn metrics(stats: &Stats, device_name: &dyn Fn(u64, u64) -> String) -> Metrics {
    Metrics {
        hugetlb: stats.hugetlb.iter().map(|(size, counter)| hugetlb(size, counter)).collect(),
        pids: some(PidsStat { current: stats.pids.current, limit: stats.pids.limit, ..PidsStat::default() }),
        cpu: some(cpu(&stats.cpu)),
        memory: some(memory(&stats.memory)),
        blkio: some(blkio(&stats.io, device_name)),
        rdma: some(rdma(&stats.rdma)),
        memory_oom_control: some(oom_control(&stats.oom)),
        ..Metrics::default()
    }
}

fn some<T>(message: T) -> MessageField<T> {
    MessageField::some(message)
}

fn hugetlb(size: &str, counter: &stats::Hugetlb) -> HugetlbStat {
    HugetlbStat {
        usage: counter.usage,
        max: counter.peak,
        failcnt: counter.failures,
        pagesize: size.to_owned(),
        ..HugetlbStat::default()
    }
}

fn cpu(cpu: &Cpu) -> CPUStat {
    let usage = CPUUsage {
        total: cpu.total,
        kernel: cpu.kernel,
        user: cpu.user,
        per_cpu: cpu.per_cpu.clone(),
        ..CPUUsage::default()
    };
    let throttling = Throttle {
        periods: cpu.periods,
        throttled_periods: cpu.throttled_periods,
        throttled_time: cpu.throttled,
        ..Throttle::default()
    };
    CPUStat { usage: some(usage), throttling: some(throttling), ..CPUStat::default() }
}

fn memory(memory: &Memory) -> MemoryStat {
    let raw = |key: &str| memory.raw.get(key).copied().unwrap_or(0);
    MemoryStat {
        cache: raw("cache"),
        rss: raw("rss"),
        rss_huge: raw("rss_huge"),
        mapped_file: raw("mapped_file"),
        dirty: raw("dirty"),
        writeback: raw("writeback"),
        pg_pg_in: raw("pgpgin"),
        pg_pg_out: raw("pgpgout"),
        pg_fault: raw("pgfault"),
        pg_maj_fault: raw("pgmajfault"),
        inactive_anon: raw("inactive_anon"),
        active_anon: raw("active_anon"),
        inactive_file: raw("inactive_file"),
        active_file: raw("active_file"),
        unevictable: raw("unevictable"),
        hierarchical_memory_limit: raw("hierarchical_memory_limit"),
        hierarchical_swap_limit: raw("hierarchical_memsw_limit"),
        total_cache: raw("total_cache"),
        total_rss: raw("total_rss"),
        total_rss_huge: raw("total_rss_huge"),
        total_mapped_file: raw("total_mapped_file"),
        total_dirty: raw("total_dirty"),
        total_writeback: raw("total_writeback"),
        total_pg_pg_in: raw("total_pgpgin"),
        total_pg_pg_out: raw("total_pgpgout"),
        total_pg_fault: raw("total_pgfault"),
        total_pg_maj_fault: raw("total_pgmajfault"),
        total_inactive_anon: raw("total_inactive_anon"),
        total_active_anon: raw("total_active_anon"),
        total_inactive_file: raw("total_inactive_file"),
        total_active_file: raw("total_active_file"),
        total_unevictable: raw("total_unevictable"),
        usage: some(entry(&memory.usage)),
        swap: some(entry(&memory.swap)),
        kernel: some(entry(&memory.kernel)),
        kernel_tcp: some(entry(&memory.kernel_tcp)),
        ..MemoryStat::default()
    }
}

fn entry(counter: &Counter) -> MemoryEntry {
    MemoryEntry {
        limit: counter.limit,
        usage: counter.usage,
        max: counter.peak,
        failcnt: counter.failures,
        ..MemoryEntry::default()
    }
}

fn oom_control(oom: &Oom) -> MemoryOomControl {
    MemoryOomControl {
        oom_kill_disable: oom.kill_disable,
        under_oom: oom.under_oom,
        oom_kill: oom.kill,
        ..MemoryOomControl::default()
    }
}

fn blkio(io: &Io, device_name: &dyn Fn(u64, u64) -> String) -> BlkIOStat {
    let entries = |entries: &[IoEntry]| entries.iter().map(|entry| blkio_entry(entry, device_name)).collect();
    BlkIOStat {
        io_service_bytes_recursive: entries(&io.service_bytes),
        io_serviced_recursive: entries(&io.serviced),
        io_queued_recursive: entries(&io.queued),
        io_service_time_recursive: entries(&io.service_time),
        io_wait_time_recursive: entries(&io.wait_time),
        io_merged_recursive: entries(&io.merged),
        io_time_recursive: entries(&io.time),
        sectors_recursive: entries(&io.sectors),
        ..BlkIOStat::default()
    }
}

fn blkio_entry(entry: &IoEntry, device_name: &dyn Fn(u64, u64) -> String) -> BlkIOEntry {
    BlkIOEntry {
        op: entry.operation.clone(),
        device: device_name(entry.major, entry.minor),
        major: entry.major,
        minor: entry.minor,
        value: entry.value,
        ..BlkIOEntry::default()
    }
}

/// `/dev/sda`, by sysfs; empty for a device that is gone.
pub(super) fn device_name(major: u64, minor: u64) -> String {
    let target = rustix::fs::readlink(format!("/sys/dev/block/{major}:{minor}"), Vec::new());
    let name = target.ok().and_then(|target| target.into_string().ok());
    let name = name.as_deref().and_then(|target| Path::new(target).file_name()?.to_str());
    // sysfs has ! for the / of a name such as cciss/c0d0
    name.map(|name| format!("/dev/{}", name.replace('!', "/"))).unwrap_or_default()
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
    use ferrun::cgroup::stats::{Hugetlb, Pids};

    #[test]
    fn each_number_is_in_its_place() {
        let cpu = Cpu { total: 3, user: 1, kernel: 2, per_cpu: vec![3, 0], ..Cpu::default() };
        let mut stats = Stats { cpu, ..Stats::default() };
        (stats.cpu.periods, stats.cpu.throttled_periods, stats.cpu.throttled) = (4, 5, 6);
        stats.memory.raw = [("rss", 7), ("total_pgmajfault", 8), ("hierarchical_memsw_limit", 9)]
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        stats.memory.usage = Counter { usage: 10, peak: 11, limit: 12, failures: 13 };
        stats.pids = Pids { current: 14, limit: 15 };
        stats.hugetlb.insert("2MB".into(), Hugetlb { usage: 16, peak: 17, limit: 0, failures: 18 });
        stats.io.sectors = vec![IoEntry { major: 8, minor: 1, operation: "Read".into(), value: 19 }];
        stats.rdma.limit = vec![stats::RdmaEntry { device: "m".into(), hca_handles: 20, hca_objects: 21 }];
        stats.oom = Oom { kill: 22, kill_disable: 1, under_oom: 1, ..Oom::default() };

        let metrics = metrics(&stats, &|major, minor| format!("/dev/{major}.{minor}"));
        let (usage, throttling) = (metrics.cpu().usage(), metrics.cpu().throttling());
        assert_eq!((usage.user, usage.kernel, usage.total, &usage.per_cpu[..]), (1, 2, 3, &[3, 0][..]));
        assert_eq!((throttling.periods, throttling.throttled_periods, throttling.throttled_time), (4, 5, 6));
        let memory = metrics.memory();
        assert_eq!((memory.rss, memory.total_pg_maj_fault, memory.hierarchical_swap_limit), (7, 8, 9));
        let usage = memory.usage();
        assert_eq!((usage.usage, usage.max, usage.limit, usage.failcnt), (10, 11, 12, 13));
        assert_eq!((metrics.pids().current, metrics.pids().limit), (14, 15));
        let page = &metrics.hugetlb[0];
        assert_eq!((page.usage, page.max, page.failcnt, page.pagesize.as_str()), (16, 17, 18, "2MB"));
        let sectors = &metrics.blkio().sectors_recursive[0];
        assert_eq!((sectors.device.as_str(), sectors.op.as_str(), sectors.value), ("/dev/8.1", "Read", 19));
        let limit = &metrics.rdma().limit[0];
        assert_eq!((limit.device.as_str(), limit.hca_handles, limit.hca_objects), ("m", 20, 21));
        let oom = metrics.memory_oom_control();
        assert_eq!((oom.oom_kill, oom.oom_kill_disable, oom.under_oom), (22, 1, 1));
    }

    #[test]
    fn a_device_that_is_gone_has_no_name() {
        assert_eq!(device_name(u64::MAX, 0), "");
    }
}
