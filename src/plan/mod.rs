//! The complete, flat list of what a birth will do, made by a pure function: no I/O, no system calls.

pub mod cgroupfs;
pub mod create;
mod devices;
pub mod exec;
mod identity;
mod labels;
mod limits;
mod mounts;
mod namespaces;
mod process;
pub mod scope;
mod show;
pub mod step;

use std::path::PathBuf;

use serde::Serialize;

use crate::cgroup::limits::Limits;
use crate::cgroup::systemd::unit::Property;

use cgroupfs::Placement;
use step::{Asset, AssetEntry, AssetId, Entry, Spawn, Step, TuneEntry, WriteMaps};

/// What the caller asks for beside config.json.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Request {
    pub id: String,
    /// Absolute.
    pub bundle: PathBuf,
    /// Absolute, links resolved.
    pub rootfs: PathBuf,
    pub start: Start,
    pub console: Console,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// How many fds after the standard ones the container inherits.
    pub preserve_fds: u32,
    /// Added after the container's own environment.
    pub env: Vec<String>,
    /// The directory of the socket through which the container notifies us.
    pub notify: Option<PathBuf>,
    pub manager: Manager,
    /// The caller is no root of the machine: what only root may do is done without, where that changes nothing of what
    /// the container is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub rootless: bool,
    /// The user namespace is not config.json's: the caller has no privileges.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
    /// An exec in a container that may trace whatever it sees.
    pub traced: bool,
}

/// Who makes the cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// We do.
    #[default]
    Cgroupfs,
    Systemd,
    /// Nobody: the container stays in the cgroup of the caller.
    Disabled,
    /// Likewise, but not because it was asked for: this user may make none.
    Refused,
}

/// Who starts the user's program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// A later `start`, through the FIFO.
    #[default]
    Later,
    /// This very process, through the channel.
    Now,
}

/// Where a terminal's master goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Console {
    #[default]
    None,
    /// To the socket at this path.
    Socket(PathBuf),
    /// To this process, which relays.
    Relay,
}

/// A birth as data.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    pub placement: Placement,
    pub limits: Limits,
    /// The user that the cgroup is given to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_owner: Option<u32>,
    /// What systemd is told of the scope.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub properties: Vec<Property>,
    pub assets: Vec<AssetEntry>,
    pub spawn: Spawn,
    /// Of the new user namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_maps: Option<WriteMaps>,
    /// By the parent, as soon as the child exists.
    pub after_clone: Vec<TuneEntry>,
    /// By the init, in this order.
    pub steps: Vec<Entry>,
    /// By the parent, when the init is ready.
    pub at_ready: Vec<TuneEntry>,
    /// SELinux's label of the socket for notifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_label: Option<String>,
    /// What is left out by rule, for the log.
    pub warnings: Vec<String>,
    /// What a log at level debug wants to know.
    #[serde(skip)]
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether the process that the clone makes is a courier: another one takes its place.
    pub fn is_reborn(&self) -> bool {
        self.steps.iter().any(|entry| matches!(entry.step, Step::Reborn { .. }))
    }
}

/// A plan in the making.
#[derive(Debug, Default)]
struct Draft {
    assets: Vec<AssetEntry>,
    steps: Vec<Entry>,
    warnings: Vec<String>,
    notes: Vec<String>,
}

impl Draft {
    fn asset(&mut self, asset: Asset, pointer: Option<String>) -> AssetId {
        self.assets.push(AssetEntry { asset, pointer });
        AssetId(self.assets.len() - 1)
    }

    fn step(&mut self, step: Step) {
        self.steps.push(Entry { step, pointer: None });
    }

    fn step_at(&mut self, pointer: impl Into<String>, step: Step) {
        self.steps.push(Entry { step, pointer: Some(pointer.into()) });
    }
}
