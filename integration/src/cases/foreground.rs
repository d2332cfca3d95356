//! A program in the foreground, of run and of exec: signals, the exit status, orphans, and who of the three dies
//! first. Without a terminal.

use super::exec::exec;
use super::resources::has;
use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, broken, case};
use crate::cx::{Container, Cx, text};
use crate::probe::send_signal;
use crate::run::{Job, Run, eventually};
use crate::{ensure, same};
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        case("foreground::run_passes_each_signal_on", run_signals)
            .differs("runc", "Go's own SIGURG comes too, SIGPROF and SIGWINCH do not"),
        case("foreground::exec_passes_each_signal_on", exec_signals)
            .differs("runc", "Go's own SIGURG comes too, SIGPROF and SIGWINCH do not"),
        case("foreground::run_passes_each_signal_on_after_a_hook", run_signals_after_hook)
            .differs("runc", "Go's own SIGURG comes too, SIGPROF and SIGWINCH do not"),
        case("foreground::run_stops_and_goes_on_with_its_shell", run_stops)
            .only(&["ferrun"], "the peers pass SIGTSTP on and do not stop themselves"),
        case("foreground::exec_stops_and_goes_on_with_its_shell", exec_stops)
            .only(&["ferrun"], "the peers pass SIGTSTP on and do not stop themselves"),
        case("foreground::exit_status_of_run", |cx| statuses(cx, Verb::Run)),
        case("foreground::exit_status_of_exec", |cx| statuses(cx, Verb::Exec)),
        case("foreground::death_by_each_signal_in_run", |cx| deaths(cx, Verb::Run)),
        case("foreground::death_by_each_signal_in_exec", |cx| deaths(cx, Verb::Exec)),
        case("foreground::death_with_a_core_dump", core_dump),
        case("foreground::a_signal_while_the_container_is_born", born),
        case("foreground::orphans_are_reaped", orphan_reaped),
        case("foreground::no_subreaper_leaves_orphans_alone", no_subreaper).differs("crun", "ignores the option"),
        case("foreground::detached_leaves_orphans_alone", detached_orphan)
            .differs("runc", "does not see that the container has ended, and waits for ever")
            .differs("crun", "is a subreaper when detached too"),
        case("foreground::orphans_of_an_exec", exec_orphan).differs("crun", "its exec is a subreaper too"),
        case("foreground::the_program_is_no_subreaper", not_inherited),
        case("foreground::killed_run_leaves_the_container", run_killed),
        case("foreground::killed_exec_leaves_the_container", exec_killed),
        case("foreground::the_caller_dies_while_it_stops", caller_dies),
        case("foreground::others_may_work_on_it", others_work),
        case("foreground::others_may_delete_it", others_delete)
            .differs("runc", "removes the second one's state")
            .differs("crun", "removes the second one's state"),
    ]
}

/// All that a runtime passes on to a program that has no terminal. SIGPIPE and SIGURG are its own.
fn passed_on() -> Vec<i32> {
    let kept = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGCHLD,
        libc::SIGPIPE,
        libc::SIGURG,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ];
    let named = (1..=31).filter(|signal| !kept.contains(signal));
    let mut all: Vec<i32> = named.chain(34..=64).filter(|signal| *signal != libc::SIGTERM).collect();
    // the probe ends with it
    all.push(libc::SIGTERM);
    all
}

fn up(job: &Job) -> Res {
    eventually("the program is up", || Ok(job.stdout_now().contains("up\n")))
}

/// One after the other: the kernel does not count those that wait.
fn each_arrives(job: Job) -> Res {
    up(&job)?;
    let mut want = "up\n".to_owned();
    for signal in passed_on() {
        send_signal(job.pid(), signal)?;
        want += &format!("{signal}\n");
        let arrived = eventually(&format!("signal {signal} arrives"), || Ok(job.stdout_now().len() >= want.len()));
        if arrived.is_err() {
            let _ = send_signal(job.pid(), libc::SIGTERM);
            return arrived.context(format!("after {}", job.stdout_now().replace('\n', " ")));
        }
    }
    let out = job.wait()?.ok()?;
    same!(out.stdout, want, "what arrived");
    Ok(())
}

fn run_signals(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "signals"]);
    each_arrives(cx.with_bundle("run", &b, &cx.id())?.spawn()?)
}

/// Starting a program may leave a hole in the signal mask.
fn run_signals_after_hook(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "signals"]).set("/hooks", json!({"createRuntime": [{"path": "/bin/true"}]}));
    each_arrives(cx.with_bundle("run", &b, &cx.id())?.spawn()?)
}

fn exec_signals(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    each_arrives(exec(cx, &c, &[], &["/probe", "signals"]).spawn()?)
}

fn state_of(pid: i32) -> Res<char> {
    let stat = text(format!("/proc/{pid}/stat"))?;
    Ok(stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('?'))
}

/// What a shell does at ^Z and at `fg`.
fn stops(run: Run) -> Res {
    let job = run.own_group().spawn()?;
    up(&job)?;
    for _ in 0..2 {
        send_signal(job.pid(), libc::SIGTSTP)?;
        eventually("the runtime stops", || Ok(state_of(job.pid())? == 'T'))?;
        eventually("the program gets it", || Ok(job.stdout_now().ends_with("20\n")))?;
        send_signal(job.pid(), libc::SIGCONT)?;
        eventually("the runtime goes on", || Ok(state_of(job.pid())? != 'T'))?;
        eventually("the program gets that too", || Ok(job.stdout_now().ends_with("18\n")))?;
    }
    send_signal(job.pid(), libc::SIGTERM)?;
    same!(job.wait()?.ok()?.stdout, "up\n20\n18\n20\n18\n15\n", "what arrived");
    Ok(())
}

fn run_stops(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "signals"]);
    stops(cx.with_bundle("run", &b, &cx.id())?)
}

fn exec_stops(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    stops(exec(cx, &c, &[], &["/probe", "signals"]))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Run,
    Exec,
}

/// Runs the probe in the foreground again and again. Of a `run` each is a container's first process, but not that
/// of a pid namespace, which no signal of its own ends.
struct Repeat<'a> {
    cx: &'a Cx,
    bundle: Bundle,
    of: Option<Container>,
}

impl<'a> Repeat<'a> {
    fn new(cx: &'a Cx, verb: Verb) -> Res<Self> {
        let mut bundle = cx.bundle()?;
        bundle.namespace("pid", None);
        let of = (verb == Verb::Exec).then(|| cx.sleeping(&mut cx.bundle()?)).transpose()?;
        Ok(Self { cx, bundle, of })
    }

    fn exits(&mut self, words: &[&str], code: i32) -> Res {
        let run = match &self.of {
            Some(c) => exec(self.cx, c, &[], words),
            None => {
                self.bundle.args(words);
                self.cx.with_bundle("run", &self.bundle, &self.cx.id())?
            }
        };
        run.out()?.exits(code).map(drop).context(words.join(" "))
    }
}

fn statuses(cx: &Cx, verb: Verb) -> Res {
    let mut repeat = Repeat::new(cx, verb)?;
    for code in [0, 1, 2, 3, 125, 126, 127, 128, 129, 254, 255] {
        repeat.exits(&["/probe", "exit", &code.to_string()], code)?;
    }
    Ok(())
}

fn deaths(cx: &Cx, verb: Verb) -> Res {
    let harmless = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGSTOP,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    let mut repeat = Repeat::new(cx, verb)?;
    for signal in (1..=31).filter(|signal| !harmless.contains(signal)).chain(34..=64) {
        repeat.exits(&["/probe", "die", &signal.to_string()], 128 + signal)?;
    }
    Ok(())
}

/// The bit that says so is not part of the status.
fn core_dump(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let (mut made, hard) = (0, rustix::process::getrlimit(rustix::process::Resource::Core).maximum);
    let limit = json!([{"type": "RLIMIT_CORE", "soft": hard.unwrap_or(1 << 30), "hard": hard.unwrap_or(1 << 30)}]);
    b.namespace("pid", None).set("/process/rlimits", limit).set("/process/cwd", json!("/tmp"));
    for signal in [libc::SIGQUIT, libc::SIGABRT, libc::SIGSEGV] {
        b.args(&["/probe", "die", &signal.to_string()]);
        cx.run(&b)?.exits(128 + signal)?;
        for entry in std::fs::read_dir(b.rootfs().join("tmp"))? {
            std::fs::remove_file(entry?.path())?;
            made += 1;
        }
    }
    let pattern = text("/proc/sys/kernel/core_pattern")?;
    if hard == Some(0) || pattern.starts_with('|') || pattern.starts_with('/') {
        return crate::case::skip("this machine dumps no core into the working directory");
    }
    same!(made, 3, "core dumps");
    Ok(())
}

/// Before there is a container the signal ends the runtime, from then on the program.
fn born(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("pid", None).args(&["/bin/sleep", "100"]);
    let mut passed = 0;
    // on a slow machine the container comes later than in the first 50
    let delays = (0..50).map(|n| n * 700).chain((0..8).map(|n| 50_000 << n));
    for (n, delay) in delays.enumerate() {
        if n >= 50 && passed > 0 {
            break;
        }
        let id = cx.id();
        let job = cx.with_bundle("run", &b, &id)?.spawn()?;
        std::thread::sleep(Duration::from_micros(delay));
        send_signal(job.pid(), libc::SIGTERM)?;
        let out = job.wait()?;
        let when = format!("a signal after {delay} µs");
        ensure!(!cx.exists(&id), "{when}: the state is left");
        match (out.code, out.signal) {
            (Some(143), _) => passed += 1,
            (None, Some(libc::SIGTERM)) => {}
            (code, signal) => {
                return broken(format!("{when}: exit {code:?}, signal {signal:?}: {}", out.stderr.trim()));
            }
        }
    }
    ensure!(passed > 0, "the signal came always before the container");
    Ok(())
}

/// Says the pid of a process, and then, when the one that made it is gone, that it is up.
const LEAVES_AN_ORPHAN: &str = "/bin/sh -c 'sleep 100 & echo $!'; echo up; exec sleep 100";

/// In the pid namespace of the runtime.
fn with_orphan(b: &mut Bundle) {
    b.namespace("pid", None);
    b.sh(LEAVES_AN_ORPHAN);
}

fn orphan_of(said: &str) -> Res<i32> {
    said.lines().next().unwrap_or_default().trim().parse().context(format!("the orphan's pid in {said:?}"))
}

fn parent_of(pid: i32) -> Res<i32> {
    let status = text(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default();
    parent.trim().parse().context("PPid")
}

fn gone(pid: i32) -> Res {
    let path = std::path::PathBuf::from(format!("/proc/{pid}"));
    eventually(&format!("process {pid} is gone and no zombie"), || Ok(!path.exists()))
}

fn ends(job: Job) -> Res {
    send_signal(job.pid(), libc::SIGTERM)?;
    job.wait()?.exits(143).map(drop)
}

fn orphan_reaped(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    with_orphan(&mut b);
    let job = cx.with_bundle("run", &b, &cx.id())?.spawn()?;
    up(&job)?;
    let orphan = orphan_of(&job.stdout_now())?;
    same!(parent_of(orphan)?, job.pid(), "who adopts the orphan");
    send_signal(orphan, libc::SIGKILL)?;
    gone(orphan)?;
    ends(job)
}

fn no_subreaper(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    with_orphan(&mut b);
    b.save()?;
    let run = cx.runtime("run").arg("--no-subreaper").arg("--bundle").arg(&b.dir).arg(cx.id());
    let job = run.spawn()?;
    up(&job)?;
    same!(parent_of(orphan_of(&job.stdout_now())?)?, cx.options.init, "who adopts the orphan");
    ends(job)
}

/// Seen while `run --detach` waits for a word of the container.
fn detached_orphan(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    with_orphan(&mut b);
    b.save()?;
    let id = cx.id();
    cx.adopt(&id);
    let socket = cx.path("notify");
    let manager = crate::sockets::hear(&socket)?;
    let run = cx.runtime("run").arg("--detach").arg("--bundle").arg(&b.dir).arg(&id).env("NOTIFY_SOCKET", &socket);
    let job = run.spawn()?;
    up(&job)?;
    let adopted = parent_of(orphan_of(&job.stdout_now())?);
    let waits = state_of(job.pid());
    cx.delete_force(&id)?;
    job.wait()?;
    drop(manager);
    ensure!(waits? != 'Z', "the runtime does not wait");
    same!(adopted?, cx.options.init, "who adopts the orphan");
    Ok(())
}

fn exec_orphan(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("pid", None);
    let c = cx.sleeping(&mut b)?;
    let job = exec(cx, &c, &[], &["/bin/sh", "-c", LEAVES_AN_ORPHAN]).spawn()?;
    up(&job)?;
    let orphan = orphan_of(&job.stdout_now())?;
    same!(parent_of(orphan)?, cx.options.init, "who adopts the orphan");
    send_signal(orphan, libc::SIGKILL)?;
    gone(orphan)?;
    ends(job)
}

fn not_inherited(cx: &Cx) -> Res {
    same!(cx.probe(&mut cx.bundle()?)?["subreaper"], json!(0), "PR_GET_CHILD_SUBREAPER of a container's program");
    let c = cx.sleeping(&mut cx.bundle()?)?;
    same!(super::exec::probe(cx, &c, &[])?["subreaper"], json!(0), "PR_GET_CHILD_SUBREAPER of an exec's");
    Ok(())
}

fn run_killed(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps();
    let id = cx.id();
    cx.adopt(&id);
    let job = cx.with_bundle("run", &b, &id)?.spawn()?;
    up(&job)?;
    send_signal(job.pid(), libc::SIGKILL)?;
    same!(job.wait()?.signal, Some(libc::SIGKILL), "how the runtime ended");
    std::thread::sleep(Duration::from_millis(200));
    same!(cx.status(&id)?, "running", "status");
    cx.runtime("exec").args([&id, "true"]).out()?.ok()?;
    cx.delete_force(&id)?;
    ensure!(!cx.exists(&id), "the state is left");
    Ok(())
}

fn exec_killed(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let job =
        exec(cx, &c, &[], &["/bin/sh", "-c", "echo up; while :; do sleep 0.05; date > /tmp/alive; done"]).spawn()?;
    up(&job)?;
    send_signal(job.pid(), libc::SIGKILL)?;
    same!(job.wait()?.signal, Some(libc::SIGKILL), "how the runtime ended");
    same!(cx.status(&c.id)?, "running", "status");
    exec(cx, &c, &[], &["rm", "-f", "/tmp/alive"]).out()?.ok()?;
    eventually("the program goes on", || Ok(exec(cx, &c, &[], &["test", "-e", "/tmp/alive"]).out()?.code == Some(0)))?;
    cx.delete_force(&c.id)?;
    Ok(())
}

fn children(pid: u32) -> Res<Vec<i32>> {
    Ok(text(format!("/proc/{pid}/task/{pid}/children"))?.split_whitespace().filter_map(|p| p.parse().ok()).collect())
}

/// The caller's end closes the pipes as well: whatever anybody says meets nobody.
fn caller_dies(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("trap '' PIPE; trap 'echo stopping; until [ -e /tmp/go ]; do sleep 0.02; done; echo stopped >&2; exit 5' TERM; echo up; while :; do sleep 0.02; done");
    b.save()?;
    let id = cx.id();
    cx.adopt(&id);
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "\"$@\"; echo the caller lives", "sh"]).arg(&cx.options.runtime);
    command.args(cx.options.globals(&cx.root())).args(["--debug", "run", "--bundle"]).arg(&b.dir).arg(&id);
    let mut caller = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = caller.stdout.take().ok_or(std::io::Error::other("no pipe"))?;
    let mut said = [0; 3];
    std::io::Read::read_exact(&mut stdout, &mut said)?;
    same!(&said, b"up\n", "what the program says");
    let runtime = children(caller.id())?;
    same!(runtime.len(), 1, "processes of the caller");
    send_signal(runtime[0], libc::SIGTERM)?;
    let mut said = [0; 9];
    std::io::Read::read_exact(&mut stdout, &mut said)?;
    same!(&said, b"stopping\n", "what the program says");
    drop((stdout, caller.stderr.take()));
    caller.kill()?;
    caller.wait()?;
    ensure!(cx.exists(&id), "the program ended at once");
    std::fs::write(b.rootfs().join("tmp/go"), "")?;
    gone(runtime[0])?;
    ensure!(!cx.exists(&id), "the state is left");
    Ok(())
}

fn others_work(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps();
    let id = cx.id();
    let job = cx.with_bundle("run", &b, &id)?.spawn()?;
    up(&job)?;
    cx.runtime("pause").arg(&id).out()?.ok()?;
    same!(cx.status(&id)?, "paused", "status");
    cx.runtime("resume").arg(&id).out()?.ok()?;
    if has("pids.max").is_ok() {
        cx.runtime("update").args(["--pids-limit", "100", &id]).out()?.ok()?;
    }
    send_signal(job.pid(), libc::SIGTERM)?;
    job.wait()?.exits(3)?;
    ensure!(!cx.exists(&id), "the state is left");
    Ok(())
}

/// And make another one of that name, which the end of the first one leaves alone.
fn others_delete(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps();
    let id = cx.id();
    cx.adopt(&id);
    let job = cx.with_bundle("run", &b, &id)?.spawn()?;
    up(&job)?;
    // what waits for its lock: it must not be stopped with that in hand
    for verb in ["pause", "resume"] {
        cx.runtime(verb).arg(&id).out()?.ok()?;
    }
    // it sees the end of the first one when the second is there
    send_signal(job.pid(), libc::SIGSTOP)?;
    cx.delete_force(&id)?;
    cx.adopt(&id);
    cx.with_bundle("create", &b, &id)?.out()?.ok()?;
    send_signal(job.pid(), libc::SIGCONT)?;
    job.wait()?.exits(137)?;
    same!(cx.status(&id)?, "created", "status of the second");
    cx.start(&id)?;
    same!(cx.status(&id)?, "running", "status of the second");
    Ok(())
}
