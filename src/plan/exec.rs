//! The plan of an exec: another process for a container that exists, made of the same steps.

use crate::config::{Config, ExecAffinity, Namespaces};
use crate::error::Result;
use crate::host::Host;

use super::cgroupfs::{Hierarchies, Placement};
use super::process;
use super::step::{Asset, Event, NamespaceKind, Setgroups, Spawn, Step};
use super::{Draft, Plan, Request, create, namespaces};

/// The plan for one more process in a container: `config` is the container's with the process to be run in place of
/// its own, `placement` the cgroups that it joins.
///
/// # Errors
/// As for a create.
pub fn exec(config: &Config, host: &Host, request: &Request, placement: Placement) -> Result<Plan> {
    create::check_console(config, request)?;
    let mut draft = Draft::default();
    let init = draft.asset(Asset::Init, None);
    let wanted = &config.namespaces;
    // Who may trace any process finds a way to the host through one that has something of it, dumpable or not
    // (CVE-2016-9962). There a courier enters, and what it makes has nothing of the host's. It costs another fork.
    // In a user namespace that right is worth nothing outside; but into its pid namespace only a courier can lead who
    // has no privileges of their own.
    let user = !wanted.user.is_host();
    let courier = !wanted.pid.is_host() && if user { !host.is_privileged() } else { request.traced };
    let spawn = Spawn {
        into_cgroup: matches!(placement.hierarchies, Hierarchies::V2 { .. }),
        or_outside: request.rootless,
        join_pid: (!courier && !wanted.pid.is_host()).then_some(init),
        affinity: config.process.exec_affinity.initial.clone(),
        ..Spawn::default()
    };
    draft.step(Step::Setsid);
    placed_by_systemd(&mut draft, request, &placement);
    process::own_tunes(&mut draft, config, host, request);
    // seen by the container's processes while it still has what the container has not (CVE-2016-9962)
    draft.step(Step::NotDumpable);
    if let Hierarchies::V1 { directories } = &placement.hierarchies {
        draft.step(Step::JoinCgroup { directories: directories.clone() });
    }
    affinity(&mut draft, &config.process.exec_affinity);
    // whoever may trace what the courier makes must not find it there
    if user || !courier {
        namespaces::host_proc(&mut draft, config, host, false);
    }
    let namespaces = of_its_own(wanted, courier);
    if !namespaces.is_empty() {
        draft.step(Step::EnterNamespaces { init, namespaces });
    }
    if courier {
        draft.step(Step::Reborn { preserve: request.preserve_fds, namespaces: Vec::new() });
    }
    if user {
        draft.step(Step::BecomeRoot { setgroups: Setgroups::MayBeDenied });
    }
    if wanted.mount.is_host() {
        draft.step_at("/root/path", Step::Chroot { path: request.rootfs.clone() });
    }
    process::terminal(&mut draft, config, request, false);
    let setgroups = if user { Setgroups::MayBeDenied } else { namespaces::setgroups(config, host) };
    let widened = process::attributes(&mut draft, config, host, request, setgroups);
    process::last_steps(&mut draft, config, request, widened)?;
    let (after_clone, at_ready) = process::tunes(config, host, request);
    Ok(Plan {
        placement,
        assets: draft.assets,
        spawn,
        after_clone,
        steps: draft.steps,
        at_ready,
        warnings: draft.warnings,
        notes: draft.notes,
        ..Plan::default()
    })
}

/// Systemd moves only what is the caller's, and that it no longer is when it has another user of the container's.
fn placed_by_systemd(draft: &mut Draft, request: &Request, placement: &Placement) {
    if request.rootless && placement.unit.is_some() {
        draft.step_at("/linux/cgroupsPath", Step::Barrier { event: Event::Unplaced });
    }
}

/// With an initial affinity alone the specification leaves the rest to the kernel.
fn affinity(draft: &mut Draft, asked: &ExecAffinity) {
    match asked {
        ExecAffinity { last: Some(cpus), .. } => {
            draft.step_at("/process/execCPUAffinity/final", Step::Affinity { cpus: Some(cpus.clone()) });
        }
        ExecAffinity { initial: Some(_), .. } => {}
        ExecAffinity { .. } => draft.step(Step::Affinity { cpus: None }),
    }
}

/// Those that are not the host's, that of pids `with_pid`. setns(2) with a pidfd enters them all in one call.
fn of_its_own(namespaces: &Namespaces, with_pid: bool) -> Vec<NamespaceKind> {
    let kinds = [
        (NamespaceKind::Cgroup, &namespaces.cgroup),
        (NamespaceKind::Ipc, &namespaces.ipc),
        (NamespaceKind::Mount, &namespaces.mount),
        (NamespaceKind::Network, &namespaces.network),
        (NamespaceKind::Pid, &namespaces.pid),
        (NamespaceKind::Time, &namespaces.time),
        (NamespaceKind::User, &namespaces.user),
        (NamespaceKind::Uts, &namespaces.uts),
    ];
    let wanted =
        kinds.into_iter().filter(|(kind, namespace)| !namespace.is_host() && (with_pid || *kind != NamespaceKind::Pid));
    wanted.map(|(kind, _)| kind).collect()
}
