//! `/mounts` → mount steps and the assets that they attach.

use std::path::Path;

use crate::config::{Config, Idmap, Mount, MountOptions, MountSource, Namespace, Propagation};
use crate::host::{CGROUP_ROOT, Cgroups, Host};

use super::cgroupfs::{Hierarchies, Placement};
use super::step::{
    self, Asset, AssetId, Attributes, CgroupBind, FsMount, Link, MountWhat, NamespaceKind, PropagationKind, Step,
    SymlinkRule, TreeIdmap,
};
use super::{Draft, labels, namespaces};

pub(super) const MOUNT_ATTR_RDONLY: u64 = 1;
/// And nosuid, nodev, noexec.
pub(super) const MOUNT_ATTR_NOTHING: u64 = MOUNT_ATTR_RDONLY | 2 | 4 | 8;

/// File systems of the kernel's own: their superblock may be shared with others, so only the mount is made
/// read-only.
const PSEUDO: [&str; 7] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

pub(super) fn plan(draft: &mut Draft, config: &Config, host: &Host, placement: &Placement) {
    let label = labels::files(config, host);
    for mount in &config.mounts {
        let what = match &mount.source {
            MountSource::Bind { path, recursive } => bind(draft, config, host, mount, path, *recursive),
            MountSource::Fs { fstype, source } => {
                let else_bind = else_bind(draft, config, host, mount, fstype);
                MountWhat::Fs(FsMount { else_bind, ..fs(&mount.options, fstype, source, label.as_deref()) })
            }
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
}

/// What is shown of a namespace that belongs to a user namespace above the container's cannot be mounted by it: there
/// the host's own mount of it is bound. Of /sys nothing can be written to then, whatever it holds (CVE-2023-25809).
fn else_bind(draft: &mut Draft, config: &Config, host: &Host, mount: &Mount, fstype: &str) -> Option<AssetId> {
    let wanted = &config.namespaces;
    let (path, more) = match fstype {
        "sysfs" => ("/sys", MOUNT_ATTR_RDONLY),
        "mqueue" if wanted.ipc.is_host() => ("/dev/mqueue", 0),
        "proc" if wanted.pid.is_host() => ("/proc", 0),
        _ => return None,
    };
    if namespaces::is_machine(config, host) || !wanted.mount.is_new() {
        return None;
    }
    let attr = mount.options.attr;
    let attributes = vec![Attributes {
        set: attr.set | more,
        clear: 0,
        propagation: Some(PropagationKind::Private),
        recursive: true,
    }];
    let procfs = fstype == "proc";
    let path = path.into();
    let tree = Asset::Tree {
        path,
        recursive: true,
        attributes,
        idmap: None,
        nofollow: false,
        procfs,
        late: true,
        locked: false,
    };
    Some(draft.asset(tree, Some(mount.pointer.clone())))
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
fn tree(draft: &mut Draft, config: &Config, host: &Host, tree: Tree<'_>) -> AssetId {
    let Tree { path, recursive, mut attributes, pointer, procfs, idmap, nofollow, not_yet } = tree;
    let shared = |propagation: &Propagation| propagation.kind == PropagationKind::Shared;
    // a mount that is to be the host's peer must be its very copy, not one of what has been cut off
    let peer = config.root.propagation.as_ref().is_some_and(shared)
        && attributes.iter().any(|change| change.propagation == Some(PropagationKind::Shared));
    // The root of a user namespace may not have a way to the source, and in its copy of the host's mounts none can be
    // had without those below it. Who may mount on the host's side does it there.
    let may_mount = namespaces::may_mount(host);
    let early = if config.namespaces.user.is_host() { peer } else { true };
    let late = config.namespaces.mount.is_new() && !(early && may_mount && !not_yet);
    // in a new namespace it is the copy of a mount that has been cut off already; elsewhere it would be the
    // host's peer, and what the container mounts in it would appear there
    if !late && attributes.iter().all(|change| change.propagation.is_none()) {
        let kind = inherited(config).kind;
        attributes.insert(0, Attributes { propagation: Some(kind), recursive, ..Attributes::default() });
    }
    let locked = is_locked(config, host, late, &attributes);
    let path = path.to_owned();
    draft.asset(Asset::Tree { path, recursive, attributes, idmap, nofollow, procfs, late, locked }, Some(pointer))
}

/// Whether a tree must be locked. What the init opens (`late`) is already, with the flags that it has on the host: its
/// mount namespace belongs to its user namespace. Those that are set on it there are not.
pub(super) fn is_locked(config: &Config, host: &Host, late: bool, attributes: &[Attributes]) -> bool {
    let more = attributes.iter().any(|change| change.set != 0);
    !config.namespaces.user.is_host() && if namespaces::may_mount(host) { !late } else { late && more }
}

/// One user namespace for all mounts with the same mappings.
fn tree_idmap(draft: &mut Draft, config: &Config, idmap: &Idmap, pointer: &str) -> TreeIdmap {
    let users = match &config.namespaces.user {
        Namespace::Join { path, .. } if idmap.maps.uids.is_empty() => {
            Asset::Namespace { path: path.clone(), kind: NamespaceKind::User }
        }
        // the container's own is not there yet, but this one says the same
        _ if idmap.maps.uids.is_empty() => Asset::IdMap { maps: config.id_maps.clone() },
        _ => Asset::IdMap { maps: idmap.maps.clone() },
    };
    let known = draft.assets.iter().position(|entry| entry.asset == users).map(AssetId);
    let users = known.unwrap_or_else(|| draft.asset(users, Some(pointer.to_owned())));
    TreeIdmap { users, recursive: idmap.recursive }
}

struct Tree<'a> {
    path: &'a Path,
    recursive: bool,
    attributes: Vec<Attributes>,
    pointer: String,
    procfs: bool,
    idmap: Option<TreeIdmap>,
    nofollow: bool,
    /// It is made for the init: there is none before.
    not_yet: bool,
}

fn bind(draft: &mut Draft, config: &Config, host: &Host, mount: &Mount, path: &Path, recursive: bool) -> MountWhat {
    let mut options = mount.options.clone();
    if path.starts_with("/sys") && options.attr.set & MOUNT_ATTR_RDONLY != 0 && !namespaces::is_machine(config, host) {
        // with a cgroup namespace that is the host's its cgroups would be writable (CVE-2023-25809)
        options.recursive_attr.set |= MOUNT_ATTR_RDONLY;
    }
    let attributes = attributes(&options, recursive, Some(inherited(config)));
    let procfs = mount.destination == Path::new("/proc");
    let pointer = format!("{}/source", mount.pointer);
    let MountOptions { copy_symlink, src_nofollow, dest_nofollow, idmap, .. } = &mount.options;
    let idmap = idmap.as_ref().map(|idmap| tree_idmap(draft, config, idmap, &mount.pointer));
    let nofollow = *src_nofollow || *copy_symlink;
    let symlinks = match (copy_symlink, dest_nofollow) {
        (true, _) => SymlinkRule::Copy,
        (false, true) => SymlinkRule::Cover,
        (false, false) => SymlinkRule::Follow,
    };
    let tree = Tree { path, recursive, attributes, pointer, procfs, idmap, nofollow, not_yet: false };
    let tree = self::tree(draft, config, host, tree);
    MountWhat::Tree { tree, symlinks }
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
        else_bind: None,
    }
}

fn whole<'a>(path: &'a Path, attributes: Vec<Attributes>, mount: &Mount) -> Tree<'a> {
    let pointer = mount.pointer.clone();
    Tree { path, recursive: false, attributes, pointer, procfs: false, idmap: None, nofollow: false, not_yet: false }
}

/// Binds of what is there, never fresh cgroup mounts: those wait for RCU grace periods.
fn cgroup(draft: &mut Draft, config: &Config, mount: &Mount, host: &Host, placement: &Placement) -> Option<MountWhat> {
    let not_yet = placement.unit.is_some();
    match (&host.cgroups, &placement.hierarchies) {
        (Cgroups::V1 { hierarchies }, Hierarchies::V1 { directories }) => {
            let mut binds = Vec::new();
            let mut links = Vec::new();
            for (hierarchy, directory) in hierarchies.iter().zip(directories) {
                let name = hierarchy.name();
                let tree = tree(draft, config, host, Tree { not_yet, ..whole(directory, Vec::new(), mount) });
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
            let tree = tree(draft, config, host, Tree { not_yet, ..whole(path, attributes, mount) });
            Some(MountWhat::Tree { tree, symlinks: SymlinkRule::Follow })
        }
        (Cgroups::V1 { .. } | Cgroups::V2 { .. }, Hierarchies::None) if !namespaces::is_machine(config, host) => {
            // what the host shows everybody; no program may change it
            let change = Attributes { set: MOUNT_ATTR_NOTHING, recursive: true, ..Attributes::default() };
            let tree = Tree { recursive: true, ..whole(Path::new(CGROUP_ROOT), vec![change], mount) };
            let tree = self::tree(draft, config, host, tree);
            Some(MountWhat::Tree { tree, symlinks: SymlinkRule::Follow })
        }
        _ => {
            draft.warnings.push(format!("{}: no cgroups to show at {}", mount.pointer, mount.destination.display()));
            None
        }
    }
}
