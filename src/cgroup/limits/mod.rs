//! `/linux/resources` as what is to be written to which file of a cgroup. Pure: no I/O, no system calls.

pub mod convert;
mod v1;
mod v2;

use std::fmt::Display;

use serde::Serialize;

use crate::config::resources::{DeviceRule, Resources};
use crate::error::{Error, Result};

use super::devices;

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
    #[serde(skip_serializing_if = "Rule::is_plain")]
    pub rule: Rule,
}

/// How a setting is written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The file has to be there, and the value is the whole.
    #[default]
    Plain,
    /// Where the file is missing, the kernel has nothing to limit.
    IfThere,
    /// Where the file is missing, this one has the same meaning.
    Or { file: String, value: String },
    /// The value is memory and swap together: the memory limit in force is taken off.
    LessMemory,
    /// The value is the period only: the quota in force stays in front of it.
    BehindQuota,
}

impl Rule {
    fn is_plain(&self) -> bool {
        *self == Self::Plain
    }
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
    /// What this version has no file for and runc leaves out, for a log at level debug.
    #[serde(skip)]
    pub notes: Vec<String>,
}

impl Limits {
    /// Those of a new container: device rules are always among them.
    ///
    /// # Errors
    /// What `version` cannot express.
    pub fn new(resources: &Resources, version: Version) -> Result<Self> {
        Self::make(resources, version, true)
    }

    /// Those that `resources` name, for a container that exists. Pointers count from the document of the update.
    ///
    /// # Errors
    /// What `version` cannot express.
    pub fn change(resources: &Resources, version: Version) -> Result<Self> {
        Self::make(resources, version, false)
    }

    /// Whether memory is limited.
    pub fn memory(&self) -> bool {
        self.settings.iter().any(|setting| ["memory.max", "memory.limit_in_bytes"].contains(&setting.file.as_str()))
    }

    fn make(resources: &Resources, version: Version, new: bool) -> Result<Self> {
        let mut draft = Draft { new, settings: Vec::new(), notes: Vec::new() };
        match version {
            Version::V1 => v1::settings(&mut draft, resources)?,
            Version::V2 => v2::settings(&mut draft, resources)?,
        }
        let devices = (new || !resources.devices.is_empty()).then(|| with_defaults(&resources.devices));
        if let (Some(rules), Version::V1) = (&devices, version) {
            devices::lists::check(rules)?;
        }
        let Draft { settings, notes, .. } = draft;
        Ok(Self { settings, devices, check_memory: resources.memory.check_before_update, notes })
    }
}

/// Limits in the making.
struct Draft {
    /// For a new container: nothing is in force yet.
    new: bool,
    settings: Vec<Setting>,
    notes: Vec<String>,
}

impl Draft {
    fn pointer(&self, place: &str) -> String {
        format!("{}/{place}", if self.new { "/linux/resources" } else { "" })
    }

    fn set(&mut self, place: &str, file: impl Into<String>, value: impl Display) {
        self.set_by(place, file, value, Rule::Plain);
    }

    /// `place` is the property below `/linux/resources`; the controller is what the file's name begins with.
    fn set_by(&mut self, place: &str, file: impl Into<String>, value: impl Display, rule: Rule) {
        let file = file.into();
        let controller = file.split('.').next().unwrap_or_default().to_owned();
        let (pointer, value) = (self.pointer(place), value.to_string());
        self.settings.push(Setting { controller, file, value, pointer, rule });
    }

    fn note(&mut self, given: bool, place: &str, version: &str) {
        if given {
            self.notes.push(format!("{} is left out: cgroup {version} has no such limit", self.pointer(place)));
        }
    }

    fn error(&self, place: &str, words: &str) -> Error {
        Error::new(words).at(self.pointer(place))
    }
}

/// A limit of v2, and of `pids` in both: -1 is `max`.
fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// 0 tasks as 1, which means the same to whoever is in the cgroup: systemd has no 0, and so has runc.
fn tasks(limit: i64) -> String {
    or_max(if limit == 0 { 1 } else { limit })
}

/// `8:0 VALUE`.
fn for_device(major: u32, minor: u32, value: impl Display) -> String {
    format!("{major}:{minor} {value}")
}

/// A key as a step of a JSON pointer: RFC 6901.
fn step(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// The two files of each huge page size; kernels before 5.7 had no reservations.
fn hugetlb(draft: &mut Draft, resources: &Resources, suffix: &str) {
    for (index, limit) in resources.hugepage_limits.iter().enumerate() {
        let place = format!("hugepageLimits/{index}/limit");
        let size = &limit.page_size;
        draft.set(&place, format!("hugetlb.{size}.{suffix}"), limit.limit);
        draft.set_by(&place, format!("hugetlb.{size}.rsvd.{suffix}"), limit.limit, Rule::IfThere);
    }
}

/// rdma.rst. The same file in both versions.
fn rdma(draft: &mut Draft, resources: &Resources) {
    for rdma in &resources.rdma {
        let limit = |name: &str, limit: Option<u32>| limit.map(|limit| format!(" {name}={limit}")).unwrap_or_default();
        let limits = limit("hca_handle", rdma.hca_handles) + &limit("hca_object", rdma.hca_objects);
        draft.set(&format!("rdma/{}", step(&rdma.device)), "rdma.max", format!("{}{limits}", rdma.device));
    }
}
