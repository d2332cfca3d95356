//! Mounts: every option word, file system types, binds, propagation.

use crate::case::{Case, Res, case, skip};
use crate::cx::Cx;
use crate::mountinfo::{self, Mount};
use crate::security::locked::HostMount;
use crate::{ensure, same};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// An option word on a tmpfs, and the word of mountinfo that must be there (or,
/// with `!`, must not).
const WORDS: &[(&str, &str)] = &[
    ("ro", "ro"),
    ("rw", "rw"),
    ("nosuid", "nosuid"),
    ("suid", "!nosuid"),
    ("nodev", "nodev"),
    ("dev", "!nodev"),
    ("noexec", "noexec"),
    ("exec", "!noexec"),
    ("noatime", "noatime"),
    ("atime", "!noatime"),
    ("nodiratime", "nodiratime"),
    ("diratime", "!nodiratime"),
    ("relatime", "relatime"),
    ("norelatime", "rw"),
    ("strictatime", "!relatime"),
    ("nostrictatime", "rw"),
    ("sync", "sync"),
    ("async", "!sync"),
    ("dirsync", "dirsync"),
    ("mand", "rw"),
    ("nomand", "rw"),
    ("defaults", "rw"),
    ("iversion", "rw"),
    ("noiversion", "rw"),
    ("lazytime", "lazytime"),
    ("nolazytime", "!lazytime"),
    ("silent", "rw"),
    ("loud", "rw"),
    ("nosymfollow", "nosymfollow"),
    ("symfollow", "!nosymfollow"),
];

/// Recursive words on a bind of a tree of two mounts: seen on both.
const RECURSIVE: &[(&str, &str)] = &[
    ("rro", "ro"),
    ("rrw", "rw"),
    ("rnosuid", "nosuid"),
    ("rsuid", "!nosuid"),
    ("rnodev", "nodev"),
    ("rdev", "!nodev"),
    ("rnoexec", "noexec"),
    ("rexec", "!noexec"),
    ("rnodiratime", "nodiratime"),
    ("rdiratime", "!nodiratime"),
    ("rrelatime", "relatime"),
    ("rnorelatime", "rw"),
    ("rnoatime", "noatime"),
    ("ratime", "!noatime"),
    ("rstrictatime", "!relatime"),
    ("rnostrictatime", "rw"),
    ("rnosymfollow", "nosymfollow"),
    ("rsymfollow", "!nosymfollow"),
];

/// Without a cgroup namespace they mount v2 afresh: there is one superblock, so the
/// machine's own mount loses what is not said again.
const REMOUNT: &str = "takes nsdelegate and memory_recursiveprot from the host's cgroup2";
const RATIME: &str = "clears one bit of the access time modes: mount_setattr wants all of them cleared (EINVAL)";

/// Propagation words, and what the optional fields of mountinfo must have.
const PROPAGATION: &[(&str, &str)] = &[
    ("shared", "shared"),
    ("rshared", "shared"),
    ("private", "!shared"),
    ("rprivate", "!shared"),
    ("slave", "!shared"),
    ("rslave", "!shared"),
    ("unbindable", "unbindable"),
    ("runbindable", "unbindable"),
];

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for &(word, want) in WORDS {
        let c = case(format!("mounts::option_{word}"), move |cx| option(cx, word, want));
        all.push(match word {
            "iversion" | "noiversion" | "silent" | "loud" | "nosymfollow" | "symfollow" => {
                c.differs("crun", "gives words that it does not know to the file system, which refuses them")
            }
            "defaults" => c.differs("runc", "gives words that it does not know to the file system, which refuses them"),
            _ => c,
        });
    }
    for &(word, want) in RECURSIVE {
        let c = case(format!("mounts::recursive_{word}"), move |cx| recursive(cx, word, want));
        all.push(match word {
            "ratime" | "rnostrictatime" => c.differs("runc", RATIME).differs("crun", RATIME),
            "rnodiratime" | "rdiratime" | "rnoatime" | "rstrictatime" => c.differs("crun", RATIME),
            "rrelatime" => c.differs("crun", "1.21 takes the word and does nothing"),
            "rnosymfollow" | "rsymfollow" => c.differs("crun", "1.8.1 takes the word and does nothing"),
            _ => c,
        });
    }
    for &(word, want) in PROPAGATION {
        let c = case(format!("mounts::propagation_{word}"), move |cx| propagation(cx, word, want));
        let c = if want.starts_with('!') {
            c
        } else {
            c.differs("crun", "makes the whole tree private again after pivot_root")
        };
        all.push(c);
    }
    all.extend([
        case("mounts::last_word_of_a_pair_wins", last_word)
            .differs("crun", "adds up the flags: what was set stays set"),
        case("mounts::tmpfs_data", tmpfs_data),
        case("mounts::tmpfs_mode_of_the_config_wins", tmpfs_mode_given)
            .differs("runc", "1.1 changes it to that of the directory below"),
        case("mounts::tmpfs_keeps_the_mode_of_the_directory_below", tmpfs_mode)
            .differs("crun", "a tmpfs without mode= has the kernel's 1777"),
        case("mounts::tmpfs_copyup", copyup),
        case("mounts::tmpfs_copyup_of_a_missing_directory", copyup_missing),
        case("mounts::bind_of_a_directory", bind_directory),
        case("mounts::bind_of_a_file", bind_file),
        case("mounts::bind_makes_missing_targets", bind_missing),
        case("mounts::bind_over_an_existing_file", bind_over),
        case("mounts::bind_of_a_missing_source_is_refused", bind_no_source),
        case("mounts::bind_source_is_relative_to_the_bundle", bind_relative),
        case("mounts::bind_by_option_without_a_type", bind_untyped),
        case("mounts::bind_read_only", bind_ro),
        case("mounts::bind_read_only_keeps_the_sources_flags", bind_keeps_flags),
        case("mounts::bind_does_not_change_the_source", bind_source_untouched),
        case("mounts::bind_is_not_recursive", bind_flat),
        case("mounts::rbind_is_recursive", rbind),
        case("mounts::rbind_ro_leaves_what_is_below_writable", rbind_ro),
        case("mounts::bind_of_a_device_node_and_a_socket", bind_special),
        case("mounts::bind_through_a_symlinked_source", bind_symlink_source),
        case("mounts::order_is_the_configs", order),
        case("mounts::over_one_another", stacked),
        case("mounts::proc", |cx| kind(cx, "proc", "proc", "/proc")),
        case("mounts::sysfs", |cx| kind(cx, "sysfs", "sysfs", "/sys")),
        case("mounts::mqueue", |cx| kind(cx, "mqueue", "mqueue", "/dev/mqueue")),
        case("mounts::devpts", |cx| kind(cx, "devpts", "devpts", "/dev/pts")),
        case("mounts::overlay", overlay),
        case("mounts::cgroup_shows_the_containers_own", cgroup_mount).differs("runc", REMOUNT).differs("crun", REMOUNT),
        case("mounts::cgroup_is_read_only", cgroup_ro),
        case("mounts::cgroup_in_a_cgroup_namespace", cgroup_mount_ns),
        case("mounts::unknown_type_is_refused", unknown_type),
        case("mounts::bad_data_is_refused_by_name", bad_data)
            .only(&["ferrun"], "the kernel's own words about an option are read by nobody else"),
        case("mounts::relative_destination_counts_from_the_root", relative_destination),
        case("mounts::root_modes_of_fresh_mounts_are_untouched", root_modes),
    ]);
    all
}

fn check(m: &Mount, want: &str) -> Res {
    match want.strip_prefix('!') {
        Some(absent) => ensure!(!m.has(absent), "{absent} is set: {m:?}"),
        None => ensure!(m.has(want), "{want} is not set: {m:?}"),
    }
    Ok(())
}

fn find<'a>(mounts: &'a [Mount], point: &str) -> Res<&'a Mount> {
    match mountinfo::at(mounts, point) {
        Some(m) => Ok(m),
        None => crate::case::broken(format!("nothing is mounted at {point}")),
    }
}

fn option(cx: &Cx, word: &str, want: &str) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "tmpfs", "tmpfs", &[word]);
    let out = cx.run(b.sh("cat /proc/self/mountinfo"))?;
    if word == "mand" && out.code != Some(0) {
        return skip("kernels since 5.15 have no mandatory locks");
    }
    check(find(&mountinfo::parse(&out.ok()?.stdout), "/mnt")?, want)
}

/// The machine's own /dev, which has /dev/pts and /dev/shm mounted on it, bound whole.
fn tree(cx: &Cx, words: &[&str]) -> Res<Vec<Mount>> {
    let mut b = cx.bundle()?;
    let mut options = vec!["rbind"];
    options.extend_from_slice(words);
    b.bind("/dev", "/mnt", &options);
    cx.mounts(&mut b)
}

/// Of mounts of the host's, one in the other. What a word takes away, they have.
fn recursive(cx: &Cx, word: &str, want: &str) -> Res {
    let had = if word == "rrw" { "ro" } else { want.strip_prefix('!').unwrap_or_default() };
    let dir = cx.fresh("guard");
    let above = HostMount::files(dir.clone())?;
    let _below = HostMount::files(dir.join("below"))?.guarded(&[had])?;
    let _above = above.guarded(&[had])?;
    let mut b = cx.bundle()?;
    b.bind(&dir, "/mnt", &["rbind", word]);
    let mounts = cx.mounts(&mut b)?;
    for point in ["/mnt", "/mnt/below"] {
        check(find(&mounts, point)?, want)?;
    }
    Ok(())
}

fn propagation(cx: &Cx, word: &str, want: &str) -> Res {
    let mut b = cx.bundle()?;
    b.bind("/dev/shm", "/mnt", &["bind", word]);
    let mounts = cx.mounts(&mut b)?;
    let m = find(&mounts, "/mnt")?;
    match want.strip_prefix('!') {
        Some(absent) => ensure!(!m.propagates(absent), "{m:?}"),
        None => ensure!(m.propagates(want), "{m:?}"),
    }
    Ok(())
}

fn last_word(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "tmpfs", "tmpfs", &["ro", "noexec", "rw", "exec"]);
    let mounts = cx.mounts(&mut b)?;
    let m = find(&mounts, "/mnt")?;
    ensure!(m.has("rw") && !m.has("noexec"), "{m:?}");
    Ok(())
}

fn tmpfs_data(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/fresh", "tmpfs", "tmpfs", &["size=4m", "mode=0711", "uid=7", "gid=8", "nr_inodes=100"]);
    let mounts = cx.mounts(&mut b)?;
    let m = find(&mounts, "/fresh")?;
    let (uid, gid) = (format!("uid={}", cx.host_id(7)), format!("gid={}", cx.host_id(8)));
    // the kernel shows the ids of the host, which are not known in a user namespace
    let owner = if cx.options.is_nested() { vec![] } else { vec![&*uid, &*gid] };
    for word in ["size=4096k", "mode=711", "nr_inodes=100"].into_iter().chain(owner) {
        ensure!(m.has(word), "{word}: {m:?}");
    }
    same!(cx.sh(&mut b, "stat -c %u:%g /fresh")?, "7:8\n", "uid:gid");
    Ok(())
}

fn tmpfs_mode_given(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "tmpfs", "tmpfs", &["mode=0711"]);
    same!(cx.sh(&mut b, "stat -c %a /mnt")?, "711\n", "mode");
    Ok(())
}

fn tmpfs_mode(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let dir = b.rootfs().join("mode");
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750))?;
    b.mount("/mode", "tmpfs", "tmpfs", &["nosuid"]);
    same!(cx.sh(&mut b, "stat -c %a /mode")?, "750\n", "mode");
    Ok(())
}

fn copyup(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let dir = b.rootfs().join("up");
    fs::create_dir_all(dir.join("sub"))?;
    fs::write(dir.join("sub/file"), "content")?;
    fs::set_permissions(dir.join("sub/file"), fs::Permissions::from_mode(0o604))?;
    std::os::unix::fs::chown(dir.join("sub/file"), Some(7), Some(8))?;
    std::os::unix::fs::symlink("sub/file", dir.join("link"))?;
    b.mount("/up", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let seen = cx.sh(
        &mut b,
        "cat /up/link; echo; stat -c %a:%u:%g /up/sub/file; readlink /up/link; echo new > /up/new; stat -f -c %T /up",
    )?;
    same!(seen, "content\n604:7:8\nsub/file\ntmpfs\n", "the copies");
    ensure!(!dir.join("new").exists(), "the rootfs was written to");
    Ok(())
}

fn copyup_missing(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/not/there", "tmpfs", "tmpfs", &["tmpcopyup"]);
    same!(cx.sh(&mut b, "stat -f -c %T /not/there")?, "tmpfs\n", "type");
    Ok(())
}

/// A directory of the host with one file in it.
fn shared(cx: &Cx) -> Res<std::path::PathBuf> {
    let dir = cx.path("shared");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "from the host\n")?;
    Ok(dir)
}

fn bind_directory(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = cx.bundle()?;
    b.bind(&dir, "/mnt", &["bind"]);
    same!(cx.sh(&mut b, "cat /mnt/file; echo back > /mnt/new")?, "from the host\n", "the file");
    same!(fs::read_to_string(dir.join("new"))?, "back\n", "what the container wrote");
    Ok(())
}

fn bind_file(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = cx.bundle()?;
    b.bind(dir.join("file"), "/etc/passwd", &["bind"]);
    same!(cx.sh(&mut b, "cat /etc/passwd")?, "from the host\n", "the file");
    Ok(())
}

fn bind_missing(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = cx.bundle()?;
    b.bind(&dir, "/a/b/dir", &["bind"]).bind(dir.join("file"), "/a/c/file", &["bind"]);
    same!(cx.sh(&mut b, "cat /a/b/dir/file /a/c/file")?, "from the host\n".repeat(2), "the files");
    ensure!(b.rootfs().join("a/b/dir").is_dir() && b.rootfs().join("a/c/file").is_file(), "the targets in the rootfs");
    same!(fs::metadata(b.rootfs().join("a/b"))?.permissions().mode() & 0o777, 0o755, "mode of what was made");
    Ok(())
}

fn bind_over(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = cx.bundle()?;
    fs::write(b.rootfs().join("etc/hosts"), "before")?;
    b.bind(dir.join("file"), "/etc/hosts", &["rbind", "rprivate"]);
    same!(cx.sh(&mut b, "cat /etc/hosts")?, "from the host\n", "the file");
    same!(fs::read_to_string(b.rootfs().join("etc/hosts"))?, "before", "the file below");
    Ok(())
}

fn bind_no_source(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind(cx.path("absent"), "/mnt", &["bind"]);
    cx.run(&b)?.fails(&["no such file or directory"])?;
    ensure!(!cx.path("absent").exists(), "the source was made");
    Ok(())
}

fn bind_relative(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    fs::create_dir(b.dir.join("data"))?;
    fs::write(b.dir.join("data/file"), "in the bundle\n")?;
    b.bind("data", "/mnt", &["bind"]);
    same!(cx.sh(&mut b, "cat /mnt/file")?, "in the bundle\n", "the file");
    Ok(())
}

fn bind_untyped(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = cx.bundle()?;
    b.push("/mounts", json!({"destination": "/mnt", "source": dir, "options": ["rbind"]}));
    b.push("/mounts", json!({"destination": "/mnt2", "type": "none", "source": dir, "options": ["bind", "ro"]}));
    same!(cx.sh(&mut b, "cat /mnt/file /mnt2/file")?, "from the host\n".repeat(2), "the files");
    Ok(())
}

fn bind_ro(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = cx.bundle()?;
    b.bind(&dir, "/mnt", &["bind", "ro", "nosuid", "nodev", "noexec"]);
    b.sh("cat /proc/self/mountinfo; ! touch /mnt/new 2>/dev/null");
    let mounts = mountinfo::parse(&cx.run(&b)?.ok()?.stdout);
    for word in ["ro", "nosuid", "nodev", "noexec"] {
        check(find(&mounts, "/mnt")?, word)?;
    }
    Ok(())
}

/// /dev/shm of the sandbox may carry flags that a remount must not lose.
fn bind_keeps_flags(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind("/proc/sys", "/mnt", &["bind", "ro"]);
    let mounts = cx.mounts(&mut b)?;
    let host = fs::read_to_string("/proc/self/mountinfo")?;
    let source = mountinfo::parse(&host);
    let source = find(&source, "/proc")?;
    let m = find(&mounts, "/mnt")?;
    for word in ["nosuid", "nodev", "noexec"] {
        ensure!(!source.has(word) || m.has(word), "{word} of the source is lost: {m:?}");
    }
    check(m, "ro")
}

fn bind_source_untouched(cx: &Cx) -> Res {
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    let mut b = cx.bundle()?;
    b.bind("/dev/shm", "/mnt", &["rbind", "ro", "noexec", "nodev", "private"]);
    cx.run(&b)?.ok()?;
    same!(fs::read_to_string("/proc/self/mountinfo")?, before, "mounts of the host");
    Ok(())
}

fn bind_flat(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind("/dev", "/mnt", &["bind"]);
    let mounts = cx.mounts(&mut b)?;
    find(&mounts, "/mnt")?;
    ensure!(mountinfo::at(&mounts, "/mnt/shm").is_none(), "what is mounted below came along");
    Ok(())
}

fn rbind(cx: &Cx) -> Res {
    let mounts = tree(cx, &[])?;
    find(&mounts, "/mnt/shm")?;
    find(&mounts, "/mnt/pts")?;
    Ok(())
}

fn rbind_ro(cx: &Cx) -> Res {
    let mounts = tree(cx, &["ro"])?;
    check(find(&mounts, "/mnt")?, "ro")?;
    let shm = find(&mounts, "/mnt/shm")?;
    ensure!(shm.options.iter().any(|o| o == "rw"), "{shm:?}");
    Ok(())
}

fn bind_special(cx: &Cx) -> Res {
    let socket = cx.path("sock");
    let _listener = crate::sockets::listen(&socket)?;
    let mut b = cx.bundle()?;
    b.bind("/dev/zero", "/a/zero", &["bind"]).bind(&socket, "/a/sock", &["bind"]);
    same!(
        cx.sh(&mut b, "test -S /a/sock && stat -c %F:%t:%T /a/zero")?,
        "character special file:1:5\n",
        "what is there"
    );
    Ok(())
}

fn bind_symlink_source(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let link = cx.path("link");
    std::os::unix::fs::symlink(&dir, &link)?;
    let mut b = cx.bundle()?;
    b.bind(&link, "/mnt", &["bind"]);
    same!(cx.sh(&mut b, "cat /mnt/file")?, "from the host\n", "the file");
    Ok(())
}

fn order(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "tmpfs", "one", &[]).mount("/mnt/sub", "tmpfs", "two", &[]).mount(
        "/mnt/sub/sub",
        "tmpfs",
        "three",
        &[],
    );
    let mounts = cx.mounts(&mut b)?;
    for (point, source) in [("/mnt", "one"), ("/mnt/sub", "two"), ("/mnt/sub/sub", "three")] {
        same!(find(&mounts, point)?.source, source, point);
    }
    Ok(())
}

fn stacked(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "tmpfs", "one", &[]).mount("/mnt", "tmpfs", "two", &["size=1m"]);
    let mounts = cx.mounts(&mut b)?;
    same!(mounts.iter().filter(|m| m.point == "/mnt").count(), 2, "mounts on one another");
    same!(cx.sh(&mut b, "stat -f -c %b /mnt")?, "256\n", "blocks of the upper one");
    Ok(())
}

fn kind(cx: &Cx, kind: &str, source: &str, point: &str) -> Res {
    let mut b = cx.bundle()?;
    let mounts = cx.mounts(&mut b)?;
    let m = find(&mounts, point)?;
    same!(m.kind, kind, "type");
    same!(m.source, source, "source");
    same!(m.root, "/", "root");
    if point != "/proc" {
        check(m, "nosuid")?;
        check(m, "noexec")?;
    }
    Ok(())
}

fn overlay(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for dir in ["lower", "upper", "work"] {
        fs::create_dir(cx.path(dir))?;
    }
    fs::write(cx.path("lower/file"), "below\n")?;
    for dir in ["lower", "upper", "work"] {
        cx.give(&cx.path(dir))?;
    }
    let data = ["lower", "upper", "work"].map(|d| format!("{d}dir={}", cx.path(d).display()));
    b.mount("/mnt", "overlay", "overlay", &data.each_ref().map(String::as_str));
    same!(cx.sh(&mut b, "cat /mnt/file; echo up > /mnt/file")?, "below\n", "the file");
    same!(fs::read_to_string(cx.path("upper/file"))?, "up\n", "the upper file");
    same!(fs::read_to_string(cx.path("lower/file"))?, "below\n", "the lower file");
    Ok(())
}

/// v1: a tmpfs with a directory per controller; each shows the container's own
/// cgroup at its root. v2: one mount.
fn cgroup_mount(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let mounts = cx.mounts(&mut b)?;
    let path = b.cgroup();
    let own: Vec<&Mount> =
        mounts.iter().filter(|m| m.kind == "cgroup" && m.point.starts_with("/sys/fs/cgroup/")).collect();
    if own.is_empty() {
        same!(find(&mounts, "/sys/fs/cgroup")?.kind, "cgroup2", "type");
        return Ok(());
    }
    same!(find(&mounts, "/sys/fs/cgroup")?.kind, "tmpfs", "type");
    for name in ["memory", "pids", "freezer", "devices", "systemd"] {
        let m = find(&mounts, &format!("/sys/fs/cgroup/{name}"))?;
        same!(m.root, path, format!("root of {name}"));
    }
    Ok(())
}

fn cgroup_ro(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let mounts = cx.mounts(&mut b)?;
    for m in mounts.iter().filter(|m| m.point.starts_with("/sys/fs/cgroup")) {
        // The tmpfs of v1 above the controllers is left writable by runc and crun.
        let top = m.kind == "tmpfs" && !cx.is("ferrun");
        ensure!(top || m.options.iter().any(|o| o == "ro"), "{m:?}");
        for word in ["nosuid", "noexec", "nodev"] {
            check(m, word)?;
        }
    }
    Ok(())
}

fn cgroup_mount_ns(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.namespace("cgroup", Some(""));
    b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let mounts = cx.mounts(&mut b)?;
    let v1: Vec<&Mount> =
        mounts.iter().filter(|m| m.kind == "cgroup" && m.point.starts_with("/sys/fs/cgroup/")).collect();
    for m in &v1 {
        same!(m.root, "/", format!("root of {}", m.point));
    }
    ensure!(v1.len() >= 5 || find(&mounts, "/sys/fs/cgroup")?.kind == "cgroup2", "{mounts:?}");
    Ok(())
}

fn unknown_type(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "nofs", "none", &[]);
    cx.run(&b)?.fails(&["no such device", "nofs"])?;
    Ok(())
}

fn bad_data(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/mnt", "tmpfs", "tmpfs", &["nosuid", "size=lots"]);
    let out = cx.run(&b)?.fails(&["size"])?;
    for word in ["/mnt", "/mounts/6/options/1", "Bad value for 'size'"] {
        ensure!(out.stderr.contains(word), "{word} is not in {}", out.stderr);
    }
    Ok(())
}

fn relative_destination(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("mnt", "tmpfs", "tmpfs", &[]);
    let seen = cx.sh(&mut b, "cut -d' ' -f5 /proc/self/mountinfo | grep -x /mnt")?;
    same!(seen, "/mnt\n", "where it is mounted: config.md allows it for old tools");
    Ok(())
}

/// crun 1.29.1 and runc 1.5.2 had to repair this.
fn root_modes(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/fresh", "tmpfs", "tmpfs", &["mode=1777"]);
    let seen = cx.sh(&mut b, "stat -c %a /proc /sys /dev/shm /dev/mqueue /fresh /dev/pts /dev | tr '\\n' ' '; ls /proc/self/fd/0 >/dev/null && echo magic")?;
    same!(seen, "555 555 1777 1777 1777 755 755 magic\n", "modes of the mounts' roots");
    Ok(())
}
