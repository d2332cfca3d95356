//! What the runtime carries between a terminal in the container and its own descriptors: all of it, once,
//! whatever becomes of either end.

use crate::case::{Case, Context, Res, case};
use crate::cx::Cx;
use crate::probe::Pattern;
use crate::pty::{Output, Pty, Relay};
use crate::stage::{Stage, Way, both};
use crate::{ensure, same};
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

const MIB: usize = 1 << 20;

pub fn cases() -> Vec<Case> {
    let both = |what, body| both("relay", what, body);
    let terminals = [
        both("brings_each_of_100000_small_writes", small_writes),
        both("brings_16_mib", big),
        both("brings_what_was_said_last", said_last),
        both("translates_newlines_once", newlines),
        both("waits_for_a_reader_that_pauses", pausing_reader),
        both("hears_signals_and_keys_while_its_output_is_blocked", blocked).differs("crun", "waits in its writes"),
        both("echoes_a_mib_to_a_slow_reader", echo).differs("crun", "exec: waits in its writes"),
        both("outlives_its_reader", reader_gone)
            .differs("runc", "reads no more, and the program waits for ever")
            .differs("crun", "reads no more, and the program waits for ever"),
        both("needs_no_stdin", stdin_closed).differs("crun", "1.8 brings no output then"),
        both("goes_on_at_the_end_of_stdin", stdin_ended).differs("crun", "1.8 brings no output then"),
        both("needs_no_stdout", stdout_closed)
            .differs("runc", "reads no more, and the program waits for ever")
            .differs("crun", "reads no more, and the program waits for ever"),
        both("needs_no_stderr", stderr_closed).differs("crun", "1.8 brings no output then"),
        both("rests_while_nobody_has_the_terminal_open", reopened),
        both("ends_before_an_orphan_with_the_terminal", orphan),
        both("brings_a_gib_through_plain_pipes", plain).patience(2),
    ];
    let mut all: Vec<Case> = terminals.into_iter().flatten().collect();
    all.push(case("relay::run_brings_what_is_piped_in", piped_in).only(&["ferrun"], "the peers want a terminal"));
    all.push(case("relay::exec_leaves_the_containers_console_alone", console_stays));
    all
}

/// A program of the probe's that writes the pattern to a raw terminal.
fn writer(cx: &Cx, way: Way, total: usize, chunk: usize) -> Res<Stage<'_>> {
    Stage::script(cx, way, &format!("stty raw -echo; /probe stream {total} {chunk}; exit 3"))
}

fn whole(cx: &Cx, way: Way, total: usize, chunk: usize) -> Res {
    let stage = writer(cx, way, total, chunk)?;
    let (mut relay, _pty, mut output) = Relay::typed(&stage)?;
    output.is(&mut Pattern::new(), total)?;
    output.ends()?;
    relay.exits(3)
}

fn small_writes(cx: &Cx, way: Way) -> Res {
    whole(cx, way, 100_000, 1)
}

fn big(cx: &Cx, way: Way) -> Res {
    whole(cx, way, 16 * MIB, 65536)
}

/// Much, and then the end at once: what is still in the terminal must come.
fn said_last(cx: &Cx, way: Way) -> Res {
    let stage = writer(cx, way, 100_000, 100_000)?;
    for round in 0..50 {
        let (mut relay, _pty, mut output) = Relay::typed(&stage)?;
        output.is(&mut Pattern::new(), 100_000).context(format!("round {round}"))?;
        output.ends()?;
        relay.exits(3)?;
    }
    Ok(())
}

/// The terminal inside makes CR LF of it, the one outside must not do it again.
fn newlines(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, "sleep 0.2; echo one; echo two; exit 3")?;
    let pty = Pty::open()?;
    let mut relay = Relay::start(&stage, stage.command(), pty.end()?, pty.end()?)?;
    same!(pty.output()?.says("two\r\n")?, "one\r\ntwo\r\n", "the output");
    relay.exits(3)
}

fn pausing_reader(cx: &Cx, way: Way) -> Res {
    let stage = writer(cx, way, 4 * MIB, 65536)?;
    let (mut relay, _pty, mut output) = Relay::typed(&stage)?;
    let mut pattern = Pattern::new();
    output.is(&mut pattern, MIB)?;
    relay.rests()?;
    std::thread::sleep(Duration::from_secs(1));
    output.is(&mut pattern, 3 * MIB)?;
    output.ends()?;
    relay.exits(3)
}

/// Nobody reads, ever; then the container is killed, and the reader gone.
fn blocked(cx: &Cx, way: Way) -> Res {
    let script = "stty raw -echo; trap 'echo heard > /tmp/signal' USR1; echo up; cat /dev/zero & \
                  while :; do read -r line && echo $line > /tmp/typed; done";
    let stage = Stage::script(cx, way, script)?;
    let (mut relay, pty, mut output) = Relay::typed(&stage)?;
    output.says("up\n")?;
    pty.becomes_raw()?;
    relay.rests()?;
    let sent = std::process::Command::new("/bin/kill").args(["-USR1", &relay.pid().to_string()]).status()?;
    ensure!(sent.success(), "kill -USR1: {sent}");
    same!(stage.wrote("tmp/signal")?, "heard", "the signal");
    pty.types(b"words\n")?;
    same!(stage.wrote("tmp/typed")?, "words", "what was typed");
    cx.kill(&stage.id, "KILL")?;
    std::thread::sleep(Duration::from_millis(300));
    drop(output);
    relay.exits(137)
}

/// More than fits anywhere on the way: whoever waits in a write must not be who has to read.
fn echo(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, &format!("stty raw -echo; echo up; head -c {MIB}; exit 3"))?;
    let (mut relay, pty, mut output) = Relay::typed(&stage)?;
    output.says("up\n")?;
    pty.becomes_raw()?;
    let typist = std::thread::spawn({
        let mut keys = fs::File::from(pty.master.try_clone()?);
        move || {
            let mut bytes = vec![0; MIB];
            Pattern::new().fill(&mut bytes);
            keys.write_all(&bytes)
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    ensure!(!typist.is_finished(), "a MiB is not enough to fill what is on the way");
    let mut pattern = Pattern::new();
    for part in 0..128 {
        output.is(&mut pattern, MIB / 128).context(format!("part {part} of 128"))?;
        std::thread::sleep(Duration::from_millis(5));
    }
    output.ends()?;
    if let Ok(typed) = typist.join() {
        typed.context("type a MiB")?;
    }
    relay.exits(3)
}

fn reader_gone(cx: &Cx, way: Way) -> Res {
    let script = "stty -echo; echo up; read line; /probe stream 300000 1000; echo $line > /tmp/done; exit 3";
    let stage = Stage::script(cx, way, script)?;
    let (mut relay, pty, mut output) = Relay::typed(&stage)?;
    output.says("up")?;
    pty.becomes_raw()?;
    drop(output);
    pty.types(b"alone\r")?;
    same!(stage.wrote("tmp/done")?, "alone", "what the program read");
    relay.exits(3)
}

/// Says two words with a second between, in which the runtime rests.
const TWO_WORDS: &str = "echo up; sleep 1.5; echo on; exit 3";

fn two_words(relay: &mut Relay, output: &mut Output) -> Res {
    output.says("up")?;
    relay.rests()?;
    output.says("on")?;
    relay.exits(3)
}

fn stdin_closed(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, TWO_WORDS)?;
    let pty = Pty::open()?;
    let command = stage.command_by("exec \"$@\" <&-");
    two_words(&mut Relay::start(&stage, command, Stdio::null(), pty.end()?)?, &mut pty.output()?)
}

fn stdin_ended(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, TWO_WORDS)?;
    let pty = Pty::open()?;
    two_words(&mut Relay::start(&stage, stage.command(), Stdio::null(), pty.end()?)?, &mut pty.output()?)
}

/// Much said to nobody, and a file that says how it was.
const TALKS: &str = "/probe stream 300000 1000; echo $? > /tmp/done; sleep 1.5; exit 3";

fn stdout_closed(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, TALKS)?;
    let pty = Pty::open()?;
    let command = stage.command_by("exec \"$@\" >&-");
    let mut relay = Relay::start(&stage, command, pty.end()?, Stdio::null())?;
    same!(stage.wrote("tmp/done")?, "0", "how the program could write");
    relay.rests()?;
    relay.exits(3)
}

fn stderr_closed(cx: &Cx, way: Way) -> Res {
    let stage = Stage::script(cx, way, TWO_WORDS)?;
    let pty = Pty::open()?;
    let command = stage.command_by("exec \"$@\" 2>&-");
    two_words(&mut Relay::start(&stage, command, pty.end()?, pty.end()?)?, &mut pty.output()?)
}

/// As systemd does with its console.
fn reopened(cx: &Cx, way: Way) -> Res {
    let device = if way == Way::Run { "console" } else { "tty" };
    let script = format!(
        "echo up; exec </dev/null >/dev/null 2>&1; sleep 1.5; echo again >/dev/{device}; sleep 0.2; \
         exec >/dev/tty; echo and again; exit 3"
    );
    let stage = Stage::script(cx, way, &script)?;
    let (mut relay, _pty, mut output) = Relay::typed(&stage)?;
    output.says("up")?;
    relay.rests()?;
    output.says("again")?;
    output.says("and again")?;
    relay.exits(3)
}

fn orphan(cx: &Cx, way: Way) -> Res {
    let script = "(trap '' HUP; echo up; exec sleep 1000) & sleep 0.3; exit 3";
    let stage = Stage::with(cx, way, &["/bin/sh", "-c", script], |bundle| bundle.namespace("pid", None))?;
    let (mut relay, _pty, mut output) = Relay::typed(&stage)?;
    output.says("up")?;
    relay.exits(3)
}

fn plain(cx: &Cx, way: Way) -> Res {
    let stage = Stage::plain(cx, way, &["/probe", "stream", &(1024 * MIB).to_string(), "65536"])?;
    let (output, stdout) = std::io::pipe()?;
    let mut relay = Relay::start(&stage, stage.command(), Stdio::null(), stdout.into())?;
    let mut output = Output::from(output);
    output.is(&mut Pattern::new(), 1024 * MIB)?;
    output.ends()?;
    relay.exits(0)
}

/// A terminal inside, none outside.
fn piped_in(cx: &Cx) -> Res {
    let stage = Stage::script(cx, Way::Run, &format!("stty raw -echo; echo up; head -c {MIB}; exit 3"))?;
    let ((keys, mut typist), (output, stdout)) = (std::io::pipe()?, std::io::pipe()?);
    let mut relay = Relay::start(&stage, stage.command(), keys.into(), stdout.into())?;
    let mut output = Output::from(output);
    output.says("up\n")?;
    let typing = std::thread::spawn(move || {
        let mut bytes = vec![0; MIB];
        Pattern::new().fill(&mut bytes);
        typist.write_all(&bytes)
    });
    output.is(&mut Pattern::new(), MIB)?;
    output.ends()?;
    if let Ok(typed) = typing.join() {
        typed.context("write a MiB")?;
    }
    relay.exits(3)
}

/// /dev/console is the terminal of the container, not of a process that came later; the next one
/// gets a terminal as well.
fn console_stays(cx: &Cx) -> Res {
    let stage = Stage::script(cx, Way::Exec, "echo $(ls /dev/console 2>&1); exit 3")?;
    for _ in 0..2 {
        let (mut relay, _pty, mut output) = Relay::typed(&stage)?;
        let said = output.says("\n")?;
        ensure!(said.contains("No such file"), "a container without a terminal has a /dev/console: {said}");
        relay.exits(3)?;
    }
    Ok(())
}
