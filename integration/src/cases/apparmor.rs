//! AppArmor: which profile a container really gets, as the kernel tells it from outside, and what it then forbids.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, broken, case, skip};
use crate::cx::{Container, Cx, text};
use crate::run::Run;
use crate::{ensure, same};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn cases() -> Vec<Case> {
    vec![
        case("lsm::apparmor_profile_is_applied", |cx| applied(cx, true)),
        case("lsm::apparmor_profile_is_applied_with_new_privileges", |cx| applied(cx, false)),
        case("lsm::apparmor_none_is_that_of_the_runtime", none),
        case("lsm::apparmor_unconfined_is_a_profile_too", unconfined),
        case("lsm::apparmor_exec_has_the_profile_of_the_container", exec_inherits),
        case("lsm::apparmor_exec_with_another_profile", exec_another),
        case("lsm::apparmor_exec_with_a_profile_that_is_not_loaded", exec_not_loaded),
        case("lsm::apparmor_profile_not_loaded", not_loaded),
        case("lsm::apparmor_labels_with_a_fake_proc_in_the_image", fake_proc),
        case("lsm::apparmor_fake_proc_as_a_volume_is_refused", fake_volume),
        case("lsm::apparmor_mounts_over_its_files_are_refused", over_attributes),
        case("lsm::apparmor_confined_runtime_stacks", confined_stacks)
            .differs("runc", "never stacks, and the kernel refuses"),
        case("lsm::apparmor_confined_runtime_stacks_for_exec", confined_exec)
            .differs("runc", "never stacks, and the kernel refuses")
            .differs("crun", "1.21 stacks for the init alone"),
        case("lsm::apparmor_confined_runtime_cannot_unconfine", confined_unconfined)
            .differs("runc", "never stacks, and the kernel refuses")
            .differs("crun", "1.21 stacks for the init alone"),
        case("lsm::apparmor_confined_runtime_with_new_privileges", confined_new_privileges),
        case("lsm::apparmor_confined_by_what_is_called_unconfined", called_unconfined)
            .differs("runc", "never stacks, and the kernel refuses")
            .differs("crun", "1.21 takes it for no profile, and the kernel refuses"),
        case("lsm::apparmor_profile_of_the_mode_unconfined", mode_unconfined)
            .differs("crun", "1.21 takes it for one that restricts"),
    ]
}

const PARSER: &str = "/usr/sbin/apparmor_parser";

/// A loaded profile; unloaded when the case is over.
struct Profile {
    name: String,
    file: PathBuf,
}

impl Profile {
    /// One that allows everything, and more `rules`.
    fn load(cx: &Cx, name: &str, flags: &str, rules: &str) -> Res<Self> {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
        if !enabled.starts_with('Y') {
            return skip("no AppArmor here");
        }
        if !Path::new("/sys/kernel/security/apparmor/.replace").exists() || !Path::new(PARSER).exists() {
            return skip("no profile can be loaded here: securityfs or apparmor_parser is missing");
        }
        let profile = Self { name: format!("{name}-{}", cx.options.tag), file: cx.path(&format!("{name}.profile")) };
        let all = "file, capability, network, mount, remount, umount, pivot_root, signal, ptrace, unix,\n\
                   change_profile -> **,";
        let flags = format!("attach_disconnected,mediate_deleted{flags}");
        let text = format!("profile {} flags=({flags}) {{\n{all}\n{rules}\n}}\n", profile.name);
        fs::write(&profile.file, text)?;
        let out = profile.parser("-r")?;
        ensure!(out.status.success(), "{PARSER}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(profile)
    }

    /// Denies writes to files called `denied`.
    fn denying(cx: &Cx, name: &str) -> Res<Self> {
        Self::load(cx, name, "", "deny /tmp/denied w,")
    }

    fn parser(&self, what: &str) -> std::io::Result<Output> {
        Command::new(PARSER).args(["--skip-cache", what]).arg(&self.file).output()
    }

    fn enforced(&self) -> String {
        format!("{} (enforce)", self.name)
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        let _ = self.parser("-R");
    }
}

/// `NAME (MODE)` of a process, from outside.
fn label(pid: i32) -> Res<String> {
    Ok(text(format!("/proc/{pid}/attr/apparmor/current"))?.trim_end().to_owned())
}

/// The profiles that are stacked in a label; all of them enforced.
fn stacked(label: &str) -> Res<BTreeSet<String>> {
    match label.strip_suffix(" (enforce)") {
        Some(names) => Ok(names.split("//&").map(str::to_owned).collect()),
        None => broken(format!("{label:?} is not enforced")),
    }
}

const WRITES: &str = "for f in allowed denied; do if echo x > /tmp/$f; then echo $f; fi; done 2> /dev/null";

fn bundle(cx: &Cx, profile: &str, no_new_privileges: bool) -> Res<Bundle> {
    let mut b = cx.bundle()?;
    b.set("/process/apparmorProfile", json!(profile));
    b.set("/process/noNewPrivileges", json!(no_new_privileges));
    Ok(b)
}

fn applied(cx: &Cx, no_new_privileges: bool) -> Res {
    let profile = Profile::denying(cx, "web")?;
    let mut b = bundle(cx, &profile.name, no_new_privileges)?;
    same!(cx.sh(&mut b, WRITES)?, "allowed\n", "files that can be written");
    let c = cx.sleeping(&mut b)?;
    same!(label(cx.pid(&c.id)?)?, profile.enforced(), "label");
    b.unset("/process/apparmorProfile");
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    same!(cx.sh(&mut b, WRITES)?, "allowed\ndenied\n", "files that can be written without a profile");
    Ok(())
}

fn none(cx: &Cx) -> Res {
    let _active = Profile::denying(cx, "web")?;
    let c = cx.sleeping(&mut cx.bundle()?)?;
    same!(label(cx.pid(&c.id)?)?, label(std::process::id() as i32)?, "label");
    Ok(())
}

fn unconfined(cx: &Cx) -> Res {
    let profile = Profile::denying(cx, "web")?;
    let c = cx.sleeping(&mut bundle(cx, "unconfined", true)?)?;
    same!(label(cx.pid(&c.id)?)?, "unconfined", "label");
    let c = cx.sleeping(&mut bundle(cx, &profile.name, true)?)?;
    let out = exec(cx, &c.id, &["--apparmor", "unconfined"], LABEL_AND_WRITES).out()?.ok()?;
    same!(out.stdout, "unconfined\nallowed\ndenied\n", "label and writes of an exec");
    Ok(())
}

fn exec(cx: &Cx, id: &str, options: &[&str], script: &str) -> Run {
    cx.runtime("exec").args(options).arg(id).args(["/bin/sh", "-c", script])
}

const LABEL_AND_WRITES: &str = "cat /proc/self/attr/apparmor/current; rm -f /tmp/allowed; \
    for f in allowed denied; do if echo x > /tmp/$f; then echo $f; fi; done 2> /dev/null";

fn exec_inherits(cx: &Cx) -> Res {
    let profile = Profile::denying(cx, "web")?;
    let c = cx.sleeping(&mut bundle(cx, &profile.name, true)?)?;
    let out = exec(cx, &c.id, &[], LABEL_AND_WRITES).out()?.ok()?;
    same!(out.stdout, format!("{}\nallowed\n", profile.enforced()), "label and writes of an exec");
    Ok(())
}

fn exec_another(cx: &Cx) -> Res {
    let (profile, second) = (Profile::denying(cx, "web")?, Profile::load(cx, "second", "", "")?);
    let c = cx.sleeping(&mut bundle(cx, &profile.name, true)?)?;
    let out = exec(cx, &c.id, &["--apparmor", &second.name], LABEL_AND_WRITES).out()?.ok()?;
    same!(out.stdout, format!("{}\nallowed\ndenied\n", second.enforced()), "label and writes of an exec");
    same!(label(cx.pid(&c.id)?)?, profile.enforced(), "label of the init afterwards");
    Ok(())
}

fn exec_not_loaded(cx: &Cx) -> Res {
    let profile = Profile::denying(cx, "web")?;
    let c = cx.sleeping(&mut bundle(cx, &profile.name, true)?)?;
    let out = exec(cx, &c.id, &["--apparmor", "no-such-profile"], "echo ran").out()?.fails(&["apparmor"])?;
    same!(out.stdout, "", "output of what must not run");
    same!(cx.status(&c.id)?, "running", "status of the container");
    Ok(())
}

fn not_loaded(cx: &Cx) -> Res {
    let _active = Profile::denying(cx, "web")?;
    let id = cx.id();
    let b = bundle(cx, "no-such-profile", true)?;
    let out = cx.with_bundle("create", &b, &id)?.out()?.fails(&["apparmor"])?;
    ensure!(!cx.exists(&id), "the state of {id} is left");
    if cx.is("ferrun") {
        let words = ["no-such-profile is not loaded", "/process/apparmorProfile", "apparmor_parser -r FILE"];
        ensure!(words.iter().all(|word| out.stderr.contains(word)), "{} lacks one of {words:?}", out.stderr);
        same!(out.error_lines(), 1, "lines of the error");
    }
    Ok(())
}

/// The files that a runtime would write to, as an image may bring them.
fn fake_attributes(proc: &Path) -> Res {
    for process in ["self", "thread-self", "1", "2"] {
        let attributes = proc.join(process).join("attr/apparmor");
        fs::create_dir_all(&attributes)?;
        for file in ["exec", "current", "../exec", "../current"] {
            fs::write(attributes.join(file), "")?;
        }
    }
    Ok(())
}

/// CVE-2019-16884: the label is real, or there is no container.
fn really_applied(cx: &Cx, b: &mut Bundle, profile: &Profile) -> Res {
    b.sleeps();
    let id = cx.id();
    let out = cx.with_bundle("create", b, &id)?.out()?;
    if out.code != Some(0) {
        return out.fails(&["proc"]).map(drop);
    }
    cx.adopt(&id);
    let c = Container { id, stdout: out.stdout_path };
    if cx.start(&c.id).is_ok() && cx.came_up(&c)? {
        same!(label(cx.pid(&c.id)?)?, profile.enforced(), "label");
    }
    Ok(())
}

fn fake_proc(cx: &Cx) -> Res {
    let profile = Profile::denying(cx, "web")?;
    let mut b = bundle(cx, &profile.name, true)?;
    b.unmount("/proc").unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
    fake_attributes(&b.rootfs().join("proc"))?;
    really_applied(cx, &mut b, &profile)
}

fn fake_volume(cx: &Cx) -> Res {
    let profile = Profile::denying(cx, "web")?;
    for kind in ["bind", "tmpfs"] {
        let mut b = bundle(cx, &profile.name, true)?;
        b.unmount("/proc").unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
        let volume = cx.path(kind);
        fake_attributes(&volume)?;
        let options: &[&str] = if kind == "bind" { &["rbind"] } else { &[] };
        b.mount("/proc", kind, &volume, options);
        really_applied(cx, &mut b, &profile).context(kind)?;
    }
    Ok(())
}

fn over_attributes(cx: &Cx) -> Res {
    let profile = Profile::denying(cx, "web")?;
    for destination in ["/proc/self/attr", "/proc/thread-self/attr/apparmor", "/proc/self/attr/apparmor/exec"] {
        let mut b = bundle(cx, &profile.name, true)?;
        let source = cx.path("over");
        fake_attributes(&source)?;
        let source = if destination.ends_with("exec") { source.join("self/attr/exec") } else { source };
        b.bind(&source, destination, &["bind"]);
        really_applied(cx, &mut b, &profile).context(destination)?;
    }
    Ok(())
}

/// Created and started by a runtime that has a profile itself: the label of the init.
fn label_by(cx: &Cx, runtime: &Profile, b: &mut Bundle) -> Res<(String, String)> {
    b.sleeps();
    let id = cx.id();
    cx.adopt(&id);
    let out = cx.with_bundle("create", b, &id)?.confined(&runtime.name).out()?.ok()?;
    let c = Container { id, stdout: out.stdout_path };
    cx.start(&c.id)?;
    ensure!(cx.came_up(&c)?, "the program did not start");
    let label = label(cx.pid(&c.id)?)?;
    Ok((c.id, label))
}

fn both(one: &Profile, other: &Profile) -> BTreeSet<String> {
    [one.name.clone(), other.name.clone()].into()
}

fn confined_stacks(cx: &Cx) -> Res {
    let (runtime, web) = (Profile::load(cx, "runtime", "", "")?, Profile::denying(cx, "web")?);
    let mut b = bundle(cx, &web.name, true)?;
    let (_, label) = label_by(cx, &runtime, &mut b)?;
    same!(stacked(&label)?, both(&runtime, &web), "profiles");
    Ok(())
}

fn confined_exec(cx: &Cx) -> Res {
    let (runtime, web) = (Profile::load(cx, "runtime", "", "")?, Profile::denying(cx, "web")?);
    let c = cx.sleeping(&mut bundle(cx, &web.name, true)?)?;
    let out = exec(cx, &c.id, &[], LABEL_AND_WRITES).confined(&runtime.name).out()?.ok()?;
    let (label, writes) = out.stdout.split_once('\n').unwrap_or_default();
    same!(stacked(label)?, both(&runtime, &web), "profiles");
    same!(writes, "allowed\n", "files that can be written");
    Ok(())
}

/// Who is confined cannot hand out more than that.
fn confined_unconfined(cx: &Cx) -> Res {
    let runtime = Profile::denying(cx, "runtime")?;
    let mut b = bundle(cx, "unconfined", true)?;
    let (id, label) = label_by(cx, &runtime, &mut b)?;
    ensure!(stacked(&label)?.contains(&runtime.name), "label {label:?} lacks {}", runtime.name);
    same!(exec(cx, &id, &[], WRITES).confined(&runtime.name).out()?.ok()?.stdout, "allowed\n", "files to be written");
    Ok(())
}

/// Nothing is bounded then: the profile asked for is the one that is got.
fn confined_new_privileges(cx: &Cx) -> Res {
    let (runtime, web) = (Profile::load(cx, "runtime", "", "")?, Profile::denying(cx, "web")?);
    let mut b = bundle(cx, &web.name, false)?;
    let (_, label) = label_by(cx, &runtime, &mut b)?;
    same!(label, web.enforced(), "label");
    Ok(())
}

fn called_unconfined(cx: &Cx) -> Res {
    let (runtime, web) = (Profile::load(cx, "unconfined", "", "")?, Profile::denying(cx, "web")?);
    let mut b = bundle(cx, &web.name, true)?;
    let (_, label) = label_by(cx, &runtime, &mut b)?;
    same!(stacked(&label)?, both(&runtime, &web), "profiles");
    Ok(())
}

/// As Ubuntu has it for podman and crun.
fn mode_unconfined(cx: &Cx) -> Res {
    let (runtime, web) = (Profile::load(cx, "runtime", ",unconfined", "")?, Profile::denying(cx, "web")?);
    let mut b = bundle(cx, &web.name, true)?;
    let (id, label) = label_by(cx, &runtime, &mut b)?;
    same!(label, web.enforced(), "label");
    let out = exec(cx, &id, &[], LABEL_AND_WRITES).confined(&runtime.name).out()?.ok()?;
    same!(out.stdout, format!("{}\nallowed\n", web.enforced()), "label and writes of an exec");
    Ok(())
}
