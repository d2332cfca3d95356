//! `/linux/resources` as what is to be written to which file of a cgroup. Pure: no I/O, no system calls.

pub mod convert;
mod v1;
mod v2;

use serde::Serialize;

use crate::config::resources::{DeviceRule, Resources};
use crate::error::Result;

pub use super::devices::rules::with_defaults;

/// Which interface the files are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// One write to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Whose file: `memory`. On v1 this names the hierarchy.
    pub controller: String,
    pub file: String,
    pub value: String,
    /// JSON pointer.
    pub pointer: String,
}

/// All that limits a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Limits {
    /// In the order of writing.
    pub settings: Vec<Setting>,
    /// The whole list, defaults among them; None: devices stay as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<DeviceRule>>,
    /// A memory limit below what is used now is refused: `checkBeforeUpdate`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check_memory: bool,
}

impl Limits {
    /// Those of a new container: device rules are always among them.
    ///
    /// # Errors
    /// What `version` cannot express.
    pub fn new(resources: &Resources, version: Version) -> Result<Self> {
        let mut limits = Self::change(resources, version)?;
        limits.devices = Some(with_defaults(&resources.devices));
        Ok(limits)
    }

    /// Those that `resources` name, for a container that exists.
    ///
    /// # Errors
    /// What `version` cannot express.
    pub fn change(resources: &Resources, version: Version) -> Result<Self> {
        let settings = match version {
            Version::V1 => v1::settings(resources)?,
            Version::V2 => v2::settings(resources)?,
        };
        let devices = (!resources.devices.is_empty()).then(|| with_defaults(&resources.devices));
        Ok(Self { settings, devices, check_memory: resources.memory.check_before_update })
    }
}
