//! config.json → Config: good files, every mistake with its pointer and words, every mount option, and bytes that
//! are no config at all. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use ferrun::config::{
    Config, DeviceKind, IdMapping, MountAttr, MountSource, Namespace, Propagation, PropagationKind, load, options,
};
use ferrun::error::Error;
use serde_json::{Value, json};

/// What `runc spec` writes.
fn runc_spec() -> Value {
    let caps = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                {"type": "cgroup"}
            ],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"]
        }
    })
}

/// About what Docker writes: more of everything, and the seccomp profile.
fn docker() -> Value {
    let mut config = runc_spec();
    let caps: Value = [
        "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
        "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    config["process"]["capabilities"] = json!({"bounding": caps, "effective": caps, "permitted": caps});
    config["process"]["env"] = (0..40).map(|n| format!("VARIABLE_{n}=value {n}")).collect();
    config["process"]["oomScoreAdj"] = json!(0);
    config["process"]["apparmorProfile"] = json!("docker-default");
    for name in ["resolv.conf", "hostname", "hosts"] {
        let mount = json!({
            "destination": format!("/etc/{name}"), "type": "bind", "options": ["rbind", "rprivate"],
            "source": format!("/var/lib/docker/containers/0123456789abcdef/{name}"),
        });
        config["mounts"].as_array_mut().unwrap().push(mount);
    }
    config["annotations"] = (0..20).map(|n| (format!("io.example.{n}"), json!("x"))).collect();
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"});
    config["linux"]["cgroupsPath"] = json!("/docker/0123456789abcdef");
    config["linux"]["seccomp"] = serde_json::from_str(include_str!("data/seccomp-docker.json")).unwrap();
    config["hooks"] = json!({"prestart": [{"path": "/proc/1/exe", "args": ["libnetwork-setkey", "x"]}]});
    config
}

fn parse(config: &Value) -> Result<Config, Error> {
    Config::parse(&serde_json::to_vec(config).unwrap())
}

/// Sets what `pointer` names, making the objects on the way; `null` removes it.
fn set(config: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut place = config;
    for step in parent.split('/').skip(1) {
        place = match place {
            Value::Array(list) => &mut list[step.parse::<usize>().unwrap()],
            other => &mut other[unescape(step)],
        };
        if place.is_null() {
            *place = json!({});
        }
    }
    match place {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        other if value.is_null() => {
            other.as_object_mut().unwrap().remove(&unescape(key));
        }
        other => other[unescape(key)] = value,
    }
}

fn unescape(key: &str) -> String {
    key.replace("~1", "/").replace("~0", "~")
}

fn with(changes: &[(&str, Value)]) -> Value {
    let mut config = runc_spec();
    for (pointer, value) in changes {
        set(&mut config, pointer, value.clone());
    }
    config
}

fn one(pointer: &str, value: Value) -> Config {
    let config = with(&[(pointer, value.clone())]);
    parse(&config).unwrap_or_else(|error| panic!("{pointer} = {value}: {error}"))
}

/// Makes one change to the good file and wants an error at `place` (default: what was changed) that has `words`.
#[track_caller]
fn refused(pointer: &str, value: Value, place: &str, words: &str) {
    refused_with(&[(pointer, value)], if place.is_empty() { pointer } else { place }, words);
}

#[track_caller]
fn refused_with(changes: &[(&str, Value)], place: &str, words: &str) {
    let error = match parse(&with(changes)) {
        Ok(_) => panic!("{changes:?} was accepted"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert_eq!(error.parts().pointer.as_deref(), Some(place), "{changes:?}: {text}");
    assert!(text.contains(words), "{changes:?}: {words:?} is not in {text:?}");
    check_shape(&text);
}

fn check_shape(text: &str) {
    assert!(!text.contains('\n'), "{text:?}");
    assert!(text.len() < 1500, "{} bytes: {text:?}", text.len());
    let mut start = text.chars();
    let capital = start.next().is_some_and(char::is_uppercase) && start.next().is_some_and(char::is_lowercase);
    assert!(!capital || text.starts_with("Intel"), "{text:?}");
}

#[test]
fn the_file_of_runc_spec() {
    let config = parse(&runc_spec()).unwrap();
    assert_eq!(config.oci_version, "1.2.0");
    assert_eq!((config.root.path.as_path(), config.root.readonly), (Path::new("rootfs"), true));
    assert_eq!(config.process.args, ["sh"]);
    assert!(config.process.terminal && config.process.no_new_privileges);
    let capabilities = config.process.capabilities.unwrap();
    assert_eq!(capabilities.permitted, 1 << 29 | 1 << 5 | 1 << 10);
    assert_eq!(capabilities.inheritable, 0);
    assert_eq!(config.process.rlimits[0].resource, 7);
    assert_eq!(config.namespaces.pid, Namespace::New);
    assert_eq!(config.namespaces.user, Namespace::Host);
    assert_eq!(config.mounts.len(), 7);
    assert_eq!(config.mounts[6].source, MountSource::Cgroup);
    let dev = &config.mounts[1];
    assert_eq!(dev.pointer, "/mounts/1");
    assert_eq!(dev.source, MountSource::Fs { fstype: "tmpfs".into(), source: "tmpfs".into() });
    assert_eq!(dev.options.attr, MountAttr { set: 0x2 | 0x20, clear: 0x70 });
    let data: Vec<_> = dev.options.data.iter().map(|d| (d.index, d.key.as_str(), d.value.as_deref())).collect();
    assert_eq!(data, [(2, "mode", Some("755")), (3, "size", Some("65536k"))]);
    assert_eq!(config.warnings, ["linux.resources is not applied yet: devices"]);
}

#[test]
fn dockers_file() {
    let config = parse(&docker()).unwrap();
    assert_eq!(config.process.env.len(), 40);
    assert_eq!(config.annotations.len(), 20);
    assert!(config.seccomp.is_some());
    assert_eq!(config.sysctl[0].path, "net/ipv4/ip_unprivileged_port_start");
    assert_eq!(config.hooks.prestart[0].args.len(), 2);
    let hosts = &config.mounts[9];
    assert!(matches!(&hosts.source, MountSource::Bind { path, recursive: true } if path.ends_with("hosts")));
    assert_eq!(hosts.options.propagation, [Propagation { kind: PropagationKind::Private, recursive: true }]);
}

#[test]
fn all_there_is() {
    let config = parse(&with(&[
        ("/ociVersion", json!("1.3.0")),
        ("/domainname", json!("example.org")),
        ("/process/consoleSize", json!({"height": 24, "width": 80})),
        ("/process/user", json!({"uid": 4294967294u32, "gid": 1, "umask": 18, "additionalGids": [5, 6]})),
        ("/process/scheduler", json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 4000,
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]})),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7})),
        ("/process/execCPUAffinity", json!({"initial": " 0-3, 7,", "final": ""})),
        ("/process/oomScoreAdj", json!(-1000)),
        ("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675")),
        ("/process/apparmorProfile", json!("acme_secure_profile")),
        ("/linux/namespaces/-", json!({"type": "time"})),
        ("/linux/namespaces/1", json!({"type": "network", "path": "/run/netns/x"})),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 172800, "nanosecs": 1}, "boottime": {"secs": -604800}})),
        ("/linux/devices", json!([
            {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o20640, "uid": 1, "gid": 2},
            {"path": "/dev/./sda", "type": "b", "major": 8, "minor": 0},
            {"path": "/dev/fuse", "type": "u", "major": 10, "minor": 229},
            {"path": "/run/fifo", "type": "p"}
        ])),
        ("/linux/rootfsPropagation", json!("rslave")),
        ("/linux/personality", json!({"domain": "LINUX32", "flags": []})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0-2, 9,1-3", "flags": ["MPOL_F_STATIC_NODES"]})),
        ("/linux/sysctl", json!({"net.ipv4.conf.eth0/1.forwarding": "1", "kernel/shmmax": "1", "fs.mqueue.msg_max": "9",
            "kernel.domainname": "x"})),
        ("/linux/mountLabel", json!("system_u:object_r:svirt_sandbox_file_t:s0")),
        ("/linux/cgroupsPath", json!("system.slice:ferrun:web")),
        ("/linux/resources", json!({"memory": {"limit": 1}, "pids": {"limit": 5}, "cpu": {}})),
        ("/linux/intelRdt", json!({})),
        ("/linux/netDevices", json!({})),
        ("/hooks/poststop", json!([{"path": "/bin/x", "args": ["x", "y"], "env": ["A=b"], "timeout": 3}])),
    ]))
    .unwrap();
    let process = &config.process;
    assert_eq!(process.console_size, Some((24, 80)));
    assert_eq!((process.user.uid, process.user.umask), (4_294_967_294, Some(0o22)));
    let scheduler = process.scheduler.unwrap();
    assert_eq!((scheduler.policy, scheduler.flags, scheduler.runtime), (6, 7, 2000));
    assert_eq!(process.io_priority.map(|io| (io.class, io.priority)), Some((3, 7)));
    assert_eq!(config.namespaces.network, Namespace::Join {
        path: "/run/netns/x".into(),
        pointer: "/linux/namespaces/1/path".into()
    });
    let offsets: Vec<_> = config.time_offsets.iter().map(|o| (o.clock, o.secs, o.nanosecs)).collect();
    assert_eq!(offsets, [("boottime", -604_800, 0), ("monotonic", 172_800, 1)]);
    let devices: Vec<_> = config.devices.iter().map(|d| (d.path.to_str().unwrap(), d.kind, d.mode)).collect();
    assert_eq!(devices, [
        ("/dev/fuse", DeviceKind::Char, 0o640),
        ("/dev/sda", DeviceKind::Block, 0o666),
        ("/run/fifo", DeviceKind::Fifo, 0o666),
    ]);
    assert_eq!(config.root.propagation, Some(Propagation { kind: PropagationKind::Slave, recursive: true }));
    assert_eq!(config.personality, Some(8));
    let policy = config.memory_policy.unwrap();
    assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, vec![0, 1, 2, 3, 9]));
    let sysctl: Vec<_> = config.sysctl.iter().map(|s| s.path.as_str()).collect();
    assert_eq!(sysctl, ["fs/mqueue/msg_max", "kernel/domainname", "kernel/shmmax", "net/ipv4/conf/eth0.1/forwarding"]);
    assert_eq!(config.hooks.poststop[0].timeout, Some(3));
    assert_eq!(config.warnings, ["linux.resources is not applied yet: memory, pids"]);
}

#[test]
fn what_the_specification_allows_and_oci_spec_refuses() {
    let config = one("/process/capabilities", json!({"bounding": ["CAP_NEW", "CAP_KILL", "CAP_NEWER"], "permitted": ["CAP_NEW"]}));
    assert_eq!(config.process.capabilities.unwrap().bounding, 1 << 5);
    assert_eq!(config.warnings[0], "ignoring unknown or unavailable capabilities: \"CAP_NEW\", \"CAP_NEWER\"");
    one("/linux/resources", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}],
        "devices": [{"allow": true, "type": "", "access": "r"}]}));
    one("/process/execCPUAffinity", json!({"initial": "0 , 1"}));
    one("/uidMappings", json!("not in the specification"));
    one("/vm", json!({"kernel": {}}));
    one("/zos", json!(3));
    one("/no-such-property", json!({"deep": [1, 2, {"er": null}]}));
    assert_eq!(one("/process/user", Value::Null).process.user.uid, 0);
    // nulls are what is absent
    let text = serde_json::to_string(&runc_spec()).unwrap();
    for (old, new) in [
        ("\"hostname\":\"runc\"", "\"hostname\":null"),
        ("\"rlimits\":[", "\"hooks\":null,\"scheduler\":null,\"user\":null,\"rlimits\":["),
        ("\"ociVersion\":", "\"annotations\":{\"a\":null},\"ociVersion\":"),
    ] {
        let text = text.replace(old, new);
        assert!(text.contains(new));
        Config::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{new}: {error}"));
    }
    // of two members the last counts
    let twice = text.replacen('{', "{\"hostname\":\"first\",", 1);
    assert_eq!(Config::parse(twice.as_bytes()).unwrap().hostname.as_deref(), Some("runc"));
}

#[test]
fn ambient_needs_permitted_and_inheritable() {
    let config = one("/process/capabilities", json!({
        "permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN", "CAP_BPF"]
    }));
    assert_eq!(config.process.capabilities.unwrap().ambient, 1 << 5);
    assert_eq!(
        config.warnings[1],
        "ignoring ambient capabilities that are not both permitted and inheritable: CAP_CHOWN, CAP_BPF"
    );
}

#[test]
fn an_environment_has_each_name_once() {
    let config = one("/process/env", json!(["A=1", "B=2", "A=3", "AB=", "C==", "B=4"]));
    assert_eq!(config.process.env, ["A=3", "AB=", "C==", "B=4"]);
}

#[test]
fn mistakes_of_type() {
    refused("/process/user/uid", json!("root"), "", "process.user.uid must be a whole number from 0 to 4294967295: \"root\"");
    for id in [json!(-1), json!(u64::MAX), json!(1.5), json!(true), json!({}), json!([1])] {
        refused("/process/user/uid", id, "", "must be a whole number from 0 to 4294967295: ");
    }
    refused("/process/user/additionalGids", json!([1, "x", 2]), "/process/user/additionalGids/1", "process.user.additionalGids[1]");
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
    refused("/linux/sysctl", json!({"net.a/b": 5}), "/linux/sysctl/net.a~1b", "linux.sysctl[\"net.a/b\"] must be a string: 5");
    refused("/mounts/3/options", json!(["ro", null]), "/mounts/3/options/1", "must be a string: null");
    refused("/mounts/3/destination", Value::Null, "", "mounts[3].destination must be given");
    refused("/linux/resources", json!({"memory": {"limit": "1g"}}), "/linux/resources/memory/limit", "\"1g\"");
    refused("/process/execCPUAffinity", json!({"final": "0-x"}), "/process/execCPUAffinity/final", "\"0-x\"");
    refused("/hostname", json!(7), "", "hostname must be a string: 7");
    refused("/process/cwd", json!(["x".repeat(1_000_000)]), "", "must be a string: an array");
    refused("/process/user/uid", json!("x".repeat(1_000_000)), "", "…");
    refused("/linux/personality", json!({"domain": "BSD"}), "/linux/personality/domain", "must be LINUX or LINUX32: \"BSD\"");
    refused("/process/capabilities", json!({"bounding": [5]}), "/process/capabilities/bounding/0", "5");
}

/// The pointer must be right however the file is laid out.
#[test]
fn mistakes_of_type_in_pretty_files() {
    for pointer in ["/process/user/uid", "/root/readonly", "/mounts/2/source", "/linux/namespaces/3/path", "/process/rlimits/0/soft"] {
        let config = with(&[(pointer, json!({"wrong": ["\\\"", {}]}))]);
        let error = Config::parse(&serde_json::to_vec_pretty(&config).unwrap()).unwrap_err();
        assert_eq!(error.parts().pointer.as_deref(), Some(pointer), "{error}");
    }
}

#[test]
fn mistakes_in_the_whole() {
    refused("/ociVersion", Value::Null, "", "ociVersion must be given");
    refused("/ociVersion", json!("2.0.0"), "", "ociVersion must be 1.x, the version of the specification that is supported: \"2.0.0\"");
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
    refused("/process/env", json!(["=x"]), "/process/env/0", "name that is not empty");
    refused("/process/env", json!(["A=\0"]), "/process/env/0", "NUL");
    refused("/process/cwd", json!("tmp"), "", "process.cwd must be an absolute path: \"tmp\" (config.json /process/cwd)");
    refused("/process/cwd", json!("/\0"), "", "NUL");
    refused("/process/cwd", json!(""), "", "must be given");
    refused("/process/consoleSize", json!({"height": 65536, "width": 1}), "/process/consoleSize/height", "65536");
    refused("/process/user/uid", json!(u32::MAX), "", "at most 4294967294");
    refused("/process/user/gid", json!(u32::MAX), "", "at most 4294967294");
    refused("/process/user/additionalGids", json!([0, u32::MAX]), "/process/user/additionalGids/1", "4294967295");
    refused("/process/user/umask", json!(0o1000), "", "process.user.umask must be at most 511 (octal 777): 512");
    refused("/process/oomScoreAdj", json!(1001), "", "from -1000 to 1000: 1001");
    refused("/process/rlimits/0/soft", json!(1025), "", "at most the hard limit 1024 of RLIMIT_NOFILE: 1025");
    refused("/process/rlimits/-", json!({"type": "RLIMIT_NOFILE"}), "/process/rlimits/1/type", "given once only: \"RLIMIT_NOFILE\"");
    refused(
        "/process/capabilities",
        json!({"effective": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"]}),
        "/process/capabilities/effective",
        "lacks CAP_CHOWN",
    );
    for (key, value) in [("apparmorProfile", "a\nb"), ("selinuxLabel", "a\0")] {
        refused(&format!("/process/{key}"), json!(value), "", "control characters");
    }
    refused("/process/ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 8}), "/process/ioPriority/priority", "from 0 to 7: 8");
    refused("/process/ioPriority", json!({"class": "IOPRIO_CLASS_NONE"}), "/process/ioPriority/class", "IOPRIO_CLASS_RT");
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
    wrong(json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 1999}), "deadline", "at least the runtime 2000: 1999");
    wrong(json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 2000, "period": 1}), "period", "deadline 2000: 1");
    wrong(json!({"policy": "SCHED_ISO"}), "policy", "reserved");
    wrong(json!({"policy": "SCHED_BATCH", "flags": ["X"]}), "flags/0", "one of");
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
    refused("/linux/namespaces/-", json!({"type": "user"}), "/linux/namespaces/6", "user namespaces are not supported yet");
    refused("/linux/namespaces/-", json!({"type": "user", "path": "/x"}), "/linux/namespaces/6", "user namespaces are not supported yet");
    refused("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "", "user namespace isn't enabled");
    refused_with(&[without("uts")], "/hostname", "unable to set hostname without a private UTS namespace");
    refused_with(&[without("uts"), calm[2].clone(), ("/domainname", json!("x"))], "/domainname", "domainname without");
    refused_with(&[without("mount")], "/linux/maskedPaths", "without a private MNT namespace");
    refused_with(&[without("mount"), calm[0].clone()], "/linux/readonlyPaths", "without a private MNT namespace");
    parse(&with(&[without("mount"), calm[0].clone(), calm[1].clone()])).unwrap();
    refused("/linux/timeOffsets", json!({"boottime": {"secs": 1}}), "", "time namespace isn't enabled");
    let time = ("/linux/namespaces/-", json!({"type": "time"}));
    refused_with(&[time.clone(), ("/linux/timeOffsets", json!({"realtime": {}}))], "/linux/timeOffsets/realtime", "boottime or monotonic");
    refused_with(
        &[time, ("/linux/timeOffsets", json!({"boottime": {"nanosecs": 1_000_000_000}}))],
        "/linux/timeOffsets/boottime/nanosecs",
        "at most 999999999",
    );
    for (kind, name) in [("ipc", "kernel.shmmax"), ("ipc", "fs.mqueue.msg_max"), ("network", "net.core.somaxconn"), ("uts", "kernel.domainname")] {
        let pointer = format!("/linux/sysctl/{name}");
        refused_with(&[without(kind), calm[2].clone(), ("/linux/sysctl", json!({name: "1"}))], &pointer, name);
        one("/linux/sysctl", json!({name: "1"}));
    }
}

#[test]
fn mistakes_of_sysctl() {
    for name in ["kernel.core_pattern", "kernel.hostname", "vm.swappiness", "kernel", "net/../kernel/x", "net..x", "", "net.ipv4.", "user.max_user_namespaces"] {
        let place = format!("/linux/sysctl/{}", name.replace('/', "~1"));
        refused("/linux/sysctl", json!({name: "1"}), &place, &format!("sysctl {name:?}"));
    }
    for value in ["1\n", "1\0", "1+kernel.core_pattern=|/x"] {
        refused("/linux/sysctl", json!({"net.x": value}), "/linux/sysctl/net.x", "control characters and of +");
    }
    refused("/linux/sysctl", json!({"net.a.b": "1", "net/a/b": "2"}), "/linux/sysctl/net~1a~1b", "is the same as \"net.a.b\"");
}

#[test]
fn mistakes_of_paths_labels_devices_hooks() {
    refused("/linux/maskedPaths/1", json!("proc/x"), "", "linux.maskedPaths[1] must be an absolute path: \"proc/x\"");
    refused("/linux/readonlyPaths/0", json!("/a/../b"), "", "without `..`");
    refused("/linux/rootfsPropagation", json!("rrshared"), "", "shared, slave, private or unbindable");
    refused("/linux/rootfsPropagation", json!("r"), "", "shared, slave");
    refused("/linux/mountLabel", json!("x\n"), "", "control");
    refused("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "/linux/personality/flags", "not supported");
    for (policy, key) in [
        (json!({"mode": "MPOL_BIND", "nodes": ""}), "nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "3-1"}), "nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "0-4294967295"}), "nodes"),
        (json!({"mode": "MPOL_BIND", "nodes": "+1"}), "nodes"),
        (json!({"mode": "MPOL_DEFAULT", "nodes": "1"}), "nodes"),
        (json!({"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES"]}), "flags"),
        (json!({"mode": "MPOL_BIND", "nodes": "1", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}), "flags"),
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

#[test]
fn mistakes_of_mounts() {
    let wrong = |mount: Value, key: &str, words: &str| {
        refused("/mounts/2", mount, &format!("/mounts/2{key}"), words);
    };
    let tmpfs = |destination: &str| json!({"destination": destination, "type": "tmpfs"});
    wrong(tmpfs("/a/../b"), "/destination", "mounts[2].destination must be a path without `..`: \"/a/../b\"");
    wrong(tmpfs("../b"), "/destination", "without `..`");
    wrong(tmpfs("/a\0"), "/destination", "control characters");
    wrong(tmpfs("/a\n"), "/destination", "control characters");
    wrong(tmpfs(""), "/destination", "must be given");
    wrong(tmpfs("/"), "/destination", "below the root itself");
    wrong(tmpfs("/proc"), "/destination", "\"/proc\" cannot be mounted because it is not of type proc");
    for path in ["/proc/self", "/proc/sys", "//proc/./1/attr", "/proc/cpuinfo/x", "/proc/sysrq-trigger"] {
        wrong(tmpfs(path), "/destination", "cannot be mounted because it is inside /proc");
        wrong(json!({"destination": path, "source": "/x", "options": ["bind"]}), "/destination", "inside /proc");
    }
    wrong(json!({"destination": "/x"}), "/type", "must have a type");
    wrong(json!({"destination": "/x", "type": "none"}), "/type", "bind, rbind and remount");
    wrong(json!({"destination": "/x", "type": "bind"}), "/source", "a bind mount must have a source");
    wrong(json!({"destination": "/x", "options": ["rbind"], "source": ""}), "/source", "must have a source");
    wrong(json!({"destination": "/x", "options": ["bind"], "source": "a\0"}), "/source", "NUL");
    wrong(json!({"destination": "/x", "type": "a\nb"}), "/type", "control");
    wrong(json!({"destination": "/x", "type": "tmpfs", "options": ["ro", "a\0"]}), "/options/1", "control");
    wrong(json!({"destination": "/x", "type": "tmpfs", "options": ["=1"]}), "/options/0", "key=value");
    wrong(
        json!({"destination": "/x", "source": "/y", "options": ["bind", "size=1"]}),
        "/options/1",
        "bind mounts cannot have any filesystem-specific options applied: \"size\"",
    );
    let bind = |more: Value| {
        let mut mount = json!({"destination": "/x", "source": "/y", "options": ["bind"]});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mount
    };
    let ids = json!([{"containerID": 0, "hostID": 5, "size": 10}]);
    wrong(bind(json!({"options": ["bind", "idmap"]})), "/options", "or a user namespace");
    wrong(bind(json!({"uidMappings": ids})), "/gidMappings", "given together");
    wrong(json!({"destination": "/x", "type": "tmpfs", "uidMappings": ids, "gidMappings": ids}), "", "only supported for bind-mounts");
    for (list, key) in [
        (json!([{"containerID": 0, "hostID": 0, "size": 0}]), "/0/size"),
        (json!([{"containerID": 4_294_967_290u32, "hostID": 0, "size": 6}]), "/0/containerID"),
        (json!([{"containerID": 0, "hostID": 4_294_967_295u32, "size": 1}]), "/0/hostID"),
        (json!([{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 9, "hostID": 10, "size": 1}]), "/1/containerID"),
        (json!([{"containerID": 0, "hostID": 9, "size": 10}, {"containerID": 10, "hostID": 0, "size": 10}]), "/1/hostID"),
        ((0..65536).map(|n| json!({"containerID": n, "hostID": n, "size": 1})).collect(), ""),
    ] {
        wrong(bind(json!({"uidMappings": list, "gidMappings": ids})), &format!("/uidMappings{key}"), "must be");
    }
    for text in ["idmap=", "idmap=uids=0-1-2", "idmap=x", "idmap=uids=0-1;gids=0-1-2", "idmap=uids=0-0-1-1;gids=0-0-1",
        "idmap=uids=0-0-10#5-20-1;gids=0-0-1", "idmap=uids=@0-0-1;gids=0-0-1"] {
        wrong(bind(json!({"options": ["bind", text]})), "/options/1", "idmap");
    }
}

fn mount(mount: Value) -> (ferrun::config::Mount, Vec<String>) {
    let mut config = one("/mounts/2", mount);
    (config.mounts.remove(2), config.warnings)
}

#[test]
fn kinds_of_mounts() {
    let (relative, warnings) = mount(json!({"destination": "a//b/.", "type": "tmpfs"}));
    assert_eq!(relative.destination, PathBuf::from("/a/b"));
    assert_eq!(relative.source, MountSource::Fs { fstype: "tmpfs".into(), source: "none".into() });
    assert_eq!(warnings[1], "mounts[2].destination is not absolute, \"/a/b\" is meant: \"a//b/.\"");
    let bind = |recursive| MountSource::Bind { path: "y".into(), recursive };
    for (kind, options, source) in [
        ("none", json!(["bind"]), bind(false)),
        ("", json!(["rbind"]), bind(true)),
        ("tmpfs", json!(["rbind", "bind"]), bind(true)),
        ("bind", json!([]), bind(false)),
        ("cgroup", json!(["bind"]), bind(false)),
        ("cgroup2", json!([]), MountSource::Cgroup),
        ("", json!(["remount", "bind", "ro"]), MountSource::Remount),
        ("ext4", json!([]), MountSource::Fs { fstype: "ext4".into(), source: "y".into() }),
    ] {
        let (mount, _) = mount(json!({"destination": "/x", "type": kind, "source": "y", "options": options}));
        assert_eq!(mount.source, source, "{kind} {options}");
    }
    mount(json!({"destination": "/proc/net/dev", "source": "/y", "options": ["bind"]}));
    mount(json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]}));
    mount(json!({"destination": "/", "options": ["remount", "nosuid"]}));
    mount(json!({"destination": "/process", "type": "tmpfs"}));
    let ids = json!([{"containerID": 0, "hostID": 5, "size": 10}]);
    let (mapped, _) = mount(json!({"destination": "/x", "source": "/y", "options": ["rbind", "ridmap"], "uidMappings": ids, "gidMappings": ids}));
    let idmap = mapped.options.idmap.unwrap();
    assert!(idmap.recursive);
    assert_eq!(idmap.uid_mappings, [IdMapping { container_id: 0, host_id: 5, size: 10 }]);
    let (mapped, _) = mount(json!({"destination": "/x", "source": "/y", "options": ["bind", "idmap=uids=0-1-10#10-11-10;gids=0-3-10"]}));
    let idmap = mapped.options.idmap.unwrap();
    assert_eq!((idmap.uid_mappings.len(), idmap.gid_mappings[0].host_id, idmap.recursive), (2, 3, false));
    let (_, warnings) = mount(json!({"destination": "/x", "source": "/y", "options": ["bind", "sync", "tmpcopyup"]}));
    assert_eq!(warnings[1], "mounts[2]: sync has no effect on a bind mount");
    assert_eq!(warnings[2], "mounts[2]: tmpcopyup has no effect on anything but a tmpfs");
}

/// What becomes of the options of a tmpfs.
fn parsed(words: &[&str]) -> ferrun::config::MountOptions {
    mount(json!({"destination": "/x", "type": "tmpfs", "options": words})).0.options
}

#[test]
fn every_word_about_attributes() {
    let table: [(&str, u64, u64); 20] = [
        ("ro", 1, 0), ("rw", 0, 1), ("nosuid", 2, 0), ("suid", 0, 2), ("nodev", 4, 0), ("dev", 0, 4),
        ("noexec", 8, 0), ("exec", 0, 8), ("noatime", 0x10, 0x70), ("atime", 0, 0x70), ("strictatime", 0x20, 0x70),
        ("nostrictatime", 0, 0x70), ("relatime", 0, 0x70), ("norelatime", 0, 0), ("nodiratime", 0x80, 0),
        ("diratime", 0, 0x80), ("nosymfollow", 0x20_0000, 0), ("symfollow", 0, 0x20_0000),
        ("defaults", 0, 0), ("silent", 0, 0),
    ];
    for (word, set, clear) in table {
        let options = parsed(&[word]);
        assert_eq!(options.attr, MountAttr { set, clear }, "{word}");
        assert_eq!(options.recursive_attr, MountAttr::default(), "{word}");
        assert!(options.data.is_empty() && options.flags.is_empty(), "{word}");
        if !matches!(word, "defaults" | "silent") {
            let options = parsed(&[&format!("r{word}")]);
            assert_eq!(options.recursive_attr, MountAttr { set, clear }, "r{word}");
            assert_eq!(options.attr, MountAttr::default(), "r{word}");
        }
    }
}

#[test]
fn the_last_word_counts() {
    for (words, set, clear) in [
        (&["ro", "rw"][..], 0, 1),
        (&["rw", "ro"], 1, 0),
        (&["noatime", "strictatime"], 0x20, 0x70),
        (&["strictatime", "noatime"], 0x10, 0x70),
        (&["noatime", "relatime"], 0, 0x70),
        (&["noatime", "atime"], 0, 0x70),
        (&["strictatime", "atime"], 0x20, 0x70),
        (&["strictatime", "nostrictatime"], 0, 0x70),
        (&["noatime", "norelatime"], 0x10, 0x70),
        (&["nosuid", "noexec", "nodev", "ro", "nodiratime"], 0x8f, 0),
    ] {
        assert_eq!(parsed(words).attr, MountAttr { set, clear }, "{words:?}");
    }
}

#[test]
fn every_other_word() {
    for (word, kind) in [
        ("shared", PropagationKind::Shared),
        ("slave", PropagationKind::Slave),
        ("private", PropagationKind::Private),
        ("unbindable", PropagationKind::Unbindable),
    ] {
        assert_eq!(parsed(&[word]).propagation, [Propagation { kind, recursive: false }]);
        assert_eq!(parsed(&[&format!("r{word}")]).propagation, [Propagation { kind, recursive: true }]);
    }
    for word in ["sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"] {
        assert_eq!(parsed(&[word]).flags, [word]);
    }
    for (word, flag) in [("rsync", "sync"), ("rasync", "async"), ("rdirsync", "dirsync"), ("rmand", "mand"), ("rnomand", "nomand")] {
        assert_eq!(parsed(&[word]).flags, [flag]);
    }
    for word in ["silent", "loud", "iversion", "noiversion", "acl", "noacl", "defaults"] {
        assert_eq!(parsed(&[word]), Default::default(), "{word}");
    }
    assert!(parsed(&["tmpcopyup"]).tmpcopyup);
    assert!(parsed(&["dest-nofollow"]).dest_nofollow);
    let bind = mount(json!({"destination": "/x", "source": "/y", "options": ["bind", "src-nofollow", "copy-symlink"]})).0.options;
    assert!(bind.src_nofollow && bind.copy_symlink && !bind.dest_nofollow);
    refused("/mounts/3/options", json!(["copy-symlink"]), "", "bind mounts only");
}

#[test]
fn data_for_the_file_system() {
    let data = |words: &[&str]| -> Vec<(usize, String, Option<String>)> {
        parsed(words).data.into_iter().map(|data| (data.index, data.key, data.value)).collect()
    };
    let text = |index: usize, key: &str, value: &str| (index, key.to_owned(), Some(value.to_owned()));
    assert_eq!(data(&["ro", "newinstance", "a=b=c", "x="]), [(1, "newinstance".to_owned(), None), text(2, "a", "b=c"), text(3, "x", "")]);
    assert_eq!(data(&["mode=755,size=1k"]), [text(0, "mode", "755"), text(0, "size", "1k")]);
    assert_eq!(data(&["context=\"u:r:t:s0:c1,c2\",huge=never"]), [text(0, "context", "u:r:t:s0:c1,c2"), text(0, "huge", "never")]);
    assert_eq!(data(&["lowerdir=/a\\,b"]), [text(0, "lowerdir", "/a\\,b")]);
    assert_eq!(data(&["", ","]), []);
}

#[test]
fn the_table_of_words() {
    let words: Vec<_> = options::words().collect();
    assert!(words.is_sorted() && words.windows(2).all(|pair| pair[0] != pair[1]));
    // what runc 1.1 prints
    for word in [
        "acl", "async", "atime", "bind", "defaults", "dev", "diratime", "dirsync", "exec", "iversion", "lazytime", "loud",
        "mand", "noacl", "noatime", "nodev", "nodiratime", "noexec", "noiversion", "nolazytime", "nomand", "norelatime",
        "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime", "relatime", "remount",
        "rexec", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime", "rnosuid",
        "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime", "rsuid",
        "rsymfollow", "runbindable", "rw", "shared", "silent", "slave", "strictatime", "suid", "symfollow", "sync",
        "tmpcopyup", "unbindable",
    ] {
        assert!(words.contains(&word), "{word}");
        // and none is taken for data
        let options = ["bind", word];
        if word != "remount" {
            let (mount, _) = mount(json!({"destination": "/x", "source": "/y", "options": options}));
            assert!(mount.options.data.is_empty(), "{word}");
        }
    }
}

fn said(bytes: &[u8]) -> String {
    let text = Config::parse(bytes).unwrap_err().to_string();
    check_shape(&text);
    text
}

#[test]
fn no_json() {
    assert_eq!(said(b""), "config.json is empty");
    assert_eq!(said(b" \n\t"), "config.json is empty");
    assert_eq!(said(&[0; 4096]), "config.json is not valid JSON: NUL byte at offset 0");
    assert_eq!(said(b"{\"a\": \0}"), "config.json is not valid JSON: NUL byte at offset 6");
    assert_eq!(said(b"[]"), "config.json must be a JSON object, not an array");
    assert_eq!(said(b"null"), "config.json must be a JSON object, not null");
    assert_eq!(said(b"{}"), "ociVersion must be given (config.json /ociVersion)");
    assert_eq!(said(b"{\n \"a\": 1,\n}"), "config.json is not valid JSON: trailing comma at line 3 column 1");
    assert_eq!(said(b"{\"a\": {"), "config.json ends too early: EOF while parsing an object at line 1 column 7");
    assert!(said(b"\xef\xbb\xbf{}").contains("line 1 column 1"));
    assert!(said(b"{\"hostname\": \"\xff\"}").contains("line 1 column"));
    assert!(said(b"{} {}").contains("trailing characters"));
    assert!(said(b"hello").contains("not valid JSON"));
    assert_eq!(said(&vec![b'a'; 100 << 20]), format!("config.json is larger than {} MiB", load::LIMIT >> 20));
}

#[test]
fn too_deep() {
    let deep = "[".repeat(100_000);
    assert!(said(deep.as_bytes()).contains("nested deeper than 128 levels"));
    assert!(said(format!("{{\"process\":{deep}").as_bytes()).contains("nested deeper than 128 levels"));
    assert!(said("{\"a\":".repeat(100_000).as_bytes()).contains("nested deeper than 128 levels"));
    let closed = format!("{{\"unknown\":{deep}{}}}", "]".repeat(100_000));
    assert!(said(closed.as_bytes()).contains("ociVersion must be given"));
}

#[test]
fn cut_at_every_byte() {
    let text = serde_json::to_vec_pretty(&runc_spec()).unwrap();
    for length in 0..text.len() {
        let error = said(&text[..length]);
        assert!(error.contains("ends too early") || error.contains("is empty"), "{length}: {error}");
    }
}

/// xorshift64: the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let good = serde_json::to_vec(&runc_spec()).unwrap();
    let mut accepted = 0;
    for _ in 0..5_000 {
        let mut text = good.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(text.len());
            match random.below(4) {
                0 => text[place] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(text.drain(place..(place + 1 + random.below(9)).min(text.len()))),
                2 => text.insert(place, b"{}[]\",:0-9e\\nu"[random.below(14)]),
                _ => {
                    let end = (place + random.below(40)).min(text.len());
                    let copy = text[place..end].to_vec();
                    let target = random.below(text.len());
                    text.splice(target..target, copy);
                }
            }
        }
        match Config::parse(&text) {
            Ok(_) => accepted += 1,
            Err(error) => check_shape(&error.to_string()),
        }
    }
    assert!(accepted > 100, "{accepted}");
}

/// Replaces a random value by another: valid JSON, so that the pointer of every error can be looked up.
#[test]
fn random_values_have_pointers() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut good = runc_spec();
    set(&mut good, "/process/scheduler", json!({"policy": "SCHED_RR", "priority": 1, "flags": ["SCHED_FLAG_RECLAIM"]}));
    set(&mut good, "/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 2}]));
    set(&mut good, "/hooks", json!({"poststop": [{"path": "/x", "timeout": 2}]}));
    set(&mut good, "/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}));
    set(&mut good, "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    let mut pointers = Vec::new();
    collect(&good, &mut String::new(), &mut pointers);
    let values = [
        json!(null), json!(true), json!(-1), json!(0), json!(1.5), json!(u64::MAX), json!(""), json!("x"), json!("a\0"),
        json!("/../x"), json!([]), json!({}), json!([[]]), json!([{}]), json!(["x", 1]), json!({"a": "b"}), json!([null]),
        json!("SCHED_ISO"), json!("CAP_X"), json!("rro"), json!("\u{1f980}".repeat(200)),
    ];
    for _ in 0..5_000 {
        let pointer = &pointers[random.below(pointers.len())];
        let mut config = good.clone();
        *config.pointer_mut(pointer).unwrap() = values[random.below(values.len())].clone();
        let Err(error) = Config::parse(&serde_json::to_vec(&config).unwrap()) else { continue };
        let text = error.to_string();
        check_shape(&text);
        let place = error.parts().pointer.as_deref().unwrap_or_else(|| panic!("{text}"));
        // the place or, if it is absent, where it should be
        let parent = place.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(config.pointer(place).is_some() || config.pointer(parent).is_some(), "{pointer}: {text}");
    }
}

fn collect(value: &Value, pointer: &mut String, pointers: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in members {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key);
        pointers.push(pointer.clone());
        collect(value, pointer, pointers);
        pointer.truncate(length);
    }
}

/// Nothing of a hash map's order may show.
#[test]
fn the_same_every_time() {
    let text = serde_json::to_vec(&docker()).unwrap();
    let first = serde_json::to_string(&Config::parse(&text).unwrap()).unwrap();
    for _ in 0..20 {
        assert_eq!(serde_json::to_string(&Config::parse(&text).unwrap()).unwrap(), first);
    }
}

/// Not an assertion but a number to look at: `cargo test --release -- --ignored --nocapture speed`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let text = serde_json::to_vec(&docker()).unwrap();
    let (mut parse, mut check) = (u128::MAX, u128::MAX);
    for _ in 0..2000 {
        let start = Instant::now();
        let parsed = load::parse(&text).unwrap();
        parse = parse.min(start.elapsed().as_nanos());
        let start = Instant::now();
        let config = Config::check(&parsed.spec).unwrap();
        check = check.min(start.elapsed().as_nanos());
        assert!(config.seccomp.is_some());
    }
    println!("{} bytes: parse {parse} ns, check {check} ns", text.len());
}
