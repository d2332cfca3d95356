//! `/linux/devices`.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::at::{At, ROOT};
use super::process::check_id;
use super::{Device, DeviceKind, IdMaps};
use crate::error::Result;

/// dev_t in the kernel: 12 bits and 20 bits.
pub(super) const MAX_MAJOR: u32 = (1 << 12) - 1;
pub(super) const MAX_MINOR: u32 = (1 << 20) - 1;

pub(super) fn check(devices: &[LinuxDevice], at: &At) -> Result<Vec<Device>> {
    let mut checked: Vec<Device> = Vec::with_capacity(devices.len());
    for (index, spec) in devices.iter().enumerate() {
        let device = check_device(spec, &at.index(index))?;
        match checked.iter().find(|earlier| earlier.path == device.path) {
            None => checked.push(device),
            // managers name default devices twice; the first counts, as with runc
            Some(earlier)
                if (earlier.kind, earlier.major, earlier.minor) == (device.kind, device.major, device.minor) => {}
            Some(earlier) => {
                let right = format!("another path than that of {}, another device", earlier.pointer);
                return Err(at.index(index).key("path").must(&right, &device.path));
            }
        }
    }
    Ok(checked)
}

/// Only a FIFO is made in a user namespace: what else is bound there has the owner that it has on the host.
pub(super) fn check_ids(devices: &[Device], maps: &IdMaps) -> Result<()> {
    let at = ROOT.key("linux");
    let at = at.key("devices");
    for (index, device) in devices.iter().enumerate().filter(|(_, device)| device.kind == DeviceKind::Fifo) {
        let at = at.index(index);
        maps.check_uid(device.uid, &at.key("uid"))?;
        maps.check_gid(device.gid, &at.key("gid"))?;
    }
    Ok(())
}

fn check_device(spec: &LinuxDevice, at: &At) -> Result<Device> {
    if spec.path().as_os_str().is_empty() {
        return Err(at.key("path").missing());
    }
    let path = at.key("path").inside(spec.path())?;
    if path.file_name().is_none() {
        return Err(at.key("path").must("below the root itself", spec.path()));
    }
    let kind = match spec.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Char,
        LinuxDeviceType::B => DeviceKind::Block,
        LinuxDeviceType::P => DeviceKind::Fifo,
        // "all", which only the rules of a cgroup know
        LinuxDeviceType::A => return Err(at.key("type").must("c, b, u or p", "a")),
    };
    let (major, minor) = match kind {
        DeviceKind::Fifo => (0, 0),
        _ => (number(spec.major(), MAX_MAJOR, &at.key("major"))?, number(spec.minor(), MAX_MINOR, &at.key("minor"))?),
    };
    let (uid, gid) = (spec.uid().unwrap_or_default(), spec.gid().unwrap_or_default());
    check_id(uid, &at.key("uid"))?;
    check_id(gid, &at.key("gid"))?;
    Ok(Device {
        pointer: at.pointer(),
        path,
        kind,
        major,
        minor,
        // some managers leave the file type's bits in
        mode: spec.file_mode().unwrap_or(0o666) & 0o7777,
        uid,
        gid,
    })
}

fn number(number: i64, max: u32, at: &At) -> Result<u32> {
    match u32::try_from(number) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(at.must(&format!("from 0 to {max}"), number)),
    }
}
