//! What this machine is: facts, read once, as plain data. Tests build a [`Host`] by hand.

pub mod cause;
pub mod subids;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use rustix::io::Errno;

use crate::error::{Call, Context, Result};
use crate::sys::{ioctl, proc};

/// The mount point of cgroups: systemd's file hierarchy, followed by every distribution.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";

const CGROUP_SUPER_MAGIC: u64 = 0x27_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// Where BPF programs are pinned.
pub const BPF_ROOT: &str = "/sys/fs/bpf";

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Host {
    pub cgroups: Cgroups,
    /// The capabilities that this process can hand on: a bit for each.
    pub capabilities: u64,
    pub lsm: Lsm,
    pub systemd: Systemd,
    pub identity: Identity,
}

/// Who this process is to the kernel. The default is root of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Effective, as this process's user namespace has it.
    pub uid: u32,
    pub gid: u32,
    /// In a user namespace that is not the machine's: what is the machine's alone (devices, a network namespace that
    /// it was given) is not ours to make or change, root or not.
    pub nested: bool,
    /// The mount namespace belongs to a user namespace above this one: nothing can be mounted or copied in it.
    pub foreign_mounts: bool,
}

/// What there is to ask systemd for a scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Systemd {
    /// It is the init: sd_booted(3).
    pub running: bool,
    /// Whose systemd it is: 0 for the machine's, or the container's.
    pub uid: u32,
    /// Programs can be pinned for it.
    pub bpffs: bool,
}

/// Which Linux security modules act on labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lsm {
    pub apparmor: bool,
    /// This process runs under an AppArmor profile that restricts it.
    pub confined: bool,
    pub selinux: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(tag = "version", rename_all = "lowercase")]
pub enum Cgroups {
    /// No cgroup file system is mounted.
    #[default]
    None,
    V1 {
        hierarchies: Vec<Hierarchy>,
    },
    V2 {
        /// This process's own cgroup, below the root.
        own: PathBuf,
    },
}

/// A mounted hierarchy of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hierarchy {
    /// `cpu`, `cpuacct`; one `systemd` for `name=systemd`.
    pub controllers: Vec<String>,
    pub mount: PathBuf,
    /// This process's own cgroup, below the mount.
    pub own: PathBuf,
}

impl Hierarchy {
    /// The name of its directory: `cpu,cpuacct`.
    pub fn name(&self) -> String {
        self.controllers.join(",")
    }
}

/// Whether this process is in a user namespace that is not the machine's.
pub fn is_nested() -> bool {
    rustix::fs::stat(USERS).is_ok_and(|stat| stat.st_ino != MACHINE_USERS)
}

impl Host {
    /// Whether this process may act on what its user namespace owns.
    pub fn is_privileged(&self) -> bool {
        self.capabilities & CAP_SYS_ADMIN != 0
    }

    /// Looks at the machine. The LSMs are looked at only `with_lsm`, because the answer costs reads of sysfs.
    ///
    /// # Errors
    /// /proc/self/cgroup or our own AppArmor profile cannot be read; capget(2) fails.
    pub fn probe(with_lsm: bool) -> Result<Self> {
        Ok(Self { cgroups: probe_cgroups()?, systemd: probe_systemd()?, ..Self::probe_for_exec(with_lsm)? })
    }

    /// Only what one more process in a container depends on: the container knows its cgroups.
    ///
    /// # Errors
    /// Our own AppArmor profile cannot be read; capget(2) fails.
    pub fn probe_for_exec(with_lsm: bool) -> Result<Self> {
        let sets = rustix::thread::capabilities(None).call(|| "capget".to_owned())?;
        let capabilities = sets.permitted.bits();
        Ok(Self {
            capabilities,
            identity: probe_identity(capabilities)?,
            lsm: if with_lsm { probe_lsm()? } else { Lsm::default() },
            ..Self::default()
        })
    }
}

/// The number that the kernel gives to the machine's user namespace alone: PROC_USER_INIT_INO of proc_ns.h. The map
/// tells nothing: that of a namespace may be just as whole.
const MACHINE_USERS: u64 = 0xefff_fffd;

const USERS: &str = "/proc/self/ns/user";

const CAP_SYS_ADMIN: u64 = 1 << 21;

fn probe_identity(capabilities: u64) -> Result<Identity> {
    let own = match rustix::fs::stat(USERS) {
        // a kernel without them
        Err(Errno::NOENT) => return Ok(Identity::default()),
        result => result.call(|| format!("stat {USERS}"))?.st_ino,
    };
    let nested = own != MACHINE_USERS;
    if !nested && capabilities & CAP_SYS_ADMIN != 0 {
        return Ok(Identity::default());
    }
    Ok(Identity {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        nested,
        foreign_mounts: mounts_owner().is_none_or(|owner| owner != own),
    })
}

/// None: a user namespace above ours.
fn mounts_owner() -> Option<u64> {
    let mounts = proc::open_self("ns/mnt", rustix::fs::OFlags::RDONLY).ok()?;
    let owner = ioctl::owner(mounts).ok()?;
    rustix::fs::fstat(owner).ok().map(|stat| stat.st_ino)
}

fn probe_lsm() -> Result<Lsm> {
    let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let apparmor = enabled.is_ok_and(|text| text.starts_with('Y'));
    Ok(Lsm {
        apparmor,
        confined: apparmor && restricts(&own_profile()?),
        selinux: fs::metadata("/sys/fs/selinux/enforce").is_ok(),
    })
}

fn own_profile() -> Result<String> {
    const CURRENT: &str = "/proc/self/attr/apparmor/current";
    proc::read(Path::new(CURRENT))
        .call(|| format!("read {CURRENT}"))
        .context(|| "find out which AppArmor profile this process has".to_owned())
}

/// `NAME (MODE)`, or `unconfined` alone. A profile may be called `unconfined` and something, and may itself be of
/// the mode that restricts nothing (Ubuntu's for podman and crun).
fn restricts(current: &str) -> bool {
    let current = current.trim_end_matches(['\0', '\n']);
    current != "unconfined" && !current.ends_with(" (unconfined)")
}

const SYSTEMD: &str = "/run/systemd/system";

fn probe_systemd() -> Result<Systemd> {
    if !fs::symlink_metadata(SYSTEMD).is_ok_and(|found| found.is_dir()) {
        return Ok(Systemd::default());
    }
    Ok(Systemd { running: true, uid: systemd_uid()?, bpffs: magic(Path::new(BPF_ROOT)) == Some(BPF_FS_MAGIC) })
}

/// Whose systemd makes scopes for this process: the effective user's. Root of a user namespace (Podman's without
/// privileges) is outside, where that systemd runs, somebody else; unless it runs inside as well.
///
/// # Errors
/// /proc/self/uid_map cannot be read.
pub fn systemd_uid() -> Result<u32> {
    const MAP: &str = "/proc/self/uid_map";
    let uid = rustix::process::geteuid().as_raw();
    if !is_nested() || rustix::fs::stat(SYSTEMD).is_ok_and(|found| found.st_uid == 0) {
        return Ok(uid);
    }
    let map = proc::read(Path::new(MAP)).call(|| format!("read {MAP}"))?;
    Ok(outside(&map, uid).unwrap_or(uid))
}

/// What an id is outside of the user namespace, by the text of its map: user_namespaces(7).
fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [inside, outside, size] = numbers[..] else { return None };
        id.checked_sub(inside).filter(|offset| *offset < size)?.checked_add(outside)
    })
}

fn magic(path: &Path) -> Option<u64> {
    rustix::fs::statfs(path).ok().map(|fs| fs.f_type as u64)
}

fn probe_cgroups() -> Result<Cgroups> {
    let root = magic(Path::new(CGROUP_ROOT));
    let text = match proc::read(Path::new("/proc/self/cgroup")) {
        Err(Errno::NOENT) => return Ok(Cgroups::None),
        result => result.call(|| "read /proc/self/cgroup".to_owned())?,
    };
    if root == Some(CGROUP2_SUPER_MAGIC) {
        return Ok(Cgroups::V2 { own: parse_own_v2(&text) });
    }
    let mut hierarchies = parse_v1(&text);
    // managers make missing controllers as plain directories of the tmpfs there
    hierarchies.retain(|hierarchy| magic(&hierarchy.mount) == Some(CGROUP_SUPER_MAGIC));
    Ok(if hierarchies.is_empty() { Cgroups::None } else { Cgroups::V1 { hierarchies } })
}

/// This process's own cgroup of version 2, from the text of /proc/self/cgroup.
pub fn parse_own_v2(text: &str) -> PathBuf {
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").into()
}

/// The hierarchies of version 1, from the text of /proc/self/cgroup: `9:cpu,cpuacct:/path` lines, cgroups(7).
pub fn parse_v1(text: &str) -> Vec<Hierarchy> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, own) = (fields.next()?, fields.next()?, fields.next()?);
            if controllers.is_empty() {
                return None;
            }
            let controllers = controllers.strip_prefix("name=").unwrap_or(controllers);
            Some(Hierarchy {
                controllers: controllers.split(',').map(str::to_owned).collect(),
                mount: Path::new(CGROUP_ROOT).join(controllers),
                own: own.into(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_proc_self_cgroup() {
        let text = "9:name=systemd:/init.scope\n3:cpu,cpuacct:/a:b\n0::/user.slice\n";
        let hierarchies = parse_v1(text);
        assert_eq!(hierarchies.len(), 2);
        assert_eq!(hierarchies[0].mount, Path::new("/sys/fs/cgroup/systemd"));
        assert_eq!(hierarchies[1].name(), "cpu,cpuacct");
        assert_eq!(hierarchies[1].own, Path::new("/a:b"));
        assert_eq!(parse_own_v2(text), Path::new("/user.slice"));
    }

    #[test]
    fn ids_outside_of_a_user_namespace() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(map, 0), Some(1000));
        assert_eq!(outside(map, 7), Some(100_006));
        assert_eq!(outside(map, 70_000), None);
        assert_eq!(outside("         0          0 4294967295\n", 12), Some(12));
    }

    #[test]
    fn only_a_profile_that_restricts_confines() {
        for free in ["unconfined", "unconfined\n", "crun (unconfined)\n"] {
            assert!(!restricts(free), "{free:?}");
        }
        for confined in
            ["docker-default (enforce)\n", "unconfined_foo (enforce)", "a//&b (complain)\n", "a (unconfined) (enforce)"]
        {
            assert!(restricts(confined), "{confined:?}");
        }
    }
}
