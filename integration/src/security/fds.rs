//! Descriptors of the host: none is in the container, and none is a way out of it.

use super::oracle::Guard;
use crate::case::{Case, Context, Res, case};
use crate::cases::exec::exec;
use crate::cx::{Cx, string};
use crate::run::Out;
use crate::{ensure, same};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t13_working_directory_behind_a_descriptor", cwd)
            .patience(4)
            .differs("crun", "CVE-2024-21626, of which 1.8 has a part"),
        case("security::t14_descriptors_of_a_created_container", created),
        case("security::t15_what_the_caller_leaks", leaked),
    ]
}

/// Descriptors of a directory of the host without close-on-exec, from this number on.
fn inheritable(path: &Path, from: i32, count: usize) -> Res<Vec<OwnedFd>> {
    let file = File::open(path)?;
    let mut all = Vec::new();
    for _ in 0..count {
        let fd = fcntl_dupfd_cloexec(&file, from)?;
        fcntl_setfd(&fd, FdFlags::empty())?;
        all.push(fd);
    }
    Ok(all)
}

/// What the program says of itself, if it came to run.
fn inside(out: Out, what: &str) -> Res {
    if out.code != Some(0) {
        out.fails(&[]).context(what)?;
        return Ok(());
    }
    let v: Value = serde_json::from_str(&out.stdout).context(format!("{what}: the probe said {:?}", out.stdout))?;
    let cwd = string(&v, "/cwd")?;
    ensure!(cwd.starts_with('/'), "{what}: the working directory is {cwd}");
    ensure!(!cwd.contains("guard"), "{what}: the working directory is {cwd}");
    Ok(())
}

/// CVE-2024-21626, by run and exec, with links of the image, and with directories that the caller left open.
fn cwd(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let last = if cx.options.long { 1023 } else { 16 };
    let open = inheritable(guard.dir(), 10, 4)?;
    let mut b = cx.bundle()?;
    for n in 3..=last {
        symlink(format!("/proc/self/fd/{n}"), b.rootfs().join(format!("self{n}")))?;
        symlink(format!("/proc/1/fd/{n}"), b.rootfs().join(format!("one{n}")))?;
    }
    let forms = |n| {
        [
            format!("/proc/self/fd/{n}"),
            format!("/proc/1/fd/{n}/../.."),
            format!("/proc/thread-self/fd/{n}/deep/.."),
            format!("/self{n}"),
            format!("/one{n}"),
        ]
    };
    for n in 3..=last {
        for form in forms(n) {
            b.set("/process/cwd", json!(form)).args(&["/probe", "all"]);
            inside(cx.run(&b)?, &format!("run in {form}"))?;
        }
    }
    b.set("/process/cwd", json!("/"));
    let c = cx.sleeping(&mut b)?;
    for n in 3..=last {
        for form in forms(n) {
            inside(exec(cx, &c, &["--cwd", &form], &["/probe", "all"]).out()?, &format!("exec in {form}"))?;
        }
    }
    drop(open);
    guard.untouched()
}

/// While the init waits for its start anybody in its pid namespace may look at it: no directory and no program of
/// the host is open in it.
fn created(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "fds"]);
    let c = cx.create(&b)?;
    let pid = cx.pid(&c.id)?;
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let target = fs::read_link(entry.path())?;
        let meta = fs::metadata(entry.path());
        let directory = meta.as_ref().is_ok_and(fs::Metadata::is_dir);
        ensure!(!directory, "descriptor {:?} is the directory {}", entry.file_name(), target.display());
        let text = target.to_string_lossy();
        ensure!(!text.starts_with("/sys/fs/cgroup"), "descriptor {:?} is {text}", entry.file_name());
    }
    cx.start(&c.id)?;
    cx.stopped(&c.id)?;
    let v: Value = serde_json::from_str(&c.said())?;
    let numbers: Vec<i64> = v.as_array().into_iter().flatten().filter_map(|fd| fd["fd"].as_i64()).collect();
    same!(numbers, vec![0, 1, 2], "descriptors of the program");
    Ok(())
}

/// Of a careless caller: run, create and exec.
fn leaked(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let mut b = cx.bundle()?;
    b.save()?;
    let numbers = |said: &str| -> Res<Vec<i64>> {
        let v: Value = serde_json::from_str(said).context(format!("the probe said {said:?}"))?;
        Ok(v.as_array().into_iter().flatten().filter_map(|fd| fd["fd"].as_i64()).collect())
    };
    let open = inheritable(guard.dir(), 10, 190)?;
    let out = cx.run(b.args(&["/probe", "fds"]))?.ok()?;
    same!(numbers(&out.stdout)?, vec![0, 1, 2], "descriptors of a run");
    let c = cx.sleeping(&mut b)?;
    let init = fs::read_dir(format!("/proc/{}/fd", cx.pid(&c.id)?))?;
    let targets: Vec<_> = init.flatten().filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    ensure!(!targets.iter().any(|target| target.starts_with(guard.dir())), "the init has {targets:?}");
    let out = exec(cx, &c, &[], &["/probe", "fds"]).out()?.ok()?;
    same!(numbers(&out.stdout)?, vec![0, 1, 2], "descriptors of an exec");
    drop(open);
    guard.untouched()
}
