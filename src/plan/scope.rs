//! Where systemd makes the container's cgroups: `slice:prefix:name`.

use std::path::Path;

use crate::error::{Error, Result};
use crate::host::Host;

use super::cgroupfs::Placement;

/// `/linux/cgroupsPath` as systemd's users write it.
///
/// # Errors
/// It is a path; there are no cgroups.
pub fn place(_cgroups_path: Option<&Path>, _id: &str, _host: &Host) -> Result<Placement> {
    Err(Error::new("the systemd cgroup driver is not built yet").hint("leave out --systemd-cgroup"))
}
