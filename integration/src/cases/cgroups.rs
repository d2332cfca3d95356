//! cgroup placement: where it is made, who is in it, and that it is removed.

use crate::case::{Case, Res, case, skip};
use crate::cgroup;
use crate::cx::{Cx, string, text};
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::json;
use std::fs;

const RUNC_LEAVES: &str = "1.1.15 on v2 removes the cgroup before those that it killed have gone, and gives up";

pub fn cases() -> Vec<Case> {
    vec![
        case("cgroup::made_at_cgroups_path", made),
        case("cgroup::every_hierarchy_has_it", every_hierarchy),
        case("cgroup::the_program_starts_in_it", inside_from_start),
        case("cgroup::default_path_has_the_id", default_path),
        case("cgroup::relative_path", relative_path),
        case("cgroup::the_runtime_is_not_in_it", runtime_outside),
        case("cgroup::removed_by_delete", removed),
        case("cgroup::removed_when_create_fails", removed_on_failure),
        case("cgroup::sub_cgroups_are_removed", sub_cgroups),
        case("cgroup::left_processes_are_ended_by_delete", left_processes).differs("runc", RUNC_LEAVES),
        case("cgroup::left_processes_in_sub_cgroups_are_ended", left_in_sub).differs("runc", RUNC_LEAVES),
        case("cgroup::the_parent_stays", parent_stays),
        case("cgroup::an_existing_one_with_foreign_processes", foreign)
            .differs("crun", "its delete kills everybody in the cgroup"),
        case("cgroup::children_are_in_it", children),
        case("cgroup::frozen_is_deleted_by_force", frozen),
        case("cgroup::bad_paths_stay_inside", bad_paths)
            .only(&["ferrun", "runc"], "crun 1.8.1 follows them: it makes directories in the root of the host"),
    ]
}

/// Whether a line of /proc/PID/cgroup names this path; in a scope crun puts the
/// container into a sub-cgroup.
fn names(cx: &Cx, line: &str, path: &str) -> bool {
    line.ends_with(path) || cx.options.systemd() && line.ends_with(&format!("{path}/container"))
}

fn made(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    ensure!(cgroup::directories(&path).is_empty(), "it is there already");
    let c = cx.sleeping(&mut b)?;
    let pid = cx.pid(&c.id)?;
    let dirs = cgroup::directories(&path);
    ensure!(!dirs.is_empty(), "{path} is nowhere");
    let within = dirs.iter().filter(|d| cgroup::members(d).contains(&pid)).count();
    ensure!(within >= dirs.len().min(2), "the init is in {within} of {}", dirs.len());
    Ok(())
}

fn every_hierarchy(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    let c = cx.sleeping(&mut b)?;
    let pid = cx.pid(&c.id)?;
    for h in cgroup::hierarchies() {
        // A v2 beside v1 is left alone by runc 1.1's v1 driver.
        if h.ends_with("unified") {
            continue;
        }
        let dir = h.join(path.trim_start_matches('/'));
        ensure!(cgroup::members(&dir).contains(&pid), "the init is not in {}", dir.display());
    }
    Ok(())
}

fn inside_from_start(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    let seen = cx.sh(&mut b, "cat /proc/self/cgroup")?;
    for line in cgroup::paths(&seen) {
        ensure!(names(cx, line, &path), "{line}");
    }
    Ok(())
}

fn default_path(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.unset("/linux/cgroupsPath");
    let c = cx.sleeping(&mut b)?;
    let seen = text(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    for line in cgroup::paths(&seen) {
        ensure!(line.contains(&c.id), "{line}");
    }
    cx.delete_force(&c.id)?;
    Ok(())
}

fn relative_path(cx: &Cx) -> Res {
    if cx.options.systemd() {
        return skip("systemd's paths are SLICE:PREFIX:NAME");
    }
    let mut b = cx.bundle()?;
    let name = cx.id();
    b.set("/linux/cgroupsPath", json!(name));
    let c = cx.sleeping(&mut b)?;
    let seen = text(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    for line in cgroup::paths(&seen) {
        ensure!(line.ends_with(&name), "{line}");
    }
    Ok(())
}

fn runtime_outside(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    b.sh("echo up; sleep 0.3");
    let job = cx.with_bundle("run", &b, &cx.id())?.spawn()?;
    eventually("the program is up", || Ok(job.stdout_now().contains("up")))?;
    let own = text(format!("/proc/{}/cgroup", job.pid()))?;
    job.wait()?.ok()?;
    ensure!(!own.contains(&path), "the runtime joined it: {own}");
    Ok(())
}

fn removed(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let path = b.cgroup();
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    Ok(())
}

fn removed_on_failure(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    b.args(&["no-such-program"]);
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    Ok(())
}

fn sub_cgroups(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    let c = cx.sleeping(&mut b)?;
    for dir in cgroup::directories(&path) {
        cgroup::make_below(&dir, "sub/deeper")?;
    }
    cx.delete_force(&c.id)?;
    ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    Ok(())
}

/// A container in the host's pid namespace: the end of its init ends nobody else.
fn left_processes(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("pid", None).sh("setsid sleep 100 & echo $!");
    let c = cx.up(&b)?;
    cx.hears(&c, "\n")?;
    cx.stopped(&c.id)?;
    let child = c.said().trim().to_owned();
    ensure!(fs::metadata(format!("/proc/{child}")).is_ok(), "the child has gone by itself");
    cx.delete_force(&c.id)?;
    eventually("the child is dead", || Ok(fs::metadata(format!("/proc/{child}")).is_err()))
}

fn left_in_sub(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    b.namespace("pid", None).sh("setsid sleep 100 & echo $!; sleep 100");
    let c = cx.up(&b)?;
    cx.hears(&c, "\n")?;
    let child = c.said().trim().to_owned();
    for dir in cgroup::directories(&path) {
        let sub = dir.join("sub");
        fs::create_dir(&sub)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // An empty v1 cpuset admits nobody; v2 may not have the files below.
            if sub.join(file).exists() {
                fs::write(sub.join(file), fs::read(dir.join(file))?)?;
            }
        }
        fs::write(sub.join("cgroup.procs"), &child)?;
    }
    cx.delete_force(&c.id)?;
    eventually("the child is dead", || Ok(fs::metadata(format!("/proc/{child}")).is_err()))?;
    ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    Ok(())
}

fn parent_stays(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let path = b.cgroup();
    let parent = path.rsplit_once('/').map_or("", |(p, _)| p);
    if cx.options.systemd() {
        // systemd makes a slice for the first unit in it.
        cx.run(&b)?.ok()?;
    }
    let before = cgroup::directories(parent).len();
    ensure!(before > 0, "{parent} is nowhere");
    cx.run(&b)?.ok()?;
    same!(cgroup::directories(parent).len(), before, "hierarchies with the case's parent");
    Ok(())
}

/// What was not made by the runtime must not be deleted by it.
fn foreign(cx: &Cx) -> Res {
    if cx.options.systemd() {
        return skip("see systemd::a_unit_of_that_name_is_left_alone");
    }
    let b = cx.bundle()?;
    let path = b.cgroup();
    cgroup::make(&path)?;
    let mut other = std::process::Command::new("/bin/sleep").arg("100").spawn()?;
    for dir in cgroup::directories(&path) {
        fs::write(dir.join("cgroup.procs"), other.id().to_string())?;
    }
    let out = cx.run(&b)?;
    let alive = other.try_wait()?.is_none();
    other.kill()?;
    other.wait()?;
    for dir in cgroup::directories(&path) {
        cgroup::remove_tree(&dir);
    }
    ensure!(alive, "the foreign process was killed");
    ensure!(out.code == Some(0) || out.error_lines() == 1, "{}", out.stderr);
    Ok(())
}

fn children(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    let v = cx.sh(&mut b, "sh -c 'sh -c \"cat /proc/self/cgroup\"'")?;
    for line in cgroup::paths(&v) {
        ensure!(names(cx, line, &path), "{line}");
    }
    let v = cx.probe(&mut b)?;
    ensure!(string(&v, "/cgroup")?.contains(&path), "the probe's own");
    Ok(())
}

fn frozen(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let path = b.cgroup();
    let c = cx.sleeping(&mut b)?;
    let mut froze = false;
    for dir in cgroup::directories(&path) {
        froze |= fs::write(dir.join("freezer.state"), "FROZEN").is_ok();
        froze |= fs::write(dir.join("cgroup.freeze"), "1").is_ok();
    }
    if !froze {
        return skip("no freezer here");
    }
    cx.delete_force(&c.id)?;
    Ok(())
}

/// `..` climbs out of nothing.
fn bad_paths(cx: &Cx) -> Res {
    if cx.options.systemd() {
        return skip("systemd's paths are SLICE:PREFIX:NAME");
    }
    let mut b = cx.bundle()?;
    let name = cx.id();
    b.set("/linux/cgroupsPath", json!(format!("/../../../..{}/{name}", cx.options.cgroup_parent())));
    let marks = ["/tmp", "/sys", "/"].map(|d| std::path::Path::new(d).join(&cx.options.tag));
    cx.run(&b)?;
    for m in marks {
        ensure!(!m.join(&name).exists(), "{} was made", m.display());
    }
    Ok(())
}
