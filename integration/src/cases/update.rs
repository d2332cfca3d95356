//! update: each limit by its flag and by a document, what is refused, and that a failure changes nothing.

use crate::case::{Case, Res, broken, case, skip};
use crate::cgroup;
use crate::cx::{Container, Cx};
use crate::peer::Peer;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Flags, and what the files of v1 and v2 hold then. `|` separates what runtimes of different age write.
struct Limit {
    name: &'static str,
    flags: &'static [&'static str],
    document: &'static str,
    v1: &'static [(&'static str, &'static str)],
    v2: &'static [(&'static str, &'static str)],
}

const LIMITS: [Limit; 13] = [
    Limit {
        name: "cpu_share",
        flags: &["--cpu-share", "512"],
        document: r#"{"cpu":{"shares":512}}"#,
        v1: &[("cpu.shares", "512")],
        v2: &[("cpu.weight", "59|20")],
    },
    Limit {
        name: "cpu_quota_and_period",
        flags: &["--cpu-quota", "50000", "--cpu-period", "200000"],
        document: r#"{"cpu":{"quota":50000,"period":200000}}"#,
        v1: &[("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "200000")],
        v2: &[("cpu.max", "50000 200000")],
    },
    Limit {
        name: "cpu_burst",
        flags: &["--cpu-quota", "50000", "--cpu-burst", "20000"],
        document: r#"{"cpu":{"quota":50000,"burst":20000}}"#,
        v1: &[("cpu.cfs_burst_us", "20000"), ("cpu.cfs_quota_us", "50000")],
        v2: &[("cpu.max.burst", "20000"), ("cpu.max", "50000 100000")],
    },
    Limit {
        name: "cpu_idle",
        flags: &["--cpu-idle", "1"],
        document: r#"{"cpu":{"idle":1}}"#,
        v1: &[("cpu.idle", "1")],
        v2: &[("cpu.idle", "1")],
    },
    Limit {
        name: "cpuset_cpus_and_mems",
        flags: &["--cpuset-cpus", "0", "--cpuset-mems", "0"],
        document: r#"{"cpu":{"cpus":"0","mems":"0"}}"#,
        v1: &[("cpuset.cpus", "0"), ("cpuset.mems", "0")],
        v2: &[("cpuset.cpus", "0"), ("cpuset.mems", "0")],
    },
    Limit {
        name: "cpu_realtime",
        flags: &["--cpu-rt-runtime", "5000", "--cpu-rt-period", "1000000"],
        document: r#"{"cpu":{"realtimeRuntime":5000,"realtimePeriod":1000000}}"#,
        v1: &[("cpu.rt_runtime_us", "5000"), ("cpu.rt_period_us", "1000000")],
        v2: &[("cpu.rt_runtime_us", "5000")],
    },
    Limit {
        name: "memory",
        flags: &["--memory", "64M"],
        document: r#"{"memory":{"limit":67108864}}"#,
        v1: &[("memory.limit_in_bytes", "67108864")],
        v2: &[("memory.max", "67108864")],
    },
    Limit {
        name: "memory_with_a_fraction",
        flags: &["--memory", "1.5g"],
        document: r#"{"memory":{"limit":1610612736}}"#,
        v1: &[("memory.limit_in_bytes", "1610612736")],
        v2: &[("memory.max", "1610612736")],
    },
    Limit {
        name: "memory_reservation",
        flags: &["--memory-reservation", "32m"],
        document: r#"{"memory":{"reservation":33554432}}"#,
        v1: &[("memory.soft_limit_in_bytes", "33554432")],
        v2: &[("memory.low", "33554432")],
    },
    Limit {
        name: "memory_and_swap",
        flags: &["--memory", "64M", "--memory-swap", "96M"],
        document: r#"{"memory":{"limit":67108864,"swap":100663296}}"#,
        v1: &[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "100663296")],
        v2: &[("memory.max", "67108864"), ("memory.swap.max", "33554432")],
    },
    Limit {
        name: "memory_without_limit",
        flags: &["--memory", "-1"],
        document: r#"{"memory":{"limit":-1}}"#,
        v1: &[("memory.limit_in_bytes", "9223372036854771712"), ("memory.memsw.limit_in_bytes", "9223372036854771712")],
        v2: &[("memory.max", "max"), ("memory.swap.max", "max")],
    },
    Limit {
        name: "pids_limit",
        flags: &["--pids-limit", "100"],
        document: r#"{"pids":{"limit":100}}"#,
        v1: &[("pids.max", "100")],
        v2: &[("pids.max", "100")],
    },
    Limit {
        name: "blkio_weight",
        flags: &["--blkio-weight", "500"],
        document: r#"{"blockIO":{"weight":500}}"#,
        v1: &[("blkio.weight|blkio.bfq.weight", "500")],
        v2: &[("io.bfq.weight", "500")],
    },
];

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        case("update::several_at_once_and_the_rest_stays", several),
        case("update::one_after_the_other", in_turn),
        case("update::from_stdin_as_containerd_does", stdin),
        case("update::nothing_asked", nothing),
        case("update::of_a_created_one", created).differs("crun", "only of a running one"),
        case("update::of_a_paused_one", paused),
        case("update::of_a_stopped_one_is_refused", stopped).differs("crun", "it says that there is no such file"),
        case("update::of_an_unknown_one_is_refused", absent),
        case("update::bad_values_are_refused", bad_values)
            .only(&["ferrun", "runc"], "crun takes what atoi makes of it"),
        case("update::bad_documents_are_refused", bad_documents).differs("crun", "it takes what it can read of them"),
        case("update::a_schema_is_refused", schema).differs("crun", "it tries"),
        case("update::a_failure_changes_nothing", half_way)
            .only(&["ferrun"], "runc and crun leave what they had written"),
        case("update::a_memory_limit_below_what_is_used_is_refused_on_demand", check_before)
            .differs("runc", "1.1 does not look on v2")
            .differs("crun", "on v1 it says that the file is busy"),
        case("update::unified", unified),
        case("update::what_runc_does_and_says", like_runc).only(&["ferrun", "runc"], "crun does less"),
    ];
    for limit in &LIMITS {
        let by_flag = case(format!("update::{}_by_flag", limit.name), |cx| by_flag(cx, limit));
        let by_document = case(format!("update::{}_by_document", limit.name), |cx| by_document(cx, limit));
        for case in [by_flag, by_document] {
            let case = match limit.name {
                "cpu_burst" | "cpu_idle" => {
                    case.differs("runc", "1.1 does not know it").differs("crun", "it has no flag for it")
                }
                "memory_with_a_fraction" | "memory" | "memory_reservation" | "memory_and_swap" => {
                    case.differs("crun", "its flags take plain numbers")
                }
                "blkio_weight" => case.differs("crun", "it knows blkio.weight only, not bfq's"),
                _ => case,
            };
            all.push(case);
        }
    }
    all
}

/// The container's directories.
fn directories(cx: &Cx, c: &Container) -> Res<Vec<PathBuf>> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    let found = cgroup::paths(&text).into_iter().flat_map(cgroup::directories);
    let mut found: Vec<PathBuf> = found.filter(|d| !d.starts_with("/sys/fs/cgroup/unified")).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

fn file(directories: &[PathBuf], name: &str) -> Option<PathBuf> {
    let names = || name.split('|');
    directories.iter().flat_map(|d| names().map(move |name| d.join(name))).find(|path| path.exists())
}

fn value(directories: &[PathBuf], name: &str) -> Option<String> {
    Some(fs::read_to_string(file(directories, name)?).ok()?.trim().to_owned())
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn update(cx: &Cx, id: &str, args: &[&str]) -> Res {
    let out = cx.runtime("update").args(args).arg(id).out()?.ok()?;
    same!(out.stdout, "", "what update prints");
    Ok(())
}

fn holds(directories: &[PathBuf], limit: &Limit) -> Res {
    let wanted = if is_v2() { limit.v2 } else { limit.v1 };
    for (name, want) in wanted {
        let Some(got) = value(directories, name) else { return skip(format!("no {name} here")) };
        ensure!(want.split('|').any(|want| want == got), "{name}: got {got:?}, want {want:?}");
    }
    Ok(())
}

fn here(directories: &[PathBuf], limit: &Limit) -> Res {
    // a cgroup can hand on no more real-time than it has
    if limit.name == "cpu_realtime"
        && let Some(parent) = file(directories, "cpu.rt_runtime_us").as_deref().and_then(|path| path.ancestors().nth(2))
    {
        let _ = fs::write(parent.join("cpu.rt_runtime_us"), "10000");
    }
    let wanted = if is_v2() { limit.v2 } else { limit.v1 };
    match wanted.iter().find(|(name, _)| file(directories, name).is_none()) {
        Some((name, _)) => skip(format!("no {name} here")),
        None => Ok(()),
    }
}

fn by_flag(cx: &Cx, limit: &Limit) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    here(&directories, limit)?;
    update(cx, &c.id, limit.flags)?;
    holds(&directories, limit)?;
    same!(cx.status(&c.id)?, "running", "status");
    Ok(())
}

fn by_document(cx: &Cx, limit: &Limit) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    here(&directories, limit)?;
    let path = cx.path("resources.json");
    fs::write(&path, limit.document)?;
    update(cx, &c.id, &["--resources", &path.to_string_lossy()])?;
    holds(&directories, limit)
}

fn named(name: &str) -> Res<&'static Limit> {
    match LIMITS.iter().find(|limit| limit.name == name) {
        Some(limit) => Ok(limit),
        None => broken(format!("no limit {name}")),
    }
}

/// All that can be written, file by file.
fn settings(directories: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    for limit in &LIMITS {
        for (name, _) in limit.v1.iter().chain(limit.v2) {
            if let Some(path) = file(directories, name) {
                all.insert(path.clone(), fs::read_to_string(path).unwrap_or_default());
            }
        }
    }
    all
}

fn several(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let limits = [named("pids_limit")?, named("cpu_share")?];
    for limit in limits {
        here(&directories, limit)?;
    }
    let before = settings(&directories);
    let flags: Vec<&str> = limits.iter().flat_map(|limit| limit.flags.iter().copied()).collect();
    update(cx, &c.id, &flags)?;
    let mut changed = 0;
    for limit in limits {
        holds(&directories, limit)?;
    }
    for (path, now) in settings(&directories) {
        changed += usize::from(before.get(&path) != Some(&now));
    }
    same!(changed, 2, "files that have changed");
    Ok(())
}

fn in_turn(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let name = if is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    here(&directories, named("memory")?)?;
    // up, down, and beyond the swap limit that the first one may have left
    for (flag, want) in [("100663296", "100663296"), ("67108864", "67108864"), ("268435456", "268435456")] {
        update(cx, &c.id, &["--memory", flag])?;
        same!(value(&directories, name), Some(want.to_owned()), name);
    }
    Ok(())
}

fn stdin(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let limit = named("pids_limit")?;
    here(&directories, limit)?;
    // the other flags do not count then
    for args in [&["--resources=-"][..], &["-r", "-", "--pids-limit", "55"]] {
        cx.runtime("update").args(args).arg(&c.id).stdin(r#"{"pids":{"limit":100}}"#).out()?.ok()?;
        holds(&directories, limit)?;
    }
    Ok(())
}

fn nothing(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let before = settings(&directories);
    update(cx, &c.id, &[])?;
    cx.runtime("update").args(["-r", "-", &c.id]).stdin("{}").out()?.ok()?;
    same!(settings(&directories), before, "settings");
    Ok(())
}

fn created(cx: &Cx) -> Res {
    let c = cx.create(&cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let limit = named("pids_limit")?;
    here(&directories, limit)?;
    update(cx, &c.id, limit.flags)?;
    holds(&directories, limit)
}

fn paused(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let limit = named("pids_limit")?;
    here(&directories, limit)?;
    cx.runtime("pause").arg(&c.id).out()?.ok()?;
    update(cx, &c.id, limit.flags)?;
    holds(&directories, limit)?;
    same!(cx.status(&c.id)?, "paused", "status");
    Ok(())
}

fn stopped(cx: &Cx) -> Res {
    let c = cx.up(&cx.bundle()?)?;
    cx.stopped(&c.id)?;
    cx.runtime("update").args(["--pids-limit", "100", &c.id]).out()?.fails(&["container not running"])?;
    Ok(())
}

fn absent(cx: &Cx) -> Res {
    cx.runtime("update").args(["--pids-limit", "100", "nobody"]).out()?.fails(&["not exist", "no such file"])?;
    Ok(())
}

fn bad_values(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    let before = settings(&directories);
    for (flag, value) in [
        ("memory", "100X"),
        ("memory", "-2"),
        ("memory", "x"),
        ("memory-swap", "1k1"),
        ("memory-reservation", "5kk"),
        ("cpu-period", "x"),
        ("cpu-quota", "1.5"),
        ("cpu-share", "-5"),
        ("cpu-rt-period", "-1"),
        ("cpu-rt-runtime", "abc"),
        ("pids-limit", "x"),
        ("blkio-weight", "x"),
    ] {
        let out = cx.runtime("update").args([&format!("--{flag}"), value, &c.id]).out()?;
        let words = [format!("invalid value for {flag}"), format!("for flag -{flag}")];
        out.fails(&words.each_ref().map(String::as_str))?;
    }
    same!(settings(&directories), before, "settings");
    Ok(())
}

fn bad_documents(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    for document in ["", "{", "[1]x", r#"{"memory":{"limit":"lots"}}"#, r#"{"pids":{"limit":1e99}}"#] {
        cx.runtime("update").args(["-r", "-", &c.id]).stdin(document).out()?.fails(&[])?;
    }
    cx.runtime("update").args(["-r", "/nonexistent", &c.id]).out()?.fails(&["no such file"])?;
    Ok(())
}

fn schema(cx: &Cx) -> Res {
    if Path::new("/sys/fs/resctrl/schemata").exists() {
        return skip("there is resctrl here");
    }
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.runtime("update").args(["--l3-cache-schema", "L3:0=f", &c.id]).out()?.fails(&["Intel RDT/CAT"])?;
    cx.runtime("update").args(["--mem-bw-schema", "MB:0=50", &c.id]).out()?.fails(&["Intel RDT/MBA"])?;
    Ok(())
}

/// The last of these cannot be; whatever is written before it must be taken back.
fn half_way(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    here(&directories, named("pids_limit")?)?;
    let before = settings(&directories);
    for wrong in [["--cpuset-cpus", "999"], ["--cpuset-mems", "999"], ["--cpu-quota", "18446744073709551"]] {
        let out = cx
            .runtime("update")
            .args(["--pids-limit", "77", "--cpu-share", "333", "--memory", "64M"])
            .args(wrong)
            .arg(&c.id)
            .out()?
            .fails(&[])?;
        same!(out.error_lines(), 1, "lines of the error");
        same!(settings(&directories), before, format!("settings after {wrong:?}"));
    }
    same!(cx.status(&c.id)?, "running", "status");
    Ok(())
}

fn check_before(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    here(&directories, named("memory")?)?;
    let before = settings(&directories);
    let document = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}).to_string();
    cx.runtime("update").args(["-r", "-", &c.id]).stdin(document).out()?.fails(&["usage"])?;
    same!(settings(&directories), before, "settings");
    same!(cx.status(&c.id)?, "running", "status");
    Ok(())
}

fn unified(cx: &Cx) -> Res {
    if !is_v2() {
        return skip("v2 only");
    }
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let directories = directories(cx, &c)?;
    here(&directories, named("pids_limit")?)?;
    let document: Value = json!({"unified": {"pids.max": "44"}});
    cx.runtime("update").args(["-r", "-", &c.id]).stdin(document.to_string()).out()?.ok()?;
    same!(value(&directories, "pids.max"), Some("44".to_owned()), "pids.max");
    Ok(())
}

/// The same commands to both: the same files, the same exit status, and nothing printed.
fn like_runc(cx: &Cx) -> Res {
    let Some(peer) = Peer::runc(cx) else { return skip("runc is not installed") };
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    let ours = directories(cx, &c)?;
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    let other = peer.up(cx, &b)?;
    let compare = || -> Res {
        let pid: Value = serde_json::from_str(&peer.run(cx, "state").arg(&other).out()?.ok()?.stdout)?;
        let text = fs::read_to_string(format!("/proc/{}/cgroup", pid["pid"]))?;
        let theirs: Vec<PathBuf> = cgroup::paths(&text).into_iter().flat_map(cgroup::directories).collect();
        let names: Vec<&str> =
            LIMITS.iter().flat_map(|limit| limit.v1.iter().chain(limit.v2)).map(|(name, _)| *name).collect();
        // what 1.1 does not know, and the weight that 1.4 converts in another way
        let known = LIMITS.iter().filter(|limit| !["cpu_burst", "cpu_idle"].contains(&limit.name));
        let both = [&["--memory", "0"][..], &["--cpu-share", "0"], &["--pids-limit", "-1"], &["--memory", "2T"]];
        for flags in known.map(|limit| limit.flags).chain(both) {
            let one = cx.runtime("update").args(flags).arg(&c.id).out()?;
            let two = peer.run(cx, "update").args(flags).arg(&other).out()?;
            same!(one.code, two.code, format!("exit status of update {flags:?} ({} | {})", one.stderr, two.stderr));
            same!(one.stdout, two.stdout, "what update prints");
            for name in names.iter().filter(|name| **name != "cpu.weight") {
                same!(value(&ours, name), value(&theirs, name), format!("{name} after update {flags:?}"));
            }
        }
        Ok(())
    };
    let compared = compare();
    peer.delete(cx, &other)?;
    compared
}
