//! The files `devices.allow`, `devices.deny` and `devices.list`.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::cgroup::{freezer, read};
use crate::config::resources::{DeviceRule, RuleKind};
use crate::error::{Call, Context, Error, Result};
use crate::plan::cgroupfs::Placement;

use super::emulate::{MKNOD, READ, WRITE, bits};
use super::lists::{Devices, List, Write};

/// For a cgroup without processes: what its parent handed down is not even looked at.
pub(super) fn make(placement: &Placement, directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let list = List::of(rules)?;
    match write_all(directory, &list.anew(), rules) {
        // the default cannot change above children, but there may be no need
        Err(error) if error.errno() == Some(libc::EINVAL) => change(placement, directory, rules),
        result => result,
    }
}

/// For a cgroup in use.
pub(super) fn change(placement: &Placement, directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let list = List::of(rules)?;
    let old = List::parse(&read(directory, "devices.list")?);
    if let Some(writes) = list.change(&old) {
        return write_all(directory, &writes, rules);
    }
    let writes = list.anew();
    let everything = list.allow && list.exceptions.is_empty();
    if everything || freezer::is_frozen(placement) {
        return write_all(directory, &writes, rules);
    }
    // all rules go before the first new one comes: nobody may be there to see it
    freezer::freeze(placement).context(|| "change what all devices are".to_owned())?;
    let written = write_all(directory, &writes, rules);
    freezer::thaw(placement).and(written)
}

fn write_all(directory: &Path, writes: &[Write], rules: &[DeviceRule]) -> Result<()> {
    let mut files = Files { directory, allow: None, deny: None };
    for one in writes {
        match files.write(one) {
            Err(Errno::PERM) if one.allow => piecewise(&mut files, one, rules)?,
            result => result.call(|| files.call(one)).context(|| "set the device rules".to_owned())?,
        }
    }
    Ok(())
}

/// A cgroup can allow no more than its parent does. What the container asked for has to be had; of the
/// runtime's own rules, as much as there is.
fn piecewise(files: &mut Files<'_>, refused: &Write, rules: &[DeviceRule]) -> Result<()> {
    let failed = |files: &Files<'_>, write: &Write, rule: Option<&DeviceRule>| {
        let pointer = rule.and_then(|rule| rule.pointer.as_deref()).unwrap_or("/linux/resources/devices");
        Error::os(files.call(write), Errno::PERM)
            .within("set the device rules")
            .at(pointer)
            .hint("the parent cgroup forbids it")
    };
    let Some((devices, all)) = refused.what else {
        return Err(failed(files, refused, rules.iter().rev().find(|rule| rule.allow && rule.kind == RuleKind::All)));
    };
    for bit in [READ, WRITE, MKNOD].into_iter().filter(|bit| all & bit != 0) {
        let one = Write { allow: true, what: Some((devices, bit)) };
        match files.write(&one) {
            Err(Errno::PERM) => match wanted(rules, devices, bit) {
                Some(rule) => return Err(failed(files, refused, Some(rule))),
                None => tracing::debug!("the parent cgroup forbids {one}, which every container should have"),
            },
            result => result.call(|| files.call(&one))?,
        }
    }
    Ok(())
}

/// The container's own rule that asks for this.
fn wanted(rules: &[DeviceRule], devices: Devices, bit: u8) -> Option<&DeviceRule> {
    let other = if devices.block { RuleKind::Char } else { RuleKind::Block };
    let covers = |rule: Option<u32>, device: Option<u32>| rule.is_none() || rule == device;
    let about = |rule: &DeviceRule| {
        rule.kind != other && covers(rule.major, devices.major) && covers(rule.minor, devices.minor)
    };
    let mut own = rules.iter().rev().filter(|rule| rule.pointer.is_some() && bits(rule.access) & bit != 0);
    own.find(|rule| about(rule)).filter(|rule| rule.allow)
}

/// Each opened once.
struct Files<'a> {
    directory: &'a Path,
    allow: Option<OwnedFd>,
    deny: Option<OwnedFd>,
}

impl Files<'_> {
    fn write(&mut self, write: &Write) -> Result<(), Errno> {
        let name = name(write);
        let slot = if write.allow { &mut self.allow } else { &mut self.deny };
        let fd = match slot.take() {
            Some(fd) => fd,
            None => open(self.directory.join(name), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?,
        };
        rustix::io::write(slot.insert(fd), write.to_string().as_bytes()).map(drop)
    }

    fn call(&self, write: &Write) -> String {
        format!("write {write} to {}", self.directory.join(name(write)).display())
    }
}

fn name(write: &Write) -> &'static str {
    if write.allow { "devices.allow" } else { "devices.deny" }
}
