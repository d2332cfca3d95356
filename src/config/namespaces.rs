//! `/linux/namespaces` and what stands and falls with them: id mappings, time offsets.

use oci_spec::runtime::{Linux, LinuxIdMapping, LinuxNamespaceType};

use super::at::At;
use super::ids::{self, IdMaps};
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
    }
    Ok(namespaces)
}

/// `/linux/uidMappings` and `/linux/gidMappings`. Without a user namespace there is nothing to map; a new one needs
/// both; one that is joined has its own, and whoever says them again has us check ids by them.
pub(super) fn mappings(linux: &Linux, user: &Namespace, at: &At) -> Result<IdMaps> {
    let parse = |key: &str, list: &Option<Vec<LinuxIdMapping>>| -> Result<_> {
        ids::mappings(list.as_deref().unwrap_or_default(), &at.key(key))
    };
    let maps =
        IdMaps { uids: parse("uidMappings", linux.uid_mappings())?, gids: parse("gidMappings", linux.gid_mappings())? };
    for (key, list, other) in [("uidMappings", &maps.uids, &maps.gids), ("gidMappings", &maps.gids, &maps.uids)] {
        let at = at.key(key);
        match user {
            Namespace::Host if !list.is_empty() => {
                let words = "user namespace mappings specified, but user namespace isn't enabled in the config";
                return Err(at.error(words));
            }
            Namespace::New if list.is_empty() => {
                return Err(at.error(format!("user namespaces enabled, but no {} mappings found", &key[..3])));
            }
            Namespace::Join { .. } if list.is_empty() && !other.is_empty() => {
                return Err(at.error("uidMappings and gidMappings must be given together"));
            }
            Namespace::New | Namespace::Join { .. } if !list.is_empty() && ids::to_host(list, 0).is_none() => {
                return Err(at.error(format!("linux.{key} must map the container's root, id 0")));
            }
            _ => {}
        }
    }
    Ok(maps)
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
