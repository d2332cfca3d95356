//! What an attack would change, looked at from the host before and after: a tree of markers that no container
//! was given, and the machine itself.

use crate::case::{Context, Res, broken};
use crate::cx::Cx;
use crate::ensure;
use crate::mountinfo;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The names in a guarded tree; each stands for something that an attack of the past went for. Their modes keep
/// nobody out, the root of a user namespace neither: only the runtime does.
const FILES: [(&str, u32, &str); 6] = [
    ("marker", 0o646, "the host's own\n"),
    // what a runtime makes, removes or opens in /dev
    ("ptmx", 0o606, "not a terminal\n"),
    ("console", 0o606, "not a console\n"),
    ("null", 0o646, "not a sink\n"),
    // /proc/sys/kernel/core_pattern, where a masked path or a sysctl was led to
    ("core_pattern", 0o666, "core\n"),
    ("deep/down/file", 0o606, "deep\n"),
];

/// A tree of the host's and the machine's own state. Nothing of it may change while it lives.
pub struct Guard<'a> {
    cx: &'a Cx,
    dir: PathBuf,
    tree: BTreeMap<PathBuf, Entry>,
    machine: Machine,
    watch: OwnedFd,
}

/// All that stat(2) and read(2) tell of a file, but its access time.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    inode: u64,
    links: u64,
    size: u64,
    device: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    content: u64,
}

/// Mode, owner, number and inode.
type Device = (u32, (u32, u32), u64, u64);

#[derive(Debug, PartialEq, Eq, Clone)]
struct Machine {
    mounts: String,
    sysctls: BTreeMap<&'static str, String>,
    devices: BTreeMap<&'static str, Device>,
    runtime: Entry,
}

/// Settings of the machine that the container's namespaces do not shield.
const SYSCTLS: [&str; 10] = [
    "kernel/core_pattern",
    "kernel/modprobe",
    "kernel/sysrq",
    "kernel/panic",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/randomize_va_space",
    "kernel/shm_rmid_forced",
    "fs/suid_dumpable",
    "net/ipv4/ip_forward",
];

const DEVICES: [&str; 5] = ["/dev", "/dev/null", "/dev/console", "/dev/ptmx", "/dev/tty"];

impl<'a> Guard<'a> {
    /// Makes a fresh tree and remembers all.
    pub fn new(cx: &'a Cx) -> Res<Self> {
        Self::with(cx, &[])
    }

    /// With more files in it.
    pub fn with(cx: &'a Cx, more: &[&str]) -> Res<Self> {
        let dir = cx.fresh("guard");
        for name in ["deep/down", "empty"] {
            fs::create_dir_all(dir.join(name))?;
        }
        for name in ["", "deep", "deep/down", "empty"] {
            fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o777))?;
        }
        // where there is only one id, the file is its
        let (uid, gid) = if cx.options.ids == 1 { (0, 0) } else { (1234, 4321) };
        for (name, mode, content) in FILES {
            let path = dir.join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
            // long ago: a write within the same tick shows
            fs::File::open(&path)?.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400))?;
        }
        for name in more {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&dir))?;
            fs::write(path, "0\n")?;
        }
        symlink("marker", dir.join("link"))?;
        let watch = watch(&dir)?;
        Ok(Self { cx, tree: entries(&dir)?, machine: Machine::look(cx)?, watch, dir })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A path in it, as the target of a link in the rootfs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The same by `..` only: from `depth` directories below the root, and from far more.
    pub fn climbing(&self, name: &str) -> PathBuf {
        let mut up = PathBuf::from("../".repeat(24));
        up.push(self.path(name).strip_prefix("/").unwrap_or(&self.dir));
        up
    }

    /// Nothing was made, removed, written, opened for writing or given another mode; the mounts, settings and
    /// devices of the host are as they were, and so is the runtime's program.
    pub fn untouched(&self) -> Res {
        let now = entries(&self.dir)?;
        for path in now.keys() {
            ensure!(self.tree.contains_key(path), "made on the host: {}", path.display());
        }
        for (path, entry) in &self.tree {
            let Some(new) = now.get(path) else { return broken(format!("gone from the host: {}", path.display())) };
            ensure!(new == entry, "changed on the host: {}: {}", path.display(), entry.difference(new));
        }
        let events = events(&self.watch)?;
        ensure!(events.is_empty(), "seen on the host meanwhile: {}", events.join(", "));
        let machine = Machine::look(self.cx)?;
        for (name, value) in &self.machine.sysctls {
            let new = machine.sysctls.get(name);
            ensure!(new == Some(value), "the host's {name} was {value:?}, now {new:?}");
        }
        let (before, after) = (&self.machine.devices, &machine.devices);
        ensure!(before == after, "the host's devices changed: {before:?}, now {after:?}");
        ensure!(
            self.machine.mounts == machine.mounts,
            "the host's mounts changed: {}",
            mountinfo::difference(&self.machine.mounts, &machine.mounts)
        );
        ensure!(
            self.machine.runtime == machine.runtime,
            "the runtime's program changed: {}",
            self.machine.runtime.difference(&machine.runtime)
        );
        Ok(())
    }
}

impl Machine {
    fn look(cx: &Cx) -> Res<Self> {
        let sysctl = |name| Some((name, fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?));
        let device = |name| {
            let stat = fs::symlink_metadata(name).ok()?;
            // crun gives the container's user the /dev/null that is its stdin
            let owner = if cx.is("crun") { (0, 0) } else { (stat.uid(), stat.gid()) };
            Some((name, (stat.mode(), owner, stat.rdev(), stat.ino())))
        };
        Ok(Self {
            mounts: fs::read_to_string("/proc/self/mountinfo")?,
            sysctls: SYSCTLS.into_iter().filter_map(sysctl).collect(),
            devices: DEVICES.into_iter().filter_map(device).collect(),
            runtime: Entry::of(&cx.options.program)?,
        })
    }
}

impl Entry {
    fn of(path: &Path) -> Res<Self> {
        let stat = fs::symlink_metadata(path).context(path.display())?;
        let mut hasher = DefaultHasher::new();
        if stat.is_symlink() {
            fs::read_link(path)?.hash(&mut hasher);
        } else if stat.is_file() {
            fs::read(path)?.hash(&mut hasher);
        }
        Ok(Self {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            inode: stat.ino(),
            links: stat.nlink(),
            size: stat.size(),
            device: stat.rdev(),
            modified: (stat.mtime(), stat.mtime_nsec()),
            changed: (stat.ctime(), stat.ctime_nsec()),
            content: hasher.finish(),
        })
    }
}

impl Entry {
    /// The fields that are not the same, before and after.
    fn difference(&self, new: &Self) -> String {
        let fields = |entry: &Self| format!("{entry:?}").split_inclusive(", ").map(str::to_owned).collect::<Vec<_>>();
        let both = fields(self).into_iter().zip(fields(new));
        both.filter(|(old, new)| old != new).map(|(old, new)| format!("{old}-> {new}")).collect()
    }
}

/// Everything at and below a directory.
fn entries(dir: &Path) -> Res<BTreeMap<PathBuf, Entry>> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                todo.push(entry?.path());
            }
        }
        all.insert(path.clone(), Entry::of(&path)?);
    }
    Ok(all)
}

/// An inotify of all directories below `dir`: what is made and removed again shows as well.
fn watch(dir: &Path) -> Res<OwnedFd> {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let what = WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE
        | WatchFlags::MOVE_SELF
        | WatchFlags::MODIFY
        | WatchFlags::ATTRIB
        | WatchFlags::CLOSE_WRITE;
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        inotify::add_watch(&watch, &path, what)?;
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(watch)
}

fn events(watch: &OwnedFd) -> Res<Vec<String>> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut all = Vec::new();
    loop {
        match reader.next() {
            Ok(event) => {
                let flags: ReadFlags = event.events();
                all.push(format!("{flags:?} {:?}", event.file_name().unwrap_or(c".")));
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(all),
            Err(errno) => return Err(errno.into()),
        }
    }
}
