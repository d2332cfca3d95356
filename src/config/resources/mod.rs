//! `/linux/resources`: config-linux.md, Control groups. Also what `update` is given.

mod check;

pub(super) use check::check;

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the container may use. What is not asked for is None or empty, and is left as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Resources {
    /// In the order given: a later rule overrides an earlier one.
    pub devices: Vec<DeviceRule>,
    pub memory: Memory,
    pub cpu: Cpu,
    pub block_io: BlockIo,
    /// Tasks; -1 is no limit; 0 is none at all but what is there (config-linux.md 1.3).
    pub pids: Option<i64>,
    pub hugepage_limits: Vec<HugepageLimit>,
    pub network: Network,
    /// Sorted by device.
    pub rdma: Vec<Rdma>,
    /// Files of cgroup v2 and their contents, sorted by name.
    pub unified: Vec<(String, String)>,
}

/// One of `/linux/resources/devices`. None is every number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: RuleKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
    /// JSON pointer; None: a default of the runtime's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleKind {
    /// Character and block devices.
    All,
    Char,
    Block,
}

/// What may be done with a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

/// Bytes; -1 is no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    /// Memory and swap together.
    pub swap: Option<i64>,
    /// 0 to 100.
    pub swappiness: Option<u64>,
    pub disable_oom_killer: Option<bool>,
    /// A limit below what is used now is refused.
    pub check_before_update: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Cpu {
    pub shares: Option<u64>,
    /// Microseconds in each period; -1 is no limit.
    pub quota: Option<i64>,
    /// Microseconds.
    pub burst: Option<u64>,
    /// Microseconds.
    pub period: Option<u64>,
    /// Microseconds.
    pub realtime_runtime: Option<i64>,
    /// Microseconds.
    pub realtime_period: Option<u64>,
    /// A list: `0-3,7`.
    pub cpus: Option<String>,
    pub mems: Option<String>,
    /// 1: SCHED_IDLE.
    pub idle: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlockIo {
    /// 10 to 1000.
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    pub weight_device: Vec<WeightDevice>,
    pub throttle_read_bps_device: Vec<Throttle>,
    pub throttle_write_bps_device: Vec<Throttle>,
    pub throttle_read_iops_device: Vec<Throttle>,
    pub throttle_write_iops_device: Vec<Throttle>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightDevice {
    pub major: u32,
    pub minor: u32,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throttle {
    pub major: u32,
    pub minor: u32,
    /// Bytes or operations each second; 0 is no limit.
    pub rate: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HugepageLimit {
    /// As the kernel names it: `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Network {
    pub class_id: Option<u32>,
    pub priorities: Vec<(String, u32)>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rdma {
    pub device: String,
    pub hca_handles: Option<u32>,
    pub hca_objects: Option<u32>,
}

/// As cgroup v1 writes them: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            RuleKind::All => 'a',
            RuleKind::Char => 'c',
            RuleKind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let Access { read, write, mknod } = self.access;
        let access: String = [(read, 'r'), (write, 'w'), (mknod, 'm')]
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, letter)| letter)
            .collect();
        let verb = if self.allow { "allow" } else { "deny" };
        write!(f, "{verb} {kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}
