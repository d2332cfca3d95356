//! `/mounts`.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;

use super::at::{At, ROOT};
use super::options::{self, Parsed};
use super::{IdMaps, Idmap, Mount, MountOptions, MountSource, Namespaces, ids};
use crate::error::Result;

/// What lxcfs and the like put over files of /proc; anything else there could fool the container's LSM
/// labelling or hide what is masked (CVE-2019-16884, CVE-2019-19921).
const OVER_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

pub(super) fn check(
    mounts: &[SpecMount],
    namespaces: &Namespaces,
    own: &IdMaps,
    warnings: &mut Vec<String>,
) -> Result<Vec<Mount>> {
    let at = ROOT.key("mounts");
    let mounts = mounts.iter().enumerate();
    mounts.map(|(index, mount)| check_mount(mount, namespaces, own, &at.index(index), warnings)).collect()
}

/// The owners that file systems are given must be somebody in the container; the kernel only says EINVAL. A devpts
/// with the `gid=5` of every default config is the exception: many maps have no group 5, and a terminal without its
/// group does all that programs ask of it.
pub(super) fn check_ids(mounts: &mut [Mount], maps: &IdMaps, warnings: &mut Vec<String>) -> Result<()> {
    let at = ROOT.key("mounts");
    for (place, mount) in mounts.iter_mut().enumerate() {
        let at = at.index(place);
        let at = at.key("options");
        let MountSource::Fs { fstype, .. } = &mount.source else { continue };
        if fstype != "tmpfs" && fstype != "devpts" {
            continue;
        }
        let devpts = fstype == "devpts";
        let mut left_out = None;
        for (number, data) in mount.options.data.iter().enumerate() {
            let Some(id) = data.value.as_deref().and_then(|value| value.parse().ok()) else { continue };
            let checked = match data.key.as_str() {
                "uid" => maps.check_uid(id, &at.index(data.index)),
                "gid" => maps.check_gid(id, &at.index(data.index)),
                _ => Ok(()),
            };
            match checked {
                Err(error) if devpts && data.key == "gid" => left_out = Some((number, error)),
                result => result?,
            }
        }
        if let Some((number, error)) = left_out {
            warnings.push(format!("gid= is left out of the devpts: {error}"));
            mount.options.data.remove(number);
        }
    }
    Ok(())
}

fn check_mount(
    mount: &SpecMount,
    namespaces: &Namespaces,
    own: &IdMaps,
    at: &At,
    warnings: &mut Vec<String>,
) -> Result<Mount> {
    let destination = destination(mount, &at.key("destination"), warnings)?;
    let Parsed { mut options, bind, remount } =
        options::parse(mount.options().as_deref().unwrap_or_default(), own, &at.key("options"))?;
    let source = source(mount, bind, remount, at)?;
    check_place(&destination, &source, &at.key("destination"))?;
    idmap(mount, &mut options.idmap, &source, namespaces, at)?;
    check_options(&options, &source, at, warnings)?;
    Ok(Mount { pointer: at.pointer(), destination, source, options })
}

/// A relative one is below the root, as with runc: files of old are full of them.
fn destination(mount: &SpecMount, at: &At, warnings: &mut Vec<String>) -> Result<PathBuf> {
    let path = mount.destination();
    if path.as_os_str().is_empty() {
        return Err(at.missing());
    }
    if path.is_absolute() {
        return at.inside(path);
    }
    let absolute = at.inside(&Path::new("/").join(path))?;
    warnings.push(format!("{} is not absolute, {absolute:?} is meant: {path:?}", at.name()));
    Ok(absolute)
}

fn source(mount: &SpecMount, bind: Option<bool>, remount: bool, at: &At) -> Result<MountSource> {
    let source = mount.source().as_deref().filter(|source| !source.as_os_str().is_empty());
    if let Some(source) = source {
        at.key("source").no_nul(&source.to_string_lossy())?;
    }
    let fstype = mount.typ().as_deref().unwrap_or_default();
    at.key("type").one_line(fstype)?;
    if remount {
        return Ok(MountSource::Remount);
    }
    // with a bind the type is a dummy, whatever it says; "bind" without the word can mean nothing else
    if let Some(recursive) = bind.or((fstype == "bind").then_some(false)) {
        let path = source.ok_or_else(|| at.key("source").error("a bind mount must have a source"))?;
        return Ok(MountSource::Bind { path: path.to_owned(), recursive });
    }
    match fstype {
        "" => Err(at.key("type").error("a mount must have a type, or one of the options bind, rbind and remount")),
        "none" => {
            Err(at.key("type").must("a file system, or go with one of the options bind, rbind and remount", fstype))
        }
        "cgroup" | "cgroup2" => Ok(MountSource::Cgroup),
        // mountinfo shows "none" for what has no source
        _ => Ok(MountSource::Fs {
            fstype: fstype.to_owned(),
            source: source.map_or_else(|| "none".to_owned(), |source| source.to_string_lossy().into_owned()),
        }),
    }
}

fn check_place(destination: &Path, source: &MountSource, at: &At) -> Result<()> {
    if destination == Path::new("/") && *source != MountSource::Remount {
        return Err(at.must("below the root itself, which is root.path's place", destination));
    }
    let Ok(below) = destination.strip_prefix("/proc") else { return Ok(()) };
    if below.as_os_str().is_empty() {
        // whether a bind's source is a procfs is seen when it is opened
        return match source {
            MountSource::Bind { .. } | MountSource::Remount => Ok(()),
            MountSource::Fs { fstype, .. } if fstype == "proc" => Ok(()),
            _ => Err(at.error("\"/proc\" cannot be mounted because it is not of type proc")),
        };
    }
    if OVER_PROC.iter().any(|allowed| destination == Path::new(allowed)) {
        return Ok(());
    }
    Err(at.error(format!("{destination:?} cannot be mounted because it is inside /proc")))
}

/// The mount's own mappings go before those of its options.
fn idmap(
    mount: &SpecMount,
    idmap: &mut Option<Idmap>,
    source: &MountSource,
    namespaces: &Namespaces,
    at: &At,
) -> Result<()> {
    let uids = ids::mappings(mount.uid_mappings().as_deref().unwrap_or_default(), &at.key("uidMappings"))?;
    let gids = ids::mappings(mount.gid_mappings().as_deref().unwrap_or_default(), &at.key("gidMappings"))?;
    if uids.is_empty() != gids.is_empty() {
        let missing = if uids.is_empty() { "uidMappings" } else { "gidMappings" };
        return Err(at.key(missing).error("uidMappings and gidMappings of a mount must be given together"));
    }
    if !uids.is_empty() {
        let idmap = idmap.get_or_insert_default();
        idmap.maps = IdMaps { uids, gids };
    }
    let Some(idmap) = idmap else { return Ok(()) };
    if !matches!(source, MountSource::Bind { .. }) {
        return Err(at.error("id-mapped mounts are only supported for bind-mounts"));
    }
    if idmap.maps.uids.is_empty() && namespaces.user.is_host() {
        return Err(at.key("options").error("idmap needs uidMappings and gidMappings, or a user namespace"));
    }
    Ok(())
}

/// What would be silently without effect is refused or said.
fn check_options(options: &MountOptions, source: &MountSource, at: &At, warnings: &mut Vec<String>) -> Result<()> {
    let bind = matches!(source, MountSource::Bind { .. });
    if bind {
        // refused by the newest runc, ignored by older ones and by crun: old bundles have them
        if let Some(data) = options.data.first() {
            warnings.push(format!("{}: {} has no effect on a bind mount", at.name(), super::at::shown(&data.key)));
        }
        if let Some(flag) = options.flags.first() {
            warnings.push(format!("{}: {flag} has no effect on a bind mount", at.name()));
        }
    } else if options.src_nofollow || options.dest_nofollow || options.copy_symlink {
        let words = "src-nofollow, dest-nofollow and copy-symlink are for bind mounts only";
        return Err(at.key("options").error(words));
    }
    if options.copy_symlink && (options.src_nofollow || options.dest_nofollow) {
        return Err(at.key("options").error("copy-symlink cannot go with src-nofollow or dest-nofollow"));
    }
    if options.tmpcopyup && !matches!(source, MountSource::Fs { fstype, .. } if fstype == "tmpfs") {
        warnings.push(format!("{}: tmpcopyup has no effect on anything but a tmpfs", at.name()));
    }
    Ok(())
}
