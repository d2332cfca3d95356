//! `/linux/resources` → the files of a cgroup and what is written to them. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "limits/conversions.rs"]
mod conversions;

use ferrun::cgroup::limits::{Limits, Rule, Version};
use ferrun::config::resources::Resources;
use serde_json::{Value, json};

fn resources(document: &Value) -> Resources {
    Resources::parse(document.to_string().as_bytes()).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn lines(limits: &Limits) -> Vec<String> {
    let rule = |rule: &Rule| match rule {
        Rule::Plain => String::new(),
        Rule::IfThere => " if there".to_owned(),
        Rule::Or { file, value } => format!(" or {file} = {value}"),
        Rule::LessMemory => " less memory".to_owned(),
        Rule::BehindQuota => " behind quota".to_owned(),
    };
    limits.settings.iter().map(|one| format!("{} = {}{}", one.file, one.value, rule(&one.rule))).collect()
}

#[track_caller]
fn new(version: Version, document: Value, expected: &[&str]) {
    assert_eq!(lines(&Limits::new(&resources(&document), version).unwrap()), expected, "{document}");
}

#[track_caller]
fn change(version: Version, document: Value, expected: &[&str]) {
    assert_eq!(lines(&Limits::change(&resources(&document), version).unwrap()), expected, "{document}");
}

#[track_caller]
fn refused(version: Version, document: Value, pointer: &str, words: &str) {
    let error = Limits::new(&resources(&document), version).unwrap_err();
    assert_eq!(error.parts().pointer.as_deref(), Some(pointer), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

fn everything() -> Value {
    json!({
        "memory": {"limit": 1000, "reservation": 500, "swap": 3000, "swappiness": 60, "disableOOMKiller": true},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0-1", "mems": "0",
                "realtimeRuntime": 950, "realtimePeriod": 1000},
        "pids": {"limit": 10},
        "blockIO": {
            "weight": 100, "leafWeight": 200,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
            "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}, {"major": 8, "minor": 16, "rate": 0}],
            "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 700}],
            "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 800}],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 900}]
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}, {"pageSize": "1GB", "limit": 0}],
        "network": {"classID": 1048577, "priorities": [{"name": "lo", "priority": 5}]},
        "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1}}
    })
}

#[test]
fn everything_on_v1() {
    let expected = [
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
        "memory.limit_in_bytes = 1000",
        "memory.memsw.limit_in_bytes = 3000",
        "memory.soft_limit_in_bytes = 500",
        "memory.oom_control = 1",
        "memory.swappiness = 60",
        "cpu.rt_period_us = 1000",
        "cpu.rt_runtime_us = 950",
        "cpu.shares = 512",
        "cpu.cfs_period_us = 50000",
        "cpu.cfs_quota_us = 20000",
        "cpu.cfs_burst_us = 1000",
        "pids.max = 10",
        "blkio.weight = 100 or blkio.bfq.weight = 100",
        "blkio.leaf_weight = 200",
        "blkio.weight_device = 8:0 500 or blkio.bfq.weight_device = 8:0 500",
        "blkio.leaf_weight_device = 8:0 300",
        "blkio.throttle.read_bps_device = 8:0 600",
        "blkio.throttle.read_bps_device = 8:16 0",
        "blkio.throttle.write_bps_device = 8:0 700",
        "blkio.throttle.read_iops_device = 8:0 800",
        "blkio.throttle.write_iops_device = 8:0 900",
        "hugetlb.2MB.limit_in_bytes = 4194304",
        "hugetlb.2MB.rsvd.limit_in_bytes = 4194304 if there",
        "hugetlb.1GB.limit_in_bytes = 0",
        "hugetlb.1GB.rsvd.limit_in_bytes = 0 if there",
        "net_cls.classid = 1048577",
        "net_prio.ifpriomap = lo 5",
        "rdma.max = mlx4_0 hca_object=1",
        "rdma.max = mlx5_1 hca_handle=3 hca_object=10000",
    ];
    new(Version::V1, everything(), &expected);
    change(Version::V1, everything(), &expected);
}

#[test]
fn everything_on_v2() {
    let mut document = everything();
    document["unified"] = json!({"memory.high": "900", "cpu.weight": "77", "io.max": "8:0 rbps=1\n8:16 wbps=2\n", "cgroup.max.depth": "3"});
    let expected = [
        "pids.max = 10",
        "memory.swap.max = 2000",
        "memory.max = 1000",
        "memory.low = 500",
        "io.bfq.weight = 100 or io.weight = 910",
        "io.bfq.weight = 8:0 500 or io.weight = 8:0 4950",
        "io.max = 8:0 rbps=600",
        "io.max = 8:16 rbps=max",
        "io.max = 8:0 wbps=700",
        "io.max = 8:0 riops=800",
        "io.max = 8:0 wiops=900",
        "cpu.weight = 59",
        "cpu.max = 20000 50000",
        "cpu.max.burst = 1000",
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
        "hugetlb.2MB.max = 4194304",
        "hugetlb.2MB.rsvd.max = 4194304 if there",
        "hugetlb.1GB.max = 0",
        "hugetlb.1GB.rsvd.max = 0 if there",
        "rdma.max = mlx4_0 hca_object=1",
        "rdma.max = mlx5_1 hca_handle=3 hca_object=10000",
        "cgroup.max.depth = 3",
        "cpu.weight = 77",
        "io.max = 8:0 rbps=1",
        "io.max = 8:16 wbps=2",
        "memory.high = 900",
    ];
    new(Version::V2, document.clone(), &expected);
    change(Version::V2, document, &expected);
}

/// What v2 has no file for and runc leaves out in silence is a note for the debug log.
#[test]
fn what_v2_leaves_out() {
    let limits = Limits::new(&resources(&everything()), Version::V2).unwrap();
    let places: Vec<&str> = limits.notes.iter().map(|note| note.split(' ').next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "/linux/resources/memory/swappiness",
            "/linux/resources/memory/disableOOMKiller",
            "/linux/resources/blockIO/leafWeight",
            "/linux/resources/blockIO/weightDevice/0/leafWeight",
            "/linux/resources/cpu/realtimePeriod",
            "/linux/resources/cpu/realtimeRuntime",
            "/linux/resources/network/classID",
            "/linux/resources/network/priorities",
        ]
    );
    assert!(Limits::new(&resources(&everything()), Version::V1).unwrap().notes.is_empty());
}

/// Each setting names its controller and the place that it comes from, in the config or in the update.
#[test]
fn controllers_and_pointers() {
    for (version, limits, base) in [
        (Version::V1, Limits::new(&resources(&everything()), Version::V1).unwrap(), "/linux/resources"),
        (Version::V2, Limits::new(&resources(&everything()), Version::V2).unwrap(), "/linux/resources"),
        (Version::V2, Limits::change(&resources(&everything()), Version::V2).unwrap(), ""),
    ] {
        let document = if base.is_empty() { everything() } else { json!({"linux": {"resources": everything()}}) };
        for setting in limits.settings {
            assert!(setting.file.starts_with(&format!("{}.", setting.controller)), "{version:?} {setting:?}");
            assert!(document.pointer(&setting.pointer).is_some(), "{version:?} {setting:?}");
        }
    }
    let odd = json!({"unified": {"misc.a~b": "1"}});
    let limits = Limits::new(&resources(&odd), Version::V2).unwrap();
    assert_eq!(limits.settings[0].pointer, "/linux/resources/unified/misc.a~0b");
}

#[test]
fn nothing_asked_nothing_written() {
    for version in [Version::V1, Version::V2] {
        for document in [
            json!({}),
            json!({"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "network": {}, "rdma": {}, "unified": {}}),
            json!({"memory": {"limit": 0, "swap": 0, "reservation": 0, "disableOOMKiller": false, "useHierarchy": true},
                   "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0,
                           "cpus": "", "mems": " "},
                   "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": [{"major": 8, "minor": 0, "weight": 0}]},
                   "network": {"classID": 0, "priorities": []}, "hugepageLimits": [], "pids": {"limit": null}}),
        ] {
            new(version, document, &[]);
        }
    }
}

#[test]
fn pids() {
    for version in [Version::V1, Version::V2] {
        new(version, json!({"pids": {"limit": -1}}), &["pids.max = max"]);
        new(version, json!({"pids": {"limit": 0}}), &["pids.max = 1"]);
        new(version, json!({"pids": {"limit": 7}}), &["pids.max = 7"]);
    }
}

#[test]
fn memory_and_swap_on_v1() {
    let new = |memory: Value, expected: &[&str]| new(Version::V1, json!({"memory": memory}), expected);
    new(json!({"limit": -1}), &["memory.limit_in_bytes = -1", "memory.memsw.limit_in_bytes = -1 if there"]);
    new(json!({"limit": 5}), &["memory.limit_in_bytes = 5"]);
    new(json!({"limit": 5, "swap": -1}), &["memory.limit_in_bytes = 5", "memory.memsw.limit_in_bytes = -1"]);
    new(json!({"swap": -1}), &["memory.memsw.limit_in_bytes = -1"]);
    new(json!({"reservation": -1}), &["memory.soft_limit_in_bytes = -1"]);
    refused(
        Version::V1,
        json!({"memory": {"swap": 5}}),
        "/linux/resources/memory/swap",
        "unable to set swap limit without memory limit",
    );
    change(Version::V1, json!({"memory": {"swap": 5}}), &["memory.memsw.limit_in_bytes = 5"]);
    change(Version::V1, json!({"memory": {"disableOOMKiller": false}}), &["memory.oom_control = 0"]);
}

#[test]
fn memory_and_swap_on_v2() {
    let new = |memory: Value, expected: &[&str]| new(Version::V2, json!({"memory": memory}), expected);
    new(json!({"limit": -1}), &["memory.swap.max = max if there", "memory.max = max"]);
    new(json!({"limit": 5}), &["memory.max = 5"]);
    new(json!({"limit": 5, "swap": 5}), &["memory.swap.max = 0 if there", "memory.max = 5"]);
    new(json!({"limit": 5, "swap": -1}), &["memory.swap.max = max if there", "memory.max = 5"]);
    new(json!({"limit": -1, "swap": 7}), &["memory.swap.max = 7", "memory.max = max"]);
    new(json!({"swap": -1}), &["memory.swap.max = max if there"]);
    new(json!({"reservation": -1}), &["memory.low = max"]);
    refused(
        Version::V2,
        json!({"memory": {"swap": 5}}),
        "/linux/resources/memory/swap",
        "unable to set swap limit without memory limit",
    );
    change(Version::V2, json!({"memory": {"swap": 5}}), &["memory.swap.max = 5 less memory"]);
}

#[test]
fn cpu_bandwidth_and_weight() {
    new(Version::V2, json!({"cpu": {"quota": 5000}}), &["cpu.max = 5000"]);
    new(Version::V2, json!({"cpu": {"quota": -7, "period": 5000}}), &["cpu.max = max 5000"]);
    new(Version::V2, json!({"cpu": {"period": 5000}}), &["cpu.max = max 5000"]);
    change(Version::V2, json!({"cpu": {"period": 5000}}), &["cpu.max = 5000 behind quota"]);
    new(Version::V1, json!({"cpu": {"quota": -7}}), &["cpu.cfs_quota_us = -1"]);
    new(Version::V2, json!({"cpu": {"burst": 0}}), &["cpu.max.burst = 0"]);
    // an idle cgroup has no weight, and takes none
    for (version, file, weight) in [(Version::V1, "cpu.shares", 2048), (Version::V2, "cpu.weight", 174)] {
        new(version, json!({"cpu": {"idle": 1, "shares": 2048}}), &["cpu.idle = 1"]);
        let expected = format!("{file} = {weight}");
        new(version, json!({"cpu": {"idle": 0, "shares": 2048}}), &["cpu.idle = 0", &expected]);
    }
    let shares = |shares: u64| json!({"cpu": {"shares": shares}});
    refused(Version::V1, shares(1), "/linux/resources/cpu/shares", "the minimum allowed cpu-shares is 2");
    refused(Version::V1, shares(262_145), "/linux/resources/cpu/shares", "the maximum allowed cpu-shares is 262144");
    new(Version::V2, shares(1), &["cpu.weight = 1"]);
    new(Version::V2, shares(u64::MAX), &["cpu.weight = 10000"]);
}

#[test]
fn unified_is_v2s() {
    refused(
        Version::V1,
        json!({"unified": {"memory.max": "5"}}),
        "/linux/resources/unified/memory.max",
        "invalid configuration: cannot use unified on cgroup v1",
    );
    new(Version::V2, json!({"unified": {"cpuset.cpus": ""}}), &["cpuset.cpus = "]);
    new(
        Version::V2,
        json!({"unified": {"cpuset.cpus.partition": "root", "misc.max": "sev 1", "memory.low": "max"}}),
        &["cpuset.cpus.partition = root", "memory.low = max", "misc.max = sev 1"],
    );
}
