//! /dev: default devices, those of the config, links (config-linux.md, Default Devices; runtime-linux.md).

use std::path::Path;

use crate::config::{Config, DeviceKind, MountSource};

use super::Draft;
use super::step::{Device, Link, Step};

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

pub(super) fn plan(draft: &mut Draft, config: &Config) {
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
            pointer: None,
        })
        .collect();
    devices.extend(config.devices.iter().map(|device| Device {
        path: device.path.clone(),
        kind: device.kind,
        major: device.major,
        minor: device.minor,
        mode: device.mode,
        uid: device.uid,
        gid: device.gid,
        pointer: Some(device.pointer.clone()),
    }));
    let mut links: Vec<Link> = LINKS
        .iter()
        .map(|&(link, target)| Link { link: link.to_owned(), target: target.to_owned(), replace: false })
        .collect();
    links.push(Link { link: "/dev/ptmx".to_owned(), target: "pts/ptmx".to_owned(), replace: true });
    draft.step(Step::Devices { devices, links });
}
