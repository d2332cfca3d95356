//! However a container in the foreground ends, the terminal it had is as it was.

use crate::case::{Case, Context, Res};
use crate::cx::Cx;
use crate::ensure;
use crate::stage::{GO, Stage, Way, both};
use crate::tmux::{PROMPT, Screen};

pub fn cases() -> Vec<Case> {
    let both =
        |what, body| both("terminal_after", what, body).differs("crun", "1.8 leaves iutf8 cleared, with exec more");
    [
        both("exit_0", exit_0),
        both("exit_3", exit_3),
        both("death_by_a_signal", by_signal),
        both("a_kill_of_the_container", killed),
        both("sigterm_for_the_runtime", terminated),
        both("a_program_that_is_missing", missing),
        both("an_error_of_the_runtime", own_failure),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The program spoils its own terminal, and waits for a line.
const SPOILS: &str = "stty -echo -opost -icrnl; echo up; read line;";

/// The runtime is started, something happens, the status comes: the outer terminal is as it was.
fn sane(stage: &Stage<'_>, status: &str, happens: impl Fn(&Screen) -> Res) -> Res {
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters(GO)?;
    screen.shows("up")?;
    screen.until("is raw", |_| screen.is_raw().unwrap_or(false))?;
    happens(&screen)?;
    screen.shows(&format!("status={status}."))?;
    screen.ends_with(PROMPT)?;
    screen.unchanged(&before)
}

/// ctrl-J: the terminal inside takes no Enter for the end of a line any more.
fn line(screen: &Screen) -> Res {
    screen.press("C-j")
}

fn exit_0(cx: &Cx, way: Way) -> Res {
    sane(&Stage::script(cx, way, &format!("{SPOILS} exit 0"))?, "0", line)
}

fn exit_3(cx: &Cx, way: Way) -> Res {
    sane(&Stage::script(cx, way, &format!("{SPOILS} exit 3"))?, "3", line)
}

/// Without a pid namespace: the first process of one cannot kill itself.
fn by_signal(cx: &Cx, way: Way) -> Res {
    let script = format!("{SPOILS} kill -SEGV $$");
    let stage = Stage::with(cx, way, &["/bin/sh", "-c", &script], |bundle| bundle.namespace("pid", None))?;
    sane(&stage, "139", line)
}

/// With exec: the program's container ends under it.
fn killed(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, SPOILS)?;
    sane(&stage, "137", |_| cx.kill(&stage.id, "KILL").map(drop))
}

fn terminated(cx: &Cx, way: Way) -> Res {
    let script = "trap 'exit 7' TERM; stty -echo -opost; echo up; while :; do sleep 0.05; done";
    let stage = Stage::script(cx, way, script)?;
    sane(&stage, "7", |_| {
        let sent = std::process::Command::new("/bin/kill").arg(stage.pid()?.to_string()).status()?;
        ensure!(sent.success(), "kill: {sent}");
        Ok(())
    })
}

/// It never comes so far that there is a program.
fn failing(stage: &Stage<'_>) -> Res {
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters(GO)?;
    screen.until("shows a status", |text| text.lines().any(|line| line.starts_with("status=")))?;
    ensure!(!screen.text()?.contains("status=0."), "the runtime says nothing of an error: {}", screen.text()?);
    screen.ends_with(PROMPT)?;
    screen.unchanged(&before).context("after a failure")
}

fn missing(cx: &Cx, way: Way) -> Res {
    failing(&Stage::new(cx, way, &["/no/such/program"])?)
}

fn own_failure(cx: &Cx, way: Way) -> Res {
    let mut stage = Stage::new(cx, way, &["/bin/true"])?;
    stage.spoil()?;
    failing(&stage)
}
