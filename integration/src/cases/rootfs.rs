//! The root file system: devices, links, masked and read-only paths, sysctl,
//! propagation, and names that point outside.

use crate::case::{Case, Res, case};
use crate::cx::{Cx, text};
use crate::mountinfo;
use crate::{ensure, same};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

const NOT_THE_HOSTS: &str = "only devices that the host has can be had, under their names there";

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        case("rootfs::read_only", read_only),
        case("rootfs::writable", writable),
        case("rootfs::relative_and_absolute_path", absolute_root),
        case("rootfs::behind_a_symlink", root_symlink)
            .differs("runc", "refuses: `invalid rootfs: not an absolute path, or a symlink`"),
        case("rootfs::the_hosts_root_is_out_of_reach", host_gone),
        case("rootfs::default_devices", default_devices),
        case("rootfs::default_links", default_links),
        case("rootfs::ptmx", ptmx),
        case("rootfs::devices_with_mode_and_owner", devices).without_userns(NOT_THE_HOSTS),
        case("rootfs::devices_despite_the_umask", devices_umask).without_userns(NOT_THE_HOSTS),
        case("rootfs::device_in_a_directory_of_its_own", device_deep).without_userns(NOT_THE_HOSTS),
        case("rootfs::device_of_unknown_kind_is_refused", device_unknown).differs("crun", "passes over it in silence"),
        case("rootfs::devices_without_a_dev_mount", dev_without_mount),
        case("rootfs::masked_file_reads_empty", masked_file),
        case("rootfs::masked_directory_is_empty", masked_directory),
        case("rootfs::masked_path_that_is_absent_is_fine", masked_absent),
        case("rootfs::nothing_stays_a_peer_of_a_shared_host", no_peers),
        case("rootfs::readonly_path", readonly_path),
        case("rootfs::readonly_path_that_is_absent_is_fine", readonly_absent),
        case("rootfs::readonly_proc_sys", readonly_proc_sys),
        case("rootfs::sysctl", sysctl),
        case("rootfs::sysctl_with_slashes", sysctl_slashes),
        case("rootfs::sysctl_of_the_host_is_refused", sysctl_host),
        case("rootfs::sysctl_unknown_is_refused", sysctl_unknown),
        case("rootfs::symlinked_destination_stays_inside", symlink_inside),
        case("rootfs::symlinked_component_stays_inside", symlink_component)
            .differs("crun", "refuses: its openat2 finds nothing at the end of the link"),
        case("rootfs::dot_dot_destination_stays_inside", dot_dot),
        case("rootfs::dangling_symlink_as_a_target", dangling),
        case("rootfs::proc_as_a_symlink_is_refused_or_inside", |cx| proc_symlink(cx, "proc")),
        case("rootfs::sys_as_a_symlink_is_refused_or_inside", |cx| proc_symlink(cx, "sys")),
        case("rootfs::dev_as_a_symlink_leaves_the_host_alone", dev_symlink)
            .differs("runc", "CVE-2026-41579, fixed in 1.3.6")
            .differs("crun", "CVE-2026-47766, fixed in 1.28"),
        case("rootfs::masked_path_behind_a_symlink_stays_inside", masked_symlink),
        case("rootfs::the_hosts_mounts_are_untouched", host_untouched),
        case("rootfs::no_mount_of_the_host_is_visible", no_host_mounts),
    ];
    for (word, want) in [
        ("private", ""),
        ("rprivate", ""),
        ("slave", ""),
        ("rslave", ""),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let c = case(format!("rootfs::propagation_{word}"), move |cx| propagation(cx, word, want));
        let c = if want.is_empty() {
            c
        } else {
            c.differs("runc", "sets it on the tree before pivot_root; the new root itself stays private")
        };
        all.push(if word == "runbindable" {
            c.differs("crun", "its masks are binds out of the root, which that forbids")
        } else {
            c
        });
    }
    all
}

fn read_only(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/root/readonly", json!(true));
    cx.sh(&mut b, "! touch /file 2>/dev/null && ! mkdir /etc/x 2>/dev/null && touch /dev/shm/fine")?;
    ensure!(!b.rootfs().join("file").exists(), "a file was made");
    let mounts = cx.mounts(&mut b)?;
    ensure!(mountinfo::at(&mounts, "/").is_some_and(|m| m.options.iter().any(|o| o == "ro")), "{mounts:?}");
    Ok(())
}

fn writable(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    cx.sh(&mut b, "echo x > /file")?;
    same!(text(b.rootfs().join("file"))?, "x\n", "the file");
    Ok(())
}

fn absolute_root(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let full = b.rootfs();
    b.set("/root/path", json!(full));
    cx.sh(&mut b, "test -e /probe")?;
    let elsewhere = cx.path("elsewhere");
    fs::rename(b.rootfs(), &elsewhere)?;
    b.set("/root/path", json!("../elsewhere"));
    cx.sh(&mut b, "test -e /probe")?;
    Ok(())
}

fn root_symlink(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    symlink("rootfs", b.dir.join("link"))?;
    b.set("/root/path", json!("link"));
    cx.sh(&mut b, "test -e /probe")?;
    Ok(())
}

/// After pivot_root nothing of the old root is mounted or reachable.
fn host_gone(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let marker = cx.path("marker");
    fs::write(&marker, "host")?;
    let path = marker.display().to_string();
    cx.sh(&mut b, &format!("! test -e {path} && ! test -e /..{path} && ! test -e /proc/1/root{path} && ! test -e /proc/1/cwd/../../../..{path}"))?;
    Ok(())
}

fn default_devices(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let seen = cx.sh(
        &mut b,
        "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u:%g' $d; done",
    )?;
    // those of the host, in a user namespace: theirs is nobody's there
    let owner = if cx.binds_devices() { "65534:65534" } else { "0:0" };
    let want: String =
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")]
            .map(|(n, d)| format!("{n} character special file {d} 666 {owner}\n"))
            .concat();
    same!(seen, want, "devices");
    cx.sh(&mut b, "echo x > /dev/null && test $(head -c 4 /dev/zero | wc -c) = 4")?;
    Ok(())
}

fn default_links(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let seen = cx.sh(&mut b, "cd /dev; for l in fd stdin stdout stderr; do readlink $l; done")?;
    same!(seen, "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n", "links");
    Ok(())
}

fn ptmx(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let link = cx.sh(&mut b, "readlink /dev/ptmx")?;
    ensure!(["pts/ptmx\n", "/dev/pts/ptmx\n"].contains(&link.as_str()), "{link:?}");
    same!(cx.sh(&mut b, "stat -L -c %t:%T:%a /dev/ptmx")?, "5:2:666\n", "/dev/ptmx");
    Ok(())
}

fn devices(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set(
        "/linux/devices",
        json!([
            {"path": "/dev/mychar", "type": "c", "major": 1, "minor": 3, "fileMode": 0o620, "uid": 7, "gid": 8},
            {"path": "/dev/myblock", "type": "b", "major": 7, "minor": 200, "fileMode": 0o600, "uid": 0, "gid": 6},
            {"path": "/dev/mypipe", "type": "p", "fileMode": 0o642, "uid": 1, "gid": 2},
            {"path": "/dev/myu", "type": "u", "major": 1, "minor": 5, "fileMode": 0o444, "uid": 0, "gid": 0}
        ]),
    );
    let seen = cx.sh(&mut b, "cd /dev; stat -c '%n %F %t:%T %a %u:%g' mychar myblock mypipe myu")?;
    same!(
        seen,
        "mychar character special file 1:3 620 7:8\nmyblock block special file 7:c8 600 0:6\nmypipe fifo 0:0 642 1:2\nmyu character special file 1:5 444 0:0\n",
        "devices"
    );
    Ok(())
}

fn devices_umask(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/user/umask", json!(0o077));
    b.push(
        "/linux/devices",
        json!({"path": "/dev/open", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}),
    );
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let seen = cx.sh(&mut b, "stat -c %a /dev/open /dev/null");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    same!(seen?, "666\n666\n", "modes");
    Ok(())
}

fn device_deep(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/devices", json!({"path": "/dev/net/deep/node", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666, "uid": 0, "gid": 0}));
    same!(
        cx.sh(&mut b, "stat -c %F /dev/net/deep/node; stat -c %a /dev/net")?,
        "character special file\n755\n",
        "the node"
    );
    Ok(())
}

fn device_unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/devices", json!({"path": "/dev/x", "type": "z", "major": 1, "minor": 3}));
    cx.run(&b)?.fails(&[])?;
    Ok(())
}

fn dev_without_mount(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        b.unmount(d);
    }
    same!(cx.sh(&mut b, "stat -c %t:%T /dev/null")?, "1:3\n", "/dev/null");
    Ok(())
}

/// systemd makes the host's root shared. A mount of the container that were the host's peer would let what is
/// mounted over it appear outside: over /dev/null, for a mask.
fn no_peers(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/maskedPaths", json!("/proc/version"));
    b.bind("/etc", "/bound", &["rbind"]);
    b.sh("cut -d' ' -f5- /proc/self/mountinfo");
    b.save()?;
    let out = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "shared"])
        .arg(&cx.options.runtime)
        .args(cx.options.globals(&cx.root()))
        .args(["run", "--bundle"])
        .arg(&b.dir)
        .arg(cx.id())
        .output()?;
    let seen = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success() && seen.contains("/proc/version"), "{}", String::from_utf8_lossy(&out.stderr));
    let peers: Vec<&str> = seen.lines().filter(|line| line.contains(" shared:")).collect();
    ensure!(peers.is_empty(), "{peers:?}");
    Ok(())
}

fn masked_file(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    fs::write(b.rootfs().join("secret"), "words")?;
    b.push("/linux/maskedPaths", json!("/secret"));
    same!(
        cx.sh(&mut b, "cat /secret; wc -c < /secret; stat -c %F /secret")?,
        "0\ncharacter special file\n",
        "what is seen"
    );
    same!(text(b.rootfs().join("secret"))?, "words", "the file itself");
    Ok(())
}

fn masked_directory(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    fs::create_dir(b.rootfs().join("hidden"))?;
    fs::write(b.rootfs().join("hidden/file"), "words")?;
    b.push("/linux/maskedPaths", json!("/hidden"));
    same!(
        cx.sh(&mut b, "ls -A /hidden; ! touch /hidden/new 2>/dev/null && stat -f -c %T /hidden")?,
        "tmpfs\n",
        "what is seen"
    );
    Ok(())
}

fn masked_absent(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/maskedPaths", json!("/no/such/path"));
    cx.run(&b)?.ok()?;
    ensure!(!b.rootfs().join("no").exists(), "the path was made");
    Ok(())
}

fn readonly_path(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/readonlyPaths", json!("/etc")).push("/linux/readonlyPaths", json!("/home/user"));
    cx.sh(&mut b, "! touch /etc/x 2>/dev/null && ! touch /home/user/x 2>/dev/null && touch /home/y && cat /etc/passwd > /dev/null")?;
    Ok(())
}

fn readonly_absent(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.push("/linux/readonlyPaths", json!("/no/such/path"));
    cx.run(&b)?.ok()?;
    Ok(())
}

fn readonly_proc_sys(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let mounts = cx.mounts(&mut b)?;
    let m = mountinfo::at(&mounts, "/proc/sys");
    ensure!(m.is_some_and(|m| m.options.iter().any(|o| o == "ro") && m.kind == "proc"), "{m:?}");
    cx.sh(&mut b, "! echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward")?;
    Ok(())
}

fn sysctl(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set(
        "/linux/sysctl",
        json!({"net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "77"}),
    );
    let seen = cx.sh(&mut b, "cd /proc/sys; cat net/ipv4/ip_forward kernel/shm_rmid_forced fs/mqueue/msg_max")?;
    same!(seen, "1\n1\n77\n", "sysctls");
    same!(text("/proc/sys/kernel/shm_rmid_forced")?, "0\n", "the host's own");
    Ok(())
}

fn sysctl_slashes(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/sysctl", json!({"net/ipv4/ip_forward": "1"}));
    same!(cx.sh(&mut b, "cat /proc/sys/net/ipv4/ip_forward")?, "1\n", "sysctl");
    Ok(())
}

/// The value is the one that is there already: whoever writes it does no harm.
fn sysctl_host(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let value = text("/proc/sys/kernel/panic")?;
    b.set("/linux/sysctl", json!({"kernel.panic": value.trim()}));
    cx.run(&b)?.fails(&["kernel.panic"])?;
    let mut b = cx.bundle()?;
    b.namespace("network", None).unmount("/sys");
    let value = text("/proc/sys/net/ipv4/ip_forward")?;
    b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": value.trim()}));
    cx.run(&b)?.fails(&["net.ipv4.ip_forward"])?;
    Ok(())
}

fn sysctl_unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/sysctl", json!({"net.no.such.thing": "1"}));
    cx.run(&b)?.fails(&["no such file", "net.no.such.thing"])?;
    Ok(())
}

fn propagation(cx: &Cx, word: &str, want: &str) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/rootfsPropagation", json!(word));
    let mounts = cx.mounts(&mut b)?;
    let Some(root) = mountinfo::at(&mounts, "/") else { return crate::case::broken("no root") };
    for p in ["shared", "unbindable"] {
        same!(root.propagates(p), p == want, format!("{p} in {root:?}"));
    }
    Ok(())
}

/// A directory of the host that a name in the rootfs points to: empty before
/// and after.
fn outside(cx: &Cx) -> Res<std::path::PathBuf> {
    let dir = cx.path("outside");
    fs::create_dir(&dir)?;
    Ok(dir)
}

fn still_empty(dir: &std::path::Path) -> Res {
    let names: Vec<_> = fs::read_dir(dir)?.flatten().map(|e| e.file_name()).collect();
    ensure!(names.is_empty(), "made outside of the rootfs: {names:?}");
    Ok(())
}

fn symlink_inside(cx: &Cx) -> Res {
    let dir = outside(cx)?;
    let mut b = cx.bundle()?;
    symlink(&dir, b.rootfs().join("link"))?;
    b.mount("/link", "tmpfs", "tmpfs", &[]);
    let out = cx.run(b.sh("cat /proc/self/mountinfo"))?;
    still_empty(&dir)?;
    if out.code == Some(0) {
        let point = dir.display().to_string();
        let mounts = mountinfo::parse(&out.stdout);
        ensure!(mountinfo::at(&mounts, &point).is_some(), "not at {point} inside of the rootfs");
    }
    Ok(())
}

fn symlink_component(cx: &Cx) -> Res {
    let dir = outside(cx)?;
    let mut b = cx.bundle()?;
    symlink(&dir, b.rootfs().join("link"))?;
    symlink("../../../../../..", b.rootfs().join("up"))?;
    let up = format!("/up{}/sub", dir.display());
    b.mount("/link/x", "tmpfs", "tmpfs", &[]).mount(&up, "tmpfs", "tmpfs", &[]);
    b.bind("/dev/null", "/link/file", &["bind"]);
    let out = cx.run(b.sh("test -d /link/x && test -c /link/file"))?;
    still_empty(&dir)?;
    out.ok()?;
    Ok(())
}

fn dot_dot(cx: &Cx) -> Res {
    let dir = outside(cx)?;
    let mut b = cx.bundle()?;
    b.mount(&format!("/mnt/../../../../../..{}", dir.display()), "tmpfs", "tmpfs", &[]);
    cx.run(b.sh("true"))?;
    still_empty(&dir)
}

fn dangling(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    symlink("/run/other", b.rootfs().join("link"))?;
    b.bind("/dev/null", "/link", &["bind"]);
    same!(cx.sh(&mut b, "stat -c %F /run/other")?, "character special file\n", "what is behind the link");
    Ok(())
}

fn proc_symlink(cx: &Cx, name: &str) -> Res {
    let dir = outside(cx)?;
    let mut b = cx.bundle()?;
    fs::remove_dir(b.rootfs().join(name))?;
    symlink(&dir, b.rootfs().join(name))?;
    let out = cx.run(b.sh("true"))?;
    still_empty(&dir)?;
    if cx.is("runc") || cx.is("ferrun") {
        out.fails(&["symlink", "not a directory", "must be mounted on ordinary directory"])?;
    }
    Ok(())
}

fn dev_symlink(cx: &Cx) -> Res {
    let dir = outside(cx)?;
    fs::write(dir.join("ptmx"), "marker")?;
    let mut b = cx.bundle()?;
    for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        b.unmount(d);
    }
    fs::remove_dir_all(b.rootfs().join("dev"))?;
    symlink(&dir, b.rootfs().join("dev"))?;
    cx.run(b.sh("true"))?;
    let names: Vec<_> = fs::read_dir(&dir)?.flatten().map(|e| e.file_name()).collect();
    same!(names, ["ptmx"], "names outside of the rootfs");
    same!(text(dir.join("ptmx"))?, "marker", "the marker");
    Ok(())
}

fn masked_symlink(cx: &Cx) -> Res {
    let dir = outside(cx)?;
    fs::write(dir.join("file"), "host")?;
    let mut b = cx.bundle()?;
    symlink(dir.join("file"), b.rootfs().join("link"))?;
    b.push("/linux/maskedPaths", json!("/link")).push("/linux/readonlyPaths", json!("/link"));
    cx.run(b.sh("true"))?;
    same!(text(dir.join("file"))?, "host", "the host's file");
    Ok(())
}

fn host_untouched(cx: &Cx) -> Res {
    let before = text("/proc/self/mountinfo")?;
    let c = cx.sleeping(&mut cx.bundle()?)?;
    same!(text("/proc/self/mountinfo")?, before, "mounts of the host while it runs");
    cx.delete_force(&c.id)?;
    same!(text("/proc/self/mountinfo")?, before, "mounts of the host afterwards");
    Ok(())
}

fn no_host_mounts(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let mut points: Vec<String> = cx.mounts(&mut b)?.into_iter().map(|m| m.point).collect();
    points.retain(|p| !p.starts_with("/proc/") && !p.starts_with("/sys/"));
    if cx.binds_devices() {
        points.retain(|p| {
            !["full", "null", "random", "tty", "urandom", "zero"].iter().any(|d| p == &format!("/dev/{d}"))
        });
    }
    points.sort();
    same!(points, ["/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/proc", "/sys"], "mount points");
    Ok(())
}
