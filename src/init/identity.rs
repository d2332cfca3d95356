//! Who the program is: limits, groups, user, capabilities. The order is the plan's.

use rustix::fs::{Gid, Mode, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit as RawRlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities, set_thread_groups,
    set_thread_res_gid, set_thread_res_uid,
};

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Capabilities, Rlimit};

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

pub(super) fn user(uid: u32, gid: u32, groups: &[u32], keep: bool) -> Result<()> {
    if uid != 0 {
        own_stdio(uid);
    }
    let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups).call(|| "setgroups".to_owned()).context(|| "set the additional groups".to_owned())?;
    if keep {
        set_keep_capabilities(true).call(|| "prctl PR_SET_KEEPCAPS".to_owned())?;
    }
    let gid = Gid::from_raw(gid);
    let user = Uid::from_raw(uid);
    set_thread_res_gid(gid, gid, gid)
        .call(|| "setresgid".to_owned())
        .context(|| format!("become group {}", gid.as_raw()))?;
    set_thread_res_uid(user, user, user).call(|| "setresuid".to_owned()).context(|| format!("become user {uid}"))?;
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
