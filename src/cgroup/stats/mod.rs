//! What a container uses: counters of its cgroups, of version 1 and 2 alike.
//!
//! Each file is opened once and read once, and only those that belong to what was asked for. A file that the kernel
//! does not have (a controller that is off, a cgroup on its way out) leaves its numbers at 0 or their lists empty.

mod file;
pub mod forms;
mod v1;
mod v2;

use std::collections::BTreeMap;

use crate::error::{Context, Result};
use crate::plan::cgroupfs::{Hierarchies, Placement};

use file::Buffer;
pub(super) use v1::memory_directory;

/// Which parts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups(u16);

impl Groups {
    pub const CPU: Self = Self(1);
    pub const CPUSET: Self = Self(1 << 1);
    pub const MEMORY: Self = Self(1 << 2);
    pub const PIDS: Self = Self(1 << 3);
    pub const IO: Self = Self(1 << 4);
    pub const HUGETLB: Self = Self(1 << 5);
    pub const RDMA: Self = Self(1 << 6);
    /// Pressure stall information of CPU, memory and I/O.
    pub const PRESSURE: Self = Self(1 << 7);
    pub const OOM: Self = Self(1 << 8);
    pub const ALL: Self = Self((1 << 9) - 1);

    /// Both.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn has(self, group: Self) -> bool {
        self.0 & group.0 != 0
    }
}

/// What was asked for; the rest is at its default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    pub cpu: Cpu,
    pub cpuset: Cpuset,
    pub memory: Memory,
    pub pids: Pids,
    pub io: Io,
    /// By size of a page, as the kernel names it: `2MB`.
    pub hugetlb: BTreeMap<String, Hugetlb>,
    pub rdma: Rdma,
    pub pressure: Pressures,
    pub oom: Oom,
}

/// Times in nanoseconds, since the cgroup was made. Version 1: cpuacct.*, and cpu.stat for the limit; version 2:
/// cpu.stat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// cpuacct.usage; `usage_usec`.
    pub total: u64,
    /// cpuacct.stat, which counts hundredths of a second; `user_usec`.
    pub user: u64,
    /// cpuacct.stat; `system_usec`.
    pub kernel: u64,
    /// Of each CPU: cpuacct.usage_percpu. Version 1 only.
    pub per_cpu: Vec<u64>,
    /// cpuacct.usage_all. Version 1 only.
    pub per_cpu_user: Vec<u64>,
    /// cpuacct.usage_all. Version 1 only.
    pub per_cpu_kernel: Vec<u64>,
    /// Periods of the limit that have passed: cpu.stat `nr_periods`.
    pub periods: u64,
    /// Those in which it was reached: cpu.stat `nr_throttled`.
    pub throttled_periods: u64,
    /// Time that tasks were held back: cpu.stat `throttled_time`; `throttled_usec`.
    pub throttled: u64,
    /// Periods in which saved-up time was used: cpu.stat `nr_bursts`.
    pub burst_periods: u64,
    /// Time used beyond the quota in these: cpu.stat `burst_time`; `burst_usec`.
    pub burst: u64,
}

/// The files of version 1's cpuset, cpuset.*; nothing on version 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpuset {
    pub cpus: Vec<u32>,
    pub cpu_exclusive: u64,
    pub mems: Vec<u32>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of page cache: memory.stat `cache`; `file`.
    pub cache: u64,
    /// memory.*_in_bytes; memory.current, .max and .peak.
    pub usage: Counter,
    /// Memory and swap together: memory.memsw.*; the sums of memory.* and memory.swap.*, without a peak.
    pub swap: Counter,
    /// memory.swap.*. Version 2 only.
    pub swap_alone: Counter,
    /// memory.kmem.*. Version 1 only.
    pub kernel: Counter,
    /// memory.kmem.tcp.*. Version 1 only.
    pub kernel_tcp: Counter,
    /// memory.stat as it is: bytes or events.
    pub raw: BTreeMap<String, u64>,
}

/// Bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counter {
    pub usage: u64,
    /// The most that it was.
    pub peak: u64,
    /// u64::MAX: none (version 1 has a somewhat smaller number for that).
    pub limit: u64,
    /// How often the limit was reached. Version 1 only; see [`Oom`] for version 2.
    pub failures: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pids {
    /// Tasks, threads among them: pids.current. Processes of the cgroup itself where nobody counts (version 2).
    pub current: u64,
    /// pids.max; 0: none.
    pub limit: u64,
}

/// By device. Version 1: the first of these families that the kernel keeps: blkio.bfq.*, blkio.* (cfq),
/// blkio.throttle.*; version 2: io.stat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Io {
    /// Bytes: io_service_bytes; `rbytes` and `wbytes`.
    pub service_bytes: Vec<IoEntry>,
    /// Operations: io_serviced; `rios` and `wios`.
    pub serviced: Vec<IoEntry>,
    /// Operations that wait: io_queued.
    pub queued: Vec<IoEntry>,
    /// Nanoseconds: io_service_time.
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds: io_wait_time.
    pub wait_time: Vec<IoEntry>,
    /// Operations: io_merged.
    pub merged: Vec<IoEntry>,
    /// Milliseconds of the device's time: time.
    pub time: Vec<IoEntry>,
    /// Sectors of 512 bytes: sectors.
    pub sectors: Vec<IoEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write`, `Total` and so on; empty where there is only one.
    pub operation: String,
    pub value: u64,
}

/// hugetlb.SIZE.rsvd.* where the kernel has it, hugetlb.SIZE.* else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hugetlb {
    /// Bytes: usage_in_bytes; current.
    pub usage: u64,
    /// Bytes: max_usage_in_bytes. Version 1 only.
    pub peak: u64,
    /// Bytes: max; u64::MAX: none. Version 2 only.
    pub limit: u64,
    /// How often the limit was reached: failcnt; events `max`.
    pub failures: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rdma {
    /// rdma.current.
    pub current: Vec<RdmaEntry>,
    /// rdma.max.
    pub limit: Vec<RdmaEntry>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    pub device: String,
    /// u32::MAX: no limit.
    pub hca_handles: u32,
    pub hca_objects: u32,
}

/// None: this kernel, or version 1, keeps none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressures {
    /// cpu.pressure.
    pub cpu: Option<Pressure>,
    /// memory.pressure.
    pub memory: Option<Pressure>,
    /// io.pressure.
    pub io: Option<Pressure>,
}

/// psi.rst.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pressure {
    /// At least one task waits.
    pub some: Stall,
    /// All tasks wait.
    pub full: Stall,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10, 60 and 300 seconds.
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// How often memory was short. Version 1: memory.oom_control, the kills and the last two only; version 2:
/// memory.events, all of it with the cgroups below.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oom {
    /// Reclaimed in spite of memory.low.
    pub low: u64,
    /// Held back by memory.high.
    pub high: u64,
    /// About to go beyond memory.max.
    pub max: u64,
    /// The limit was reached and an allocation was about to fail.
    pub oom: u64,
    /// Processes that were killed.
    pub kill: u64,
    /// Cgroups that were killed as a whole.
    pub group_kill: u64,
    /// 1: tasks wait instead of being killed. Version 1 only.
    pub kill_disable: u64,
    /// 1: some wait now. Version 1 only.
    pub under_oom: u64,
}

/// Reads [`Stats`]; what it needs for that is kept for the next time.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Buffer,
}

impl Reader {
    /// The counters of a container.
    ///
    /// # Errors
    /// A file cannot be read, or does not look as the kernel writes it.
    pub fn read(&mut self, placement: &Placement, groups: Groups) -> Result<Stats> {
        let read = match &placement.hierarchies {
            Hierarchies::None => Ok(Stats::default()),
            Hierarchies::V1 { directories } => v1::read(directories, groups, &mut self.buffer),
            Hierarchies::V2 { directory } => v2::read(directory, groups, &mut self.buffer),
        };
        read.context(|| "read the counters of its cgroups".to_owned())
    }
}
