//! The plan of a create: which steps, in which order.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::host::Host;

use super::cgroupfs::{self, Placement};
use super::process::{self, NOTIFY_DIRECTORY};
use super::step::{
    Asset, Attributes, Entry, Event, HookKind, MapWriter, Mount, MountWhat, PropagationKind, Step, SymlinkRule,
};
use super::{Console, Draft, Manager, Plan, Request, devices, labels, limits, mounts, namespaces, scope};

/// The plan for `config` on `host`.
///
/// # Errors
/// A seccomp profile that does not compile; a terminal without a way to hand it over, or the reverse.
pub fn create(config: &Config, host: &Host, request: &Request) -> Result<Plan> {
    check_console(config, request)?;
    let mut draft = Draft { warnings: config.warnings.clone(), ..Draft::default() };
    let placement = match request.manager {
        Manager::Disabled | Manager::Refused => Placement::default(),
        Manager::Cgroupfs => cgroupfs::place(config.cgroups_path.as_deref(), &request.id, host),
        Manager::Systemd => scope::place(config.cgroups_path.as_deref(), &request.id, host)?,
    };
    let (limits, properties) = limits::limits(&mut draft, config, host, request, &placement)?;
    groups(config, host)?;
    let spawn = namespaces::plan(&mut draft, config, host, request, &placement);
    labels::warn_of_files(&mut draft, config, host);
    let own_root = root(&mut draft, config, host, request, &placement);
    if !namespaces::cgroup_first(&config.namespaces) {
        namespaces::enter_cgroup(&mut draft, config, &placement);
    }
    if own_root {
        draft_hooks(&mut draft, config);
        enter_root(&mut draft, config, host, request);
    } else {
        draft_hooks(&mut draft, config);
        namespaces::host_proc(&mut draft, config, host, true);
        draft.step_at("/root/path", Step::Chroot { path: request.rootfs.clone() });
        draft.step_at("/process/cwd", Step::MakeDirectory { path: config.process.cwd.clone() });
        process::terminal(&mut draft, config, request, false);
        sysctl(&mut draft, config);
    }
    let widened = process::attributes(&mut draft, config, host, request, namespaces::setgroups(config, host));
    process::last_steps(&mut draft, config, request, widened)?;
    let (after_clone, at_ready) = process::tunes(config, host, request);
    Ok(Plan {
        cgroup_owner: limits::cgroup_owner(config, &placement),
        placement,
        limits,
        properties,
        assets: draft.assets,
        spawn,
        id_maps: namespaces::maps(config, host),
        socket_label: labels::of_process(config, host).filter(|_| request.notify.is_some()),
        after_clone,
        steps: draft.steps,
        at_ready,
        warnings: draft.warnings,
        notes: draft.notes,
    })
}

/// Who maps no group but their own has to give up setgroups(2) first.
fn groups(config: &Config, host: &Host) -> Result<()> {
    let own = namespaces::maps(config, host).is_some_and(|maps| maps.how == MapWriter::OwnIds);
    if own && !config.process.user.additional_gids.is_empty() {
        return Err(Error::new("cannot set any additional groups: only the caller's own group is mapped")
            .at("/process/user/additionalGids"));
    }
    Ok(())
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

/// The root file system with all its mounts. False when the container shares the host's mount namespace:
/// nothing is ever mounted there.
fn root(draft: &mut Draft, config: &Config, host: &Host, request: &Request, placement: &Placement) -> bool {
    let mount_namespace = &config.namespaces.mount;
    if mount_namespace.is_host() {
        without_mount_namespace(draft, config);
        return false;
    }
    if mount_namespace.is_new() {
        draft.step(Step::DetachPropagation);
    }
    let inherited = mounts::inherited(config);
    let place = draft.steps.len();
    let late = mount_namespace.is_new() && !namespaces::may_mount(host);
    let attributes = vec![Attributes { propagation: Some(inherited.kind), recursive: true, ..Attributes::default() }];
    let tree = Asset::Tree {
        path: request.rootfs.clone(),
        recursive: true,
        locked: mounts::is_locked(config, host, late, &attributes),
        attributes,
        idmap: None,
        nofollow: false,
        procfs: false,
        late,
    };
    let root = draft.asset(tree, Some("/root/path".to_owned()));
    draft.step_at("/root/path", Step::AttachRoot { root, path: request.rootfs.clone() });
    mounts::plan(draft, config, host, placement);
    if let Some(directory) = &request.notify {
        // a directory of the host's: the container can talk to the socket in it, and not replace or fill anything
        let attributes = vec![Attributes {
            set: mounts::MOUNT_ATTR_NOTHING,
            propagation: Some(PropagationKind::Private),
            ..Attributes::default()
        }];
        let tree = Asset::Tree {
            path: directory.clone(),
            recursive: false,
            locked: mounts::is_locked(config, host, late, &attributes),
            attributes,
            idmap: None,
            nofollow: false,
            procfs: false,
            late,
        };
        let what = MountWhat::Tree { tree: draft.asset(tree, None), symlinks: SymlinkRule::Follow };
        draft.step(Step::Mount(Mount {
            destination: NOTIFY_DIRECTORY.into(),
            what,
            attributes: Vec::new(),
            real_directory: false,
        }));
    }
    if draft.assets.iter().any(|entry| matches!(entry.asset, Asset::Tree { late: true, locked: true, .. })) {
        draft.steps.insert(place, Entry { step: Step::LockTrees, pointer: None });
    }
    devices::plan(draft, config, host);
    draft.step_at("/process/cwd", Step::MakeDirectory { path: config.process.cwd.clone() });
    true
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
    if !namespaces::is_joined(&config.namespaces.mount) {
        namespaces::host_proc(draft, config, host, true);
    }
    let null = (!config.masked_paths.is_empty()).then(|| devices::null(draft, config, host));
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
    if let Some(null) = null {
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
