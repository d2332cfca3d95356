//! The vocabulary: all that an init can be told to do, and what the parent opens for it.
//!
//! What is not in a step does not exist for the init. A step holds no policy: every choice was made when
//! the plan was.

mod trees;
mod users;

use std::path::PathBuf;

use serde::Serialize;

pub use crate::config::{
    Capabilities, Cpus, DeviceKind, IdMaps, IoPriority, Landlock, MemoryPolicy, MountData, PathAccess, Propagation,
    PropagationKind, Rlimit, Scheduler, Sysctl, TimeOffset,
};
pub use crate::hooks::Hook;
pub use crate::seccomp::Instruction;
pub use trees::{SymlinkRule, TreeIdmap};
pub use users::{MapWriter, OomScoreAdj, Setgroups, WriteMaps};

/// Which of the plan's assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AssetId(pub usize);

/// What is opened in the host's view of the file system: by the parent before the clone, unless it is `late`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "asset", rename_all = "kebab-case")]
pub enum Asset {
    /// A detached copy of the mount at `path`, with `attributes` already set.
    Tree {
        path: PathBuf,
        recursive: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        attributes: Vec<Attributes>,
        #[serde(skip_serializing_if = "Option::is_none")]
        idmap: Option<TreeIdmap>,
        /// A symlink at `path` is what is copied, not what it leads to.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        nofollow: bool,
        /// It must be a procfs: only that may be bound on /proc.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        procfs: bool,
        /// Opened by the init, in its copy of the host's mounts, when a step wants it: mountinfo lists what is older first.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        late: bool,
        /// Nobody in the container's user namespace can change its flags, or take away a mount in it: they are copied
        /// into another user namespace once, where the kernel locks them (mount_namespaces(7)).
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        locked: bool,
    },
    /// A detached copy of a device of the host's, proved to be just that: of /dev/null, for masks (CVE-2025-31133),
    /// and of those that a user namespace cannot make.
    Device {
        path: PathBuf,
        kind: DeviceKind,
        major: u32,
        minor: u32,
        /// As of a tree.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        late: bool,
    },
    Namespace {
        path: PathBuf,
        kind: NamespaceKind,
    },
    /// A user namespace that nobody is in: it says who is who in id-mapped mounts.
    IdMap {
        #[serde(flatten)]
        maps: IdMaps,
    },
    /// The connection to which the terminal's master goes.
    ConsoleSocket {
        path: PathBuf,
    },
    /// A pidfd of the container's init.
    Init,
    /// The FIFO that `start` writes to.
    StartFifo,
    /// Where the init of a created container writes its last words.
    FaultFile,
}

/// An asset and where in config.json it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AssetEntry {
    #[serde(flatten)]
    pub asset: Asset,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// One mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Attributes {
    /// MOUNT_ATTR_* bits.
    #[serde(skip_serializing_if = "is_zero")]
    pub set: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub clear: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<PropagationKind>,
    pub recursive: bool,
}

fn is_zero(bits: &u64) -> bool {
    *bits == 0
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    Cgroup,
    Ipc,
    Mount,
    Network,
    Pid,
    Time,
    User,
    Uts,
}

impl NamespaceKind {
    /// CLONE_NEW*.
    pub fn flag(self) -> u64 {
        let flag = match self {
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Network => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Time => 0x80,
            Self::User => libc::CLONE_NEWUSER,
            Self::Uts => libc::CLONE_NEWUTS,
        };
        flag as u64
    }
}

/// The one clone3 of a birth.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Spawn {
    /// What only clone can make: pid and user namespaces.
    pub namespaces: Vec<NamespaceKind>,
    /// A pid namespace that the parent enters for its children before the clone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_pid: Option<AssetId>,
    /// The child is born in its cgroup (v2).
    pub into_cgroup: bool,
    /// Or, where the caller may not put it there, in the caller's: the user's systemd has made the container's cgroup,
    /// and who is not below that systemd cannot join it. The systemd is asked to do it then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub or_outside: bool,
    /// The CPUs on which the parent clones, and so those on which the child begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Cpus>,
}

/// What the parent does for the child, by its pid.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "tune", rename_all = "kebab-case")]
pub enum Tune {
    OomScoreAdj(OomScoreAdj),
    Scheduler(Scheduler),
    IoPriority(IoPriority),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TuneEntry {
    #[serde(flatten)]
    pub tune: Tune,
    pub pointer: String,
}

/// A step and where in config.json it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    #[serde(flatten)]
    pub step: Step,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// One thing that the init does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Tell the parent how far we are, and wait for its word.
    Barrier {
        event: Event,
    },
    /// A session of its own: no controlling terminal, no job control of the caller's.
    Setsid,
    OomScoreAdj(OomScoreAdj),
    /// Neither ptrace(2) nor /proc/PID lets anybody without the host's privileges in, until the execve.
    NotDumpable,
    /// Write `0` into `tasks` of each of these cgroup v1 directories.
    JoinCgroup {
        directories: Vec<PathBuf>,
    },
    /// The CPUs that this process may use; None: all that its cgroup has, whatever the caller was bound to.
    Affinity {
        #[serde(skip_serializing_if = "Option::is_none")]
        cpus: Option<Cpus>,
    },
    JoinNamespace {
        kind: NamespaceKind,
        namespace: AssetId,
    },
    /// Enter these namespaces of the container's init, all at once.
    EnterNamespaces {
        init: AssetId,
        namespaces: Vec<NamespaceKind>,
    },
    /// What goes on is a new process, in a session of its own, the first one that is in the pid namespace that was
    /// entered, with nothing of the host's open: who may trace all in there finds no way out through it (CVE-2016-9962).
    Reborn {
        /// Descriptors from 3 on that the program is to have.
        preserve: u32,
        /// In new ones of these, which belong to the user namespace entered before or made now.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        namespaces: Vec<NamespaceKind>,
    },
    /// Be the root of the user namespace. What is made from here on belongs to it.
    BecomeRoot {
        setgroups: Setgroups,
    },
    /// What follows uses the host's procfs: in a user namespace none can be mounted once parts of the container's own are
    /// masked, nor for a pid namespace that belongs to another.
    HostProc,
    /// Open a late asset now, while the host's paths can be seen.
    Open {
        asset: AssetId,
    },
    Unshare {
        namespaces: Vec<NamespaceKind>,
    },
    /// Set the offsets of the time namespace just unshared, and enter it.
    EnterTimeNamespace {
        offsets: Vec<TimeOffset>,
    },
    Loopback,
    Hostname {
        name: String,
    },
    Domainname {
        name: String,
    },
    /// Nothing that is mounted from here on reaches the host.
    DetachPropagation,
    /// Open the late trees that are to be locked now, and have the parent do it.
    LockTrees,
    /// Make `root` the mount at `path`, the root of what follows.
    AttachRoot {
        root: AssetId,
        path: PathBuf,
    },
    Mount(Mount),
    /// Make a directory of the container, unless it is there.
    MakeDirectory {
        path: PathBuf,
    },
    Devices {
        devices: Vec<Device>,
        links: Vec<Link>,
    },
    Hooks {
        kind: HookKind,
        hooks: Vec<Hook>,
    },
    PivotRoot,
    /// MS_MOVE and chroot: for a root that cannot be pivoted away from (an initramfs).
    MoveRoot,
    /// No mount namespace of its own: only the root directory changes.
    Chroot {
        path: PathBuf,
    },
    RootPropagation {
        propagation: Propagation,
    },
    Console(Console),
    Sysctl {
        settings: Vec<Sysctl>,
    },
    RootReadonly,
    ReadonlyPaths {
        paths: Vec<PathBuf>,
    },
    MaskedPaths {
        paths: Vec<PathBuf>,
        null: AssetId,
        /// SELinux's, of the directory that covers directories.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    Keyring {
        name: String,
    },
    Personality {
        domain: u32,
    },
    MemoryPolicy(MemoryPolicy),
    Umask {
        mask: u32,
    },
    /// Write `label` to a file of /proc/thread-self/attr; an empty one takes back what was written.
    LsmLabel {
        attribute: String,
        label: String,
    },
    NoNewPrivileges,
    Seccomp(Seccomp),
    Rlimits {
        rlimits: Vec<Rlimit>,
    },
    /// Enter the working directory while still privileged; where that is refused, [`Step::ProveCwd`] does it.
    Chdir {
        path: PathBuf,
    },
    /// Supplementary groups, gid, uid; with `keep` the permitted capabilities survive.
    User {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        keep: bool,
        #[serde(skip_serializing_if = "Setgroups::is_allowed")]
        setgroups: Setgroups,
    },
    BoundingSet {
        keep: u64,
    },
    Capabilities(Capabilities),
    /// Nothing but the sets, for good.
    DropCapabilities(Capabilities),
    /// The working directory is inside the container's root (CVE-2024-21626).
    ProveCwd {
        path: PathBuf,
    },
    /// HOME as the container's /etc/passwd has it for `uid`.
    Home {
        uid: u32,
    },
    /// Find `name` in `path` (the value of PATH) or as a path, and prove that it can be executed.
    FindProgram {
        name: String,
        path: Option<String>,
    },
    /// Close everything but the standard fds, the `preserve` after them and what the last steps need.
    CloseFds {
        preserve: u32,
    },
    /// Wait for the byte of `start`.
    AwaitStart {
        fifo: AssetId,
    },
    /// Refuse this process and its children what these rules do not allow.
    Landlock(Landlock),
    Exec {
        args: Vec<String>,
        env: Vec<String>,
    },
}

/// What the parent waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// The process exists; the parent has systemd put it into its cgroup.
    Unplaced,
    /// The user namespace exists; the parent writes its maps.
    Unmapped,
    /// The namespaces exist and all is mounted; the root is not yet changed.
    Mounted,
    /// Only the start is missing.
    Ready,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mount {
    pub destination: PathBuf,
    #[serde(flatten)]
    pub what: MountWhat,
    /// Applied in this order before it is attached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<Attributes>,
    /// The destination must be a directory with no symlink on the way, and is made when missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub real_directory: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "mount", rename_all = "kebab-case")]
pub enum MountWhat {
    Fs(FsMount),
    Tree {
        tree: AssetId,
        #[serde(skip_serializing_if = "SymlinkRule::is_default")]
        symlinks: SymlinkRule,
    },
    /// A tmpfs with one bind of the container's directory for each hierarchy, and `links` for co-mounted controllers.
    CgroupV1 {
        hierarchies: Vec<CgroupBind>,
        links: Vec<Link>,
        readonly: bool,
        /// SELinux's, of the tmpfs.
        #[serde(skip_serializing_if = "Option::is_none")]
        label: Option<String>,
    },
    /// Change what is mounted there already.
    Remount,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FsMount {
    pub fstype: String,
    pub source: String,
    /// Superblock flags by their fsconfig names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<MountData>,
    /// A tmpfs without `mode=` gets the mode of the directory that it covers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inherit_mode: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tmpcopyup: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<FsLabel>,
    /// Bound in its place when the kernel refuses it, as it does where another user namespace owns what it shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub else_bind: Option<AssetId>,
}

/// How SELinux gets to know the label of a file system's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FsLabel {
    /// `context=`: of all of them, for good.
    Context(String),
    /// The superblock is there already, and takes no options: of its root directory.
    Root(String),
}

/// The container's terminal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Console {
    /// Where its master goes; None: over the channel.
    pub socket: Option<AssetId>,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
    pub owner: u32,
    /// Mount it on /dev/console too.
    pub bind: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CgroupBind {
    pub name: String,
    pub tree: AssetId,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Link {
    /// For [`Step::Devices`] an absolute path, for a cgroup mount a name.
    pub link: String,
    pub target: String,
    /// Replace what is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Device {
    pub path: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "DeviceHow::is_mknod")]
    pub how: DeviceHow,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// How a device comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceHow {
    Mknod,
    /// The host's own is bound: in a user namespace mknod(2) is refused. It keeps its mode and owner.
    Bind(AssetId),
}

impl DeviceHow {
    fn is_mknod(&self) -> bool {
        *self == Self::Mknod
    }
}

/// A filter to be loaded. With SECCOMP_FILTER_FLAG_NEW_LISTENER the notification fd goes to the parent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Seccomp {
    /// Shown as how many there are.
    #[serde(serialize_with = "count")]
    pub program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u32,
}

fn count<S: serde::Serializer>(program: &[Instruction], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(program.len() as u64)
}

/// When a hook runs: config.md, POSIX-platform Hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HookKind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }
}

impl Step {
    /// The step's name as `ferrun plan` prints it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Barrier { .. } => "barrier",
            Self::Setsid => "setsid",
            Self::OomScoreAdj(_) => "oom-score-adj",
            Self::NotDumpable => "not-dumpable",
            Self::JoinCgroup { .. } => "join-cgroup",
            Self::Affinity { .. } => "affinity",
            Self::JoinNamespace { .. } => "join-namespace",
            Self::EnterNamespaces { .. } => "enter-namespaces",
            Self::Reborn { .. } => "reborn",
            Self::BecomeRoot { .. } => "become-root",
            Self::HostProc => "host-proc",
            Self::Open { .. } => "open",
            Self::Unshare { .. } => "unshare",
            Self::EnterTimeNamespace { .. } => "enter-time-namespace",
            Self::Loopback => "loopback",
            Self::Hostname { .. } => "hostname",
            Self::Domainname { .. } => "domainname",
            Self::DetachPropagation => "detach-propagation",
            Self::LockTrees => "lock-trees",
            Self::AttachRoot { .. } => "attach-root",
            Self::Mount(_) => "mount",
            Self::MakeDirectory { .. } => "make-directory",
            Self::Devices { .. } => "devices",
            Self::Hooks { .. } => "hooks",
            Self::PivotRoot => "pivot-root",
            Self::MoveRoot => "move-root",
            Self::Chroot { .. } => "chroot",
            Self::RootPropagation { .. } => "root-propagation",
            Self::Console(_) => "console",
            Self::Sysctl { .. } => "sysctl",
            Self::RootReadonly => "root-readonly",
            Self::ReadonlyPaths { .. } => "readonly-paths",
            Self::MaskedPaths { .. } => "masked-paths",
            Self::Keyring { .. } => "keyring",
            Self::Personality { .. } => "personality",
            Self::MemoryPolicy(_) => "memory-policy",
            Self::Umask { .. } => "umask",
            Self::LsmLabel { .. } => "lsm-label",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::Seccomp(_) => "seccomp",
            Self::Rlimits { .. } => "rlimits",
            Self::Chdir { .. } => "chdir",
            Self::User { .. } => "user",
            Self::BoundingSet { .. } => "bounding-set",
            Self::Capabilities(_) => "capabilities",
            Self::DropCapabilities(_) => "drop-capabilities",
            Self::ProveCwd { .. } => "prove-cwd",
            Self::Home { .. } => "home",
            Self::FindProgram { .. } => "find-program",
            Self::CloseFds { .. } => "close-fds",
            Self::AwaitStart { .. } => "await-start",
            Self::Landlock(_) => "landlock",
            Self::Exec { .. } => "exec",
        }
    }
}
