//! What differs by who asks: what is written and allowed for a user namespace (user_namespaces(7)).

use serde::Serialize;

use crate::config::IdMaps;

/// How likely the kernel ends this process when memory runs out: proc_pid_oom_score_adj(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OomScoreAdj {
    pub value: i32,
    /// Lowering it takes a privilege that rootless callers do not have: then it stays, and that is said.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub or_warn: bool,
}

/// What the parent writes for a new user namespace, when the process in it asks for that.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WriteMaps {
    #[serde(flatten)]
    pub maps: IdMaps,
    pub how: MapWriter,
}

/// user_namespaces(7): who may map what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MapWriter {
    /// CAP_SETUID and CAP_SETGID: whatever is mapped here.
    Direct,
    /// One's own ids alone, and only after setgroups(2) is given up.
    OwnIds,
    /// newuidmap(1) and newgidmap(1): what /etc/subuid and /etc/subgid give.
    Helpers,
}

/// Whether setgroups(2) may be called: user_namespaces(7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Setgroups {
    #[default]
    Allowed,
    /// A user namespace whose maker could not drop groups may forbid it: then the caller's stay, as nothing can be done
    /// about them.
    MayBeDenied,
}

impl Setgroups {
    pub(super) fn is_allowed(&self) -> bool {
        *self == Self::Allowed
    }
}
