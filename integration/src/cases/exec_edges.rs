//! exec where something is out of the ordinary: the container's state and namespaces, what process.json asks, hostile
//! files.

use super::exec::{exec, probe, sh, up};
use crate::case::{Case, Context, Res, case, skip};
use crate::cgroup;
use crate::cx::{Container, Cx, namespace, text};
use crate::run::{Out, eventually};
use crate::sockets;
use crate::{ensure, same};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::time::Duration;

const TIME: &str = "time namespaces came with runc 1.2; crun 1.8.1 ends with kill(-1), which takes the harness with it";
const AFFINITY: &str = "came with runc 1.3 and crun 1.21";

pub fn cases() -> Vec<Case> {
    vec![
        case("exec::of_a_paused_container_is_refused", paused).differs("crun", "waits until it is resumed"),
        case("exec::ignore_paused_waits_for_resume", ignore_paused)
            .only(&["ferrun", "runc"], "crun has no such option"),
        case("exec::process_file_with_a_scheduler", scheduler)
            .differs("runc", "came with runc 1.2")
            .differs("crun", "1.8 sets that of config.json only"),
        case("exec::process_file_with_an_io_priority", io_priority)
            .differs("runc", "came with runc 1.2")
            .differs("crun", "1.8 sets that of config.json only"),
        case("exec::labels_are_left_out_with_a_warning", labels)
            .only(&["ferrun"], "runc refuses them, crun leaves them out without a word"),
        case("exec::options_in_their_other_forms", other_forms).differs("crun", "has no --additional-gids"),
        case("exec::pidfd_socket", pidfd_socket).only(&["ferrun", "runc"], "an option of runc 1.2"),
        case("exec::cgroup_of_some_controllers", cgroup_of_some).differs("crun", "takes it for a path"),
        case("exec::in_a_time_namespace", time).only(&["ferrun"], TIME),
        case("exec::without_a_mount_namespace", no_mount_namespace)
            .only(&["ferrun"], "runc 1.1 does not take a container without one, crun's exec stays in the host's root"),
        case("exec::without_any_namespace", no_namespace)
            .only(&["ferrun"], "runc 1.1 does not take an empty list, crun's exec stays in the host's root"),
        case("exec::in_a_network_namespace_joined_by_path", joined_network),
        case("exec::user_by_name_in_a_fifo", passwd_fifo).only(&["ferrun"], "the peers take numbers only"),
        case("exec::user_by_name_through_a_link_to_the_host", passwd_link)
            .only(&["ferrun"], "the peers take numbers only"),
        case("exec::user_by_name_in_a_huge_file", passwd_huge).only(&["ferrun"], "the peers take numbers only"),
        case("exec::seccomp_listener", listener).differs("crun", "1.8 says pid 0"),
        case("exec::process_file_with_a_terminal", process_terminal).differs("crun", "1.8: stdin is no terminal then"),
        case("exec::env_replaces_the_containers", env_replaces),
        case("exec::affinity_initial_and_final", affinity).only(&["ferrun"], AFFINITY),
        case("exec::affinity_that_is_none_is_refused", affinity_bad).only(&["ferrun"], AFFINITY),
        case("exec::affinity_of_the_caller_is_not_inherited", affinity_reset)
            .only(&["ferrun"], "came with runc 1.3.1 and crun 1.9.1"),
        case("exec::own_failures_end_with_255", own_failures).only(&["ferrun", "runc"], "crun ends with 1"),
    ]
}

/// `exec --process FILE` with what `change` makes of a plain one.
fn with_process(cx: &Cx, c: &Container, options: &[&str], args: &[&str], change: Value) -> Res<Out> {
    let mut process = json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    if let (Some(process), Some(change)) = (process.as_object_mut(), change.as_object()) {
        process.extend(change.clone());
    }
    let file = cx.path("process.json");
    fs::write(&file, process.to_string())?;
    cx.runtime("exec").args(options).arg("--process").arg(&file).arg(&c.id).out()
}

fn probed(out: &Out) -> Res<Value> {
    serde_json::from_str(&out.stdout).context(format!("the probe said {:?}", out.stdout))
}

fn paused(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    cx.runtime("pause").arg(&c.id).out()?.ok()?;
    let refused = exec(cx, &c, &[], &["true"]).out().and_then(|out| out.fails(&["paused"]));
    cx.runtime("resume").arg(&c.id).out()?.ok()?;
    refused?;
    exec(cx, &c, &[], &["true"]).out()?.ok()?;
    Ok(())
}

fn ignore_paused(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    cx.runtime("pause").arg(&c.id).out()?.ok()?;
    let job = exec(cx, &c, &["--ignore-paused"], &["/bin/sh", "-c", "echo on; exit 5"]).spawn()?;
    std::thread::sleep(Duration::from_millis(100));
    same!(job.stdout_now(), "", "what a process of a paused container says");
    cx.runtime("resume").arg(&c.id).out()?.ok()?;
    same!(job.wait()?.exits(5)?.stdout, "on\n", "stdout");
    Ok(())
}

fn scheduler(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let change = json!({"scheduler": {"policy": "SCHED_BATCH", "nice": 7}});
    let v = probed(&with_process(cx, &c, &[], &["/probe", "all"], change)?.ok()?)?;
    same!([&v["sched"]["policy"], &v["sched"]["nice"]], [&json!(3), &json!(7)], "policy and nice");
    Ok(())
}

fn io_priority(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let change = json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}});
    let v = probed(&with_process(cx, &c, &[], &["/probe", "all"], change)?.ok()?)?;
    same!(v["ioprio"], json!({"class": 2, "priority": 6}), "best effort");
    Ok(())
}

fn labels(cx: &Cx) -> Res {
    if fs::exists("/sys/fs/selinux/enforce")? || fs::exists("/sys/kernel/security/apparmor")? {
        return skip("this machine has SELinux or AppArmor");
    }
    let c = up(cx, |b| b)?;
    let options = ["--process-label", "system_u:system_r:container_t:s0", "--apparmor", "some-profile"];
    let both = [
        exec(cx, &c, &options, &["true"]).out()?.ok()?.stderr,
        with_process(cx, &c, &[], &["true"], json!({"selinuxLabel": "a:b:c:s0", "apparmorProfile": "some-profile"}))?
            .ok()?
            .stderr,
    ];
    for said in both {
        ensure!(said.matches("left out").count() == 2 && said.contains("level=warn"), "{said:?}");
    }
    Ok(())
}

fn pidfd_socket(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let (path, pid_file) = (cx.path("pidfd.sock"), cx.path("pid"));
    let listener = sockets::listen(&path)?;
    let run = cx.runtime("exec").arg("-d").arg("--pidfd-socket").arg(&path).arg("--pid-file").arg(&pid_file);
    let out = run.arg(&c.id).args(["sleep", "100"]).out()?;
    if out.stderr.contains("not defined") {
        return skip("this version has no --pidfd-socket");
    }
    out.ok()?;
    let (_, fds) = sockets::receive(&listener)?;
    let info = text(format!("/proc/self/fdinfo/{}", fds[0].as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_default().trim().to_owned();
    same!(pid, text(&pid_file)?, "the pid of the pidfd");
    Ok(())
}

/// `CONTROLLER,CONTROLLER:PATH` moves in these hierarchies only.
fn cgroup_of_some(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let of_init = text(format!("/proc/{}/cgroup", cx.pid(&c.id)?))?;
    if !cgroup::hierarchies().iter().any(|h| h.ends_with("cpu") || h.ends_with("cpu,cpuacct")) {
        return skip("no cgroup v1 here");
    }
    let Some(path) = of_init.lines().find(|line| line.contains(":cpu")).and_then(|line| line.split(':').nth(2)) else {
        return skip("no cgroup v1 here");
    };
    for dir in cgroup::directories(path) {
        fs::create_dir(dir.join("sub"))?;
    }
    let own = sh(cx, &c, &["--cgroup", "cpu,cpuacct:sub"], "cat /proc/self/cgroup")?.ok()?.stdout;
    for line in own.lines().filter(|line| !line.starts_with("0:")) {
        let (controller, path) =
            (line.split(':').nth(1).unwrap_or_default(), line.split(':').nth(2).unwrap_or_default());
        let wanted = controller.split(',').any(|one| one == "cpu" || one == "cpuacct");
        same!(path.ends_with("/sub"), wanted, line);
    }
    exec(cx, &c, &["--cgroup", "cpu:sub/../.."], &["true"]).out()?.fails(&[])?;
    exec(cx, &c, &["--cgroup", "nothing:sub"], &["true"]).out()?.fails(&[])?;
    Ok(())
}

fn time(cx: &Cx) -> Res {
    let offsets = json!({"boottime": {"secs": 1_000_000, "nanosecs": 0}});
    let c = up(cx, |b| b.namespace("time", Some("")).set("/linux/timeOffsets", offsets))?;
    let inside = sh(cx, &c, &[], "readlink /proc/self/ns/time")?.ok()?.stdout;
    same!(inside.trim().to_owned(), namespace(cx.pid(&c.id)?, "time")?, "the time namespace");
    let uptime = sh(cx, &c, &[], "cut -d. -f1 /proc/uptime")?.ok()?.stdout;
    ensure!(uptime.trim().parse::<u64>().is_ok_and(|seconds| seconds >= 1_000_000), "uptime {uptime}");
    Ok(())
}

fn no_mount_namespace(cx: &Cx) -> Res {
    let c = up(cx, |b| {
        b.namespace("mount", None).set("/mounts", json!([]));
        b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths")
    })?;
    same!(exec(cx, &c, &[], &["ls", "-d", "/probe"]).out()?.ok()?.stdout, "/probe\n", "the root");
    same!(exec(cx, &c, &["--cwd", "/tmp"], &["pwd"]).out()?.ok()?.stdout, "/tmp\n", "the working directory");
    Ok(())
}

fn no_namespace(cx: &Cx) -> Res {
    let c = up(cx, |b| {
        b.host_ids().set("/linux/namespaces", json!([])).set("/mounts", json!([])).unset("/hostname");
        b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths")
    })?;
    same!(exec(cx, &c, &[], &["ls", "-d", "/probe"]).out()?.ok()?.stdout, "/probe\n", "the root");
    Ok(())
}

fn joined_network(cx: &Cx) -> Res {
    let first = up(cx, |b| b)?;
    let path = format!("/proc/{}/ns/net", cx.pid(&first.id)?);
    let second = up(cx, |b| b.namespace("network", Some(&path)))?;
    let inside = sh(cx, &second, &[], "readlink /proc/self/ns/net")?.ok()?.stdout;
    same!(inside.trim().to_owned(), namespace(cx.pid(&first.id)?, "net")?, "the network namespace");
    Ok(())
}

/// A container whose /etc/passwd is what `make` leaves there.
fn with_passwd(cx: &Cx, make: impl FnOnce(&std::path::Path) -> Res) -> Res<Container> {
    let mut b = cx.bundle()?;
    let path = b.rootfs().join("etc/passwd");
    fs::remove_file(&path)?;
    make(&path)?;
    cx.sleeping(&mut b)
}

fn passwd_fifo(cx: &Cx) -> Res {
    let c = with_passwd(cx, |path| Ok(nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU)?))?;
    exec(cx, &c, &["-u", "web"], &["true"]).out()?.fails(&["no regular file"])?;
    // HOME is looked for there too
    exec(cx, &c, &["-u", "7"], &["true"]).out()?.ok()?;
    Ok(())
}

fn passwd_link(cx: &Cx) -> Res {
    let outside = cx.path("outside");
    fs::write(&outside, "evil:x:4:5::/:/bin/sh\n")?;
    let c = with_passwd(cx, |path| Ok(symlink(format!("/../../../../..{}", outside.display()), path)?))?;
    exec(cx, &c, &["-u", "evil"], &["true"]).out()?.fails(&["no such file or directory"])?;
    let c = with_passwd(cx, |path| Ok(symlink("/proc/self/root/../../etc/passwd", path)?))?;
    exec(cx, &c, &["-u", "root"], &["true"]).out()?.fails(&["passwd"])?;
    Ok(())
}

fn passwd_huge(cx: &Cx) -> Res {
    let c = with_passwd(cx, |path| {
        use std::io::Write;
        let mut file = fs::File::create(path)?;
        file.write_all(b"web:x:33:44::/srv:/bin/sh\n")?;
        Ok(file.set_len(100 << 20)?)
    })?;
    same!(sh(cx, &c, &["-u", "web"], "id -u")?.ok()?.stdout, "33\n", "the uid of one in the beginning");
    exec(cx, &c, &["-u", "nobody"], &["true"]).out()?.fails(&["unable to find user"])?;
    Ok(())
}

fn listener(cx: &Cx) -> Res {
    let path = cx.path("seccomp.sock");
    let socket = sockets::listen(&path)?;
    let rule = json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_NOTIFY"}]);
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rule, "listenerPath": path});
    let c = up(cx, |b| b.set("/linux/seccomp", profile))?;
    sockets::receive(&socket)?;
    let pid_file = cx.path("pid");
    cx.runtime("exec").arg("-d").arg("--pid-file").arg(&pid_file).arg(&c.id).args(["sleep", "100"]).out()?.ok()?;
    let (data, fds) = sockets::receive(&socket)?;
    let v: Value = serde_json::from_slice(&data)?;
    same!(fds.len(), 1, "descriptors");
    same!(v["pid"].to_string(), text(&pid_file)?, "pid");
    same!(v["state"]["pid"], json!(cx.pid(&c.id)?), "pid of the state");
    same!(v["state"]["status"], json!("running"), "status");
    Ok(())
}

fn process_terminal(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    let path = cx.path("console.sock");
    let listener = sockets::listen(&path)?;
    let change = json!({"terminal": true, "consoleSize": {"height": 33, "width": 77}});
    let socket = path.display().to_string();
    let options = ["-d", "--console-socket", &socket];
    with_process(cx, &c, &options, &["/bin/sh", "-c", "stty size; sleep 100"], change)?.ok()?;
    let (_, fds) = sockets::receive(&listener)?;
    let mut said = String::new();
    eventually("the terminal says its size", || {
        let mut buffer = [0; 256];
        if let Ok(length) = rustix::io::read(&fds[0], &mut buffer) {
            said += &String::from_utf8_lossy(&buffer[..length]);
        }
        Ok(said.contains('\n'))
    })?;
    same!(said.trim(), "33 77", "rows and columns");
    Ok(())
}

fn env_replaces(cx: &Cx) -> Res {
    let c = up(cx, |b| b.push("/process/env", json!("A=config")).push("/process/env", json!("HOME=/config")))?;
    let options = ["-e", "A=1", "-e", "HOME=/tmp", "-e", "A=2", "-e", "PATH=/bin"];
    let v = probe(cx, &c, &options)?;
    let mut env: Vec<&str> = v["env"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    env.sort_unstable();
    same!(env, vec!["A=2", "HOME=/tmp", "PATH=/bin"], "the environment");
    Ok(())
}

fn cpus_of(cx: &Cx, c: &Container) -> Res<String> {
    Ok(sh(cx, c, &[], "grep Cpus_allowed_list /proc/self/status | cut -f2")?.ok()?.stdout.trim().to_owned())
}

fn two_cpus() -> Res<CpuSet> {
    let all = sched_getaffinity(Pid::from_raw(0))?;
    if all.is_set(0)? && all.is_set(1)? { Ok(all) } else { skip("the CPUs 0 and 1 are not both there") }
}

fn affinity(cx: &Cx) -> Res {
    two_cpus()?;
    let with = |initial: &str, last: &str| {
        up(cx, |b| b.set("/process/execCPUAffinity", json!({"initial": initial, "final": last})))
    };
    same!(cpus_of(cx, &with("0", "1")?)?, "1", "the final CPUs");
    same!(cpus_of(cx, &with("", "0,1")?)?, "0-1", "the final CPUs");
    // nothing is changed then after the cgroup was joined
    same!(cpus_of(cx, &with("0-0", "")?)?, "0", "the initial CPUs alone");
    let c = with("1", "0")?;
    let allowed = text(format!("/proc/{}/status", cx.pid(&c.id)?))?;
    let allowed =
        allowed.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().to_owned();
    ensure!(allowed.trim() != "0" && allowed.trim() != "1", "the init is bound to {allowed}");
    Ok(())
}

fn affinity_bad(cx: &Cx) -> Res {
    for list in ["1-0", "x", "0-", "8192", "0-99999999999", "-1"] {
        let mut b = cx.bundle()?;
        b.set("/process/execCPUAffinity", json!({"final": list}));
        let out = cx.run(&b)?.fails(&["CPUs"])?;
        ensure!(out.stderr.contains("/process/execCPUAffinity"), "{list}: {}", out.stderr);
    }
    let c = up(cx, |b| b.set("/process/execCPUAffinity", json!({"final": "8191"})))?;
    exec(cx, &c, &[], &["true"]).out()?.exits(255)?.fails(&["the CPUs 8191"])?;
    Ok(())
}

/// A caller that is bound to a CPU (systemd's CPUAffinity=) does not bind the container.
fn affinity_reset(cx: &Cx) -> Res {
    let all = two_cpus()?;
    let mut b = cx.bundle()?;
    b.set("/linux/resources/cpu", json!({"cpus": "1"}));
    let mut one = CpuSet::new();
    one.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &one)?;
    let free = up(cx, |b| b)?;
    let bound = cgroup::hierarchies().iter().any(|h| h.ends_with("cpuset")).then(|| cx.sleeping(&mut b)).transpose()?;
    let check = || {
        for c in [Some(&free), bound.as_ref()].into_iter().flatten() {
            let wanted = if c.id == free.id { "0-1" } else { "1" };
            let status = text(format!("/proc/{}/status", cx.pid(&c.id)?))?;
            let of_init = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
            same!(of_init.trim(), wanted, "the CPUs of the init");
            same!(cpus_of(cx, c)?, wanted, "the CPUs of an exec");
        }
        Ok(())
    };
    let checked = check();
    sched_setaffinity(Pid::from_raw(0), &all)?;
    checked
}

fn own_failures(cx: &Cx) -> Res {
    let c = up(cx, |b| b)?;
    for (options, command, words) in [
        (&[][..], "no-such", "executable file not found in $PATH"),
        (&[], "/no/such", "no such file or directory"),
        (&[], "/etc/passwd", "permission denied"),
        (&[], "/etc", "is a directory"),
        (&[], "/etc/passwd/x", "not a directory"),
        (&["--cwd", "/no"], "true", "no such file or directory"),
    ] {
        let out = exec(cx, &c, options, &[command]).out()?.exits(255)?;
        ensure!(out.stderr.contains(words) || (cx.is("runc") && command == "/etc"), "{command}: {}", out.stderr);
    }
    cx.runtime("exec").args(["no-such-container", "true"]).out()?.exits(255)?;
    cx.kill(&c.id, "KILL")?;
    cx.stopped(&c.id)?;
    let out = exec(cx, &c, &[], &["true"]).out()?.exits(255)?;
    ensure!(cx.is("runc") || out.stderr.contains("container not running"), "{}", out.stderr);
    Ok(())
}

/// Short where the other cases are long, and the other way round; a pid file in the foreground.
fn other_forms(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let file = cx.path("exec.pid");
    let options = ["-c", "CAP_NET_ADMIN", "--additional-gids", "7", "--env", "A=b", "--user", "0:5", "--pid-file"];
    let path = file.to_string_lossy();
    let v = probe(cx, &c, &[&options[..], &[&path]].concat())?;
    let effective = v["caps"]["effective"].as_str().unwrap_or_default();
    ensure!(u64::from_str_radix(effective, 16)? & (1 << 12) != 0, "-c: {effective}");
    same!(v["gid"], json!("5 5 5 5"), "--user");
    ensure!(v["groups"].as_str().unwrap_or_default().split(' ').any(|one| one == "7"), "groups {}", v["groups"]);
    ensure!(v["env"].as_array().is_some_and(|all| all.contains(&json!("A=b"))), "env {}", v["env"]);
    let pid: i32 = fs::read_to_string(&file)?.parse()?;
    ensure!(pid > 1, "the pid file says {pid}");
    Ok(())
}
