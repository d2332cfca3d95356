//! `/process/capabilities`: five lists of names → five masks.

use std::collections::HashSet;

use caps::Capability;
use oci_spec::runtime::{Capability as SpecCapability, LinuxCapabilities};

use super::Capabilities;
use super::at::At;
use crate::error::Result;

pub(super) fn check(
    sets: Option<&LinuxCapabilities>,
    at: &At,
    warnings: &mut Vec<String>,
) -> Result<Option<Capabilities>> {
    let Some(sets) = sets else { return Ok(None) };
    let mut capabilities = Capabilities {
        bounding: mask(sets.bounding().as_ref()),
        effective: mask(sets.effective().as_ref()),
        inheritable: mask(sets.inheritable().as_ref()),
        permitted: mask(sets.permitted().as_ref()),
        ambient: mask(sets.ambient().as_ref()),
    };
    let beyond = capabilities.effective & !capabilities.permitted;
    if beyond != 0 {
        return Err(at.key("effective").error(format!(
            "process.capabilities.effective must be part of process.capabilities.permitted, which lacks {}",
            names(beyond)
        )));
    }
    // runc's own default file asks for such; there and here it is left out
    let beyond = capabilities.ambient & !(capabilities.permitted & capabilities.inheritable);
    if beyond != 0 {
        capabilities.ambient &= !beyond;
        warnings.push(format!(
            "ignoring ambient capabilities that are not both permitted and inheritable: {}",
            names(beyond)
        ));
    }
    Ok(Some(capabilities))
}

fn mask(set: Option<&HashSet<SpecCapability>>) -> u64 {
    set.into_iter().flatten().fold(0, |mask, capability| mask | number(*capability).bitmask())
}

/// In the kernel's order, whatever order the hash set has.
fn names(mask: u64) -> String {
    let mut known: Vec<Capability> = caps::all().into_iter().filter(|known| mask & known.bitmask() != 0).collect();
    known.sort_unstable_by_key(Capability::index);
    known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn number(capability: SpecCapability) -> Capability {
    use SpecCapability as Name;
    match capability {
        Name::AuditControl => Capability::CAP_AUDIT_CONTROL,
        Name::AuditRead => Capability::CAP_AUDIT_READ,
        Name::AuditWrite => Capability::CAP_AUDIT_WRITE,
        Name::BlockSuspend => Capability::CAP_BLOCK_SUSPEND,
        Name::Bpf => Capability::CAP_BPF,
        Name::CheckpointRestore => Capability::CAP_CHECKPOINT_RESTORE,
        Name::Chown => Capability::CAP_CHOWN,
        Name::DacOverride => Capability::CAP_DAC_OVERRIDE,
        Name::DacReadSearch => Capability::CAP_DAC_READ_SEARCH,
        Name::Fowner => Capability::CAP_FOWNER,
        Name::Fsetid => Capability::CAP_FSETID,
        Name::IpcLock => Capability::CAP_IPC_LOCK,
        Name::IpcOwner => Capability::CAP_IPC_OWNER,
        Name::Kill => Capability::CAP_KILL,
        Name::Lease => Capability::CAP_LEASE,
        Name::LinuxImmutable => Capability::CAP_LINUX_IMMUTABLE,
        Name::MacAdmin => Capability::CAP_MAC_ADMIN,
        Name::MacOverride => Capability::CAP_MAC_OVERRIDE,
        Name::Mknod => Capability::CAP_MKNOD,
        Name::NetAdmin => Capability::CAP_NET_ADMIN,
        Name::NetBindService => Capability::CAP_NET_BIND_SERVICE,
        Name::NetBroadcast => Capability::CAP_NET_BROADCAST,
        Name::NetRaw => Capability::CAP_NET_RAW,
        Name::Perfmon => Capability::CAP_PERFMON,
        Name::Setgid => Capability::CAP_SETGID,
        Name::Setfcap => Capability::CAP_SETFCAP,
        Name::Setpcap => Capability::CAP_SETPCAP,
        Name::Setuid => Capability::CAP_SETUID,
        Name::SysAdmin => Capability::CAP_SYS_ADMIN,
        Name::SysBoot => Capability::CAP_SYS_BOOT,
        Name::SysChroot => Capability::CAP_SYS_CHROOT,
        Name::SysModule => Capability::CAP_SYS_MODULE,
        Name::SysNice => Capability::CAP_SYS_NICE,
        Name::SysPacct => Capability::CAP_SYS_PACCT,
        Name::SysPtrace => Capability::CAP_SYS_PTRACE,
        Name::SysRawio => Capability::CAP_SYS_RAWIO,
        Name::SysResource => Capability::CAP_SYS_RESOURCE,
        Name::SysTime => Capability::CAP_SYS_TIME,
        Name::SysTtyConfig => Capability::CAP_SYS_TTY_CONFIG,
        Name::Syslog => Capability::CAP_SYSLOG,
        Name::WakeAlarm => Capability::CAP_WAKE_ALARM,
    }
}
