//! Device rules as systemd is told them.
//!
//! Whatever is attached to a cgroup has to allow an access. Ours says exactly what the rules say; systemd attaches
//! its own again on every `daemon-reload`. Made of `DeviceAllow`, which cannot say as much, that would refuse what
//! the container has; so where our program can be pinned, `BPFProgram` has systemd attach that and nothing else, as
//! crun does. An update only pins the new one there: systemd keeps each that it was told of open until the scope ends.

use crate::cgroup::devices::unit::{DeviceAllow, Policy, policy};
use crate::cgroup::limits::Limits;
use crate::error::Result;
use crate::plan::cgroupfs::Unit;

use super::{PROGRAM, Property, Value, text};

pub(super) fn properties(unit: &Unit, limits: &Limits) -> Result<Vec<Property>> {
    let Some(rules) = &limits.devices else { return Ok(Vec::new()) };
    if unit.program.is_some() {
        return Ok(Vec::new());
    }
    let (policy, list) = match policy(rules, false)? {
        Policy::Auto => ("auto", Vec::new()),
        Policy::Strict(list) => ("strict", list),
    };
    let allow = list.into_iter().map(|DeviceAllow { node, access }| (node, access)).collect::<Vec<_>>();
    // the empty list takes back what was allowed before
    let lists = [Vec::new(), allow].map(|list| Property::new("DeviceAllow", Value::Pairs(list)));
    Ok([text("DevicePolicy", policy)].into_iter().chain(lists).collect())
}

/// Of a new scope.
pub(super) fn program(unit: &Unit, limits: &Limits) -> Option<Property> {
    let path = unit.program.as_ref().filter(|_| limits.devices.is_some())?;
    let program = ("device".to_owned(), path.to_string_lossy().into_owned());
    let mut property = Property::new(PROGRAM, Value::Pairs(vec![program]));
    property.optional = true;
    Some(property)
}
