//! What the containers run: looks at itself and prints JSON.

pub mod raw;
mod rob;
mod talk;

pub use raw::{
    attach_device_program, attached_device_programs, close_on_exec_from, install_filter, loaded_device_programs,
    send_signal,
};

use serde_json::{Map, Value, json};
use std::fs;
use std::process::ExitCode;

pub fn main(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["all", ..] => println!("{}", all()),
        ["fds"] => println!("{}", fds()),
        ["syscalls", calls @ ..] => println!("{}", syscalls(calls)),
        ["hook", file, rest @ ..] => return hook(file, rest),
        ["rob", marker, stop] => println!("{}", rob::main(marker, stop)),
        ["notify", words @ ..] => return talk::notify(words.join("\n").as_bytes(), 1),
        ["notify-many", times, word] => return talk::notify(word.as_bytes(), times.parse().unwrap_or(1)),
        ["notify-noise", length] => return talk::notify(&vec![0xff; length.parse().unwrap_or(1)], 1),
        ["notify-barrier"] => return talk::barrier(),
        ["signals"] => return signals(),
        ["die", signal] => raw::die(signal.parse().unwrap_or(9)),
        ["stream", total, chunk] => return stream(total, chunk),
        ["exit", code] => return ExitCode::from(code.parse().unwrap_or(99)),
        _ => return ExitCode::from(98),
    }
    ExitCode::SUCCESS
}

/// Bytes of which none can be missing, double or changed without being noticed.
pub struct Pattern(u64);

impl Pattern {
    pub fn new() -> Self {
        Self(1)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.0 >> 56) as u8;
        }
    }
}

/// So many bytes of the pattern to stdout, in writes of a size.
fn stream(total: &str, chunk: &str) -> ExitCode {
    let (Ok(mut left), Ok(chunk)) = (total.parse::<usize>(), chunk.parse::<usize>()) else {
        return ExitCode::from(97);
    };
    let (mut pattern, mut bytes) = (Pattern::new(), vec![0; chunk]);
    while left > 0 {
        let now = left.min(chunk);
        pattern.fill(&mut bytes[..now]);
        let mut rest = &bytes[..now];
        while !rest.is_empty() {
            match rustix::io::write(rustix::stdio::stdout(), rest) {
                Ok(written) => rest = &rest[written..],
                Err(rustix::io::Errno::INTR) => {}
                // stderr may be the same terminal, and as dead
                Err(_) => return ExitCode::FAILURE,
            }
        }
        left -= now;
    }
    ExitCode::SUCCESS
}

fn all() -> Value {
    let status = read("/proc/self/status");
    let line = |name: &str| {
        let found = status.lines().find_map(|l| l.strip_prefix(name).and_then(|r| r.strip_prefix(':')));
        found.map(|s| s.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let mut v = json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": raw_environment(),
        "cwd": raw::getcwd(),
        "uid": line("Uid"), "gid": line("Gid"), "groups": line("Groups"), "umask": line("Umask"),
        "pid": std::process::id(), "nspid": line("NSpid"),
        "caps": {"inheritable": line("CapInh"), "permitted": line("CapPrm"), "effective": line("CapEff"),
                 "bounding": line("CapBnd"), "ambient": line("CapAmb")},
        "noNewPrivs": line("NoNewPrivs"), "seccomp": line("Seccomp"), "filters": line("Seccomp_filters"),
        "blocked": line("SigBlk"), "ignored": line("SigIgn"), "caught": line("SigCgt"),
        "oom": read("/proc/self/oom_score_adj").trim(),
        "securebits": raw::securebits(),
        "dumpable": raw::dumpable(),
        "sched": raw::sched(),
        "ioprio": raw::ioprio(),
        "personality": raw::personality(),
        "keyring": raw::session_keyring(),
        "keyringLabel": raw::session_keyring_label(),
        "rlimits": raw::rlimits(),
        "parentDeathSignal": raw::parent_death_signal(),
        "subreaper": raw::subreaper(),
        "fds": fds(),
        "hostname": read("/proc/sys/kernel/hostname").trim(),
        "domainname": read("/proc/sys/kernel/domainname").trim(),
        "cgroup": read("/proc/self/cgroup"),
        "mountinfo": read("/proc/self/mountinfo"),
        "timens": read("/proc/self/timens_offsets"),
        "uptime": read("/proc/uptime"),
        "sid": line("NSsid"),
    });
    v["ns"] = namespaces();
    v
}

/// The bytes of the environment, duplicates and all.
fn raw_environment() -> Vec<String> {
    let raw = fs::read("/proc/self/environ").unwrap_or_default();
    raw.split(|b| *b == 0).filter(|e| !e.is_empty()).map(|e| String::from_utf8_lossy(e).into_owned()).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn namespaces() -> Value {
    let mut m = Map::new();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).map(|l| l.to_string_lossy().into_owned());
        m.insert(kind.into(), link.map_or(Value::Null, Value::from));
    }
    Value::Object(m)
}

/// Open descriptors: number, target, whether close-on-exec (then it was opened
/// by this program itself).
fn fds() -> Value {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Ok(n) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let info = read(&format!("/proc/self/fdinfo/{n}"));
        let flags = info.lines().find_map(|l| l.strip_prefix("flags:")).map(str::trim).unwrap_or_default();
        let flags = u64::from_str_radix(flags, 8).unwrap_or(0);
        // O_CLOEXEC: ours; what was inherited over execve cannot have it.
        if flags & 0o2000000 != 0 {
            continue;
        }
        let target = fs::read_link(entry.path()).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
        found.push(json!({"fd": n, "target": target}));
    }
    found.sort_by_key(|f| f["fd"].as_i64());
    Value::Array(found)
}

/// `NR,arg,arg…` each: the return value, or the errno as a negative number.
fn syscalls(calls: &[&str]) -> Value {
    let one = |call: &&str| {
        let words: Vec<i64> = call.split(',').filter_map(|w| w.parse().ok()).collect();
        raw::syscall(words[0], &words[1..])
    };
    Value::Array(calls.iter().map(|c| json!(one(c))).collect())
}

/// Prints the number of each signal that arrives; SIGTERM is the last one.
fn signals() -> ExitCode {
    raw::block_signals();
    println!("up");
    loop {
        let signal = raw::next_signal();
        println!("{signal}");
        if signal == i64::from(libc::SIGTERM) {
            return ExitCode::SUCCESS;
        }
    }
}

/// Adds one line to a file: what a hook was given. Then does what it is told:
/// `exit:N`, `sleep:SECONDS`, `say:WORDS` (to stderr).
fn hook(file: &str, rest: &[&str]) -> ExitCode {
    use std::io::{Read, Write};
    let mut stdin = String::new();
    let _ = std::io::stdin().read_to_string(&mut stdin);
    let entry = json!({
        "args": std::env::args().collect::<Vec<_>>(),
        "env": raw_environment(),
        "state": serde_json::from_str::<Value>(&stdin).unwrap_or(Value::Null),
        "ns": namespaces(), "cwd": raw::getcwd(), "fds": fds(),
    });
    let opened = fs::File::options().create(true).append(true).open(file);
    if let Ok(mut f) = opened {
        // In one write: hooks of two kinds can run at the same time.
        let _ = f.write_all(format!("{entry}\n").as_bytes());
    }
    for word in rest {
        match word.split_once(':') {
            Some(("exit", n)) => return ExitCode::from(n.parse().unwrap_or(97)),
            Some(("sleep", n)) => std::thread::sleep(std::time::Duration::from_millis(n.parse().unwrap_or(0))),
            Some(("say", w)) => eprintln!("{w}"),
            _ => {}
        }
    }
    ExitCode::SUCCESS
}
