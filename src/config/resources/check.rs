//! `LinuxResources` → [`Resources`]. What the kernel would refuse with a bare EINVAL is refused here, with words.

use std::collections::HashMap;
use std::fmt::Debug;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxNetwork,
    LinuxRdma, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::{
    Access, BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Network, Rdma, Resources, RuleKind, Throttle, WeightDevice,
};
use crate::config::at::{At, ROOT};
use crate::config::devices::{MAX_MAJOR, MAX_MINOR};
use crate::config::load;
use crate::error::Result;

/// No interface has a longer name: IFNAMSIZ without the NUL.
const INTERFACE_LENGTH: usize = 15;

/// Files of a cgroup that move, end, stop or redefine what is in it; the rest of `cgroup.*` are limits.
const NO_LIMITS: [&str; 6] =
    ["cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type", "cgroup.subtree_control"];

impl Resources {
    /// From what `update` is given: a document with the properties of `/linux/resources`. Pointers count from
    /// its root.
    ///
    /// # Errors
    /// What is no JSON, or asks for what cannot be.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut warnings = Vec::new();
        let resources = check(Some(&load::parse_resources(bytes)?), &ROOT, &mut warnings)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(resources)
    }
}

pub(in crate::config) fn check(
    spec: Option<&LinuxResources>,
    at: &At,
    warnings: &mut Vec<String>,
) -> Result<Resources> {
    let Some(spec) = spec else { return Ok(Resources::default()) };
    let block_io = spec.block_io().as_ref().map(|io| block_io(io, &at.key("blockIO")));
    let network = spec.network().as_ref().map(|one| network(one, &at.key("network")));
    Ok(Resources {
        devices: devices(spec.devices().as_deref().unwrap_or_default(), &at.key("devices"))?,
        memory: match spec.memory() {
            Some(spec) => memory(spec, &at.key("memory"), warnings)?,
            None => Memory::default(),
        },
        cpu: spec.cpu().as_ref().map(|spec| cpu(spec, &at.key("cpu"))).transpose()?.unwrap_or_default(),
        block_io: block_io.transpose()?.unwrap_or_default(),
        pids: spec.pids().map(|pids| unlimited(pids.limit(), &at.key("pids").key("limit"))).transpose()?,
        hugepage_limits: hugepage_limits(spec.hugepage_limits().as_deref(), &at.key("hugepageLimits"))?,
        network: network.transpose()?.unwrap_or_default(),
        rdma: rdma(spec.rdma().as_ref(), &at.key("rdma"))?,
        unified: unified(spec.unified().as_ref(), &at.key("unified"))?,
    })
}

fn devices(rules: &[LinuxDeviceCgroup], at: &At) -> Result<Vec<DeviceRule>> {
    rules.iter().enumerate().map(|(index, rule)| device(rule, &at.index(index))).collect()
}

fn device(rule: &LinuxDeviceCgroup, at: &At) -> Result<DeviceRule> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => RuleKind::All,
        Some(LinuxDeviceType::C) => RuleKind::Char,
        Some(LinuxDeviceType::B) => RuleKind::Block,
        Some(LinuxDeviceType::U) => return Err(at.key("type").must("a, b or c", "u")),
        Some(LinuxDeviceType::P) => return Err(at.key("type").must("a, b or c", "p")),
    };
    let number = |number: Option<i64>, at: &At| match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(at.must("from 0 to 4294967295, or -1 for all", number)),
        },
    };
    Ok(DeviceRule {
        allow: rule.allow(),
        kind,
        major: number(rule.major(), &at.key("major"))?,
        minor: number(rule.minor(), &at.key("minor"))?,
        access: access(rule.access().as_deref().unwrap_or_default(), &at.key("access"))?,
        pointer: Some(at.pointer()),
    })
}

fn access(text: &str, at: &At) -> Result<Access> {
    let mut access = Access::default();
    for letter in text.chars() {
        match letter {
            'r' => access.read = true,
            'w' => access.write = true,
            'm' => access.mknod = true,
            _ => return Err(at.must("letters of \"rwm\"", text)),
        }
    }
    if text.is_empty() { Err(at.must("letters of \"rwm\", at least one", text)) } else { Ok(access) }
}

/// 0 is "not asked for", as Go has it; -1 is "no limit".
fn bytes(value: Option<i64>, at: &At) -> Result<Option<i64>> {
    value.filter(|value| *value != 0).map(|value| unlimited(value, at)).transpose()
}

fn unlimited(value: i64, at: &At) -> Result<i64> {
    if value >= -1 { Ok(value) } else { Err(at.must("0 or more, or -1 for no limit", value)) }
}

fn memory(spec: &LinuxMemory, at: &At, warnings: &mut Vec<String>) -> Result<Memory> {
    for (key, value) in [("kernel", spec.kernel()), ("kernelTCP", spec.kernel_tcp())] {
        if value.is_some_and(|value| value != 0) {
            warnings.push(format!("{} is ignored: kernel memory has no limit of its own", at.key(key).name()));
        }
    }
    let limit = bytes(spec.limit(), &at.key("limit"))?;
    let swap = bytes(spec.swap(), &at.key("swap"))?;
    if let (Some(limit), Some(swap)) = (limit.filter(|limit| *limit > 0), swap.filter(|swap| *swap > 0))
        && swap < limit
    {
        let right = format!("memory and swap together, at least the memory limit {limit}");
        return Err(at.key("swap").must(&right, swap));
    }
    // -1, read as unsigned: left as it is
    let swappiness = spec.swappiness().filter(|value| *value != u64::MAX);
    Ok(Memory {
        limit,
        reservation: bytes(spec.reservation(), &at.key("reservation"))?,
        swap,
        swappiness: within(swappiness, 0, 100, &at.key("swappiness"))?,
        disable_oom_killer: spec.disable_oom_killer(),
        check_before_update: spec.check_before_update().unwrap_or_default(),
    })
}

fn within<T: PartialOrd + Debug>(value: Option<T>, least: T, most: T, at: &At) -> Result<Option<T>> {
    match value {
        Some(value) if value < least || value > most => Err(at.must(&format!("from {least:?} to {most:?}"), value)),
        value => Ok(value),
    }
}

fn cpu(spec: &LinuxCpu, at: &At) -> Result<Cpu> {
    // sched-bwc.rst: all times of the bandwidth controller have these bounds
    const LEAST: u64 = 1000;
    const MOST_PERIOD: u64 = 1_000_000;
    let quota = spec.quota().filter(|quota| *quota != 0).map(|quota| quota.max(-1));
    if quota.is_some_and(|quota| (0..LEAST.cast_signed()).contains(&quota)) {
        return Err(at
            .key("quota")
            .must("at least 1000 (microseconds), or -1 for no limit", quota.unwrap_or_default()));
    }
    let positive = quota.and_then(|quota| u64::try_from(quota).ok());
    if let (Some(quota), Some(burst)) = (positive, spec.burst())
        && burst > quota
    {
        return Err(at.key("burst").must(&format!("at most the quota {quota}"), burst));
    }
    let realtime_period = spec.realtime_period().filter(|period| *period != 0);
    let realtime_runtime = spec.realtime_runtime().filter(|runtime| *runtime != 0);
    if let Some(runtime) = realtime_runtime {
        unlimited(runtime, &at.key("realtimeRuntime"))?;
        if let Some(period) = realtime_period
            && u64::try_from(runtime).is_ok_and(|runtime| runtime > period)
        {
            let right = format!("at most the realtimePeriod {period}");
            return Err(at.key("realtimeRuntime").must(&right, runtime));
        }
    }
    let period = spec.period().filter(|period| *period != 0);
    Ok(Cpu {
        shares: spec.shares().filter(|shares| *shares != 0),
        quota,
        burst: spec.burst(),
        period: within(period, LEAST, MOST_PERIOD, &at.key("period"))?,
        realtime_runtime,
        realtime_period,
        cpus: list(spec.cpus().as_deref(), &at.key("cpus"))?,
        mems: list(spec.mems().as_deref(), &at.key("mems"))?,
        idle: within(spec.idle(), 0, 1, &at.key("idle"))?,
    })
}

/// A list as the kernel parses it (bitmap_parselist): `0-3,7`, `0-31:2/8`, `all`. Comes back without blanks.
fn list(text: Option<&str>, at: &At) -> Result<Option<String>> {
    let Some(text) = text else { return Ok(None) };
    let regions: Vec<&str> = text.split(',').map(str::trim).filter(|region| !region.is_empty()).collect();
    if !regions.iter().all(|region| is_region(region)) {
        return Err(at.must("a list such as \"0-3,7\"", text));
    }
    Ok(Some(regions.join(",")).filter(|list| !list.is_empty()))
}

fn is_region(region: &str) -> bool {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let last = |text: &str| if text == "N" { Some(u32::MAX) } else { number(text) };
    let (range, group) = region.split_once(':').map_or((region, None), |(range, group)| (range, Some(group)));
    let ordered = match range.split_once('-') {
        Some((first, end)) => matches!((last(first), last(end)), (Some(first), Some(end)) if first <= end),
        None => range == "all" || last(range).is_some(),
    };
    let grouped = group.is_none_or(|group| {
        let parts = group.split_once('/').and_then(|(used, size)| Some((number(used)?, number(size)?)));
        parts.is_some_and(|(used, size)| 0 < used && used <= size)
    });
    ordered && grouped
}

fn block_io(spec: &LinuxBlockIo, at: &At) -> Result<BlockIo> {
    let throttles = |list: &Option<Vec<LinuxThrottleDevice>>, key: &str| throttles(list.as_deref(), &at.key(key));
    Ok(BlockIo {
        weight: weight(spec.weight(), &at.key("weight"))?,
        leaf_weight: weight(spec.leaf_weight(), &at.key("leafWeight"))?,
        weight_device: weight_devices(spec.weight_device().as_deref(), &at.key("weightDevice"))?,
        throttle_read_bps_device: throttles(spec.throttle_read_bps_device(), "throttleReadBpsDevice")?,
        throttle_write_bps_device: throttles(spec.throttle_write_bps_device(), "throttleWriteBpsDevice")?,
        throttle_read_iops_device: throttles(spec.throttle_read_iops_device(), "throttleReadIOPSDevice")?,
        throttle_write_iops_device: throttles(spec.throttle_write_iops_device(), "throttleWriteIOPSDevice")?,
    })
}

fn weight(weight: Option<u16>, at: &At) -> Result<Option<u16>> {
    within(weight.filter(|weight| *weight != 0), 10, 1000, at)
}

fn weight_devices(list: Option<&[LinuxWeightDevice]>, at: &At) -> Result<Vec<WeightDevice>> {
    let one = |(index, spec): (usize, &LinuxWeightDevice)| {
        let at = at.index(index);
        Ok(WeightDevice {
            major: number(spec.major(), MAX_MAJOR, &at.key("major"))?,
            minor: number(spec.minor(), MAX_MINOR, &at.key("minor"))?,
            weight: weight(spec.weight(), &at.key("weight"))?,
            leaf_weight: weight(spec.leaf_weight(), &at.key("leafWeight"))?,
        })
    };
    list.unwrap_or_default().iter().enumerate().map(one).collect()
}

fn throttles(list: Option<&[LinuxThrottleDevice]>, at: &At) -> Result<Vec<Throttle>> {
    let one = |(index, spec): (usize, &LinuxThrottleDevice)| {
        let at = at.index(index);
        Ok(Throttle {
            major: number(spec.major(), MAX_MAJOR, &at.key("major"))?,
            minor: number(spec.minor(), MAX_MINOR, &at.key("minor"))?,
            rate: spec.rate(),
        })
    };
    list.unwrap_or_default().iter().enumerate().map(one).collect()
}

fn number(number: i64, max: u32, at: &At) -> Result<u32> {
    match u32::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(at.must(&format!("from 0 to {max}"), number)),
    }
}

fn hugepage_limits(list: Option<&[LinuxHugepageLimit]>, at: &At) -> Result<Vec<HugepageLimit>> {
    let mut limits: Vec<HugepageLimit> = Vec::new();
    for (index, spec) in list.unwrap_or_default().iter().enumerate() {
        let (at, size) = (at.index(index), spec.page_size());
        if !is_page_size(size) {
            return Err(at.key("pageSize").must("a size as the kernel names it, such as \"2MB\" or \"1GB\"", size));
        }
        if limits.iter().any(|earlier| earlier.page_size == *size) {
            return Err(at.key("pageSize").must("there once only", size));
        }
        let Ok(limit) = u64::try_from(spec.limit()) else {
            return Err(at.key("limit").must("0 or more", spec.limit()));
        };
        limits.push(HugepageLimit { page_size: size.clone(), limit });
    }
    Ok(limits)
}

/// hugetlb.rst: `<hugepagesize>` is a number with the greatest unit that fits.
fn is_page_size(size: &str) -> bool {
    let number = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    number.is_some_and(|n| !n.is_empty() && !n.starts_with('0') && n.bytes().all(|byte| byte.is_ascii_digit()))
}

fn network(spec: &LinuxNetwork, at: &At) -> Result<Network> {
    let at = at.key("priorities");
    let mut priorities = Vec::new();
    for (index, one) in spec.priorities().iter().flatten().enumerate() {
        if !is_name(one.name(), INTERFACE_LENGTH) || one.name().contains('/') {
            return Err(at.index(index).key("name").must("the name of a network interface", one.name()));
        }
        priorities.push((one.name().clone(), one.priority()));
    }
    Ok(Network { class_id: spec.class_id().filter(|id| *id != 0), priorities })
}

/// The first word of a line that the kernel is to read.
fn is_name(name: &str, length: usize) -> bool {
    (1..=length).contains(&name.len()) && !name.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn rdma(map: Option<&HashMap<String, LinuxRdma>>, at: &At) -> Result<Vec<Rdma>> {
    let mut limits = Vec::new();
    for (device, spec) in map.into_iter().flatten() {
        if !is_name(device, usize::from(u8::MAX)) {
            return Err(at.key(device).must("the name of an RDMA device", device));
        }
        let (hca_handles, hca_objects) = (spec.hca_handles(), spec.hca_objects());
        if hca_handles.is_none() && hca_objects.is_none() {
            return Err(at.key(device).error(format!("{} must have hcaHandles or hcaObjects", at.key(device).name())));
        }
        limits.push(Rdma { device: device.clone(), hca_handles, hca_objects });
    }
    limits.sort_unstable_by(|one, other| one.device.cmp(&other.device));
    Ok(limits)
}

fn unified(map: Option<&HashMap<String, String>>, at: &At) -> Result<Vec<(String, String)>> {
    let mut files: Vec<(String, String)> =
        map.into_iter().flatten().map(|(file, value)| (file.clone(), value.clone())).collect();
    files.sort_unstable();
    for (file, value) in &files {
        let at = at.key(file);
        if file.contains('/') {
            return Err(at.error(format!("unified resource {file:?} must be a file name (no slashes)")));
        }
        if !is_name(file, usize::from(u8::MAX)) || file.starts_with('.') || !file.contains('.') {
            return Err(at.error(format!("unified resource {file:?} must be in the form CONTROLLER.PARAMETER")));
        }
        if NO_LIMITS.contains(&file.as_str()) {
            return Err(
                at.error(format!("unified resource {file:?} is no limit: it acts on the container's processes"))
            );
        }
        if value.contains(|c: char| c.is_control() && c != '\n' && c != '\t') {
            return Err(at.must("free of control characters", value));
        }
    }
    Ok(files)
}
