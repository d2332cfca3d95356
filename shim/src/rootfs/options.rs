//! The options of a mount as fstab(5) has them: flags, and what the file system itself is to read. Pure.

use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use ferrun::config::{IdMapping, IdMaps};
use ferrun::error::{Context, Error, Result};
use ferrun::sys::mount::SetAttr;
use rustix::mount::MountFlags;

/// mount(2) reads one page and ends it with a NUL. No architecture has smaller pages.
const MAX_DATA: usize = 4095;

const LOWER: &str = "lowerdir=";

/// What an option does to the flags of mount(2).
enum Flag {
    Set(MountFlags),
    Clear(MountFlags),
}

use Flag::{Clear, Set};

const FLAGS: [(&str, Flag); 20] = [
    ("async", Clear(MountFlags::SYNCHRONOUS)),
    ("atime", Clear(MountFlags::NOATIME)),
    ("dev", Clear(MountFlags::NODEV)),
    ("diratime", Clear(MountFlags::NODIRATIME)),
    ("dirsync", Set(MountFlags::DIRSYNC)),
    ("exec", Clear(MountFlags::NOEXEC)),
    ("noatime", Set(MountFlags::NOATIME)),
    ("nodev", Set(MountFlags::NODEV)),
    ("nodiratime", Set(MountFlags::NODIRATIME)),
    ("noexec", Set(MountFlags::NOEXEC)),
    ("norelatime", Clear(MountFlags::RELATIME)),
    ("nostrictatime", Clear(MountFlags::STRICTATIME)),
    ("nosuid", Set(MountFlags::NOSUID)),
    ("relatime", Set(MountFlags::RELATIME)),
    ("ro", Set(MountFlags::RDONLY)),
    ("rw", Clear(MountFlags::RDONLY)),
    ("strictatime", Set(MountFlags::STRICTATIME)),
    ("suid", Clear(MountFlags::NOSUID)),
    ("sync", Set(MountFlags::SYNCHRONOUS)),
    ("defaults", Clear(MountFlags::empty())),
];

/// A mount's options, known to be supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) bind: bool,
    /// Of a bind mount: with the mounts below its source.
    pub(super) recursive: bool,
    /// The source is a file with the file system in it.
    pub(super) looped: bool,
    /// The files of a bind mount's source, or of an overlay's lower layers, belong to other users here.
    pub(super) idmap: Option<IdMaps>,
    flags: MountFlags,
    data: Vec<String>,
}

/// What mount(2) is given for the file system to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Data {
    pub(super) text: String,
    /// Where paths in it count from.
    pub(super) directory: Option<PathBuf>,
}

impl Options {
    /// # Errors
    /// What is left to containerd's own mounts.
    pub(super) fn parse(mount: &Mount) -> Result<Self> {
        if mount.type_ == "fuse" || mount.type_.starts_with("fuse.") || mount.type_.starts_with("fuse3.") {
            return Err(Error::new("fuse file systems are not supported: they would need a helper that stays"));
        }
        let (bind, flags) = (mount.type_ == "bind", MountFlags::empty());
        let mut options = Self { bind, recursive: false, looped: false, idmap: None, flags, data: Vec::new() };
        let mut maps = IdMaps::default();
        for option in mount.options.iter().map(String::as_str) {
            match option {
                "bind" => options.bind = true,
                "rbind" => (options.bind, options.recursive) = (true, true),
                "loop" => options.looped = true,
                "remount" => return Err(Error::new("there is nothing to remount in a new rootfs")),
                _ if option.starts_with("uidmap=") => maps.uids = mappings(option)?,
                _ if option.starts_with("gidmap=") => maps.gids = mappings(option)?,
                _ => match FLAGS.iter().find(|(name, _)| *name == option) {
                    Some((_, Set(flag))) => options.flags |= *flag,
                    Some((_, Clear(flag))) => options.flags -= *flag,
                    None => options.data.push(option.to_owned()),
                },
            }
        }
        if options.bind && options.looped {
            return Err(Error::new("loop is for file systems, not for bind mounts"));
        }
        match (maps.uids.is_empty(), maps.gids.is_empty()) {
            (true, true) => {}
            (false, false) if options.bind || mount.type_ == "overlay" => options.idmap = Some(maps),
            (false, false) => return Err(Error::new("only bind mounts and layers of overlays can be id-mapped")),
            _ => return Err(Error::new("uidmap= and gidmap= go together")),
        }
        Ok(options)
    }

    /// The lower directories of an overlay, the uppermost first.
    pub(super) fn lower(&self) -> Vec<PathBuf> {
        let lists = self.data.iter().filter_map(|option| option.strip_prefix(LOWER));
        lists.flat_map(split).map(|path| unescaped(Path::new(path))).collect()
    }

    /// The same overlay over other lower directories.
    pub(super) fn with_lower(&self, lower: &[String]) -> Self {
        let mut data = self.data.clone();
        data.retain(|option| !option.starts_with(LOWER));
        data.push(format!("{LOWER}{}", lower.join(":")));
        Self { data, ..self.clone() }
    }

    /// Of a new file system.
    pub(super) fn flags(&self) -> MountFlags {
        self.flags
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.flags.contains(MountFlags::RDONLY)
    }

    /// Of a bind mount; the rest is the file system's and stays as it is.
    pub(super) fn change(&self) -> Option<SetAttr> {
        let mut change = SetAttr::default();
        for (flag, attribute) in [
            (MountFlags::RDONLY, libc::MOUNT_ATTR_RDONLY),
            (MountFlags::NOSUID, libc::MOUNT_ATTR_NOSUID),
            (MountFlags::NODEV, libc::MOUNT_ATTR_NODEV),
            (MountFlags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
            (MountFlags::NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
        ] {
            if self.flags.contains(flag) {
                change.set |= attribute;
            }
        }
        // one of three, which must be cleared to be set
        for (flag, attribute) in [
            (MountFlags::RELATIME, libc::MOUNT_ATTR_RELATIME),
            (MountFlags::NOATIME, libc::MOUNT_ATTR_NOATIME),
            (MountFlags::STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
        ] {
            if self.flags.contains(flag) {
                change.clear = libc::MOUNT_ATTR__ATIME;
                change.set = change.set & !libc::MOUNT_ATTR__ATIME | attribute;
            }
        }
        (change != SetAttr::default()).then_some(change)
    }

    /// # Errors
    /// It is longer than a page, and cannot be made shorter.
    pub(super) fn data(&self) -> Result<Data> {
        let text = self.data.join(",");
        if text.len() <= MAX_DATA {
            return Ok(Data { text, directory: None });
        }
        match self.shortened() {
            Some(data) if data.text.len() <= MAX_DATA => Ok(data),
            _ => Err(Error::new(format!("the options are longer than the {MAX_DATA} bytes that the kernel reads"))),
        }
    }

    /// The lower directories of an overlay are siblings: their names, from where they have their parent in common.
    fn shortened(&self) -> Option<Data> {
        let index = self.data.iter().position(|option| option.starts_with(LOWER))?;
        let lower = split(&self.data[index][LOWER.len()..]);
        let directory = parent(&lower)?;
        let names: Option<Vec<&str>> =
            lower.iter().map(|path| Path::new(path).strip_prefix(&directory).ok()?.to_str()).collect();
        let names = format!("{LOWER}{}", names?.join(":"));
        let mut data = self.data.clone();
        data[index] = names;
        Some(Data { text: data.join(","), directory: Some(unescaped(&directory)) })
    }
}

/// `uidmap=0:100000:65536,65536:200000:1`: ids in the container, on the host, and how many.
fn mappings(option: &str) -> Result<Vec<IdMapping>> {
    let (_, list) = option.split_once('=').unwrap_or_default();
    let mapping = |text: &str| {
        let numbers: Vec<u32> = text.split(':').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let [container_id, host_id, size] = *numbers.as_slice() else { return None };
        let ends = |id: u32| id.checked_add(size).is_some();
        (size > 0 && ends(container_id) && ends(host_id)).then_some(IdMapping { container_id, host_id, size })
    };
    let all: Option<Vec<_>> = list.split(',').map(mapping).collect();
    all.ok_or_else(|| Error::new("not CONTAINER:HOST:SIZE, by commas")).context(|| option.to_owned())
}

/// At colons that no backslash precedes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b':' if !escaped => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The directory that all are in. None: they are not absolute, or have the root only in common.
fn parent(paths: &[&str]) -> Option<PathBuf> {
    let mut common = Path::new(paths.first()?).parent()?;
    while !paths.iter().all(|path| Path::new(path).parent().is_some_and(|parent| parent.starts_with(common))) {
        common = common.parent()?;
    }
    (common.is_absolute() && common != Path::new("/")).then(|| common.to_owned())
}

/// The path, not overlay's way to write it.
fn unescaped(path: &Path) -> PathBuf {
    let mut text = String::new();
    let mut chars = path.to_str().unwrap_or_default().chars();
    while let Some(char) = chars.next() {
        text.push(if char == '\\' { chars.next().unwrap_or(char) } else { char });
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kind: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Mount { type_: kind.to_owned(), options, ..Mount::default() }
    }

    #[test]
    fn flags_and_data() {
        let mount = with("overlay", &["ro", "rw", "nodev", "index=off", "defaults", "lowerdir=/a:/b"]);
        let options = Options::parse(&mount).expect("options");
        assert_eq!((options.bind, options.flags()), (false, MountFlags::NODEV));
        assert_eq!(options.data().expect("data"), Data { text: "index=off,lowerdir=/a:/b".into(), directory: None });
    }

    #[test]
    fn a_bind_keeps_what_it_is_not_told_to_change() {
        let plain = with("bind", &["rbind", "rw"]);
        let options = Options::parse(&plain).expect("options");
        assert!(options.bind && options.recursive && options.change().is_none());
        let strict = with("bind", &["ro", "nosuid", "noatime"]);
        let change = Options::parse(&strict).expect("options").change().expect("change");
        let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOATIME;
        assert_eq!(change, SetAttr { set, clear: libc::MOUNT_ATTR__ATIME, ..SetAttr::default() });
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (mount, words) in [
            (with("fuse.x", &[]), "fuse"),
            (with("fuse3.x", &[]), "fuse"),
            (with("bind", &["loop"]), "loop"),
            (with("overlay", &["uidmap=0:1:2"]), "go together"),
            (with("ext4", &["uidmap=0:1:2", "gidmap=0:1:2"]), "only bind mounts and layers of overlays"),
            (with("bind", &["gidmap=0:1:2:3"]), "gidmap=0:1:2:3: not CONTAINER:HOST:SIZE"),
            (with("bind", &["gidmap=0:1:0"]), "CONTAINER:HOST:SIZE"),
            (with("bind", &["uidmap=0:1:4294967295"]), "CONTAINER:HOST:SIZE"),
            (with("bind", &["uidmap="]), "CONTAINER:HOST:SIZE"),
            (with("bind", &["remount"]), "remount"),
        ] {
            let error = Options::parse(&mount).expect_err(words).to_string();
            assert!(error.contains(words), "{error}");
        }
        // sshfs is fuse, but fusectl and the like are not
        assert!(Options::parse(&with("fusectl", &[])).is_ok());
    }

    #[test]
    fn a_list_of_more_than_a_page_counts_from_its_directory() {
        let paths: Vec<String> = (0..128).map(|layer| format!("/var/lib/containerd/snapshots/{layer}/fs")).collect();
        let lower = format!("lowerdir={}", paths.join(":"));
        let mount = with("overlay", &["upperdir=/u", &lower, "workdir=/w"]);
        let data = Options::parse(&mount).expect("options").data().expect("data");
        assert_eq!(data.directory.as_deref(), Some(Path::new("/var/lib/containerd/snapshots")));
        assert!(data.text.starts_with("upperdir=/u,lowerdir=0/fs:1/fs:") && data.text.ends_with(":127/fs,workdir=/w"));

        let long: Vec<String> = (0..600).map(|layer| format!("/snapshots/{layer}/fs")).collect();
        let lower = format!("lowerdir={}", long.join(":"));
        let error = Options::parse(&with("overlay", &[&lower])).expect("options").data().expect_err("too long");
        assert!(error.to_string().contains("longer than the 4095 bytes"), "{error}");
        let other = format!("x={}", "y".repeat(5000));
        assert!(Options::parse(&with("ext4", &[&other])).expect("options").data().is_err());
    }

    #[test]
    fn id_maps_and_the_layers_that_they_are_for() {
        let list = ["uidmap=0:100000:65536,65536:7:1", "gidmap=0:1:2", "lowerdir=/a\\:b:/c", "workdir=/w"];
        let mount = with("overlay", &list);
        let options = Options::parse(&mount).expect("options");
        let maps = options.idmap.clone().expect("maps");
        assert_eq!(maps.uids[1], IdMapping { container_id: 65536, host_id: 7, size: 1 });
        assert_eq!((maps.uids.len(), maps.gids.len()), (2, 1));
        assert_eq!(options.lower(), [Path::new("/a:b"), Path::new("/c")]);
        let data = options.with_lower(&["/x".into(), "/y".into()]).data().expect("data");
        assert_eq!(data.text, "workdir=/w,lowerdir=/x:/y");
    }

    #[test]
    fn colons_may_be_in_names() {
        assert_eq!(split("/a\\:b/c:/d\\\\:/e"), ["/a\\:b/c", "/d\\\\", "/e"]);
        assert_eq!(parent(&["/a\\:b/1/fs", "/a\\:b/2"]), Some("/a\\:b".into()));
        assert_eq!(unescaped(Path::new("/a\\:b\\\\")), Path::new("/a:b\\"));
        assert_eq!(parent(&["/a/fs", "/b/fs"]), None);
        assert_eq!(parent(&["a/1", "a/2"]), None);
    }
}
