//! The plan of a create: which steps, in which order.

use crate::config::{Config, Namespace, Namespaces};
use crate::error::{Error, Result};
use crate::host::Host;

use super::cgroupfs::{self, Hierarchies, Placement};
use super::process::{self, NOTIFY_DIRECTORY};
use super::step::{Asset, Attributes, Event, HookKind, Mount, MountWhat, NamespaceKind, PropagationKind, Spawn, Step};
use super::{Console, Draft, Manager, Plan, Request, devices, labels, limits, mounts, scope};

/// The plan for `config` on `host`.
///
/// # Errors
/// A seccomp profile that does not compile; a terminal without a way to hand it over, or the reverse.
pub fn create(config: &Config, host: &Host, request: &Request) -> Result<Plan> {
    check_console(config, request)?;
    let mut draft = Draft { warnings: config.warnings.clone(), ..Draft::default() };
    let placement = match request.manager {
        Manager::Disabled => Placement::default(),
        Manager::Cgroupfs => cgroupfs::place(config.cgroups_path.as_deref(), &request.id, host),
        Manager::Systemd => scope::place(config.cgroups_path.as_deref(), &request.id, host)?,
    };
    let (limits, properties) = limits::limits(&mut draft, config, request, &placement)?;
    let spawn = namespaces(&mut draft, config, &placement);
    labels::warn_of_files(&mut draft, config, host);
    let own_root = root(&mut draft, config, host, request, &placement)?;
    if !cgroup_first(&config.namespaces) {
        enter_cgroup(&mut draft, config, &placement);
    }
    if own_root {
        draft_hooks(&mut draft, config);
        enter_root(&mut draft, config, host, request);
    } else {
        draft_hooks(&mut draft, config);
        draft.step_at("/root/path", Step::Chroot { path: request.rootfs.clone() });
        draft.step_at("/process/cwd", Step::MakeDirectory { path: config.process.cwd.clone() });
        process::terminal(&mut draft, config, request, false);
        sysctl(&mut draft, config);
    }
    let widened = process::attributes(&mut draft, config, host, request);
    process::last_steps(&mut draft, config, request, widened)?;
    let (after_clone, at_ready) = process::tunes(config);
    Ok(Plan {
        cgroup_owner: limits::cgroup_owner(config, &placement),
        placement,
        limits,
        properties,
        assets: draft.assets,
        spawn,
        socket_label: labels::of_process(config, host).filter(|_| request.notify.is_some()),
        after_clone,
        steps: draft.steps,
        at_ready,
        warnings: draft.warnings,
        notes: draft.notes,
    })
}

pub(super) fn check_console(config: &Config, request: &Request) -> Result<()> {
    match (&request.console, config.process.terminal) {
        (Console::None, true) => {
            Err(Error::new("cannot allocate a terminal for a detached container without --console-socket")
                .at("/process/terminal")
                .hint("pass --console-socket, run in the foreground, or set terminal to false"))
        }
        (Console::Socket(_), false) => Err(Error::new("--console-socket is only for a container with a terminal")
            .at("/process/terminal")
            .hint("set terminal to true")),
        _ => Ok(()),
    }
}

/// Namespaces in the order of [`setns`](https://man7.org/linux/man-pages/man2/setns.2.html): those joined by
/// path first, the mount namespace last of them, as it takes the host's paths away.
fn namespaces(draft: &mut Draft, config: &Config, placement: &Placement) -> Spawn {
    let wanted = &config.namespaces;
    let mut spawn = Spawn {
        into_cgroup: matches!(placement.hierarchies, Hierarchies::V2 { .. }) && placement.unit.is_none(),
        ..Spawn::default()
    };
    match &wanted.pid {
        Namespace::Host => {}
        Namespace::New => spawn.namespaces.push(NamespaceKind::Pid),
        Namespace::Join { path, pointer } => {
            let asset = Asset::Namespace { path: path.clone(), kind: NamespaceKind::Pid };
            spawn.join_pid = Some(draft.asset(asset, Some(pointer.clone())));
        }
    }
    // The memory of those that the clone makes is charged to the caller: the container's limit may be smaller. The
    // cgroup namespace shows as root where the process is when it is made; the time namespace needs its offsets.
    let new = by_kind(wanted).into_iter().chain([(NamespaceKind::Mount, &wanted.mount)]).filter(|(_, n)| n.is_new());
    let late = |kind: &NamespaceKind| matches!(kind, NamespaceKind::Cgroup | NamespaceKind::Time);
    spawn.namespaces.extend(new.map(|(kind, _)| kind).filter(|kind| !late(kind)));
    draft.step(Step::Setsid);
    if !wanted.pid.is_new() {
        // others than the host's can see this process while it still holds what is the host's (CVE-2016-9962)
        draft.step(Step::NotDumpable);
    }
    if placement.unit.is_some() {
        draft.step_at("/linux/cgroupsPath", Step::Barrier { event: Event::Unplaced });
    }
    if cgroup_first(wanted) {
        enter_cgroup(draft, config, placement);
    }
    for (kind, namespace) in by_kind(wanted) {
        join(draft, kind, namespace);
    }
    if wanted.time.is_new() {
        draft.step_at("/linux/namespaces", Step::Unshare { namespaces: vec![NamespaceKind::Time] });
        draft.step_at("/linux/timeOffsets", Step::EnterTimeNamespace { offsets: config.time_offsets.clone() });
    }
    if wanted.network.is_new() {
        draft.step(Step::Loopback);
    }
    if let Some(name) = &config.hostname {
        draft.step_at("/hostname", Step::Hostname { name: name.clone() });
    }
    if let Some(name) = &config.domainname {
        draft.step_at("/domainname", Step::Domainname { name: name.clone() });
    }
    join(draft, NamespaceKind::Mount, &wanted.mount);
    spawn
}

/// From a mount or cgroup namespace of others there may be no way to our cgroups any more.
fn cgroup_first(Namespaces { mount, cgroup, .. }: &Namespaces) -> bool {
    !mount.is_new() || matches!(cgroup, Namespace::Join { .. })
}

/// On v1 as late as can be, after the mounts, whose memory would be charged to the container: its limit may be small.
/// Before the cgroup namespace is made: what that shows as root is where we are then. And before the hooks, some of
/// which look for the cgroups of the process.
fn enter_cgroup(draft: &mut Draft, config: &Config, placement: &Placement) {
    if let Hierarchies::V1 { directories } = &placement.hierarchies {
        draft.step_at("/linux/cgroupsPath", Step::JoinCgroup { directories: directories.clone() });
    }
    draft.step(Step::Affinity { cpus: None });
    if config.namespaces.cgroup.is_new() {
        draft.step_at("/linux/namespaces", Step::Unshare { namespaces: vec![NamespaceKind::Cgroup] });
    }
}

/// All but pid and user (made by the clone) and mount (the last).
fn by_kind(namespaces: &Namespaces) -> [(NamespaceKind, &Namespace); 5] {
    [
        (NamespaceKind::Network, &namespaces.network),
        (NamespaceKind::Ipc, &namespaces.ipc),
        (NamespaceKind::Uts, &namespaces.uts),
        (NamespaceKind::Cgroup, &namespaces.cgroup),
        (NamespaceKind::Time, &namespaces.time),
    ]
}

fn join(draft: &mut Draft, kind: NamespaceKind, namespace: &Namespace) {
    if let Namespace::Join { path, pointer } = namespace {
        let asset = Asset::Namespace { path: path.clone(), kind };
        let namespace = draft.asset(asset, Some(pointer.clone()));
        draft.step_at(pointer.clone(), Step::JoinNamespace { kind, namespace });
    }
}

/// The root file system with all its mounts. False when the container shares the host's mount namespace:
/// nothing is ever mounted there.
fn root(draft: &mut Draft, config: &Config, host: &Host, request: &Request, placement: &Placement) -> Result<bool> {
    let mount_namespace = &config.namespaces.mount;
    if mount_namespace.is_host() {
        without_mount_namespace(draft, config);
        return Ok(false);
    }
    if mount_namespace.is_new() {
        draft.step(Step::DetachPropagation);
    }
    let inherited = mounts::inherited(config);
    let tree = Asset::Tree {
        path: request.rootfs.clone(),
        recursive: true,
        attributes: vec![Attributes { propagation: Some(inherited.kind), recursive: true, ..Attributes::default() }],
        procfs: false,
        late: false,
    };
    let root = draft.asset(tree, Some("/root/path".to_owned()));
    draft.step_at("/root/path", Step::AttachRoot { root, path: request.rootfs.clone() });
    mounts::plan(draft, config, host, placement)?;
    if let Some(directory) = &request.notify {
        // a directory of the host's: the container can talk to the socket in it, and not replace or fill anything
        let attributes = vec![Attributes {
            set: mounts::MOUNT_ATTR_NOTHING,
            propagation: Some(PropagationKind::Private),
            ..Attributes::default()
        }];
        let tree = draft.asset(
            Asset::Tree { path: directory.clone(), recursive: false, attributes, procfs: false, late: false },
            None,
        );
        let what = MountWhat::Tree { tree };
        draft.step(Step::Mount(Mount {
            destination: NOTIFY_DIRECTORY.into(),
            what,
            attributes: Vec::new(),
            real_directory: false,
        }));
    }
    devices::plan(draft, config);
    draft.step_at("/process/cwd", Step::MakeDirectory { path: config.process.cwd.clone() });
    Ok(true)
}

/// What would have to be mounted in the host's mount namespace is left out, and said.
fn without_mount_namespace(draft: &mut Draft, config: &Config) {
    let asked = [
        (!config.mounts.is_empty() || !config.devices.is_empty(), "mounts and devices are"),
        (config.root.readonly, "root.readonly is"),
        (config.root.propagation.is_some(), "rootfsPropagation is"),
    ];
    for (_, what) in asked.iter().filter(|(asked, _)| *asked) {
        draft.warnings.push(format!("{what} left out: the container has no mount namespace of its own"));
    }
}

/// A barrier only if a hook of the host's side waits for it, or one of the container's wants to know the pid that
/// only the parent knows.
fn draft_hooks(draft: &mut Draft, config: &Config) {
    let hooks = &config.hooks;
    if [&hooks.prestart, &hooks.create_runtime, &hooks.create_container].iter().any(|hooks| !hooks.is_empty()) {
        draft.step(Step::Barrier { event: Event::Mounted });
    }
    let hooks = &config.hooks.create_container;
    if !hooks.is_empty() {
        draft.step_at("/hooks/createContainer", Step::Hooks { kind: HookKind::CreateContainer, hooks: hooks.clone() });
    }
}

fn enter_root(draft: &mut Draft, config: &Config, host: &Host, request: &Request) {
    if !config.namespaces.mount.is_new() {
        // a pivot would change the root of everybody else in that namespace
        draft.step_at("/root/path", Step::Chroot { path: request.rootfs.clone() });
    } else if request.no_pivot {
        draft.step_at("/root/path", Step::MoveRoot);
    } else {
        draft.step_at("/root/path", Step::PivotRoot);
    }
    process::terminal(draft, config, request, true);
    sysctl(draft, config);
    if !config.readonly_paths.is_empty() {
        draft.step_at("/linux/readonlyPaths", Step::ReadonlyPaths { paths: config.readonly_paths.clone() });
    }
    if !config.masked_paths.is_empty() {
        let null = draft.asset(Asset::Null, None);
        let (paths, label) = (config.masked_paths.clone(), labels::files(config, host));
        draft.step_at("/linux/maskedPaths", Step::MaskedPaths { paths, null, label });
    }
    if config.root.readonly {
        draft.step_at("/root/readonly", Step::RootReadonly);
    }
    // last: what is unbindable could not be made read-only by a bind
    if let Some(propagation) = config.root.propagation {
        draft.step_at("/linux/rootfsPropagation", Step::RootPropagation { propagation });
    }
}

fn sysctl(draft: &mut Draft, config: &Config) {
    if !config.sysctl.is_empty() {
        draft.step_at("/linux/sysctl", Step::Sysctl { settings: config.sysctl.clone() });
    }
}
