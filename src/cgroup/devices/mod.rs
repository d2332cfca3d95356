//! Which devices a container may use: lists on v1, one eBPF program on v2.

pub mod emulate;
pub mod lists;
pub mod program;
pub mod rules;
pub mod unit;
mod v1;
mod v2;

use std::path::Path;

use crate::config::resources::DeviceRule;
use crate::error::{Error, Result};
use crate::plan::cgroupfs::{Hierarchies, Placement};

use super::v1::has_controller;

pub use v2::{pin, unpin};

/// PROC_USER_INIT_INO: the inode of the initial user namespace.
const INITIAL_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Makes `rules` the whole truth about cgroups that nobody uses yet.
///
/// # Errors
/// What v1 cannot express, or its parent forbids; no privilege for eBPF on v2.
pub(super) fn apply(placement: &Placement, rules: &[DeviceRule]) -> Result<()> {
    set(placement, rules, v1::make)
}

/// The same for cgroups in use. What a device is used for that stays allowed is never refused meanwhile, and
/// nothing is ever allowed that neither the old rules nor the new ones allow.
///
/// # Errors
/// As [`apply`].
pub(super) fn update(placement: &Placement, rules: &[DeviceRule]) -> Result<()> {
    set(placement, rules, v1::change)
}

type V1 = fn(&Placement, &Path, &[DeviceRule]) -> Result<()>;

fn set(placement: &Placement, rules: &[DeviceRule], v1: V1) -> Result<()> {
    let done = match &placement.hierarchies {
        Hierarchies::None => Ok(()),
        Hierarchies::V1 { directories } => match directories.iter().find(|one| has_controller(one, "devices")) {
            Some(directory) => v1(placement, directory, rules),
            None => no_controller(rules),
        },
        Hierarchies::V2 { directory } => v2::set(directory, rules),
    };
    match done {
        Err(error) if error.errno() == Some(libc::EPERM) && in_user_namespace() => {
            // what cannot be had there: whoever made the namespace decides about devices, and no device node can
            // be made in it
            tracing::warn!("{error}: device rules are left out in a user namespace");
            Ok(())
        }
        done => done,
    }
}

/// The defaults are not worth a failure.
fn no_controller(rules: &[DeviceRule]) -> Result<()> {
    match rules.iter().find_map(|rule| rule.pointer.as_deref()) {
        None => Ok(()),
        Some(pointer) => Err(Error::new("the devices controller of cgroup v1 is not mounted")
            .at(pointer)
            .hint("mount it below /sys/fs/cgroup")),
    }
}

fn in_user_namespace() -> bool {
    rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != INITIAL_USER_NAMESPACE)
}
