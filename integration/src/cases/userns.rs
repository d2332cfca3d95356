//! User namespaces made by root: new, joined, and beside namespaces that others own.

use crate::bundle::Bundle;
use crate::case::{Case, Res, case};
use crate::cx::{Container, Cx, namespace, string, text};
use crate::security::locked;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Who `Bundle::map_ids` makes the container's root.
const ROOT: u32 = 100_000;
const SIZE: u32 = 65_536;

/// What the processes of a pod share, and its file of /proc.
const SHARED: [(&str, &str); 4] = [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];

pub fn cases() -> Vec<Case> {
    vec![
        case("userns::any_number_of_ranges", ranges),
        case("userns::the_process_is_the_mapped_user", mapped_user),
        case("userns::what_is_made_belongs_to_the_mapped_root", made),
        case("userns::devices_are_the_hosts", devices),
        case("userns::a_listed_ptmx_is_the_containers_own", ptmx),
        case("userns::the_containers_network_is_its_own", network),
        case("userns::a_bind_from_where_only_root_gets", hidden_source)
            .only(&["ferrun", "crun"], "runc 1.1 opens the source inside"),
        case("userns::a_root_where_only_root_gets", hidden_root).only(&["ferrun"], "the others want a way to it"),
        case("userns::the_config_may_take_flags_of_a_mount_away", locked::taken_away)
            .only(&["ferrun"], "the others leave what the host's mount has"),
        case("userns::a_bind_without_what_is_mounted_below", locked::without_below)
            .only(&["ferrun", "crun"], "runc 1.1 opens it inside, where the kernel refuses that"),
        case("userns::time_offsets", time_offsets).only(&["ferrun"], "Debian's runc and crun know no time namespaces"),
        case("userns::exec_is_in_it", exec),
        case("userns::exec_of_an_unmapped_user_is_refused", exec_unmapped),
        case("userns::a_pod_is_joined", pod).differs("runc", "1.1 leaves the root of a joined one unmapped"),
        case("userns::a_pod_is_joined_with_its_processes", pod_with_pids)
            .differs("runc", "1.1 leaves the root of a joined one unmapped"),
        case("userns::a_new_one_beside_a_network_of_the_host", guest),
        case("userns::groups_stay_outside_of_one_that_forbids_setgroups", groups)
            .only(&["ferrun"], "the others keep them"),
        case("userns::sysfs_of_a_foreign_network_is_read_only", foreign_sysfs)
            .only(&["ferrun", "crun"], "runc fails: mounting sysfs"),
        case("userns::of_the_host_by_path_is_refused", own_by_path).only(&["ferrun"], "the others say less"),
        case("userns::a_writable_cgroup_belongs_to_the_mapped_user", cgroup_owner)
            .only(&["ferrun"], "runc does it with the systemd driver only, crun by an annotation"),
    ]
}

fn mapped(cx: &Cx) -> Res<Bundle> {
    let mut b = cx.bundle()?;
    b.map_ids();
    Ok(b)
}

fn ranges(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    let list: Vec<Value> =
        (0..40_u32).map(|n| json!({"containerID": n * 3, "hostID": 200_000 + n * 5, "size": 2})).collect();
    b.set("/linux/uidMappings", json!(list)).set("/process/user", json!({"uid": 118, "gid": 5, "additionalGids": [7]}));
    let seen = cx.sh(&mut b, "cat /proc/self/uid_map; id -u; id -G")?;
    let map: Vec<Vec<u32>> =
        seen.lines().map(|line| line.split_whitespace().filter_map(|n| n.parse().ok()).collect()).collect();
    same!(map.len(), 42, "lines");
    for (n, line) in (0..40).zip(&map) {
        same!(line, &vec![n * 3, 200_000 + n * 5, 2], "a range");
    }
    same!((map[40].clone(), map[41].clone()), (vec![118], vec![5, 7]), "user and groups");
    Ok(())
}

fn ids_of(pid: i32, kind: &str) -> Res<Vec<u32>> {
    let status = text(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
    Ok(line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

fn mapped_user(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
    let c = cx.sleeping(&mut b)?;
    let pid = cx.pid(&c.id)?;
    same!(ids_of(pid, "Uid:")?, vec![ROOT + 7; 4], "uids on the host");
    same!(ids_of(pid, "Gid:")?, vec![ROOT + 8; 4], "gids on the host");
    let groups = ids_of(pid, "Groups:")?;
    ensure!(groups.iter().all(|group| [ROOT + 8, ROOT + 9].contains(group)), "groups on the host: {groups:?}");
    same!(text(format!("/proc/{pid}/setgroups"))?, "allow\n", "setgroups");
    Ok(())
}

/// Every entry below a directory whose owner is neither root's, of whom the harness made it, nor mapped.
fn foreign(dir: &Path, found: &mut Vec<String>) -> Res {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let stat = path.symlink_metadata()?;
        let mine = |id: u32| id == 0 || (ROOT..ROOT + SIZE).contains(&id);
        if !mine(stat.uid()) || !mine(stat.gid()) {
            found.push(format!("{} is of {}:{}", path.display(), stat.uid(), stat.gid()));
        }
        if stat.is_dir() {
            foreign(&path, found)?;
        }
    }
    Ok(())
}

/// Mount points, links and devices, in the image's own /dev.
fn made(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.unmount("/dev").unmount("/dev/pts").unmount("/dev/shm").unmount("/dev/mqueue");
    b.mount("/srv/a/b", "tmpfs", "tmpfs", &[]).set("/process/cwd", json!("/work/here"));
    for dir in ["", "dev"] {
        chown(b.rootfs().join(dir), Some(ROOT), Some(ROOT))?;
    }
    let seen =
        cx.sh(&mut b, "pwd; stat -c %u:%g /srv/a/b /work /dev/null; stat -c %u:%g -L /dev/fd; stat -c %u /proc/1")?;
    ensure!(seen.starts_with("/work/here\n0:0\n0:0\n"), "{seen}");
    let mut found = Vec::new();
    foreign(&b.rootfs(), &mut found)?;
    ensure!(found.is_empty(), "{found:?}");
    for path in ["srv", "srv/a", "srv/a/b", "work", "work/here", "dev/fd", "dev/null"] {
        let stat = b.rootfs().join(path).symlink_metadata()?;
        same!((stat.uid(), stat.gid()), (ROOT, ROOT), format!("owner of {path}"));
    }
    // what is bound is never made, and the place it is bound on holds nothing
    let null = b.rootfs().join("dev/null").symlink_metadata()?;
    ensure!(!null.file_type().is_char_device() && null.len() == 0, "/dev/null of the image");
    Ok(())
}

fn devices(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.push("/linux/devices", json!({"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}));
    b.push("/linux/devices", json!({"path": "/dev/pipe", "type": "p", "fileMode": 0o640, "uid": 5, "gid": 6}));
    let seen = cx.sh(
        &mut b,
        "for d in null zero full random urandom tty kmsg; do stat -c '%n %t:%T %F' /dev/$d; done; \
         stat -c '%F %a %u:%g' /dev/pipe; echo x > /dev/null; head -c 3 /dev/zero | od -An -tx1",
    )?;
    for line in ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0", "kmsg 1:b"] {
        ensure!(seen.contains(&format!("/dev/{line} character special file\n")), "{line}: {seen}");
    }
    ensure!(seen.contains("fifo 640 5:6\n") && seen.contains("00 00 00"), "{seen}");
    Ok(())
}

/// Podman lists every device of the host for --privileged.
fn ptmx(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.push("/linux/devices", json!({"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2}));
    same!(cx.sh(&mut b, "readlink /dev/ptmx; stat -c %u /dev/ptmx")?, "pts/ptmx\n0\n", "the link");
    Ok(())
}

/// Made before the maps, its files would be nobody's.
fn network(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    let seen = cx
        .sh(&mut b, "ip addr show lo; stat -c owner=%u /sys/class/net/lo/ /proc/sys/net/ipv4/ip_forward /dev/mqueue")?;
    ensure!(seen.contains("UP") && seen.contains("127.0.0.1/8"), "{seen}");
    same!(seen.matches("owner=0").count(), 3, format!("files of root in {seen}"));
    Ok(())
}

fn hidden_source(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    let dir = cx.fresh("hidden");
    fs::create_dir_all(dir.join("below"))?;
    fs::write(dir.join("below/file"), "found")?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    b.bind(dir.join("below"), "/mnt", &["bind", "ro"]);
    same!(cx.sh(&mut b, "cat /mnt/file; touch /mnt/x 2>/dev/null || echo -ro")?, "found-ro\n", "the file");
    Ok(())
}

/// As in the storage of an engine for root.
fn hidden_root(cx: &Cx) -> Res {
    let b = &mut mapped(cx)?;
    fs::set_permissions(&b.dir, fs::Permissions::from_mode(0o700))?;
    b.set("/root/readonly", json!(true));
    same!(cx.sh(b, "ls /probe; touch /x 2>/dev/null || echo ro; cd ..; pwd")?, "/probe\nro\n/\n", "the root");
    let c = cx.sleeping(b)?;
    same!(cx.runtime("exec").args([&c.id, "/bin/ls", "/probe"]).out()?.ok()?.stdout, "/probe\n", "an exec");
    Ok(())
}

fn time_offsets(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.namespace("time", Some("")).set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000}}));
    let v = cx.probe(&mut b)?;
    ensure!(string(&v, "/timens")?.contains(" 1000000 "), "{}", string(&v, "/timens")?);
    Ok(())
}

fn exec(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.set("/process/user", json!({"uid": 7, "gid": 8}));
    let c = cx.sleeping(&mut b)?;
    let pid = cx.pid(&c.id)?;
    let seen = cx.runtime("exec").args(["--user", "3:4", &c.id, "/probe", "all"]).out()?.ok()?.stdout;
    let v: Value = serde_json::from_str(&seen)?;
    for (_, file) in SHARED.into_iter().chain([("mount", "mnt"), ("pid", "pid")]) {
        same!(string(&v, &format!("/ns/{file}"))?, namespace(pid, file)?, format!("{file} namespace"));
    }
    same!(string(&v, "/uid")?.split_whitespace().collect::<Vec<_>>(), vec!["3"; 4], "uid");
    same!(string(&v, "/gid")?.split_whitespace().collect::<Vec<_>>(), vec!["4"; 4], "gid");
    let groups = string(&v, "/groups")?.trim();
    ensure!(groups.is_empty() || groups == "4", "groups {groups:?}");
    Ok(())
}

fn exec_unmapped(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut mapped(cx)?)?;
    let out = cx.runtime("exec").args(["--user", "70000", &c.id, "/bin/true"]).out()?;
    ensure!(out.code != Some(0), "user 70000 is mapped by nobody, and it ran");
    if cx.is("ferrun") {
        out.fails(&["/process/user/uid"])?;
    }
    same!(cx.status(&c.id)?, "running", "the container");
    Ok(())
}

/// A container up in a user namespace, and one more that shares what a pod shares.
fn sandbox(cx: &Cx, more: &[(&str, &str)]) -> Res<(Container, i32, Bundle)> {
    let c = cx.sleeping(&mut mapped(cx)?)?;
    let pid = cx.pid(&c.id)?;
    let mut b = mapped(cx)?;
    b.unset("/hostname");
    for (kind, file) in SHARED.iter().chain(more) {
        b.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    Ok((c, pid, b))
}

fn shares(v: &Value, pid: i32, files: &[(&str, &str)]) -> Res {
    for (_, file) in files {
        same!(string(v, &format!("/ns/{file}"))?, namespace(pid, file)?, format!("{file} namespace"));
    }
    Ok(())
}

fn pod(cx: &Cx) -> Res {
    let (c, pid, mut b) = sandbox(cx, &[])?;
    let v = cx.probe(&mut b)?;
    shares(&v, pid, &SHARED)?;
    same!(v["pid"], json!(1), "pid in a namespace of its own");
    let seen = cx.sh(&mut b, "stat -c owner=%u /proc/1 /sys/class/net/lo/ /dev/mqueue /dev/pts; id -u")?;
    same!(seen, "owner=0\nowner=0\nowner=0\nowner=0\n0\n", "owners");
    // and an exec in it
    let c2 = cx.sleeping(&mut b)?;
    let seen = cx.runtime("exec").args([&c2.id, "/probe", "all"]).out()?.ok()?.stdout;
    shares(&serde_json::from_str(&seen)?, pid, &SHARED)?;
    same!(cx.status(&c.id)?, "running", "the sandbox");
    Ok(())
}

fn pod_with_pids(cx: &Cx) -> Res {
    let (_, pid, mut b) = sandbox(cx, &[("pid", "pid")])?;
    let v = cx.probe(&mut b)?;
    shares(&v, pid, &SHARED)?;
    shares(&v, pid, &[("pid", "pid")])?;
    ensure!(v["pid"].as_u64() > Some(1), "pid {}", v["pid"]);
    Ok(())
}

/// A process of the host's in a namespace of its own.
struct Neighbour(Child);

impl Neighbour {
    /// `options` are those of unshare(1).
    fn start(options: &[&str]) -> Res<Self> {
        let script = "echo up; exec cat";
        let mut command = Command::new("/usr/bin/unshare");
        command.args(options).args(["/bin/sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut up = [0; 3];
        if let Some(stdout) = child.stdout.as_mut() {
            std::io::Read::read_exact(stdout, &mut up)?;
        }
        Ok(Self(child))
    }

    fn path(&self, namespace: &str) -> String {
        format!("/proc/{}/ns/{namespace}", self.0.id())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn guest(cx: &Cx) -> Res {
    let neighbour = Neighbour::start(&["--net"])?;
    let mut b = mapped(cx)?;
    b.namespace("network", Some(&neighbour.path("net"))).unmount("/sys");
    let v = cx.probe(&mut b)?;
    same!(string(&v, "/ns/net")?, namespace(neighbour.0.id(), "net")?, "network namespace");
    ensure!(string(&v, "/ns/user")? != namespace("self", "user")?, "the user namespace is the host's");
    same!(v["pid"], json!(1), "pid");
    Ok(())
}

/// Who made it gave setgroups(2) up: what the caller is a member of would be kept for good.
fn groups(cx: &Cx) -> Res {
    let neighbour = Neighbour::start(&["--user", "--map-root-user"])?;
    let mut b = cx.bundle()?;
    b.namespace("user", Some(&neighbour.path("user"))).unmount("/dev/pts").args(&["/probe", "all"]).save()?;
    let run = |verb: &str| cx.runtime(verb).with_groups(&[0, 4]);
    let none = |seen: &str| -> Res {
        let v: Value = serde_json::from_str(seen)?;
        same!(string(&v, "/groups")?.trim(), "", "groups");
        Ok(())
    };
    none(&run("run").arg("--bundle").arg(&b.dir).arg(cx.id()).out()?.ok()?.stdout)?;
    let c = cx.sleeping(&mut b)?;
    none(&run("exec").args([&c.id, "/probe", "all"]).out()?.ok()?.stdout)
}

fn foreign_sysfs(cx: &Cx) -> Res {
    let neighbour = Neighbour::start(&["--net"])?;
    let mut b = mapped(cx)?;
    b.namespace("network", Some(&neighbour.path("net")));
    b.unmount("/sys").mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    let mounts = cx.mounts(&mut b)?;
    let sys: Vec<_> = mounts.iter().filter(|mount| mount.point.starts_with("/sys")).collect();
    ensure!(sys.iter().any(|mount| mount.point == "/sys" && mount.kind == "sysfs"), "no sysfs");
    if cx.is("ferrun") {
        ensure!(
            sys.iter().all(|mount| mount.options.iter().any(|option| option == "ro")),
            "writable below /sys: {sys:?}"
        );
    }
    Ok(())
}

fn own_by_path(cx: &Cx) -> Res {
    let mut b = mapped(cx)?;
    b.namespace("user", Some("/proc/self/ns/user"));
    cx.run(&b)?.fails(&["leave the user namespace out"])?;
    b.namespace("user", Some("/no/such"));
    cx.run(&b)?.fails(&["no such file"])?;
    b.namespace("user", Some("/proc/self/ns/net"));
    cx.run(&b)?.fails(&["join the user namespace"])?;
    Ok(())
}

fn cgroup_owner(cx: &Cx) -> Res {
    if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return crate::case::skip("cgroup v1: its spec says not to");
    }
    let mut b = mapped(cx)?;
    b.unmount("/sys/fs/cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    b.namespace("cgroup", Some("")).set("/process/user", json!({"uid": 7, "gid": 7}));
    let _c = cx.sleeping(&mut b)?;
    for dir in crate::cgroup::directories(&b.cgroup()) {
        same!((dir.metadata()?.uid(), dir.join("cgroup.procs").metadata()?.uid()), (ROOT + 7, ROOT + 7), "owners");
    }
    Ok(())
}
