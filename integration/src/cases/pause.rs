//! pause and resume: that everything stops, goes on, can be ended meanwhile, and is never left frozen.

use crate::bundle::Bundle;
use crate::case::{Case, Res, broken, case, skip};
use crate::cgroup;
use crate::cx::{Container, Cx};
use crate::fuse::Silent;
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    vec![
        case("pause::stops_the_program_and_resume_lets_it_go_on", counter),
        case("pause::stops_all_processes_also_in_sub_cgroups", children),
        case("pause::state_and_list_say_paused", status),
        case("pause::of_a_created_one", created)
            .only(&["ferrun", "runc"], "crun pauses it and still says created, and start takes it"),
        case("pause::of_a_paused_one_is_refused", twice).differs("crun", "it freezes it once more"),
        case("pause::resume_of_a_running_one_is_refused", not_paused).differs("crun", "it thaws it once more"),
        case("pause::of_a_stopped_one_is_refused", stopped),
        case("pause::of_an_unknown_one_is_refused", absent),
        case("pause::a_paused_one_is_killed", killed).differs("crun", "on v1 it dies when it is resumed"),
        case("pause::other_signals_wait_for_resume", signalled),
        case("pause::a_paused_one_is_deleted_by_force_only", deleted),
        case("pause::kill_all_reaches_the_paused", kill_all),
        case("pause::a_paused_one_with_the_hosts_pid_namespace_is_killed", host_pid_namespace),
        case("pause::of_one_that_forks_all_the_time", forking)
            .differs("crun", "on v2 it does not wait until all are frozen"),
        case("pause::a_process_that_does_not_freeze_is_named_and_all_go_on", stuck)
            .only(&["ferrun"], "runc tries for half a minute, crun for ever"),
        case("pause::below_a_frozen_parent_delete_ends_or_says_why", frozen_parent)
            .only(&["ferrun"], "runc waits longer than a command may take here, crun for ever"),
    ]
}

const COUNT: &str = "while :; do echo .; sleep 0.01; done";

fn path_of(b: &Bundle) -> String {
    b.cgroup()
}

/// The directory that freezes the container.
fn freezer(path: &str) -> Res<PathBuf> {
    let has = |d: &PathBuf| d.join("freezer.state").exists() || d.join("cgroup.freeze").exists();
    match cgroup::directories(path).into_iter().filter(|d| !d.starts_with("/sys/fs/cgroup/unified")).find(has) {
        Some(directory) => Ok(directory),
        None => skip("no freezer here"),
    }
}

/// Writes to the kernel's own file, past the runtime.
fn freeze(directory: &std::path::Path, on: bool) -> Res {
    let v1 = directory.join("freezer.state");
    if v1.exists() {
        fs::write(v1, if on { "FROZEN" } else { "THAWED" })?;
    } else {
        fs::write(directory.join("cgroup.freeze"), if on { "1" } else { "0" })?;
    }
    Ok(())
}

fn frozen(directory: &std::path::Path) -> bool {
    let says = |file: &str, word: &str| fs::read_to_string(directory.join(file)).is_ok_and(|text| text.trim() == word);
    says("freezer.state", "FROZEN") || says("freezer.state", "FREEZING") || says("cgroup.freeze", "1")
}

fn pause(cx: &Cx, id: &str) -> Res {
    cx.runtime("pause").arg(id).out()?.ok().map(drop)
}

fn resume(cx: &Cx, id: &str) -> Res {
    cx.runtime("resume").arg(id).out()?.ok().map(drop)
}

/// Nothing is said for a while.
fn is_silent(c: &Container) -> Res {
    let before = c.said().len();
    std::thread::sleep(Duration::from_millis(150));
    same!(c.said().len(), before, "bytes that the paused container wrote");
    Ok(())
}

fn is_heard(c: &Container) -> Res {
    let before = c.said().len();
    eventually("the container writes", || Ok(c.said().len() > before + 2))
}

fn counter(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.sh(COUNT))?;
    for _ in 0..3 {
        is_heard(&c)?;
        pause(cx, &c.id)?;
        is_silent(&c)?;
        resume(cx, &c.id)?;
    }
    is_heard(&c)
}

fn children(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.sh(&format!("sh -c '{COUNT}' & sh -c 'sh -c \"{COUNT}\"' & echo $!; {COUNT}")))?;
    is_heard(&c)?;
    let child = cgroup::procs(&freezer(&path_of(&b))?).into_iter().max().unwrap_or(0);
    let below = freezer(&path_of(&b))?.join("below");
    fs::create_dir(&below)?;
    fs::write(below.join("cgroup.procs"), child.to_string())?;
    pause(cx, &c.id)?;
    is_silent(&c)?;
    resume(cx, &c.id)?;
    is_heard(&c)?;
    cx.delete_force(&c.id).map(drop)
}

fn status(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let pid = cx.pid(&c.id)?;
    pause(cx, &c.id)?;
    same!(cx.status(&c.id)?, "paused", "status");
    same!(cx.pid(&c.id)?, pid, "pid");
    let rows: Value = serde_json::from_str(&cx.runtime("list").args(["--format", "json"]).out()?.ok()?.stdout)?;
    same!(rows[0]["status"], json!("paused"), "status in the list");
    resume(cx, &c.id)?;
    same!(cx.status(&c.id)?, "running", "status");
    Ok(())
}

fn created(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.create(b.sh("echo ran"))?;
    pause(cx, &c.id)?;
    same!(cx.status(&c.id)?, "paused", "status");
    cx.runtime("start").arg(&c.id).out()?.fails(&["paused state"])?;
    resume(cx, &c.id)?;
    same!(cx.status(&c.id)?, "created", "status");
    cx.start(&c.id)?;
    cx.hears(&c, "ran")
}

fn twice(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    pause(cx, &c.id)?;
    cx.runtime("pause").arg(&c.id).out()?.fails(&["container not running"])?;
    same!(cx.status(&c.id)?, "paused", "the status after the refusal");
    Ok(())
}

fn not_paused(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.runtime("resume").arg(&c.id).out()?.fails(&["container not paused"])?;
    same!(cx.status(&c.id)?, "running", "the status after the refusal");
    Ok(())
}

fn stopped(cx: &Cx) -> Res {
    let c = cx.up(&cx.bundle()?)?;
    cx.stopped(&c.id)?;
    cx.runtime("pause").arg(&c.id).out()?.fails(&["not running"])?;
    cx.runtime("resume").arg(&c.id).out()?.fails(&["not paused", "not running"])?;
    same!(cx.status(&c.id)?, "stopped", "the status after the refusals");
    Ok(())
}

fn absent(cx: &Cx) -> Res {
    for verb in ["pause", "resume"] {
        cx.runtime(verb).arg("nobody").out()?.fails(&["not exist", "no such file"])?;
    }
    Ok(())
}

fn killed(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    pause(cx, &c.id)?;
    cx.kill(&c.id, "KILL")?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    ensure!(cgroup::directories(&path_of(&b)).is_empty(), "left: {:?}", cgroup::directories(&path_of(&b)));
    Ok(())
}

fn signalled(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.sh("trap 'echo heard; exit' TERM; echo up; while :; do sleep 0.02; done"))?;
    cx.hears(&c, "up")?;
    pause(cx, &c.id)?;
    cx.kill(&c.id, "TERM")?;
    std::thread::sleep(Duration::from_millis(100));
    same!(cx.status(&c.id)?, "paused", "status");
    ensure!(!c.said().contains("heard"), "the paused program handled a signal");
    resume(cx, &c.id)?;
    cx.hears(&c, "heard")?;
    cx.stopped(&c.id)
}

fn deleted(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    pause(cx, &c.id)?;
    cx.runtime("delete").arg(&c.id).out()?.fails(&["not stopped", "not in `created` or `stopped`"])?;
    same!(cx.status(&c.id)?, "paused", "the status after the refusal");
    cx.delete_force(&c.id)?;
    ensure!(cgroup::directories(&path_of(&b)).is_empty(), "left: {:?}", cgroup::directories(&path_of(&b)));
    Ok(())
}

fn kill_all(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.namespace("pid", None).sh("setsid sleep 100 & echo $!; exec sleep 100"))?;
    cx.hears(&c, "\n")?;
    let child = c.said().trim().to_owned();
    pause(cx, &c.id)?;
    cx.runtime("kill").args(["--all", &c.id, "KILL"]).out()?.ok()?;
    eventually("the child is dead", || Ok(fs::metadata(format!("/proc/{child}")).is_err()))?;
    cx.stopped(&c.id)
}

/// The signal for the init alone ends the others as well.
fn host_pid_namespace(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.namespace("pid", None).sh("setsid sleep 100 & echo $!; exec sleep 100"))?;
    cx.hears(&c, "\n")?;
    let child = c.said().trim().to_owned();
    pause(cx, &c.id)?;
    if cx.is("ferrun") {
        cx.kill(&c.id, "KILL")?;
    } else {
        // runc does so since 1.2
        cx.runtime("kill").args(["--all", &c.id, "KILL"]).out()?.ok()?;
    }
    eventually("the child is dead", || Ok(fs::metadata(format!("/proc/{child}")).is_err()))?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    Ok(())
}

fn forking(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.sh("echo up; for i in 1 2 3; do (while :; do (true); done) & done; while :; do (true); done"))?;
    cx.hears(&c, "up")?;
    let directory = freezer(&path_of(&b))?;
    for _ in 0..5 {
        pause(cx, &c.id)?;
        let before = cgroup::procs(&directory);
        std::thread::sleep(Duration::from_millis(30));
        same!(cgroup::procs(&directory), before, "processes of the paused container");
        resume(cx, &c.id)?;
    }
    cx.delete_force(&c.id).map(drop)
}

/// Whether a new `cat` has come as far as to wait for its file.
fn is_waiting(pid: u32) -> bool {
    std::thread::sleep(Duration::from_millis(50));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.contains("(cat) S") || stat.contains("(cat) D")
}

/// A process that waits for a file system that says nothing cannot be frozen.
fn stuck(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(b.sh(COUNT))?;
    is_heard(&c)?;
    let directory = freezer(&path_of(&b))?;
    let silent = Silent::mount(&cx.path("silent"))?;
    let mut cat = Command::new("/bin/cat").arg(cx.path("silent/x")).stderr(Stdio::null()).spawn()?;
    let pid = cat.id();
    eventually("cat waits", || Ok(is_waiting(pid)))?;
    // not every kernel tells where, and UML's not the truth
    let tells = fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|text| text == "request_wait_answer");
    fs::write(directory.join("cgroup.procs"), pid.to_string())?;
    let begin = Instant::now();
    let refused = cx.runtime("pause").arg(&c.id).out()?.fails(&["unable to freeze"]);
    let took = begin.elapsed();
    let after = (frozen(&directory), cx.status(&c.id)?, is_heard(&c));
    drop(silent);
    let _ = cat.kill();
    cat.wait()?;
    let said = refused?.stderr;
    ensure!(
        said.contains(&format!("process {pid} (cat)")) && (!tells || said.contains("request_wait_answer")),
        "{said}"
    );
    same!(said.lines().count(), 1, "lines of the error");
    ensure!(took > Duration::from_secs(9) && took < Duration::from_secs(30), "it took {took:?}");
    ensure!(!after.0, "the cgroup is still frozen");
    same!(after.1, "running", "status");
    after.2
}

/// Version 1 lets nobody die below a frozen parent; version 2 does.
fn frozen_parent(cx: &Cx) -> Res {
    if cx.options.systemd() {
        return skip("a scope has no scopes in it");
    }
    let mut b = cx.bundle()?;
    let parent = cx.cgroup();
    cgroup::make(&parent)?;
    b.set("/linux/cgroupsPath", json!(format!("{parent}/inner")));
    let c = cx.sleeping(&mut b)?;
    let directory = freezer(&parent)?;
    freeze(&directory, true)?;
    let begin = Instant::now();
    let out = cx.runtime("delete").args(["--force", &c.id]).out();
    let took = begin.elapsed();
    freeze(&directory, false)?;
    let out = out?;
    ensure!(took < Duration::from_secs(30), "it took {took:?}");
    if out.code != Some(0) {
        let said = out.fails(&["does not end"])?.stderr;
        ensure!(said.contains("(sh)") && said.contains("in state"), "{said}");
    } else if directory.join("freezer.state").exists() {
        return broken("it cannot have been deleted");
    }
    cx.delete_force(&c.id)?;
    ensure!(!frozen(&directory), "the parent");
    for made in cgroup::directories(&parent) {
        cgroup::remove_tree(&made);
    }
    Ok(())
}
