//! Containers that make cgroups of their own: who may, and that all of it goes away with them.

use crate::case::{Case, Res, case, skip};
use crate::cgroup;
use crate::cx::{Cx, text};
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::json;
use std::os::unix::fs::MetadataExt;

const USER: u32 = 1000;

pub fn cases() -> Vec<Case> {
    vec![
        case("delegation::a_user_owns_a_writable_cgroup", owned)
            .only(&["ferrun"], "runc does it with the systemd driver only, crun by an annotation"),
        case("delegation::a_user_makes_cgroups_in_it", user_makes)
            .only(&["ferrun"], "runc does it with the systemd driver only, crun by an annotation"),
        case("delegation::a_read_only_cgroup_stays_roots", read_only),
        case("delegation::without_a_cgroup_namespace_it_stays_roots", no_namespace),
        case("delegation::root_makes_cgroups_and_moves_into_them", root_makes)
            .without_userns("its cgroups are the host's root's"),
        case("delegation::the_init_moved_is_killed_and_deleted", init_moved)
            .differs("runc", "1.1 leaves the processes of a shared pid namespace alone on v2 (runc#4040)"),
        case("delegation::systemd_inside", systemd_inside).patience(6),
    ]
}

fn v2() -> Res {
    let v2 = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    if v2 { Ok(()) } else { skip("cgroup v1: its spec says not to") }
}

/// A container whose cgroups are mounted with `options`; `user` runs its program.
fn bundle(cx: &Cx, user: u32, options: &[&str]) -> Res<crate::bundle::Bundle> {
    let mut b = cx.bundle()?;
    b.unmount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
    b.namespace("cgroup", Some("")).set("/process/user", json!({"uid": user, "gid": user}));
    Ok(b)
}

fn cgroups(b: &crate::bundle::Bundle) -> Vec<std::path::PathBuf> {
    cgroup::directories(&b.cgroup())
}

fn owners(b: &crate::bundle::Bundle) -> Res<Vec<(u32, u32)>> {
    let mut owners = Vec::new();
    for dir in cgroups(b) {
        owners.push((dir.metadata()?.uid(), dir.join("cgroup.procs").metadata()?.uid()));
    }
    ensure!(!owners.is_empty(), "it has no cgroup");
    Ok(owners)
}

fn owned(cx: &Cx) -> Res {
    v2()?;
    let mut b = bundle(cx, USER, &["nosuid", "noexec", "nodev"])?;
    cx.sleeping(&mut b)?;
    same!(owners(&b)?, vec![(USER, USER)], "owners of the directory and of cgroup.procs");
    Ok(())
}

fn user_makes(cx: &Cx) -> Res {
    v2()?;
    let mut b = bundle(cx, USER, &["nosuid", "noexec", "nodev"])?;
    let said =
        cx.sh(&mut b, "mkdir /sys/fs/cgroup/sub && echo 0 > /sys/fs/cgroup/sub/cgroup.procs && cat /proc/self/cgroup")?;
    ensure!(said.contains("/sub"), "{said}");
    Ok(())
}

fn read_only(cx: &Cx) -> Res {
    v2()?;
    let mut b = bundle(cx, USER, &["nosuid", "noexec", "nodev", "ro"])?;
    cx.sleeping(&mut b)?;
    same!(owners(&b)?, vec![(0, 0)], "owners of the directory and of cgroup.procs");
    Ok(())
}

fn no_namespace(cx: &Cx) -> Res {
    let mut b = bundle(cx, USER, &["nosuid", "noexec", "nodev"])?;
    b.namespace("cgroup", None);
    cx.sleeping(&mut b)?;
    ensure!(owners(&b)?.iter().all(|owners| *owners == (0, 0)), "{:?}", owners(&b)?);
    Ok(())
}

/// What systemd or a runtime inside does: leave the top for a child of its own.
const MOVES: &str = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -e $d/cgroup.procs ] || continue
    mkdir $d/inner && for f in cpuset.cpus cpuset.mems; do [ -e $d/inner/$f ] && cat $d/$f > $d/inner/$f; done
    echo 0 > $d/inner/cgroup.procs || echo failed; [ -d $d/inner ] && [ $d = /sys/fs/cgroup ] && break; done; ";

fn root_makes(cx: &Cx) -> Res {
    let mut b = bundle(cx, 0, &["nosuid", "noexec", "nodev"])?;
    let said = cx.sh(&mut b, &format!("{MOVES} cat /proc/self/cgroup"))?;
    ensure!(said.contains("/inner") && !said.contains("failed"), "{said}");
    ensure!(cgroups(&b).is_empty(), "left: {:?}", cgroups(&b));
    Ok(())
}

/// The init itself sits in a cgroup below the container's, with a child in the host's pid namespace.
fn init_moved(cx: &Cx) -> Res {
    let mut b = bundle(cx, 0, &["nosuid", "noexec", "nodev"])?;
    b.namespace("pid", None).sh(&format!("{MOVES} setsid sleep 100 & echo up; sleep 100"));
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    cx.delete_force(&c.id)?;
    ensure!(cgroups(&b).is_empty(), "left: {:?}", cgroups(&b));
    Ok(())
}

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

/// The machine's own systemd as the init of a container, over a copy-on-write view of the machine's own files.
fn systemd_inside(cx: &Cx) -> Res {
    v2()?;
    if !std::path::Path::new("/run/systemd/system").exists() {
        return skip("systemd does not run here: whether these files boot is not known");
    }
    let mut b = bundle(cx, 0, &["nosuid", "noexec", "nodev"])?;
    let root = overlay(cx)?;
    b.set("/root/path", json!(root)).args(&[SYSTEMD, "--unit=basic.target"]);
    b.push("/process/env", json!("container=oci")).unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
    for tmpfs in ["/run", "/tmp", "/var/log/journal"] {
        b.mount(tmpfs, "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755"]);
    }
    let caps = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETPCAP",
        "CAP_SETFCAP",
        "CAP_SYS_CHROOT",
        "CAP_MKNOD",
        "CAP_AUDIT_WRITE"
    ]);
    b.set("/process/capabilities", json!({"bounding": caps, "effective": caps, "permitted": caps}));
    let c = cx.up(&b)?;
    let pid = cx.pid(&c.id)?;
    eventually("systemd has moved to a cgroup of its own", || {
        Ok(text(format!("/proc/{pid}/cgroup"))?.trim_end().ends_with("/init.scope"))
    })?;
    eventually("it has made slices", || Ok(cgroups(&b).iter().any(|dir| dir.join("system.slice").is_dir())))?;
    cx.delete_force(&c.id)?;
    rustix::mount::unmount(&root, rustix::mount::UnmountFlags::DETACH)?;
    ensure!(cgroups(&b).is_empty(), "left: {:?}", cgroups(&b));
    Ok(())
}

/// What is written stays in a tmpfs: overlayfs wants a file system of its own for it.
fn overlay(cx: &Cx) -> Res<std::path::PathBuf> {
    let (base, root) = (cx.path("overlay"), cx.path("machine"));
    std::fs::create_dir_all(base.join("upper"))?;
    std::fs::create_dir_all(base.join("work"))?;
    std::fs::create_dir_all(&root)?;
    let data = format!("lowerdir=/,upperdir={0}/upper,workdir={0}/work", base.display());
    let data = std::ffi::CString::new(data)?;
    match rustix::mount::mount("overlay", &root, "overlay", rustix::mount::MountFlags::empty(), Some(data.as_c_str())) {
        Ok(()) => Ok(root),
        Err(errno) => skip(format!("no overlay over the machine's root: {errno}")),
    }
}
