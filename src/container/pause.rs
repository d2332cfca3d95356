//! `pause` and `resume`.

use crate::cgroup::freezer;
use crate::error::{Context, Error, Result};
use crate::state::record::Status;
use crate::state::store::Store;

/// Stops all processes of a container where they are.
///
/// # Errors
/// `does not exist`; `container not running`; a process does not stop, and then none is.
pub fn pause(store: &Store, id: &str) -> Result<()> {
    let entry = store.enter(id)?;
    entry.lock()?;
    let record = entry.load_created()?;
    let pause = || {
        match entry.status(&record)? {
            Status::Created | Status::Running => {}
            Status::Paused => return Err(Error::new("container not running").hint("it is paused already")),
            Status::Creating | Status::Stopped => return Err(Error::new("container not running")),
        }
        freezer::freeze(&record.placement)?;
        // the end may have come first: who is told "paused" finds a paused container
        if !record.init.is_some_and(|init| init.is_alive()) {
            freezer::thaw(&record.placement)?;
            return Err(Error::new("container not running").hint("its process has just ended"));
        }
        Ok(())
    };
    pause().context(|| format!("pause {id}"))
}

/// Lets them go on.
///
/// # Errors
/// `does not exist`; `container not paused`.
pub fn resume(store: &Store, id: &str) -> Result<()> {
    let entry = store.enter(id)?;
    entry.lock()?;
    let record = entry.load_created()?;
    let resume = || match entry.status(&record)? {
        Status::Paused => freezer::thaw(&record.placement),
        _ => Err(Error::new("container not paused")),
    };
    resume().context(|| format!("resume {id}"))
}
