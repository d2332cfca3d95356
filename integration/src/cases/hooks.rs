//! Hooks: order, what they are given, and what happens when they fail.

use crate::bundle::Bundle;
use crate::case::{Case, Res, broken, case};
use crate::cx::{Cx, namespace};
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    vec![
        case("hooks::order", order).differs("runc", POSTSTART),
        case("hooks::several_of_a_kind_in_order", several),
        case("hooks::state_on_stdin", state)
            .differs("runc", "1.1 says `created` to poststart, which it runs before the program")
            .differs("crun", "1.8 says `created` where it is still being made, and `starting`"),
        case("hooks::state_has_id_pid_and_bundle", state_ids)
            .differs("crun", "to the hooks inside the pid is 0 and the bundle is /"),
        case("hooks::args_are_exact", args),
        case("hooks::env_is_exact", env),
        case("hooks::without_env_has_none", env_none)
            .differs("runc", "passes its own environment on")
            .differs("crun", "passes its own environment on"),
        case("hooks::namespaces_of_each_kind", namespaces),
        case("hooks::descriptors_are_only_the_three", descriptors)
            .differs("runc", "the hooks that run inside inherit the init's pipes and the start FIFO"),
        case("hooks::poststop_runs_at_delete", poststop),
        case("hooks::poststop_runs_at_delete_force", poststop_force),
        case("hooks::poststop_that_fails_does_not_stop_the_delete", poststop_fails)
            .differs("runc", "the first that fails ends the list (the delete goes on)"),
        case("hooks::poststart_after_the_program_began", poststart_after).differs("runc", POSTSTART),
        case("hooks::timeout_ends_the_hook", timeout),
        case("hooks::timeout_ends_the_whole_group", timeout_group)
            .only(&["ferrun"], "runc 1.1 waits for the pipe that the children hold, crun leaves them running"),
        case("hooks::missing_program_is_refused", missing),
        case("hooks::relative_path_is_refused", relative),
        case("hooks::prestart_that_fails_undoes_all", |cx| failing(cx, "prestart")),
        case("hooks::create_runtime_that_fails_undoes_all", |cx| failing(cx, "createRuntime")),
        case("hooks::create_container_that_fails_undoes_all", |cx| failing(cx, "createContainer")),
        case("hooks::start_container_that_fails_is_an_error", failing_start),
        case("hooks::poststart_that_fails", failing_poststart).differs("runc", POSTSTART),
        case("hooks::error_names_path_exit_and_stderr", error_names)
            .only(&["ferrun"], "runc gives number and exit, crun the exit"),
        case("hooks::many_words_on_stdout_do_not_block", chatty),
    ]
}

const POSTSTART: &str = "before 1.6 it runs the poststart hooks at the end of create";

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The probe as the host calls it.
fn host_probe(cx: &Cx) -> PathBuf {
    cx.options.base.join("template/probe")
}

/// A hook that writes down what it was given, then does what `rest` says. The
/// file is a bind in the container too, for the kinds that run inside.
fn hook(cx: &Cx, b: &mut Bundle, kind: &str, file: &Path, rest: &[&str]) -> Value {
    let inside = kind == "startContainer";
    let path = if inside { PathBuf::from("/probe") } else { host_probe(cx) };
    let mut args = vec!["probe".to_owned(), "hook".to_owned(), file.display().to_string()];
    args.extend(rest.iter().map(|r| (*r).to_owned()));
    let mut env = vec![format!("KIND={kind}")];
    env.extend(rest.iter().filter_map(|r| r.strip_prefix("env:")).map(str::to_owned));
    let h = json!({"path": path, "args": args, "env": env});
    b.push(&format!("/hooks/{kind}"), h.clone());
    h
}

/// The directory for the hooks' notes, at the same path inside and outside.
fn notes(cx: &Cx, b: &mut Bundle) -> Res<PathBuf> {
    let dir = cx.path("notes");
    fs::create_dir_all(&dir)?;
    b.bind(&dir, &dir.display().to_string(), &["bind"]);
    let file = dir.join("log");
    fs::write(&file, "")?;
    // hooks of the host's root and of the container's write to it
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    Ok(file)
}

fn read(file: &Path) -> Res<Vec<Value>> {
    let text = fs::read_to_string(file).unwrap_or_default();
    Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

fn kinds(entries: &[Value]) -> Vec<String> {
    let kind = |e: &Value| {
        e["env"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .find_map(|v| v.strip_prefix("KIND=").map(str::to_owned))
    };
    entries.iter().map(|e| kind(e).unwrap_or_else(|| "?".into())).collect()
}

fn all_six(cx: &Cx) -> Res<(Bundle, PathBuf)> {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    for kind in KINDS {
        hook(cx, &mut b, kind, &file, &[]);
    }
    b.sleeps();
    Ok((b, file))
}

fn order(cx: &Cx) -> Res {
    let (b, file) = all_six(cx)?;
    let c = cx.create(&b)?;
    same!(kinds(&read(&file)?), KINDS[..3], "after create");
    cx.start(&c.id)?;
    cx.hears(&c, "up")?;
    let mut got = kinds(&read(&file)?);
    // These two are started by two processes, and the first to write is written first.
    got[3..].sort_by_key(|k| k == "poststart");
    same!(got, KINDS[..5], "after start");
    cx.kill(&c.id, "KILL")?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    same!(read(&file)?.len(), 6, "hooks after delete");
    same!(kinds(&read(&file)?)[5], "poststop", "the last one");
    Ok(())
}

fn several(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    for n in 0..4 {
        hook(cx, &mut b, "createRuntime", &file, &[&format!("env:N={n}")]);
    }
    cx.run(&b)?.ok()?;
    let seen: Vec<String> = read(&file)?.iter().map(|e| e["env"][1].as_str().unwrap_or_default().to_owned()).collect();
    same!(seen, ["N=0", "N=1", "N=2", "N=3"], "order");
    Ok(())
}

fn through(cx: &Cx) -> Res<(Bundle, String, i32, Vec<Value>)> {
    let (b, file) = all_six(cx)?;
    let c = cx.create(&b)?;
    let pid = cx.pid(&c.id)?;
    cx.start(&c.id)?;
    cx.hears(&c, "up")?;
    eventually("poststart has run", || Ok(read(&file)?.len() == 5))?;
    cx.delete_force(&c.id)?;
    let mut entries = read(&file)?;
    entries.sort_by_key(|e| KINDS.iter().position(|k| kinds(std::slice::from_ref(e))[0] == *k));
    same!(entries.len(), 6, "hooks");
    Ok((b, c.id, pid, entries))
}

fn state(cx: &Cx) -> Res {
    let (_, _, _, entries) = through(cx)?;
    let status: Vec<&str> = entries.iter().map(|e| e["state"]["status"].as_str().unwrap_or("?")).collect();
    same!(status, ["created", "creating", "creating", "created", "running", "stopped"], "status");
    Ok(())
}

fn state_ids(cx: &Cx) -> Res {
    let (b, id, pid, entries) = through(cx)?;
    for (kind, e) in KINDS.iter().zip(&entries) {
        let s = &e["state"];
        same!(s["id"], json!(id), format!("{kind}: id"));
        same!(s["bundle"], json!(b.dir), format!("{kind}: bundle"));
        ensure!(
            s["ociVersion"].as_str().is_some_and(|v| v.starts_with("1.")),
            "{kind}: ociVersion {}",
            s["ociVersion"]
        );
        match *kind {
            // Inside of the container's pid namespace it is 1 to runc.
            "createContainer" | "startContainer" => {
                ensure!(s["pid"] == json!(pid) || s["pid"] == json!(1), "{kind}: pid {}", s["pid"])
            }
            "poststop" => {}
            _ => same!(s["pid"], json!(pid), format!("{kind}: pid")),
        }
    }
    Ok(())
}

fn args(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    for kind in KINDS {
        let h = hook(cx, &mut b, kind, &file, &["", "two words", "--x"]);
        same!(h["args"].as_array().map(Vec::len), Some(6), "the case's own");
    }
    cx.run(&b)?.ok()?;
    let entries = read(&file)?;
    same!(entries.len(), 6, "hooks");
    for e in entries {
        same!(e["args"], json!(["probe", "hook", file, "", "two words", "--x"]), "args, the first being args[0]");
    }
    Ok(())
}

fn env(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    for kind in KINDS {
        hook(cx, &mut b, kind, &file, &["env:A=1", "env:EMPTY="]);
    }
    cx.run(&b)?.ok()?;
    for (kind, e) in KINDS.iter().zip(read(&file)?) {
        let mut env = e["env"].clone();
        if let Some(list) = env.as_array_mut() {
            list.remove(0);
        }
        same!(env, json!(["A=1", "EMPTY="]), format!("{kind}: env"));
    }
    Ok(())
}

fn env_none(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    b.push("/hooks/createRuntime", json!({"path": host_probe(cx), "args": ["probe", "hook", file]}));
    cx.run(&b)?.ok()?;
    same!(read(&file)?[0]["env"], json!([]), "env");
    Ok(())
}

/// createContainer and startContainer see the container's mounts, the rest the
/// runtime's own.
fn namespaces(cx: &Cx) -> Res {
    let (_, _, _, entries) = through(cx)?;
    let own = namespace("self", "mnt")?;
    for (kind, e) in KINDS.iter().zip(entries) {
        let host = e["ns"]["mnt"] == json!(own);
        let inside = ["createContainer", "startContainer"].contains(kind);
        ensure!(host != inside, "{kind} runs in the {} mount namespace", if host { "host's" } else { "container's" });
    }
    Ok(())
}

fn descriptors(cx: &Cx) -> Res {
    let (_, _, _, entries) = through(cx)?;
    for (kind, e) in KINDS.iter().zip(entries) {
        let fds: Vec<i64> = e["fds"].as_array().into_iter().flatten().filter_map(|f| f["fd"].as_i64()).collect();
        ensure!(fds.iter().all(|n| *n < 3), "{kind} has descriptors {}", e["fds"]);
    }
    Ok(())
}

fn with_poststop(cx: &Cx, rest: &[&str]) -> Res<(Bundle, PathBuf)> {
    let mut b = cx.bundle()?;
    let file = cx.path("stop");
    hook(cx, &mut b, "poststop", &file, rest);
    Ok((b, file))
}

fn poststop(cx: &Cx) -> Res {
    let (b, file) = with_poststop(cx, &[])?;
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    ensure!(!file.exists(), "it ran before delete");
    cx.delete(&c.id)?;
    same!(read(&file)?.len(), 1, "runs");
    Ok(())
}

fn poststop_force(cx: &Cx) -> Res {
    let (mut b, file) = with_poststop(cx, &[])?;
    let c = cx.sleeping(&mut b)?;
    cx.delete_force(&c.id)?;
    same!(read(&file)?.len(), 1, "runs");
    Ok(())
}

/// The spec: an error is logged, the others and the delete go on.
fn poststop_fails(cx: &Cx) -> Res {
    let (mut b, file) = with_poststop(cx, &["exit:5"])?;
    hook(cx, &mut b, "poststop", &file, &["env:SECOND=1"]);
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    cx.delete(&c.id)?;
    same!(read(&file)?.len(), 2, "runs");
    Ok(())
}

/// The program leaves a mark at once; the hook looks for it.
fn poststart_after(cx: &Cx) -> Res {
    for _ in 0..5 {
        let mut b = cx.bundle()?;
        let seen = cx.path("seen");
        // /proc/PID/exe is the program's own only after execve.
        let script =
            format!("pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); readlink /proc/$pid/exe > {}", seen.display());
        b.push(
            "/hooks/poststart",
            json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}),
        );
        let c = cx.sleeping(&mut b)?;
        eventually("the hook has run", || Ok(seen.exists()))?;
        same!(fs::read_to_string(&seen)?, "/bin/busybox\n", "the program when poststart ran");
        cx.delete_force(&c.id)?;
        fs::remove_file(&seen)?;
    }
    Ok(())
}

fn timeout(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/hooks/createRuntime", json!({"path": "/bin/sleep", "args": ["sleep", "300"], "timeout": 1}));
    let begin = Instant::now();
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "it took {:?}", begin.elapsed());
    Ok(())
}

fn timeout_group(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let pid = cx.path("pid");
    let script = format!("sleep 60 & echo $! > {}; wait", pid.display());
    b.push(
        "/hooks/createRuntime",
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 1}),
    );
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&["timeout", "timed out"])?;
    let child = fs::read_to_string(&pid)?;
    eventually("the child of the hook is dead", || Ok(!Path::new(&format!("/proc/{}", child.trim())).exists()))
}

fn missing(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/hooks/createRuntime", json!({"path": "/no/such/hook"}));
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&["no such file", "hook"])?;
    Ok(())
}

fn relative(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/hooks/createRuntime", json!({"path": "bin/true"}));
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    Ok(())
}

/// The harness then finds no state, cgroup, mount or process. poststop hooks run
/// by the spec's step of deletion.
fn failing(cx: &Cx, kind: &str) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    hook(cx, &mut b, kind, &file, &["say:something broke", "exit:23"]);
    let id = cx.id();
    let out = cx.with_bundle("create", &b, &id)?.out()?.fails(&["hook", "exit"])?;
    ensure!(!cx.exists(&id), "the state is left after {}", out.stderr);
    cx.with_bundle("run", &b, &cx.id())?.out()?.fails(&[])?;
    Ok(())
}

fn failing_start(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    hook(cx, &mut b, "startContainer", &file, &["exit:23"]);
    b.sh("echo ran");
    let out = cx.run(&b)?;
    ensure!(out.code != Some(0), "run succeeds");
    ensure!(!out.stdout.contains("ran"), "the program ran");
    Ok(())
}

/// The spec (1.1): the error ends the container.
fn failing_poststart(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    hook(cx, &mut b, "poststart", &file, &["exit:23"]);
    b.sleeps();
    let c = cx.create(&b)?;
    let out = cx.runtime("start").arg(&c.id).out()?;
    if out.code == Some(0) && cx.is("ferrun") {
        return broken("start succeeds");
    }
    Ok(())
}

fn error_names(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let file = notes(cx, &mut b)?;
    hook(cx, &mut b, "createRuntime", &file, &["say:something broke", "exit:23"]);
    let out = cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    for word in ["createRuntime", "/probe", "23", "something broke"] {
        ensure!(out.stderr.contains(word), "{word:?} is not in {}", out.stderr);
    }
    same!(out.error_lines(), 1, "lines");
    Ok(())
}

fn chatty(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let script = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    b.push(
        "/hooks/createRuntime",
        json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}),
    );
    cx.run(&b)?.ok()?;
    Ok(())
}
