//! events: the numbers, the stream, what it says when memory runs out, and that it is what runc says.

use crate::case::{Case, Context, Res, broken, case, skip};
use crate::cases::resources::where_we_limit;
use crate::cgroup;
use crate::cx::{Container, Cx};
use crate::peer::Peer;
use crate::run::{Job, eventually};
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    let all = vec![
        case("events::stats_are_plausible", stats),
        case("events::stats_have_the_keys_that_go_runc_reads", keys),
        case("events::stats_of_a_paused_one", paused),
        case("events::stats_count_cpu_time_and_processes", counts),
        case("events::stream_comes_at_the_interval", stream),
        case("events::stream_ends_with_the_container", end)
            .differs("runc", "on v1 its stream ends when the cgroup is removed"),
        case("events::oom_of_a_child_is_told", oom_child),
        where_we_limit(case("events::oom_of_the_init_is_told_before_the_end", oom_init))
            .differs("runc", "on v1 its stream ends when the cgroup is removed"),
        case("events::of_a_stopped_one_is_refused", stopped),
        case("events::of_an_unknown_one_is_refused", absent),
        case("events::bad_intervals_are_refused", intervals),
        case("events::what_runc_prints_key_by_key", like_runc),
    ];
    all.into_iter().map(|case| case.only(&["ferrun", "runc"], "crun has no events")).collect()
}

fn once(cx: &Cx, id: &str) -> Res<Value> {
    let out = cx.runtime("events").args(["--stats", id]).out()?.ok()?;
    same!(out.stdout.lines().count(), 1, "lines of events --stats");
    let event: Value = serde_json::from_str(&out.stdout).context("events --stats is not JSON")?;
    same!(event["type"], json!("stats"), "type");
    same!(event["id"], json!(id), "id");
    Ok(event["data"].clone())
}

/// The container's directory that has this file.
fn directory(cx: &Cx, c: &Container, file: &str) -> Res<Option<PathBuf>> {
    let path = fs::read_to_string(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    let below = cgroup::paths(&path).into_iter().flat_map(cgroup::directories);
    Ok(below.filter(|d| !d.starts_with("/sys/fs/cgroup/unified")).find(|d| d.join(file).exists()))
}

fn counts_memory(cx: &Cx, c: &Container) -> Res<bool> {
    Ok(directory(cx, c, "memory.usage_in_bytes")?.or(directory(cx, c, "memory.current")?).is_some())
}

fn stats(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let data = once(cx, &c.id)?;
    if counts_memory(cx, &c)? {
        let usage = data["memory"]["usage"]["usage"].as_u64().unwrap_or(0);
        ensure!((4096..1 << 30).contains(&usage), "memory usage is {usage}");
        let limit = data["memory"]["usage"]["limit"].as_u64().unwrap_or(0);
        ensure!(limit > usage, "memory limit is {limit}");
        ensure!(data["memory"]["raw"].as_object().is_some_and(|raw| raw.len() > 10), "raw: {}", data["memory"]["raw"]);
    }
    // the shell, and mostly a sleep
    ensure!((1..=2).contains(&data["pids"]["current"].as_u64().unwrap_or(0)), "pids: {}", data["pids"]);
    Ok(())
}

fn keys(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let data = once(cx, &c.id)?;
    for pointer in [
        "/cpu/usage/kernel",
        "/cpu/usage/user",
        "/cpu/throttling",
        "/cpuset/cpu_exclusive",
        "/memory/usage/limit",
        "/memory/usage/failcnt",
        "/memory/swap/limit",
        "/memory/kernel/failcnt",
        "/memory/kernelTCP/limit",
        "/pids",
        "/blkio",
        "/hugetlb",
        "/intel_rdt",
        "/network_interfaces",
    ] {
        ensure!(data.pointer(pointer).is_some(), "{pointer} is missing in {data}");
    }
    Ok(())
}

fn paused(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.runtime("pause").arg(&c.id).out()?.ok()?;
    let data = once(cx, &c.id)?;
    ensure!(data["pids"]["current"].as_u64() > Some(0), "pids: {}", data["pids"]);
    Ok(())
}

fn counts(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.sh("sleep 100 & sleep 100 & echo up; while :; do :; done"))?;
    cx.hears(&c, "up")?;
    let total = |data: &Value| data["cpu"]["usage"]["total"].as_u64().unwrap_or(0);
    let before = once(cx, &c.id)?;
    same!(before["pids"]["current"], json!(3), "processes");
    eventually("20 ms of processor time", || Ok(total(&once(cx, &c.id)?) > total(&before) + 20_000_000))
}

fn listen(cx: &Cx, id: &str, interval: &str) -> Res<Job> {
    let job = cx.runtime("events").args(["--interval", interval, id]).spawn()?;
    if interval.ends_with("ms") {
        eventually("the stream has begun", || Ok(!job.stdout_now().is_empty()))?;
    } else {
        // it says nothing: but it waits, and goes on waiting
        let mut looks = 0;
        eventually("it waits", || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", job.pid())).unwrap_or_default();
            looks = if stat.contains(") S ") { looks + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(20));
            Ok(looks > 20)
        })?;
    }
    Ok(job)
}

fn kinds(text: &str) -> Res<Vec<String>> {
    let mut kinds = Vec::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).context(line)?;
        kinds.push(event["type"].as_str().unwrap_or_default().to_owned());
    }
    Ok(kinds)
}

fn stream(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let begin = Instant::now();
    let job = listen(cx, &c.id, "200ms")?;
    eventually("five reports", || Ok(job.stdout_now().lines().count() >= 5))?;
    let took = begin.elapsed();
    cx.delete_force(&c.id)?;
    let out = job.wait()?;
    ensure!(took > Duration::from_millis(900), "five reports took {took:?}");
    let kinds = kinds(&out.stdout)?;
    ensure!(kinds.iter().all(|kind| kind == "stats"), "{kinds:?}");
    Ok(())
}

fn end(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let job = listen(cx, &c.id, "1h")?;
    let begin = Instant::now();
    cx.kill(&c.id, "KILL")?;
    let out = job.wait()?.ok()?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "it went on for {:?}", begin.elapsed());
    same!(out.stdout, "", "what the stream said");
    Ok(())
}

/// A limit set past the runtime, on the kernel's own file.
fn limit(cx: &Cx, c: &Container) -> Res {
    for file in ["memory.limit_in_bytes", "memory.max"] {
        if let Some(directory) = directory(cx, c, file)? {
            fs::write(directory.join(file), "16777216")?;
            return Ok(());
        }
    }
    skip("nobody counts memory here")
}

const FILL: &str = "dd if=/dev/zero of=/dev/null bs=64M count=1";

fn oom_child(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(&format!("trap '{FILL}; echo survived' USR1; echo up; while :; do sleep 0.05; done"));
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    limit(cx, &c)?;
    let job = listen(cx, &c.id, "1h")?;
    cx.kill(&c.id, "USR1")?;
    cx.hears(&c, "survived")?;
    let line = json!({"type": "oom", "id": c.id});
    eventually("the stream tells of it", || {
        Ok(job.stdout_now().lines().any(|l| serde_json::from_str::<Value>(l).ok().as_ref() == Some(&line)))
    })?;
    same!(cx.status(&c.id)?, "running", "status");
    cx.delete_force(&c.id)?;
    job.wait()?.ok()?;
    Ok(())
}

fn oom_init(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(&format!("trap 'exec {FILL}' USR1; echo up; while :; do sleep 0.05; done"));
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    limit(cx, &c)?;
    let job = listen(cx, &c.id, "1h")?;
    cx.kill(&c.id, "USR1")?;
    let out = job.wait()?.ok()?;
    same!(kinds(&out.stdout)?, ["oom"], "events");
    cx.stopped(&c.id)
}

fn stopped(cx: &Cx) -> Res {
    let c = cx.up(&cx.bundle()?)?;
    cx.stopped(&c.id)?;
    cx.runtime("events").args(["--stats", &c.id]).out()?.fails(&["is not running"])?;
    cx.runtime("events").arg(&c.id).out()?.fails(&["is not running"])?;
    Ok(())
}

fn absent(cx: &Cx) -> Res {
    cx.runtime("events").args(["--stats", "nobody"]).out()?.fails(&["does not exist"])?;
    Ok(())
}

fn intervals(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    for interval in ["0s", "-1s", "0"] {
        let run = cx.runtime("events").arg(format!("--interval={interval}")).arg(&c.id);
        run.out()?.fails(&["duration interval must be greater than 0"])?;
    }
    for interval in ["5", "1x", "", "s"] {
        cx.runtime("events").arg(format!("--interval={interval}")).arg(&c.id).out()?.fails(&["interval"])?;
    }
    Ok(())
}

/// The names of all keys, in the order of the text.
fn sequence(text: &str) -> Vec<&str> {
    text.split("\":").filter_map(|part| part.rsplit_once('"').map(|(_, key)| key)).collect()
}

/// Keys that are in one only must be numbers, which are left out when they are 0, or lists.
fn compare(at: &str, ours: &Value, theirs: &Value) -> Res {
    let (Some(a), Some(b)) = (ours.as_object(), theirs.as_object()) else {
        let kind = |v: &Value| (v.is_u64() || v.is_i64(), v.is_array(), v.is_string(), v.is_null(), v.is_object());
        ensure!(kind(ours) == kind(theirs), "{at}: {ours} is not of the kind of {theirs}");
        return Ok(());
    };
    for (key, value) in a {
        match b.get(key) {
            Some(other) => compare(&format!("{at}/{key}"), value, other)?,
            // runc has it since 1.2
            None if key == "psi" => {}
            None => ensure!(value.is_u64() || value.is_array(), "{at}/{key} is not in runc's"),
        }
    }
    for (key, value) in b {
        ensure!(a.contains_key(key) || value.is_u64() || value.is_array(), "{at}/{key} of runc's is missing");
    }
    Ok(())
}

fn like_runc(cx: &Cx) -> Res {
    let Some(peer) = Peer::runc(cx) else { return skip("runc is not installed") };
    let mut b = cx.bundle()?;
    b.sh("echo up; while :; do sleep 0.01; cat /bin/busybox > /dev/null; done");
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    let other = peer.up(cx, &b)?;
    std::thread::sleep(Duration::from_millis(300));
    let theirs = peer.run(cx, "events").args(["--stats", &other]).out();
    let ours = cx.runtime("events").args(["--stats", &c.id]).out()?.ok()?.stdout;
    peer.delete(cx, &other)?;
    let theirs = theirs?.ok()?.stdout;
    let (Ok(a), Ok(b)) = (serde_json::from_str::<Value>(&ours), serde_json::from_str::<Value>(&theirs)) else {
        return broken(format!("not JSON: {ours} or {theirs}"));
    };
    compare("", &a, &b)?;
    let (a, b) = (sequence(&ours), sequence(&theirs));
    let common = |of: &[&str], with: &[&str]| -> Vec<String> {
        of.iter().filter(|key| with.contains(key)).map(|key| (*key).to_owned()).collect()
    };
    // a key that comes in several places may be left out in one of them
    let several = ["usage", "total", "max", "limit", "major", "minor", "op", "value"];
    let order =
        |keys: Vec<String>| -> Vec<String> { keys.into_iter().filter(|k| !several.contains(&k.as_str())).collect() };
    same!(order(common(&a, &b)), order(common(&b, &a)), "the order of the keys");
    Ok(())
}
