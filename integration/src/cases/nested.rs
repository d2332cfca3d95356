//! The runtime below itself: in a privileged container, in one with a user namespace, and below `unshare -Ur`.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::Cx;
use crate::run::Out;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const OWN: &str = "the program is taken into the container, and must be static";
const IN_OURS: &str = "with --userns it is in another user namespace already";

pub fn cases() -> Vec<Case> {
    let all = vec![
        case("nested::in_a_privileged_container", |cx| inside(cx, false, false)),
        case("nested::in_a_privileged_container_with_a_user_namespace", |cx| inside(cx, false, true)),
        case("nested::in_a_user_namespace", |cx| inside(cx, true, false)),
        case("nested::in_a_user_namespace_with_another", |cx| inside(cx, true, true)),
        case("nested::id_mapped_twice_is_refused", mapped_twice),
        case("nested::without_cgroups_device_rules_need_none", no_cgroups),
    ];
    let mut all: Vec<Case> = all.into_iter().map(|case| case.only(&["ferrun"], OWN)).collect();
    all.extend([
        case("nested::below_unshare", |cx| unshared(cx, false)),
        case("nested::below_unshare_with_a_user_namespace", |cx| unshared(cx, true)),
        case("nested::below_unshare_among_the_processes_of_another", among_others),
    ]);
    for errno in ["ENOSYS", "EPERM"] {
        let name = format!("nested::where_clone3_is_{}", errno.to_lowercase());
        all.push(case(name, move |cx| clone3_refused(cx, errno)).differs("runc", "its Go aborts at EPERM"));
    }
    all.into_iter().map(|case| case.without_userns(IN_OURS)).collect()
}

/// What is done with the runtime `$R` and the bundles of [`bundles`]: the words of each step, in order.
const LIFE: &str = "
    set -e
    $R run --bundle $B/once once
    $R create --bundle $B/long long
    $R state long | grep -q '\"status\": \"created\"' && echo created
    $R start long
    $R exec long echo entered
    $R kill long KILL
    until $R state long | grep -q '\"status\": \"stopped\"'; do sleep 0.05; done
    $R delete long
    $R list -q";

const LIVED: &str = "ran as 0\ncreated\nentered\n";

/// `once` says who it is, `long` goes on until it is killed.
fn bundles(cx: &Cx, dir: &Path, edit: impl Fn(&mut Bundle)) -> Res {
    for (name, script) in [("once", "echo ran as $(id -u)"), ("long", "while :; do sleep 0.05; done")] {
        let mut b = Bundle::new(dir.join(name), &cx.options.base.join("template"), &cx.cgroup())?;
        b.set("/process/capabilities", Value::Null);
        edit(b.sh(script));
        b.save()?;
    }
    Ok(())
}

fn lived(out: Out) -> Res {
    same!(out.ok()?.stdout, LIVED, "what it did");
    Ok(())
}

/// All that a container can be given, the runtime among it.
fn outer(cx: &Cx) -> Res<Bundle> {
    let mut b = cx.bundle()?;
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").context("cap_last_cap")?;
    ensure!(last.trim() == "40", "another kernel with other capabilities: {last}");
    let sets: Vec<&str> = ALL.split(' ').collect();
    b.set("/process/capabilities", json!({"bounding": sets, "effective": sets, "permitted": sets}));
    b.set("/process/noNewPrivileges", json!(false));
    b.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    b.namespace("cgroup", Some(""));
    b.bind(&cx.options.runtime, "/runtime", &["bind", "ro"]).mount("/run", "tmpfs", "tmpfs", &["mode=755"]);
    Ok(b)
}

const ALL: &str = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID \
    CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK \
    CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT \
    CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE \
    CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND \
    CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE";

/// In a container, itself in a user namespace or not, another one, that may have one too.
fn inside(cx: &Cx, outer_users: bool, inner_users: bool) -> Res {
    let mut b = outer(cx)?;
    let mut globals = String::new();
    if outer_users {
        // nobody has given it any cgroups
        globals = " --cgroup-manager disabled".to_owned();
        b.map_ids().given = true;
    } else {
        b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "nodev", "noexec"]);
    }
    bundles(cx, &b.rootfs().join("inner"), |inner| {
        inner.set("/linux/cgroupsPath", json!("/inner"));
        if inner_users {
            let ids = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
            inner.namespace("user", Some("")).set("/linux/uidMappings", ids.clone()).set("/linux/gidMappings", ids);
        }
    })?;
    let set = format!("R='/runtime --root /run/containers{globals}' B=/inner");
    lived(cx.run(b.sh(&format!("{set}; {LIFE}")))?)
}

/// The inner runtime says which mount it is that cannot be mapped again.
fn mapped_twice(cx: &Cx) -> Res {
    let dir = cx.path("shared");
    fs::create_dir(&dir)?;
    let mut b = outer(cx)?;
    let ids = json!([{"containerID": 0, "hostID": 1000, "size": 1000}]);
    b.bind(&dir, "/mapped", &["bind"]);
    let last = b.config["mounts"].as_array().map_or(0, Vec::len) - 1;
    let lists = |b: &mut Bundle, n: usize| {
        b.set(&format!("/mounts/{n}/uidMappings"), ids.clone()).set(&format!("/mounts/{n}/gidMappings"), ids.clone());
    };
    lists(&mut b, last);
    bundles(cx, &b.rootfs().join("inner"), |inner| {
        inner.bind("/mapped", "/mnt", &["bind"]);
        lists(inner, 6);
    })?;
    b.sh("/runtime --root /run/containers --cgroup-manager disabled run --bundle /inner/once once");
    cx.run(&b)?.fails(&["the mount at /mapped is id-mapped already"])?;
    Ok(())
}

/// To a user namespace nobody gives device rules: there no device can be made. Other limits nothing would keep.
fn no_cgroups(cx: &Cx) -> Res {
    let mut b = outer(cx)?;
    b.map_ids().given = true;
    for name in ["denied", "limited"] {
        bundles(cx, &b.rootfs().join(name), |inner| {
            inner.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
            if name == "limited" {
                inner.set("/linux/resources/pids", json!({"limit": 5}));
            }
        })?;
    }
    same!(cx.sh(&mut b, "/runtime run --bundle /denied/once once")?, "ran as 0\n", "what it did");
    b.sh("/runtime run --bundle /limited/once once");
    cx.run(&b)?.fails(&["there are no cgroups here (config.json /linux/resources/pids/limit)"])?;
    Ok(())
}

/// A user who has become the root of nothing but themselves; there is no group but theirs either.
fn unshared(cx: &Cx, users: bool) -> Res {
    let dir = cx.path("inner");
    bundles(cx, &dir, |inner| {
        inner.set("/mounts/2/options", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]));
        if users {
            let own = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            inner.namespace("user", Some("")).set("/linux/uidMappings", own.clone()).set("/linux/gidMappings", own);
        }
    })?;
    below_unshare(cx, &dir, &["--pid", "--fork", "--mount-proc"], LIFE, LIVED)
}

fn below_unshare(cx: &Cx, dir: &Path, flags: &[&str], script: &str, wanted: &str) -> Res {
    let runtime = cx.options.runtime.display();
    let disabled = if cx.is("ferrun") { " --cgroup-manager disabled" } else { "" };
    let set = format!("R='{runtime} --root {}{disabled}' B={}", cx.root().display(), dir.display());
    let out = Command::new("unshare")
        .args(["-Ur", "--mount"])
        .args(flags)
        .args(["/bin/sh", "-c", &format!("{set}; {script}")])
        .output()?;
    let said = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success() && said == wanted, "{said:?}: {}", String::from_utf8_lossy(&out.stderr).trim());
    Ok(())
}

/// The runtime's own pid namespace is of another user namespace: there is no way back into it. A hook has to be there
/// nevertheless.
fn among_others(cx: &Cx) -> Res {
    let dir = cx.path("inner");
    bundles(cx, &dir, |inner| {
        inner.set("/mounts/2/options", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]));
        if inner.dir.ends_with("once") {
            let tell = format!("readlink /proc/self/ns/pid > {}/hook", dir.display());
            inner.push("/hooks/createRuntime", json!({"path": "/bin/sh", "args": ["sh", "-c", tell]}));
            inner.namespace("pid", Some("/proc/PID/ns/pid")).sh("[ $$ != 1 ] && echo beside");
        }
    })?;
    let script = "
        set -e
        $R run --detach --bundle $B/long --pid-file $B/pid long < /dev/null > /dev/null 2>&1
        sed -i \"s|PID|$(cat $B/pid)|\" $B/once/config.json
        $R run --bundle $B/once once
        [ \"$(cat $B/hook)\" = \"$(readlink /proc/self/ns/pid)\" ]
        $R delete --force long";
    below_unshare(cx, &dir, &[], script, "beside\n")
}

/// As below Docker, whose own filter answers so.
fn clone3_refused(cx: &Cx, errno: &str) -> Res {
    fs::create_dir(cx.path("denied"))?;
    let options = crate::options::Options { deny: format!("clone3={errno}"), ..cx.options.clone() };
    let denied = Cx::new(options, cx.path("denied"));
    let mut b = denied.bundle()?;
    same!(denied.sh(&mut b, "echo ran as $(id -u)")?, "ran as 0\n", "what it did");
    let c = denied.sleeping(&mut b)?;
    let out = denied.runtime("exec").args([&c.id, "/bin/echo", "entered"]).out()?.ok()?;
    same!(out.stdout, "entered\n", "what the exec did");
    let mut b = denied.bundle()?;
    b.map_ids();
    same!(denied.sh(&mut b, "echo ran as $(id -u)")?, "ran as 0\n", "what it did in a user namespace");
    denied.delete_force(&c.id)?;
    denied.sweep()
}
