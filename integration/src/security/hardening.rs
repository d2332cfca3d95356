//! What is no CVE of its own, or a small one: standard streams, what is read-only, mounts over the kernel's files,
//! the host's mounts, commands that are interrupted.

use super::masks::{image_dev, without_dev};
use super::oracle::Guard;
use super::paths::tried;
use crate::case::{Case, Context, Res, broken, case};
use crate::cx::{Cx, text};
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t29_missing_streams_and_a_link_for_dev_null", streams),
        case("security::t32_read_only_beside_a_fake_proc", read_only),
        case("security::t35_the_hosts_propagation_without_a_mount_namespace", propagation)
            .differs("runc", "1.1 fails, and leaves a mount on the host"),
        case("security::t43_mounts_over_files_of_proc", over_proc).differs("crun", "1.8 covers whatever is asked"),
        case("security::t49_an_interrupted_pause_can_be_undone", interrupted_pause)
            .patience(2)
            .differs("crun", "leaves a mount of its own program behind when it is killed"),
    ]
}

/// CVE-2026-88265: without /dev among the mounts and with its streams missing, the program's are taken from the
/// image's /dev/null, which leads to a file of the host's.
fn streams(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    for user in [0, 1000] {
        let mut b = cx.bundle()?;
        without_dev(&mut b);
        image_dev(&b.rootfs().join("dev"))?;
        fs::remove_file(b.rootfs().join("dev/null"))?;
        symlink(guard.path("marker"), b.rootfs().join("dev/null"))?;
        b.set("/process/user", json!({"uid": user, "gid": user})).sh("echo said; echo said >&2").save()?;
        for streams in ["<&-", "<&- >&- 2>&-"] {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", &format!("exec \"$0\" \"$@\" {streams}")]).arg(&cx.options.runtime);
            command.args(cx.options.globals(&cx.root())).args(["run", "--bundle"]).arg(&b.dir).arg(cx.id());
            // to refuse is fine as well
            command.output()?;
            guard.untouched().context(format!("uid {user}, {streams}"))?;
        }
    }
    Ok(())
}

/// CVE-2026-115521: what makes mounts read-only goes through a /proc/self/fd, which is the image's.
fn read_only(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let volume = cx.path("volume");
    fs::create_dir(&volume)?;
    let mut b = cx.bundle()?;
    b.unmount("/proc").set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    for place in ["self", "thread-self", "1"] {
        let fds = b.rootfs().join("proc").join(place).join("fd");
        fs::create_dir_all(&fds)?;
        for n in 0..64 {
            symlink("/tmp", fds.join(n.to_string()))?;
        }
    }
    b.set("/root/readonly", json!(true)).bind(&volume, "/mnt", &["bind", "ro"]);
    b.mount("/media", "tmpfs", "tmpfs", &["ro"]);
    let out = tried(cx, b.sh("for dir in / /mnt /media; do touch $dir/x 2>&1 || echo refused; done"))?;
    if out.code == Some(0) {
        same!(out.stdout.matches("refused").count(), 3, format!("what was refused of\n{}", out.stdout));
        same!(out.stdout.matches("Read-only file system").count(), 3, format!("why in\n{}", out.stdout));
    }
    ensure!(!volume.join("x").exists() && !b.rootfs().join("x").exists(), "written to");
    guard.untouched()
}

/// A container in the host's mount namespace must not make it private, nor anything else of it.
fn propagation(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let mut b = cx.bundle()?;
    b.namespace("mount", None).set("/mounts", json!([]));
    b.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    b.set("/linux/rootfsPropagation", json!("rprivate")).sh("echo up; sleep 100");
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    guard.untouched()?;
    cx.delete_force(&c.id)?;
    guard.untouched()
}

/// Files of /proc that tell numbers may be covered (lxcfs does); what a security module is told through may not.
fn over_proc(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let fake = cx.path("fake");
    fs::write(&fake, "fake\n")?;
    for file in ["/proc/cpuinfo", "/proc/meminfo", "/proc/uptime", "/proc/loadavg"] {
        let mut b = cx.bundle()?;
        b.bind(&fake, file, &["bind"]);
        same!(cx.sh(&mut b, &format!("cat {file}"))?, "fake\n", file);
    }
    let dir = cx.path("directory");
    fs::create_dir(&dir)?;
    for place in ["/proc/self/attr", "/proc/sys", "/proc/sys/kernel", "/proc/1", "/proc/self/fd"] {
        let mut b = cx.bundle()?;
        b.bind(&dir, place, &["bind"]).sh("true");
        cx.run(&b)?.fails(&[]).context(place)?;
    }
    guard.untouched()
}

/// A pause that is killed at any moment leaves a container that is running, or paused and says so.
fn interrupted_pause(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo up; while :; do date +%s%N > /tmp/now; sleep 0.01; done");
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    for round in 0..40 {
        let job = cx.runtime("pause").arg(&c.id).spawn()?;
        std::thread::sleep(Duration::from_micros(100 * round));
        let signal = if round % 2 == 0 { "-KILL" } else { "-TERM" };
        Command::new("/bin/kill").args([signal, &job.pid().to_string()]).output()?;
        job.wait()?;
        let now = || text(b.rootfs().join("tmp/now"));
        let before = now()?;
        let goes_on = || {
            // the kernel may still be at it
            match cx.status(&c.id)?.as_str() {
                "running" => {}
                "paused" => drop(cx.runtime("resume").arg(&c.id).out()?.ok()?),
                other => return broken(format!("it is {other}")),
            }
            Ok(now()? != before)
        };
        eventually("the program goes on", goes_on).context(format!("round {round}"))?;
    }
    Ok(())
}
