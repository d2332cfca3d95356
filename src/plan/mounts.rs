//! `/mounts` → mount steps and the assets that they attach.

use std::path::Path;

use crate::config::{Config, Mount, MountOptions, MountSource, Propagation};
use crate::error::{Error, Result};
use crate::host::{CGROUP_ROOT, Cgroups, Host};

use super::cgroupfs::{Hierarchies, Placement};
use super::step::{self, Asset, AssetId, Attributes, CgroupBind, FsMount, Link, MountWhat, PropagationKind, Step};
use super::{Draft, labels};

pub(super) const MOUNT_ATTR_RDONLY: u64 = 1;
/// And nosuid, nodev, noexec.
pub(super) const MOUNT_ATTR_NOTHING: u64 = MOUNT_ATTR_RDONLY | 2 | 4 | 8;

/// File systems of the kernel's own: their superblock may be shared with others, so only the mount is made
/// read-only.
const PSEUDO: [&str; 7] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// # Errors
/// A mount that wants what is not built yet.
pub(super) fn plan(draft: &mut Draft, config: &Config, host: &Host, placement: &Placement) -> Result<()> {
    let label = labels::files(config, host);
    for mount in &config.mounts {
        refuse_unbuilt(mount)?;
        let what = match &mount.source {
            MountSource::Bind { path, recursive } => bind(draft, config, mount, path, *recursive),
            MountSource::Fs { fstype, source } => MountWhat::Fs(fs(&mount.options, fstype, source, label.as_deref())),
            MountSource::Remount => MountWhat::Remount,
            MountSource::Cgroup => match cgroup(draft, config, mount, host, placement) {
                Some(what) => what,
                None => continue,
            },
        };
        let attributes = match what {
            // a tree got its attributes when it was opened
            MountWhat::Tree { .. } => Vec::new(),
            _ => attributes(&mount.options, false, None),
        };
        let real_directory = matches!(&what, MountWhat::Fs(fs) if fs.fstype == "proc" || fs.fstype == "sysfs");
        let step =
            Step::Mount(step::Mount { destination: mount.destination.clone(), what, attributes, real_directory });
        draft.step_at(mount.pointer.clone(), step);
    }
    Ok(())
}

/// Better no container than one whose mounts show other owners or follow other links than asked.
fn refuse_unbuilt(mount: &Mount) -> Result<()> {
    let options = &mount.options;
    let unbuilt = [
        (options.idmap.is_some(), "idmapped mounts are"),
        (options.copy_symlink, "the mount option copy-symlink is"),
        (options.src_nofollow, "the mount option src-nofollow is"),
        (options.dest_nofollow, "the mount option dest-nofollow is"),
    ];
    match unbuilt.iter().find(|(asked, _)| *asked) {
        Some((_, what)) => {
            Err(Error::new(format!("{what} not supported yet")).at(format!("{}/options", mount.pointer)))
        }
        None => Ok(()),
    }
}

/// In which order mount_setattr(2) is called on a mount. Changes of the same depth are one call.
fn attributes(options: &MountOptions, recursive: bool, default: Option<Propagation>) -> Vec<Attributes> {
    let mut calls: Vec<Attributes> = Vec::new();
    let mut add = |next: Attributes| {
        if let Some(last) = calls.last_mut()
            && last.recursive == next.recursive
            && (last.propagation.is_none() || next.propagation.is_none())
        {
            last.set = last.set & !next.clear | next.set;
            last.clear |= next.clear;
            last.propagation = last.propagation.or(next.propagation);
            return;
        }
        calls.push(next);
    };
    let propagation = if options.propagation.is_empty() { default.as_slice() } else { &options.propagation };
    for change in propagation {
        add(Attributes {
            propagation: Some(change.kind),
            recursive: recursive && change.recursive,
            ..Attributes::default()
        });
    }
    for (attr, deep) in [(options.recursive_attr, true), (options.attr, false)] {
        if attr != Default::default() {
            add(Attributes { set: attr.set, clear: attr.clear, propagation: None, recursive: recursive && deep });
        }
    }
    calls
}

/// A detached copy of a mount of the host. In a mount namespace that is joined the host's paths mean nothing.
fn tree(draft: &mut Draft, config: &Config, tree: Tree<'_>) -> AssetId {
    let Tree { path, recursive, mut attributes, pointer, procfs } = tree;
    let shared = |propagation: &Propagation| propagation.kind == PropagationKind::Shared;
    // a mount that is to be the host's peer must be its very copy, not one of what has been cut off
    let peer = config.root.propagation.as_ref().is_some_and(shared)
        && attributes.iter().any(|change| change.propagation == Some(PropagationKind::Shared));
    let late = config.namespaces.mount.is_new() && !peer;
    // in a new namespace it is the copy of a mount that has been cut off already; elsewhere it would be the
    // host's peer, and what the container mounts in it would appear there
    if !late && attributes.iter().all(|change| change.propagation.is_none()) {
        let kind = inherited(config).kind;
        attributes.insert(0, Attributes { propagation: Some(kind), recursive, ..Attributes::default() });
    }
    draft.asset(Asset::Tree { path: path.to_owned(), recursive, attributes, procfs, late }, Some(pointer))
}

struct Tree<'a> {
    path: &'a Path,
    recursive: bool,
    attributes: Vec<Attributes>,
    pointer: String,
    procfs: bool,
}

fn bind(draft: &mut Draft, config: &Config, mount: &Mount, path: &Path, recursive: bool) -> MountWhat {
    let attributes = attributes(&mount.options, recursive, Some(inherited(config)));
    let procfs = mount.destination == Path::new("/proc");
    let pointer = format!("{}/source", mount.pointer);
    MountWhat::Tree { tree: tree(draft, config, Tree { path, recursive, attributes, pointer, procfs }) }
}

/// What a tree of the host becomes when nobody says: it receives the host's later mounts, as with runc,
/// unless rootfsPropagation says more.
pub(super) fn inherited(config: &Config) -> Propagation {
    let kind = config.root.propagation.map_or(PropagationKind::Slave, |propagation| match propagation.kind {
        PropagationKind::Private | PropagationKind::Unbindable => PropagationKind::Private,
        PropagationKind::Slave | PropagationKind::Shared => PropagationKind::Slave,
    });
    Propagation { kind, recursive: true }
}

fn fs(options: &MountOptions, fstype: &str, source: &str, label: Option<&str>) -> FsMount {
    let mut flags = options.flags.clone();
    if options.attr.set & MOUNT_ATTR_RDONLY != 0 && !PSEUDO.contains(&fstype) {
        flags.push("ro".to_owned());
    }
    FsMount {
        fstype: fstype.to_owned(),
        source: source.to_owned(),
        flags,
        data: options.data.clone(),
        inherit_mode: fstype == "tmpfs" && !options.data.iter().any(|data| data.key == "mode"),
        tmpcopyup: options.tmpcopyup,
        label: labels::file_system(label, fstype, options),
    }
}

fn whole<'a>(path: &'a Path, attributes: Vec<Attributes>, mount: &Mount) -> Tree<'a> {
    Tree { path, recursive: false, attributes, pointer: mount.pointer.clone(), procfs: false }
}

/// Binds of what is there, never fresh cgroup mounts: those wait for RCU grace periods.
fn cgroup(draft: &mut Draft, config: &Config, mount: &Mount, host: &Host, placement: &Placement) -> Option<MountWhat> {
    match (&host.cgroups, &placement.hierarchies) {
        (Cgroups::V1 { hierarchies }, Hierarchies::V1 { directories }) => {
            let mut binds = Vec::new();
            let mut links = Vec::new();
            for (hierarchy, directory) in hierarchies.iter().zip(directories) {
                let name = hierarchy.name();
                let tree = tree(draft, config, whole(directory, Vec::new(), mount));
                if hierarchy.controllers.len() > 1 {
                    links.extend(hierarchy.controllers.iter().map(|controller| Link {
                        link: controller.clone(),
                        target: name.clone(),
                        replace: false,
                    }));
                }
                binds.push(CgroupBind { name, tree });
            }
            let readonly = mount.options.attr.set & MOUNT_ATTR_RDONLY != 0;
            Some(MountWhat::CgroupV1 { hierarchies: binds, links, readonly, label: labels::files(config, host) })
        }
        (Cgroups::V2 { .. }, Hierarchies::V2 { directory }) => {
            let path = if config.namespaces.cgroup.is_host() { Path::new(CGROUP_ROOT) } else { directory };
            let attributes = attributes(&mount.options, false, None);
            Some(MountWhat::Tree { tree: tree(draft, config, whole(path, attributes, mount)) })
        }
        _ => {
            draft.warnings.push(format!("{}: no cgroups to show at {}", mount.pointer, mount.destination.display()));
            None
        }
    }
}
