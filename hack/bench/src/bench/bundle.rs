//! The bundles, written per runtime (each has its own cgroup path), over one root file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ferrun_bench::{shape, syscalls};
use serde_json::{Map, Value, json};

use crate::Res;
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
}

pub(crate) const PROOF: i32 = 42;

impl Payload {
    const ALL: [Payload; 4] = [Payload::True, Payload::Small, Payload::Sleep, Payload::Proof];

    fn name(self) -> &'static str {
        match self {
            Payload::True => "true",
            Payload::Small => "small",
            Payload::Sleep => "sleep",
            Payload::Proof => "proof",
        }
    }

    fn args(self) -> Value {
        match self {
            Payload::True | Payload::Small => json!(["true"]),
            Payload::Sleep => json!(["sleep", "1000"]),
            Payload::Proof => json!(["sh", "-c", format!("exit {PROOF}")]),
        }
    }
}

pub(crate) fn dir(place: &Place, runtime: &str, bundle: Bundle, payload: Payload) -> PathBuf {
    place.dir.join(format!("bundles/{runtime}-{}-{}", bundle.name(), payload.name()))
}

/// Of the container, relative to a hierarchy's root.
pub(crate) fn cgroup(place: &Place, runtime: &str, bundle: Bundle) -> String {
    format!("{}/{runtime}-{}", place.cgroup, bundle.name())
}

pub(crate) fn rootfs(place: &Place, payload: Payload) -> PathBuf {
    place.dir.join(if payload == Payload::Small { "rootfs-small" } else { "rootfs" })
}

pub(crate) fn write_all(place: &Place, runtimes: &[Runtime], limits: bool) -> Res<()> {
    make_rootfs(place, &runtimes[0].path)
        .map_err(|e| format!("root file system from /bin/busybox (busybox-static): {e}"))?;
    for runtime in runtimes {
        for bundle in Bundle::ALL {
            for payload in Payload::ALL {
                let dir = dir(place, &runtime.name, bundle, payload);
                let cgroup = format!("/{}", cgroup(place, &runtime.name, bundle));
                let config = config(place, bundle, payload, &cgroup, limits);
                let write =
                    fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("config.json"), config.to_string()));
                write.map_err(|e| format!("{}: {e}", dir.display()))?;
            }
        }
    }
    Ok(())
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
    for applet in ["sh", "true", "sleep"] {
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
            "cgroupsPath": cgroup,
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
