//! What the files of the cgroup are told, told to systemd as well, which would write its own ideas of them on the
//! next `daemon-reload`. What it has no property for is in the files only.

use crate::cgroup::limits::{Limits, Rule, Setting, Version};
use crate::error::{Error, Result};

use super::{INFINITY, Property, Value};

/// cgroup-v2.rst, cpu.max.
const DEFAULT_PERIOD: u64 = 100_000;

/// More numbers than any kernel has: a mask of them is 8 KiB.
const MAX_CPUS: usize = 1 << 16;

/// The limits that systemd has properties for. A later setting of the same file counts.
pub(super) fn properties(limits: &Limits, version: Version) -> Result<Vec<Property>> {
    let mut properties: Vec<Property> = Vec::new();
    for setting in &limits.settings {
        let find = |file: &str, value: &str| match version {
            Version::V1 => version_1(file, value, &limits.settings),
            Version::V2 => version_2(file, value),
        };
        let found = match (find(&setting.file, setting.value.trim()), &setting.rule) {
            (Ok(found), Rule::Or { file, value }) if found.is_empty() => find(file, value),
            (found, _) => found,
        };
        for mut property in found.map_err(|error| error.at(&setting.pointer))? {
            property.optional = true;
            property.pointer = Some(setting.pointer.clone());
            add(&mut properties, property);
        }
    }
    Ok(properties)
}

/// A list grows, any other value is replaced.
fn add(properties: &mut Vec<Property>, mut property: Property) {
    if let Some(place) = properties.iter().position(|earlier| earlier.name == property.name) {
        let earlier = properties.remove(place);
        if let (Value::Rates(old), Value::Rates(new)) = (earlier.value, &mut property.value) {
            let kept = old.into_iter().filter(|(device, _)| !new.iter().any(|(other, _)| other == device));
            *new = kept.chain(new.clone()).collect();
        }
    }
    properties.push(property);
}

fn version_2(file: &str, value: &str) -> Result<Vec<Property>> {
    let one = |name: &str| Ok(number(value).map(|number| limit(name, number)).into_iter().collect());
    match file {
        "cpu.idle" => Ok(match value {
            // systemd has no other way to say it (252)
            "1" => vec![limit("CPUWeight", 0)],
            _ => Vec::new(),
        }),
        "cpu.weight" => one("CPUWeight"),
        "cpu.max" => Ok(cpu_max(value)),
        "cpuset.cpus" => Ok(vec![Property::new("AllowedCPUs", Value::Mask(mask(value)?))]),
        "cpuset.mems" => Ok(vec![Property::new("AllowedMemoryNodes", Value::Mask(mask(value)?))]),
        "memory.max" => one("MemoryMax"),
        "memory.high" => one("MemoryHigh"),
        "memory.low" => one("MemoryLow"),
        "memory.min" => one("MemoryMin"),
        "memory.swap.max" => one("MemorySwapMax"),
        "memory.zswap.max" => one("MemoryZSwapMax"),
        "pids.max" => Ok(tasks(value)),
        "io.weight" => Ok(io_weight(value)),
        "io.max" => Ok(io_max(value)),
        _ => Ok(Vec::new()),
    }
}

fn version_1(file: &str, value: &str, all: &[Setting]) -> Result<Vec<Property>> {
    let one = |name: &str| Ok(number(value).map(|number| limit(name, number)).into_iter().collect());
    match file {
        "cpu.shares" => one("CPUShares"),
        "cpu.cfs_quota_us" | "cpu.cfs_period_us" => {
            let last = |file: &str| all.iter().rev().find(|setting| setting.file == file);
            let period = last("cpu.cfs_period_us").and_then(|setting| setting.value.trim().parse().ok());
            Ok(last("cpu.cfs_quota_us").map(|quota| cpu_quota(quota.value.trim(), period)).unwrap_or_default())
        }
        "cpuset.cpus" => Ok(vec![Property::new("AllowedCPUs", Value::Mask(mask(value)?))]),
        "cpuset.mems" => Ok(vec![Property::new("AllowedMemoryNodes", Value::Mask(mask(value)?))]),
        "memory.limit_in_bytes" => one("MemoryLimit"),
        "pids.max" => Ok(tasks(value)),
        "blkio.weight" | "blkio.bfq.weight" => one("BlockIOWeight"),
        _ => Ok(Vec::new()),
    }
}

fn limit(name: &str, number: u64) -> Property {
    Property::new(name, Value::U64(number))
}

/// `max`, and version 1's -1, are no limit. What is no number is for the kernel to refuse.
fn number(text: &str) -> Option<u64> {
    match text {
        "max" | "-1" => Some(INFINITY),
        _ => text.parse().ok(),
    }
}

/// systemd knows no limit of 0 tasks.
fn tasks(value: &str) -> Vec<Property> {
    number(value).filter(|&number| number > 0).map(|number| limit("TasksMax", number)).into_iter().collect()
}

/// `quota [period]`.
fn cpu_max(value: &str) -> Vec<Property> {
    let mut words = value.split_whitespace();
    let quota = words.next().unwrap_or_default();
    cpu_quota(quota, words.next().and_then(|period| period.parse().ok()))
}

fn cpu_quota(quota: &str, period: Option<u64>) -> Vec<Property> {
    let Some(quota) = number(quota) else { return Vec::new() };
    let period = period.filter(|&period| period > 0);
    let per_second = match quota {
        INFINITY => INFINITY,
        // systemd knows whole percents only: more, not less, as a child cgroup may be told the same number
        quota => {
            let per_second = u128::from(quota) * 1_000_000 / u128::from(period.unwrap_or(DEFAULT_PERIOD));
            u64::try_from(per_second.next_multiple_of(10_000)).unwrap_or(INFINITY)
        }
    };
    let period = period.map(|period| limit("CPUQuotaPeriodUSec", period));
    period.into_iter().chain([limit("CPUQuotaPerSecUSec", per_second)]).collect()
}

/// `weight`, `default weight`, `major:minor weight`.
fn io_weight(value: &str) -> Vec<Property> {
    let lines = value.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [weight] | ["default", weight] => weight.parse().ok().map(|weight| limit("IOWeight", weight)),
            [device, weight] => weight
                .parse()
                .ok()
                .map(|weight| Property::new("IODeviceWeight", Value::Rates(vec![(node(device), weight)]))),
            _ => None,
        }
    });
    collect(lines)
}

/// `major:minor rbps=… wbps=… riops=… wiops=…`.
fn io_max(value: &str) -> Vec<Property> {
    let lines = value.lines().flat_map(|line| {
        let (device, rates) = line.trim().split_once(' ').unwrap_or_default();
        rates.split_whitespace().filter_map(move |rate| {
            let (key, rate) = rate.split_once('=')?;
            let name = match key {
                "rbps" => "IOReadBandwidthMax",
                "wbps" => "IOWriteBandwidthMax",
                "riops" => "IOReadIOPSMax",
                "wiops" => "IOWriteIOPSMax",
                _ => return None,
            };
            Some(Property::new(name, Value::Rates(vec![(node(device), number(rate)?)])))
        })
    });
    collect(lines)
}

fn collect(found: impl Iterator<Item = Property>) -> Vec<Property> {
    let mut properties = Vec::new();
    for property in found {
        add(&mut properties, property);
    }
    properties
}

/// systemd takes the numbers from the name: the node need not exist.
fn node(device: &str) -> String {
    format!("/dev/block/{device}")
}

/// `0-3,7` as a bit mask.
fn mask(list: &str) -> Result<Vec<u8>> {
    let wrong = || Error::new(format!("{list:?} is no list of CPUs or memory nodes such as \"0-3,7\""));
    let mut ranges = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= MAX_CPUS {
            return Err(wrong());
        }
        ranges.push((first, last));
    }
    // ranges that overlap must cost no more than those that do not
    ranges.sort_unstable();
    let mut next = 0;
    let mut mask = vec![0; ranges.iter().map(|(_, last)| last / 8 + 1).max().unwrap_or_default()];
    for (first, last) in ranges {
        for number in first.max(next)..=last {
            mask[number / 8] |= 1 << (number % 8);
        }
        next = next.max(last + 1);
    }
    Ok(mask)
}

/// Only a unit that is being made can be told.
pub(super) fn oom_policy(limits: &Limits) -> Option<Property> {
    let setting = limits.settings.iter().rev().find(|setting| setting.file == "memory.oom.group")?;
    let policy = match setting.value.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    let mut property = super::text("OOMPolicy", policy);
    property.optional = true;
    property.pointer = Some(setting.pointer.clone());
    Some(property)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, settings: &[(&str, &str)]) -> Result<Vec<(String, Value)>> {
        let settings = settings.iter().map(|(file, value)| Setting {
            controller: file.split('.').next().unwrap_or_default().to_owned(),
            file: (*file).to_owned(),
            value: (*value).to_owned(),
            pointer: "/linux/resources".to_owned(),
            rule: Rule::Plain,
        });
        let limits = Limits { settings: settings.collect(), ..Limits::default() };
        Ok(properties(&limits, version)?.into_iter().map(|property| (property.name, property.value)).collect())
    }

    fn number(name: &str, number: u64) -> (String, Value) {
        (name.to_owned(), Value::U64(number))
    }

    #[test]
    fn numbers_of_version_2() {
        let settings = [
            ("memory.max", "1048576"),
            ("memory.swap.max", "max"),
            ("memory.low", "0"),
            ("cpu.weight", "79"),
            ("pids.max", "100"),
            ("hugetlb.2MB.max", "1"),
        ];
        let expected = [
            number("MemoryMax", 1 << 20),
            number("MemorySwapMax", INFINITY),
            number("MemoryLow", 0),
            number("CPUWeight", 79),
            number("TasksMax", 100),
        ];
        assert_eq!(of(Version::V2, &settings).expect("properties"), expected);
    }

    #[test]
    fn the_last_of_one_file_counts() {
        let settings = [("cpu.weight", "79"), ("memory.max", "1"), ("cpu.weight", "100"), ("cpu.idle", "1")];
        let expected = [number("MemoryMax", 1), number("CPUWeight", 0)];
        assert_eq!(of(Version::V2, &settings).expect("properties"), expected);
    }

    /// As runc rounds.
    #[test]
    fn quotas_are_whole_percents() {
        let quota = |value: &str| of(Version::V2, &[("cpu.max", value)]).expect("properties");
        let expected =
            |period, per_second| vec![number("CPUQuotaPeriodUSec", period), number("CPUQuotaPerSecUSec", per_second)];
        assert_eq!(quota("50000 100000"), expected(100_000, 500_000));
        assert_eq!(quota("3000 1000000"), expected(1_000_000, 10_000));
        assert_eq!(quota("12345 100000"), expected(100_000, 130_000));
        assert_eq!(quota("max 20000"), expected(20_000, INFINITY));
        assert_eq!(quota("200000"), [number("CPUQuotaPerSecUSec", 2_000_000)]);
        let v1 = of(Version::V1, &[("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "-1")]).expect("properties");
        assert_eq!(v1, expected(20_000, INFINITY));
    }

    #[test]
    fn numbers_of_version_1() {
        let settings =
            [("memory.limit_in_bytes", "4096"), ("cpu.shares", "512"), ("pids.max", "-1"), ("blkio.weight", "100")];
        let expected = [
            number("MemoryLimit", 4096),
            number("CPUShares", 512),
            number("TasksMax", INFINITY),
            number("BlockIOWeight", 100),
        ];
        assert_eq!(of(Version::V1, &settings).expect("properties"), expected);
    }

    #[test]
    fn masks() {
        assert_eq!(mask("0-3,7").expect("mask"), [0x8f]);
        assert_eq!(mask("8, 10-11").expect("mask"), [0, 0b1101]);
        assert_eq!(mask("").expect("mask"), [0_u8; 0]);
        for wrong in ["a", "3-1", "-1", "0-99999999", "1-2-3"] {
            assert!(mask(wrong).is_err(), "{wrong}");
        }
        assert_eq!(mask("1,8,0-2,1-1").expect("mask"), [0b111, 1]);
        let begin = std::time::Instant::now();
        let many = if cfg!(miri) { 10 } else { 100_000 };
        assert_eq!(mask(&"0-65535,".repeat(many)).expect("mask"), [0xff; 8192]);
        assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
    }

    #[test]
    fn devices_of_io() {
        let settings =
            [("io.max", "8:0 rbps=1000 wiops=max"), ("io.max", "8:16 rbps=2000"), ("io.weight", "default 50")];
        let found = of(Version::V2, &settings).expect("properties");
        let rates = |rates: &[(&str, u64)]| {
            Value::Rates(rates.iter().map(|(device, rate)| (format!("/dev/block/{device}"), *rate)).collect())
        };
        let expected = [
            ("IOWriteIOPSMax".to_owned(), rates(&[("8:0", INFINITY)])),
            ("IOReadBandwidthMax".to_owned(), rates(&[("8:0", 1000), ("8:16", 2000)])),
            number("IOWeight", 50),
        ];
        assert_eq!(found, expected);
    }
}
