//! The list of rules: config-linux.md, Allowed Device list. Pure.

use crate::config::resources::{Access, DeviceRule, RuleKind};

/// Making a node is no access to what is behind it, so that archives can be unpacked (runc's AllowedDevices).
const NODES: [RuleKind; 2] = [RuleKind::Char, RuleKind::Block];

/// null, zero, full, random, urandom, tty, ptmx and the terminals of /dev/pts: what every program may expect,
/// and what runc gives to every container.
const DEVICES: [(u32, Option<u32>); 8] =
    [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];

/// `rules` and, after them, those that every container needs: the container's own cannot take them away.
pub fn with_defaults(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    let mknod = Access { read: false, write: false, mknod: true };
    let all = Access { read: true, write: true, mknod: true };
    let allow = |kind, major, minor, access| DeviceRule { allow: true, kind, major, minor, access, pointer: None };
    let nodes = NODES.map(|kind| allow(kind, None, None, mknod));
    let devices = DEVICES.map(|(major, minor)| allow(RuleKind::Char, Some(major), minor, all));
    rules.iter().cloned().chain(nodes).chain(devices).collect()
}
