//! One more process in a container: that it is in it in every respect, and all that its options change.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cgroup;
use crate::cx::{Container, Cx, namespace, string, text};
use crate::run::{Out, Run, eventually};
use crate::sockets;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;

pub fn cases() -> Vec<Case> {
    vec![
        case("exec::is_in_the_namespaces_of_the_init", in_namespaces),
        case("exec::is_in_the_cgroup_of_the_container", in_cgroup),
        case("exec::sees_the_root_of_the_container", sees_root),
        case("exec::exit_status", exit_status),
        case("exec::killed_by_a_signal_is_128_and_it", killed),
        case("exec::stdio_is_the_callers", stdio),
        case("exec::args_are_exact", args_exact),
        case("exec::env_is_the_containers_and_more", env).differs("crun", "1.8: with -e it is no more the container's"),
        case("exec::cwd", cwd),
        case("exec::cwd_missing_is_refused", cwd_missing),
        case("exec::user_by_number", user_number),
        case("exec::user_and_group_by_number", user_group),
        case("exec::user_by_name", user_name).only(&["ferrun"], "the peers take numbers only"),
        case("exec::a_number_is_never_a_name", user_number_name),
        case("exec::user_unknown_is_refused", user_unknown)
            .differs("runc", "takes an empty one for none")
            .differs("crun", "takes any word for uid 0 (CVE-2026-30892)"),
        case("exec::home_is_of_the_user", home),
        case("exec::additional_gids", additional_gids).differs("crun", "has no such option"),
        case("exec::cap_is_added", cap),
        case("exec::cap_unknown_is_refused", cap_unknown)
            .differs("runc", "warns and leaves it out")
            .differs("crun", "leaves it out"),
        case("exec::capabilities_are_the_containers", capabilities),
        case("exec::no_new_privs", no_new_privs),
        case("exec::rlimits_and_umask_are_the_containers", rlimits)
            .differs("runc", "1.1 does not set the umask")
            .differs("crun", "1.8 sets neither"),
        case("exec::seccomp_is_the_containers", seccomp),
        case("exec::oom_score_adj_is_the_containers", oom_score).differs("crun", "1.8 does not set it"),
        case("exec::process_file", process_file).differs("runc", "1.1 does not set the umask"),
        case("exec::process_file_without_env_has_a_home", process_file_env).differs("runc", "fixed in 1.4 (runc#5265)"),
        case("exec::process_file_that_is_none_is_refused", process_file_bad),
        case("exec::descriptors_are_the_three", only_three),
        case("exec::preserved_fds_are_passed", preserved),
        case("exec::detached_leaves_a_pid_file", detached),
        case("exec::a_failed_one_leaves_the_callers_files_alone", pid_file_stays),
        case("exec::terminal_over_a_socket", terminal_socket),
        case("exec::terminal_in_the_foreground", terminal_foreground)
            .differs("runc", "wants a terminal of the caller's")
            .differs("crun", "wants a terminal of the caller's"),
        case("exec::is_its_own_session", session)
            .differs("crun", "without a terminal it stays in the session of the caller"),
        case("exec::cgroup_below", cgroup_below).differs("crun", "takes it from the root of the hierarchy"),
        case("exec::cgroup_outside_is_refused", cgroup_outside)
            .differs("crun", "takes it from the root of the hierarchy"),
        case("exec::init_in_a_cgroup_of_its_own", nested).differs("crun", "1.8 joins the first one"),
        case("exec::of_a_created_container", of_created),
        case("exec::of_a_stopped_container_is_refused", of_stopped),
        case("exec::of_none_is_refused", of_none).differs("crun", "in other words"),
        case("exec::program_missing", program_missing).differs("crun", "in other words"),
        case("exec::program_not_executable", program_forbidden),
        case("exec::no_program_is_refused", no_program),
        case("exec::without_a_pid_namespace", host_pid),
        case("exec::ends_with_the_container", ends_with_it),
        case("exec::orphans_of_it_are_the_callers", orphans)
            .differs("runc", "1.1 waits for the orphan that holds its pipes"),
    ]
}

pub fn up(cx: &Cx, change: impl FnOnce(&mut Bundle) -> &mut Bundle) -> Res<Container> {
    let mut b = cx.bundle()?;
    change(&mut b);
    cx.sleeping(&mut b)
}

pub fn exec(cx: &Cx, c: &Container, options: &[&str], command: &[&str]) -> Run {
    cx.runtime("exec").args(options).arg(&c.id).args(command)
}

pub fn sh(cx: &Cx, c: &Container, options: &[&str], script: &str) -> Res<Out> {
    exec(cx, c, options, &["/bin/sh", "-c", script]).out()
}

pub fn probe(cx: &Cx, c: &Container, options: &[&str]) -> Res<Value> {
    let out = exec(cx, c, options, &["/probe", "all"]).out()?.ok()?;
    serde_json::from_str(&out.stdout).context(format!("the probe said {:?}", out.stdout))
}

fn in_namespaces(cx: &Cx) -> Res {
    let c = up(cx, |b| b.namespace("cgroup", Some("")))?;
    let pid = cx.pid(&c.id)?;
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let inside = sh(cx, &c, &[], &format!("readlink /proc/self/ns/{kind}"))?.ok()?.stdout;
        same!(inside.trim().to_owned(), namespace(pid, kind)?, kind);
    }
    Ok(())
}

fn in_cgroup(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let of_init = text(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    let own = sh(cx, &c, &[], "cat /proc/self/cgroup")?.ok()?.stdout;
    same!(own, of_init, "/proc/self/cgroup");
    Ok(())
}

fn sees_root(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    fs::write(b.rootfs().join("marker"), "inside\n")?;
    let c = cx.sleeping(&mut b)?;
    same!(exec(cx, &c, &[], &["cat", "/marker"]).out()?.ok()?.stdout, "inside\n", "/marker");
    Ok(())
}

fn exit_status(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    for code in [0, 1, 7, 126, 127, 255] {
        sh(cx, &c, &[], &format!("exit {code}"))?.exits(code)?;
    }
    Ok(())
}

fn killed(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    for signal in [9, 15, 6] {
        sh(cx, &c, &[], &format!("kill -{signal} $$"))?.exits(128 + signal)?;
    }
    Ok(())
}

fn stdio(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let out =
        exec(cx, &c, &[], &["/bin/sh", "-c", "cat; echo done; echo other >&2"]).stdin("some words\n").out()?.ok()?;
    same!(out.stdout, "some words\ndone\n", "stdout");
    same!(out.stderr, "other\n", "stderr");
    Ok(())
}

fn args_exact(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let args = ["/probe", "all", "", "two words", "a'b\"c", "--flag", "-x", "ünïcode"];
    let v: Value = serde_json::from_str(&exec(cx, &c, &[], &args).out()?.ok()?.stdout)?;
    same!(v["args"], json!(args), "args");
    Ok(())
}

fn env(cx: &Cx) -> Res {
    let c = up(cx, |b| b.push("/process/env", json!("OLD=1")).push("/process/env", json!("BOTH=config")))?;
    let options = ["-e", "NEW=two words", "-e", "BOTH=option", "-e", "EMPTY="];
    let said = sh(cx, &c, &options, "echo \"$OLD/$NEW/$BOTH/${EMPTY-unset}/\"; env | grep -c ^BOTH=")?.ok()?.stdout;
    same!(said, "1/two words/option//\n1\n", "OLD/NEW/BOTH/EMPTY and how often BOTH is there");
    Ok(())
}

fn cwd(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    same!(exec(cx, &c, &["--cwd", "/tmp"], &["pwd"]).out()?.ok()?.stdout, "/tmp\n", "the working directory");
    Ok(())
}

fn cwd_missing(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    exec(cx, &c, &["--cwd", "/nowhere"], &["pwd"]).out()?.fails(&["no such file or directory"])?;
    Ok(())
}

const IDS: &str = "id -u; id -g";

fn user_number(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    same!(sh(cx, &c, &["-u", "1000"], IDS)?.ok()?.stdout, "1000\n0\n", "uid and gid");
    Ok(())
}

fn user_group(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    same!(sh(cx, &c, &["--user", "1000:2000"], IDS)?.ok()?.stdout, "1000\n2000\n", "uid and gid");
    Ok(())
}

/// A root file system with users of its own; one has a number for a name.
fn with_users(b: &mut Bundle) -> &mut Bundle {
    let _ = fs::create_dir_all(b.rootfs().join("etc"));
    for file in ["etc/passwd", "etc/group"] {
        // a link to what all bundles share
        let _ = fs::remove_file(b.rootfs().join(file));
    }
    let users = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nweb:x:33:44::/srv/web:/bin/sh\n";
    let _ = fs::write(b.rootfs().join("etc/passwd"), users);
    let _ = fs::write(b.rootfs().join("etc/group"), "root:x:0:\nstaff:x:50:web\n");
    b
}

fn user_name(cx: &Cx) -> Res {
    let c = up(cx, with_users)?;
    same!(sh(cx, &c, &["-u", "web"], IDS)?.ok()?.stdout, "33\n44\n", "uid and gid of web");
    same!(sh(cx, &c, &["-u", "web:staff"], IDS)?.ok()?.stdout, "33\n50\n", "uid and gid of web:staff");
    same!(sh(cx, &c, &["-u", "1000:staff"], IDS)?.ok()?.stdout, "1000\n50\n", "uid and gid of 1000:staff");
    Ok(())
}

fn user_number_name(cx: &Cx) -> Res {
    let c = up(cx, with_users)?;
    same!(sh(cx, &c, &["-u", "1000"], IDS)?.ok()?.stdout, "1000\n0\n", "uid and gid");
    Ok(())
}

fn user_unknown(cx: &Cx) -> Res {
    let c = up(cx, with_users)?;
    for user in ["nobody-here", "", "-1", "4294967295", "web:nowhere"] {
        exec(cx, &c, &["-u", user].map(|word| word), &["true"]).out()?.fails(&[]).context(format!("-u {user:?}"))?;
    }
    Ok(())
}

fn home(cx: &Cx) -> Res {
    let c = up(cx, with_users)?;
    same!(sh(cx, &c, &["-u", "33"], "echo $HOME")?.ok()?.stdout, "/srv/web\n", "HOME");
    Ok(())
}

fn additional_gids(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let groups = sh(cx, &c, &["-g", "7", "-g", "9"], "id -G")?.ok()?.stdout;
    for group in ["7", "9"] {
        ensure!(groups.split_whitespace().any(|one| one == group), "groups {groups}");
    }
    Ok(())
}

fn mask(v: &Value, set: &str) -> Res<u64> {
    let text = string(v, &format!("/caps/{set}"))?;
    u64::from_str_radix(text, 16).context(format!("{set} {text:?}"))
}

const NET_ADMIN: u64 = 1 << 12;

fn cap(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let v = probe(cx, &c, &["--cap", "CAP_NET_ADMIN"])?;
    for set in ["effective", "permitted", "bounding"] {
        ensure!(mask(&v, set)? & NET_ADMIN != 0, "{set} lacks it");
    }
    ensure!(mask(&probe(cx, &c, &[])?, "effective")? & NET_ADMIN == 0, "it is there without the option");
    Ok(())
}

fn cap_unknown(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    exec(cx, &c, &["--cap", "CAP_NO_SUCH"], &["true"]).out()?.fails(&[])?;
    Ok(())
}

/// The sets of the init, as the host sees them.
fn capabilities(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let status = text(format!("/proc/{}/status", cx.pid(&c.id)?))?;
    let v = probe(cx, &c, &[])?;
    let sets = [
        ("inheritable", "CapInh:"),
        ("permitted", "CapPrm:"),
        ("effective", "CapEff:"),
        ("bounding", "CapBnd:"),
        ("ambient", "CapAmb:"),
    ];
    for (set, field) in sets {
        let of_init = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default().trim();
        same!(string(&v, &format!("/caps/{set}"))?, of_init, set);
    }
    Ok(())
}

fn no_new_privs(cx: &Cx) -> Res {
    let c = up(cx, |b| b.set("/process/noNewPrivileges", json!(false)))?;
    same!(probe(cx, &c, &[])?["noNewPrivs"], json!("0"), "no_new_privs");
    same!(probe(cx, &c, &["--no-new-privs"])?["noNewPrivs"], json!("1"), "no_new_privs");
    Ok(())
}

fn rlimits(cx: &Cx) -> Res {
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 321, "hard": 654}]);
    let c = up(cx, |b| b.set("/process/rlimits", limit).set("/process/user/umask", json!(0o27)))?;
    same!(sh(cx, &c, &[], "ulimit -Sn; ulimit -Hn; umask")?.ok()?.stdout, "321\n654\n0027\n", "limits and umask");
    Ok(())
}

fn seccomp(cx: &Cx) -> Res {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95});
    let c = up(cx, |b| b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})))?;
    let out = sh(cx, &c, &[], "mkdir /tmp/x; grep Seccomp: /proc/self/status")?.ok()?;
    ensure!(out.stderr.to_lowercase().contains("not supported"), "mkdir says {:?}", out.stderr);
    ensure!(out.stdout.trim().ends_with('2'), "{}", out.stdout);
    Ok(())
}

fn oom_score(cx: &Cx) -> Res {
    let c = up(cx, |b| b.set("/process/oomScoreAdj", json!(321)))?;
    same!(sh(cx, &c, &[], "cat /proc/self/oom_score_adj")?.ok()?.stdout, "321\n", "oom_score_adj");
    Ok(())
}

fn process_file(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let file = cx.path("process.json");
    let process = json!({
        "args": ["/bin/sh", "-c", "id -u; id -g; id -G; pwd; echo $A; umask; exit 3"], "cwd": "/tmp", "env": ["PATH=/bin", "A=b"],
        "user": {"uid": 1, "gid": 2, "additionalGids": [3], "umask": 7},
    });
    fs::write(&file, process.to_string())?;
    let out = cx.runtime("exec").arg("--process").arg(&file).arg(&c.id).out()?.exits(3)?;
    same!(out.stdout, "1\n2\n2 3\n/tmp\nb\n0007\n", "uid, gid, groups, cwd, env, umask");
    Ok(())
}

fn process_file_env(cx: &Cx) -> Res {
    let c = up(cx, with_users)?;
    let file = cx.path("process.json");
    fs::write(
        &file,
        json!({"args": ["/bin/sh", "-c", "echo $HOME"], "cwd": "/", "user": {"uid": 33, "gid": 0}}).to_string(),
    )?;
    let out = cx.runtime("exec").arg("-p").arg(&file).arg(&c.id).out()?.ok()?;
    same!(out.stdout, "/srv/web\n", "HOME");
    Ok(())
}

fn process_file_bad(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let file = cx.path("process.json");
    for text in ["", "{", "[]", "{\"args\": 1}", "{\"args\": [], \"cwd\": \"/\", \"user\": {\"uid\": 0, \"gid\": 0}}"] {
        fs::write(&file, text)?;
        cx.runtime("exec").arg("-p").arg(&file).arg(&c.id).out()?.fails(&[]).context(format!("{text:?}"))?;
    }
    cx.runtime("exec").arg("-p").arg(cx.path("missing.json")).arg(&c.id).out()?.fails(&["no such file"])?;
    Ok(())
}

fn open_fds(out: &str) -> Res<Vec<i64>> {
    let v: Value = serde_json::from_str(out).context("the probe's answer")?;
    Ok(v.as_array().into_iter().flatten().map(|fd| fd["fd"].as_i64().unwrap_or(-1)).collect())
}

fn only_three(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    same!(open_fds(&exec(cx, &c, &[], &["/probe", "fds"]).out()?.ok()?.stdout)?, vec![0, 1, 2], "descriptors");
    Ok(())
}

fn preserved(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    fs::write(cx.path("first"), "passed\n")?;
    let line = format!(
        "exec 3< {}; exec '{}' --root '{}' exec --preserve-fds 1 {} /bin/sh -c 'cat <&3'",
        cx.path("first").display(),
        cx.options.runtime.display(),
        cx.root().display(),
        c.id
    );
    let out = std::process::Command::new("/bin/sh").arg("-c").arg(&line).output()?;
    same!(String::from_utf8_lossy(&out.stdout), "passed\n", "what fd 3 gave");
    Ok(())
}

fn detached(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let file = cx.path("pid");
    cx.runtime("exec").arg("-d").arg("--pid-file").arg(&file).arg(&c.id).args(["sleep", "100"]).out()?.ok()?;
    let pid = text(&file)?;
    // runc 1.1 does not wait for the execve
    eventually(&format!("process {pid} is the program"), || {
        Ok(text(format!("/proc/{pid}/cmdline"))?.contains("sleep"))
    })?;
    same!(namespace(&pid, "pid")?, namespace(cx.pid(&c.id)?, "pid")?, "its pid namespace");
    Ok(())
}

/// The program is missed before anybody is told of a pid.
fn pid_file_stays(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let file = cx.path("pid");
    fs::write(&file, "the caller's")?;
    let run = cx.runtime("exec").arg("-d").arg("--pid-file").arg(&file).arg(&c.id).arg("no-such-program");
    run.out()?.fails(&[])?;
    same!(text(&file)?, "the caller's", "the file");
    Ok(())
}

fn terminal_socket(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let path = cx.path("console.sock");
    let listener = sockets::listen(&path)?;
    let run = cx.runtime("exec").args(["-t", "-d", "--console-socket"]).arg(&path).arg(&c.id);
    let job = run.args(["/bin/sh", "-c", "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo terminal; tty"]).spawn()?;
    let (_, fds) = sockets::receive(&listener)?;
    job.wait()?.ok()?;
    let Some(master) = fds.into_iter().next() else { return crate::case::broken("no fd came") };
    let mut said = String::new();
    eventually("the terminal says so", || {
        let mut buffer = [0; 256];
        if let Ok(length) = rustix::io::read(&master, &mut buffer) {
            said += &String::from_utf8_lossy(&buffer[..length]);
        }
        Ok(said.contains("/dev/pts/"))
    })?;
    ensure!(said.contains("terminal"), "{said:?}");
    Ok(())
}

/// Without a terminal of the caller's the output comes through a relay all the same.
fn terminal_foreground(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let out = exec(cx, &c, &["-t"], &["/bin/sh", "-c", "tty; exit 5"]).out()?.exits(5)?;
    ensure!(out.stdout.contains("/dev/pts/"), "{:?}", out.stdout);
    Ok(())
}

fn session(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let stat = sh(cx, &c, &[], "echo $$; cut -d' ' -f1,5,6 /proc/self/stat")?.ok()?.stdout;
    let pid = stat.lines().next().unwrap_or_default();
    ensure!(stat.trim_end().ends_with(&format!(" {pid} {pid}")), "pid, group and session: {stat}");
    Ok(())
}

fn cgroup_path(cx: &Cx, c: &Container) -> Res<Vec<std::path::PathBuf>> {
    let text = text(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    let path = cgroup::paths(&text).first().map(|path| (*path).to_owned()).unwrap_or_default();
    Ok(cgroup::directories(&path))
}

fn cgroup_below(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    for dir in cgroup_path(cx, &c)? {
        cgroup::make_below(&dir, "sub")?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(dir.join(file)) {
                let _ = fs::write(dir.join("sub").join(file), value);
            }
        }
    }
    let own = sh(cx, &c, &["--cgroup", "sub"], "cat /proc/self/cgroup")?.ok()?.stdout;
    ensure!(cgroup::paths(&own).iter().all(|path| path.ends_with("/sub")), "{own}");
    Ok(())
}

fn cgroup_outside(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    for path in ["..", "../..", "sub/../../other", "/../x", "missing"] {
        sh(cx, &c, &["--cgroup", path], "true")?.fails(&[]).context(path.to_owned())?;
    }
    Ok(())
}

/// The init has gone to a child and handed controllers down (systemd inside does): the first cgroup takes no
/// processes on v2 then.
fn nested(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    let pid = cx.pid(&c.id)?.to_string();
    for dir in cgroup_path(cx, &c)? {
        fs::create_dir(dir.join("init"))?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(dir.join(file)) {
                let _ = fs::write(dir.join("init").join(file), value);
            }
        }
        fs::write(dir.join("init/cgroup.procs"), &pid)?;
        if let Ok(controllers) = fs::read_to_string(dir.join("cgroup.controllers")) {
            for controller in controllers.split_whitespace() {
                let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
    }
    sh(cx, &c, &[], "true")?.ok()?;
    Ok(())
}

fn of_created(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sleeps();
    let c = cx.create(&b)?;
    same!(exec(cx, &c, &[], &["echo", "early"]).out()?.ok()?.stdout, "early\n", "stdout");
    Ok(())
}

fn of_stopped(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    exec(cx, &c, &[], &["true"]).out()?.fails(&["not running", "stopped"])?;
    Ok(())
}

fn of_none(cx: &Cx) -> Res {
    cx.runtime("exec").args(["no-such-one", "true"]).out()?.fails(&["does not exist"])?;
    Ok(())
}

fn program_missing(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    exec(cx, &c, &[], &["no-such-program"]).out()?.fails(&["executable file not found in $path"])?;
    exec(cx, &c, &[], &["/no/such/program"]).out()?.fails(&["no such file or directory"])?;
    Ok(())
}

fn program_forbidden(cx: &Cx) -> Res {
    let c = up(cx, |b| {
        let _ = fs::write(b.rootfs().join("data"), "no program\n");
        b
    })?;
    exec(cx, &c, &[], &["/data"]).out()?.fails(&["permission denied"])?;
    Ok(())
}

fn no_program(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    exec(cx, &c, &[], &[]).out()?.fails(&[])?;
    Ok(())
}

fn host_pid(cx: &Cx) -> Res {
    let c = up(cx, |b| b.namespace("pid", None))?;
    let own = sh(cx, &c, &[], "readlink /proc/self/ns/pid")?.ok()?.stdout;
    same!(own.trim().to_owned(), namespace("self", "pid")?, "the pid namespace");
    Ok(())
}

fn ends_with_it(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let job = exec(cx, &c, &[], &["/bin/sh", "-c", "echo up; sleep 100"]).spawn()?;
    eventually("the program is up", || Ok(job.stdout_now().contains("up")))?;
    cx.kill(&c.id, "KILL")?;
    job.wait()?.exits(137)?;
    Ok(())
}

/// A foreground exec reaps only its own: it is no subreaper.
fn orphans(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    sh(cx, &c, &[], "sleep 100 & exit 4")?.exits(4)?;
    let children = sh(cx, &c, &[], "grep -l sleep /proc/[0-9]*/comm | wc -l")?.ok()?.stdout;
    ensure!(children.trim() != "0", "the orphan is gone");
    Ok(())
}
