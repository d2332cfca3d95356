//! The process: args, env, cwd, user, limits, capabilities, scheduling.

use crate::bundle::CAPS;
use crate::case::{CRUN_LEAVES, Case, Res, case, skip};
use crate::cx::{Cx, string, text};
use crate::run::Out;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

pub fn cases() -> Vec<Case> {
    vec![
        case("process::args_are_exact", args_exact),
        case("process::env_is_exact_and_home_is_added", env_exact),
        case("process::home_of_the_user", home_user),
        case("process::home_with_a_fifo_as_passwd", home_fifo).only(&["ferrun"], "the peers wait for ever"),
        case("process::home_of_the_config_wins", home_given),
        case("process::empty_env", env_empty),
        case("process::cwd", cwd),
        case("process::cwd_missing_is_made", cwd_missing),
        case("process::cwd_is_in_the_rootfs_not_the_host", cwd_scoped),
        case("process::cwd_relative_is_refused", cwd_relative).differs("crun", "takes it as below /"),
        case("process::cwd_that_is_a_file_is_refused", cwd_file),
        case("process::cwd_through_a_descriptor_is_refused", cwd_escape),
        case("process::cwd_that_only_the_user_may_enter", cwd_private),
        case("process::uid_and_gid", ids),
        case("process::additional_gids", additional_gids),
        case("process::no_additional_gids_means_none", no_groups),
        case("process::umask", umask),
        case("process::umask_default_is_022", umask_default),
        case("process::uid_out_of_range_is_refused", uid_range),
        case("process::path_lookup", path_lookup),
        case("process::path_of_the_config_is_used", path_used),
        case("process::relative_program", relative_program),
        case("errors::not_in_path", not_in_path),
        case("errors::absolute_program_missing", program_missing),
        case("errors::program_not_executable", program_forbidden)
            .differs("crun", "1.21 says `Operation not permitted`"),
        case("errors::program_is_a_directory", program_directory).differs("crun", "says `Operation not permitted`"),
        case("errors::program_of_the_wrong_format", program_format),
        case("errors::missing_interpreter", program_interpreter),
        case("errors::no_args", no_args).differs("crun", "says `open executable: Invalid argument`"),
        case("process::rlimits", rlimits),
        case("process::rlimit_unknown_is_refused", rlimit_unknown).differs("crun", CRUN_LEAVES),
        case("process::rlimit_twice_is_refused", rlimit_twice)
            .only(&["ferrun"], "the spec asks for it; runc and crun set one after the other"),
        case("process::rlimit_soft_above_hard_is_refused", rlimit_soft).differs("crun", CRUN_LEAVES),
        case("process::rlimit_above_the_callers_is_refused", rlimit_above),
        case("process::no_new_privileges", nnp),
        case("process::oom_score_adj", oom),
        case("process::oom_score_adj_absent_is_inherited", oom_absent),
        case("process::scheduler_batch", sched_batch)
            .differs("crun", "came with crun 1.9")
            .differs("runc", "came with runc 1.2"),
        case("process::scheduler_nice", sched_nice)
            .differs("crun", "came with crun 1.9")
            .differs("runc", "came with runc 1.2"),
        case("process::scheduler_deadline", sched_deadline)
            .differs("crun", "came with crun 1.9")
            .differs("runc", "came with runc 1.2"),
        case("process::scheduler_unknown_policy_is_refused", sched_unknown)
            .differs("crun", "came with crun 1.9")
            .differs("runc", "came with runc 1.2"),
        case("process::io_priority", ioprio)
            .differs("crun", "came with crun 1.9")
            .differs("runc", "came with runc 1.2"),
        case("process::personality", personality).differs("runc", "came with runc 1.2"),
        case("process::signals_are_at_their_defaults", signals),
        case("process::sigpipe_is_not_ignored_because_the_caller_does", sigpipe),
        case("process::is_its_own_session", session),
        case("process::no_parent_death_signal", pdeath),
    ]
}

fn args_exact(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/probe", "all", "", "two words", "a'b\"c", "--flag", "ünïcode"]);
    let v: Value = serde_json::from_str(&cx.run(&b)?.ok()?.stdout)?;
    same!(v["args"], b.config["process"]["args"], "args");
    Ok(())
}

fn env_exact(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/env", json!(["PATH=/bin", "A=1", "EMPTY=", "B=x=y", "SPACED= a b "]));
    let v = cx.probe(&mut b)?;
    same!(v["env"], json!(["PATH=/bin", "A=1", "EMPTY=", "B=x=y", "SPACED= a b ", "HOME=/root"]), "env");
    Ok(())
}

fn home_user(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let v = cx.probe(&mut b)?;
    ensure!(v["env"].as_array().is_some_and(|e| e.contains(&json!("HOME=/home/user"))), "env {}", v["env"]);
    Ok(())
}

/// A FIFO that nobody writes to: an honest open of it would wait for ever.
fn home_fifo(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.unset("/process/env");
    let passwd = b.rootfs().join("etc/passwd");
    fs::remove_file(&passwd)?;
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644))?;
    same!(cx.probe(&mut b)?["env"], json!(["HOME=/"]), "env");
    Ok(())
}

fn home_given(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/env", json!(["HOME=/given"]));
    same!(cx.probe(&mut b)?["env"], json!(["HOME=/given"]), "env");
    Ok(())
}

fn env_empty(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.unset("/process/env");
    same!(cx.probe(&mut b)?["env"], json!(["HOME=/root"]), "env");
    Ok(())
}

fn cwd(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/cwd", json!("/home/user"));
    same!(cx.probe(&mut b)?["cwd"], json!("/home/user"), "cwd");
    Ok(())
}

fn cwd_missing(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/cwd", json!("/made/for/me"));
    same!(cx.probe(&mut b)?["cwd"], json!("/made/for/me"), "cwd");
    let meta = fs::metadata(b.rootfs().join("made/for/me"))?;
    same!(meta.permissions().mode() & 0o777, 0o755, "mode");
    Ok(())
}

fn cwd_scoped(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let outside = cx.path("outside");
    fs::create_dir(&outside)?;
    symlink(&outside, b.rootfs().join("link"))?;
    b.set("/process/cwd", json!("/link/sub"));
    let out = cx.run(b.args(&["/probe", "all"]))?;
    ensure!(fs::read_dir(&outside)?.count() == 0, "something was made outside");
    if out.code == Some(0) {
        let v: Value = serde_json::from_str(&out.stdout)?;
        ensure!(!string(&v, "/cwd")?.contains("unreachable"), "the cwd is outside: {}", v["cwd"]);
    }
    Ok(())
}

fn cwd_relative(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/cwd", json!("tmp"));
    cx.run(&b)?.fails(&["cwd", "absolute"])?;
    Ok(())
}

fn cwd_file(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/cwd", json!("/etc/passwd"));
    cx.run(&b)?.fails(&["not a directory"])?;
    Ok(())
}

/// CVE-2024-21626: a descriptor of the host that is still open at chdir.
fn cwd_escape(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for n in 3..14 {
        for (count, dir) in ["/proc/self/fd/", "/proc/1/fd/"].iter().enumerate() {
            let link = b.rootfs().join(format!("l{n}-{count}"));
            symlink(format!("{dir}{n}"), &link)?;
        }
        for dir in [format!("/proc/self/fd/{n}"), format!("/proc/1/fd/{n}"), format!("/l{n}-0"), format!("/l{n}-1")] {
            b.set("/process/cwd", json!(dir)).args(&["/probe", "all"]);
            let out = cx.run(&b)?;
            if out.code != Some(0) {
                continue;
            }
            let v: Value = serde_json::from_str(&out.stdout)?;
            ensure!(!string(&v, "/cwd")?.starts_with("(unreachable)"), "cwd {dir} is outside: {}", v["cwd"]);
        }
    }
    Ok(())
}

/// Root without CAP_DAC_OVERRIDE could not: the user's own ids count.
fn cwd_private(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let dir = b.rootfs().join("private");
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::chown(&dir, Some(1000), Some(1000))?;
    b.set("/process/cwd", json!("/private")).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    same!(cx.sh(&mut b, "pwd; touch mine")?, "/private\n", "cwd");
    Ok(())
}

fn ids(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/user", json!({"uid": 1234, "gid": 4321}));
    let v = cx.probe(&mut b)?;
    same!(v["uid"], json!("1234 1234 1234 1234"), "uid real, effective, saved, fs");
    same!(v["gid"], json!("4321 4321 4321 4321"), "gid real, effective, saved, fs");
    Ok(())
}

fn additional_gids(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let last = if cx.is_mapped() { 65_535 } else { (cx.options.ids - 1).min(2_147_483_647) };
    b.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 77, last]}));
    let v = cx.probe(&mut b)?;
    same!(v["groups"], json!(format!("5 77 {last}")), "groups");
    Ok(())
}

fn no_groups(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let v = cx.probe(&mut b)?;
    let groups = string(&v, "/groups")?;
    ensure!(groups.is_empty() || groups == "0", "groups {groups:?}");
    Ok(())
}

fn umask(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/user/umask", json!(0o027));
    same!(cx.probe(&mut b)?["umask"], json!("0027"), "umask");
    b.set("/process/user/umask", json!(0));
    same!(cx.probe(&mut b)?["umask"], json!("0000"), "umask");
    Ok(())
}

fn umask_default(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["umask"], json!("0022"), "umask");
    Ok(())
}

/// 2^32 must never become 0.
fn uid_range(cx: &Cx) -> Res {
    for bad in [json!(1u64 << 32), json!(-1), json!(1.5), json!("0")] {
        let mut b = cx.bundle()?;
        b.set("/process/user/uid", bad.clone()).args(&["/bin/id", "-u"]);
        let out = cx.run(&b)?;
        // crun reads what it can of a wrong type, which is another matter.
        if cx.is("crun") && out.code == Some(0) && !bad.is_u64() {
            continue;
        }
        ensure!(out.code != Some(0), "uid {bad} ran as {}", out.stdout);
    }
    Ok(())
}

fn path_lookup(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["echo", "found"]);
    same!(cx.run(&b)?.ok()?.stdout, "found\n", "the program");
    Ok(())
}

fn path_used(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for (dir, word) in [("one", "first"), ("two", "second")] {
        fs::create_dir(b.rootfs().join(dir))?;
        let file = b.rootfs().join(dir).join("prog");
        fs::write(&file, format!("#!/bin/sh\necho {word}\n"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    b.set("/process/env", json!(["PATH=/nothing:/two:/one"])).args(&["prog"]);
    same!(cx.run(&b)?.ok()?.stdout, "second\n", "the program");
    // A file that cannot be executed is passed over.
    fs::set_permissions(b.rootfs().join("two/prog"), fs::Permissions::from_mode(0o644))?;
    same!(cx.run(&b)?.ok()?.stdout, "first\n", "the program");
    Ok(())
}

fn relative_program(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/cwd", json!("/bin")).args(&["./echo", "found"]);
    same!(cx.run(&b)?.ok()?.stdout, "found\n", "the program");
    Ok(())
}

/// The error comes from `create`: containerd makes 127 of it.
fn create_fails(cx: &Cx, args: &[&str], words: &[&str]) -> Res {
    let mut b = cx.bundle()?;
    b.args(args);
    let out = cx.with_bundle("create", &b, &cx.id())?.out()?;
    one_line(cx, &out.fails(words)?)
}

fn one_line(cx: &Cx, out: &Out) -> Res {
    if cx.is("ferrun") {
        same!(out.error_lines(), 1, format!("lines of {:?}", out.stderr));
    }
    Ok(())
}

fn not_in_path(cx: &Cx) -> Res {
    create_fails(
        cx,
        &["no-such-program"],
        &["executable file not found in $PATH", "executable file `no-such-program` not found in $PATH"],
    )
}

fn program_missing(cx: &Cx) -> Res {
    create_fails(cx, &["/no/such/program"], &["no such file or directory"])
}

fn program_forbidden(cx: &Cx) -> Res {
    create_fails(cx, &["/etc/passwd"], &["permission denied"])
}

/// Docker 20.10 makes its 126 of execve's word for it; later callers know the other too.
fn program_directory(cx: &Cx) -> Res {
    let words: &[&str] = if cx.is("crun") { &["permission denied", "is a directory"] } else { &["permission denied"] };
    create_fails(cx, &["/etc"], words)
}

/// What only execve can know comes from `start` (or `run`).
fn start_fails(cx: &Cx, file: &str, content: &str, words: &[&str]) -> Res {
    let mut b = cx.bundle()?;
    let path = b.rootfs().join(file);
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    b.args(&[&format!("/{file}")]);
    let out = cx.run(&b)?;
    ensure!(out.code != Some(0), "it ran");
    ensure!(words.iter().any(|w| out.stderr.to_lowercase().contains(w)), "says {:?}", out.stderr);
    Ok(())
}

fn program_format(cx: &Cx) -> Res {
    start_fails(cx, "prog", "neither a script nor ELF\n", &["exec format error"])
}

fn program_interpreter(cx: &Cx) -> Res {
    start_fails(cx, "prog", "#!/no/such/shell\n", &["no such file or directory"])
}

fn no_args(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/args", json!([]));
    cx.run(&b)?.fails(&["args"])?;
    b.unset("/process/args");
    cx.run(&b)?.fails(&["args"])?;
    Ok(())
}

fn rlimits(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    // No higher than what this process has: CAP_SYS_RESOURCE may be missing.
    let wanted: [(&str, u64, u64); 16] = [
        ("RLIMIT_NOFILE", 512, 600),
        ("RLIMIT_NPROC", 800, 900),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", 4 << 20, 8 << 20),
        ("RLIMIT_AS", 1 << 38, 1 << 39),
        ("RLIMIT_MEMLOCK", 4096, 8192),
        ("RLIMIT_CPU", 100, 200),
        ("RLIMIT_SIGPENDING", 100, 200),
        ("RLIMIT_MSGQUEUE", 1000, 2000),
        ("RLIMIT_NICE", 0, 0),
        ("RLIMIT_RTPRIO", 0, 0),
        ("RLIMIT_DATA", 1 << 33, 1 << 34),
        ("RLIMIT_RSS", 1 << 33, 1 << 34),
        ("RLIMIT_LOCKS", 10, 20),
        ("RLIMIT_RTTIME", 1000, 2000),
    ];
    for (name, soft, hard) in wanted {
        b.push("/process/rlimits", json!({"type": name, "soft": soft, "hard": hard}));
    }
    let v = cx.probe(&mut b)?;
    for (name, soft, hard) in wanted {
        same!(v["rlimits"][name], json!([soft, hard]), name);
    }
    Ok(())
}

fn rlimit_unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/process/rlimits", json!({"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}));
    cx.run(&b)?.fails(&["rlimit"])?;
    Ok(())
}

fn rlimit_twice(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for n in [200, 100] {
        b.push("/process/rlimits", json!({"type": "RLIMIT_NOFILE", "soft": n, "hard": n}));
    }
    cx.run(&b)?.fails(&["/process/rlimits/1"])?;
    Ok(())
}

fn rlimit_soft(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/process/rlimits", json!({"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}));
    cx.run(&b)?.fails(&["invalid argument", "rlimit"])?;
    Ok(())
}

fn rlimit_above(cx: &Cx) -> Res {
    let status = text("/proc/self/status")?;
    let caps = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or("0").trim();
    // in a user namespace it is a capability over nothing of the host's
    if u64::from_str_radix(caps, 16).unwrap_or(0) & 1 << 24 != 0 && !cx.options.is_nested() {
        return skip("with CAP_SYS_RESOURCE it may be raised");
    }
    let mut b = cx.bundle()?;
    b.push("/process/rlimits", json!({"type": "RLIMIT_NOFILE", "soft": 1 << 19, "hard": 1 << 19}));
    cx.run(&b)?.fails(&["operation not permitted"])?;
    Ok(())
}

fn nnp(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["noNewPrivs"], json!("1"), "noNewPrivileges true");
    b.set("/process/noNewPrivileges", json!(false));
    same!(cx.probe(&mut b)?["noNewPrivs"], json!("0"), "noNewPrivileges false");
    b.unset("/process/noNewPrivileges");
    same!(cx.probe(&mut b)?["noNewPrivs"], json!("0"), "noNewPrivileges absent");
    Ok(())
}

fn oom(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/oomScoreAdj", json!(777));
    same!(cx.probe(&mut b)?["oom"], json!("777"), "oom_score_adj");
    Ok(())
}

fn oom_absent(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["oom"], json!(text("/proc/self/oom_score_adj")?.trim()), "oom_score_adj");
    Ok(())
}

fn sched_batch(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}));
    let v = cx.probe(&mut b)?;
    same!(v["sched"]["policy"], json!(3), "policy");
    same!(v["sched"]["nice"], json!(5), "nice");
    Ok(())
}

fn sched_nice(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}));
    let v = cx.probe(&mut b)?;
    same!(v["sched"]["nice"], json!(19), "nice");
    same!(v["sched"]["flags"].as_u64().map(|f| f & 1), Some(1), "reset on fork");
    Ok(())
}

fn sched_deadline(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set(
        "/process/scheduler",
        json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 10_000_000, "period": 20_000_000}),
    );
    let out = cx.run(b.args(&["/probe", "all"]))?;
    if out.code != Some(0) && out.stderr.to_lowercase().contains("not permitted") {
        return skip("this machine does not allow SCHED_DEADLINE");
    }
    let v: Value = serde_json::from_str(&out.ok()?.stdout)?;
    same!(v["sched"]["policy"], json!(6), "policy");
    same!(
        [&v["sched"]["runtime"], &v["sched"]["deadline"], &v["sched"]["period"]],
        [&json!(1_000_000), &json!(10_000_000), &json!(20_000_000)],
        "times"
    );
    Ok(())
}

fn sched_unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/scheduler", json!({"policy": "SCHED_NOPE"}));
    cx.run(&b)?.fails(&["SCHED_NOPE"])?;
    Ok(())
}

fn ioprio(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    same!(cx.probe(&mut b)?["ioprio"], json!({"class": 2, "priority": 6}), "best effort");
    b.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    same!(cx.probe(&mut b)?["ioprio"]["class"], json!(3), "idle");
    Ok(())
}

fn personality(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/personality", json!({"domain": "LINUX32"}));
    same!(cx.probe(&mut b)?["personality"], json!(8), "personality");
    // User-mode Linux knows one name of the machine only.
    let here = std::process::Command::new("/bin/busybox").args(["linux32", "uname", "-m"]).output()?;
    let want = String::from_utf8_lossy(&here.stdout).into_owned();
    same!(cx.sh(&mut b, "uname -m")?, want, "uname -m");
    b.set("/linux/personality", json!({"domain": "LINUX"}));
    same!(cx.probe(&mut b)?["personality"], json!(0), "personality");
    Ok(())
}

fn signals(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let v = cx.probe(&mut b)?;
    same!(v["blocked"], json!("0000000000000000"), "blocked signals");
    // The probe's own runtime (Rust's) ignores SIGPIPE.
    let ignored = u64::from_str_radix(string(&v, "/ignored")?, 16).unwrap_or(u64::MAX);
    // What the harness was itself started with is not the runtime's doing.
    let own = text("/proc/self/status")?;
    let own = own.lines().find_map(|l| l.strip_prefix("SigIgn:")).unwrap_or("0").trim();
    let own = u64::from_str_radix(own, 16)?;
    same!(ignored & !(1 << 12) & !own, 0, "ignored signals");
    Ok(())
}

/// As below systemd, which ignores it for what it starts.
fn sigpipe(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("grep SigIgn /proc/self/status").save()?;
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "trap '' PIPE; exec \"$0\" \"$@\""]).arg(&cx.options.runtime);
    command.args(cx.options.globals(&cx.root())).args(["run", "--bundle"]).arg(&b.dir).arg(cx.id());
    let out = command.output()?;
    let said = String::from_utf8_lossy(&out.stdout);
    let ignored = said.trim().strip_prefix("SigIgn:").map(|hex| u64::from_str_radix(hex.trim(), 16));
    ensure!(matches!(ignored, Some(Ok(bits)) if bits & (1 << 12) == 0), "{said:?}");
    Ok(())
}

fn session(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["sid"], json!("1"), "session id");
    Ok(())
}

fn pdeath(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["parentDeathSignal"], json!(0), "the parent death signal");
    same!(b.config["process"]["capabilities"]["bounding"], json!(CAPS), "the case's own config");
    Ok(())
}
