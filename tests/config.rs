//! config.json → Config: good files, every mistake with its pointer and words, every mount option, and bytes that
//! are no config at all. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "config/hostile.rs"]
mod hostile;
#[path = "config/mistakes.rs"]
mod mistakes;
#[path = "config/mounts.rs"]
mod mounts;
#[path = "config/resources.rs"]
mod resources;

use std::path::Path;
use std::time::Instant;

use ferrun::config::{Config, DeviceKind, MountAttr, MountSource, Namespace, Propagation, PropagationKind, load};
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
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
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
    config["linux"]["sysctl"] =
        json!({"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"});
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
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
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
        (
            "/process/scheduler",
            json!({"policy": "SCHED_DEADLINE", "runtime": 2000, "deadline": 3000, "period": 4000,
            "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_RECLAIM"]}),
        ),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7})),
        ("/process/execCPUAffinity", json!({"initial": " 0-3, 7,", "final": ""})),
        ("/process/oomScoreAdj", json!(-1000)),
        ("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675")),
        ("/process/apparmorProfile", json!("acme_secure_profile")),
        ("/linux/namespaces/-", json!({"type": "time"})),
        ("/linux/namespaces/1", json!({"type": "network", "path": "/run/netns/x"})),
        ("/linux/timeOffsets", json!({"monotonic": {"secs": 172800, "nanosecs": 1}, "boottime": {"secs": -604800}})),
        (
            "/linux/devices",
            json!([
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o20640, "uid": 1, "gid": 2},
                {"path": "/dev/./sda", "type": "b", "major": 8, "minor": 0},
                {"path": "/dev/fuse", "type": "u", "major": 10, "minor": 229},
                {"path": "/run/fifo", "type": "p"}
            ]),
        ),
        ("/linux/rootfsPropagation", json!("rslave")),
        ("/linux/personality", json!({"domain": "LINUX32", "flags": []})),
        ("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0-2, 9,1-3", "flags": ["MPOL_F_STATIC_NODES"]})),
        (
            "/linux/sysctl",
            json!({"net.ipv4.conf.eth0/1.forwarding": "1", "kernel/shmmax": "1", "fs.mqueue.msg_max": "9",
            "kernel.domainname": "x"}),
        ),
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
    assert_eq!(
        config.namespaces.network,
        Namespace::Join { path: "/run/netns/x".into(), pointer: "/linux/namespaces/1/path".into() }
    );
    let offsets: Vec<_> = config.time_offsets.iter().map(|o| (o.clock, o.secs, o.nanosecs)).collect();
    assert_eq!(offsets, [("boottime", -604_800, 0), ("monotonic", 172_800, 1)]);
    let devices: Vec<_> = config.devices.iter().map(|d| (d.path.to_str().unwrap(), d.kind, d.mode)).collect();
    assert_eq!(
        devices,
        [
            ("/dev/fuse", DeviceKind::Char, 0o640),
            ("/dev/sda", DeviceKind::Block, 0o666),
            ("/run/fifo", DeviceKind::Fifo, 0o666),
        ]
    );
    assert_eq!(config.root.propagation, Some(Propagation { kind: PropagationKind::Slave, recursive: true }));
    assert_eq!(config.personality, Some(8));
    let policy = config.memory_policy.unwrap();
    assert_eq!((policy.mode, policy.nodes), (2 | 1 << 15, vec![0, 1, 2, 3, 9]));
    let sysctl: Vec<_> = config.sysctl.iter().map(|s| s.path.as_str()).collect();
    assert_eq!(sysctl, ["fs/mqueue/msg_max", "kernel/domainname", "kernel/shmmax", "net/ipv4/conf/eth0.1/forwarding"]);
    assert_eq!(config.hooks.poststop[0].timeout, Some(3));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn what_the_specification_allows_and_oci_spec_refuses() {
    let config = one(
        "/process/capabilities",
        json!({"bounding": ["CAP_NEW", "CAP_KILL", "CAP_NEWER"], "permitted": ["CAP_NEW"]}),
    );
    assert_eq!(config.process.capabilities.unwrap().bounding, 1 << 5);
    assert_eq!(config.warnings[0], "ignoring unknown or unavailable capabilities: \"CAP_NEW\", \"CAP_NEWER\"");
    one(
        "/linux/resources",
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": u64::MAX}],
        "devices": [{"allow": true, "type": "", "access": "r"}]}),
    );
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
    let config = one(
        "/process/capabilities",
        json!({
            "permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN", "CAP_BPF"]
        }),
    );
    assert_eq!(config.process.capabilities.unwrap().ambient, 1 << 5);
    assert_eq!(
        config.warnings[0],
        "ignoring ambient capabilities that are not both permitted and inheritable: CAP_CHOWN, CAP_BPF"
    );
}

#[test]
fn an_environment_has_each_name_once() {
    let config = one("/process/env", json!(["A=1", "B=2", "A=3", "AB=", "C==", "B=4"]));
    assert_eq!(config.process.env, ["A=3", "AB=", "C==", "B=4"]);
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
