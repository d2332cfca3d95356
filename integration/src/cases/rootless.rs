//! Containers of an ordinary user: nothing here has a privilege but newuidmap(1) and newgidmap(1).

use crate::bundle::Bundle;
use crate::case::{Case, Res, case};
use crate::cx::{Cx, string, text};
use crate::run::{Out, Run, eventually, lossy};
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Nobody that this machine knows.
const USER: u32 = 12_345;
/// What /etc/subuid and /etc/subgid give that user.
const FIRST: u32 = 300_000;
const SIZE: u32 = 65_536;

const DEFAULT: &str = "runc gives nobody a user namespace that did not ask for one";
const WORDS: &str = "the others say less";

pub fn cases() -> Vec<Case> {
    vec![
        case("rootless::own_id_alone", own_id),
        case("rootless::subordinate_ids", subordinate),
        case("rootless::a_user_namespace_that_nobody_asked_for", default_ids).only(&["ferrun", "crun"], DEFAULT),
        case("rootless::without_subordinate_ids_it_has_one_id", default_own_id).only(&["ferrun"], DEFAULT),
        case("rootless::from_create_to_delete", life),
        case("rootless::exec", exec),
        case("rootless::what_is_made_belongs_to_the_user", owners),
        case("rootless::ids_of_others_are_refused", ids_of_others),
        case("rootless::a_missing_helper_is_named", no_helper).only(&["ferrun"], WORDS),
        case("rootless::more_groups_than_ones_own_are_refused", groups).only(&["ferrun", "runc"], "crun ignores them"),
        case("rootless::limits_without_a_cgroup_are_refused", limits).only(&["ferrun"], "the others leave them out"),
        case("rootless::events_need_a_cgroup", events).only(&["ferrun"], WORDS),
        case("rootless::state_of_ones_own", state_dir).only(&["ferrun"], WORDS),
        case("rootless::the_hosts_network_and_processes", shared),
        case("rootless::oom_score_adj", oom_score).only(&["ferrun"], WORDS),
        case("rootless::a_pod_is_joined", pod).only(&["ferrun", "crun"], "runc 1.1 leaves its root unmapped"),
        case("rootless::inside_unshare", in_unshare)
            .only(&["ferrun"], "runc wants to make cgroups there, crun makes another user namespace"),
    ]
}

/// The user's own directory: bundles, state, and what /etc/subuid and /etc/subgid are to say.
struct Home<'a> {
    cx: &'a Cx,
    dir: PathBuf,
}

impl<'a> Home<'a> {
    /// Nobody gave the user ids.
    fn without_ids(cx: &'a Cx) -> Res<Self> {
        let home = Self { cx, dir: cx.fresh("home") };
        fs::create_dir_all(home.dir.join("run"))?;
        for file in ["subuid", "subgid"] {
            fs::write(home.dir.join(file), "")?;
        }
        // without a name newuidmap does nothing for anybody
        fs::write(home.dir.join("passwd"), format!("{}tester:x:{USER}:{USER}::/:/bin/sh\n", text("/etc/passwd")?))?;
        for dir in [&home.dir, &home.dir.join("run")] {
            chown(dir, Some(USER), Some(USER))?;
        }
        fs::set_permissions(home.dir.join("run"), fs::Permissions::from_mode(0o700))?;
        Ok(home)
    }

    fn new(cx: &'a Cx) -> Res<Self> {
        let home = Self::without_ids(cx)?;
        for file in ["subuid", "subgid"] {
            fs::write(home.dir.join(file), format!("{USER}:{FIRST}:{SIZE}\n"))?;
        }
        Ok(home)
    }

    /// As `spec --rootless` writes it: the user's own id is the container's root.
    fn bundle(&self) -> Res<Bundle> {
        let mut b = self.cx.bundle()?;
        b.unset("/linux/cgroupsPath").namespace("user", Some(""));
        map(&mut b, json!([{"containerID": 0, "hostID": USER, "size": 1}]));
        // of the image, a user owns its directories
        own_directories(&b.dir)?;
        // group 5 is not mapped
        b.unmount("/dev/pts");
        let options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
        b.mount("/dev/pts", "devpts", "devpts", &options);
        Ok(b)
    }

    /// Own id and all of the others.
    fn bundle_of_many(&self) -> Res<Bundle> {
        let mut b = self.bundle()?;
        let ids =
            json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": FIRST, "size": SIZE}]);
        map(&mut b, ids);
        Ok(b)
    }

    /// Without any, as for root.
    fn bundle_of_roots(&self) -> Res<Bundle> {
        let mut b = self.bundle()?;
        b.namespace("user", None).unset("/linux/uidMappings").unset("/linux/gidMappings");
        Ok(b)
    }

    fn runtime(&self, verb: &str) -> Run {
        self.cx.runtime(verb).by_user(USER, &self.dir)
    }

    fn with_bundle(&self, verb: &str, b: &Bundle, id: &str) -> Res<Run> {
        b.save()?;
        Ok(self.runtime(verb).arg("--bundle").arg(&b.dir).arg(id))
    }

    fn run(&self, b: &Bundle) -> Res<Out> {
        self.with_bundle("run", b, &self.cx.id())?.out()
    }

    fn sh(&self, b: &mut Bundle, script: &str) -> Res<String> {
        b.sh(script);
        Ok(self.run(b)?.ok()?.stdout)
    }

    fn state(&self, id: &str) -> Res<Value> {
        Ok(serde_json::from_str(&self.runtime("state").arg(id).out()?.ok()?.stdout)?)
    }

    /// Up, until the end of the case.
    fn sleeping(&self, b: &mut Bundle) -> Res<Up<'_>> {
        b.sleeps();
        let id = self.cx.id();
        let out = self.with_bundle("create", b, &id)?.out()?.ok()?;
        let up = Up { home: self, id };
        self.runtime("start").arg(&up.id).out()?.ok()?;
        eventually("the container is up", || Ok(lossy(&out.stdout_path).contains("up")))?;
        Ok(up)
    }
}

/// A container of the user's, removed when it is no longer wanted.
struct Up<'a> {
    home: &'a Home<'a>,
    id: String,
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        let _ = self.home.runtime("delete").args(["--force", &self.id]).out();
    }
}

fn map(b: &mut Bundle, ids: Value) {
    b.set("/linux/uidMappings", ids.clone()).set("/linux/gidMappings", ids);
}

/// Files are hard links to those of the template.
fn own_directories(dir: &Path) -> Res {
    chown(dir, Some(USER), Some(USER))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            own_directories(&entry.path())?;
        }
    }
    Ok(())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn own_id(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let seen =
        home.sh(&mut home.bundle()?, "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups")?;
    same!(words(&seen).join(" "), format!("0 0 0 {USER} 1 0 {USER} 1 deny"), "ids, maps, setgroups");
    Ok(())
}

fn subordinate(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    let mut b = home.bundle_of_many()?;
    b.set("/process/user", json!({"uid": 7, "gid": 8, "additionalGids": [9]}));
    let seen = home.sh(&mut b, "id -u; id -G; cat /proc/self/uid_map /proc/self/setgroups")?;
    same!(words(&seen).join(" "), format!("7 8 9 0 {USER} 1 1 {FIRST} {SIZE} allow"), "ids, map, setgroups");
    Ok(())
}

fn default_ids(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    let seen = home.sh(&mut home.bundle_of_roots()?, "id -u; cat /proc/self/uid_map")?;
    same!(words(&seen).join(" "), format!("0 0 {USER} 1 1 {FIRST} {SIZE}"), "id and map");
    Ok(())
}

fn default_own_id(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let mut b = home.bundle_of_roots()?;
    same!(words(&home.sh(&mut b, "cat /proc/self/uid_map")?).join(" "), format!("0 {USER} 1"), "the map");
    b.set("/process/user", json!({"uid": 7, "gid": 0}));
    home.run(&b)?.fails(&["/process/user/uid"])?;
    Ok(())
}

fn life(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let up = home.sleeping(&mut home.bundle()?)?;
    let state = home.state(&up.id)?;
    same!(state["status"], json!("running"), "status");
    let listed = home.runtime("list").out()?.ok()?.stdout;
    ensure!(listed.contains(&up.id), "list says {listed:?}");
    ensure!(home.dir.join("run").join(&cx.options.kind).join(&up.id).exists(), "no state below XDG_RUNTIME_DIR");
    home.runtime("kill").args([&up.id, "KILL"]).out()?.ok()?;
    eventually("it is stopped", || Ok(home.state(&up.id)?["status"] == "stopped"))?;
    home.runtime("delete").arg(&up.id).out()?.ok()?;
    home.runtime("state").arg(&up.id).out()?.fails(&["does not exist", "no such file"])?;
    Ok(())
}

fn exec(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    for (mut b, user, groups, setgroups) in
        [(home.bundle()?, "0:0", None, "deny"), (home.bundle_of_many()?, "5:6", Some("7"), "allow")]
    {
        let up = home.sleeping(&mut b)?;
        let mut run = home.runtime("exec").args(["--user", user]);
        if let Some(group) = groups {
            run = run.args(["--additional-gids", group]);
        }
        let seen = run.args([&up.id, "/bin/sh", "-c", "id -u; id -g; cat /proc/self/setgroups; echo /proc/[0-9]*"]);
        let seen = seen.out()?.ok()?.stdout;
        let seen = words(&seen);
        let wanted = format!("{} {setgroups}", user.replace(':', " "));
        same!(seen.iter().take(3).cloned().collect::<Vec<_>>().join(" "), wanted, "uid, gid, setgroups");
        ensure!(seen.len() > 4, "not the container's processes: {seen:?}");
    }
    Ok(())
}

/// T45: where nobody may drop groups, who comes in from outside has none.
fn owners(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    let mut b = home.bundle_of_many()?;
    b.mount("/srv/a", "tmpfs", "tmpfs", &[]).set("/process/cwd", json!("/work"));
    same!(
        words(&home.sh(&mut b, "stat -c %u:%g /srv /srv/a /work /dev /dev/shm")?),
        vec!["0:0".to_owned(); 5],
        "owners inside"
    );
    for path in ["rootfs/srv", "rootfs/srv/a", "rootfs/work"] {
        let stat = b.dir.join(path).metadata()?;
        same!((stat.uid(), stat.gid()), (USER, USER), format!("owner of {path}"));
    }
    let up = home.sleeping(&mut b)?;
    let state = home.dir.join("run").join(&cx.options.kind).join(&up.id);
    for entry in fs::read_dir(&state)? {
        let stat = entry?.path().symlink_metadata()?;
        same!((stat.uid(), stat.gid()), (USER, USER), "owner of the state");
    }
    Ok(())
}

fn ids_of_others(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    let mut b = home.bundle()?;
    for foreign in [
        json!({"containerID": 1, "hostID": 1, "size": 1}),
        json!({"containerID": 1, "hostID": FIRST + SIZE, "size": 1}),
    ] {
        let own = json!({"containerID": 0, "hostID": USER, "size": 1});
        map(&mut b, json!([own, foreign]));
        let out = home.run(&b)?.fails(&["newuidmap", "mapping"])?;
        if cx.is("ferrun") {
            out.fails(&["/etc/subuid must give the caller these ids (config.json /linux/uidMappings)", "/etc/subuid"])?;
        }
    }
    Ok(())
}

fn no_helper(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    let b = home.bundle_of_many()?;
    let run = home.with_bundle("run", &b, &cx.id())?.env("PATH", "/nowhere");
    let out = run.out()?.fails(&["newuidmap"])?;
    ensure!(out.stderr.contains("package uidmap"), "{}", out.stderr);
    Ok(())
}

fn groups(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let mut b = home.bundle()?;
    b.set("/process/user/additionalGids", json!([0]));
    home.run(&b)?.fails(&["additional groups"])?;
    Ok(())
}

/// Whether the user has a cgroup to make others in.
fn has_cgroups(home: &Home<'_>) -> Res<bool> {
    let up = home.sleeping(&mut home.bundle()?)?;
    Ok(home.runtime("events").args(["--stats", &up.id]).out()?.code == Some(0))
}

fn limits(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    if has_cgroups(&home)? {
        return crate::case::skip("this user has a cgroup");
    }
    let mut b = home.bundle()?;
    b.set("/linux/resources", json!({"devices": [{"allow": false, "access": "rwm"}]}));
    home.run(&b)?.ok()?;
    b.set("/linux/resources/memory", json!({"limit": 100_000_000}));
    home.run(&b)?.fails(&["/linux/resources/memory/limit"])?;
    Ok(())
}

fn events(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let up = home.sleeping(&mut home.bundle()?)?;
    let out = home.runtime("events").args(["--stats", &up.id]).out()?;
    if out.code == Some(0) {
        return crate::case::skip("this user has a cgroup");
    }
    out.fails(&["has no cgroup"])?;
    Ok(())
}

fn state_dir(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let b = home.bundle()?;
    let run = home.with_bundle("run", &b, &cx.id())?.env("XDG_RUNTIME_DIR", "");
    run.out()?.fails(&["XDG_RUNTIME_DIR"])?;
    Ok(())
}

fn shared(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let mut b = home.bundle()?;
    b.namespace("network", None).unmount("/sys");
    b.mount("/sys", "bind", "/sys", &["rbind", "ro", "nosuid", "noexec", "nodev"]);
    let v: Value = serde_json::from_str(&home.sh(&mut b, "/probe all")?)?;
    same!(string(&v, "/ns/net")?, crate::cx::namespace("self", "net")?, "network namespace");
    if cx.is("ferrun") {
        b.unmount("/sys").mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev"]).namespace("pid", None);
        let seen = home.sh(&mut b, "touch /sys/x 2>&1; grep -c ' /sys ro,' /proc/self/mountinfo; ls -d /proc/1")?;
        ensure!(seen.contains("Read-only") && seen.ends_with("1\n/proc/1\n"), "{seen}");
    }
    Ok(())
}

fn oom_score(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    for pid in [Some(""), None] {
        let mut b = home.bundle()?;
        b.namespace("pid", pid).set("/process/oomScoreAdj", json!(321));
        same!(home.sh(&mut b, "cat /proc/self/oom_score_adj")?, "321\n", "raised");
        b.set("/process/oomScoreAdj", json!(-900));
        b.sh("cat /proc/self/oom_score_adj");
        let out = home.run(&b)?.ok()?;
        same!(out.stdout, text("/proc/self/oom_score_adj")?, "not lowered");
        ensure!(out.stderr.contains("CAP_SYS_RESOURCE"), "{}", out.stderr);
    }
    Ok(())
}

fn pod(cx: &Cx) -> Res {
    let home = Home::new(cx)?;
    let up = home.sleeping(&mut home.bundle_of_many()?)?;
    let pid = home.state(&up.id)?["pid"].as_i64().unwrap_or(0);
    let mut b = home.bundle_of_many()?;
    b.unset("/hostname");
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        b.namespace(kind, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    for own_pids in [true, false] {
        if !own_pids {
            b.namespace("pid", Some(&format!("/proc/{pid}/ns/pid")));
        }
        let v: Value = serde_json::from_str(&home.sh(&mut b, "/probe all")?)?;
        for file in ["user", "net", "ipc", "uts"] {
            same!(string(&v, &format!("/ns/{file}"))?, crate::cx::namespace(pid, file)?, format!("{file} namespace"));
        }
        same!(string(&v, "/ns/pid")? == crate::cx::namespace(pid, "pid")?, !own_pids, "shares the pid namespace");
    }
    Ok(())
}

/// Root of a user namespace, with and without a mount namespace that is its own.
fn in_unshare(cx: &Cx) -> Res {
    let home = Home::without_ids(cx)?;
    let mut b = home.bundle_of_roots()?;
    b.sh("id -u; cat /proc/self/uid_map; ls /dev/null; echo x > /dev/null").save()?;
    for flags in ["-Ur", "-Urm"] {
        let id = cx.id();
        let run = home.runtime("run").inside(&["/usr/bin/unshare", flags]).arg("--bundle").arg(&b.dir).arg(&id);
        let seen = run.out()?.ok()?.stdout;
        // it stays in that one
        same!(words(&seen).join(" "), format!("0 0 {USER} 1 /dev/null"), format!("inside unshare {flags}"));
    }
    Ok(())
}
