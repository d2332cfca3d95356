//! A container in the foreground of a terminal with somebody in front of it: keys, screen, size, and
//! who has the terminal.

use crate::case::{Case, Context, Res};
use crate::cx::Cx;
use crate::stage::{GO, INSIDE, Stage, Way, both, is_there, ticks};
use crate::tmux::{COLUMNS, PROMPT, ROWS, Screen};
use crate::{ensure, same};
use std::fs;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    [
        both("terminal", "edits_and_echoes_a_line_once", typing),
        both("terminal", "echoes_once_where_the_kernel_does", cooked),
        both("terminal", "ctrl_c_interrupts_the_job_alone", ctrl_c),
        both("terminal", "ctrl_c_reaches_a_program_without_a_shell", ctrl_c_program),
        both("terminal", "ctrl_backslash_quits_the_job_alone", ctrl_backslash),
        both("terminal", "ctrl_z_suspends_a_job_inside", ctrl_z),
        both("terminal", "ctrl_d_ends_the_shell_with_its_status", ctrl_d).differs("crun", "1.8 leaves iutf8 cleared"),
        both("terminal", "has_the_size_from_the_first_instruction", size_at_once)
            .differs("runc", "sets it when the program runs already")
            .differs("crun", "sets it when the program runs already, with run never"),
        both("terminal", "has_the_size_after_a_resize", resize).differs("crun", "1.8 does not follow"),
        both("terminal", "a_resize_is_told_by_a_signal", resize_signal).differs("crun", "1.8 does not follow"),
        both("terminal", "passes_every_byte_that_is_typed", every_byte),
        both("terminal", "started_in_the_background_waits_for_the_foreground", background)
            .differs("crun", "changes the terminal under another's hands"),
        both("terminal", "a_stopped_runtime_gives_the_terminal_back", stopped)
            .differs("runc", "passes SIGTSTP on and keeps the terminal")
            .differs("crun", "passes SIGTSTP on and keeps the terminal"),
        both("terminal", "a_stopped_runtime_may_be_killed", stopped_killed)
            .differs("runc", "passes SIGTSTP on and keeps the terminal")
            .differs("crun", "passes SIGTSTP on and keeps the terminal"),
        both("terminal", "a_stopped_runtime_goes_on_to_its_end", stopped_ends)
            .differs("runc", "passes SIGTSTP on and keeps the terminal")
            .differs("crun", "passes SIGTSTP on and keeps the terminal"),
        both("terminal", "hang_up_reaches_the_program", hang_up),
        both("terminal", "hang_up_is_no_reason_to_spin", hang_up_ignored).differs("crun", "spins"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn typing(cx: &Cx, way: Way) -> Res {
    let stage = Stage::shell(cx, way)?;
    let screen = stage.play(INSIDE)?;
    ensure!(screen.is_raw()?, "the outer terminal is not raw: {}", screen.settings()?);
    screen.types("echo on''X")?;
    screen.press("BSpace")?;
    screen.enters("e $((20+22))")?;
    screen.shows("one 42")?;
    let text = screen.text()?;
    same!(text.matches("echo on''e $((20+22))").count(), 1, format!("lines with what was typed in\n{text}"));
    screen.press("C-d")?;
    screen.shows("status=0.")
}

/// `cat` does not edit: the terminal inside echoes, and the one outside must not.
fn cooked(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, "echo up; exec cat")?;
    let screen = stage.play("up")?;
    screen.types("liX")?;
    screen.press("BSpace")?;
    screen.enters("ne")?;
    screen.until("has the line twice", |text| text.lines().filter(|line| *line == "line").count() == 2)?;
    screen.press("C-d")?;
    screen.shows("status=0.")?;
    let text = screen.text()?;
    same!(text.lines().filter(|line| *line == "line").count(), 2, format!("the echo and the output in\n{text}"));
    Ok(())
}

/// A job that has said that it runs: `sh` says so in the job's own process group.
fn job(screen: &Screen, name: &str, then: &str) -> Res {
    screen.enters(&format!("sh -c 'echo {name}=$((1))=; exec {then}'"))?;
    screen.shows(&format!("{name}=1="))
}

fn interrupted_by(cx: &Cx, way: Way, key: &str) -> Res {
    let stage = Stage::shell(cx, way)?;
    let screen = stage.play(INSIDE)?;
    job(&screen, "job", "sleep 1000")?;
    screen.press(key)?;
    screen.ends_with(INSIDE)?;
    screen.enters("echo al''ive $?")?;
    let status = if key == "C-c" { 130 } else { 131 };
    screen.shows(&format!("alive {status}"))?;
    stage.runs()?;
    screen.enters("exit 4")?;
    screen.shows("status=4.")
}

fn ctrl_c(cx: &Cx, way: Way) -> Res {
    interrupted_by(cx, way, "C-c")
}

fn ctrl_backslash(cx: &Cx, way: Way) -> Res {
    interrupted_by(cx, way, "C-\\")
}

fn ctrl_c_program(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, "trap 'echo interrupted; exit 6' INT; echo up; while :; do sleep 0.05; done")?;
    let screen = stage.play("up")?;
    screen.press("C-c")?;
    screen.shows("status=6.")?;
    let text = screen.text()?;
    same!(text.matches("interrupted").count(), 1, format!("how often it was interrupted in\n{text}"));
    Ok(())
}

fn ctrl_z(cx: &Cx, way: Way) -> Res {
    let stage = Stage::shell(cx, way)?;
    let screen = stage.play(INSIDE)?;
    job(&screen, "job", "cat")?;
    screen.press("C-z")?;
    screen.shows("Stopped")?;
    screen.ends_with(INSIDE)?;
    screen.enters("fg")?;
    screen.enters("resumed")?;
    screen.until("has the line twice", |text| text.lines().filter(|line| *line == "resumed").count() == 2)?;
    screen.press("C-d")?;
    screen.ends_with(INSIDE)?;
    stage.runs()?;
    screen.enters("exit 5")?;
    screen.shows("status=5.")
}

fn ctrl_d(cx: &Cx, way: Way) -> Res {
    let stage = Stage::shell(cx, way)?;
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters(GO)?;
    screen.shows(INSIDE)?;
    screen.enters("(exit 3); echo le''ft")?;
    screen.shows("left")?;
    screen.enters("(exit 3)")?;
    // a key that comes before the shell edits the line again is not the same key
    screen.until("has a new prompt", |text| text.trim_end().ends_with(&format!("(exit 3)\n{}", INSIDE.trim_end())))?;
    screen.press("C-d")?;
    screen.shows("status=3.")?;
    screen.ends_with(PROMPT)?;
    screen.unchanged(&before).context("the outer terminal")?;
    screen.enters("echo ba''ck")?;
    screen.shows("back")?;
    let text = screen.text()?;
    same!(text.matches("echo ba''ck").count(), 1, format!("lines with what was typed in\n{text}"));
    Ok(())
}

fn size(columns: u16, rows: u16) -> String {
    format!("{rows} {columns}")
}

/// Ten times: the size must not come after the program.
fn size_at_once(cx: &Cx, way: Way) -> Res {
    let stage = Stage::new(cx, way, &["stty", "size"])?;
    let screen = stage.screen()?;
    screen.enters("for n in 0 1 2 3 4 5 6 7 8 9; do ./go; done; echo al''l")?;
    screen.shows("all")?;
    let text = screen.text()?;
    let right = text.lines().filter(|line| *line == size(COLUMNS, ROWS)).count();
    same!(right, 10, format!("how often the size was right at once in\n{text}"));
    Ok(())
}

fn resize(cx: &Cx, way: Way) -> Res {
    let stage = Stage::shell(cx, way)?;
    let screen = stage.play(INSIDE)?;
    for (columns, rows) in [(120, 40), (40, 12), (81, 23)] {
        screen.resize(columns, rows)?;
        let new = size(columns, rows);
        screen.enters(&format!("until stty size | grep '^{rows} {columns}$'; do sleep 0.05; done"))?;
        screen.until(&format!("shows {new:?} alone"), |text| text.lines().any(|line| line == new))?;
    }
    screen.enters("exit 2")?;
    screen.shows("status=2.")
}

fn resize_signal(cx: &Cx, way: Way) -> Res {
    let stage =
        Stage::script(cx, way, "trap 'stty size' WINCH; trap 'exit 2' INT; echo up; while :; do sleep 0.05; done")?;
    let screen = stage.play("up")?;
    screen.resize(77, 33)?;
    screen.shows(&size(77, 33))?;
    screen.resize(66, 22)?;
    screen.shows(&size(66, 22))?;
    screen.press("C-c")?;
    screen.shows("status=2.")
}

fn every_byte(cx: &Cx, way: Way) -> Res {
    let take = "stty raw -echo; echo up; dd bs=1 count=256 of=/tmp/took 2>/dev/null; exit 9";
    let stage = Stage::script(cx, way, take)?;
    let screen = stage.play("up")?;
    let all: Vec<u8> = (0..=255).collect();
    screen.bytes(&all)?;
    screen.shows("status=9.")?;
    let took = fs::read(stage.inside("tmp/took")).context("what the program read")?;
    same!(took, all, "what the program read");
    Ok(())
}

fn background(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, "echo up; read line; echo got-$line; exit 8")?;
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters("./go &")?;
    std::thread::sleep(Duration::from_millis(700));
    screen.unchanged(&before).context("while another has the foreground")?;
    screen.enters("echo mi''ne")?;
    screen.shows("mine")?;
    screen.unchanged(&before).context("while another has the foreground")?;
    screen.enters("fg; echo status=$?.")?;
    screen.shows("up")?;
    screen.until("is raw", |_| screen.is_raw().unwrap_or(false))?;
    screen.enters("words")?;
    screen.shows("got-words")?;
    screen.shows("status=8.")?;
    screen.unchanged(&before).context("at the end")?;
    Ok(())
}

/// SIGTSTP from somebody: `kill -TSTP`, or a shell's `suspend`.
fn stop(stage: &Stage, screen: &Screen) -> Res {
    send(stage.pid()?, "TSTP")?;
    screen.ends_with(PROMPT)
}

fn send(pid: i32, signal: &str) -> Res {
    let sent = std::process::Command::new("/bin/kill").args([&format!("-{signal}"), &pid.to_string()]).status()?;
    ensure!(sent.success(), "kill -{signal} {pid}: {sent}");
    Ok(())
}

fn stopped(cx: &Cx, way: Way) -> Res {
    let stage = Stage::shell(cx, way)?;
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters("./go")?;
    screen.shows(INSIDE)?;
    for round in 1..=2 {
        stop(&stage, &screen)?;
        screen.unchanged(&before).context("while the runtime is stopped")?;
        screen.enters(&format!("echo outer $(({round}+10))"))?;
        screen.shows(&format!("outer {}", round + 10))?;
        screen.enters("fg; echo status=$?.")?;
        screen.until("is raw", |_| screen.is_raw().unwrap_or(false))?;
        screen.enters(&format!("echo inner $(({round}+20))"))?;
        screen.shows(&format!("inner {}", round + 20))?;
    }
    screen.enters("exit 7")?;
    screen.shows("status=7.")?;
    screen.unchanged(&before).context("at the end")?;
    Ok(())
}

fn stopped_killed(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")?;
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters("./go")?;
    screen.shows("up")?;
    stop(&stage, &screen)?;
    // in the background from then on: the terminal stays the outer shell's
    screen.enters("kill %1; kill -CONT %1")?;
    stage.ends()?;
    screen.enters("echo en''d")?;
    screen.shows("end")?;
    screen.shows("Done(7)")?;
    screen.unchanged(&before).context("at the end")
}

/// What happened meanwhile is seen at once.
fn stopped_ends(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, "echo up; until [ -e /tmp/go ]; do sleep 0.02; done; echo late; exit 7")?;
    let screen = stage.screen()?;
    let before = screen.settings()?;
    screen.enters("./go")?;
    screen.shows("up")?;
    stop(&stage, &screen)?;
    fs::write(stage.inside("tmp/go"), "")?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(!screen.text()?.contains("late"), "a stopped runtime writes: {}", screen.text()?);
    screen.enters("fg; echo status=$?.")?;
    screen.shows("late")?;
    screen.shows("status=7.")?;
    screen.unchanged(&before).context("at the end")
}

fn hang_up(cx: &Cx, way: Way) -> Res {
    let stage =
        Stage::script(cx, way, "trap 'echo hup > /tmp/heard; exit 5' HUP; echo up; while :; do sleep 0.05; done")?;
    let screen = stage.play("up")?;
    screen.close()?;
    same!(stage.wrote("tmp/heard")?, "hup", "what the program heard");
    stage.ends()
}

/// A program that stays: so does the runtime, and costs nothing.
fn hang_up_ignored(cx: &Cx, way: Way) -> Res {
    let script = "trap 'echo hup > /tmp/heard' HUP; trap 'exit 5' TERM; echo up; while :; do sleep 0.05; done";
    let stage = Stage::script(cx, way, script)?;
    let screen = stage.play("up")?;
    screen.close()?;
    same!(stage.wrote("tmp/heard")?, "hup", "what the program heard");
    let pid = stage.pid()?;
    let begin = ticks(pid)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(is_there(pid), "the runtime has left its container alone");
    let used = ticks(pid)? - begin;
    ensure!(used < 10, "the runtime used {used} ticks of 10 ms in a second");
    send(pid, "TERM")?;
    stage.ends()
}
