//! What a bind of the host's may be beside a plain one.

use serde::Serialize;

use super::AssetId;

/// Whose ids a tree shows instead of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TreeIdmap {
    /// A user namespace, opened before the tree.
    pub users: AssetId,
    pub recursive: bool,
}

/// What a symlink is at the end of a bind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SymlinkRule {
    /// The destination is what it leads to.
    #[default]
    Follow,
    /// One that is the destination is mounted on.
    Cover,
    /// A tree that is one is made anew at the destination, not mounted.
    Copy,
}

impl SymlinkRule {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
