//! Which namespaces are made and joined by whom, in which order.
//!
//! A namespace belongs to the user namespace in which its maker is, and to join one takes privileges over that. So
//! what is joined comes before a new user namespace and what is made after it; and as a process is in its pid
//! namespace from its birth on, some births need a courier: a process that goes as far as it can and makes another.

use crate::config::{Config, Namespace, Namespaces};
use crate::host::Host;

use super::cgroupfs::{Hierarchies, Placement};
use super::step::{Asset, AssetId, Event, MapWriter, NamespaceKind, Setgroups, Spawn, Step, WriteMaps};
use super::{Draft, Request, process};

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;
/// CAP_CHOWN to CAP_CHECKPOINT_RESTORE, which is the last since Linux 5.9.
const ALL_CAPABILITIES: u64 = (1 << 41) - 1;

/// Whether mounts can be copied in the runtime's own mount namespace.
pub(super) fn may_mount(host: &Host) -> bool {
    host.is_privileged() && !host.identity.foreign_mounts
}

/// In the machine's user namespace nothing is refused to root.
pub(super) fn is_machine(config: &Config, host: &Host) -> bool {
    config.namespaces.user.is_host() && !host.identity.nested
}

/// Before the host's paths are gone. It is for labels, and sysctls where those are set.
pub(super) fn host_proc(draft: &mut Draft, config: &Config, host: &Host, sysctl: bool) {
    let process = &config.process;
    let labels = process.apparmor_profile.is_some() || process.selinux_label.is_some();
    let written = labels || sysctl && !config.sysctl.is_empty();
    if written && !is_machine(config, host) {
        draft.step(Step::HostProc);
    }
}

/// What can be granted: in a user namespace of its own a process begins with everything.
pub(super) fn capabilities(config: &Config, host: &Host) -> u64 {
    if config.namespaces.user.is_host() { host.capabilities } else { ALL_CAPABILITIES }
}

/// Whoever makes a user namespace with privileges leaves setgroups(2) allowed; of one that exists nobody knows.
pub(super) fn setgroups(config: &Config, host: &Host) -> Setgroups {
    let allowed = match config.namespaces.user {
        Namespace::Host => !host.identity.nested,
        Namespace::New => !host.identity.nested && map_writer(config, host) == MapWriter::Direct,
        Namespace::Join { .. } => false,
    };
    if allowed { Setgroups::Allowed } else { Setgroups::MayBeDenied }
}

pub(super) fn maps(config: &Config, host: &Host) -> Option<WriteMaps> {
    let maps = || WriteMaps { maps: config.id_maps.clone(), how: map_writer(config, host) };
    config.namespaces.user.is_new().then(maps)
}

fn map_writer(config: &Config, host: &Host) -> MapWriter {
    let both = CAP_SETUID | CAP_SETGID;
    let own = |list: &[crate::config::IdMapping], id: u32| matches!(list, [one] if one.size == 1 && one.host_id == id);
    if host.capabilities & both == both {
        MapWriter::Direct
    } else if own(&config.id_maps.uids, host.identity.uid) && own(&config.id_maps.gids, host.identity.gid) {
        MapWriter::OwnIds
    } else {
        MapWriter::Helpers
    }
}

pub(super) fn plan(draft: &mut Draft, config: &Config, host: &Host, request: &Request, placement: &Placement) -> Spawn {
    let spawn = Spawn {
        into_cgroup: matches!(placement.hierarchies, Hierarchies::V2 { .. }) && placement.unit.is_none(),
        ..Spawn::default()
    };
    if config.namespaces.user.is_host() {
        without_user(draft, config, host, request, placement, spawn)
    } else {
        with_user(draft, config, host, request, placement, spawn)
    }
}

/// Those joined by path first, the mount namespace last of them, as it takes the host's paths away.
fn without_user(
    draft: &mut Draft,
    config: &Config,
    host: &Host,
    request: &Request,
    placement: &Placement,
    mut spawn: Spawn,
) -> Spawn {
    let wanted = &config.namespaces;
    let courier = by_courier(wanted, host);
    if !courier {
        spawn.join_pid = join_pid(draft, wanted);
    }
    // The memory of those that the clone makes is charged to the caller: the container's limit may be smaller. The
    // cgroup namespace shows as root where the process is when it is made; the time namespace needs its offsets.
    let pid = wanted.pid.is_new().then_some(NamespaceKind::Pid);
    let others = new(wanted).into_iter().filter(|kind| *kind != NamespaceKind::Cgroup);
    let at_birth: Vec<_> = pid.into_iter().chain(others).collect();
    begin(draft, config, host, request, placement);
    if cgroup_first(wanted) {
        enter_cgroup(draft, config, placement);
    }
    for (kind, namespace) in by_kind(wanted) {
        join(draft, kind, namespace);
    }
    if courier {
        join(draft, NamespaceKind::Pid, &wanted.pid);
        draft.step_at("/linux/namespaces", Step::Reborn { preserve: request.preserve_fds, namespaces: at_birth });
    } else {
        spawn.namespaces = at_birth;
    }
    time(draft, config);
    names(draft, config);
    join(draft, NamespaceKind::Mount, &wanted.mount);
    spawn
}

/// The clone makes the user namespace, and with it that of pids; all other new ones are unshared when the maps are
/// there and this process is the root of it, or their files would be nobody's.
fn with_user(
    draft: &mut Draft,
    config: &Config,
    host: &Host,
    request: &Request,
    placement: &Placement,
    mut spawn: Spawn,
) -> Spawn {
    let wanted = &config.namespaces;
    let others: Vec<_> = by_kind(wanted)
        .into_iter()
        .chain([(NamespaceKind::Mount, &wanted.mount)])
        .filter(|(_, n)| is_joined(n))
        .collect();
    let new_user = wanted.user.is_new();
    let courier = if new_user { !others.is_empty() } else { wanted.pid.is_new() } || by_courier(wanted, host);
    let pair = [(NamespaceKind::User, &wanted.user), (NamespaceKind::Pid, &wanted.pid)];
    let at_birth: Vec<_> = pair.into_iter().filter(|(_, n)| n.is_new()).map(|(kind, _)| kind).collect();
    begin(draft, config, host, request, placement);
    // as long as the host's paths and files are ours
    join_cgroup(draft, placement);
    // in a mount namespace that is joined there is none of the host's files any more
    let time_first = is_joined(&wanted.mount);
    if host.is_privileged() {
        if time_first {
            time(draft, config);
        }
        others.iter().for_each(|(kind, namespace)| join(draft, *kind, namespace));
        join(draft, NamespaceKind::User, &wanted.user);
    } else {
        join(draft, NamespaceKind::User, &wanted.user);
        if time_first {
            time(draft, config);
        }
        others.iter().for_each(|(kind, namespace)| join(draft, *kind, namespace));
    }
    if courier {
        join(draft, NamespaceKind::Pid, &wanted.pid);
        draft.step_at("/linux/namespaces", Step::Reborn { preserve: request.preserve_fds, namespaces: at_birth });
    } else {
        spawn.namespaces = at_birth;
        spawn.join_pid = join_pid(draft, wanted);
    }
    if new_user {
        draft.step_at("/linux/uidMappings", Step::Barrier { event: Event::Unmapped });
    }
    // the file of the offsets is this process's until it changes its user
    if !time_first {
        time(draft, config);
    }
    if new_user && !host.is_privileged() {
        hide(draft, config);
    }
    draft.step_at("/linux/uidMappings", Step::BecomeRoot { setgroups: setgroups(config, host) });
    let namespaces = new(wanted);
    if !namespaces.is_empty() {
        draft.step_at("/linux/namespaces", Step::Unshare { namespaces });
    }
    names(draft, config);
    spawn
}

/// Who has no privileges, or has them in a user namespace only, cannot leave a joined pid namespace again: it may
/// belong to that user namespace, and the runtime's own does not. The runtime itself must not enter it then.
fn by_courier(wanted: &Namespaces, host: &Host) -> bool {
    is_joined(&wanted.pid) && (!host.is_privileged() || host.identity.nested)
}

fn join_pid(draft: &mut Draft, wanted: &Namespaces) -> Option<AssetId> {
    match &wanted.pid {
        Namespace::Join { path, pointer } => Some(asset(draft, NamespaceKind::Pid, path, pointer)),
        Namespace::Host | Namespace::New => None,
    }
}

fn begin(draft: &mut Draft, config: &Config, host: &Host, request: &Request, placement: &Placement) {
    draft.step(Step::Setsid);
    process::own_tunes(draft, config, host, request);
    // whose files of /proc are root's from then on
    if host.is_privileged() || !config.namespaces.user.is_new() {
        hide(draft, config);
    }
    if placement.unit.is_some() {
        draft.step_at("/linux/cgroupsPath", Step::Barrier { event: Event::Unplaced });
    }
    // the /proc of a mount namespace that is joined is others'
    if is_joined(&config.namespaces.mount) {
        host_proc(draft, config, host, true);
    }
}

/// Others than the host's can see this process while it still holds what is the host's (CVE-2016-9962).
fn hide(draft: &mut Draft, config: &Config) {
    if !config.namespaces.pid.is_new() {
        draft.step(Step::NotDumpable);
    }
}

fn time(draft: &mut Draft, config: &Config) {
    if config.namespaces.time.is_new() {
        draft.step_at("/linux/namespaces", Step::Unshare { namespaces: vec![NamespaceKind::Time] });
        draft.step_at("/linux/timeOffsets", Step::EnterTimeNamespace { offsets: config.time_offsets.clone() });
    }
}

fn names(draft: &mut Draft, config: &Config) {
    if config.namespaces.network.is_new() {
        draft.step(Step::Loopback);
    }
    if let Some(name) = &config.hostname {
        draft.step_at("/hostname", Step::Hostname { name: name.clone() });
    }
    if let Some(name) = &config.domainname {
        draft.step_at("/domainname", Step::Domainname { name: name.clone() });
    }
}

/// From a mount or cgroup namespace of others there may be no way to our cgroups any more; in a user namespace they
/// are nothing of ours.
pub(super) fn cgroup_first(Namespaces { mount, cgroup, user, .. }: &Namespaces) -> bool {
    !mount.is_new() || is_joined(cgroup) || !user.is_host()
}

/// On v1 as late as can be, after the mounts, whose memory would be charged to the container: its limit may be small.
/// Before the cgroup namespace is made: what that shows as root is where we are then. And before the hooks, some of
/// which look for the cgroups of the process.
pub(super) fn enter_cgroup(draft: &mut Draft, config: &Config, placement: &Placement) {
    join_cgroup(draft, placement);
    if config.namespaces.cgroup.is_new() {
        draft.step_at("/linux/namespaces", Step::Unshare { namespaces: vec![NamespaceKind::Cgroup] });
    }
}

fn join_cgroup(draft: &mut Draft, placement: &Placement) {
    if let Hierarchies::V1 { directories } = &placement.hierarchies {
        draft.step_at("/linux/cgroupsPath", Step::JoinCgroup { directories: directories.clone() });
    }
    draft.step(Step::Affinity { cpus: None });
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

/// The new ones of all kinds but pid, user and time.
fn new(namespaces: &Namespaces) -> Vec<NamespaceKind> {
    let all = by_kind(namespaces).into_iter().chain([(NamespaceKind::Mount, &namespaces.mount)]);
    all.filter(|(kind, n)| n.is_new() && *kind != NamespaceKind::Time).map(|(kind, _)| kind).collect()
}

pub(super) fn is_joined(namespace: &Namespace) -> bool {
    matches!(namespace, Namespace::Join { .. })
}

fn asset(draft: &mut Draft, kind: NamespaceKind, path: &std::path::Path, pointer: &str) -> AssetId {
    draft.asset(Asset::Namespace { path: path.to_owned(), kind }, Some(pointer.to_owned()))
}

fn join(draft: &mut Draft, kind: NamespaceKind, namespace: &Namespace) {
    if let Namespace::Join { path, pointer } = namespace {
        let namespace = asset(draft, kind, path, pointer);
        draft.step_at(pointer.clone(), Step::JoinNamespace { kind, namespace });
    }
}
