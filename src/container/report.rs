//! The documents that `events` prints: key by key those of runc's types/events.go, which callers parse.
//!
//! What runc leaves out when it is 0 or empty (Go's `omitempty`) is left out here.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::cgroup::stats::{self, Counter, IoEntry, Pressure};

/// One line.
#[derive(Debug, Serialize)]
pub struct Event<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
}

impl<'a> Event<'a> {
    pub fn stats(id: &'a str, stats: stats::Stats) -> Self {
        Self { kind: "stats", id, data: Some(Data::from(stats)) }
    }

    pub fn oom(id: &'a str) -> Self {
        Self { kind: "oom", id, data: None }
    }
}

#[derive(Debug, Serialize)]
pub struct Data {
    cpu: Cpu,
    cpuset: Cpuset,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
    hugetlb: BTreeMap<String, Hugetlb>,
    /// Always empty: no container is in a group of resctrl yet.
    intel_rdt: BTreeMap<String, ()>,
    /// Of libcontainer's own networks, which the OCI configuration does not have: always `null`.
    network_interfaces: Option<()>,
}

#[derive(Debug, Serialize)]
struct Cpu {
    usage: CpuUsage,
    throttling: Throttling,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Serialize)]
struct CpuUsage {
    #[serde(skip_serializing_if = "is_0")]
    total: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_kernel: Vec<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_user: Vec<u64>,
    kernel: u64,
    user: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Throttling {
    #[serde(skip_serializing_if = "is_0")]
    periods: u64,
    #[serde(skip_serializing_if = "is_0")]
    throttled_periods: u64,
    #[serde(skip_serializing_if = "is_0")]
    throttled_time: u64,
}

#[derive(Debug, Serialize)]
struct Cpuset {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cpus: Vec<u32>,
    cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mems: Vec<u32>,
    mem_hardwall: u64,
    mem_exclusive: u64,
    memory_migrate: u64,
    memory_spread_page: u64,
    memory_spread_slab: u64,
    memory_pressure: u64,
    sched_load_balance: u64,
    sched_relax_domain_level: i64,
}

#[derive(Debug, Serialize)]
struct Memory {
    #[serde(skip_serializing_if = "is_0")]
    cache: u64,
    usage: MemoryEntry,
    swap: MemoryEntry,
    kernel: MemoryEntry,
    #[serde(rename = "kernelTCP")]
    kernel_tcp: MemoryEntry,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Serialize)]
struct MemoryEntry {
    limit: u64,
    #[serde(skip_serializing_if = "is_0")]
    usage: u64,
    #[serde(skip_serializing_if = "is_0")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Pids {
    #[serde(skip_serializing_if = "is_0")]
    current: u64,
    #[serde(skip_serializing_if = "is_0")]
    limit: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Blkio {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_bytes_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_serviced_recursive: Vec<BlkioEntry>,
    #[serde(rename = "ioQueueRecursive", skip_serializing_if = "Vec::is_empty")]
    io_queued_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_service_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_wait_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_merged_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    io_time_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sectors_recursive: Vec<BlkioEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    psi: Option<Psi>,
}

#[derive(Debug, Serialize)]
struct BlkioEntry {
    #[serde(skip_serializing_if = "is_0")]
    major: u64,
    #[serde(skip_serializing_if = "is_0")]
    minor: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    op: String,
    #[serde(skip_serializing_if = "is_0")]
    value: u64,
}

#[derive(Debug, Serialize)]
struct Hugetlb {
    #[serde(skip_serializing_if = "is_0")]
    usage: u64,
    #[serde(skip_serializing_if = "is_0")]
    max: u64,
    failcnt: u64,
}

#[derive(Debug, Serialize)]
struct Psi {
    some: Stall,
    full: Stall,
}

#[derive(Debug, Serialize)]
struct Stall {
    #[serde(serialize_with = "go_float")]
    avg10: f64,
    #[serde(serialize_with = "go_float")]
    avg60: f64,
    #[serde(serialize_with = "go_float")]
    avg300: f64,
    total: u64,
}

fn is_0(number: &u64) -> bool {
    *number == 0
}

/// Go writes a whole number without a point.
fn go_float<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && (0.0..1e15).contains(number) {
        serializer.serialize_u64(*number as u64)
    } else {
        serializer.serialize_f64(*number)
    }
}

impl From<stats::Stats> for Data {
    fn from(stats: stats::Stats) -> Self {
        let pressure = stats.pressure;
        let hugetlb =
            |counter: stats::Hugetlb| Hugetlb { usage: counter.usage, max: counter.peak, failcnt: counter.failures };
        Self {
            cpu: cpu(stats.cpu, pressure.cpu.map(Psi::from)),
            cpuset: cpuset(stats.cpuset),
            memory: memory(stats.memory, pressure.memory.map(Psi::from)),
            pids: Pids { current: stats.pids.current, limit: stats.pids.limit },
            blkio: blkio(stats.io, pressure.io.map(Psi::from)),
            hugetlb: stats.hugetlb.into_iter().map(|(size, counter)| (size, hugetlb(counter))).collect(),
            intel_rdt: BTreeMap::new(),
            network_interfaces: None,
        }
    }
}

fn cpu(cpu: stats::Cpu, psi: Option<Psi>) -> Cpu {
    Cpu {
        usage: CpuUsage {
            total: cpu.total,
            percpu: cpu.per_cpu,
            percpu_kernel: cpu.per_cpu_kernel,
            percpu_user: cpu.per_cpu_user,
            kernel: cpu.kernel,
            user: cpu.user,
        },
        throttling: Throttling {
            periods: cpu.periods,
            throttled_periods: cpu.throttled_periods,
            throttled_time: cpu.throttled,
        },
        psi,
    }
}

fn cpuset(cpuset: stats::Cpuset) -> Cpuset {
    Cpuset {
        cpus: cpuset.cpus,
        cpu_exclusive: cpuset.cpu_exclusive,
        mems: cpuset.mems,
        mem_hardwall: cpuset.mem_hardwall,
        mem_exclusive: cpuset.mem_exclusive,
        memory_migrate: cpuset.memory_migrate,
        memory_spread_page: cpuset.memory_spread_page,
        memory_spread_slab: cpuset.memory_spread_slab,
        memory_pressure: cpuset.memory_pressure,
        sched_load_balance: cpuset.sched_load_balance,
        sched_relax_domain_level: cpuset.sched_relax_domain_level,
    }
}

fn memory(memory: stats::Memory, psi: Option<Psi>) -> Memory {
    Memory {
        cache: memory.cache,
        usage: memory.usage.into(),
        swap: memory.swap.into(),
        kernel: memory.kernel.into(),
        kernel_tcp: memory.kernel_tcp.into(),
        raw: memory.raw,
        psi,
    }
}

fn blkio(io: stats::Io, psi: Option<Psi>) -> Blkio {
    let entries = |list: Vec<IoEntry>| list.into_iter().map(BlkioEntry::from).collect();
    Blkio {
        io_service_bytes_recursive: entries(io.service_bytes),
        io_serviced_recursive: entries(io.serviced),
        io_queued_recursive: entries(io.queued),
        io_service_time_recursive: entries(io.service_time),
        io_wait_time_recursive: entries(io.wait_time),
        io_merged_recursive: entries(io.merged),
        io_time_recursive: entries(io.time),
        sectors_recursive: entries(io.sectors),
        psi,
    }
}

impl From<IoEntry> for BlkioEntry {
    fn from(entry: IoEntry) -> Self {
        Self { major: entry.major, minor: entry.minor, op: entry.operation, value: entry.value }
    }
}

impl From<Counter> for MemoryEntry {
    fn from(counter: Counter) -> Self {
        Self { limit: counter.limit, usage: counter.usage, max: counter.peak, failcnt: counter.failures }
    }
}

impl From<Pressure> for Psi {
    fn from(pressure: Pressure) -> Self {
        let stall = |stall: stats::Stall| Stall {
            avg10: stall.avg10,
            avg60: stall.avg60,
            avg300: stall.avg300,
            total: stall.total,
        };
        Self { some: stall(pressure.some), full: stall(pressure.full) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What runc 1.1 printed on version 1, and the same with all that it can have.
    #[test]
    fn runcs_keys_in_runcs_order() {
        let text = |stats| serde_json::to_string(&Event::stats("a", stats)).expect("json");
        assert_eq!(
            text(stats::Stats::default()),
            concat!(
                r#"{"type":"stats","id":"a","data":{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"#,
                r#""cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"#,
                r#""memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"#,
                r#""sched_relax_domain_level":0},"memory":{"usage":{"limit":0,"failcnt":0},"#,
                r#""swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"#,
                r#""pids":{},"blkio":{},"hugetlb":{},"intel_rdt":{},"network_interfaces":null}}"#
            )
        );
        assert_eq!(serde_json::to_string(&Event::oom("a")).expect("json"), r#"{"type":"oom","id":"a"}"#);
        let stall = stats::Stall { avg10: 1.5, avg60: 2.0, avg300: 0.0, total: 9 };
        let entry = IoEntry { major: 8, minor: 0, operation: "Read".into(), value: 1 };
        let full = stats::Stats {
            cpu: stats::Cpu { total: 1, per_cpu: vec![1], throttled_periods: 2, ..stats::Cpu::default() },
            io: stats::Io { service_bytes: vec![entry], ..stats::Io::default() },
            hugetlb: [("2MB".into(), stats::Hugetlb { usage: 1, ..Default::default() })].into(),
            pressure: stats::Pressures { cpu: Some(Pressure { some: stall, full: stall }), ..Default::default() },
            ..stats::Stats::default()
        };
        let text = text(full);
        for part in [
            r#""cpu":{"usage":{"total":1,"percpu":[1],"kernel":0,"user":0},"throttling":{"throttledPeriods":2},"psi":{"some":{"avg10":1.5,"avg60":2,"avg300":0,"total":9},"full":{"#,
            r#""blkio":{"ioServiceBytesRecursive":[{"major":8,"op":"Read","value":1}]},"hugetlb":{"2MB":{"usage":1,"failcnt":0}}"#,
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
