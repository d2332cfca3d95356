//! `create` is killed at every one of its syscalls; afterwards `delete --force`
//! (or the next `create` of the id) leaves nothing.

use crate::case::{Case, Context, Res, case};
use crate::cgroup;
use crate::cx::Cx;
use crate::ensure;
use crate::leaks::processes;
use crate::run::eventually;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::process::{Command, Stdio};

pub fn cases() -> Vec<Case> {
    let why = "crash safety at every point is ferrun's own promise";
    vec![
        case("crash::create_killed_at_each_syscall_then_delete", |cx| sweep(cx, After::Delete))
            .only(&["ferrun"], why)
            .patience(10),
        case("crash::create_killed_at_each_syscall_then_create", |cx| sweep(cx, After::Create))
            .only(&["ferrun"], why)
            .patience(10),
        case("crash::start_killed_at_each_syscall_then_delete", sweep_start).only(&["ferrun"], why).patience(10),
        case("crash::delete_killed_at_each_syscall_then_delete", sweep_delete).only(&["ferrun"], why).patience(10),
    ]
}

#[derive(Clone, Copy)]
enum After {
    Delete,
    Create,
}

/// Runs a command and kills it at its n-th stop (a syscall has two: entry and
/// exit). False: it ended before.
pub(super) fn killed_at(cx: &Cx, arguments: &[&str], n: usize) -> Res<bool> {
    let kill = |pid| Ok(nix::sys::signal::kill(pid, Signal::SIGKILL)?);
    Ok(at_stop(cx, arguments, n, Stdio::null(), kill)?.0)
}

/// Runs a command, and `act` at its n-th stop: whether it came so far, and its exit status (None: killed).
pub(super) fn at_stop(
    cx: &Cx,
    arguments: &[&str],
    n: usize,
    stderr: Stdio,
    act: impl FnOnce(Pid) -> Res,
) -> Res<(bool, Option<i32>)> {
    // The shell stops itself so that it can be seized before the runtime begins;
    // its own syscalls until the execve are not counted.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(&cx.options.runtime)
        .args(cx.options.globals(&cx.root()))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()?;
    let pid = Pid::from_raw(child.id() as i32);
    waitpid(pid, Some(WaitPidFlag::WSTOPPED))?;
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).context("PTRACE_SEIZE")?;
    nix::sys::signal::kill(pid, Signal::SIGCONT)?;
    let (mut left, mut started, mut act) = (n, false, Some(act));
    loop {
        let mut signal = None;
        match waitpid(pid, Some(WaitPidFlag::__WALL))? {
            WaitStatus::Exited(_, code) => {
                let _ = child.try_wait();
                return Ok((act.is_none(), Some(code)));
            }
            WaitStatus::Signaled(..) => {
                let _ = child.try_wait();
                return Ok((act.is_none(), None));
            }
            WaitStatus::PtraceEvent(_, _, event) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => started = true,
            WaitStatus::PtraceSyscall(_) if started => {
                match (left, act.take()) {
                    (0, Some(act)) => act(pid)?,
                    (_, waits) => act = waits,
                }
                left = left.saturating_sub(1);
            }
            // what was sent to it, a child's end among it
            WaitStatus::Stopped(_, sent) if started => signal = Some(sent),
            _ => {}
        }
        match ptrace::syscall(pid, signal) {
            // killed while it was stopped: the next wait says so
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Every point when the cycles are many (CI), else a sample.
pub(super) fn stride(cx: &Cx) -> usize {
    if cx.options.cycles >= 200 { 1 } else { 7 }
}

fn clean(cx: &Cx, id: &str, path: &str, at: usize) -> Res {
    ensure!(!cx.exists(id), "killed at stop {at}: the state is left");
    let dirs = cgroup::directories(path);
    ensure!(dirs.is_empty(), "killed at stop {at}: left {dirs:?}");
    let names: Vec<_> = fs::read_dir(cx.root()).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    ensure!(names.is_empty(), "killed at stop {at}: in the state root {names:?}");
    // The case process, its worker and init are the only ones beside a container.
    eventually(&format!("the processes of the one killed at stop {at} are gone"), || {
        Ok(processes(cx.options.init).len() <= 3)
    })
}

fn sweep(cx: &Cx, after: After) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/bin/sleep", "1000"]).save()?;
    let path = b.cgroup();
    let bundle = b.dir.display().to_string();
    let id = cx.id();
    let mut at = 0;
    loop {
        let killed = killed_at(cx, &["create", "--bundle", &bundle, &id], at)?;
        let then = |e: &str| format!("{e} after create was killed at stop {at}");
        if killed && matches!(after, After::Create) {
            let out = cx.with_bundle("create", &b, &id)?.out()?;
            // A create that was already done is not undone.
            if out.code != Some(0) {
                ensure!(out.stderr.contains("exist"), "{}", then(&out.stderr));
            }
        }
        cx.delete_force(&id).context(then("delete --force"))?;
        clean(cx, &id, &path, at)?;
        if !killed {
            ensure!(at > 20, "create has only {at} stops");
            return Ok(());
        }
        at += stride(cx);
    }
}

fn sweep_verb(cx: &Cx, verb: &str, running: bool) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/bin/sleep", "1000"]);
    let path = b.cgroup();
    let mut at = 0;
    loop {
        let c = cx.create(&b)?;
        if running {
            cx.start(&c.id)?;
            cx.kill(&c.id, "KILL")?;
        }
        let killed = killed_at(cx, &[verb, &c.id], at)?;
        cx.delete_force(&c.id).context(format!("delete --force after {verb} was killed at stop {at}"))?;
        clean(cx, &c.id, &path, at)?;
        if !killed {
            return Ok(());
        }
        at += stride(cx);
    }
}

fn sweep_start(cx: &Cx) -> Res {
    sweep_verb(cx, "start", false)
}

fn sweep_delete(cx: &Cx) -> Res {
    sweep_verb(cx, "delete", true)
}
