//! Untrusted [`Spec`](oci_spec::runtime::Spec) → trusted [`Config`].
//!
//! Everything that config.json says is checked here, before anything is touched: each mistake names its
//! JSON pointer, its value and what would be right. What comes out has every default filled in and needs
//! no further checks. This module does no I/O and knows nothing of the host.

mod at;
mod capabilities;
mod check;
mod devices;
pub mod exec;
mod hooks;
mod ids;
pub mod landlock;
pub mod load;
mod locate;
mod mend;
mod mounts;
mod namespaces;
pub mod options;
mod process;
pub mod resources;
mod scheduling;
pub mod seccomp;
mod security;
mod sysctl;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use seccomp::Seccomp;

/// What config.json asks for, checked, every default filled.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Config {
    pub oci_version: String,
    pub root: Root,
    pub mounts: Vec<Mount>,
    pub process: Process,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub namespaces: Namespaces,
    /// Of its user namespace.
    pub id_maps: IdMaps,
    pub time_offsets: Vec<TimeOffset>,
    pub devices: Vec<Device>,
    pub masked_paths: Vec<PathBuf>,
    pub readonly_paths: Vec<PathBuf>,
    pub sysctl: Vec<Sysctl>,
    pub seccomp: Option<Seccomp>,
    pub mount_label: Option<String>,
    /// The argument of personality(2).
    pub personality: Option<u32>,
    pub memory_policy: Option<MemoryPolicy>,
    pub cgroups_path: Option<PathBuf>,
    pub resources: resources::Resources,
    pub hooks: Hooks,
    pub annotations: BTreeMap<String, String>,
    pub landlock: Option<Landlock>,
    /// What is asked for and left out by rule, one line each, for the log.
    pub warnings: Vec<String>,
}

/// `/root`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Root {
    /// As in the file: absolute, or relative to the bundle.
    pub path: PathBuf,
    pub readonly: bool,
    pub propagation: Option<Propagation>,
}

/// How a mount passes mounts on: mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Propagation {
    pub kind: PropagationKind,
    pub recursive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PropagationKind {
    Shared,
    Slave,
    Private,
    Unbindable,
}

/// One of `/mounts`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mount {
    /// JSON pointer of this mount, such as `/mounts/3`.
    pub pointer: String,
    /// Absolute and without `..`.
    pub destination: PathBuf,
    pub source: MountSource,
    pub options: MountOptions,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MountSource {
    /// A bind of a host path: absolute, or relative to the bundle.
    Bind { path: PathBuf, recursive: bool },
    /// A file system of its own.
    Fs { fstype: String, source: String },
    /// The container's own view of its cgroups (`cgroup` or `cgroup2`).
    Cgroup,
    /// `remount` of what the destination already is.
    Remount,
}

/// `/mounts/N/options`, sorted by what they act on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MountOptions {
    /// For the mount itself.
    pub attr: MountAttr,
    /// For it and all below it (`rro`, `rnosuid`, …): mount_setattr(2) with AT_RECURSIVE.
    pub recursive_attr: MountAttr,
    /// In the order given.
    pub propagation: Vec<Propagation>,
    /// Superblock flags that fsconfig(2) takes by name: `sync`, `dirsync`, `lazytime`, `mand` and their opposites.
    pub flags: Vec<String>,
    /// What the file system itself is told: `size=65536k`, `newinstance`.
    pub data: Vec<MountData>,
    /// Fill a fresh tmpfs with what the destination holds.
    pub tmpcopyup: bool,
    /// `idmap`, `ridmap`, `uidMappings`, `gidMappings`.
    pub idmap: Option<Idmap>,
    /// A source that is a symlink becomes the same symlink in the container.
    pub copy_symlink: bool,
    /// A source that is a symlink is bound itself.
    pub src_nofollow: bool,
    /// A destination that is a symlink is mounted on.
    pub dest_nofollow: bool,
}

/// MOUNT_ATTR_* bits: mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MountData {
    /// Which of the mount's options this is.
    pub index: usize,
    pub key: String,
    pub value: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Idmap {
    pub recursive: bool,
    /// Empty: the container's own.
    pub maps: IdMaps,
}

/// `/process`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Process {
    pub terminal: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
    /// Never empty, never with a NUL.
    pub args: Vec<String>,
    /// `NAME=value`, none with a NUL.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: PathBuf,
    pub user: User,
    pub rlimits: Vec<Rlimit>,
    /// None: as if every set were empty.
    pub capabilities: Option<Capabilities>,
    pub no_new_privileges: bool,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<Scheduler>,
    pub io_priority: Option<IoPriority>,
    /// Of a process that is run later; never of the init.
    pub exec_affinity: ExecAffinity,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
}

/// On which CPUs an exec begins, and on which its program runs. None: as it comes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ExecAffinity {
    pub initial: Option<Cpus>,
    pub last: Option<Cpus>,
}

/// Ranges of CPUs, each with its last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpus(pub Vec<(u32, u32)>);

impl std::fmt::Display for Cpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl Serialize for Cpus {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub umask: Option<u32>,
    pub additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Rlimit {
    /// RLIMIT_*: getrlimit(2).
    pub resource: u32,
    /// As in the file: `RLIMIT_NOFILE`.
    pub name: &'static str,
    pub soft: u64,
    pub hard: u64,
}

/// Five capability sets as bit masks: capabilities(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Capabilities {
    pub bounding: u64,
    pub effective: u64,
    pub inheritable: u64,
    pub permitted: u64,
    pub ambient: u64,
}

/// The arguments of sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Scheduler {
    /// SCHED_*.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds.
    pub runtime: u64,
    /// Nanoseconds.
    pub deadline: u64,
    /// Nanoseconds.
    pub period: u64,
}

/// The arguments of ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IoPriority {
    /// IOPRIO_CLASS_*: 1 real time, 2 best effort, 3 idle.
    pub class: u16,
    /// 0 (highest) to 7.
    pub priority: u16,
}

/// `/linux/namespaces`: one word for each type.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Namespaces {
    pub pid: Namespace,
    pub network: Namespace,
    pub mount: Namespace,
    pub ipc: Namespace,
    pub uts: Namespace,
    pub user: Namespace,
    pub cgroup: Namespace,
    pub time: Namespace,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Namespace {
    /// The runtime's own.
    #[default]
    Host,
    New,
    /// Absolute path, and the JSON pointer it came from.
    Join {
        path: PathBuf,
        pointer: String,
    },
}

impl Namespace {
    pub fn is_new(&self) -> bool {
        *self == Self::New
    }

    pub fn is_host(&self) -> bool {
        *self == Self::Host
    }
}

/// `/linux/timeOffsets`: time_namespaces(7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: &'static str,
    pub secs: i64,
    /// 0 to 999,999,999.
    pub nanosecs: u32,
}

/// One of `/linux/devices`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    pub pointer: String,
    /// Absolute, without `..`.
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    Char,
    Block,
    Fifo,
}

/// One of `/linux/sysctl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sysctl {
    /// As in the file.
    pub name: String,
    /// Below /proc/sys: `net/ipv4/ip_forward`.
    pub path: String,
    pub value: String,
}

/// `/linux/memoryPolicy`: set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryPolicy {
    /// MPOL_* with the mode flags (MPOL_F_*) or'ed in.
    pub mode: u32,
    /// NUMA nodes, sorted.
    pub nodes: Vec<u32>,
}

/// `/hooks`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

pub use crate::hooks::Hook;
pub use ids::{IdMapping, IdMaps, map_text, parse_map, to_container, to_host};
pub use landlock::{Landlock, PathAccess};
