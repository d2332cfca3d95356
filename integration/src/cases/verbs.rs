//! Arguments of the verbs: ids, signals, run, list, version, spec, features.

use crate::case::{Case, Context, Res, case};
use crate::cx::{Cx, text};
use crate::run::eventually;
use crate::{ensure, same};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        case("ids::good_ones_are_taken", good_ids),
        case("kill::by_name_with_and_without_sig_and_by_number", kill_names),
        case("kill::default_is_term", kill_default),
        case("kill::unknown_signal_is_refused", kill_unknown),
        case("kill::all_reaches_the_children", kill_all),
        case("kill::all_reaches_everything_in_the_hosts_pid_namespace", kill_all_host_pidns),
        case("pidfile::of_create_and_run_hold_the_pid", pid_file),
        case("list::table_json_and_quiet", list),
        case("list::empty", list_empty),
        case("list::json_has_the_fields_that_go_runc_reads", list_fields)
            .differs("crun", "its list has only id, pid, status, bundle, created, owner"),
        case("list::a_broken_entry_is_no_failure", list_broken).differs("crun", "one broken status file ends the list"),
        case("run::exit_status_is_the_programs", run_exit),
        case("run::exit_status_of_a_signal_is_128_and_it", run_signalled),
        case("run::leaves_nothing", run_leaves_nothing),
        case("run::detach", run_detach),
        case("run::keep", run_keep).only(&["ferrun", "runc"], "crun 1.8 has a --keep that it added later"),
        case("run::relays_signals", run_relays),
        case("run::stdin_and_stdout_are_passed_through", run_stdio),
        case("run::stderr_is_apart", run_stderr),
        case("options::no_pivot", no_pivot),
        case("options::a_new_session_keyring", keyring),
        case("options::no_new_keyring", no_new_keyring),
        case("options::of_the_managers_are_accepted", managers_options),
        case("options::cgroup_manager", cgroup_manager)
            .only(&["ferrun", "crun"], "podman gives it to crun; runc has no such option"),
        case("options::unknown_flag_is_refused", unknown_flag),
        case("options::unknown_verb_is_refused", unknown_verb),
        case("options::root_is_made_when_missing", root_made),
        case("version::has_three_lines", version),
        case("spec::writes_a_config_that_runs", spec),
        case("spec::does_not_overwrite", spec_keeps),
        case("features::is_json", features).differs("crun", "`features` came with crun 1.9"),
        case("plan::prints_the_steps_and_does_nothing", plan).only(&["ferrun"], "nobody else has `plan`"),
    ];
    for (name, id) in [
        ("with_a_slash", "../x"),
        ("empty", ""),
        ("dot", "."),
        ("dot_dot", ".."),
        ("with_a_control_character", "a\nb"),
        ("of_2000_characters", &"a".repeat(2000)),
        ("absolute", "/abs"),
    ] {
        let id = id.to_owned();
        let c = case(format!("ids::{name}_is_refused"), move |cx| bad_id(cx, &id));
        all.push(match name {
            // A directory of that name is all that crun asks of an id.
            "with_a_control_character" => c.differs("crun", "accepts any name of a directory"),
            "absolute" => c.differs("crun", "takes the slashes away and goes on"),
            _ => c,
        });
    }
    all
}

fn bad_id(cx: &Cx, id: &str) -> Res {
    let b = cx.bundle()?;
    let before = fs::read_dir(&cx.dir)?.count();
    cx.with_bundle("create", &b, id)?.out()?.fails(&[])?;
    if !cx.is("crun") {
        cx.runtime("state").arg(id).out()?.fails(&[])?;
    }
    // Only the files of this harness: config.json is below the bundle.
    let new = fs::read_dir(&cx.dir)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let strange: Vec<String> =
        new.filter(|n| !["run", "bundle", "root", "case", "commands"].iter().any(|p| n.starts_with(p))).collect();
    ensure!(strange.is_empty(), "new beside the state root: {strange:?} ({before} before)");
    Ok(())
}

fn good_ids(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    for suffix in ["_a", "+b", "-c.d", "Z9"] {
        let id = format!("{}{suffix}", cx.id());
        cx.with_bundle("run", &b, &id)?.out()?.ok()?;
    }
    Ok(())
}

fn kill_names(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("trap 'echo one' USR1; trap 'echo two' USR2; trap 'echo hup' HUP; echo up; while :; do sleep 0.02; done");
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    for (signal, word) in [("USR1", "one"), ("SIGUSR2", "two"), ("1", "hup")] {
        cx.kill(&c.id, signal)?;
        cx.hears(&c, word)?;
    }
    if !cx.is("crun") {
        fs::write(&c.stdout, "")?;
        cx.kill(&c.id, "usr1")?;
        cx.hears(&c, "one")?;
    }
    Ok(())
}

fn kill_default(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    cx.runtime("kill").arg(&c.id).out()?.ok()?;
    cx.stopped(&c.id)
}

fn kill_unknown(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    for signal in ["NOPE", "SIGNOPE", "-1"] {
        cx.runtime("kill").arg(&c.id).arg("--").arg(signal).out()?.fails(&[])?;
    }
    same!(cx.status(&c.id)?, "running", "the status after the refusals");
    Ok(())
}

/// The children of one's own pid namespace.
fn kill_all(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("(trap 'echo child; exit' USR1; echo ready; while :; do sleep 0.02; done) & trap '' USR1; echo up; while :; do sleep 0.05; done");
    let c = cx.up(&b)?;
    cx.hears(&c, "ready")?;
    cx.hears(&c, "up")?;
    cx.runtime("kill").args(["--all", &c.id, "USR1"]).out()?.ok()?;
    cx.hears(&c, "child")?;
    Ok(())
}

fn kill_all_host_pidns(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("pid", None).sh("setsid sleep 100 & echo $!; exec sleep 100");
    let c = cx.up(&b)?;
    cx.hears(&c, "\n")?;
    let child = c.said().trim().to_owned();
    ensure!(fs::metadata(format!("/proc/{child}")).is_ok(), "no such child: {child:?}");
    cx.runtime("kill").args(["--all", &c.id, "KILL"]).out()?.ok()?;
    eventually("the child is dead", || Ok(fs::metadata(format!("/proc/{child}")).is_err()))?;
    cx.stopped(&c.id)
}

fn pid_file(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps().save()?;
    for verb in ["create", "run"] {
        let (id, file) = (cx.id(), cx.path(verb));
        b.set("/linux/cgroupsPath", json!(cx.cgroup())).save()?;
        cx.adopt(&id);
        let run = cx.runtime(verb).arg("--bundle").arg(&b.dir).arg("--pid-file").arg(&file);
        let run = if verb == "run" { run.arg("--detach") } else { run };
        run.arg(&id).out()?.ok()?;
        same!(text(&file)?, cx.pid(&id)?.to_string(), "the pid file, without a line end");
    }
    Ok(())
}

fn list(cx: &Cx) -> Res {
    let a = cx.sleeping(&mut cx.bundle()?)?;
    let b = cx.create(&cx.bundle()?)?;
    let table = cx.runtime("list").out()?.ok()?.stdout;
    let head: Vec<&str> = table.lines().next().unwrap_or_default().split_whitespace().take(3).collect();
    ensure!(
        head.first().is_some_and(|w| w.eq_ignore_ascii_case("id") || w.eq_ignore_ascii_case("name")),
        "head {head:?}"
    );
    let row = table.lines().find(|l| l.contains(&a.id)).unwrap_or_default();
    ensure!(row.contains("running") && row.contains(&cx.pid(&a.id)?.to_string()), "the row {row:?}");
    same!(table.lines().count(), 3, "lines of the table");
    let quiet = cx.runtime("list").arg("--quiet").out()?.ok()?.stdout;
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    let mut want = vec![a.id.as_str(), b.id.as_str()];
    want.sort_unstable();
    same!(ids, want, "list --quiet");
    let rows: Value = serde_json::from_str(&cx.runtime("list").args(["--format", "json"]).out()?.ok()?.stdout)?;
    let find = |id: &str| rows.as_array().into_iter().flatten().find(|r| r["id"] == id).cloned().unwrap_or_default();
    same!(find(&a.id)["status"], json!("running"), "json status");
    same!(find(&b.id)["status"], json!("created"), "json status");
    same!(find(&a.id)["pid"], json!(cx.pid(&a.id)?), "json pid");
    Ok(())
}

fn list_empty(cx: &Cx) -> Res {
    let rows = cx.runtime("list").args(["--format", "json"]).out()?.ok()?.stdout;
    ensure!(["null", "[]", ""].contains(&rows.split_whitespace().collect::<String>().as_str()), "{rows:?}");
    same!(cx.runtime("list").arg("-q").out()?.ok()?.stdout, "", "list -q");
    Ok(())
}

fn list_fields(cx: &Cx) -> Res {
    let c = cx.create(&cx.bundle()?)?;
    let rows: Value = serde_json::from_str(&cx.runtime("list").arg("--format=json").out()?.ok()?.stdout)?;
    same!(rows[0]["id"], json!(c.id), "id");
    for field in ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"] {
        ensure!(rows[0].get(field).is_some(), "{field} is missing in {rows}");
    }
    Ok(())
}

fn list_broken(cx: &Cx) -> Res {
    let c = cx.create(&cx.bundle()?)?;
    let broken = cx.root().join("broken");
    fs::create_dir(&broken)?;
    for file in ["state.json", "status"] {
        fs::write(broken.join(file), "{ not json")?;
    }
    let out = cx.runtime("list").arg("-q").out();
    fs::remove_dir_all(&broken)?;
    let out = out?.ok()?;
    ensure!(out.stdout.lines().any(|l| l == c.id), "the good one is not in {:?}", out.stdout);
    Ok(())
}

fn run_exit(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for code in [0, 7, 255] {
        b.sh(&format!("exit {code}"));
        cx.run(&b)?.exits(code)?;
    }
    Ok(())
}

/// Pid 1 does not die of a signal of its own, so the host's pid namespace.
fn run_signalled(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("pid", None);
    for signal in [9, 15, 6] {
        b.sh(&format!("kill -{signal} $$; sleep 5"));
        cx.run(&b)?.exits(128 + signal)?;
    }
    Ok(())
}

fn run_leaves_nothing(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    cx.run(&b)?.ok()?;
    let left: Vec<_> = fs::read_dir(cx.root()).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    ensure!(left.is_empty(), "state: {left:?}");
    Ok(())
}

fn run_detach(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps().save()?;
    let id = cx.id();
    cx.adopt(&id);
    cx.runtime("run").arg("--detach").arg("--bundle").arg(&b.dir).arg(&id).out()?.ok()?;
    same!(cx.status(&id)?, "running", "status");
    cx.kill(&id, "KILL")?;
    cx.stopped(&id)?;
    cx.delete(&id)?;
    Ok(())
}

fn run_keep(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    let id = cx.id();
    cx.adopt(&id);
    let out = cx.runtime("run").arg("--keep").arg("--bundle").arg(&b.dir).arg(&id).out()?;
    if out.stderr.contains("not defined") {
        return crate::case::skip("this version has no --keep");
    }
    out.ok()?;
    same!(cx.status(&id)?, "stopped", "status");
    Ok(())
}

fn run_relays(cx: &Cx) -> Res {
    for (signal, name, code) in
        [(Signal::TERM, "TERM", 41), (Signal::INT, "INT", 42), (Signal::USR1, "USR1", 43), (Signal::HUP, "HUP", 44)]
    {
        let mut b = cx.bundle()?;
        b.sh(&format!("trap 'exit {code}' {name}; echo up; while :; do sleep 0.02; done"));
        let job = cx.with_bundle("run", &b, &cx.id())?.spawn()?;
        eventually("the program is up", || Ok(job.stdout_now().contains("up")))?;
        if let Some(p) = Pid::from_raw(job.pid()) {
            kill_process(p, signal)?;
        }
        job.wait()?.exits(code)?;
    }
    Ok(())
}

fn run_stdio(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/bin/tr", "a-z", "A-Z"]);
    let bytes = "some words\n".repeat(5000);
    let out = cx.with_bundle("run", &b, &cx.id())?.stdin(bytes.clone()).out()?.ok()?;
    ensure!(out.stdout == bytes.to_uppercase(), "{} bytes came back", out.stdout.len());
    Ok(())
}

fn run_stderr(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo out; echo err >&2");
    let out = cx.run(&b)?.ok()?;
    same!(out.stdout, "out\n", "stdout");
    same!(out.stderr, "err\n", "stderr");
    Ok(())
}

fn no_pivot(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("ls /; cat /proc/self/mountinfo").save()?;
    let out = cx.runtime("run").arg("--no-pivot").arg("--bundle").arg(&b.dir).arg(cx.id()).out()?.ok()?;
    ensure!(out.stdout.contains("probe"), "not the rootfs: {}", out.stdout);
    ensure!(!out.stdout.contains("home/work"), "the host's root is there");
    Ok(())
}

fn keyring(cx: &Cx) -> Res {
    let id = cx.id();
    let mut b = cx.bundle()?;
    b.args(&["/probe", "all"]);
    let out = cx.with_bundle("run", &b, &id)?.out()?.ok()?;
    let v: Value = serde_json::from_str(&out.stdout)?;
    let want = if cx.is("crun") { id } else { format!("_ses.{id}") };
    same!(v["keyring"], json!(want), "the name of the session keyring");
    Ok(())
}

fn no_new_keyring(cx: &Cx) -> Res {
    let id = cx.id();
    let mut b = cx.bundle()?;
    b.args(&["/probe", "all"]).save()?;
    let out = cx.runtime("run").arg("--no-new-keyring").arg("--bundle").arg(&b.dir).arg(&id).out()?.ok()?;
    let v: Value = serde_json::from_str(&out.stdout)?;
    let name = v["keyring"].as_str().unwrap_or_default();
    ensure!(!name.contains(&id), "a keyring {name}");
    Ok(())
}

/// What go-runc and conmon put on the command line whatever the container is.
fn managers_options(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("echo works").save()?;
    let log = cx.path("log.json");
    let run = cx.runtime("run").global("--log").global(&log).global("--log-format").global("json").global("--debug");
    // false: with all that only root may do
    let rootless = if cx.options.as_user || cx.options.is_nested() { "true" } else { "false" };
    let run = if cx.is("crun") { run } else { run.global("--rootless").global(rootless) };
    let run = run.arg("--no-subreaper").arg("-b").arg(&b.dir).arg(format!("--pid-file={}", cx.path("pid").display()));
    same!(run.arg(cx.id()).out()?.ok()?.stdout, "works\n", "the program");
    Ok(())
}

fn cgroup_manager(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    for manager in [cx.options.driver.name(), "disabled"] {
        let run = cx.runtime("run").global("--cgroup-manager").global(manager);
        run.arg("--bundle").arg(&b.dir).arg(cx.id()).out()?.ok()?;
    }
    Ok(())
}

fn unknown_flag(cx: &Cx) -> Res {
    cx.runtime("create").args(["--no-such-flag", "x"]).out()?.fails(&["no-such-flag"])?;
    Ok(())
}

fn unknown_verb(cx: &Cx) -> Res {
    cx.runtime("frobnicate").out()?.fails(&["frobnicate"])?;
    Ok(())
}

fn root_made(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    ensure!(!cx.root().exists(), "the state root is there already");
    cx.run(&b)?.ok()?;
    Ok(())
}

fn version(cx: &Cx) -> Res {
    let out = cx.runtime("--version").no_globals().out()?.ok()?.stdout;
    let lines: Vec<&str> = out.lines().collect();
    ensure!(lines.first().is_some_and(|l| l.starts_with(&format!("{} version ", cx.options.kind))), "{out}");
    ensure!(lines.get(1).is_some_and(|l| l.starts_with("commit: ")), "{out}");
    ensure!(lines.iter().any(|l| l.starts_with("spec: 1.")), "{out}");
    if cx.is("ferrun") {
        same!(lines.len(), 3, "lines");
    }
    Ok(())
}

fn spec(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.save()?;
    fs::remove_file(b.dir.join("config.json"))?;
    cx.give(&b.dir)?;
    cx.runtime("spec").cwd(&b.dir).out()?.ok()?;
    b.config = serde_json::from_str(&text(b.dir.join("config.json"))?)?;
    same!(b.config["process"]["terminal"], json!(true), "a terminal is asked for");
    // Their limit of 1024 files is above the hard limit of nobody.
    b.set("/process/terminal", json!(false)).set("/linux/cgroupsPath", json!(cx.cgroup())).sh("echo works");
    b.set("/root/readonly", json!(true));
    same!(cx.run(&b)?.ok()?.stdout, "works\n", "the program");
    Ok(())
}

fn spec_keeps(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    let before = text(b.dir.join("config.json"))?;
    cx.runtime("spec").cwd(&b.dir).out()?.fails(&["exist"])?;
    same!(text(b.dir.join("config.json"))?, before, "config.json");
    Ok(())
}

fn features(cx: &Cx) -> Res {
    let out = cx.runtime("features").out()?.ok()?.stdout;
    let v: Value = serde_json::from_str(&out).context("features")?;
    for pointer in [
        "/ociVersionMin",
        "/ociVersionMax",
        "/hooks",
        "/mountOptions",
        "/linux/namespaces",
        "/linux/capabilities",
        "/linux/cgroup",
        "/linux/seccomp/enabled",
    ] {
        ensure!(v.pointer(pointer).is_some(), "{pointer} is missing");
    }
    Ok(())
}

fn plan(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    let out = cx.runtime("plan").arg("--bundle").arg(&b.dir).out()?.ok()?;
    ensure!(out.stdout.lines().count() > 10 && out.stdout.contains("mount"), "{}", out.stdout);
    let json = cx.runtime("plan").args(["--format", "json"]).arg("--bundle").arg(&b.dir).out()?.ok()?;
    let _: Value = serde_json::from_str(&json.stdout).context("plan --format json")?;
    ensure!(!cx.root().exists() || fs::read_dir(cx.root())?.count() == 0, "plan has left state");
    Ok(())
}
