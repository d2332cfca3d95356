//! exec by the thousand, of containers that end meanwhile, and killed at each of its own system calls.

use super::crash::{at_stop, killed_at, stride};
use super::exec::exec;
use crate::case::{Case, Res, case};
use crate::cx::{Container, Cx};
use crate::leaks::processes;
use crate::run::{Job, eventually, lossy};
use crate::{ensure, same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::cell::RefCell;
use std::fs::{self, File};
use std::process::Stdio;

pub fn cases() -> Vec<Case> {
    let why = "crash safety at every point is ferrun's own promise";
    vec![
        case("exec::many_beside_each_other", many).patience(10),
        case("exec::killed_at_each_syscall", killed).only(&["ferrun"], why).patience(10),
        case("exec::the_init_is_killed_at_each_syscall", init_killed).only(&["ferrun"], why).patience(20),
        case("exec::the_container_is_deleted_at_each_syscall", deleted).only(&["ferrun"], why).patience(20),
    ]
}

fn up_asleep(cx: &Cx) -> Res<Container> {
    let mut b = cx.bundle()?;
    b.args(&["/bin/sleep", "1000"]);
    cx.up(&b)
}

const BESIDE: usize = 16;

/// 1,000 of them; with `--cycles 200` 10,000.
fn many(cx: &Cx) -> Res {
    let c = up_asleep(cx)?;
    let kinds: [(&[&str], i32); 3] =
        [(&["true"], 0), (&["/probe", "exit", "7"], 7), (&["/bin/sh", "-c", "kill -9 $$"], 137)];
    let before = (processes(cx.options.init).len(), descriptors(cx, &c)?);
    let total = (cx.options.cycles as usize * 50).min(10_000);
    for batch in 0..total.div_ceil(BESIDE) {
        let kind = |n: usize| kinds[(batch + n) % kinds.len()];
        let jobs: Vec<Job> = (0..BESIDE).map(|n| exec(cx, &c, &[], kind(n).0).spawn()).collect::<Res<_>>()?;
        for (n, job) in jobs.into_iter().enumerate() {
            job.wait()?.exits(kind(n).1)?;
        }
    }
    same!(processes(cx.options.init).len(), before.0, "processes");
    same!(descriptors(cx, &c)?, before.1, "descriptors of the init");
    Ok(())
}

fn descriptors(cx: &Cx, c: &Container) -> Res<usize> {
    Ok(fs::read_dir(format!("/proc/{}/fd", cx.pid(&c.id)?))?.count())
}

fn killed(cx: &Cx) -> Res {
    let c = up_asleep(cx)?;
    let before = processes(cx.options.init).len();
    let mut at = 0;
    loop {
        let killed = killed_at(cx, &["exec", &c.id, "true"], at)?;
        eventually(&format!("what the exec that was killed at stop {at} made is gone"), || {
            Ok(processes(cx.options.init).len() == before)
        })?;
        same!(cx.status(&c.id)?, "running", format!("status after it was killed at stop {at}"));
        exec(cx, &c, &[], &["true"]).out()?.ok()?;
        if !killed {
            ensure!(at > 20, "exec has only {at} stops");
            break;
        }
        at += stride(cx);
    }
    cx.delete_force(&c.id)?;
    Ok(())
}

/// Whatever comes of it: the program's own end, or the word that the container is gone.
fn ended(cx: &Cx, at: usize, code: Option<i32>) -> Res {
    let said = lossy(&cx.path("stderr"));
    match code {
        Some(0 | 137) => Ok(()),
        Some(255) => {
            let words = ["container not running", "does not exist"];
            ensure!(words.iter().any(|word| said.contains(word)), "gone at stop {at}: {said}");
            Ok(())
        }
        other => crate::case::broken(format!("gone at stop {at}: exit {other:?}: {said}")),
    }
}

fn init_killed(cx: &Cx) -> Res {
    let mut at = 0;
    loop {
        let c = up_asleep(cx)?;
        let pid = Pid::from_raw(cx.pid(&c.id)?);
        let stderr = Stdio::from(File::create(cx.path("stderr"))?);
        let (reached, code) = at_stop(cx, &["exec", &c.id, "true"], at, stderr, |_| Ok(kill(pid, Signal::SIGKILL)?))?;
        ended(cx, at, code)?;
        cx.delete_force(&c.id)?;
        if !reached {
            return Ok(());
        }
        at += stride(cx);
    }
}

fn deleted(cx: &Cx) -> Res {
    let mut at = 0;
    loop {
        let c = up_asleep(cx)?;
        let stderr = Stdio::from(File::create(cx.path("stderr"))?);
        let job: RefCell<Option<Job>> = RefCell::new(None);
        let delete = |_| {
            *job.borrow_mut() = Some(cx.runtime("delete").args(["--force", &c.id]).spawn()?);
            Ok(())
        };
        let (reached, code) = at_stop(cx, &["exec", &c.id, "true"], at, stderr, delete)?;
        ended(cx, at, code)?;
        match job.into_inner() {
            Some(job) => drop(job.wait()?.ok()?),
            None => drop(cx.delete_force(&c.id)?),
        }
        ensure!(!cx.exists(&c.id), "deleted at stop {at}: the state is left");
        if !reached {
            return Ok(());
        }
        at += stride(cx);
    }
}
