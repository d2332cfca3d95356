//! A scope as data: its properties by systemd.resource-control(5). Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cgroup::limits::{Limits, Version};
use crate::config::resources::Resources;
use crate::error::Result;
use crate::plan::cgroupfs::Unit;

/// One property of a unit, as systemd's bus takes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Property {
    pub name: String,
}

/// The properties of a new scope: what it is, the limits, and `org.systemd.property.*`.
///
/// # Errors
/// An annotation that is not on the list, or is no value.
pub fn properties(
    _unit: &Unit,
    _resources: &Resources,
    _limits: &Limits,
    _annotations: &BTreeMap<String, String>,
    _version: Version,
) -> Result<Vec<Property>> {
    Ok(Vec::new())
}

/// The properties that an update changes.
///
/// # Errors
/// As [`properties`].
pub fn changes(_resources: &Resources, _limits: &Limits, _version: Version) -> Result<Vec<Property>> {
    Ok(Vec::new())
}
