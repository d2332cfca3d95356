//! Descriptors that a caller wants passed: `--preserve-fds` and sd_listen_fds(3).

use super::exec::exec;
use super::io::{inheritable, numbers, probe_fds};
use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::{Cx, text};
use crate::run::{Run, eventually};
use crate::{ensure, same};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

pub fn cases() -> Vec<Case> {
    vec![
        case("fds::preserved_ones_are_passed", preserved),
        case("fds::preserved_ones_are_passed_by_create", preserved_create),
        case("fds::preserved_ones_are_passed_by_exec", preserved_exec),
        case("fds::preserved_ones_that_are_not_open_are_refused", preserved_closed)
            .differs("crun", "crun 1.8.1 does not look whether they are open"),
        case("fds::preserved_ones_with_a_hole_are_refused", preserved_hole)
            .differs("runc", "Go's own descriptors are in the hole, and passed")
            .differs("crun", "crun 1.8.1 does not look whether they are open"),
        case("fds::listen_fds_are_passed_with_listen_pid", listen_fds)
            .differs("crun", "sets LISTEN_PID and not LISTEN_FDS"),
        case("fds::listen_fds_are_passed_by_create", listen_create)
            .differs("crun", "sets LISTEN_PID and not LISTEN_FDS"),
        case("fds::listen_fdnames_are_passed", listen_names).only(&["ferrun"], "the peers drop the names"),
        case("fds::listen_fds_come_before_the_preserved", listen_and_preserved)
            .differs("crun", "sets LISTEN_PID and not LISTEN_FDS"),
        case("fds::listen_fds_of_somebody_else_are_not_passed", listen_of_another)
            .differs("crun", "does not look at LISTEN_PID"),
        case("fds::listen_fds_that_are_no_number", listen_garbage)
            .differs("runc", "panics at -1")
            .differs("crun", "takes 1.5 for 1"),
        case("fds::listen_fds_are_not_for_an_exec", listen_exec).differs("crun", "passes them to an exec too"),
    ]
}

const FD_LINES: &str = "cat <&3; cat <&4; /probe fds > /tmp/fds";

/// Files that say their number, at 3 and on; those of `holes` are closed again.
fn files(cx: &Cx, count: i32, holes: &[i32]) -> Res<Vec<OwnedFd>> {
    let mut open = Vec::new();
    for n in 3..3 + count {
        let name = cx.path(&format!("file{n}"));
        fs::write(&name, format!("file {n}\n"))?;
        let fds = inheritable(&name.to_string_lossy(), 3, 1)?;
        same!(fds[0].as_raw_fd(), n, "the descriptor's number");
        open.extend(fds);
    }
    open.retain(|fd| !holes.contains(&fd.as_raw_fd()));
    Ok(open)
}

fn inside(b: &Bundle) -> Res<Vec<i64>> {
    Ok(numbers(&probe_fds(&text(b.rootfs().join("tmp/fds"))?)?))
}

fn verb(cx: &Cx, verb: &str, b: &Bundle, id: &str, count: &str) -> Res<Run> {
    b.save()?;
    Ok(cx.runtime(verb).args(["--preserve-fds", count]).arg("--bundle").arg(&b.dir).arg(id))
}

fn preserved(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(FD_LINES);
    let _open = files(cx, 3, &[])?;
    let out = verb(cx, "run", &b, &cx.id(), "2")?.out()?.ok()?;
    same!(out.stdout, "file 3\nfile 4\n", "what the program read");
    same!(inside(&b)?, vec![0, 1, 2, 3, 4], "open descriptors");
    Ok(())
}

fn preserved_create(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(FD_LINES);
    let open = files(cx, 3, &[])?;
    let id = cx.id();
    cx.adopt(&id);
    let created = verb(cx, "create", &b, &id, "2")?.out()?.ok()?;
    // they are the container's own by now
    drop(open);
    cx.start(&id)?;
    cx.stopped(&id)?;
    same!(text(&created.stdout_path)?, "file 3\nfile 4\n", "what the program read");
    same!(inside(&b)?, vec![0, 1, 2, 3, 4], "open descriptors");
    Ok(())
}

fn preserved_exec(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    let inside_of_it = b.rootfs().join("tmp/fds");
    for mode in [&["--preserve-fds", "2"][..], &["--preserve-fds", "2", "--detach"]] {
        // a fresh offset
        let _open = files(cx, 3, &[])?;
        let lines = format!("{FD_LINES}.new; mv /tmp/fds.new /tmp/fds");
        let out = exec(cx, &c, mode, &["/bin/sh", "-c", &lines]).out()?.ok()?;
        eventually("the program is done", || Ok(inside_of_it.exists()))?;
        same!(text(&out.stdout_path)?, "file 3\nfile 4\n", "what the program read");
        same!(inside(&b)?, vec![0, 1, 2, 3, 4], "open descriptors");
        fs::remove_file(&inside_of_it)?;
    }
    Ok(())
}

fn preserved_closed(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    verb(cx, "run", &b, &cx.id(), "5")?.out()?.fails(&[])?;
    verb(cx, "create", &b, &cx.id(), "5")?.out()?.fails(&[])?;
    Ok(())
}

/// What the runtime itself opens comes to be in the hole: its log, the container's state.
fn preserved_hole(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let open = files(cx, 3, &[4])?;
    let run = verb(cx, "run", &b, &cx.id(), "3")?.global("--log").global(cx.path("log"));
    let out = run.out()?;
    ensure!(out.code != Some(0), "run passes something of its own");
    drop(open);
    let c = cx.sleeping(&mut b)?;
    let _open = files(cx, 3, &[4])?;
    let out = exec(cx, &c, &["--preserve-fds", "3"], &["true"]).out()?;
    ensure!(out.code != Some(0), "exec passes something of its own");
    Ok(())
}

const LISTEN_LINES: &str =
    "echo ${LISTEN_FDS-none}/${LISTEN_PID-none}/${LISTEN_FDNAMES-none}/$$; /probe fds > /tmp/fds; cat <&3";

fn listen_fds(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(LISTEN_LINES);
    let _open = files(cx, 2, &[])?;
    let out = cx.with_bundle("run", &b, &cx.id())?.env("LISTEN_FDS", "1").with_listen_pid().out()?.ok()?;
    same!(out.stdout, "1/1/none/1\nfile 3\n", "LISTEN_FDS/LISTEN_PID/LISTEN_FDNAMES/pid and the file");
    same!(inside(&b)?, vec![0, 1, 2, 3], "open descriptors");
    Ok(())
}

fn listen_create(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(LISTEN_LINES);
    let open = files(cx, 2, &[])?;
    let id = cx.id();
    cx.adopt(&id);
    let created = cx.with_bundle("create", &b, &id)?.env("LISTEN_FDS", "2").with_listen_pid().out()?.ok()?;
    drop(open);
    cx.start(&id)?;
    cx.stopped(&id)?;
    let said = text(&created.stdout_path)?;
    same!(said, "2/1/none/1\nfile 3\n", "LISTEN_FDS/LISTEN_PID/LISTEN_FDNAMES/pid and the file");
    same!(inside(&b)?, vec![0, 1, 2, 3, 4], "open descriptors");
    Ok(())
}

fn listen_names(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(LISTEN_LINES);
    let _open = files(cx, 2, &[])?;
    let run = cx.with_bundle("run", &b, &cx.id())?.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "web:two words");
    let out = run.with_listen_pid().out()?.ok()?;
    same!(out.stdout, "2/1/web:two words/1\nfile 3\n", "LISTEN_FDS/LISTEN_PID/LISTEN_FDNAMES/pid and the file");
    Ok(())
}

fn listen_and_preserved(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh(&format!("{LISTEN_LINES}; cat <&4"));
    let _open = files(cx, 3, &[])?;
    let run = verb(cx, "run", &b, &cx.id(), "1")?.env("LISTEN_FDS", "1").with_listen_pid();
    same!(run.out()?.ok()?.stdout, "1/1/none/1\nfile 3\nfile 4\n", "LISTEN_FDS and so on, and the files");
    same!(inside(&b)?, vec![0, 1, 2, 3, 4], "open descriptors");
    Ok(())
}

/// A daemon's variables that its child, our caller, did not clear.
fn listen_of_another(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo ${LISTEN_FDS-none}/${LISTEN_PID-none}; /probe fds > /tmp/fds");
    let _open = files(cx, 2, &[])?;
    for pid in [None, Some("1"), Some("words")] {
        let mut run = cx.with_bundle("run", &b, &cx.id())?.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "web");
        if let Some(pid) = pid {
            run = run.env("LISTEN_PID", pid);
        }
        same!(run.out()?.ok()?.stdout, "none/none\n", format!("LISTEN_FDS/LISTEN_PID of the program, for {pid:?}"));
        same!(inside(&b)?, vec![0, 1, 2], format!("open descriptors, for {pid:?}"));
    }
    Ok(())
}

/// Ignored, or refused in words.
fn listen_garbage(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo ${LISTEN_FDS-none}; /probe fds > /tmp/fds");
    let _open = files(cx, 1, &[])?;
    for number in ["", "0", "words", "1.5", " 1", "-1", "2", "9999999", "2147483647", "99999999999999999999999"] {
        let run = cx.with_bundle("run", &b, &cx.id())?.env("LISTEN_FDS", number).with_listen_pid();
        let out = run.out()?;
        if out.code == Some(0) {
            same!(out.stdout, "none\n", format!("LISTEN_FDS of the program, for {number:?}"));
            same!(inside(&b)?, vec![0, 1, 2], format!("open descriptors, for {number:?}"));
        } else {
            out.fails(&[]).context(format!("LISTEN_FDS={number:?}"))?;
        }
    }
    Ok(())
}

/// What listens is the container, not one more program in it.
fn listen_exec(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let _open = files(cx, 2, &[])?;
    let lines = "echo ${LISTEN_FDS-none}/${LISTEN_PID-none}; /probe fds";
    let run = exec(cx, &c, &["--preserve-fds", "1"], &["/bin/sh", "-c", lines]);
    let out = run.env("LISTEN_FDS", "1").with_listen_pid().out()?.ok()?;
    let (variables, fds) = out.stdout.split_once('\n').unwrap_or_default();
    same!(variables, "none/none", "LISTEN_FDS/LISTEN_PID");
    same!(numbers(&probe_fds(fds)?), vec![0, 1, 2, 3], "open descriptors");
    ensure!(probe_fds(fds)?[3].1.ends_with("file3"), "descriptor 3: {fds}");
    Ok(())
}
