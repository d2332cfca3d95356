//! A scope as data: its properties by systemd.resource-control(5). Pure.

mod annotations;
mod devices;
mod resources;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::cgroup::limits::{Limits, Version};
use crate::error::Result;
use crate::plan::cgroupfs::Unit;

/// One property of a unit, as systemd's bus takes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Property {
    pub name: String,
    pub value: Value,
    /// An older systemd may refuse it: a file of the cgroup says the same.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// JSON pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

/// The types that properties of scopes have.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Bool(bool),
    I32(i32),
    /// [`INFINITY`] is no limit.
    #[serde(serialize_with = "infinite")]
    U64(u64),
    Text(String),
    Texts(Vec<String>),
    /// A set of numbers: bit 0 of the first byte is number 0.
    Mask(Vec<u8>),
    /// Devices and what each may have.
    Rates(Vec<(String, u64)>),
    Pairs(Vec<(String, String)>),
    Pids(Vec<u32>),
}

/// The property that names a pinned program, since systemd 249.
pub const PROGRAM: &str = "BPFProgram";

/// How systemd writes that there is no limit.
pub const INFINITY: u64 = u64::MAX;

fn infinite<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    if *number == INFINITY { serializer.serialize_str("infinity") } else { serializer.serialize_u64(*number) }
}

impl Property {
    pub fn new(name: impl Into<String>, value: Value) -> Self {
        Self { name: name.into(), value, optional: false, pointer: None }
    }
}

fn text(name: &str, value: impl Into<String>) -> Property {
    Property::new(name, Value::Text(value.into()))
}

fn yes(name: &str) -> Property {
    Property::new(name, Value::Bool(true))
}

/// The properties of a new scope: what it is, `org.systemd.property.*`, and the limits, which count before
/// annotations of the same name.
///
/// # Errors
/// An annotation that is not on the list, or is no value; a cpuset that is none.
pub fn properties(
    unit: &Unit,
    limits: &Limits,
    annotations: &BTreeMap<String, String>,
    version: Version,
) -> Result<Vec<Property>> {
    let io = match version {
        Version::V1 => "BlockIOAccounting",
        Version::V2 => "IOAccounting",
    };
    let name = unit.name.strip_suffix(".scope").unwrap_or(&unit.name);
    let mut properties = vec![
        text("Description", format!("ferrun container {name}")),
        text("Slice", &unit.slice),
        yes("Delegate"),
        Property::new("DefaultDependencies", Value::Bool(false)),
        yes("CPUAccounting"),
        yes("MemoryAccounting"),
        yes(io),
        yes("TasksAccounting"),
    ];
    for property in annotations::properties(annotations)?.into_iter().chain(resources::properties(limits, version)?) {
        properties.retain(|earlier| meaning(&earlier.name) != meaning(&property.name));
        properties.push(property);
    }
    properties.extend(resources::oom_policy(limits));
    properties.extend(devices::properties(unit, limits)?);
    properties.extend(devices::program(unit, limits));
    Ok(properties)
}

/// Version 1's limits have names of their own, and systemd prefers version 2's.
fn meaning(name: &str) -> &str {
    match name {
        "MemoryLimit" => "MemoryMax",
        "CPUShares" => "CPUWeight",
        "BlockIOWeight" => "IOWeight",
        name => name,
    }
}

/// The properties that an update changes.
///
/// # Errors
/// As [`properties`].
pub fn changes(unit: &Unit, limits: &Limits, version: Version) -> Result<Vec<Property>> {
    let mut properties = resources::properties(limits, version)?;
    properties.extend(devices::properties(unit, limits)?);
    Ok(properties)
}
