//! A build without the feature `systemd`. Its plans have no units; a record of another build may.

use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::cgroupfs::Unit;

use super::unit::Property;

fn absent<T>() -> Result<T> {
    Err(Error::new("this ferrun was built without systemd"))
}

/// There is none.
pub struct Scope<'a>(&'a Unit);

impl<'a> Scope<'a> {
    pub(in crate::cgroup) fn reach(unit: &'a Unit) -> Result<Self> {
        absent().map(|()| Self(unit))
    }

    pub(in crate::cgroup) fn make(self, _: &[Property], _: i32, _: impl FnOnce() -> Result<()>) -> Result<()> {
        absent().map_err(|error: Error| error.within(format!("start scope {}", self.0.name)))
    }
}

pub(in crate::cgroup) fn attach(_: &Unit, _: &Path, _: i32) -> Result<()> {
    absent()
}

pub(in crate::cgroup) fn set(_: &Unit, _: &[Property]) -> Result<()> {
    absent()
}

pub(in crate::cgroup) fn stop(_: &Unit) -> Result<()> {
    absent()
}

pub(in crate::cgroup) fn stop_unused(_: &Unit) -> Result<bool> {
    absent()
}
