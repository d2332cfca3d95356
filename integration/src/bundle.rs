//! Bundles: a rootfs of busybox and the probe, and a config.json like the one of
//! `runc spec` that a case edits through JSON pointers.

use crate::case::Res;
use crate::cgroup;
use crate::options::Options;
use crate::user;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

const APPLETS: &[&str] = &[
    "awk", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "echo", "env", "false", "find", "grep", "head",
    "hostname", "id", "ip", "kill", "ln", "ls", "mkdir", "mkfifo", "mknod", "mount", "mv", "nc", "od", "printf", "ps",
    "pwd", "readlink", "rm", "rmdir", "sed", "setsid", "sh", "sleep", "sort", "stat", "stty", "tail", "test", "touch",
    "tr", "true", "tty", "umount", "uname", "wc", "xargs",
];

/// The rootfs that all bundles are hard-linked from.
pub fn make_template(dir: &Path) -> io::Result<()> {
    for d in ["bin", "etc", "proc", "sys", "dev", "tmp", "mnt", "root", "home/user"] {
        fs::create_dir_all(dir.join(d))?;
    }
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists());
    let busybox = busybox.ok_or(io::Error::other("no busybox: apt-get install busybox-static"))?;
    fs::copy(busybox, dir.join("bin/busybox"))?;
    fs::copy("/proc/self/exe", dir.join("probe"))?;
    // A static build maps no libraries; of a dynamic one each goes to its own path.
    for library in mapped_libraries()? {
        let to = dir.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(dir))?;
        fs::copy(&library, to)?;
    }
    if let Some(loader) = interpreter() {
        let to = dir.join(loader.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap_or(dir))?;
        fs::copy(&loader, to)?;
    }
    fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")?;
    fs::write(dir.join("etc/group"), "root:x:0:\nuser:x:1000:\n")
}

fn mapped_libraries() -> io::Result<Vec<String>> {
    let mut found: Vec<String> = fs::read_to_string("/proc/self/maps")?
        .lines()
        .filter_map(|l| l.split_whitespace().nth(5))
        .filter(|p| p.starts_with('/') && p.contains(".so"))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// The loader's path as the program names it: /lib64/ld-linux-x86-64.so.2 is a
/// symlink that the maps do not show.
fn interpreter() -> Option<String> {
    let raw = fs::read("/proc/self/exe").ok()?;
    let at = raw.windows(9).take(4096).position(|w| w == b"/lib64/ld")?;
    let end = raw[at..].iter().position(|b| *b == 0)?;
    String::from_utf8(raw[at..at + end].to_vec()).ok()
}

/// A rootfs of one's own: hard links for the big files, fresh directories.
fn clone_template(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            clone_template(&entry.path(), &target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The host's id of the container's root in a user namespace of ours, and how many there are.
pub const ROOT: u32 = 100_000;
pub const IDS: u32 = 65_536;

/// Everything at and below `path` changes hands: from those who had it on the host to the container's of the same
/// number. What is the container's already stays so.
pub fn give(path: &Path) -> io::Result<()> {
    let stat = fs::symlink_metadata(path)?;
    let mode = stat.mode();
    let id = |id: u32| if id < IDS { id + ROOT } else { id };
    let (uid, gid) = (id(stat.uid()), id(stat.gid()));
    // what all bundles share was given with the template, or is not to be
    let shared = !stat.is_dir() && stat.nlink() > 1;
    if !shared && (uid, gid) != (stat.uid(), stat.gid()) {
        lchown(path, Some(uid), Some(gid))?;
        if !stat.is_symlink() && mode & 0o6000 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
    }
    if stat.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path())?;
        }
    }
    Ok(())
}

/// As [`give`], the first time: later somebody may be at work in there.
fn give_once(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.uid() < IDS { give(path) } else { Ok(()) }
}

#[derive(Clone)]
pub struct Bundle {
    pub dir: PathBuf,
    pub config: Value,
    /// The container's root is to have the rootfs, and what of the case's own is bound.
    pub given: bool,
    /// What [`Bundle::map_ids`] maps: first inside, first outside, how many.
    maps: Vec<(u32, u32, u32)>,
    cgroup: String,
}

impl Bundle {
    pub fn new(dir: PathBuf, template: &Path, cgroup: &str) -> Res<Self> {
        fs::create_dir_all(&dir)?;
        clone_template(template, &dir.join("rootfs"))?;
        for a in APPLETS {
            symlink("busybox", dir.join("rootfs/bin").join(a))?;
        }
        let (config, maps) = (base_config(cgroup), vec![(0, ROOT, IDS)]);
        Ok(Self { dir, config, given: false, maps, cgroup: cgroup.to_owned() })
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// Sets what a pointer names, making what is missing on the way.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        *place(&mut self.config, pointer) = value;
        self
    }

    /// Adds to the array that a pointer names.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        let at = place(&mut self.config, pointer);
        match at.as_array_mut() {
            Some(a) => a.push(value),
            None => *at = json!([value]),
        }
        self
    }

    pub fn unset(&mut self, pointer: &str) -> &mut Self {
        if let Some((parent, key)) = pointer.rsplit_once('/')
            && let Some(o) = self.config.pointer_mut(parent).and_then(Value::as_object_mut)
        {
            o.remove(key);
        }
        self
    }

    pub fn args<S: AsRef<str>>(&mut self, args: &[S]) -> &mut Self {
        let list: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
        self.set("/process/args", json!(list))
    }

    pub fn sh(&mut self, script: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// A program that does nothing until it is told to end (as pid 1 it only
    /// gets signals that it asked for).
    pub fn sleeps(&mut self) -> &mut Self {
        self.sh("trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done")
    }

    pub fn mount(&mut self, destination: &str, kind: &str, source: impl AsRef<Path>, options: &[&str]) -> &mut Self {
        self.push(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source.as_ref(), "options": options}),
        )
    }

    pub fn bind(&mut self, source: impl AsRef<Path>, destination: &str, options: &[&str]) -> &mut Self {
        self.mount(destination, "bind", source, options)
    }

    /// Namespace of a kind: None = the host's, Some("") = new, else by path.
    pub fn namespace(&mut self, kind: &str, path: Option<&str>) -> &mut Self {
        if let Some(list) = place(&mut self.config, "/linux/namespaces").as_array_mut() {
            list.retain(|n| n["type"] != kind);
            match path {
                None => {}
                Some("") => list.push(json!({"type": kind})),
                Some(p) => list.push(json!({"type": kind, "path": p})),
            }
        }
        self
    }

    /// In a new user namespace, whose root is 100000 of the host, if there is one. The rootfs is its own.
    pub fn map_ids(&mut self) -> &mut Self {
        self.namespace("user", Some(""));
        let map = |(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size});
        let all: Value = self.maps.iter().copied().map(map).collect();
        self.set("/linux/uidMappings", all.clone()).set("/linux/gidMappings", all)
    }

    /// As the user of `--as-user` may have it.
    pub fn for_user(&mut self, cgroups: bool) -> &mut Self {
        self.maps = user::MAPS.to_vec();
        if !cgroups {
            self.unset("/linux/cgroupsPath");
        }
        self.map_ids()
    }

    /// As what is itself in a user namespace may have it.
    pub fn for_nested(&mut self, options: &Options) -> &mut Self {
        if options.no_cgroups {
            self.unset("/linux/cgroupsPath");
        }
        if options.ids == 1 {
            self.maps = vec![(0, 0, 1)];
            self.set("/mounts/2/options", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]));
        }
        self
    }

    /// In the host's user namespace, whatever the others are in.
    pub fn host_ids(&mut self) -> &mut Self {
        self.namespace("user", None).unset("/linux/uidMappings").unset("/linux/gidMappings")
    }

    /// Without a mount at this destination.
    pub fn unmount(&mut self, destination: &str) -> &mut Self {
        if let Some(list) = place(&mut self.config, "/mounts").as_array_mut() {
            list.retain(|m| m["destination"] != destination);
        }
        self
    }

    /// Where its cgroup is in each hierarchy, whichever driver the path is for.
    pub fn cgroup(&self) -> String {
        cgroup::resolve(self.config["linux"]["cgroupsPath"].as_str().unwrap_or(&self.cgroup))
    }

    pub fn save(&self) -> Res {
        if self.given && self.config["linux"]["uidMappings"][0]["hostID"] == ROOT {
            self.give()?;
        }
        fs::write(self.dir.join("config.json"), serde_json::to_vec_pretty(&self.config)?)?;
        Ok(())
    }
}

impl Bundle {
    /// As a manager would: the rootfs and the volumes. What an oracle watches is nobody's to give.
    fn give(&self) -> Res {
        let case = self.dir.parent().unwrap_or(&self.dir);
        let root = self.dir.join(self.config["root"]["path"].as_str().unwrap_or("rootfs"));
        if root.starts_with(case) && root.exists() {
            give_once(&root)?;
        }
        for mount in self.config["mounts"].as_array().into_iter().flatten() {
            let source = Path::new(mount["source"].as_str().unwrap_or_default());
            let Ok(inside) = source.strip_prefix(case) else { continue };
            let mapped = mount["uidMappings"].is_array() || mount["options"].to_string().contains("idmap");
            if source.exists() && !mapped && !inside.to_string_lossy().starts_with("guard") {
                give_once(source)?;
            }
        }
        Ok(())
    }
}

fn place<'a>(root: &'a mut Value, pointer: &str) -> &'a mut Value {
    let mut at = root;
    for key in pointer.split('/').skip(1) {
        let key = key.replace("~1", "/").replace("~0", "~");
        if at.is_array() {
            let n: usize = key.parse().unwrap_or(0);
            at = &mut at[n];
        } else {
            if !at.is_object() {
                *at = json!({});
            }
            at = &mut at[key];
        }
    }
    at
}

pub const CAPS: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// ociVersion 1.0.2: the newest that Debian's crun accepts. No rlimits: without
/// CAP_SYS_RESOURCE a hard limit cannot be raised.
fn base_config(cgroup: &str) -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": CAPS, "effective": CAPS, "permitted": CAPS},
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "web",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
