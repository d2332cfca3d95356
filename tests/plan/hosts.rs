//! Machines, by hand.

use ferrun::host::{Cgroups, Hierarchy, Host, Identity, Lsm, Systemd};

/// CAP_CHOWN to CAP_CHECKPOINT_RESTORE.
const ALL: u64 = (1 << 41) - 1;
const CAP_KILL: u64 = 1 << 5;

pub(crate) fn no_cgroups() -> Host {
    Host { capabilities: ALL, ..Host::default() }
}

/// As Debian mounts them: one co-mount, one hierarchy with a name and no controller, and our own place
/// somewhere else in that one.
pub(crate) fn v1() -> Host {
    let hierarchy = |name: &str, own: &str| Hierarchy {
        controllers: name.split(',').map(str::to_owned).collect(),
        mount: format!("/sys/fs/cgroup/{name}").into(),
        own: own.into(),
    };
    let hierarchies = vec![
        hierarchy("cpu,cpuacct", "/"),
        hierarchy("memory", "/"),
        hierarchy("pids", "/user.slice"),
        hierarchy("systemd", "/user.slice/session.scope"),
    ];
    Host { cgroups: Cgroups::V1 { hierarchies }, ..no_cgroups() }
}

pub(crate) fn v2() -> Host {
    Host { cgroups: Cgroups::V2 { own: "/user.slice/session.scope".into() }, ..no_cgroups() }
}

/// In the root cgroup, where a container of ours without cgroup namespace may be.
pub(crate) fn v2_root() -> Host {
    Host { cgroups: Cgroups::V2 { own: "/".into() }, ..no_cgroups() }
}

pub(crate) fn systemd_v1() -> Host {
    Host { systemd: Systemd { running: true, uid: 0, bpffs: true }, ..v1() }
}

pub(crate) fn systemd_v2() -> Host {
    Host { systemd: Systemd { running: true, uid: 0, bpffs: true }, ..v2() }
}

/// A user who is logged in.
pub(crate) fn systemd_user() -> Host {
    Host { systemd: Systemd { running: true, uid: 1000, bpffs: true }, ..v2() }
}

pub(crate) fn with_lsms() -> Host {
    Host { lsm: Lsm { apparmor: true, confined: false, selinux: true }, ..v1() }
}

/// In a container of somebody's who gave it a profile.
pub(crate) fn confined() -> Host {
    Host { lsm: Lsm { apparmor: true, confined: true, selinux: false }, ..no_cgroups() }
}

/// As in a container: some capabilities only.
pub(crate) fn without_capabilities() -> Host {
    Host { capabilities: ALL & !CAP_KILL, ..v2() }
}

/// Root in a container of ours with a user namespace, or of Podman's without privileges.
pub(crate) fn nested() -> Host {
    Host { identity: Identity { nested: true, ..Identity::default() }, ..v2() }
}

/// Somebody who has logged in.
pub(crate) fn ordinary() -> Host {
    let identity = Identity { uid: 1000, gid: 100, nested: false, foreign_mounts: true };
    Host { identity, capabilities: 0, ..v2() }
}

pub(crate) type MakeHost = fn() -> Host;

pub(crate) const ALL_HOSTS: [(&str, MakeHost); 8] = [
    ("no-cgroups", no_cgroups),
    ("v1", v1),
    ("v2", v2),
    ("v2-root", v2_root),
    ("lsms", with_lsms),
    ("without-capabilities", without_capabilities),
    ("nested", nested),
    ("ordinary", ordinary),
];
