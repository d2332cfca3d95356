//! Lists of id mappings: user_namespaces(7).

use oci_spec::runtime::LinuxIdMapping;

use super::IdMapping;
use super::at::At;
use crate::error::Result;

/// What fits into /proc/PID/uid_map: UID_GID_MAP_MAX_EXTENTS.
const MAX: usize = 340;

pub(super) fn mappings(mappings: &[LinuxIdMapping], at: &At) -> Result<Vec<IdMapping>> {
    let mappings: Vec<IdMapping> = mappings
        .iter()
        .map(|mapping| IdMapping {
            container_id: mapping.container_id(),
            host_id: mapping.host_id(),
            size: mapping.size(),
        })
        .collect();
    check(&mappings, at)?;
    Ok(mappings)
}

/// The kernel's rules, all of which it reports as a bare EINVAL.
pub(super) fn check(mappings: &[IdMapping], at: &At) -> Result<()> {
    if mappings.len() > MAX {
        return Err(at.must(&format!("at most {MAX} mappings"), mappings.len()));
    }
    for (index, mapping) in mappings.iter().enumerate() {
        let at = at.index(index);
        if mapping.size == 0 {
            return Err(at.key("size").must("at least 1", 0));
        }
        for (key, first) in [("containerID", mapping.container_id), ("hostID", mapping.host_id)] {
            // the last id, -1, is nobody's
            if first.checked_add(mapping.size).is_none() {
                let right = format!("small enough for {} ids to end below 4294967295", mapping.size);
                return Err(at.key(key).must(&right, first));
            }
        }
        for (number, earlier) in mappings.iter().take(index).enumerate() {
            let pairs = [
                ("containerID", mapping.container_id, earlier.container_id),
                ("hostID", mapping.host_id, earlier.host_id),
            ];
            for (key, mine, other) in pairs {
                if mine < other + earlier.size && other < mine + mapping.size {
                    return Err(at.key(key).must(&format!("free of overlap with mapping {number}"), mine));
                }
            }
        }
    }
    Ok(())
}
