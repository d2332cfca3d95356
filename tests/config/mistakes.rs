//! Every mistake has its pointer, its value and what would be right.

use ferrun::config::Config;
use serde_json::{Value, json};

use crate::{one, parse, refused, refused_with, runc_spec, with};

#[test]
fn mistakes_of_type() {
    refused(
        "/process/user/uid",
        json!("root"),
        "",
        "process.user.uid must be a whole number from 0 to 4294967295: \"root\"",
    );
    for id in [json!(-1), json!(u64::MAX), json!(1.5), json!(true), json!({}), json!([1])] {
        refused("/process/user/uid", id, "", "must be a whole number from 0 to 4294967295: ");
    }
    refused(
        "/process/user/additionalGids",
        json!([1, "x", 2]),
        "/process/user/additionalGids/1",
        "process.user.additionalGids[1]",
    );
    refused("/process/args", json!("sh"), "", "process.args must be an array: \"sh\"");
    refused("/process/args", json!(["sh", 5]), "/process/args/1", "must be a string: 5");
    refused("/process/args", json!(["sh", ["x"]]), "/process/args/1", "must be a string: an array");
    refused("/process/args", json!([{}]), "/process/args/0", "must be a string: an object");
    refused("/process", json!("x"), "", "process must be an object: \"x\"");
    refused("/process/terminal", json!("yes"), "", "must be true or false: \"yes\"");
    refused("/process/cwd", Value::Null, "", "process.cwd must be given");
    refused("/linux/namespaces/0/type", json!("pidd"), "", "pidd");
    refused("/linux/namespaces/0/type", json!(5), "", "must be one of the words that the specification lists: 5");
    refused("/linux/namespaces/0", json!({}), "/linux/namespaces/0/type", "linux.namespaces[0].type must be given");
    refused("/process/rlimits/0/type", json!("RLIMIT_X"), "", "one of RLIMIT_CPU, RLIMIT_FSIZE");
    refused(
        "/linux/sysctl",
        json!({"net.a/b": 5}),
        "/linux/sysctl/net.a~1b",
        "linux.sysctl[\"net.a/b\"] must be a string: 5",
    );
    refused("/mounts/3/options", json!(["ro", null]), "/mounts/3/options/1", "must be a string: null");
    refused("/mounts/3/destination", Value::Null, "", "mounts[3].destination must be given");
    refused("/linux/resources", json!({"memory": {"limit": "1g"}}), "/linux/resources/memory/limit", "\"1g\"");
    refused("/process/execCPUAffinity", json!({"final": "0-x"}), "/process/execCPUAffinity/final", "\"0-x\"");
    refused("/hostname", json!(7), "", "hostname must be a string: 7");
    refused("/process/cwd", json!(["x".repeat(1_000_000)]), "", "must be a string: an array");
    refused("/process/user/uid", json!("x".repeat(1_000_000)), "", "…");
    refused(
        "/linux/personality",
        json!({"domain": "BSD"}),
        "/linux/personality/domain",
        "must be LINUX or LINUX32: \"BSD\"",
    );
    refused("/process/capabilities", json!({"bounding": [5]}), "/process/capabilities/bounding/0", "5");
}

/// The pointer must be right however the file is laid out.
#[test]
fn mistakes_of_type_in_pretty_files() {
    for pointer in [
        "/process/user/uid",
        "/root/readonly",
        "/mounts/2/source",
        "/linux/namespaces/3/path",
        "/process/rlimits/0/soft",
    ] {
        let config = with(&[(pointer, json!({"wrong": ["\\\"", {}]}))]);
        let error = Config::parse(&serde_json::to_vec_pretty(&config).unwrap()).unwrap_err();
        assert_eq!(error.parts().pointer.as_deref(), Some(pointer), "{error}");
    }
}

#[test]
fn mistakes_in_the_whole() {
    refused("/ociVersion", Value::Null, "", "ociVersion must be given");
    refused(
        "/ociVersion",
        json!("2.0.0"),
        "",
        "ociVersion must be 1.x, the version of the specification that is supported: \"2.0.0\"",
    );
    for version in ["1", "1.0", "one", "1.0.x", "1..0", " 1.0.0", "1.0.0\n"] {
        refused("/ociVersion", json!(version), "", "must be a semantic version");
    }
    one("/ociVersion", json!("1.0.0-rc5"));
    one("/ociVersion", json!("1.9.3+dev"));
    refused("/process", Value::Null, "", "process property must not be empty");
    refused("/linux", Value::Null, "", "linux must be given");
    refused("/root", Value::Null, "", "root must be given");
    refused("/root/path", json!(""), "", "root.path must be given");
    refused("/root/path", json!("a\0b"), "", "root.path must be free of NUL bytes: \"a\\0b\"");
    refused("/hostname", json!("a\nb"), "", "free of control characters");
    refused("/hostname", json!("x".repeat(65)), "", "at most 64 bytes");
    refused("/annotations", json!({"": "x"}), "", "empty key");
    refused("/annotations", json!({"a": "\0"}), "/annotations/a", "NUL");
    let landlock = |name: &str, value: &str, words: &str| {
        let key = format!("dev.ferrun.landlock.{name}");
        refused("/annotations", json!({&key: value}), &format!("/annotations/{key}"), words);
    };
    landlock("paths", "/", "no such rule: read, execute, write, all, bind-tcp, connect-tcp and scope are known");
    landlock("read", "/etc:usr", "an absolute path");
    landlock("all", "/tmp/../etc", "without `..`");
    landlock("bind-tcp", "80,65536", "port numbers from 0 to 65535");
    landlock("connect-tcp", "http", "port numbers from 0 to 65535");
    landlock("scope", "signals", "signal, abstract-unix-socket or both");
    refused("/linux/cgroupsPath", json!("/a/../../b"), "", "without `..`");
    refused("/linux/cgroupsPath", json!("/a\n0::/"), "", "control characters");
    refused("/linux/netDevices", json!({"eth0": {}}), "", "network devices are not supported yet");
    refused("/linux/intelRdt", json!({"closID": "x"}), "", "Intel RDT is not supported yet");
}

#[test]
fn mistakes_in_the_process() {
    refused("/process/args", json!([]), "", "args must not be empty");
    refused("/process/args", Value::Null, "", "args must not be empty");
    refused("/process/args", json!(["a", "b\0"]), "/process/args/1", "NUL");
    refused("/process/env", json!(["A=1", "B"]), "/process/env/1", "must be NAME=value: \"B\"");
    refused("/process/env", json!(["=x"]), "/process/env/0", "its name is empty");
    refused("/process/env", json!(["A=secret\0"]), "/process/env/0", "must be free of NUL bytes: \"A=…\" (config");
    refused(
        "/process/cwd",
        json!("tmp"),
        "",
        "process.cwd must be an absolute path: \"tmp\" (config.json /process/cwd)",
    );
    refused("/process/cwd", json!("/\0"), "", "NUL");
    refused("/process/cwd", json!(""), "", "must be given");
    refused("/process/consoleSize", json!({"height": 65536, "width": 1}), "/process/consoleSize/height", "65536");
    refused("/process/user/uid", json!(u32::MAX), "", "at most 4294967294");
    refused("/process/user/gid", json!(u32::MAX), "", "at most 4294967294");
    refused("/process/user/additionalGids", json!([0, u32::MAX]), "/process/user/additionalGids/1", "4294967295");
    refused("/process/user/umask", json!(0o1000), "", "process.user.umask must be at most 511 (octal 777): 512");
    refused("/process/oomScoreAdj", json!(1001), "", "from -1000 to 1000: 1001");
    refused("/process/rlimits/0/soft", json!(1025), "", "at most the hard limit 1024 of RLIMIT_NOFILE: 1025");
    refused(
        "/process/rlimits/-",
        json!({"type": "RLIMIT_NOFILE"}),
        "/process/rlimits/1/type",
        "given once only: \"RLIMIT_NOFILE\"",
    );
    refused(
        "/process/capabilities",
        json!({"effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"]}),
        "/process/capabilities/effective",
        "lacks CAP_CHOWN",
    );
    for (key, value) in [("apparmorProfile", "a\nb"), ("selinuxLabel", "a\0")] {
        refused(&format!("/process/{key}"), json!(value), "", "control characters");
    }
    refused(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_RT", "priority": 8}),
        "/process/ioPriority/priority",
        "from 0 to 7: 8",
    );
    refused(
        "/process/ioPriority",
        json!({"class": "IOPRIO_CLASS_NONE"}),
        "/process/ioPriority/class",
        "IOPRIO_CLASS_RT",
    );
}

#[test]
fn mistakes_of_scheduling() {
    let wrong = |scheduler: Value, key: &str, words: &str| {
        refused("/process/scheduler", scheduler, &format!("/process/scheduler/{key}"), words);
    };
    wrong(json!({}), "policy", "must be given");
    wrong(json!({"policy": "SCHED_OTHER", "nice": 20}), "nice", "from -20 to 19: 20");
    wrong(json!({"policy": "SCHED_OTHER", "nice": -21}), "nice", "-21");
    wrong(json!({"policy": "SCHED_OTHER", "priority": 1}), "priority", "SCHED_FIFO and SCHED_RR only: 1");
    wrong(json!({"policy": "SCHED_RR"}), "priority", "from 1 to 99");
    wrong(json!({"policy": "SCHED_FIFO", "priority": 100}), "priority", "from 1 to 99");
    wrong(json!({"policy": "SCHED_FIFO", "priority": 1, "runtime": 5}), "runtime", "SCHED_DEADLINE only: 5");
    wrong(json!({"policy": "SCHED_DEADLINE"}), "runtime", "at least 1024");
    wrong(
        json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1999}),
        "deadline",
        "at least the runtime 2000: 1999",
    );
    wrong(
        json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 2000, "period": 1}),
        "period",
        "deadline 2000: 1",
    );
    wrong(json!({"policy": "SCHED_ISO"}), "policy", "reserved");
    wrong(json!({"policy": "SCHED_BATCH", "flags": ["X"]}), "flags/0", "one of");
}

/// A container with a user namespace, changed.
fn mapped(edits: &[(&str, Value)]) -> Vec<(&'static str, Value)> {
    let ids = || json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
    let mut all = vec![
        ("/linux/namespaces/-", json!({"type": "user"})),
        ("/linux/uidMappings", ids()),
        ("/linux/gidMappings", ids()),
    ];
    all.extend(edits.iter().map(|(pointer, value)| (String::leak((*pointer).to_owned()) as &str, value.clone())));
    all
}

#[test]
fn mistakes_of_id_mappings() {
    let wrong = |edits: &[(&str, Value)], pointer: &str, words: &str| refused_with(&mapped(edits), pointer, words);
    let map = |container: u64, host: u64, size: u64| json!({"containerID": container, "hostID": host, "size": size});
    let uids = |list: Value| [("/linux/uidMappings", list)];
    assert!(parse(&with(&mapped(&[]))).is_ok());
    for key in ["/linux/uidMappings", "/linux/gidMappings"] {
        let kind = &key[7..10];
        wrong(&[(key, json!([]))], key, &format!("no {kind} mappings found"));
        wrong(&[(key, Value::Null)], key, &format!("no {kind} mappings found"));
        wrong(&[(key, json!([map(1, 0, 9)]))], key, "must map the container's root, id 0");
        wrong(&[(key, json!([map(0, 1, 0)]))], &format!("{key}/0/size"), "must be at least 1: 0");
        let overflow = json!([map(0, 9, 9), map(9, 4_294_967_290, 6)]);
        wrong(&[(key, overflow)], &format!("{key}/1/hostID"), "6 ids to end below 4294967295: 4294967290");
        let overflow = json!([map(0, 9, 9), map(4_294_967_295, 20, 1)]);
        wrong(&[(key, overflow)], &format!("{key}/1/containerID"), "1 ids to end below 4294967295: 4294967295");
        let overlap = json!([map(0, 100, 10), map(20, 200, 5), map(9, 300, 2)]);
        wrong(&[(key, overlap)], &format!("{key}/2/containerID"), "free of overlap with mapping 0: 9");
        let overlap = json!([map(0, 100, 10), map(20, 200, 5), map(10, 204, 2)]);
        wrong(&[(key, overlap)], &format!("{key}/2/hostID"), "free of overlap with mapping 1: 204");
        let many = |size: u64| (0..size).map(|n| map(n, n, 1)).collect::<Vec<_>>();
        wrong(&[(key, json!(many(341)))], key, "must be at most 340 mappings: 341");
        assert!(parse(&with(&mapped(&[(key, json!(many(340)))]))).is_ok());
        let long = |size: u64| (0..size).map(|n| map(n, 4_000_000_000 + n, 1)).collect::<Vec<_>>();
        wrong(&[(key, json!(long(300)))], key, "must be at most 4095 bytes long");
    }
    wrong(&uids(json!([map(0, 0, 4_294_967_296)])), "/linux/uidMappings/0/size", "from 0 to 4294967295");
    wrong(&uids(json!([{"containerID": -1, "hostID": 0, "size": 1}])), "/linux/uidMappings/0/containerID", "from 0 to");
}

#[test]
fn who_is_not_mapped_is_nobody_in_the_container() {
    let wrong = |edits: &[(&str, Value)], pointer: &str, words: &str| refused_with(&mapped(edits), pointer, words);
    let user = |uid: u32, gid: u32, groups: Value| {
        [("/process/user", json!({"uid": uid, "gid": gid, "additionalGids": groups}))]
    };
    assert!(parse(&with(&mapped(&user(999, 999, json!([0, 5]))))).is_ok());
    wrong(&user(1000, 0, json!([])), "/process/user/uid", "an id that linux.uidMappings maps: 1000");
    wrong(&user(0, 1000, json!([])), "/process/user/gid", "an id that linux.gidMappings maps: 1000");
    wrong(&user(0, 0, json!([5, 1000])), "/process/user/additionalGids/1", "linux.gidMappings maps: 1000");
    let device = |kind: &str| json!([{"path": "/dev/x", "type": kind, "major": 1, "minor": 3, "uid": 1000}]);
    wrong(&[("/linux/devices", device("p"))], "/linux/devices/0/uid", "linux.uidMappings maps: 1000");
    // bound, it is whose it is on the host
    assert!(parse(&with(&mapped(&[("/linux/devices", device("c"))]))).is_ok());
    let mount = |kind: &str, option: &str| {
        [("/mounts/-", json!({"destination": "/x", "type": kind, "source": "x", "options": ["nosuid", option]}))]
    };
    wrong(&mount("tmpfs", "uid=1000"), "/mounts/7/options/1", "linux.uidMappings maps: 1000");
    wrong(&mount("tmpfs", "gid=1000"), "/mounts/7/options/1", "linux.gidMappings maps: 1000");
    wrong(&mount("devpts", "uid=1000"), "/mounts/7/options/1", "linux.uidMappings maps: 1000");
    let config = parse(&with(&mapped(&mount("devpts", "gid=1000")))).unwrap();
    assert!(config.warnings.iter().any(|warning| warning.starts_with("gid= is left out of the devpts")));
    assert!(!config.mounts.last().unwrap().options.data.iter().any(|data| data.key == "gid"));
}

/// A namespace that is joined has its maps; to say them again is allowed, and both.
#[test]
fn mappings_of_a_joined_user_namespace() {
    let joined = |edits: &[(&str, Value)]| {
        let mut all = mapped(edits);
        all[0] = ("/linux/namespaces/-", json!({"type": "user", "path": "/proc/9/ns/user"}));
        all
    };
    let none = [("/linux/uidMappings", Value::Null), ("/linux/gidMappings", Value::Null)];
    assert!(parse(&with(&joined(&[]))).is_ok() && parse(&with(&joined(&none))).is_ok());
    refused_with(&joined(&none[..1]), "/linux/uidMappings", "must be given together");
    refused_with(&joined(&none[1..]), "/linux/gidMappings", "must be given together");
    let user = ("/process/user", json!({"uid": 5000, "gid": 0}));
    refused_with(&joined(std::slice::from_ref(&user)), "/process/user/uid", "linux.uidMappings maps: 5000");
    assert!(parse(&with(&joined(&[none[0].clone(), none[1].clone(), user]))).is_ok());
}

#[test]
fn mistakes_of_namespaces() {
    let without = |kind: &str| {
        let mut all = runc_spec()["linux"]["namespaces"].as_array().unwrap().clone();
        all.retain(|namespace| namespace["type"] != kind);
        ("/linux/namespaces", Value::Array(all))
    };
    let calm = [("/linux/maskedPaths", Value::Null), ("/linux/readonlyPaths", Value::Null), ("/hostname", Value::Null)];
    refused("/linux/namespaces/-", json!({"type": "pid"}), "/linux/namespaces/6/type", "given once only: \"pid\"");
    refused("/linux/namespaces/0/path", json!("proc/1/ns/pid"), "", "must be an absolute path: \"proc/1/ns/pid\"");
    refused(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": 0, "size": 1}]),
        "",
        "user namespace isn't enabled",
    );
    refused_with(&[without("uts")], "/hostname", "unable to set hostname without a private UTS namespace");
    refused_with(&[without("uts"), calm[2].clone(), ("/domainname", json!("x"))], "/domainname", "domainname without");
    refused_with(&[without("mount")], "/linux/maskedPaths", "without a private MNT namespace");
    refused_with(&[without("mount"), calm[0].clone()], "/linux/readonlyPaths", "without a private MNT namespace");
    parse(&with(&[without("mount"), calm[0].clone(), calm[1].clone()])).unwrap();
    refused("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "", "time namespace isn't enabled");
    let time = ("/linux/namespaces/-", json!({"type": "time"}));
    refused_with(
        &[time.clone(), ("/linux/timeOffsets", json!({"realtime": {}}))],
        "/linux/timeOffsets/realtime",
        "boottime or monotonic",
    );
    refused_with(
        &[time, ("/linux/timeOffsets", json!({"boottime": {"nanosecs": 1_000_000_000}}))],
        "/linux/timeOffsets/boottime/nanosecs",
        "at most 999999999",
    );
    for (kind, name) in [
        ("ipc", "kernel.shmmax"),
        ("ipc", "fs.mqueue.msg_max"),
        ("network", "net.core.somaxconn"),
        ("uts", "kernel.domainname"),
    ] {
        let pointer = format!("/linux/sysctl/{name}");
        refused_with(&[without(kind), calm[2].clone(), ("/linux/sysctl", json!({name: "1"}))], &pointer, name);
        one("/linux/sysctl", json!({name: "1"}));
    }
}

#[test]
fn mistakes_of_sysctl() {
    for name in [
        "kernel.core_pattern",
        "kernel.hostname",
        "vm.swappiness",
        "kernel",
        "net/../kernel/x",
        "net..x",
        "",
        "net.ipv4.",
        "user.max_user_namespaces",
    ] {
        let place = format!("/linux/sysctl/{}", name.replace('/', "~1"));
        refused("/linux/sysctl", json!({name: "1"}), &place, &format!("sysctl {name:?}"));
    }
    for value in ["1\n", "1\0", "1+kernel.core_pattern=|/x"] {
        refused("/linux/sysctl", json!({"net.x": value}), "/linux/sysctl/net.x", "control characters and of +");
    }
    refused(
        "/linux/sysctl",
        json!({"net.a.b": "1", "net/a/b": "2"}),
        "/linux/sysctl/net~1a~1b",
        "is the same as \"net.a.b\"",
    );
}

#[test]
fn mistakes_of_paths_labels_devices_hooks() {
    refused("/linux/maskedPaths/1", json!("proc/x"), "", "linux.maskedPaths[1] must be an absolute path: \"proc/x\"");
    refused("/linux/readonlyPaths/0", json!("/a/../b"), "", "without `..`");
    refused("/linux/rootfsPropagation", json!("rrshared"), "", "shared, slave, private or unbindable");
    refused("/linux/rootfsPropagation", json!("r"), "", "shared, slave");
    refused("/linux/mountLabel", json!("x\n"), "", "control");
    refused(
        "/linux/personality",
        json!({"domain": "LINUX", "flags": ["X"]}),
        "/linux/personality/flags",
        "not supported",
    );
    for (policy, key) in [
        (json!({"mode": "MPOL_BIND", "nodes": ""}), "nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "3-1"}), "nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "0-4294967295"}), "nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "+1"}), "nodes"),
        (json!({"mode": "MPOL_DEFAULT", "nodes": "1"}), "nodes"),
        (json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES"]}), "flags"),
        (
            json!({"mode": "MPOL_BIND", "nodes": "1", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}),
            "flags",
        ),
        (json!({"mode": "MPOL_X"}), "mode"),
    ] {
        refused("/linux/memoryPolicy", policy, &format!("/linux/memoryPolicy/{key}"), "memoryPolicy.");
    }
    one("/linux/memoryPolicy", json!({"mode": "MPOL_PREFERRED"}));
    for (device, key, words) in [
        (json!({"path": "dev/x", "type": "c"}), "path", "an absolute path"),
        (json!({"path": "/dev/../x", "type": "c"}), "path", "without `..`"),
        (json!({"path": "/", "type": "c"}), "path", "below the root"),
        (json!({"type": "c"}), "path", "must be given"),
        (json!({"path": "/dev/x", "type": "a"}), "type", "c, b, u or p: \"a\""),
        (json!({"path": "/dev/x", "type": "x"}), "type", "\"x\""),
        (json!({"path": "/dev/x"}), "type", "must be given"),
        (json!({"path": "/dev/x", "type": "c", "major": 4096}), "major", "from 0 to 4095: 4096"),
        (json!({"path": "/dev/x", "type": "c", "minor": -1}), "minor", "from 0 to 1048575: -1"),
        (json!({"path": "/dev/x", "type": "c", "uid": u32::MAX}), "uid", "4294967295"),
    ] {
        refused("/linux/devices", json!([device]), &format!("/linux/devices/0/{key}"), words);
    }
    let twice = json!([{"path": "/dev/x", "type": "c", "major": 1}, {"path": "/dev//x", "type": "c", "major": 2}]);
    refused("/linux/devices", twice, "/linux/devices/1/path", "another path than that of /linux/devices/0");
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        let place = format!("/hooks/{kind}");
        let wrong = |hook: Value, key: &str, words: &str| {
            refused(&place, json!([{"path": "/x"}, hook]), &format!("{place}/1/{key}"), words);
        };
        wrong(json!({"path": "x"}), "path", "an absolute path: \"x\"");
        wrong(json!({}), "path", "must be given");
        wrong(json!({"path": "/x", "timeout": 0}), "timeout", "greater than zero: 0");
        wrong(json!({"path": "/x", "timeout": -1}), "timeout", "greater than zero: -1");
        wrong(json!({"path": "/x", "args": ["\0"]}), "args/0", "NUL");
        wrong(json!({"path": "/x", "env": ["A=b", "\0"]}), "env/1", "NUL");
    }
    refused("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "/linux/seccomp/defaultAction", "NOTIFY");
}
