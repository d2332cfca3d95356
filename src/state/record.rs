//! The record of a container, and the documents made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hooks::Hook;
use crate::plan::cgroupfs::Placement;

use super::process::Process;

/// The layout of [`Record`]; a record of another version is not touched.
pub const VERSION: u32 = 1;

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub id: String,
    pub phase: Phase,
    pub oci_version: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    /// The uid that created it.
    pub owner: u32,
    /// The init, from phase `created` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Process>,
    /// Its pid namespace is its own: when the init is gone, so is everything in it.
    #[serde(default)]
    pub own_pid_namespace: bool,
    /// It has a user namespace that its config.json does not ask for: its creator had no privileges.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
    /// A process of it gets no session keyring of the container's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_new_keyring: bool,
    /// SELinux's, of the socket for notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket_label: Option<String>,
    pub placement: Placement,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The hooks that later commands run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// How far the creator got. What a process is doing now is derived, never stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// With a free lock: the creator died.
    Creating,
    Created,
}

/// runtime.md, State, and runc's `paused`; that and `stopped` are derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The state document that hooks read: runtime.md, State.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciState<'a> {
    oci_version: &'a str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "is_none")]
    pid: i32,
    bundle: &'a PathBuf,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

fn is_none(pid: &i32) -> bool {
    *pid == 0
}

impl Record {
    /// From the bytes of a `state.json`.
    ///
    /// # Errors
    /// It is none, or one of another version of this program.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let record: Self = serde_json::from_slice(bytes).map_err(|error| Error::new(error.to_string()))?;
        if record.version != VERSION {
            return Err(Error::new(format!("its version is {}, this program knows {VERSION}", record.version)));
        }
        Ok(record)
    }

    /// The state document in the field's own form; `pid` 0 is left out.
    pub fn oci_state(&self, status: &str, pid: i32) -> String {
        let state = OciState {
            oci_version: &self.oci_version,
            id: &self.id,
            status,
            pid,
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        serde_json::to_string(&state).unwrap_or_default()
    }

    pub fn pid(&self) -> i32 {
        self.init.map_or(0, |init| init.pid)
    }
}
