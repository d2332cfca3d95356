//! `/linux/resources`: every mistake has its pointer, its value and what would be right; and what is none.

use ferrun::config::Config;
use ferrun::config::resources::{Access, Resources, RuleKind};
use serde_json::{Value, json};

use crate::{one, refused, runc_spec};

/// A mistake in a config, and the same in the document of an update.
#[track_caller]
fn wrong(document: Value, place: &str, words: &str) {
    refused("/linux/resources", document.clone(), &format!("/linux/resources{place}"), words);
    let error = Resources::parse(document.to_string().as_bytes()).expect_err(&document.to_string());
    assert_eq!(error.parts().pointer.as_deref(), Some(place), "{document}: {error}");
    let words = words.trim_start_matches("linux.resources.");
    assert!(error.to_string().contains(words), "{words:?} is not in {error}");
}

#[test]
fn memory() {
    for key in ["limit", "reservation", "swap"] {
        wrong(
            json!({"memory": {key: -2}}),
            &format!("/memory/{key}"),
            &format!("linux.resources.memory.{key} must be 0 or more, or -1 for no limit: -2"),
        );
    }
    wrong(
        json!({"memory": {"limit": 100, "swap": 99}}),
        "/memory/swap",
        "must be memory and swap together, at least the memory limit 100: 99",
    );
    wrong(json!({"memory": {"swappiness": 101}}), "/memory/swappiness", "must be from 0 to 100: 101");
    wrong(json!({"memory": {"limit": "1g"}}), "/memory/limit", "must be a whole number");
    wrong(json!({"memory": {"disableOOMKiller": 1}}), "/memory/disableOOMKiller", "must be true or false: 1");
    let memory =
        one("/linux/resources", json!({"memory": {"limit": -1, "swap": -1, "reservation": 0, "swappiness": u64::MAX}}));
    let memory = memory.resources.memory;
    assert_eq!((memory.limit, memory.swap, memory.reservation, memory.swappiness), (Some(-1), Some(-1), None, None));
}

#[test]
fn kernel_memory_is_a_warning() {
    let config = one("/linux/resources", json!({"memory": {"kernel": 5, "kernelTCP": 6, "useHierarchy": false}}));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].starts_with("linux.resources.memory.kernel is ignored"));
    assert!(config.warnings[1].starts_with("linux.resources.memory.kernelTCP is ignored"));
    // what Docker writes for nothing
    let config = one("/linux/resources", json!({"memory": {"kernel": 0, "kernelTCP": 0, "swappiness": null}}));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn cpu() {
    wrong(
        json!({"cpu": {"quota": 999}}),
        "/cpu/quota",
        "must be at least 1000 (microseconds), or -1 for no limit: 999",
    );
    wrong(json!({"cpu": {"period": 999}}), "/cpu/period", "must be from 1000 to 1000000: 999");
    wrong(json!({"cpu": {"period": 1_000_001}}), "/cpu/period", "must be from 1000 to 1000000: 1000001");
    wrong(json!({"cpu": {"quota": 5000, "burst": 5001}}), "/cpu/burst", "must be at most the quota 5000: 5001");
    wrong(json!({"cpu": {"shares": -1}}), "/cpu/shares", "must be a whole number from 0 to");
    wrong(json!({"cpu": {"idle": 2}}), "/cpu/idle", "must be from 0 to 1: 2");
    wrong(json!({"cpu": {"idle": -1}}), "/cpu/idle", "must be from 0 to 1: -1");
    wrong(
        json!({"cpu": {"realtimeRuntime": 101, "realtimePeriod": 100}}),
        "/cpu/realtimeRuntime",
        "must be at most the realtimePeriod 100: 101",
    );
    wrong(json!({"cpu": {"realtimeRuntime": -2}}), "/cpu/realtimeRuntime", "-1 for no limit: -2");
}

#[test]
fn lists_of_cpus() {
    for (text, list) in [
        ("0", Some("0")),
        ("0-3,7", Some("0-3,7")),
        (" 0 , 2-4,\n", Some("0,2-4")),
        ("0-31:2/8", Some("0-31:2/8")),
        ("all", Some("all")),
        ("0-N", Some("0-N")),
        ("4095", Some("4095")),
        (",", None),
        ("", None),
    ] {
        let config = one("/linux/resources", json!({"cpu": {"cpus": text, "mems": text}}));
        assert_eq!(
            (config.resources.cpu.cpus.as_deref(), config.resources.cpu.mems.as_deref()),
            (list, list),
            "{text:?}"
        );
    }
    for text in
        ["x", "0-", "-1", "3-1", "0..3", "0-3:9/8", "0-3:0/8", "0-3:8", "0,,x", "0 1", "0;1", "4294967296", "０"]
    {
        for key in ["cpus", "mems"] {
            wrong(json!({"cpu": {key: text}}), &format!("/cpu/{key}"), "must be a list such as \"0-3,7\"");
        }
    }
}

#[test]
fn pids() {
    wrong(json!({"pids": {"limit": -2}}), "/pids/limit", "must be 0 or more, or -1 for no limit: -2");
    for (pids, limit) in [
        (json!({"limit": 0}), Some(0)),
        (json!({"limit": -1}), Some(-1)),
        (json!({"limit": 9}), Some(9)),
        (json!({}), None),
        (json!({"limit": null}), None),
        (json!(null), None),
    ] {
        assert_eq!(one("/linux/resources", json!({"pids": pids})).resources.pids, limit, "{pids}");
        let text = json!({"pids": pids}).to_string();
        assert_eq!(Resources::parse(text.as_bytes()).unwrap().pids, limit, "{pids}");
    }
}

#[test]
fn block_io() {
    for weight in [1, 9, 1001] {
        for key in ["weight", "leafWeight"] {
            let words = format!("must be from 10 to 1000: {weight}");
            wrong(json!({"blockIO": {key: weight}}), &format!("/blockIO/{key}"), &words);
            let device = json!({"major": 8, "minor": 0, key: weight});
            let place = format!("/blockIO/weightDevice/0/{key}");
            wrong(json!({"blockIO": {"weightDevice": [device]}}), &place, &words);
        }
    }
    for key in [
        "weightDevice",
        "throttleReadBpsDevice",
        "throttleWriteBpsDevice",
        "throttleReadIOPSDevice",
        "throttleWriteIOPSDevice",
    ] {
        let device = |major: i64, minor: i64| {
            json!({"blockIO": {key: [{"major": 8, "minor": 0, "rate": 5},
                                                                      {"major": major, "minor": minor, "rate": 5}]}})
        };
        wrong(device(4096, 0), &format!("/blockIO/{key}/1/major"), "must be from 0 to 4095: 4096");
        wrong(device(-1, 0), &format!("/blockIO/{key}/1/major"), "must be from 0 to 4095: -1");
        wrong(device(0, 1 << 20), &format!("/blockIO/{key}/1/minor"), "must be from 0 to 1048575: 1048576");
    }
}

#[test]
fn huge_pages() {
    for size in ["", "2", "MB", "2mb", "2 MB", "02MB", "2MiB", "../2MB", "2MB.max", "-2MB"] {
        wrong(
            json!({"hugepageLimits": [{"pageSize": size, "limit": 1}]}),
            "/hugepageLimits/0/pageSize",
            "must be a size as the kernel names it, such as \"2MB\" or \"1GB\"",
        );
    }
    wrong(
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "2MB", "limit": 2}]}),
        "/hugepageLimits/1/pageSize",
        "must be there once only: \"2MB\"",
    );
    wrong(json!({"hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}), "/hugepageLimits/0/limit", "0 or more: -1");
    let config = one("/linux/resources", json!({"hugepageLimits": [{"pageSize": "64KB", "limit": u64::MAX}]}));
    assert_eq!(config.resources.hugepage_limits[0].limit, i64::MAX as u64);
}

#[test]
fn network_and_rdma() {
    for name in ["", "a b", "a/b", "sixteen-letters-", "a\nb"] {
        wrong(
            json!({"network": {"priorities": [{"name": name, "priority": 1}]}}),
            "/network/priorities/0/name",
            "must be the name of a network interface",
        );
    }
    wrong(json!({"network": {"classID": -1}}), "/network/classID", "from 0 to 4294967295: -1");
    wrong(json!({"rdma": {"mlx5_1": {}}}), "/rdma/mlx5_1", "rdma.mlx5_1 must have hcaHandles or hcaObjects");
    wrong(json!({"rdma": {"a b": {"hcaHandles": 1}}}), "/rdma/a b", "must be the name of an RDMA device");
}

#[test]
fn unified() {
    let unified = |key: &str, value: &str| json!({"unified": {key: value}});
    wrong(unified("a/b.c", "1"), "/unified/a~1b.c", "unified resource \"a/b.c\" must be a file name (no slashes)");
    for key in ["memory", "", ".", "..", ".max", "a b.c", "a\n.b"] {
        wrong(
            unified(key, "1"),
            &format!("/unified/{}", key.escape_default()),
            "must be in the form CONTROLLER.PARAMETER",
        );
    }
    for key in ["procs", "threads", "kill", "freeze", "type", "subtree_control"] {
        wrong(unified(&format!("cgroup.{key}"), "1"), &format!("/unified/cgroup.{key}"), "is no limit");
    }
    wrong(unified("memory.max", "1\0"), "/unified/memory.max", "must be free of control characters");
    let config =
        one("/linux/resources", json!({"unified": {"memory.low": "1", "io.max": "a\nb\n", "cpuset.cpus": null}}));
    let pairs = [("cpuset.cpus", ""), ("io.max", "a\nb\n"), ("memory.low", "1")];
    assert_eq!(config.resources.unified, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn device_rules() {
    let rule = |rule: Value| json!({"devices": [{"allow": true, "access": "r"}, rule]});
    wrong(rule(json!({"allow": true})), "/devices/1/access", "must be letters of \"rwm\", at least one: \"\"");
    wrong(rule(json!({"allow": true, "access": "rx"})), "/devices/1/access", "must be letters of \"rwm\": \"rx\"");
    for kind in ["u", "p"] {
        let words = format!("must be a, b or c: {kind:?}");
        wrong(rule(json!({"allow": true, "access": "r", "type": kind})), "/devices/1/type", &words);
    }
    for key in ["major", "minor"] {
        for number in [-2, 1_i64 << 32] {
            let words = format!("must be from 0 to 4294967295, or -1 for all: {number}");
            wrong(rule(json!({"allow": true, "access": "r", key: number})), &format!("/devices/1/{key}"), &words);
        }
    }
    let config = one(
        "/linux/resources",
        json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": -1, "access": "mr"},
                           {"allow": true, "type": "b", "major": -1, "minor": 3, "access": "w"}]}),
    );
    let rules = config.resources.devices;
    let words: Vec<String> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["deny a *:* rwm", "allow c 1:* rm", "allow b *:3 w"]);
    assert_eq!(rules[1].access, Access { read: true, write: false, mknod: true });
    assert_eq!((rules[0].kind, rules[0].pointer.as_deref()), (RuleKind::All, Some("/linux/resources/devices/0")));
}

#[test]
fn documents_of_updates() {
    for (text, words) in [
        ("", "the document of resources is empty"),
        ("[]", "the document of resources must be a JSON object, not an array"),
        ("{\"memory\": ", "the document of resources ends too early"),
        ("{x}", "the document of resources is not valid JSON"),
    ] {
        let error = Resources::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let resources = Resources::parse(br#"{"memory": null, "cpu": {"shares": 5, "quota": null}, "other": {}}"#).unwrap();
    assert_eq!(resources.cpu.shares, Some(5));
    assert_eq!(resources.devices, []);
    // the same words as in a config, with its pointers
    let mut config = runc_spec();
    config["linux"]["resources"] = json!({"cpu": {"shares": 5}});
    let config = Config::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(config.resources, resources);
}
