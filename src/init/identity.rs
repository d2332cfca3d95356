//! Who the program is: limits, groups, user, capabilities. The order is the plan's.

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, open};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as RawRlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Capabilities, OomScoreAdj, Rlimit, Setgroups};

pub(super) fn umask(mask: u32) -> Result<()> {
    rustix::process::umask(Mode::from_raw_mode(mask));
    Ok(())
}

pub(super) fn rlimits(rlimits: &[Rlimit]) -> Result<()> {
    for (index, limit) in rlimits.iter().enumerate() {
        set_rlimit(limit).map_err(|error| {
            let error = error.at(format!("/process/rlimits/{index}"));
            match error.errno() {
                Some(libc::EPERM) => error.hint("raising a hard limit needs CAP_SYS_RESOURCE"),
                _ => error,
            }
        })?;
    }
    Ok(())
}

fn set_rlimit(limit: &Rlimit) -> Result<()> {
    let finite = |value: u64| (value != u64::MAX).then_some(value);
    let resource = resource(limit.resource).ok_or_else(|| Error::new(format!("this kernel has no {}", limit.name)))?;
    setrlimit(resource, RawRlimit { current: finite(limit.soft), maximum: finite(limit.hard) })
        .call(|| "setrlimit".to_owned())
        .context(|| format!("set {} to {}:{}", limit.name, limit.soft, limit.hard))
}

fn resource(number: u32) -> Option<Resource> {
    const ALL: [Resource; 16] = [
        Resource::Cpu,
        Resource::Fsize,
        Resource::Data,
        Resource::Stack,
        Resource::Core,
        Resource::Rss,
        Resource::Nproc,
        Resource::Nofile,
        Resource::Memlock,
        Resource::As,
        Resource::Locks,
        Resource::Sigpending,
        Resource::Msgqueue,
        Resource::Nice,
        Resource::Rtprio,
        Resource::Rttime,
    ];
    ALL.into_iter().find(|resource| *resource as u32 == number)
}

/// The program must be able to open /dev/stdin and the like, which are what the caller gave us.
fn own_stdio(uid: u32) {
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let null = rustix::fs::makedev(1, 3);
        // a closed fd, or one on a file system that has no owners or is read-only, stays as it is
        if let Ok(stat) = fstat(fd)
            && stat.st_uid != uid
            && stat.st_rdev != null
        {
            let _ = fchown(fd, Some(Uid::from_raw(uid)), None);
        }
    }
}

/// Before a user namespace is joined that may forbid it afterwards: the groups of a privileged caller are nothing for
/// a container. An ordinary one cannot leave theirs.
pub(super) fn leave_groups() {
    let _ = set_thread_groups(&[]);
}

/// With all capabilities there is only one reason for EPERM: the maker of the user namespace has given setgroups(2) up.
fn set_groups(groups: &[u32], setgroups: Setgroups) -> Result<()> {
    let list: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    match set_thread_groups(&list) {
        Err(Errno::PERM) if setgroups == Setgroups::MayBeDenied && groups.is_empty() => Ok(()),
        result => result.call(|| "setgroups".to_owned()).context(|| "set the additional groups".to_owned()),
    }
    .map_err(|error| match error.errno() {
        Some(libc::EPERM) if setgroups == Setgroups::MayBeDenied => {
            error.hint("the container's user namespace may forbid setgroups(2): /proc/PID/setgroups")
        }
        Some(libc::EINVAL) => error.hint("the container's user namespace has no such group"),
        _ => error,
    })
}

/// In the user namespace just made or joined, in which this process is nobody yet.
pub(super) fn become_root(setgroups: Setgroups) -> Result<()> {
    let root = || {
        set_groups(&[], setgroups)?;
        let (uid, gid) = (Uid::ROOT, Gid::ROOT);
        set_thread_res_gid(gid, gid, gid).call(|| "setresgid".to_owned())?;
        set_thread_res_uid(uid, uid, uid).call(|| "setresuid".to_owned())
    };
    root().context(|| "become the root of the user namespace".to_owned()).map_err(|error| match error.errno() {
        Some(libc::EINVAL) => error.hint("the user namespace maps no root"),
        _ => error,
    })
}

/// An id that is nobody's.
fn explain(error: Error) -> Error {
    match error.errno() {
        Some(libc::EINVAL) => error.hint("the container's user namespace does not map it"),
        _ => error,
    }
}

pub(super) fn user(uid: u32, gid: u32, groups: &[u32], keep: bool, setgroups: Setgroups) -> Result<()> {
    if uid != 0 {
        own_stdio(uid);
    }
    set_groups(groups, setgroups)?;
    if keep {
        set_keep_capabilities(true).call(|| "prctl PR_SET_KEEPCAPS".to_owned())?;
    }
    let gid = Gid::from_raw(gid);
    let user = Uid::from_raw(uid);
    set_thread_res_gid(gid, gid, gid)
        .call(|| "setresgid".to_owned())
        .map_err(explain)
        .context(|| format!("become group {}", gid.as_raw()))?;
    set_thread_res_uid(user, user, user)
        .call(|| "setresuid".to_owned())
        .map_err(explain)
        .context(|| format!("become user {uid}"))?;
    if keep {
        set_keep_capabilities(false).call(|| "prctl PR_SET_KEEPCAPS".to_owned())?;
    }
    Ok(())
}

/// Drops all but `keep`, up to the last one that this kernel has.
pub(super) fn bounding_set(keep: u64) -> Result<()> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep & (1 << bit) == 0 {
            match remove_capability_from_bounding_set(capability) {
                Err(Errno::INVAL) => break,
                result => {
                    result.call(|| "prctl PR_CAPBSET_DROP".to_owned()).context(|| format!("drop capability {bit}"))?
                }
            }
        }
    }
    Ok(())
}

pub(super) fn capset(sets: &Capabilities) -> Result<()> {
    let all = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(sets.effective),
        permitted: CapabilitySet::from_bits_retain(sets.permitted),
        inheritable: CapabilitySet::from_bits_retain(sets.inheritable),
    };
    set_capabilities(None, all).call(|| "capset".to_owned())
}

pub(super) fn capabilities(sets: &Capabilities) -> Result<()> {
    capset(sets)?;
    clear_ambient_capability_set().call(|| "prctl PR_CAP_AMBIENT_CLEAR_ALL".to_owned())?;
    for bit in (0..u64::BITS).filter(|bit| sets.ambient & (1 << bit) != 0) {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        configure_capability_in_ambient_set(capability, true)
            .call(|| "prctl PR_CAP_AMBIENT_RAISE".to_owned())
            .context(|| format!("raise ambient capability {bit}"))
            .at(|| "/process/capabilities/ambient".to_owned())?;
    }
    Ok(())
}

/// Of the process `pid` of the host's /proc.
pub(crate) fn oom_score_adj(pid: &str, OomScoreAdj { value, or_warn }: OomScoreAdj) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let set = || {
        let file = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open {path}"))?;
        rustix::io::write(file, value.to_string().as_bytes()).call(|| format!("write {path}")).map(drop)
    };
    match set().context(|| format!("set the oom score to {value}")) {
        Err(error) if error.errno() == Some(libc::EACCES) => {
            let error = error.hint("lowering the score below the caller's own needs CAP_SYS_RESOURCE");
            if !or_warn {
                return Err(error);
            }
            tracing::warn!("{error}");
            Ok(())
        }
        result => result,
    }
}
