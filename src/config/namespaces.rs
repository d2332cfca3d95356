//! `/linux/namespaces` and what stands and falls with them: id mappings, time offsets.

use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::at::At;
use super::{Namespace, Namespaces, TimeOffset};
use crate::error::Result;

pub(super) fn check(linux: &Linux, at: &At) -> Result<Namespaces> {
    let mut namespaces = Namespaces::default();
    for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
        let at = at.index(index);
        let (slot, name) = match namespace.typ() {
            LinuxNamespaceType::Pid => (&mut namespaces.pid, "pid"),
            LinuxNamespaceType::Network => (&mut namespaces.network, "network"),
            LinuxNamespaceType::Mount => (&mut namespaces.mount, "mount"),
            LinuxNamespaceType::Ipc => (&mut namespaces.ipc, "ipc"),
            LinuxNamespaceType::Uts => (&mut namespaces.uts, "uts"),
            LinuxNamespaceType::User => (&mut namespaces.user, "user"),
            LinuxNamespaceType::Cgroup => (&mut namespaces.cgroup, "cgroup"),
            LinuxNamespaceType::Time => (&mut namespaces.time, "time"),
        };
        if !slot.is_host() {
            return Err(at.key("type").must("given once only", name));
        }
        *slot = match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
            None => Namespace::New,
            Some(path) => {
                let at = at.key("path");
                at.absolute(path)?;
                Namespace::Join { path: path.clone(), pointer: at.pointer() }
            }
        };
        if namespace.typ() == LinuxNamespaceType::User {
            return Err(at.error("user namespaces are not supported yet"));
        }
    }
    Ok(namespaces)
}

/// Without a user namespace there is nothing to map.
pub(super) fn check_mappings(linux: &Linux, at: &At) -> Result<()> {
    for (key, mappings) in [("uidMappings", linux.uid_mappings()), ("gidMappings", linux.gid_mappings())] {
        if mappings.as_ref().is_some_and(|mappings| !mappings.is_empty()) {
            let words = "user namespace mappings specified, but user namespace isn't enabled in the config";
            return Err(at.key(key).error(words));
        }
    }
    Ok(())
}

/// Sorted by clock.
pub(super) fn time_offsets(linux: &Linux, namespaces: &Namespaces, at: &At) -> Result<Vec<TimeOffset>> {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|offsets| !offsets.is_empty()) else {
        return Ok(Vec::new());
    };
    match namespaces.time {
        Namespace::New => {}
        Namespace::Host => {
            return Err(at.error("time offsets specified, but time namespace isn't enabled in the config"));
        }
        // the kernel takes them only while nobody is in it
        Namespace::Join { .. } => return Err(at.error("time offsets cannot be set in a time namespace that is joined")),
    }
    let mut checked = Vec::new();
    let mut sorted: Vec<_> = offsets.iter().collect();
    sorted.sort_unstable_by_key(|(clock, _)| *clock);
    for (clock, offset) in sorted {
        let at = at.key(clock);
        let clock = match clock.as_str() {
            "boottime" => "boottime",
            "monotonic" => "monotonic",
            other => return Err(at.error(format!("clock must be boottime or monotonic: {other:?}"))),
        };
        let nanosecs = offset.nanosecs().unwrap_or_default();
        if nanosecs > 999_999_999 {
            return Err(at.key("nanosecs").must("at most 999999999", nanosecs));
        }
        checked.push(TimeOffset { clock, secs: offset.secs().unwrap_or_default(), nanosecs });
    }
    Ok(checked)
}
