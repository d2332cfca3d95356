//! Names in the rootfs that lead out of it.

use super::oracle::Guard;
use super::race::race;
use crate::bundle::Bundle;
use crate::case::{Case, Res, case};
use crate::cx::Cx;
use crate::ensure;
use crate::mountinfo;
use crate::run::Out;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t05_mount_target_behind_a_link", target_behind_link)
            .differs("runc", "1.1 makes the target of a procfs by its path"),
        case("security::t06_proc_and_sys_are_links", proc_sys_links),
        case("security::t06_proc_and_sys_behind_a_link", proc_behind_link),
        case("security::t08_mount_target_race", |cx| target_race(cx, false))
            .patience(3)
            .differs("runc", "CVE-2024-45310, fixed in 1.1.14"),
        case("security::t17_mount_target_made_in_a_race", |cx| target_race(cx, true))
            .patience(3)
            .differs("runc", "CVE-2024-45310, fixed in 1.1.14"),
        case("security::t18_what_is_written_into_the_rootfs", written_files),
        case("security::t26_dev_is_a_link", dev_link)
            .differs("runc", "CVE-2026-41579, fixed in 1.3.6")
            .differs("crun", "CVE-2026-47766, fixed in 1.28"),
    ]
}

/// Runs, or is refused as it should be.
pub fn tried(cx: &Cx, b: &Bundle) -> Res<Out> {
    let out = cx.run(b)?;
    if out.code == Some(0) { Ok(out) } else { out.fails(&[]) }
}

/// CVE-2019-18837 and every runtime's first mistake: a target is made where a link of the image leads.
pub fn target_behind_link(cx: &Cx) -> Res {
    for (kind, source) in [("tmpfs", "tmpfs"), ("bind", "/etc"), ("bind", "/etc/hostname"), ("proc", "proc")] {
        for climb in [false, true] {
            let guard = Guard::new(cx)?;
            let b = cx.bundle()?;
            let place = |name: &str| if climb { guard.climbing(name) } else { guard.path(name) };
            symlink(place("empty"), b.rootfs().join("dir"))?;
            symlink(place("missing"), b.rootfs().join("dangling"))?;
            symlink(place("marker"), b.rootfs().join("file"))?;
            symlink("dir", b.rootfs().join("chain"))?;
            fs::create_dir(b.rootfs().join("mnt/in"))?;
            symlink("../../../chain", b.rootfs().join("mnt/in/up"))?;
            let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
            for target in ["/dir", "/dir/x", "/dir/x/y/z", "/dangling", "/dangling/x", "/mnt/in/up/x", "/file"] {
                let mut b = b.clone();
                b.mount(target, kind, source, options);
                tried(cx, &b)?;
                guard.untouched()?;
            }
        }
    }
    Ok(())
}

/// CVE-2019-19921, CVE-2023-27561, CVE-2023-28642: /proc elsewhere, and what is written to it is the attacker's.
pub fn proc_sys_links(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    for name in ["proc", "sys"] {
        for inside in [true, false] {
            let mut b = cx.bundle()?;
            fs::remove_dir(b.rootfs().join(name))?;
            fs::create_dir_all(b.rootfs().join("evil/self/attr"))?;
            let target = if inside { "evil".into() } else { guard.path("deep") };
            symlink(target, b.rootfs().join(name))?;
            let out = cx.run(b.args(&["/bin/true"]))?;
            guard.untouched()?;
            out.fails(&["symlink", "not a directory", "ordinary directory"])?;
        }
    }
    Ok(())
}

/// The same by a way that ends in a real name.
pub fn proc_behind_link(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    for destination in ["/up/proc", "/mnt/../proc", "/proc/../evil/proc"] {
        let mut b = cx.bundle()?;
        fs::create_dir_all(b.rootfs().join("evil/proc/self/attr"))?;
        symlink("evil", b.rootfs().join("up"))?;
        b.unmount("/proc");
        b.mount(destination, "proc", "proc", &[]);
        b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
        b.sh("cat /proc/self/mountinfo 2>/dev/null || cat /evil/proc/self/mountinfo");
        tried(cx, &b)?;
        guard.untouched()?;
    }
    Ok(())
}

/// CVE-2021-30465 (T08) and CVE-2024-45310 (T17): a neighbour with the same volume exchanges a directory for a
/// link to the host while the target in it is looked up, or made.
fn target_race(cx: &Cx, make: bool) -> Res {
    let guard = Guard::new(cx)?;
    let volume = cx.path("volume");
    fs::create_dir_all(volume.join("d/x"))?;
    symlink(guard.dir(), volume.join("link"))?;
    let mut b = cx.bundle()?;
    b.bind(&volume, "/vol", &["rbind"]).save()?;
    let before = b.config.clone();
    // a link of the image leads to the guard's path inside: that is a fine place
    let inside = guard.dir().display().to_string();
    race(
        cx,
        (&volume.join("d"), &volume.join("link")),
        |n| {
            b.config = before.clone();
            let target = if make { format!("/vol/d/made{n}/deep") } else { "/vol/d/x".to_owned() };
            b.mount(&target, "tmpfs", "tmpfs", &["size=4k"]).sh("cat /proc/self/mountinfo");
            let out = cx.run(&b)?;
            guard.untouched()?;
            Ok(out)
        },
        |out| {
            let mounts = mountinfo::parse(&out.stdout);
            let ours = mounts.iter().filter(|m| m.data.iter().any(|word| word == "size=4k"));
            let points: Vec<&str> = ours.map(|m| m.point.as_str()).collect();
            let fine = |point: &str| point.starts_with("/vol/") || point.starts_with(&inside);
            ensure!(points.len() == 1 && fine(points[0]), "the tmpfs is at {points:?}");
            Ok(())
        },
    )?;
    guard.untouched()
}

/// CVE-2025-24965 and others: files that the runtime itself makes in the rootfs (targets of binds, /dev/console,
/// links in /dev) where the image has links.
pub fn written_files(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let mut b = cx.bundle()?;
    for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        b.unmount(d);
    }
    // all names that some runtime writes to
    let names =
        ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "fd", "stdin", "stdout", "core"];
    for name in names {
        symlink(guard.path("marker"), b.rootfs().join("dev").join(name))?;
    }
    for name in [".krun_config.json", ".dockerenv", "run", "etc/mtab", "etc/resolv.conf"] {
        symlink(guard.path("missing"), b.rootfs().join(name))?;
    }
    b.bind("/etc/hostname", "/etc/resolv.conf", &["bind", "ro"]);
    b.push(
        "/linux/devices",
        json!({"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 7, "gid": 7}),
    );
    symlink(guard.path("marker"), b.rootfs().join("dev/mine"))?;
    tried(cx, b.args(&["/bin/true"]))?;
    guard.untouched()?;
    // one at a time: the first refusal hides the others
    for name in names {
        let mut b = cx.bundle()?;
        for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            b.unmount(d);
        }
        for (target, label) in [("marker", "file"), ("missing", "nothing"), ("empty", "directory")] {
            let link = b.rootfs().join("dev").join(name);
            let _ = fs::remove_file(&link);
            symlink(guard.path(target), &link)?;
            tried(cx, b.args(&["/bin/true"]))?;
            crate::case::Context::context(guard.untouched(), format!("/dev/{name} leads to a {label}"))?;
        }
    }
    Ok(())
}

/// CVE-2026-41579 and CVE-2026-47766: without a mount on /dev, the image's own one is a link.
pub fn dev_link(cx: &Cx) -> Res {
    for climb in [false, true] {
        let guard = Guard::new(cx)?;
        let mut b = cx.bundle()?;
        for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
            b.unmount(d);
        }
        fs::remove_dir_all(b.rootfs().join("dev"))?;
        let target = if climb { guard.climbing("") } else { guard.dir().to_owned() };
        symlink(target, b.rootfs().join("dev"))?;
        tried(cx, b.args(&["/bin/true"]))?;
        guard.untouched()?;
        deep_dev_link(cx, &guard)?;
    }
    Ok(())
}

/// A directory below /dev for a device of the config's own.
fn deep_dev_link(cx: &Cx, guard: &Guard<'_>) -> Res {
    let mut b = cx.bundle()?;
    for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        b.unmount(d);
    }
    symlink(guard.dir(), b.rootfs().join("dev/net"))?;
    b.push(
        "/linux/devices",
        json!({"path": "/dev/net/tun", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}),
    );
    tried(cx, b.args(&["/bin/true"]))?;
    guard.untouched()
}
