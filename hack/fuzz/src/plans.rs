//! Whole documents: config.json through the plan of each request on each machine, what `update` and `exec` are given.

use std::sync::LazyLock;

use ferrun::cgroup::limits::{Limits, Version};
use ferrun::config::resources::Resources;
use ferrun::config::{Config, Process};
use ferrun::host::Host;
use ferrun::plan::cgroupfs::{Bus, Placement, Unit};
use ferrun::plan::create::create;
use ferrun::plan::exec::exec;
use ferrun::plan::step::{MountWhat, Step};
use ferrun::plan::{Console, Manager, Plan, Request, Start};
use serde_json::{Value, json};

use super::hosts;
use super::ranks::{disorder, labels};
use super::words::base;
use super::{checked, text};

/// A config.json.
pub fn config(data: &[u8]) {
    if let Some(config) = checked(Config::parse(data), data.len()) {
        planned(&config);
        let again = Config::parse(data).expect("it was good before");
        assert_eq!(again, config, "not the same twice");
    }
}

/// What holds for the plans of a config, on two machines: which, its length says.
pub(crate) fn planned(config: &Config) {
    const HOSTS: [fn() -> Host; 8] = [
        hosts::no_cgroups,
        hosts::v1,
        hosts::v2,
        hosts::systemd_v1,
        hosts::systemd_v2,
        hosts::systemd_user,
        hosts::ordinary,
        hosts::nested,
    ];
    let input = serde_json::to_vec(config).expect("text").len();
    for which in [input, input + 1] {
        let host = HOSTS[which % HOSTS.len()]();
        let request = request(config, &host);
        let Some(plan) = checked(create(config, &host, &request), input) else { continue };
        ordered(&plan, config, false);
        proved(&plan);
        let placement: Placement = plan.placement.clone();
        if let Some(plan) = checked(exec(config, &host, &request, placement), input) {
            ordered(&plan, config, true);
            proved(&plan);
        }
        assert!(!plan.to_string().is_empty() && serde_json::to_vec(&plan).is_ok());
    }
}

fn request(config: &Config, host: &Host) -> Request {
    let systemd = host.systemd.running;
    let rootless = !host.is_privileged();
    Request {
        rootless,
        id: "web".to_owned(),
        bundle: "/srv/web".into(),
        rootfs: "/srv/web/rootfs".into(),
        start: if systemd { Start::Now } else { Start::Later },
        console: if config.process.terminal { Console::Socket("/run/console.sock".into()) } else { Console::None },
        manager: match (systemd, rootless) {
            (true, _) => Manager::Systemd,
            (false, true) => Manager::Refused,
            (false, false) => Manager::Cgroupfs,
        },
        ..Request::default()
    }
}

fn ordered(plan: &Plan, config: &Config, exec: bool) {
    let labels = labels(plan);
    assert_eq!(labels.first(), Some(&"setsid"));
    assert_eq!(labels.last(), Some(&"exec"));
    // of a scope the parent has a word before the order begins
    let mut plain = plan.clone();
    plain.steps.retain(|entry| entry.step.name() != "barrier" || labels_of(&entry.step) != "unplaced");
    if plan.placement.unit.is_none() {
        assert_eq!(disorder(&plain, config, exec), None);
    }
    for once in ["user", "bounding-set", "capabilities", "chdir", "prove-cwd", "find-program", "close-fds"] {
        assert_eq!(labels.iter().filter(|label| **label == once).count(), 1, "{once}: {labels:?}");
    }
}

fn labels_of(step: &Step) -> &'static str {
    match step {
        Step::Barrier { event: ferrun::plan::step::Event::Unplaced } => "unplaced",
        other => other.name(),
    }
}

/// No path of the container leads out of it, no word of a system call has a NUL.
fn proved(plan: &Plan) {
    for entry in &plan.steps {
        match &entry.step {
            Step::Mount(mount) => {
                inside(&text(mount.destination.as_os_str().as_encoded_bytes()));
                if let MountWhat::Fs(fs) = &mount.what {
                    plain(&fs.fstype);
                    plain(&fs.source);
                    fs.data.iter().flat_map(|data| [Some(&data.key), data.value.as_ref()]).flatten().for_each(plain);
                }
            }
            // the working directory: resolved in the root by the kernel, `..` and all
            Step::MakeDirectory { path } | Step::Chdir { path } => {
                assert!(path.is_absolute());
                plain(&text(path.as_os_str().as_encoded_bytes()));
            }
            Step::Devices { devices, links } => {
                devices.iter().for_each(|device| inside(&text(device.path.as_os_str().as_encoded_bytes())));
                links.iter().for_each(|link| inside(&link.link));
            }
            Step::ReadonlyPaths { paths } | Step::MaskedPaths { paths, .. } => {
                paths.iter().for_each(|path| inside(&text(path.as_os_str().as_encoded_bytes())));
            }
            Step::Sysctl { settings } => {
                for setting in settings {
                    plain(&setting.value);
                    inside(&format!("/{}", setting.path));
                }
            }
            Step::Hostname { name } | Step::Domainname { name } => {
                assert!(name.len() <= 64 && !name.chars().any(char::is_control), "{name:?}");
            }
            Step::Exec { args, env } => {
                assert!(!args.is_empty());
                args.iter().chain(env).for_each(plain);
            }
            Step::Seccomp(seccomp) => super::seccomp::kernel_takes(&seccomp.program),
            _ => {}
        }
    }
    for directory in plan.placement.directories() {
        let directory = text(directory.as_os_str().as_encoded_bytes());
        inside(&directory);
        assert!(directory.starts_with("/sys/fs/cgroup/"), "{directory:?}");
    }
    for setting in &plan.limits.settings {
        assert!(!setting.file.contains(['/', '\0']) && !setting.file.is_empty(), "{setting:?}");
    }
}

fn inside(path: &str) {
    assert!(path.starts_with('/') && !path.split('/').any(|part| part == ".."), "{path:?}");
    assert!(!path.chars().any(char::is_control), "{path:?}");
}

fn plain(text: &String) {
    assert!(!text.contains('\0'), "{text:?}");
}

/// The configs of `tests/golden`, with all their values' pointers.
static GOLDEN: LazyLock<Vec<(Value, Vec<String>)>> = LazyLock::new(|| {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/config");
    let directory = if std::path::Path::new(directory).exists() {
        directory
    } else {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/config")
    };
    let mut files: Vec<_> = std::fs::read_dir(directory).expect("golden").map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: std::path::PathBuf| {
        let mut value: Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
        if value.pointer("/linux/seccomp").is_some_and(Value::is_string) {
            value["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}
            ]});
        }
        let mut pointers = Vec::new();
        collect(&value, &mut String::new(), &mut pointers);
        (value, pointers)
    };
    files.into_iter().map(read).collect()
});

fn collect(value: &Value, pointer: &mut String, pointers: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in members {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key);
        pointers.push(pointer.clone());
        collect(value, pointer, pointers);
        pointer.truncate(length);
    }
}

/// Good configs with some values replaced: what gets through is deep in the plan. The first byte is which config; then
/// come edits: two bytes of which place, one of what is done, and for some of these a line of text.
pub fn plan(data: &[u8]) {
    let [which, edits @ ..] = data else { return };
    let (config, pointers) = &GOLDEN[usize::from(*which) % GOLDEN.len()];
    let mut config = config.clone();
    let mut rest = edits;
    while let [high, low, kind, more @ ..] = rest {
        rest = more;
        let place = &pointers[(usize::from(*high) << 8 | usize::from(*low)) % pointers.len()];
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let line = text(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            line
        };
        let value = match kind % 12 {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(u64::MAX),
            4 => json!(""),
            5 => json!([]),
            6 => json!({}),
            7 => json!(line()),
            8 => line().parse::<i64>().map_or(Value::Null, Value::from),
            9 => json!([line(), line()]),
            // a value from somewhere else, but not one that holds itself and doubles with each edit
            10 => {
                let other = config.pointer(&pointers[usize::from(*low) % pointers.len()]);
                other.filter(|other| other.to_string().len() < 512).cloned().unwrap_or_default()
            }
            _ => serde_json::from_str(&line()).unwrap_or_default(),
        };
        if let Some(found) = config.pointer_mut(place) {
            *found = value;
        }
    }
    let text = serde_json::to_vec(&config).expect("text");
    if let Some(config) = checked(Config::parse(&text), text.len()) {
        planned(&config);
    }
}

/// What `update` is given.
pub fn resources(data: &[u8]) {
    let Some(resources) = checked(Resources::parse(data), data.len()) else { return };
    let unit = Unit { name: "a.scope".into(), slice: "b.slice".into(), bus: Bus::System, program: None };
    for version in [Version::V1, Version::V2] {
        checked(Limits::new(&resources, version), data.len());
        if let Some(limits) = checked(Limits::change(&resources, version), data.len()) {
            assert!(limits.settings.iter().all(|setting| !setting.file.contains(['/', '\0'])), "{limits:?}");
            checked(ferrun::cgroup::systemd::unit::changes(&unit, &limits, version), data.len());
        }
    }
    if let Ok(resources) = serde_json::from_slice::<Value>(data) {
        let mut config = base();
        config["linux"]["resources"] = resources;
        if let Some(config) = checked(Config::parse(&serde_json::to_vec(&config).expect("text")), data.len()) {
            planned(&config);
        }
    }
}

/// What `exec --process` is given.
pub fn process(data: &[u8]) {
    let mut warnings = Vec::new();
    if let Some(process) = checked(Process::parse(data, &mut warnings), data.len()) {
        let mut config = Config::parse(&serde_json::to_vec(&base()).expect("text")).expect("a config");
        config.process = process;
        planned(&config);
    }
    assert!(warnings.iter().all(|warning| !warning.chars().any(char::is_control)), "{warnings:?}");
}
