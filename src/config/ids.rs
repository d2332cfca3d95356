//! Lists of id mappings: user_namespaces(7).

use std::fmt;

use oci_spec::runtime::LinuxIdMapping;
use serde::{Deserialize, Serialize};

use super::at::At;
use crate::error::Result;

/// A range of ids, as the container sees them and as the host does. None ends beyond 4294967294.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    pub container_id: u32,
    pub host_id: u32,
    /// At least 1.
    pub size: u32,
}

/// A line of /proc/PID/uid_map, and three arguments of newuidmap(1).
impl fmt::Display for IdMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.container_id, self.host_id, self.size)
    }
}

/// The lines of /proc/PID/uid_map.
pub fn parse_map(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
    };
    text.lines().filter_map(line).collect()
}

/// Who the container's `id` is on the host. None: nobody.
pub fn to_host(mappings: &[IdMapping], id: u32) -> Option<u32> {
    mappings.iter().find_map(|one| {
        let place = id.checked_sub(one.container_id).filter(|place| *place < one.size)?;
        one.host_id.checked_add(place)
    })
}

/// Who the host's `id` is in the container. None: nobody.
pub fn to_container(mappings: &[IdMapping], id: u32) -> Option<u32> {
    mappings.iter().find_map(|one| {
        let place = id.checked_sub(one.host_id).filter(|place| *place < one.size)?;
        one.container_id.checked_add(place)
    })
}

/// `relative`, whose `host_id` counts within the container, as ids of the host: several ranges where the container has
/// several. None: it has not all of them.
pub(super) fn absolute(relative: IdMapping, own: &[IdMapping]) -> Option<Vec<IdMapping>> {
    let mut left = relative;
    let mut found = Vec::new();
    while left.size > 0 {
        let (host_id, there) = own.iter().find_map(|one| {
            let place = left.host_id.checked_sub(one.container_id).filter(|place| *place < one.size)?;
            Some((one.host_id.checked_add(place)?, one.size - place))
        })?;
        let size = left.size.min(there);
        found.push(IdMapping { container_id: left.container_id, host_id, size });
        if size == left.size {
            break;
        }
        left = IdMapping {
            container_id: left.container_id.checked_add(size)?,
            host_id: left.host_id.checked_add(size)?,
            size: left.size - size,
        };
    }
    Some(found)
}

/// What fits into /proc/PID/uid_map: UID_GID_MAP_MAX_EXTENTS, in one write of less than a page.
const MAX: usize = 340;
const MAX_TEXT: usize = 4095;

/// Both lists of a user namespace. Empty: of one that is joined, whose mappings nobody has told us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    pub uids: Vec<IdMapping>,
    pub gids: Vec<IdMapping>,
}

impl IdMaps {
    /// `id` must be somebody in the container.
    pub(super) fn check_uid(&self, id: u32, at: &At) -> Result<()> {
        check_mapped(&self.uids, "uidMappings", id, at)
    }

    pub(super) fn check_gid(&self, id: u32, at: &At) -> Result<()> {
        check_mapped(&self.gids, "gidMappings", id, at)
    }
}

fn check_mapped(list: &[IdMapping], key: &str, id: u32, at: &At) -> Result<()> {
    if list.is_empty() || to_host(list, id).is_some() {
        return Ok(());
    }
    Err(at.must(&format!("an id that linux.{key} maps"), id))
}

/// What /proc/PID/uid_map is written with: a line for each mapping.
pub fn map_text(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|mapping| format!("{mapping}\n")).collect()
}

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
    if map_text(mappings).len() > MAX_TEXT {
        return Err(at.error(format!("{} must be at most {MAX_TEXT} bytes long as the kernel takes them", at.name())));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let one = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let maps = [one(0, 1000, 1), one(1, 100_000, 65_535), one(70_000, u32::MAX - 2, 2)];
        for (inside, outside) in [(0, 1000), (1, 100_000), (65_535, 165_534), (70_001, u32::MAX - 1)] {
            assert_eq!(to_host(&maps, inside), Some(outside));
            assert_eq!(to_container(&maps, outside), Some(inside));
        }
        assert_eq!([65_536, 70_002, u32::MAX].map(|id| to_host(&maps, id)), [None; 3]);
        assert_eq!([0, 999, 1001, 165_535, u32::MAX].map(|id| to_container(&maps, id)), [None; 5]);
        assert_eq!(maps[1].to_string(), "1 100000 65535");
        assert_eq!(parse_map(&map_text(&maps)), maps);
        assert_eq!(parse_map("         0          0 4294967295\n0 x 1\n1 2\n"), [one(0, 0, u32::MAX)]);
    }

    #[test]
    fn a_relative_range_is_split_where_the_containers_are() {
        let one = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        // the example of crun(1)
        let own = [one(0, 0, 1), one(1, 2, 1000)];
        assert_eq!(absolute(one(1, 3, 10), &own), Some(vec![one(1, 4, 10)]));
        assert_eq!(absolute(one(7, 0, 3), &own), Some(vec![one(7, 0, 1), one(8, 2, 2)]));
        assert_eq!(absolute(one(0, 1000, 1), &own), Some(vec![one(0, 1001, 1)]));
        assert_eq!(absolute(one(0, 1000, 2), &own), None);
        assert_eq!(absolute(one(0, 0, 1), &[]), None);
        assert_eq!(absolute(one(u32::MAX, 0, 2), &own), None);
    }
}
