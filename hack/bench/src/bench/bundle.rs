//! The bundles, written per runtime (each has its own cgroup path), over one root file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ferrun_bench::{shape, syscalls};
use serde_json::{Map, Value, json};

use crate::Res;
use crate::args::Options;
use crate::runtime::Runtime;
use crate::sandbox::Place;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Bundle {
    Min,
    Full,
}

impl Bundle {
    pub(crate) const ALL: [Bundle; 2] = [Bundle::Min, Bundle::Full];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Bundle::Min => "min",
            Bundle::Full => "full",
        }
    }
}

/// What the container runs: `run` measures a whole life, the other verbs act on one that waits.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Payload {
    True,
    /// `true` is the floor's own binary: busybox would be the highest peak RSS of a lean runtime's `run`.
    Small,
    Sleep,
    /// Exits with `PROOF`: a runtime that does nothing would be very fast.
    Proof,
    /// Exits with `PROOF` only if the full bundle's limits hold where it runs.
    LimitsProof,
}

pub(crate) const PROOF: i32 = 42;

impl Payload {
    const ALL: [Payload; 5] = [Payload::True, Payload::Small, Payload::Sleep, Payload::Proof, Payload::LimitsProof];

    fn name(self) -> &'static str {
        match self {
            Payload::True => "true",
            Payload::Small => "small",
            Payload::Sleep => "sleep",
            Payload::Proof => "proof",
            Payload::LimitsProof => "limits-proof",
        }
    }

    fn args(self) -> Value {
        match self {
            Payload::True | Payload::Small => json!(["true"]),
            Payload::Sleep => json!(["sleep", "1000"]),
            Payload::Proof => json!(["sh", "-c", format!("exit {PROOF}")]),
            Payload::LimitsProof => json!(["sh", "-c", limits_proof()]),
        }
    }
}

/// Says what does not hold on stderr.
fn limits_proof() -> String {
    let (memory, pids) = (shape::MEMORY_LIMIT, shape::PIDS_LIMIT);
    let (quota, period) = (shape::CPU_QUOTA, shape::CPU_PERIOD);
    let values = [
        ("memory", format!("memory/memory.limit_in_bytes = {memory}"), format!("memory.max = {memory}")),
        ("quota", format!("cpu/cpu.cfs_quota_us = {quota}"), format!("cpu.max = {quota} {period}")),
        ("shares", format!("cpu/cpu.shares = {}", shape::CPU_SHARES), String::new()),
        ("pids", format!("pids/pids.max = {pids}"), format!("pids.max = {pids}")),
    ];
    let mut script = "cd /sys/fs/cgroup; bad() { echo \"limit not applied: $*\" >&2; exit 1; }\n".to_owned();
    let test = |file_and_value: &str| match file_and_value.split_once(" = ") {
        Some((file, value)) => format!("[ \"$(cat {file})\" = '{value}' ]"),
        None => "true".to_owned(),
    };
    for (name, v1, v2) in values {
        script += &format!("if [ -d memory ]; then {}; else {}; fi || bad {name}\n", test(&v1), test(&v2));
    }
    // No such device anywhere; where it may be used, opening it fails in another way.
    script += "mknod /dev/none c 240 77; (: < /dev/none) 2>&1 | grep -q 'not permitted' || bad devices\n";
    script + &format!("exit {PROOF}")
}

pub(crate) fn dir(place: &Place, runtime: &str, bundle: Bundle, payload: Payload) -> PathBuf {
    place.dir.join(format!("bundles/{runtime}-{}-{}", bundle.name(), payload.name()))
}

/// Of the container, relative to a hierarchy's root.
pub(crate) fn cgroup(place: &Place, runtime: &str, bundle: Bundle) -> String {
    format!("{}/{runtime}-{}", place.cgroup, bundle.name())
}

pub(crate) fn numbered_dir(place: &Place, runtime: &str, bundle: Bundle, number: u32) -> PathBuf {
    place.dir.join(format!("bundles/{runtime}-{}-{number}", bundle.name()))
}

pub(crate) fn numbered_cgroup(place: &Place, runtime: &str, bundle: Bundle, number: u32) -> String {
    format!("{}-{number}", cgroup(place, runtime, bundle))
}

pub(crate) fn rootfs(place: &Place, payload: Payload) -> PathBuf {
    place.dir.join(if payload == Payload::Small { "rootfs-small" } else { "rootfs" })
}

pub(crate) fn write_all(place: &Place, runtimes: &[Runtime], options: &Options) -> Res<()> {
    make_rootfs(place, &runtimes[0].path)
        .map_err(|e| format!("root file system from /bin/busybox (busybox-static): {e}"))?;
    for runtime in runtimes {
        for bundle in Bundle::ALL {
            for payload in Payload::ALL {
                let cgroup = cgroup(place, &runtime.name, bundle);
                let config = config(place, bundle, payload, &cgroup, options.limits);
                write(&dir(place, &runtime.name, bundle, payload), &config.to_string())?;
            }
        }
    }
    Ok(())
}

/// One for each container of a turn of `throughput`.
pub(crate) fn write_numbered(place: &Place, runtimes: &[Runtime], options: &Options) -> Res<()> {
    for runtime in runtimes.iter().filter(|runtime| !runtime.is_floor()) {
        for bundle in Bundle::ALL {
            for number in 0..options.containers as u32 {
                let cgroup = numbered_cgroup(place, &runtime.name, bundle, number);
                let config = config(place, bundle, Payload::True, &cgroup, options.limits);
                write(&numbered_dir(place, &runtime.name, bundle, number), &config.to_string())?;
            }
        }
    }
    Ok(())
}

fn write(dir: &Path, config: &str) -> Res<()> {
    let write = fs::create_dir_all(dir).and_then(|()| fs::write(dir.join("config.json"), config));
    write.map_err(|e| format!("{}: {e}", dir.display()))
}

/// With all mount targets there already, so that the first runtime does not make them for the others.
fn make_rootfs(place: &Place, floor: &str) -> std::io::Result<()> {
    for payload in [Payload::True, Payload::Small] {
        let root = rootfs(place, payload);
        for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(dir))?;
        }
        for file in shape::BOUND_FILES {
            fs::write(root.join("etc").join(file), "")?;
        }
    }
    let bin = rootfs(place, Payload::True).join("bin");
    fs::copy("/bin/busybox", bin.join("busybox"))?;
    for applet in ["sh", "true", "sleep", "cat", "grep", "mknod"] {
        symlink("busybox", bin.join(applet))?;
    }
    fs::copy(floor, rootfs(place, Payload::Small).join("bin/true"))?;
    for file in shape::BOUND_FILES {
        fs::write(place.dir.join(file), "127.0.0.1 localhost\n")?;
    }
    Ok(())
}

fn config(place: &Place, bundle: Bundle, payload: Payload, cgroup: &str, limits: bool) -> Value {
    let full = bundle == Bundle::Full;
    let mut config = json!({
        "ociVersion": "1.0.2",
        "process": process(full, payload),
        "root": { "path": rootfs(place, payload), "readonly": !full },
        "hostname": shape::HOSTNAME,
        "mounts": mounts(full, &place.dir),
        "linux": {
            "cgroupsPath": place.cgroups_path(cgroup),
            "namespaces": namespaces(full),
            "maskedPaths": if full { &shape::MASKED[..] } else { &shape::MASKED[..shape::MASKED_MIN] },
            "readonlyPaths": shape::READ_ONLY,
        }
    });
    if full {
        config["linux"]["seccomp"] = seccomp();
    }
    if limits {
        config["linux"]["resources"] = resources(full);
    }
    config
}

fn process(full: bool, payload: Payload) -> Value {
    let names: Vec<&str> = if full { shape::CAPS_FULL } else { shape::CAPS_MIN }.iter().map(|cap| cap.0).collect();
    let mut process = json!({
        "terminal": false,
        "user": { "uid": 0, "gid": 0 },
        "args": payload.args(),
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": { "bounding": names, "effective": names, "permitted": names },
    });
    if full {
        process["user"]["additionalGids"] = json!(shape::GIDS_FULL);
        process["oomScoreAdj"] = json!(shape::OOM_SCORE_ADJ_FULL);
    } else {
        process["capabilities"]["ambient"] = json!(names);
        process["noNewPrivileges"] = json!(true);
        process["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "hard": shape::NOFILE_MIN, "soft": shape::NOFILE_MIN }]);
    }
    process
}

fn namespaces(full: bool) -> Value {
    let mut kinds = vec!["pid", "network", "ipc", "uts", "mount"];
    if full {
        kinds.push("cgroup");
    }
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

fn mounts(full: bool, files: &Path) -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let mut mount = json!({ "destination": destination, "type": kind, "source": source });
        if !options.is_empty() {
            mount["options"] = json!(options);
        }
        mount
    };
    let mut all = vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ];
    if full {
        for file in shape::BOUND_FILES {
            let source = files.join(file);
            all.push(mount(&format!("/etc/{file}"), "bind", &source.to_string_lossy(), &["rbind", "rprivate"]));
        }
    }
    all.into()
}

fn resources(full: bool) -> Value {
    let mut devices = vec![json!({ "allow": false, "access": "rwm" })];
    if !full {
        return json!({ "devices": devices });
    }
    for (kind, major, minor, access) in shape::DEVICES {
        let mut rule = Map::new();
        rule.insert("allow".into(), true.into());
        rule.insert("type".into(), kind.to_string().into());
        for (key, number) in [("major", major), ("minor", minor)] {
            if let Some(number) = number {
                rule.insert(key.into(), number.into());
            }
        }
        rule.insert("access".into(), access.into());
        devices.push(rule.into());
    }
    json!({
        "devices": devices,
        "memory": { "limit": shape::MEMORY_LIMIT },
        "cpu": { "shares": shape::CPU_SHARES, "quota": shape::CPU_QUOTA, "period": shape::CPU_PERIOD },
        "pids": { "limit": shape::PIDS_LIMIT },
    })
}

fn seccomp() -> Value {
    let allow = |names: Value| json!({ "names": names, "action": "SCMP_ACT_ALLOW" });
    let when = |name: &str, test: Value| json!({ "names": [name], "action": "SCMP_ACT_ALLOW", "args": [test] });
    // Docker keeps what depends on kernel, architecture or a capability in rules of their own.
    let apart = ["ptrace", "process_vm_readv", "process_vm_writev", "arch_prctl", "modify_ldt", "chroot"];
    let names = syscalls::ALLOWED.iter().map(|row| row.0).filter(|name| !apart.contains(name));
    let mut rules = vec![allow(names.collect()), allow(json!(&apart[..3]))];
    rules.extend(apart[3..].iter().map(|name| allow(json!([name]))));
    rules.push(when("socket", json!({ "index": 0, "value": shape::AF_VSOCK, "op": "SCMP_CMP_NE" })));
    for personality in shape::PERSONALITIES {
        rules.push(when("personality", json!({ "index": 0, "value": personality, "op": "SCMP_CMP_EQ" })));
    }
    let no_namespace =
        json!({ "index": 0, "value": shape::CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" });
    rules.push(when("clone", no_namespace));
    rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}
