//! Descriptors, sockets and logs between a caller, the runtime and the container.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case, skip};
use crate::cx::{Cx, text};
use crate::run::eventually;
use crate::sockets;
use crate::{ensure, same};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

pub fn cases() -> Vec<Case> {
    vec![
        case("fds::only_the_three", only_three),
        case("fds::none_of_the_callers_reaches_the_container", leaked),
        case("fds::closed_stdio_of_the_caller", closed_stdio),
        case("console::the_master_comes_over_the_socket", console),
        case("console::size", console_size),
        case("console::terminal_without_a_socket_is_refused", console_missing),
        case("console::socket_without_a_terminal_is_refused", console_unwanted).differs("crun", "ignores it"),
        case("console::is_the_controlling_terminal_and_dev_console", console_controlling),
        case("pidfd::socket_gets_the_pidfd_of_the_init", pidfd).only(&["ferrun", "runc"], "an option of runc 1.2"),
        case("log::json_has_the_shape_of_runc", log_json),
        case("log::text_has_the_shape_of_runc", log_text)
            .differs("crun", "its text log has the time and the message alone"),
        case("log::the_last_error_is_the_error", log_last),
        case("log::success_leaves_no_error_in_it", log_quiet),
        case("log::debug_says_more", log_debug).differs("crun", "has nothing to say with --debug in create"),
        case("log::unknown_format_is_refused", log_format),
    ]
}

pub(super) fn probe_fds(out: &str) -> Res<Vec<(i64, String)>> {
    let v: Value = serde_json::from_str(out).context("the probe's answer")?;
    let list = v.as_array().into_iter().flatten();
    Ok(list.map(|f| (f["fd"].as_i64().unwrap_or(-1), f["target"].as_str().unwrap_or_default().to_owned())).collect())
}

pub(super) fn numbers(fds: &[(i64, String)]) -> Vec<i64> {
    fds.iter().map(|f| f.0).collect()
}

fn only_three(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "fds"]);
    let fds = probe_fds(&cx.run(&b)?.ok()?.stdout)?;
    same!(numbers(&fds), vec![0, 1, 2], format!("open descriptors ({fds:?})"));
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    same!(numbers(&probe_fds(&c.said())?), vec![0, 1, 2], "open descriptors after create and start");
    Ok(())
}

/// Descriptors without close-on-exec, as a careless caller leaves them.
pub(super) fn inheritable(path: &str, from: i32, count: usize) -> Res<Vec<OwnedFd>> {
    let file = File::open(path)?;
    if count == 1 && file.as_raw_fd() >= from {
        fcntl_setfd(&file, FdFlags::empty())?;
        return Ok(vec![file.into()]);
    }
    let mut all = Vec::new();
    for _ in 0..count {
        let fd = fcntl_dupfd_cloexec(&file, from)?;
        fcntl_setfd(&fd, FdFlags::empty())?;
        all.push(fd);
    }
    Ok(all)
}

fn leaked(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "fds"]).save()?;
    let open = inheritable("/sys/fs/cgroup", 10, 190)?;
    same!(open.iter().map(|f| f.as_raw_fd()).max(), Some(199), "the leaked descriptors");
    let fds = probe_fds(&cx.run(&b)?.ok()?.stdout)?;
    same!(numbers(&fds), vec![0, 1, 2], format!("open descriptors ({fds:?})"));
    Ok(())
}

/// A caller that has closed 0-2: what the runtime opens must not end up there.
fn closed_stdio(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("/probe fds > /tmp/fds").save()?;
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]).arg(&cx.options.runtime);
    let status =
        command.args(cx.options.globals(&cx.root())).args(["run", "--bundle"]).arg(&b.dir).arg(cx.id()).status()?;
    if !status.success() {
        // To refuse is fine as well; nothing may be left (the harness looks).
        return Ok(());
    }
    for (n, target) in probe_fds(&text(b.rootfs().join("tmp/fds"))?)? {
        ensure!(n < 3 && !target.starts_with("/sys") && !target.contains("root"), "descriptor {n} is {target}");
    }
    Ok(())
}

fn with_console(cx: &Cx, b: &mut Bundle) -> Res<(String, File)> {
    b.set("/process/terminal", json!(true)).save()?;
    let path = cx.path("console.sock");
    let listener = sockets::listen(&path)?;
    let id = cx.id();
    cx.adopt(&id);
    cx.runtime("create").arg("--console-socket").arg(&path).arg("--bundle").arg(&b.dir).arg(&id).out()?.ok()?;
    let (_, mut fds) = sockets::receive(&listener)?;
    same!(fds.len(), 1, "descriptors");
    cx.start(&id)?;
    Ok((id, File::from(fds.remove(0))))
}

/// Reads from a terminal until a word comes.
fn expect(master: &mut File, word: &str) -> Res<String> {
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    eventually(&format!("the terminal says {word:?}"), || {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let wait = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        if poll(&mut [PollFd::new(&*master, PollFlags::IN)], Some(&wait))? > 0 {
            let n = master.read(&mut buffer).unwrap_or(0);
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        Ok(seen.contains(word))
    })?;
    Ok(seen)
}

fn console(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo hello; read line; echo got-$line; exec sleep 100");
    let (_, mut master) = with_console(cx, &mut b)?;
    expect(&mut master, "hello")?;
    master.write_all(b"words\n")?;
    expect(&mut master, "got-words")?;
    Ok(())
}

fn console_size(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/consoleSize", json!({"height": 31, "width": 97})).sh("stty size; exec sleep 100");
    let (_, mut master) = with_console(cx, &mut b)?;
    expect(&mut master, "31 97")?;
    Ok(())
}

fn console_controlling(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("exec 3</dev/tty && echo tty-ok; stat -c '%t:%T' /dev/console; tty; echo to-console > /dev/console; exec sleep 100");
    let (_, mut master) = with_console(cx, &mut b)?;
    let seen = expect(&mut master, "to-console")?;
    ensure!(seen.contains("tty-ok"), "no controlling terminal: {seen}");
    ensure!(seen.contains("88:"), "/dev/console is no pty: {seen}");
    Ok(())
}

fn console_missing(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/terminal", json!(true));
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    Ok(())
}

fn console_unwanted(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    let path = cx.path("console.sock");
    let _listener = sockets::listen(&path)?;
    let run = cx.runtime("create").arg("--console-socket").arg(&path).arg("--bundle").arg(&b.dir).arg(cx.id());
    run.out()?.fails(&["console", "terminal"])?;
    Ok(())
}

fn pidfd(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps().save()?;
    let path = cx.path("pidfd.sock");
    let listener = sockets::listen(&path)?;
    let id = cx.id();
    let run = cx.runtime("create").arg("--pidfd-socket").arg(&path).arg("--bundle").arg(&b.dir).arg(&id);
    let out = run.out()?;
    if out.stderr.contains("not defined") {
        return skip("this version has no --pidfd-socket");
    }
    cx.adopt(&id);
    out.ok()?;
    let (_, fds) = sockets::receive(&listener)?;
    let info = text(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd()))?;
    let pid = info.lines().find_map(|l| l.strip_prefix("Pid:")).unwrap_or_default().trim().to_owned();
    same!(pid, cx.pid(&id)?.to_string(), "the pid of the pidfd");
    Ok(())
}

fn log_of(cx: &Cx, format: &str, arguments: &[&str]) -> Res<String> {
    let file = cx.path("log");
    let mut b = cx.bundle()?;
    b.args(&["no-such-program"]).save()?;
    let mut run = cx.runtime("create").global("--log").global(&file).global("--log-format").global(format);
    for a in arguments {
        run = run.global(a);
    }
    run.arg("--bundle").arg(&b.dir).arg(cx.id()).out()?.fails(&[])?;
    text(&file)
}

fn log_json(cx: &Cx) -> Res {
    let log = log_of(cx, "json", &[])?;
    for line in log.lines() {
        let v: Value = serde_json::from_str(line).context(format!("line {line:?}"))?;
        for key in ["level", "msg", "time"] {
            ensure!(v[key].as_str().is_some_and(|s| !s.is_empty()), "{key} is missing in {line}");
        }
    }
    let errors: Vec<&str> = log.lines().filter(|l| l.contains("\"level\"") && l.contains("error")).collect();
    ensure!(!errors.is_empty(), "no error in {log:?}");
    Ok(())
}

fn log_text(cx: &Cx) -> Res {
    let log = log_of(cx, "text", &[])?;
    let line = log.lines().last().unwrap_or_default();
    ensure!(line.starts_with("time=\"") && line.contains("level=error msg=\""), "{line:?}");
    Ok(())
}

fn log_last(cx: &Cx) -> Res {
    let log = log_of(cx, "json", &[])?;
    let mut errors =
        log.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok()).filter(|v| v["level"] == "error");
    let last = errors.next_back().unwrap_or_default();
    let message = last["msg"].as_str().unwrap_or_default();
    ensure!(message.contains("no-such-program"), "the last error is {message:?}");
    Ok(())
}

fn log_quiet(cx: &Cx) -> Res {
    let file = cx.path("log");
    let b = cx.bundle()?;
    b.save()?;
    let run = cx.runtime("run").global("--log").global(&file).global("--log-format").global("json");
    run.arg("--bundle").arg(&b.dir).arg(cx.id()).out()?.ok()?;
    let log = fs::read_to_string(&file).unwrap_or_default();
    ensure!(!log.contains("\"error\""), "{log}");
    Ok(())
}

fn log_debug(cx: &Cx) -> Res {
    let quiet = log_of(cx, "json", &[])?;
    fs::remove_file(cx.path("log"))?;
    let loud = log_of(cx, "json", &["--debug"])?;
    ensure!(loud.lines().count() > quiet.lines().count(), "as many lines with --debug: {loud}");
    Ok(())
}

fn log_format(cx: &Cx) -> Res {
    cx.runtime("list").global("--log-format").global("xml").out()?.fails(&["xml", "format"])?;
    Ok(())
}
