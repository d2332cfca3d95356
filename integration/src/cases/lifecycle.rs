//! create, start, state, kill, delete: states and what is refused in them.

use crate::case::{Case, Res, case};
use crate::cx::{Cx, text};
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

pub fn cases() -> Vec<Case> {
    vec![
        case("lifecycle::created_running_stopped", created_running_stopped),
        case("lifecycle::state_has_the_fields_of_the_spec", state_fields),
        case("lifecycle::state_names_the_rootfs_in_full", state_rootfs)
            .differs("crun", "gives root.path as it stands in the config"),
        case("lifecycle::start_twice_is_refused", start_twice),
        case("lifecycle::start_of_a_stopped_container_is_refused", start_stopped),
        case("lifecycle::delete_of_a_running_container_is_refused", delete_running),
        case("lifecycle::delete_of_a_created_container", delete_created),
        case("lifecycle::delete_force_ends_a_running_container", delete_force_running),
        case("lifecycle::kill_of_a_stopped_container_is_refused", kill_stopped),
        case("lifecycle::kill_of_a_created_container", kill_created),
        case("lifecycle::verbs_on_an_absent_id_say_does_not_exist", absent)
            .differs("crun", "says `No such file or directory` and the path of its status file"),
        case("lifecycle::verbs_on_an_absent_id_fail", absent_fails),
        case("lifecycle::delete_force_of_an_absent_id_is_fine", delete_force_absent),
        case("lifecycle::an_id_is_used_once", duplicate_id),
        case("lifecycle::an_id_can_be_used_again_after_delete", id_again),
        case("lifecycle::a_stopped_container_keeps_its_id", stopped_keeps_id),
        case("lifecycle::create_does_not_start_the_program", create_does_not_start),
        case("lifecycle::edits_of_the_config_after_create_change_nothing", edits_after_create),
        case("lifecycle::relative_bundle", relative_bundle),
        case("lifecycle::the_current_directory_is_the_default_bundle", default_bundle),
        case("lifecycle::bundle_behind_a_symlink", bundle_symlink),
        case("lifecycle::two_containers_of_one_bundle", two_of_one_bundle),
        case("lifecycle::annotations_are_in_the_state", annotations),
    ]
}

fn created_running_stopped(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps();
    let c = cx.create(&b)?;
    same!(cx.status(&c.id)?, "created", "after create");
    cx.start(&c.id)?;
    cx.hears(&c, "up")?;
    same!(cx.status(&c.id)?, "running", "after start");
    cx.kill(&c.id, "TERM")?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    ensure!(!cx.exists(&c.id), "the state is still there after delete");
    Ok(())
}

fn state_fields(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/annotations", json!({"org.example.a": "1"}));
    let c = cx.sleeping(&mut b)?;
    let s = cx.state(&c.id)?;
    same!(s["id"], json!(c.id), "id");
    same!(s["status"], json!("running"), "status");
    same!(s["bundle"], json!(b.dir), "bundle");
    ensure!(s["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")), "ociVersion is {}", s["ociVersion"]);
    ensure!(s["pid"].as_i64().is_some_and(|p| p > 1), "pid is {}", s["pid"]);
    let created = s["created"].as_str().unwrap_or_default();
    ensure!(created.len() >= 20 && created.as_bytes()[10] == b'T' && created.ends_with('Z'), "created is {created:?}");
    ensure!(s.get("owner").is_some(), "owner is missing");
    let comm = text(format!("/proc/{}/comm", s["pid"]))?;
    same!(comm.trim(), "sh", "the process of the pid");
    Ok(())
}

fn state_rootfs(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let c = cx.create(&b)?;
    same!(cx.state(&c.id)?["rootfs"], json!(b.rootfs()), "rootfs");
    Ok(())
}

fn start_twice(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.runtime("start").arg(&c.id).out()?.fails(&[])?;
    same!(cx.status(&c.id)?, "running", "the status after the refusal");
    Ok(())
}

fn start_stopped(cx: &Cx) -> Res {
    let c = cx.up(&cx.bundle()?)?;
    cx.stopped(&c.id)?;
    cx.runtime("start").arg(&c.id).out()?.fails(&[])?;
    same!(cx.status(&c.id)?, "stopped", "the status after the refusal");
    Ok(())
}

fn delete_running(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.runtime("delete").arg(&c.id).out()?.fails(&["not stopped", "running", "not in `created` or `stopped`"])?;
    same!(cx.status(&c.id)?, "running", "the status after the refusal");
    Ok(())
}

/// The spec has it refused; runc and crun end a container that was never
/// started, and containerd's and podman's clean-up rely on that.
fn delete_created(cx: &Cx) -> Res {
    let c = cx.create(&cx.bundle()?)?;
    let pid = cx.pid(&c.id)?;
    cx.delete(&c.id)?;
    eventually("the init is gone", || Ok(fs::metadata(format!("/proc/{pid}")).is_err()))
}

fn delete_force_running(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.delete_force(&c.id)?;
    ensure!(!cx.exists(&c.id), "the state is still there");
    Ok(())
}

fn kill_stopped(cx: &Cx) -> Res {
    let c = cx.up(&cx.bundle()?)?;
    cx.stopped(&c.id)?;
    // What containerd's shim looks for.
    let words = ["container not running", "process already finished", "no such process"];
    let words = if cx.is("crun") { &["not running", "No such process"][..] } else { &words[..] };
    cx.runtime("kill").args([&c.id, "KILL"]).out()?.fails(words)?;
    Ok(())
}

fn kill_created(cx: &Cx) -> Res {
    let c = cx.create(&cx.bundle()?)?;
    cx.kill(&c.id, "KILL")?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    Ok(())
}

fn absent(cx: &Cx) -> Res {
    for verb in ["start", "state", "delete", "kill"] {
        let run = cx.runtime(verb).arg("nobody");
        let run = if verb == "kill" { run.arg("TERM") } else { run };
        run.out()?.fails(&["does not exist"])?;
    }
    Ok(())
}

fn absent_fails(cx: &Cx) -> Res {
    for verb in ["start", "state", "delete", "kill"] {
        let run = cx.runtime(verb).arg("nobody");
        let run = if verb == "kill" { run.arg("TERM") } else { run };
        run.out()?.fails(&["not exist", "no such file"])?;
    }
    Ok(())
}

fn delete_force_absent(cx: &Cx) -> Res {
    cx.runtime("delete").args(["--force", "nobody"]).out()?.ok()?;
    Ok(())
}

fn duplicate_id(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    cx.with_bundle("create", &b, &c.id)?.out()?.fails(&["exist"])?;
    cx.with_bundle("run", &b, &c.id)?.out()?.fails(&["exist"])?;
    same!(cx.status(&c.id)?, "running", "the first container");
    Ok(())
}

fn id_again(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let id = cx.id();
    for _ in 0..3 {
        cx.with_bundle("create", &b, &id)?.out()?.ok()?;
        cx.adopt(&id);
        cx.start(&id)?;
        cx.stopped(&id)?;
        cx.delete(&id)?;
    }
    Ok(())
}

fn stopped_keeps_id(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    cx.with_bundle("create", &b, &c.id)?.out()?.fails(&["exist"])?;
    Ok(())
}

fn create_does_not_start(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo ran > /tmp/mark");
    let c = cx.create(&b)?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    ensure!(!b.rootfs().join("tmp/mark").exists(), "create has run the program");
    cx.start(&c.id)?;
    eventually("the program runs", || Ok(b.rootfs().join("tmp/mark").exists()))
}

fn edits_after_create(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo first");
    let c = cx.create(&b)?;
    b.sh("echo second").set("/root/path", json!("elsewhere")).set("/annotations", json!({"late": "1"})).save()?;
    cx.start(&c.id)?;
    cx.stopped(&c.id)?;
    same!(c.said(), "first\n", "the program");
    ensure!(cx.state(&c.id)?["annotations"].get("late").is_none(), "the state has an annotation of later");
    fs::remove_file(b.dir.join("config.json"))?;
    cx.state(&c.id)?;
    cx.delete(&c.id)?;
    Ok(())
}

fn relative_bundle(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    let name = b.dir.file_name().unwrap_or_default();
    let id = cx.id();
    cx.adopt(&id);
    cx.runtime("create").arg("--bundle").arg(name).arg(&id).cwd(&cx.dir).out()?.ok()?;
    same!(cx.state(&id)?["bundle"], json!(b.dir), "bundle in the state");
    Ok(())
}

fn default_bundle(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo here").save()?;
    let out = cx.runtime("run").arg(cx.id()).cwd(&b.dir).out()?.ok()?;
    same!(out.stdout, "here\n", "the program");
    Ok(())
}

fn bundle_symlink(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo here").save()?;
    let link = cx.path("link");
    symlink(&b.dir, &link)?;
    let out = cx.runtime("run").arg("--bundle").arg(&link).arg(cx.id()).out()?.ok()?;
    same!(out.stdout, "here\n", "the program");
    Ok(())
}

fn two_of_one_bundle(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let first = cx.sleeping(&mut b)?;
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    let second = cx.sleeping(&mut b)?;
    cx.delete_force(&first.id)?;
    same!(cx.status(&second.id)?, "running", "the other one");
    Ok(())
}

fn annotations(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/annotations", json!({"org.example.a": "1", "empty": ""}));
    let c = cx.create(&b)?;
    let s = cx.state(&c.id)?;
    same!(s["annotations"]["org.example.a"], json!("1"), "annotation");
    same!(s["annotations"]["empty"], json!(""), "empty annotation");
    Ok(())
}
