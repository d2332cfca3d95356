//! Plans: what a config becomes on a host, compared with blessed text, and what holds for every plan.
//! Needs no privileges and looks at nothing of this machine: hosts are built by hand.
//!
//! `FERRUN_BLESS=1 cargo test --test plan` rewrites `tests/golden/`; read the diff before you commit it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "plan/choices.rs"]
mod choices;
#[path = "plan/hosts.rs"]
mod hosts;
#[path = "plan/invariants.rs"]
mod invariants;
#[path = "plan/order.rs"]
mod order;
#[path = "plan/ranks.rs"]
mod ranks;
#[path = "plan/trees.rs"]
mod trees;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ferrun::cli::spec::{Facts, default_spec};
use ferrun::config::Config;
use ferrun::error::Error;
use ferrun::host::Host;
use ferrun::plan::create::create;
use ferrun::plan::exec::exec;
use ferrun::plan::{Console, Manager, Plan, Request, Start};
use serde_json::Value;

use hosts::{
    MakeHost, confined, nested, no_cgroups, ordinary, systemd_user, systemd_v1, systemd_v2, v1, v2, with_lsms,
    without_capabilities,
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A config of `tests/golden/config`. Where `/linux/seccomp` is a string it names a file of `tests/data`.
fn source(name: &str) -> Value {
    let path = golden().join("config").join(format!("{name}.json"));
    let mut source: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    if let Some(Value::String(file)) = source.pointer("/linux/seccomp").cloned() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
        source["linux"]["seccomp"] = serde_json::from_slice(&fs::read(data).unwrap()).unwrap();
    }
    source
}

fn parse(source: &Value) -> Config {
    Config::parse(&serde_json::to_vec(source).unwrap()).unwrap()
}

/// All of `tests/golden/config`, sorted.
fn sources() -> Vec<String> {
    let names = fs::read_dir(golden().join("config")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What `create web` asks; the console is what `config` needs.
fn request(config: &Config) -> Request {
    let console = if config.process.terminal { Console::Socket("/run/console.sock".into()) } else { Console::None };
    Request {
        id: "web".to_owned(),
        bundle: "/srv/web".into(),
        rootfs: "/srv/web/rootfs".into(),
        console,
        ..Request::default()
    }
}

/// What `run web` in the foreground asks.
fn run(config: &Config) -> Request {
    let console = if config.process.terminal { Console::Relay } else { Console::None };
    Request { start: Start::Now, console, ..request(config) }
}

fn no_pivot(config: &Config) -> Request {
    Request { no_pivot: true, no_new_keyring: true, ..run(config) }
}

/// As below systemd: fds of a socket unit, notifications, and no cgroup of its own.
fn below_systemd(config: &Config) -> Request {
    Request {
        preserve_fds: 3,
        env: vec!["LISTEN_FDS=2".to_owned(), "LISTEN_PID=1".to_owned()],
        notify: Some("/run/ferrun/web/notify".into()),
        manager: Manager::Disabled,
        ..run(config)
    }
}

fn by_systemd(config: &Config) -> Request {
    Request { manager: Manager::Systemd, ..request(config) }
}

fn by_users_systemd(config: &Config) -> Request {
    Request { rootless: true, ..by_systemd(config) }
}

fn traced(config: &Config) -> Request {
    Request { traced: true, ..request(config) }
}

type MakeRequest = fn(&Config) -> Request;

const REQUESTS: [(&str, MakeRequest); 4] =
    [("create", request), ("run", run), ("no-pivot", no_pivot), ("below-systemd", below_systemd)];

/// Name of the golden file, config, host, request. One ending in `.json` is compared as JSON.
type Case = (&'static str, &'static str, MakeHost, MakeRequest);

const CASES: [Case; 53] = [
    ("bare.txt", "bare", no_cgroups, request),
    ("bare-run.txt", "bare", no_cgroups, run),
    ("bare-v1.txt", "bare", v1, request),
    ("bare-v2.txt", "bare", v2, request),
    ("bare-no-pivot.txt", "bare", no_cgroups, no_pivot),
    ("bare-below-systemd.txt", "bare", v1, below_systemd),
    ("delegated.txt", "delegated", v2, request),
    ("dev-bound.txt", "dev-bound", no_cgroups, request),
    ("devices.txt", "devices", no_cgroups, request),
    ("docker.json", "docker", v1, request),
    ("docker-v1.txt", "docker", v1, request),
    ("docker-v2.txt", "docker", v2, run),
    ("hooks.txt", "hooks", no_cgroups, request),
    ("host.txt", "host", v1, run),
    ("idmapped.txt", "idmapped", no_cgroups, request),
    ("idmapped-user.txt", "idmapped-user", no_cgroups, request),
    ("joined.txt", "joined", v1, request),
    ("joined-v2.json", "joined", v2, request),
    ("labels.txt", "labels", with_lsms, request),
    ("labels-below-systemd.txt", "labels", with_lsms, below_systemd),
    ("labels-confined.txt", "labels", confined, request),
    ("labels-left-out.txt", "labels", no_cgroups, request),
    ("landlock.txt", "landlock", no_cgroups, request),
    ("limits-v1.txt", "limits", v1, request),
    ("limits-v2.txt", "limits", v2, request),
    ("listener.txt", "listener", no_cgroups, request),
    ("listener-privileged.txt", "listener-privileged", no_cgroups, request),
    ("mapped-v1.txt", "mapped", v1, request),
    ("mapped-v2.txt", "mapped", v2, request),
    ("mapped-guest.txt", "mapped-guest", v2, request),
    ("mapped-guest-ordinary.txt", "mapped-guest", ordinary, request),
    ("mapped-nested.txt", "minimal", nested, request),
    ("mapped-ordinary.json", "mapped", ordinary, request),
    ("mapped-pod.txt", "mapped-pod", v2, request),
    ("mapped-pod-ordinary.txt", "mapped-pod", ordinary, request),
    ("minimal.json", "minimal", v2, request),
    ("minimal-v1.txt", "minimal", v1, request),
    ("minimal-without-capabilities.txt", "minimal", without_capabilities, run),
    ("mounts-v1.txt", "mounts", v1, request),
    ("mounts-v2.txt", "mounts", v2, request),
    ("names.txt", "names", no_cgroups, request),
    ("pod.txt", "pod", v1, request),
    ("process.txt", "process", no_cgroups, request),
    ("root.txt", "root", no_cgroups, request),
    ("scope.json", "scope", systemd_v2, by_systemd),
    ("scope-v1.txt", "scope", systemd_v1, by_systemd),
    ("scope-v2.txt", "scope", systemd_v2, by_systemd),
    ("scope-user.txt", "bare", systemd_user, by_systemd),
    ("seccomp.txt", "seccomp", no_cgroups, request),
    ("seccomp-privileged.txt", "seccomp-privileged", no_cgroups, request),
    ("terminal.txt", "terminal", no_cgroups, request),
    ("time.txt", "time", v1, request),
    ("user.txt", "user", no_cgroups, request),
];

/// Those of an exec: the process is the container's own.
const EXECS: [Case; 11] = [
    ("exec-v1.txt", "docker", v1, request),
    ("exec-v2.txt", "docker", v2, request),
    ("exec-traced.txt", "docker", v1, traced),
    ("exec-host.txt", "host", v1, request),
    ("exec-labels.txt", "labels", with_lsms, request),
    ("exec-labels-left-out.txt", "labels", no_cgroups, request),
    ("exec-mapped.txt", "mapped", v1, traced),
    ("exec-mapped-ordinary.txt", "mapped", ordinary, request),
    ("exec-listener.json", "listener-privileged", no_cgroups, request),
    ("exec-process.txt", "process", no_cgroups, request),
    ("exec-scope-user.txt", "bare", systemd_user, by_users_systemd),
];

/// The plan of `exec web`, where the container is what `create web` makes.
fn exec_plan(config: &Config, host: &Host, request: &Request) -> Plan {
    let placement = create(config, host, request).unwrap().placement;
    exec(config, host, &Request { start: Start::Now, ..request.clone() }, placement).unwrap()
}

#[test]
fn plans_of_an_exec_are_as_blessed() {
    let differences: Vec<String> = EXECS
        .iter()
        .filter_map(|(file, name, host, request)| {
            let config = parse(&source(name));
            compare(&golden().join(file), &shown(&exec_plan(&config, &host(), &request(&config)), file))
        })
        .collect();
    assert!(differences.is_empty(), "{}\nFERRUN_BLESS=1 takes what is as right", differences.join("\n"));
}

#[test]
fn plans_are_as_blessed() {
    let differences: Vec<String> = CASES
        .iter()
        .filter_map(|(file, name, host, request)| {
            let config = parse(&source(name));
            let plan = create(&config, &host(), &request(&config)).unwrap();
            compare(&golden().join(file), &shown(&plan, file))
        })
        .collect();
    assert!(differences.is_empty(), "{}\nFERRUN_BLESS=1 takes what is as right", differences.join("\n"));
}

fn shown(plan: &Plan, file: &str) -> String {
    let text =
        if file.ends_with(".json") { serde_json::to_string_pretty(plan).unwrap() + "\n" } else { plan.to_string() };
    // how long a filter is depends on the architecture, and is the business of tests/seccomp.rs
    without_numbers_after(&without_numbers_after(&text, " program="), "\"program\": ")
}

fn without_numbers_after(text: &str, key: &str) -> String {
    let mut parts = text.split(key);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + key + "N" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// What differs, if anything does.
fn compare(path: &Path, found: &str) -> Option<String> {
    let wanted = fs::read_to_string(path).unwrap_or_default();
    if wanted == found {
        return None;
    }
    if std::env::var_os("FERRUN_BLESS").is_some() {
        fs::write(path, found).unwrap();
        return None;
    }
    let mut lines = vec![format!("{} differs:", path.display())];
    let (old, new): (Vec<_>, Vec<_>) = (wanted.lines().collect(), found.lines().collect());
    lines.extend(old.iter().filter(|line| !new.contains(line)).map(|line| format!("  - {line}")));
    lines.extend(new.iter().filter(|line| !old.contains(line)).map(|line| format!("  + {line}")));
    if lines.len() == 1 {
        lines.push("  the same lines in another order".to_owned());
    }
    Some(lines.join("\n"))
}

#[test]
fn no_golden_file_is_left_over() {
    let files = CASES.iter().map(|(file, ..)| *file).chain(EXECS.iter().map(|(file, ..)| *file));
    let known: BTreeSet<&str> = files.collect();
    assert_eq!(known.len(), CASES.len() + EXECS.len(), "two cases share a file");
    for entry in fs::read_dir(golden()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(name == "config" || known.contains(name.as_str()), "no case has the golden file {name}");
    }
    let used: BTreeSet<&str> = CASES.iter().map(|(_, config, ..)| *config).collect();
    for name in sources() {
        assert!(used.contains(name.as_str()), "no case uses the config {name}");
    }
}

#[test]
fn the_minimal_config_is_what_spec_writes() {
    let written: Value = serde_json::from_str(&default_spec(Facts { rootless: None, cgroup2: true })).unwrap();
    assert_eq!(written, source("minimal"));
}

/// A terminal needs somebody to take it, and a socket needs a terminal: before anything is touched.
#[test]
fn terminals_and_console_sockets_go_together() {
    let refused = |name: &str, console: Console| -> Error {
        let config = parse(&source(name));
        create(&config, &v2(), &Request { console, ..request(&config) }).unwrap_err()
    };
    let error = refused("terminal", Console::None);
    assert!(error.to_string().contains("--console-socket"), "{error}");
    assert_eq!(error.parts().pointer.as_deref(), Some("/process/terminal"));
    let error = refused("bare", Console::Socket("/run/console.sock".into()));
    assert!(error.to_string().contains("--console-socket"), "{error}");
    assert_eq!(error.parts().pointer.as_deref(), Some("/process/terminal"));
}
