//! /dev: default devices, those of the config, links (config-linux.md, Default Devices; runtime-linux.md).

use std::path::Path;

use crate::config::{Config, DeviceKind, MountSource};
use crate::host::Host;

use super::step::{Asset, AssetId, Device, DeviceHow, Link, Step};
use super::{Draft, namespaces};

/// Name, major, minor.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
];

/// The host's null device, for masks. From inside the root there is no way to it.
pub(super) fn null(draft: &mut Draft, config: &Config, host: &Host) -> AssetId {
    let late = is_late(config, host);
    let null = Asset::Device { path: "/dev/null".into(), kind: DeviceKind::Char, major: 1, minor: 3, late };
    let null = draft.asset(null, None);
    if late {
        draft.step(Step::Open { asset: null });
    }
    null
}

fn is_late(config: &Config, host: &Host) -> bool {
    config.namespaces.mount.is_new() && !namespaces::may_mount(host)
}

pub(super) fn plan(draft: &mut Draft, config: &Config, host: &Host) {
    // a /dev that is bound from elsewhere is its owner's business
    let bound = |mount: &crate::config::Mount| {
        mount.destination == Path::new("/dev") && matches!(mount.source, MountSource::Bind { .. })
    };
    if config.mounts.iter().any(bound) {
        return;
    }
    let mut devices: Vec<Device> = DEFAULT
        .iter()
        .filter(|(path, ..)| !config.devices.iter().any(|device| device.path == Path::new(path)))
        .map(|&(path, major, minor)| Device {
            path: path.into(),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
            how: DeviceHow::Mknod,
            pointer: None,
        })
        .collect();
    // The link below takes the place of a /dev/ptmx, and a bound one could not be removed for it: Podman lists
    // all of the host's devices for --privileged.
    let listed = config.devices.iter().filter(|device| device.path != Path::new("/dev/ptmx"));
    devices.extend(listed.map(|device| Device {
        path: device.path.clone(),
        kind: device.kind,
        major: device.major,
        minor: device.minor,
        mode: device.mode,
        uid: device.uid,
        gid: device.gid,
        how: DeviceHow::Mknod,
        pointer: Some(device.pointer.clone()),
    }));
    if !namespaces::is_machine(config, host) {
        for device in devices.iter_mut().filter(|device| device.kind != DeviceKind::Fifo) {
            let asset = Asset::Device {
                path: device.path.clone(),
                kind: device.kind,
                major: device.major,
                minor: device.minor,
                late: is_late(config, host),
            };
            device.how = DeviceHow::Bind(draft.asset(asset, device.pointer.clone()));
        }
    }
    let mut links: Vec<Link> = LINKS
        .iter()
        .map(|&(link, target)| Link { link: link.to_owned(), target: target.to_owned(), replace: false })
        .collect();
    links.push(Link { link: "/dev/ptmx".to_owned(), target: "pts/ptmx".to_owned(), replace: true });
    draft.step(Step::Devices { devices, links });
}
