//! Namespaces: new, joined by path, or the host's.

use crate::case::{CRUN_LEAVES, Case, Res, case, skip};
use crate::cx::{Cx, namespace, string};
use crate::{ensure, same};
use serde_json::json;

/// Kind in the config, name in /proc/PID/ns.
const KINDS: [(&str, &str); 6] =
    [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("cgroup", "cgroup"), ("time", "time")];

const TIME: &str = "time namespaces came with runc 1.2; crun 1.8.1 ends with kill(-1), which takes the harness with it";

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (kind, file) in KINDS {
        let time = |c: Case| {
            if kind == "time" { c.only(&["ferrun"], TIME) } else { c }
        };
        all.push(time(case(format!("namespaces::{kind}_new"), move |cx| new(cx, kind, file))));
        all.push(time(case(format!("namespaces::{kind}_by_path"), move |cx| joined(cx, kind, file))));
        all.push(case(format!("namespaces::{kind}_of_the_host"), move |cx| hosts(cx, kind, file)));
    }
    all.extend([
        case("namespaces::mount_new", |cx| new(cx, "mount", "mnt")),
        case("namespaces::pid_1_in_a_new_pid_namespace", pid_one),
        case("namespaces::lo_is_up_in_a_new_network_namespace", lo_up),
        case("namespaces::lo_is_left_alone_in_a_joined_one", lo_joined),
        case("namespaces::time_offsets", time_offsets).only(&["ferrun"], TIME),
        case("namespaces::time_offsets_without_the_namespace_are_refused", time_alone).only(&["ferrun"], TIME),
        case("namespaces::hostname", hostname),
        case("namespaces::hostname_needs_a_uts_namespace", hostname_alone),
        case("namespaces::domainname", domainname).differs("runc", "came with runc 1.2"),
        case("namespaces::cgroup_root_is_the_containers_own", cgroup_root),
        case("namespaces::a_path_of_another_kind_is_refused", wrong_kind).differs("crun", CRUN_LEAVES),
        case("namespaces::a_missing_path_is_refused", missing_path).differs("crun", CRUN_LEAVES),
        case("namespaces::a_relative_path_is_refused", relative_path)
            .only(&["ferrun"], "the spec asks for absolute paths; runc and crun open what is there"),
        case("namespaces::a_kind_twice_is_refused", twice).differs("crun", "takes the last one"),
        case("namespaces::an_unknown_kind_is_refused", unknown).differs("crun", CRUN_LEAVES),
        case("namespaces::without_any", without_any)
            .only(&["ferrun", "crun"], "runc 1.1 does not take an empty list (`lstat : no such file or directory`)"),
    ]);
    all
}

fn new(cx: &Cx, kind: &str, file: &str) -> Res {
    let mut b = cx.bundle()?;
    b.namespace(kind, Some(""));
    let v = cx.probe(&mut b)?;
    ensure!(string(&v, &format!("/ns/{file}"))? != namespace("self", file)?, "{file} is the host's");
    Ok(())
}

fn hosts(cx: &Cx, kind: &str, file: &str) -> Res {
    let mut b = cx.bundle()?;
    b.namespace(kind, None);
    if kind == "uts" {
        b.unset("/hostname");
    }
    if kind == "network" {
        // sysfs shows a network namespace, mounting it needs to own that.
        b.unmount("/sys");
    }
    if kind == "ipc" && cx.is_mapped() && !std::path::Path::new("/dev/mqueue").exists() {
        return skip("the host has no /dev/mqueue, which alone can show its queues in a user namespace");
    }
    let v = cx.probe(&mut b)?;
    same!(string(&v, &format!("/ns/{file}"))?, namespace("self", file)?, format!("{file} namespace"));
    Ok(())
}

fn joined(cx: &Cx, kind: &str, file: &str) -> Res {
    let mut first = cx.bundle()?;
    first.namespace(kind, Some(""));
    let c = cx.sleeping(&mut first)?;
    let pid = cx.pid(&c.id)?;
    let mut b = cx.bundle()?;
    b.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    if cx.is_mapped() {
        // what is to be mounted of it belongs to that one's user namespace
        b.namespace("user", Some(&format!("/proc/{pid}/ns/user")));
    }
    if kind == "uts" {
        b.unset("/hostname");
    }
    let v = cx.probe(&mut b)?;
    same!(string(&v, &format!("/ns/{file}"))?, namespace(pid, file)?, format!("{file} namespace"));
    same!(cx.status(&c.id)?, "running", "the container that was joined");
    Ok(())
}

fn pid_one(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["pid"], json!(1), "pid");
    let seen = cx.sh(&mut b, "echo /proc/[0-9]*")?;
    same!(seen.trim(), "/proc/1", "processes in /proc");
    Ok(())
}

fn lo_up(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let seen = cx.sh(&mut b, "ip addr show lo")?;
    ensure!(seen.contains("UP") && seen.contains("127.0.0.1/8"), "{seen}");
    Ok(())
}

fn lo_joined(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    // The sandbox's own network namespace is new: its lo is down.
    b.namespace("network", Some("/proc/self/ns/net")).unmount("/sys");
    let seen = cx.sh(&mut b, "ip addr show lo")?;
    ensure!(!seen.contains("127.0.0.1"), "{seen}");
    Ok(())
}

fn time_offsets(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("time", Some(""));
    b.set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 172800, "nanosecs": 5}, "boottime": {"secs": 1000000, "nanosecs": 0}}),
    );
    let v = cx.probe(&mut b)?;
    let offsets: Vec<Vec<&str>> = string(&v, "/timens")?.lines().map(|l| l.split_whitespace().collect()).collect();
    ensure!(offsets.contains(&vec!["monotonic", "172800", "5"]), "{offsets:?}");
    ensure!(offsets.contains(&vec!["boottime", "1000000", "0"]), "{offsets:?}");
    let uptime: f64 = string(&v, "/uptime")?.split(' ').next().unwrap_or("0").parse().unwrap_or(0.0);
    ensure!(uptime > 1_000_000.0, "uptime is {uptime}");
    Ok(())
}

fn time_alone(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1, "nanosecs": 0}}));
    cx.run(&b)?.fails(&["time"])?;
    Ok(())
}

fn hostname(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/hostname", json!("other.example"));
    same!(cx.probe(&mut b)?["hostname"], json!("other.example"), "hostname");
    Ok(())
}

fn hostname_alone(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("uts", None).set("/hostname", json!("stolen"));
    cx.run(&b)?.fails(&["hostname", "uts"])?;
    Ok(())
}

fn domainname(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/domainname", json!("dom.example"));
    same!(cx.probe(&mut b)?["domainname"], json!("dom.example"), "domainname");
    Ok(())
}

fn cgroup_root(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("cgroup", Some(""));
    let v = cx.probe(&mut b)?;
    for path in crate::cgroup::paths(string(&v, "/cgroup")?) {
        same!(path, "/", "path in /proc/self/cgroup");
    }
    Ok(())
}

fn wrong_kind(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("network", Some("/proc/self/ns/ipc")).unmount("/sys");
    cx.run(&b)?.fails(&[])?;
    b.namespace("network", Some("/etc/passwd"));
    cx.run(&b)?.fails(&[])?;
    Ok(())
}

fn missing_path(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("network", Some("/no/such/ns"));
    cx.run(&b)?.fails(&["no such file"])?;
    Ok(())
}

fn relative_path(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.host_ids().namespace("network", Some("ns/net"));
    cx.run(&b)?.fails(&["/linux/namespaces/4/path"])?;
    Ok(())
}

fn twice(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/namespaces", json!({"type": "pid"}));
    cx.run(&b)?.fails(&["namespace", "duplicated ns"])?;
    Ok(())
}

fn unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/namespaces", json!({"type": "quantum"}));
    cx.run(&b)?.fails(&["quantum", "namespace"])?;
    Ok(())
}

/// The container's process in all of the host's namespaces; only its root differs.
fn without_any(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.host_ids().set("/linux/namespaces", json!([])).set("/mounts", json!([])).unset("/hostname");
    b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
    same!(cx.sh(&mut b, "ls -d /probe")?, "/probe\n", "the root");
    Ok(())
}
