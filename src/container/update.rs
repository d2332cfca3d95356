//! `update`: other limits for a container that exists.

use crate::cgroup;
use crate::cgroup::limits::{Limits, Version};
use crate::config::resources::Resources;
use crate::error::{Context, Error, Result};
use crate::plan::cgroupfs::Hierarchies;
use crate::state::record::{Record, Status};
use crate::state::store::Store;

/// Sets what `resources` name; the rest stays. A failure leaves all as it was.
///
/// # Errors
/// `does not exist`; `container not running`; a limit that this host cannot apply.
pub fn update(store: &Store, id: &str, resources: &Resources) -> Result<()> {
    let entry = store.enter(id)?;
    entry.lock()?;
    let record = entry.load_created()?;
    let update = || match entry.status(&record)? {
        Status::Creating | Status::Stopped => Err(Error::new("container not running")),
        Status::Created | Status::Running | Status::Paused => change(&record, resources),
    };
    update().context(|| format!("update {id}"))
}

fn change(record: &Record, resources: &Resources) -> Result<()> {
    let version = match &record.placement.hierarchies {
        Hierarchies::V1 { .. } => Version::V1,
        Hierarchies::V2 { .. } => Version::V2,
        Hierarchies::None if *resources == Resources::default() => return Ok(()),
        Hierarchies::None => return Err(Error::new("the container has no cgroup that could limit it")),
    };
    let limits = Limits::change(resources, version)?;
    cgroup::update(&record.placement, &limits, version)
}
