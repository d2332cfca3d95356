//! What holds for every plan: for each config, for each two of them merged, on each host, for each request.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use ferrun::config::Config;
use ferrun::config::resources::Resources;
use ferrun::host::Cgroups;
use ferrun::plan::cgroupfs::{Hierarchies, Placement};
use ferrun::plan::create::create;
use ferrun::plan::exec::exec;
use ferrun::plan::step::{Asset, AssetId, Device, DeviceHow, Entry, Event, Mount, MountWhat, NamespaceKind, Step};
use ferrun::plan::{Manager, Plan, Request, Start};
use serde_json::{Value, json};

use crate::hosts::ALL_HOSTS;
use crate::ranks::labels;
use crate::{MakeRequest, REQUESTS, parse, source, sources};

/// A plan and all that it was made of.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) source: Value,
    pub(crate) config: Config,
    request: Request,
    pub(crate) plan: Plan,
}

/// Every config alone and with each other, those that are none (offsets of a joined time namespace) left out.
fn combinations() -> Vec<(String, Value)> {
    let names = sources();
    let mut combinations: Vec<(String, Value)> = names.iter().map(|name| (name.clone(), source(name))).collect();
    for one in &names {
        for other in names.iter().filter(|other| *other != one) {
            let mut merged = source(one);
            merge(&mut merged, source(other));
            if Config::parse(&serde_json::to_vec(&merged).unwrap()).is_ok() {
                combinations.push((format!("{one}+{other}"), merged));
            }
        }
    }
    combinations
}

/// `other` wins; but of namespaces it adds those that are missing.
fn merge(one: &mut Value, other: Value) {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            for (key, value) in other {
                match one.get_mut(&key) {
                    None => drop(one.insert(key, value)),
                    Some(Value::Array(list)) if key == "namespaces" => {
                        for namespace in value.as_array().unwrap() {
                            if !list.iter().any(|known| known["type"] == namespace["type"]) {
                                list.push(namespace.clone());
                            }
                        }
                    }
                    Some(known) => merge(known, value),
                }
            }
        }
        (one, other) => *one = other,
    }
}

/// Made once, for all tests.
static MADE: LazyLock<Vec<Made>> = LazyLock::new(|| {
    let mut made = Vec::new();
    for (name, source) in combinations() {
        let config = parse(&source);
        for (host_name, host) in ALL_HOSTS {
            for (request_name, request) in REQUESTS {
                // one that differs in little else is enough for what is merged
                if name.contains('+') && (host_name == "lsms" || request_name == "no-pivot") {
                    continue;
                }
                let name = format!("{name} on {host_name}, {request_name}");
                let request = request(&config);
                let host = host();
                // limits need something that limits
                let limited = config.resources != Resources::default() && request.manager != Manager::Disabled;
                if limited && host.cgroups == Cgroups::None {
                    assert!(create(&config, &host, &request).is_err(), "{name}");
                    continue;
                }
                let plan = create(&config, &host, &request).unwrap_or_else(|error| panic!("{name}: {error}"));
                made.push(Made { name, source: source.clone(), config: config.clone(), request, plan });
            }
        }
    }
    made
});

/// An exec in each container of those: what its `run` would be.
static EXECED: LazyLock<Vec<Made>> = LazyLock::new(|| {
    let runs = MADE.iter().filter(|made| made.name.ends_with(", run"));
    let execed = runs.flat_map(|made| [(made, false), (made, true)]).map(|(made, traced)| {
        let Made { source, config, request, .. } = made;
        let request = Request { traced, ..request.clone() };
        let host = ALL_HOSTS.iter().find(|(host, _)| made.name.contains(&format!(" on {host},"))).unwrap().1();
        let plan = exec(config, &host, &request, made.plan.placement.clone()).unwrap();
        let name = format!("exec{} in {}", if traced { " (traced)" } else { "" }, made.name);
        Made { name, source: source.clone(), config: config.clone(), request, plan }
    });
    execed.collect()
});

/// Of creates and of execs.
pub(crate) fn for_plans_of_both_kinds(mut check: impl FnMut(&Made)) {
    for_every_plan(&mut check);
    assert!(EXECED.len() > 500, "only {} plans", EXECED.len());
    EXECED.iter().for_each(check);
}

pub(crate) fn for_every_plan(check: impl FnMut(&Made)) {
    assert!(MADE.len() > 3000, "only {} plans", MADE.len());
    MADE.iter().for_each(check);
}

#[test]
fn what_frames_a_plan_is_there_once() {
    for_plans_of_both_kinds(|made| {
        let labels = labels(&made.plan);
        let places = |wanted: &str| -> Vec<usize> {
            labels.iter().enumerate().filter(|(_, label)| **label == wanted).map(|(place, _)| place).collect()
        };
        assert_eq!(places("setsid"), [0], "{}", made.name);
        assert_eq!(places("exec"), [labels.len() - 1], "{}", made.name);
        let ready = places("barrier-ready");
        assert_eq!(ready.len(), 1, "{}", made.name);
        // nothing may open an fd between; the listener of a filter is closed by the step that made it
        let last: Vec<_> = labels[places("close-fds")[0] + 1..ready[0]].to_vec();
        assert!(last.iter().all(|label| ["seccomp", "drop-capabilities"].contains(label)), "{}: {last:?}", made.name);
        for once in ["user", "bounding-set", "capabilities", "chdir", "prove-cwd", "find-program", "umask"] {
            assert_eq!(places(once).len(), 1, "{}: {once}", made.name);
        }
        let enters = ["pivot-root", "move-root", "chroot"].map(|label| places(label).len());
        // an exec enters it with the mount namespace, where there is one
        let with_namespace = made.name.starts_with("exec ") && !made.config.namespaces.mount.is_host();
        assert_eq!(enters.iter().sum::<usize>(), usize::from(!with_namespace), "{}: the root is entered", made.name);
        let later = usize::from(made.request.start == Start::Later);
        assert_eq!(places("await-start").len(), later, "{}", made.name);
    });
}

/// CVE-2016-9962: processes that are there already could trace the init.
#[test]
fn beside_others_the_init_is_not_dumpable() {
    for_every_plan(|made| {
        let hidden = labels(&made.plan).contains(&"not-dumpable");
        assert_eq!(hidden, !made.config.namespaces.pid.is_new(), "{}", made.name);
    });
}

/// An exec is beside others always; it enters what the init has and no more, and makes nothing.
#[test]
fn an_exec_makes_nothing() {
    assert!(EXECED.len() > 500, "only {} plans", EXECED.len());
    for made in EXECED.iter() {
        let labels = labels(&made.plan);
        assert!(labels.contains(&"not-dumpable"), "{}", made.name);
        let makes = [
            "mount",
            "unshare",
            "join-namespace",
            "devices",
            "make-directory",
            "sysctl",
            "pivot-root",
            "masked-paths",
            "create-container-hooks",
            "await-start",
        ];
        assert!(!labels.iter().any(|label| makes.contains(label)), "{}: {labels:?}", made.name);
        assert!(made.plan.spawn.namespaces.is_empty(), "{}", made.name);
        // among those who may trace it, who is seen has entered all else already
        let (own_pid, traced) = (!made.config.namespaces.pid.is_host(), made.request.traced);
        let mapped = !made.config.namespaces.user.is_host();
        // the right to trace ends with the user namespace; without privileges only a courier gets into the other one
        let courier = own_pid && if mapped { made.name.contains(" on ordinary,") } else { traced };
        assert_eq!(made.plan.is_reborn(), courier, "{}", made.name);
        assert_eq!(made.plan.spawn.join_pid.is_some(), own_pid && !courier, "{}", made.name);
        assert_eq!(labels.contains(&"become-root"), mapped, "{}", made.name);
        let late = labels.iter().position(|label| *label == "reborn").unwrap_or(usize::MAX);
        assert!(
            !labels.iter().skip(late).any(|label| ["join-cgroup", "enter-namespaces"].contains(label)),
            "{}",
            made.name
        );
        let entered = made.plan.steps.iter().find_map(|entry| match &entry.step {
            Step::EnterNamespaces { namespaces, .. } => Some(namespaces.clone()),
            _ => None,
        });
        let entered = entered.unwrap_or_default().len() + usize::from(made.plan.spawn.join_pid.is_some());
        let own = made.source.pointer("/linux/namespaces").and_then(Value::as_array).unwrap().len();
        assert_eq!(entered, own, "{}", made.name);
    }
}

/// The cgroup is joined before a cgroup namespace is made, whose root is where we are then; and a v2 child is
/// born in it.
#[test]
fn cgroups_are_joined_first() {
    for_every_plan(|made| {
        let labels = labels(&made.plan);
        let join = labels.iter().position(|label| *label == "join-cgroup");
        assert_eq!(join.is_some(), matches!(made.plan.placement.hierarchies, Hierarchies::V1 { .. }), "{}", made.name);
        let v2 = matches!(made.plan.placement.hierarchies, Hierarchies::V2 { .. });
        assert_eq!(made.plan.spawn.into_cgroup, v2, "{}", made.name);
        let entered = |entry: &Entry| match &entry.step {
            Step::Unshare { namespaces } => namespaces.contains(&NamespaceKind::Cgroup),
            Step::JoinNamespace { kind, .. } => [NamespaceKind::Cgroup, NamespaceKind::Mount].contains(kind),
            Step::EnterNamespaces { .. } | Step::Barrier { event: Event::Mounted } | Step::PivotRoot => true,
            _ => false,
        };
        let namespaces = made.plan.steps.iter().position(entered);
        if let (Some(join), Some(namespaces)) = (join, namespaces) {
            assert!(join < namespaces, "{}: {labels:?}", made.name);
        }
        assert!(
            made.request.manager != Manager::Disabled || made.plan.placement == Placement::default(),
            "{}",
            made.name
        );
    });
}

/// In a mount namespace that is joined all names are others', those of /proc too.
#[test]
fn the_hosts_files_are_used_before_its_mounts_are_left() {
    let mut joins = 0;
    for_plans_of_both_kinds(|made| {
        let leaves = |entry: &Entry| match &entry.step {
            Step::JoinNamespace { kind, .. } => *kind == NamespaceKind::Mount,
            Step::EnterNamespaces { namespaces, .. } => namespaces.contains(&NamespaceKind::Mount),
            Step::PivotRoot | Step::MoveRoot => true,
            _ => false,
        };
        let Some(left) = made.plan.steps.iter().position(leaves) else { return };
        joins += usize::from(matches!(made.plan.steps[left].step, Step::JoinNamespace { .. }));
        let later = labels(&made.plan).split_off(left);
        let of_the_host = ["oom-score-adj", "join-cgroup", "enter-time-namespace", "host-proc", "open"];
        let wrong = later.iter().find(|label| of_the_host.contains(label));
        assert_eq!(wrong, None, "{}: {later:?}", made.name);
    });
    assert!(joins > 50, "only {joins}");
}

/// Who may trace whatever it sees must not find a way out in what enters its pid namespace (CVE-2016-9962).
#[test]
fn what_is_traced_has_nothing_of_the_host() {
    let mut traced = 0;
    for made in EXECED.iter().filter(|made| made.plan.is_reborn() && made.config.namespaces.user.is_host()) {
        assert!(!labels(&made.plan).contains(&"host-proc"), "{}", made.name);
        traced += 1;
    }
    assert!(traced > 50, "only {traced}");
}

/// Each namespace is made or joined once, and by exactly one of clone, setns and unshare.
#[test]
fn namespaces_are_made_or_joined_once() {
    for_every_plan(|made| {
        let mut made_new: Vec<NamespaceKind> = made.plan.spawn.namespaces.clone();
        let mut joined = 0;
        for entry in &made.plan.steps {
            match &entry.step {
                Step::Unshare { namespaces } | Step::Reborn { namespaces, .. } => made_new.extend(namespaces),
                Step::JoinNamespace { .. } => joined += 1,
                _ => {}
            }
        }
        joined += usize::from(made.plan.spawn.join_pid.is_some());
        let asked = made.source.pointer("/linux/namespaces").and_then(Value::as_array).unwrap();
        let by_path = asked.iter().filter(|namespace| namespace.get("path").is_some()).count();
        assert_eq!(joined, by_path, "{}", made.name);
        assert_eq!(made_new.len(), asked.len() - by_path, "{}", made.name);
        for (place, kind) in made_new.iter().enumerate() {
            assert!(!made_new[..place].contains(kind), "{}: {kind:?} twice", made.name);
        }
    });
}

/// Right before the execve, so that the filter need not allow what we do; with a listener before the parent that
/// hands it over is gone. Without no_new_privs loading needs CAP_SYS_ADMIN, which one capset then takes away.
#[test]
fn seccomp_is_loaded_as_late_as_it_may_be() {
    let mut places = [0, 0];
    for_plans_of_both_kinds(|made| {
        let labels = labels(&made.plan);
        let seccomp: Vec<usize> = (0..labels.len()).filter(|place| labels[*place] == "seccomp").collect();
        let Some(profile) = made.config.seccomp.as_ref().filter(|profile| profile.restricts()) else {
            assert!(!labels.contains(&"drop-capabilities"), "{}", made.name);
            return assert!(seccomp.is_empty(), "{}", made.name);
        };
        assert_eq!(seccomp.len(), 1, "{}", made.name);
        let drops = usize::from(labels.contains(&"drop-capabilities"));
        assert!(drops == 0 || !made.config.process.no_new_privileges, "{}", made.name);
        let follows = if profile.listener.is_some() { "barrier-ready" } else { "exec" };
        assert_eq!(labels[seccomp[0] + drops + 1], follows, "{}", made.name);
        assert!(drops == 0 || labels[seccomp[0] + 1] == "drop-capabilities", "{}", made.name);
        places[usize::from(profile.listener.is_some())] += 1;
    });
    assert!(places[0] > 0 && places[1] > 0, "{places:?}");
}

/// The label of new keys is for the one keyring: what the container makes has labels by its policy's own rules.
#[test]
fn only_the_keyring_gets_the_label_of_keys() {
    let mut labelled = 0;
    for_plans_of_both_kinds(|made| {
        let labels = labels(&made.plan);
        let places: Vec<usize> =
            (0..labels.len()).filter(|place| labels[*place].starts_with("label-of-keys")).collect();
        let wanted = made.name.contains(" on lsms,")
            && made.config.process.selinux_label.is_some()
            && !made.request.no_new_keyring;
        if !wanted {
            return assert!(places.is_empty(), "{}: {labels:?}", made.name);
        }
        labelled += 1;
        let of_keys = places[0];
        let around = ["label-of-keys", "keyring", "label-of-keys-no-more"];
        assert_eq!(labels[of_keys..of_keys + 3], around, "{}", made.name);
        assert_eq!(places.len(), 2, "{}", made.name);
    });
    assert!(labelled > 1, "{labelled}");
}

/// What the program has is what was asked, whatever the filter needed meanwhile.
#[test]
fn the_last_capabilities_are_those_asked_for() {
    for_plans_of_both_kinds(|made| {
        let last = made.plan.steps.iter().rev().find_map(|entry| match &entry.step {
            Step::Capabilities(sets) | Step::DropCapabilities(sets) => Some(*sets),
            _ => None,
        });
        let asked = made.config.process.capabilities.unwrap_or_default();
        let last = last.expect("a capset");
        assert_eq!((last.permitted | last.effective) & !asked.permitted, 0, "{}", made.name);
    });
}

/// Barriers cost two context switches each: there is one for the hooks of create, and the last.
#[test]
fn barriers_are_there_for_somebody() {
    for_every_plan(|made| {
        let hooks = &made.config.hooks;
        let waits =
            [&hooks.prestart, &hooks.create_runtime, &hooks.create_container].iter().any(|kind| !kind.is_empty());
        assert_eq!(labels(&made.plan).contains(&"barrier-mounted"), waits, "{}", made.name);
    });
}

#[test]
fn nothing_is_mounted_in_the_hosts_mount_namespace() {
    let host = json!({"namespaces": [{"type": "pid"}]});
    let mut bare = source("mounts");
    bare["linux"] = host;
    let config = parse(&bare);
    for (_, make) in ALL_HOSTS {
        for (_, request) in REQUESTS {
            let plan = create(&config, &make(), &request(&config)).unwrap();
            let mounting =
                ["mount", "attach-root", "pivot-root", "move-root", "masked-paths", "detach-propagation", "devices"];
            assert!(!labels(&plan).iter().any(|label| mounting.contains(label)), "{plan}");
            assert!(plan.warnings.iter().any(|warning| warning.starts_with("mounts and devices are left out")));
        }
    }
}

/// Pointers of defaults: where the property would stand that changes them.
const MAY_BE_ABSENT: [&str; 5] = [
    "/linux/cgroupsPath",
    "/linux/timeOffsets",
    "/process/capabilities",
    "/process/capabilities/bounding",
    "/process/user/umask",
];

#[test]
fn pointers_lead_somewhere() {
    for_plans_of_both_kinds(|made| {
        let plan = &made.plan;
        let steps = plan.steps.iter().filter_map(|entry| entry.pointer.as_deref());
        let assets = plan.assets.iter().filter_map(|entry| entry.pointer.as_deref());
        let tunes = plan.after_clone.iter().chain(&plan.at_ready).map(|entry| entry.pointer.as_str());
        let devices = plan.steps.iter().flat_map(|entry| devices(&entry.step)).filter_map(|d| d.pointer.as_deref());
        for pointer in steps.chain(assets).chain(tunes).chain(devices) {
            // serde_json's resolves RFC 6901
            let found = made.source.pointer(pointer).is_some();
            assert!(found || MAY_BE_ABSENT.contains(&pointer), "{}: {pointer} is not in the file", made.name);
        }
    });
}

fn devices(step: &Step) -> &[Device] {
    match step {
        Step::Devices { devices, .. } => devices,
        _ => &[],
    }
}

fn bound(how: DeviceHow) -> Option<AssetId> {
    match how {
        DeviceHow::Mknod => None,
        DeviceHow::Bind(tree) => Some(tree),
    }
}

/// The assets that a step takes.
fn taken(step: &Step) -> Vec<AssetId> {
    match step {
        Step::JoinNamespace { namespace, .. } => vec![*namespace],
        Step::AttachRoot { root, .. } => vec![*root],
        Step::Mount(Mount { what: MountWhat::Tree { tree, .. }, .. }) => vec![*tree],
        Step::Mount(Mount { what: MountWhat::Fs(fs), .. }) => fs.else_bind.iter().copied().collect(),
        Step::Devices { devices, .. } => devices.iter().filter_map(|device| bound(device.how)).collect(),
        Step::Mount(Mount { what: MountWhat::CgroupV1 { hierarchies, .. }, .. }) => {
            hierarchies.iter().map(|hierarchy| hierarchy.tree).collect()
        }
        Step::Console(console) => console.socket.iter().copied().collect(),
        Step::MaskedPaths { null, .. } => vec![*null],
        Step::AwaitStart { fifo } => vec![*fifo],
        _ => Vec::new(),
    }
}

/// What is opened is used, once, by who knows what it is.
#[test]
fn assets_are_taken_once() {
    for_every_plan(|made| {
        let plan = &made.plan;
        let mut uses = vec![0; plan.assets.len()];
        for entry in &plan.steps {
            for id in taken(&entry.step) {
                uses[id.0] += 1;
                let right = match (&entry.step, &plan.assets[id.0].asset) {
                    (Step::JoinNamespace { kind, .. }, Asset::Namespace { kind: opened, .. }) => kind == opened,
                    (Step::AttachRoot { .. } | Step::Mount(_), Asset::Tree { .. })
                    | (Step::Console { .. }, Asset::ConsoleSocket { .. })
                    | (Step::MaskedPaths { .. } | Step::Devices { .. }, Asset::Device { .. })
                    | (Step::AwaitStart { .. }, Asset::StartFifo) => true,
                    _ => false,
                };
                assert!(right, "{}: {:?} takes {:?}", made.name, entry.step, plan.assets[id.0]);
            }
        }
        if let Some(id) = plan.spawn.join_pid {
            uses[id.0] += 1;
        }
        for (place, entry) in plan.assets.iter().enumerate() {
            if let Asset::Tree { idmap: Some(idmap), .. } = &entry.asset {
                assert!(idmap.users.0 < place, "{}: {entry:?} comes before its user namespace", made.name);
                // of many trees, and of the init
                uses[idmap.users.0] = 1;
            }
        }
        for (entry, uses) in plan.assets.iter().zip(uses) {
            let wanted = usize::from(entry.asset != Asset::FaultFile);
            assert_eq!(uses, wanted, "{}: {entry:?}", made.name);
        }
        let later = made.request.start == Start::Later;
        let fault = plan.assets.iter().any(|entry| entry.asset == Asset::FaultFile);
        assert_eq!(fault, later, "{}: only who is left alone writes last words", made.name);
    });
}

/// Nothing of it comes in by the order of a map or by the clock.
#[test]
fn plans_are_deterministic() {
    for (name, source) in combinations() {
        for (host, request) in [(crate::v1(), crate::below_systemd as MakeRequest), (crate::v2(), crate::request)] {
            let make = || {
                let config = parse(&source);
                create(&config, &host, &request(&config)).unwrap()
            };
            assert_eq!(make(), make(), "{name}");
        }
    }
}

/// Each of these, when it is in the file, has a step, an asset or a tune; or a warning says that it has none.
const ASKED: [&str; 26] = [
    "/root/readonly",
    "/hostname",
    "/domainname",
    "/mounts",
    "/process/terminal",
    "/process/rlimits",
    "/process/oomScoreAdj",
    "/process/scheduler",
    "/process/ioPriority",
    "/process/noNewPrivileges",
    "/process/apparmorProfile",
    "/process/selinuxLabel",
    "/process/capabilities",
    "/process/user",
    "/process/cwd",
    "/hooks/createContainer",
    "/hooks/startContainer",
    "/linux/sysctl",
    "/linux/devices",
    "/linux/seccomp",
    "/linux/maskedPaths",
    "/linux/readonlyPaths",
    "/linux/rootfsPropagation",
    "/linux/personality",
    "/linux/memoryPolicy",
    "/linux/timeOffsets",
];

/// What is asked for and neither planned nor warned of.
fn dropped(source: &Value, plan: &Plan) -> Vec<&'static str> {
    let text = plan.to_string();
    ASKED
        .into_iter()
        .filter(|pointer| match source.pointer(pointer) {
            None | Some(Value::Bool(false)) => false,
            Some(_) => !text.contains(pointer) && !plan.warnings.iter().any(|w| says(w, pointer)),
        })
        .collect()
}

/// A warning speaks of `pointer` when it has its last word (`left out: /linux/devices`, `mounts and devices …`).
fn says(warning: &str, pointer: &str) -> bool {
    warning.contains(pointer.rsplit('/').next().unwrap_or_default())
}

#[test]
fn nothing_is_dropped_in_silence() {
    for_every_plan(|made| {
        // the devices of a /dev that is bound are its owner's business
        let bound_dev = made.source.pointer("/mounts/0/options/0") == Some(&json!("rbind"));
        let dropped: Vec<_> = dropped(&made.source, &made.plan)
            .into_iter()
            .filter(|pointer| !(bound_dev && *pointer == "/linux/devices"))
            .collect();
        assert!(dropped.is_empty() || made.config.namespaces.mount.is_host(), "{}: {dropped:?}", made.name);
    });
}

/// All configs, each without a mount namespace and what is refused without one.
pub(crate) fn without_mount_namespace() -> Vec<(String, Value)> {
    let strip = |mut source: Value| {
        let linux = &mut source["linux"];
        linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "mount");
        for refused_without in ["maskedPaths", "readonlyPaths"] {
            linux.as_object_mut().unwrap().remove(refused_without);
        }
        source
    };
    sources().into_iter().map(|name| (name.clone(), strip(source(&name)))).collect()
}

#[test]
fn without_a_mount_namespace_nothing_is_dropped_in_silence() {
    let mut all = BTreeSet::new();
    for (name, source) in without_mount_namespace() {
        let config = parse(&source);
        for (_, request) in REQUESTS {
            let plan = create(&config, &crate::v2(), &request(&config)).unwrap();
            all.extend(dropped(&source, &plan).into_iter().map(|pointer| format!("{name}: {pointer}")));
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}
