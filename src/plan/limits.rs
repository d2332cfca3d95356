//! What the container's cgroups allow, and whose they are.

use crate::cgroup::limits::{Limits, Version};
use crate::cgroup::systemd::unit::{self, Property};
use crate::config::resources::Resources;
use crate::config::{Config, MountSource, Namespace, to_host};
use crate::error::{Error, Result};
use crate::host::{Cgroups, Host};

use super::cgroupfs::{Hierarchies, Placement};
use super::mounts::MOUNT_ATTR_RDONLY;
use super::{Draft, Manager, Request};

/// What the cgroups are to allow, for whoever makes them.
pub(super) fn limits(
    draft: &mut Draft,
    config: &Config,
    host: &Host,
    request: &Request,
    placement: &Placement,
) -> Result<(Limits, Vec<Property>)> {
    let version = match &placement.hierarchies {
        Hierarchies::V1 { .. } => Version::V1,
        Hierarchies::V2 { .. } => Version::V2,
        Hierarchies::None if config.resources == Resources::default() => return Ok(Default::default()),
        Hierarchies::None if request.manager == Manager::Disabled => {
            draft.warnings.push("linux.resources is left out: the container gets no cgroup".to_owned());
            return Ok(Default::default());
        }
        Hierarchies::None if request.manager == Manager::Refused => {
            refuse(config, host)?;
            draft.warnings.push(format!("{}: the container gets none", why_none(host)));
            return Ok(Default::default());
        }
        Hierarchies::None => {
            return Err(Error::new("this host has no cgroups")
                .at("/linux/resources")
                .hint("--cgroup-manager disabled leaves the limits out"));
        }
    };
    let mut limits = Limits::new(&config.resources, version)?;
    if request.rootless && (host.identity.nested || !host.is_privileged()) {
        // without the right to load a program; in a user namespace no device can be made, and none opened by another's
        limits.devices = None;
    }
    let properties = match &placement.unit {
        Some(unit) => unit::properties(unit, &limits, &config.annotations, version)?,
        None => Vec::new(),
    };
    Ok((limits, properties))
}

fn why_none(host: &Host) -> &'static str {
    if matches!(host.cgroups, Cgroups::None) { "there are no cgroups here" } else { "this user may not make cgroups" }
}

/// Without a cgroup nothing limits, and whoever asks for limits relies on them.
fn refuse(config: &Config, host: &Host) -> Result<()> {
    let version = if matches!(host.cgroups, Cgroups::V1 { .. }) { Version::V1 } else { Version::V2 };
    let limits = Limits::new(&config.resources, version)?;
    let Some(first) = limits.settings.first() else { return Ok(()) };
    let hint = match host.cgroups {
        Cgroups::None => "--cgroup-manager disabled leaves the limits out",
        Cgroups::V1 { .. } => "cgroup v1 cannot be delegated to an unprivileged user",
        Cgroups::V2 { .. } => "with --systemd-cgroup the user's own systemd makes them",
    };
    Err(Error::new(format!("limits are asked for, and {}", why_none(host))).at(first.pointer.clone()).hint(hint))
}

/// config-linux.md, Cgroup ownership: on v2, a container with a cgroup namespace of its own that is shown its cgroup
/// writable may make cgroups in it; one that is not root needs to own it for that.
pub(super) fn cgroup_owner(config: &Config, placement: &Placement) -> Option<u32> {
    let writable = |mount: &crate::config::Mount| {
        mount.source == MountSource::Cgroup && mount.options.attr.set & MOUNT_ATTR_RDONLY == 0
    };
    let delegated = matches!(placement.hierarchies, Hierarchies::V2 { .. })
        && config.namespaces.cgroup.is_new()
        && config.mounts.iter().any(writable);
    let uid = config.process.user.uid;
    match config.namespaces.user {
        Namespace::Host => Some(uid).filter(|uid| delegated && *uid != 0),
        _ => to_host(&config.id_maps.uids, uid).filter(|_| delegated),
    }
}
