//! systemd as the one who makes cgroups: transient scopes, over its bus.

pub mod unit;

#[cfg(feature = "systemd")]
mod address;
#[cfg(feature = "systemd")]
mod bus;
#[cfg_attr(not(feature = "systemd"), path = "absent.rs")]
mod manager;

pub use manager::Scope;
pub(super) use manager::{attach, set, stop, stop_unused};
