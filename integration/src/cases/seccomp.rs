//! seccomp: verdicts as the container feels them, and the listener.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::Cx;
use crate::sockets;
use crate::{ensure, same};
use serde_json::{Value, json};

const FLAGS: &str = "`seccomp flags are not yet supported by runc` (they came with 1.2)";

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        case("seccomp::errno_default_is_eperm", errno_default),
        case("seccomp::errno_ret", errno_ret)
            .differs("crun", "1.21 keeps compiled filters under a key without the errno: the second gets the first's"),
        case("seccomp::default_action_errno_with_an_allow_list", allow_list),
        case("seccomp::default_errno_ret", default_errno_ret),
        case("seccomp::kill_process", kill_process),
        case("seccomp::kill_thread_is_kill", kill_thread),
        case("seccomp::trap_is_sigsys", trap),
        case("seccomp::log_allows", log),
        case("seccomp::a_syscall_newer_than_the_profile_is_enosys", newer)
            .differs("crun", "gives the default action: libseccomp knows no better"),
        case("seccomp::unknown_names_are_passed_over", unknown_name),
        case("seccomp::unknown_action_is_refused", unknown_action),
        case("seccomp::unknown_operator_is_refused", unknown_operator),
        case("seccomp::two_rules_of_one_name_are_alternatives", alternatives),
        case("seccomp::two_args_of_one_rule_are_both_needed", both_args),
        case("seccomp::mode_and_count_of_filters", mode),
        case("seccomp::without_no_new_privileges", without_nnp),
        case("seccomp::of_another_architecture", other_arch),
        case("seccomp::flag_log", |cx| flag(cx, "SECCOMP_FILTER_FLAG_LOG")).differs("runc", FLAGS),
        case("seccomp::flag_spec_allow", |cx| flag(cx, "SECCOMP_FILTER_FLAG_SPEC_ALLOW")).differs("runc", FLAGS),
        case("seccomp::flag_tsync", |cx| flag(cx, "SECCOMP_FILTER_FLAG_TSYNC")).differs("runc", FLAGS),
        case("seccomp::flag_unknown_is_refused", flag_unknown),
        case("seccomp::listener_gets_the_process_state", listener),
        case("seccomp::listener_missing_is_refused", listener_missing),
        case("seccomp::notify_without_a_listener_path_is_refused", notify_alone)
            .differs("crun", "starts it: a call then fails with ENOSYS"),
        case("seccomp::notify_on_write_is_refused", notify_write).differs("crun", "does not look"),
    ];
    // getpriority(which, 0): the second argument is compared.
    for (op, value, two, hits, misses) in [
        ("SCMP_CMP_EQ", 7, 0, &[7][..], &[6, 8][..]),
        ("SCMP_CMP_NE", 7, 0, &[6, 8], &[7]),
        ("SCMP_CMP_LT", 7, 0, &[0, 6], &[7, 8]),
        ("SCMP_CMP_LE", 7, 0, &[6, 7], &[8]),
        ("SCMP_CMP_GT", 7, 0, &[8, 1 << 40], &[6, 7]),
        ("SCMP_CMP_GE", 7, 0, &[7, 8], &[6]),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x30, &[0x30, 0x3f, 0x1_0000_0031], &[0x20, 0x00, 0x70]),
        ("SCMP_CMP_EQ", 0x1_0000_0007, 0, &[0x1_0000_0007], &[7, 0x2_0000_0007]),
    ] {
        let wide = if value > u64::from(u32::MAX) { "_of_64_bits" } else { "" };
        let name = format!("seccomp::{}{wide}", op.to_lowercase());
        all.push(case(name, move |cx| operator(cx, op, value, two, hits, misses)));
    }
    all
}

/// A harmless syscall that answers EINVAL or ESRCH when it is let through:
/// sched_getparam(pid, NULL).
const SCHED_GETPARAM: u32 = 143;
const GETPRIORITY: u32 = 140;
const EINVAL: i64 = -22;

fn profile(b: &mut Bundle, default: &str, rules: Value) {
    b.set(
        "/linux/seccomp",
        json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}),
    );
}

fn verdicts(cx: &Cx, b: &mut Bundle, calls: &[String]) -> Res<Vec<i64>> {
    let mut args = vec!["/probe".to_owned(), "syscalls".to_owned()];
    args.extend_from_slice(calls);
    b.args(&args);
    let out = cx.run(b)?.ok()?;
    let v: Value = serde_json::from_str(&out.stdout).context(out.stdout.clone())?;
    Ok(v.as_array().into_iter().flatten().filter_map(Value::as_i64).collect())
}

fn one(cx: &Cx, b: &mut Bundle) -> Res<i64> {
    Ok(verdicts(cx, b, &[format!("{SCHED_GETPARAM},0,0")])?[0])
}

fn errno_default(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(one(cx, &mut b)?, EINVAL, "without a filter");
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO"}]));
    same!(one(cx, &mut b)?, -1, "EPERM");
    Ok(())
}

fn errno_ret(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for errno in [38, 2, 133] {
        profile(
            &mut b,
            "SCMP_ACT_ALLOW",
            json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}]),
        );
        same!(one(cx, &mut b)?, -errno, "errnoRet");
    }
    Ok(())
}

/// What runtimes, the loader and the probe need between the filter and the end.
const NEEDED: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clock_gettime",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "openat",
    "openat2",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "seccomp",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setuid",
    "setresuid",
    "setresgid",
    "sigaltstack",
    "stat",
    "statfs",
    "statx",
    "tgkill",
    "uname",
    "wait4",
    "waitid",
    "write",
    "writev",
];

fn allow_list(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ERRNO", json!([{"names": NEEDED, "action": "SCMP_ACT_ALLOW"}]));
    same!(one(cx, &mut b)?, -1, "what is not in the list");
    same!(cx.run(b.args(&["/probe", "exit", "7"]))?.exits(7).is_ok(), true, "what is in the list");
    Ok(())
}

fn default_errno_ret(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ERRNO", json!([{"names": NEEDED, "action": "SCMP_ACT_ALLOW"}]));
    b.set("/linux/seccomp/defaultErrnoRet", json!(95));
    same!(one(cx, &mut b)?, -95, "defaultErrnoRet");
    Ok(())
}

fn ends_by_sigsys(cx: &Cx, action: &str) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": action}]));
    b.args(&["/probe", "syscalls", &format!("{SCHED_GETPARAM},0,0")]);
    cx.run(&b)?.exits(128 + 31)?;
    Ok(())
}

fn kill_process(cx: &Cx) -> Res {
    ends_by_sigsys(cx, "SCMP_ACT_KILL_PROCESS")
}

fn kill_thread(cx: &Cx) -> Res {
    ends_by_sigsys(cx, "SCMP_ACT_KILL_THREAD")?;
    ends_by_sigsys(cx, "SCMP_ACT_KILL")
}

fn trap(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    // Pid 1 does not die of SIGSYS that it only received; a child does.
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_TRAP"}]));
    same!(
        cx.sh(&mut b, &format!("/probe syscalls {SCHED_GETPARAM},0,0 2>/dev/null; echo $?"))?,
        "159\n",
        "exit status of the child"
    );
    Ok(())
}

fn log(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_LOG"}]));
    same!(one(cx, &mut b)?, EINVAL, "the call goes through");
    Ok(())
}

/// A program that probes for a new syscall must hear "there is none", not "you
/// may not": moby#42680.
fn newer(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ERRNO", json!([{"names": NEEDED, "action": "SCMP_ACT_ALLOW"}]));
    same!(verdicts(cx, &mut b, &["900".into()])?, [-38], "number 900");
    Ok(())
}

fn unknown_name(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(
        &mut b,
        "SCMP_ACT_ALLOW",
        json!([{"names": ["call_of_tomorrow", "sched_getparam"], "action": "SCMP_ACT_ERRNO"}]),
    );
    same!(one(cx, &mut b)?, -1, "the known name");
    Ok(())
}

fn unknown_action(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_NOPE", json!([]));
    cx.run(&b)?.fails(&["SCMP_ACT_NOPE", "seccomp"])?;
    Ok(())
}

fn unknown_operator(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let args = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_NOPE"}]);
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO", "args": args}]));
    cx.run(&b)?.fails(&["SCMP_CMP_NOPE", "seccomp"])?;
    Ok(())
}

fn operator(cx: &Cx, op: &str, value: u64, two: u64, hits: &[i64], misses: &[i64]) -> Res {
    let mut b = cx.bundle()?;
    let args = json!([{"index": 1, "value": value, "valueTwo": two, "op": op}]);
    profile(
        &mut b,
        "SCMP_ACT_ALLOW",
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args}]),
    );
    let calls: Vec<String> = hits.iter().chain(misses).map(|v| format!("{GETPRIORITY},99,{v}")).collect();
    let got = verdicts(cx, &mut b, &calls)?;
    for (n, v) in hits.iter().chain(misses).enumerate() {
        let want = if n < hits.len() { -77 } else { EINVAL };
        same!(got[n], want, format!("{op} {value:#x} {two:#x} on {v:#x}"));
    }
    Ok(())
}

fn alternatives(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let rule = |v: u64| json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [{"index": 1, "value": v, "op": "SCMP_CMP_EQ"}]});
    profile(&mut b, "SCMP_ACT_ALLOW", json!([rule(1), rule(2)]));
    let calls: Vec<String> = (1..4).map(|v| format!("{GETPRIORITY},99,{v}")).collect();
    same!(verdicts(cx, &mut b, &calls)?, [-77, -77, EINVAL], "1, 2 and 3");
    Ok(())
}

fn both_args(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let args = json!([{"index": 0, "value": 99, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]);
    profile(
        &mut b,
        "SCMP_ACT_ALLOW",
        json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args}]),
    );
    let calls = [format!("{GETPRIORITY},99,5"), format!("{GETPRIORITY},99,6"), format!("{GETPRIORITY},98,5")];
    same!(verdicts(cx, &mut b, &calls)?, [-77, EINVAL, EINVAL], "both, one, the other");
    Ok(())
}

fn mode(cx: &Cx) -> Res {
    // of a container around all of this
    let (outer, filters) = crate::user::filters();
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["seccomp"], json!(outer), "without a profile");
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO"}]));
    let v = cx.probe(&mut b)?;
    same!([&v["seccomp"], &v["filters"]], [&json!("2"), &json!((filters + 1).to_string())], "mode and filters");
    Ok(())
}

fn without_nnp(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/noNewPrivileges", json!(false)).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO"}]));
    let v = cx.probe(&mut b)?;
    same!([&v["seccomp"], &v["noNewPrivs"]], [&json!("2"), &json!("0")], "mode and no_new_privs");
    Ok(())
}

/// A filter for aarch64 beside: the native one is filtered all the same.
fn other_arch(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO"}]));
    b.set(
        "/linux/seccomp/architectures",
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]),
    );
    same!(one(cx, &mut b)?, -1, "EPERM");
    Ok(())
}

fn flag(cx: &Cx, flag: &str) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO"}]));
    b.set("/linux/seccomp/flags", json!([flag]));
    same!(one(cx, &mut b)?, -1, "EPERM");
    Ok(())
}

fn flag_unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_ERRNO"}]));
    b.set("/linux/seccomp/flags", json!(["SECCOMP_FILTER_FLAG_NOPE"]));
    cx.run(&b)?.fails(&["SECCOMP_FILTER_FLAG_NOPE", "flag"])?;
    Ok(())
}

fn notify_profile(b: &mut Bundle) {
    profile(b, "SCMP_ACT_ALLOW", json!([{"names": ["sched_getparam"], "action": "SCMP_ACT_NOTIFY"}]));
}

fn listener(cx: &Cx) -> Res {
    let path = cx.path("seccomp.sock");
    let socket = sockets::listen(&path)?;
    let mut b = cx.bundle()?;
    b.sleeps();
    notify_profile(&mut b);
    b.set("/linux/seccomp/listenerPath", json!(path)).set("/linux/seccomp/listenerMetadata", json!("some words"));
    let id = cx.id();
    cx.adopt(&id);
    cx.with_bundle("create", &b, &id)?.out()?.ok()?;
    // runc hands it over at create, crun when the program is about to start.
    cx.start(&id)?;
    let (data, fds) = sockets::receive(&socket)?;
    let v: Value = serde_json::from_slice(&data).context(String::from_utf8_lossy(&data).into_owned())?;
    same!(fds.len(), v["fds"].as_array().map_or(0, Vec::len), "descriptors");
    same!(v["fds"][0], json!("seccompFd"), "name of the descriptor");
    same!(v["metadata"], json!("some words"), "metadata");
    same!(v["state"]["id"], json!(id), "id");
    same!(v["state"]["bundle"], json!(b.dir), "bundle");
    same!(v["state"]["status"], json!("creating"), "status");
    same!(v["pid"], json!(cx.pid(&id)?), "pid");
    same!(v["state"]["pid"], v["pid"], "pid of the state");
    // crun says 0.2.0, the version of the process state rather than of the spec.
    ensure!(
        v["ociVersion"].as_str().is_some_and(|s| s.starts_with("1.") || cx.is("crun")),
        "ociVersion {}",
        v["ociVersion"]
    );
    let target = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fds[0])))?;
    ensure!(target.to_string_lossy().contains("seccomp"), "the descriptor is {target:?}");
    Ok(())
}

fn listener_missing(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    notify_profile(&mut b);
    b.set("/linux/seccomp/listenerPath", json!(cx.path("nobody.sock")));
    cx.run(&b)?.fails(&["no such file", "seccomp"])?;
    Ok(())
}

fn notify_alone(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    notify_profile(&mut b);
    let out = cx.run(&b)?;
    out.fails(&["seccomp", "listener"])?;
    Ok(())
}

/// The runtime itself has to write after the filter is in place.
fn notify_write(cx: &Cx) -> Res {
    let path = cx.path("seccomp.sock");
    let _socket = sockets::listen(&path)?;
    let mut b = cx.bundle()?;
    profile(&mut b, "SCMP_ACT_ALLOW", json!([{"names": ["write"], "action": "SCMP_ACT_NOTIFY"}]));
    b.set("/linux/seccomp/listenerPath", json!(path));
    cx.run(&b)?.fails(&["write"])?;
    Ok(())
}
