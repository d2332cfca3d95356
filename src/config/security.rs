//! Labels, restricted paths, propagation of the root, personality, memory policy.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Linux, LinuxMemoryPolicy, LinuxPersonality, LinuxPersonalityDomain, MemoryPolicyFlagType, MemoryPolicyModeType,
};

use super::at::At;
use super::{MemoryPolicy, Namespaces, Propagation, PropagationKind};
use crate::error::Result;

/// What set_mempolicy(2) takes at most: one page of bits.
const MAX_NODE: u32 = 4096 * 8 - 1;

/// A name that is written into a file of the kernel's. An empty one is none.
pub(super) fn label(label: Option<&str>, at: &At) -> Result<Option<String>> {
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(None) };
    at.one_line(label)?;
    Ok(Some(label.to_owned()))
}

/// `/linux/maskedPaths`, `/linux/readonlyPaths`.
pub(super) fn restricted(paths: Option<&[String]>, namespaces: &Namespaces, at: &At) -> Result<Vec<PathBuf>> {
    let paths = paths.unwrap_or_default();
    if !paths.is_empty() && namespaces.mount.is_host() {
        return Err(at.error("unable to restrict sys entries without a private MNT namespace"));
    }
    paths.iter().enumerate().map(|(index, path)| at.index(index).inside(Path::new(path))).collect()
}

pub(super) fn propagation(linux: &Linux, at: &At) -> Result<Option<Propagation>> {
    let word = linux.rootfs_propagation().as_deref().unwrap_or_default();
    // "rshared" and "shared", but not "rrshared"
    let recursive = word.starts_with('r');
    let kind = match word.strip_prefix('r').unwrap_or(word) {
        "" if !recursive => return Ok(None),
        "shared" => PropagationKind::Shared,
        "slave" => PropagationKind::Slave,
        "private" => PropagationKind::Private,
        "unbindable" => PropagationKind::Unbindable,
        _ => {
            return Err(at.must("shared, slave, private or unbindable, or one of them with an r before it", word));
        }
    };
    Ok(Some(Propagation { kind, recursive }))
}

/// PER_LINUX, PER_LINUX32.
pub(super) fn personality(personality: Option<&LinuxPersonality>, at: &At) -> Result<Option<u32>> {
    let Some(personality) = personality else { return Ok(None) };
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(at.key("flags").error("additional flags for personality are not supported"));
    }
    Ok(Some(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

/// set_mempolicy(2).
pub(super) fn memory_policy(policy: Option<&LinuxMemoryPolicy>, at: &At) -> Result<Option<MemoryPolicy>> {
    use MemoryPolicyModeType as Mode;
    let Some(policy) = policy else { return Ok(None) };
    let nodes = nodes(policy.nodes().as_deref().unwrap_or_default(), &at.key("nodes"))?;
    let flags = policy.flags().iter().flatten().fold(0, |flags, flag| flags | mode_flag(*flag));
    let (mode, wants_nodes) = match policy.mode() {
        Mode::MpolDefault => (0, Some(false)),
        // none: on whatever node it runs
        Mode::MpolPreferred => (1, None),
        Mode::MpolBind => (2, Some(true)),
        Mode::MpolInterleave => (3, Some(true)),
        Mode::MpolLocal => (4, Some(false)),
        Mode::MpolPreferredMany => (5, Some(true)),
        Mode::MpolWeightedInterleave => (6, Some(true)),
    };
    let name = policy.mode();
    match wants_nodes {
        Some(true) if nodes.is_empty() => {
            return Err(at.key("nodes").error(format!("memoryPolicy.nodes must name a node for {name}")));
        }
        Some(false) if !nodes.is_empty() => {
            return Err(at.key("nodes").error(format!("memoryPolicy.nodes must be empty for {name}")));
        }
        Some(false) if flags != 0 => {
            return Err(at.key("flags").error(format!("memoryPolicy.flags must be empty for {name}")));
        }
        _ => {}
    }
    if flags & (STATIC_NODES | RELATIVE_NODES) == STATIC_NODES | RELATIVE_NODES {
        let words = "memoryPolicy.flags must not have both MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES";
        return Err(at.key("flags").error(words));
    }
    Ok(Some(MemoryPolicy { mode: mode | flags, nodes }))
}

const NUMA_BALANCING: u32 = 1 << 13;
const RELATIVE_NODES: u32 = 1 << 14;
const STATIC_NODES: u32 = 1 << 15;

fn mode_flag(flag: MemoryPolicyFlagType) -> u32 {
    match flag {
        MemoryPolicyFlagType::MpolFNumaBalancing => NUMA_BALANCING,
        MemoryPolicyFlagType::MpolFRelativeNodes => RELATIVE_NODES,
        MemoryPolicyFlagType::MpolFStaticNodes => STATIC_NODES,
    }
}

/// `0-3,7`: sorted, each once. Spaces and extra commas are allowed.
fn nodes(list: &str, at: &At) -> Result<Vec<u32>> {
    let mut ranges = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
            _ => {
                return Err(at.must(&format!("a list of nodes such as 0-3,7, none above {MAX_NODE}"), list));
            }
        }
    }
    // ranges that overlap must cost no more than those that do not
    ranges.sort_unstable();
    let mut nodes = Vec::new();
    for (first, last) in ranges {
        let next = nodes.last().map_or(0, |last| last + 1);
        nodes.extend(first.max(next)..=last);
    }
    Ok(nodes)
}

fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= MAX_NODE)
}
