//! `--as-user`: an ordinary user runs the runtime. The host's root keeps the cases themselves, and what they look at.
//!
//! The user is who is root in every container: what a bundle of `--userns` has is the user's, or of the user's
//! subordinate ids.

use crate::bundle::{IDS, ROOT};
use crate::cgroup;
use crate::options::Options;
use crate::run::eventually;
use crate::systemd;
use rustix::fs::{Mode, chmod};
use rustix::mount::mount_bind;
use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The mappings of every bundle: newuidmap takes the user's own id by itself.
pub const MAPS: [(u32, u32, u32); 2] = [(0, ROOT, 1), (1, ROOT + 1, IDS - 1)];

/// What is a matter of root's, by the beginning of the names: an area, or a case.
const ROOTS: &[(&str, &str)] = &[
    ("cgroup::", NO_CGROUP),
    ("change::", NO_CGROUP),
    ("delegation::", NO_CGROUP),
    ("devices::", NO_CGROUP),
    ("events::", NO_CGROUP),
    ("resources::", NO_CGROUP),
    ("update::", NO_CGROUP),
    ("pause::", NO_CGROUP),
    ("ps::", NO_CGROUP),
    ("exec::affinity_of_the_caller_is_not_inherited", NO_CGROUP),
    ("exec::cgroup_", NO_CGROUP),
    ("exec::ignore_paused_waits_for_resume", NO_CGROUP),
    ("exec::of_a_paused_container_is_refused", NO_CGROUP),
    ("exec::init_in_a_cgroup_of_its_own", NO_CGROUP),
    ("foreground::others_may_", NO_CGROUP),
    ("mounts::cgroup_in_a_cgroup_namespace", NO_CGROUP),
    ("mounts::cgroup_shows_the_containers_own", NO_CGROUP),
    ("security::t49_", NO_CGROUP),
    ("stress::parallel_runs", NO_CGROUP),
    ("security::t45_setgroups_stays_denied", "its caller is root of a user namespace already"),
    ("foreground::detached_leaves_orphans_alone", NO_KIN),
    ("foreground::no_subreaper_leaves_orphans_alone", NO_KIN),
    ("kill::all_reaches_", NO_KIN),
    ("relay::exec_ends_before_an_orphan_with_the_terminal", NO_KIN),
    ("relay::run_ends_before_an_orphan_with_the_terminal", NO_KIN),
    ("exec::in_a_network_namespace_joined_by_path", ROOTS_NETWORK),
    ("namespaces::lo_is_left_alone_in_a_joined_one", ROOTS_NETWORK),
    ("userns::a_new_one_beside_a_network_of_the_host", ROOTS_NETWORK),
    ("userns::sysfs_of_a_foreign_network_is_read_only", ROOTS_NETWORK),
    ("userns::groups_stay_outside_of_one_that_forbids_setgroups", "the user namespace that it joins is root's"),
    ("userns::any_number_of_ranges", "the ids of others are mapped by root alone"),
    ("userns::a_bind_from_where_only_root_gets", "it is about what only root gets to"),
    ("userns::a_root_where_only_root_gets", "it is about what only root gets to"),
    ("idmap::", ROOTS_IDS),
    ("security::t51_flags_of_an_id_mapped_mount", ROOTS_IDS),
    ("userns::the_config_may_take_flags_of_a_mount_away", OTHERS_FLAGS),
    ("userns::a_writable_cgroup_belongs_to_the_mapped_user", "the cgroup is the user's, who cannot give it to another"),
    ("userns::a_bind_without_what_is_mounted_below", NOT_BELOW),
    ("mounts::bind_is_not_recursive", NOT_BELOW),
    ("mounts::recursive_ratime", OTHERS_ATIME),
    ("mounts::recursive_rdev", OTHERS_FLAGS),
    ("mounts::recursive_rdiratime", OTHERS_ATIME),
    ("mounts::recursive_rexec", OTHERS_FLAGS),
    ("mounts::recursive_rnoatime", OTHERS_ATIME),
    ("mounts::recursive_rnodiratime", OTHERS_ATIME),
    ("mounts::recursive_rrw", OTHERS_FLAGS),
    ("mounts::recursive_rstrictatime", OTHERS_ATIME),
    ("mounts::recursive_rsuid", OTHERS_FLAGS),
    ("lsm::", "profiles and policies are loaded by root"),
    ("systemd::", NO_MANAGER),
    ("systemd::a_user_has_a_place_below_his_own_systemd", "it becomes another user by itself"),
    ("systemd::reloads_leave_", OTHERS_DEVICES),
    ("devices::one_program_in_the_cgroup", OTHERS_DEVICES),
    ("delegation::a_", "the cgroup is the user's, who cannot give it to another"),
    ("delegation::without_a_cgroup_namespace_it_stays_roots", "the cgroup is the user's"),
];

/// Of a user without a session: cgroup v1 is not delegated.
const NO_CGROUP: &str = "the user has no cgroup";
const NO_KIN: &str = "without a cgroup nobody knows the processes beside the init";
/// MNT_LOCK_ATIME of mount_namespaces(7).
const OTHERS_ATIME: &str = "the kernel keeps what another's mount says of access times";
/// Without a session of the user's.
const NO_MANAGER: &str = "the manager of this machine is root's";
const OTHERS_FLAGS: &str = "the kernel keeps the flags of another's mount";
const OTHERS_DEVICES: &str = "only root loads programs for devices";
const ROOTS_IDS: &str = "a file system that root mounted is id-mapped by root alone";
const NOT_BELOW: &str = "the kernel lets nobody see what is below another's mount";
const ROOTS_NETWORK: &str = "the network namespace that it joins is root's";

/// Why a case is not for an ordinary user.
pub fn why_not(options: &Options, name: &str) -> Option<&'static str> {
    let has_cgroup = !options.session.is_empty();
    let out = |why: &str| !(has_cgroup && [NO_CGROUP, NO_KIN, NO_MANAGER].contains(&why));
    let list = ROOTS.iter().filter(|_| options.as_user);
    list.clone().find(|(beginning, why)| name.starts_with(beginning) && out(why)).map(|(_, why)| *why)
}

/// In the session of the user's, if there is one: a cgroup that is delegated to the user, and one in it for the callers of
/// the runtime.
pub fn open_session(options: &mut Options) -> Result<(), String> {
    options.cgroups.clear();
    let bus = format!("{}/bus", runtime_dir());
    if !Path::new(&bus).exists() || !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        return if options.systemd() { Err(format!("--as-user --driver systemd: there is no {bus}")) } else { Ok(()) };
    }
    let manager = Command::new("systemctl")
        .args(["show", "--value", "--property", "ControlGroup", &format!("user@{ROOT}.service")])
        .output();
    options.session = manager.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default();
    systemd::ask_the_users(options.session.clone());
    let unit = format!("{}.service", options.tag);
    let run = systemd::program("systemd-run")
        .args(["--quiet", "--collect", "--unit", &unit, "--property", "Delegate=yes"])
        .args(["--property", "DelegateSubgroup=keeper", "sleep", "infinity"])
        .status();
    let up = eventually("the user's unit is up", || Ok(systemd::property(&unit, "ActiveState") == "active"));
    if !run.is_ok_and(|status| status.success()) || up.is_err() {
        return Err(format!("the manager of user {ROOT} does not start {unit}"));
    }
    options.cgroups = systemd::property(&unit, "ControlGroup");
    let callers = callers(options);
    fs::create_dir(&callers)
        .and_then(|()| cgroup::give(&callers, ROOT, ROOT))
        .map_err(|e| format!("{}: {e}", callers.display()))
}

fn runtime_dir() -> String {
    format!("/run/user/{ROOT}")
}

fn callers(options: &Options) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(options.cgroups.trim_start_matches('/')).join("callers")
}

/// A program that the user starts in the session.
pub fn command(name: &str) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--reuid", &ROOT.to_string(), "--regid", &ROOT.to_string(), "--clear-groups", name]);
    command.env("XDG_RUNTIME_DIR", runtime_dir());
    command
}

/// The directory of a case, and the cgroup in which it makes others.
pub fn own_case(options: &Options, dir: &Path) -> io::Result<()> {
    chown(dir, Some(ROOT), Some(ROOT))?;
    if options.session.is_empty() {
        return Ok(());
    }
    cgroup::directories(&options.cgroup_parent()).iter().try_for_each(|dir| cgroup::give(dir, ROOT, ROOT))
}

/// In the sandbox's own mounts: the user is known to newuidmap, and the runtime becomes a script that makes whoever
/// calls it the user.
pub fn prepare(options: &mut Options) -> io::Result<()> {
    let base = &options.base;
    let ids = format!("{ROOT}:{}:{}\n", ROOT + 1, IDS - 1);
    // without a name newuidmap does nothing for anybody
    let passwd = format!("{}tester:x:{ROOT}:{ROOT}::/:/bin/sh\n", fs::read_to_string("/etc/passwd")?);
    for (name, text) in [("passwd", &passwd), ("subuid", &ids), ("subgid", &ids)] {
        fs::write(base.join(name), text)?;
        mount_bind(base.join(name), Path::new("/etc").join(name))?;
    }
    options.runtime = base.join("runtime");
    write_script(options, &options.runtime, &options.program)
}

/// A script that becomes the user, in the session if there is one, and then the program. It is the program's process.
pub fn write_script(options: &Options, script: &Path, program: &Path) -> io::Result<()> {
    let change = format!("/usr/bin/setpriv --reuid {ROOT} --regid {ROOT} --clear-groups");
    let mut session = String::new();
    if !options.session.is_empty() {
        session = format!("export XDG_RUNTIME_DIR=\"${{XDG_RUNTIME_DIR-{}}}\"\n", runtime_dir());
    }
    // with systemd the callers are outside of what is delegated, as who has just logged in is
    if !options.session.is_empty() && !options.systemd() {
        session += &format!("echo 0 > {}/cgroup.procs\n", callers(options).display());
    }
    fs::write(script, format!("#!/bin/dash\n{session}exec {change} '{}' \"$@\"\n", program.display()))?;
    Ok(chmod(script, Mode::from_raw_mode(0o755))?)
}

#[cfg(test)]
mod tests {
    use super::ROOTS;
    use crate::cases;

    #[test]
    fn what_is_left_out_is_there() {
        let all = cases::all();
        for (beginning, _) in ROOTS {
            assert!(all.iter().any(|case| case.name.starts_with(beginning)), "{beginning}");
        }
    }
}
