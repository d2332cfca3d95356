//! Device rules as systemd is told them.
//!
//! Whatever is attached to a cgroup has to allow an access. Ours says exactly what the rules say; systemd attaches
//! its own again on every `daemon-reload`, made of `DeviceAllow`, which cannot say as much. Where ours can be pinned,
//! `BPFProgram` has systemd attach that too, and `DeviceAllow` may be wider; else it is narrower, as runc's.

use crate::cgroup::devices::unit::{DeviceAllow, Policy, policy};
use crate::cgroup::limits::Limits;
use crate::error::Result;
use crate::plan::cgroupfs::Unit;

use super::{PROGRAM, Property, Value, text};

pub(super) fn properties(unit: &Unit, limits: &Limits) -> Result<Vec<Property>> {
    let Some(rules) = &limits.devices else { return Ok(Vec::new()) };
    let (policy, list) = match policy(rules, unit.program.is_some())? {
        Policy::Auto => ("auto", Vec::new()),
        Policy::Strict(list) => ("strict", list),
    };
    let pairs = |list: Vec<(String, String)>| Value::Pairs(list);
    let allow = list.into_iter().map(|DeviceAllow { node, access }| (node, access)).collect::<Vec<_>>();
    // the empty list takes back what was allowed before
    let mut properties = vec![text("DevicePolicy", policy), Property::new("DeviceAllow", pairs(Vec::new()))];
    if !allow.is_empty() {
        properties.push(Property::new("DeviceAllow", pairs(allow)));
    }
    if let Some(path) = &unit.program {
        let program = ("device".to_owned(), path.to_string_lossy().into_owned());
        let mut property = Property::new(PROGRAM, pairs(vec![program]));
        property.optional = true;
        properties.push(property);
    }
    Ok(properties)
}
