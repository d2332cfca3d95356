//! What is mounted on the host stays as it is mounted there, whoever is root in a user namespace of the container's:
//! mount_namespaces(7). Each container here has CAP_SYS_ADMIN, and shows that it may remount what is its own.

use crate::bundle::{Bundle, CAPS};
use crate::case::{Case, Context, Res, broken, case};
use crate::cx::Cx;
use crate::mountinfo::{self, Mount};
use crate::{ensure, same};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const NOT_LOCKED: &str = "1.8 opens it on the host's side";
const NOT_OF_THE_CONFIG: &str = "what it sets itself is not locked";

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t51_flags_of_the_hosts_mount", flags_of_the_host).differs("crun", NOT_LOCKED),
        case("security::t51_flags_of_a_mount_below", flags_below).differs("crun", NOT_LOCKED),
        case("security::t51_flags_of_the_mount_of_a_file", flags_of_a_file).differs("crun", NOT_LOCKED),
        case("security::t51_flags_of_the_mount_that_the_root_is_in", flags_of_the_root),
        case("security::t51_flags_in_a_pod", flags_in_a_pod).differs("crun", NOT_LOCKED),
        case("security::t51_flags_of_an_id_mapped_mount", flags_of_an_id_mapped).differs("crun", NOT_LOCKED),
        case("security::t51_flags_of_the_config", flags_of_the_config)
            .differs("runc", NOT_OF_THE_CONFIG)
            .differs("crun", NOT_OF_THE_CONFIG),
        case("security::t51_what_a_mount_of_the_host_covers", covered).differs("crun", NOT_LOCKED),
    ]
}

const FLAGS: [(&str, MountFlags); 7] = [
    ("ro", MountFlags::RDONLY),
    ("nosuid", MountFlags::NOSUID),
    ("nodev", MountFlags::NODEV),
    ("noexec", MountFlags::NOEXEC),
    ("noatime", MountFlags::NOATIME),
    ("nodiratime", MountFlags::NODIRATIME),
    ("nosymfollow", MountFlags::NOSYMFOLLOW),
];

/// A mount of the host's, which goes with the case.
pub struct HostMount(PathBuf);

impl Drop for HostMount {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

impl HostMount {
    pub fn files(point: PathBuf) -> Res<Self> {
        fs::create_dir_all(&point)?;
        mount("host", &point, "tmpfs", MountFlags::empty(), Some(c"mode=0777")).context("mount a tmpfs")?;
        let this = Self(point);
        fs::write(this.0.join("file"), "the host's\n")?;
        Ok(this)
    }

    pub fn guarded(self, words: &[&str]) -> Res<Self> {
        let all =
            FLAGS.iter().filter(|(word, _)| words.contains(word)).fold(MountFlags::BIND, |all, (_, flag)| all | *flag);
        mount_remount(&self.0, all, c"").context("remount")?;
        Ok(self)
    }
}

const ALL: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// Its root may mount, and has a mount of its own at /own.
fn bundle(cx: &Cx) -> Res<Bundle> {
    let mut b = cx.bundle()?;
    b.map_ids().given = true;
    let mut caps = CAPS.to_vec();
    caps.push("CAP_SYS_ADMIN");
    for set in ["bounding", "effective", "permitted"] {
        b.set(&format!("/process/capabilities/{set}"), json!(caps));
    }
    b.mount("/own", "tmpfs", "own", &ALL);
    Ok(b)
}

/// Takes away one flag after the other, of /own too: else the container could do nothing of the kind.
fn remounts(point: &str, words: &[&str]) -> String {
    let without = |point: &str, words: &[&str], word: &str| {
        let rest: String = words.iter().filter(|other| **other != word).map(|other| format!(",{other}")).collect();
        format!("mount -o remount,bind{rest} none {point} 2>/dev/null && echo {point} lost {word}\n")
    };
    let tries: String = words.iter().map(|word| without(point, words, word)).collect();
    format!("{}{tries}cat /proc/self/mountinfo", without("/own", &ALL, "ro"))
}

fn stays(said: &str, point: &str, words: &[&str]) -> Res {
    let own = said.lines().next().unwrap_or_default();
    same!(own, "/own lost ro", "what the container can do to its own mount");
    let lost: Vec<&str> = said.lines().filter(|line| line.starts_with(&format!("{point} lost "))).collect();
    ensure!(lost.is_empty(), "{lost:?}");
    let mounts = mountinfo::parse(said);
    let Some(Mount { options, .. }) = mountinfo::at(&mounts, point) else {
        return broken(format!("no {point}: {said}"));
    };
    ensure!(words.iter().all(|word| options.iter().any(|option| option == word)), "{point} is {options:?}");
    Ok(())
}

fn tried(cx: &Cx, b: &mut Bundle, point: &str, words: &[&str]) -> Res {
    stays(&cx.sh(b, &remounts(point, words))?, point, words)
}

fn flags_of_the_host(cx: &Cx) -> Res {
    let host = HostMount::files(cx.fresh("guard"))?.guarded(&ALL)?;
    for word in ["bind", "rbind"] {
        let mut b = bundle(cx)?;
        tried(cx, b.bind(&host.0, "/mnt", &[word]), "/mnt", &ALL)?;
    }
    Ok(())
}

fn flags_below(cx: &Cx) -> Res {
    let dir = cx.fresh("guard");
    let _host = HostMount::files(dir.join("sub"))?.guarded(&ALL)?;
    let mut b = bundle(cx)?;
    tried(cx, b.bind(&dir, "/mnt", &["rbind"]), "/mnt/sub", &ALL)
}

fn flags_of_a_file(cx: &Cx) -> Res {
    let host = HostMount::files(cx.fresh("guard"))?.guarded(&ALL)?;
    let mut b = bundle(cx)?;
    b.bind(host.0.join("file"), "/mnt/file", &["bind"]);
    tried(cx, &mut b, "/mnt/file", &ALL)
}

/// The storage of an engine is often mounted so.
fn flags_of_the_root(cx: &Cx) -> Res {
    let words = ["nosuid", "nodev"];
    let mut b = bundle(cx)?;
    let root = b.rootfs();
    mount_bind(&root, &root).context("bind the root onto itself")?;
    let _host = HostMount(root).guarded(&words)?;
    tried(cx, &mut b, "/", &words)
}

/// In the user namespace of another container, as those of a pod are.
fn flags_in_a_pod(cx: &Cx) -> Res {
    let host = HostMount::files(cx.fresh("guard"))?.guarded(&ALL)?;
    let sandbox = cx.sleeping(&mut bundle(cx)?)?;
    let pid = cx.pid(&sandbox.id)?;
    let mut b = bundle(cx)?;
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
        b.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    tried(cx, b.bind(&host.0, "/mnt", &["rbind"]), "/mnt", &ALL)
}

fn flags_of_an_id_mapped(cx: &Cx) -> Res {
    let host = HostMount::files(cx.fresh("guard"))?.guarded(&ALL)?;
    let mut b = bundle(cx)?;
    let list: Value = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    b.push(
        "/mounts",
        json!({"destination": "/mnt", "type": "bind", "source": host.0, "options": ["rbind"],
            "uidMappings": list, "gidMappings": list}),
    );
    tried(cx, &mut b, "/mnt", &ALL)
}

/// What the host can write to, and the container is not to.
fn flags_of_the_config(cx: &Cx) -> Res {
    let host = HostMount::files(cx.fresh("guard"))?;
    let options: Vec<&str> = ["rbind"].into_iter().chain(ALL).collect();
    for source in [host.0.clone(), host.0.join("file")] {
        let mut b = bundle(cx)?;
        tried(cx, b.bind(source, "/place", &options), "/place", &ALL)?;
    }
    Ok(())
}

/// A file below a mount point: no way leads to it but past the mount.
fn secret(dir: &Path) -> Res<HostMount> {
    let sub = dir.join("sub");
    fs::create_dir_all(&sub)?;
    fs::write(sub.join("secret"), "secret")?;
    HostMount::files(sub)
}

fn covered(cx: &Cx) -> Res {
    let dir = cx.fresh("guard");
    let _host = secret(&dir)?;
    let mut b = bundle(cx)?;
    b.bind(&dir, "/mnt", &["rbind"]);
    let script = "umount /own && echo own\n\
        umount /mnt/sub; umount -l /mnt/sub; cat /mnt/sub/secret\n\
        mkdir /other /away; mount --bind /mnt /other; cat /other/sub/secret\n\
        mount --move /mnt/sub /away; cat /mnt/sub/secret\n\
        cat /mnt/sub/file; true";
    same!(cx.sh(&mut b, script)?, "own\nthe host's\n", "what the container reads");
    Ok(())
}

/// It is the caller's decision, and the host stays as it was.
pub fn taken_away(cx: &Cx) -> Res {
    let host = HostMount::files(cx.fresh("guard"))?.guarded(&ALL)?;
    let mut b = bundle(cx)?;
    b.bind(&host.0, "/mnt", &["rbind", "rw", "exec"]);
    same!(cx.sh(&mut b, "echo more > /mnt/more && cat /mnt/more")?, "more\n", "what the container reads");
    let mounts = mountinfo::parse(&fs::read_to_string("/proc/self/mountinfo")?);
    let Some(mount) = mountinfo::at(&mounts, &host.0.to_string_lossy()) else {
        return broken("the host's mount is gone");
    };
    ensure!(ALL.iter().all(|word| mount.has(word)), "the host's mount is {:?}", mount.options);
    Ok(())
}

/// As asked: not what a mount of the host's shows there, but what it covers.
pub fn without_below(cx: &Cx) -> Res {
    let dir = cx.fresh("guard");
    let _host = secret(&dir)?;
    let mut b = bundle(cx)?;
    b.bind(&dir, "/mnt", &["bind"]);
    same!(cx.sh(&mut b, "cat /mnt/sub/secret")?, "secret", "what the container reads");
    Ok(())
}
