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

/// Why something is root's, and where that holds.
struct Why(&'static str, fn(&Options) -> bool);

/// What is a matter of root's, by the beginning of the names: an area, or a case.
const ROOTS: &[(&str, Why)] = &[
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
    ("security::t45_setgroups_stays_denied", Why("its caller is root of a user namespace already", by_user)),
    ("foreground::detached_leaves_orphans_alone", NO_KIN),
    ("foreground::no_subreaper_leaves_orphans_alone", NO_KIN),
    ("kill::all_reaches_", NO_KIN),
    ("relay::exec_ends_before_an_orphan_with_the_terminal", NO_KIN),
    ("relay::run_ends_before_an_orphan_with_the_terminal", NO_KIN),
    ("exec::in_a_network_namespace_joined_by_path", ROOTS_NETWORK),
    ("namespaces::lo_is_left_alone_in_a_joined_one", ROOTS_NETWORK),
    ("userns::a_new_one_beside_a_network_of_the_host", ROOTS_NETWORK),
    ("userns::sysfs_of_a_foreign_network_is_read_only", ROOTS_NETWORK),
    (
        "userns::groups_stay_outside_of_one_that_forbids_setgroups",
        Why("the user namespace that it joins is root's", by_user),
    ),
    ("userns::any_number_of_ranges", Why("the ids of others are mapped by root alone", by_user)),
    ("userns::a_bind_from_where_only_root_gets", Why("it is about what only root gets to", by_user)),
    ("userns::a_root_where_only_root_gets", Why("it is about what only root gets to", by_user)),
    ("idmap::", ROOTS_IDS),
    ("security::t51_flags_of_an_id_mapped_mount", ROOTS_IDS),
    ("userns::the_config_may_take_flags_of_a_mount_away", OTHERS_FLAGS),
    (
        "userns::a_writable_cgroup_belongs_to_the_mapped_user",
        Why("the cgroup is the user's, who cannot give it to another", by_user),
    ),
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
    ("lsm::", Why("profiles and policies are loaded by root", by_user)),
    ("systemd::", NO_MANAGER),
    ("systemd::a_user_has_a_place_below_his_own_systemd", Why("it becomes another user by itself", by_user)),
    ("systemd::reloads_leave_", OTHERS_DEVICES),
    ("devices::one_program_in_the_cgroup", OTHERS_DEVICES),
    ("delegation::a_", Why("the cgroup is the user's, who cannot give it to another", by_user)),
    ("delegation::without_a_cgroup_namespace_it_stays_roots", Why("the cgroup is the user's", by_user)),
    ("process::home_of_the_user", ONE_ID),
    ("process::cwd_that_only_the_user_may_enter", ONE_ID),
    ("process::uid_and_gid", ONE_ID),
    ("process::additional_gids", ONE_ID),
    ("capabilities::the_sets_are_exact", ONE_ID),
    ("capabilities::ambient_reach_a_user", ONE_ID),
    ("capabilities::of_a_user_are_permitted_after_setuid", ONE_ID),
    ("capabilities::securebits_are_untouched", ONE_ID),
    ("capabilities::granted_ones_can_be_used", ONE_ID),
    ("nested::in_a_privileged_container_with_a_user_namespace", ONE_ID),
    ("nested::in_a_user_namespace_with_another", ONE_ID),
    ("nested::id_mapped_twice", ONE_ID),
    ("userns::any_number_of_ranges", ONE_ID),
    ("userns::the_process_is_the_mapped_user", ONE_ID),
    ("userns::what_is_made_belongs_to_the_mapped_root", ONE_ID),
    ("userns::devices_are_the_hosts", ONE_ID),
    ("userns::exec_is_in_it", ONE_ID),
    ("userns::groups_stay_outside", ONE_ID),
    ("rootless::", ONE_ID),
    ("mounts::tmpfs_data", ONE_ID),
    ("mounts::tmpfs_copyup", ONE_ID),
    ("idmap::", ONE_ID),
    ("seccomp::without_no_new_privileges", ONE_ID),
    ("exec::user_by_number", ONE_ID),
    ("exec::user_and_group_by_number", ONE_ID),
    ("exec::user_by_name", ONE_ID),
    ("exec::a_number_is_never_a_name", ONE_ID),
    ("exec::home_is_of_the_user", ONE_ID),
    ("exec::additional_gids", ONE_ID),
    ("exec::process_file", ONE_ID),
    ("exec::options_in_their_other_forms", ONE_ID),
    ("program::not_executable_for_this_user", ONE_ID),
    ("security::t01_a_number_is", ONE_ID),
    ("security::t10_", ONE_ID),
    ("security::t25_every_form", ONE_ID),
    ("security::t51_flags_of_an_id_mapped", ONE_ID),
    ("security::t47_a_state_of_somebody_elses_owned", ONE_ID),
    ("security::t47_a_state_of_somebody_elses_behind_a_link", ONE_ID),
    ("security::t47_a_state_of_somebody_elses_in_a_shared_directory", ONE_ID),
    ("rootfs::devices_with_mode_and_owner", NO_NODES),
    ("rootfs::devices_despite_the_umask", NO_NODES),
    ("rootfs::device_in_a_directory_of_its_own", NO_NODES),
    ("devices::nothing_but_the_defaults", NO_MKNOD),
    ("devices::nodes_can_be_made_of_all", NO_MKNOD),
    ("devices::allowed_by_a_rule", NO_MKNOD),
    ("devices::read_only", NO_MKNOD),
    ("devices::write_only", NO_MKNOD),
    ("devices::all_minors", NO_MKNOD),
    ("devices::all_of_a_kind", NO_MKNOD),
    ("devices::allow_all", NO_MKNOD),
    ("devices::deny_", NO_MKNOD),
    ("devices::a_later_rule_takes_away", NO_MKNOD),
    ("devices::rules_add_up", NO_MKNOD),
    ("devices::a_hole_in_a_wildcard", NO_MKNOD),
    ("devices::an_update_is_in_force", NO_MKNOD),
    ("devices::a_thousand_updates", NO_MKNOD),
    ("devices::no_program_is_left_by_", OTHERS_PROGRAMS),
    ("devices::an_update_replaces_what_others_attached", OTHERS_PROGRAMS),
    ("ps::what_runc_prints", RUNC_ABORTS),
    ("update::what_runc_does_and_says", RUNC_ABORTS),
    ("events::what_runc_prints_key_by_key", RUNC_ABORTS),
    ("security::t12_the_hosts_cgroups_below_a_read_only_sys", NO_CGROUP),
    ("security::t19_", NO_MKNOD),
    ("security::t29_missing_streams_and_a_link_for_dev_null", NO_MKNOD),
    ("security::variants::userns_t19_", NO_MKNOD),
];

const NO_CGROUP: Why = Why("the user has no cgroup", without_cgroup);
const ONE_ID: Why = Why("it takes a second id", one_id);
const NO_NODES: Why = Why("only devices that the host has can be had, under their names there", nested);
const NO_MKNOD: Why = Why("nobody makes a device in a user namespace", nested);
const NO_KIN: Why = Why("without a cgroup nobody knows the processes beside the init", without_cgroup);
const RUNC_ABORTS: Why = Why("runc, beside which it looks, aborts where clone3 is EPERM", filtered);
/// MNT_LOCK_ATIME of mount_namespaces(7).
const OTHERS_ATIME: Why = Why("the kernel keeps what another's mount says of access times", among_copies);
const NO_MANAGER: Why = Why("the manager of this machine is root's", without_session);
const OTHERS_DEVICES: Why = Why("only root loads programs for devices", not_root);
/// What a case itself loads.
const OTHERS_PROGRAMS: Why = Why(OTHERS_DEVICES.0, nested);
const ROOTS_IDS: Why = Why("a file system that root mounted is id-mapped by root alone", by_user);
const NOT_BELOW: Why = Why("the kernel lets nobody see what is below another's mount", among_others_mounts);
const ROOTS_NETWORK: Why = Why("the network namespace that it joins is root's", by_user);
const OTHERS_FLAGS: Why = Why("the kernel keeps the flags of another's mount", among_copies);

fn by_user(options: &Options) -> bool {
    options.as_user
}

fn without_session(options: &Options) -> bool {
    options.as_user && options.session.is_empty()
}

/// Cgroup v1 is not delegated.
fn without_cgroup(options: &Options) -> bool {
    without_session(options) || options.no_cgroups
}

/// Where the mounts are copies of root's, made with the namespace of an ordinary user: that begins with the user's own id.
fn among_copies(options: &Options) -> bool {
    options.as_user || nested(options) && sizes().first() == Some(&1)
}

/// The same with no container around it.
fn among_others_mounts(options: &Options) -> bool {
    options.as_user || one_id(options)
}

/// Where all of it is in a user namespace.
fn nested(options: &Options) -> bool {
    options.is_nested()
}

fn not_root(options: &Options) -> bool {
    options.as_user || options.is_nested()
}

/// That of a container around all of it, which refuses clone3.
fn filtered(_: &Options) -> bool {
    filters().1 > 0
}

fn one_id(options: &Options) -> bool {
    options.ids == 1
}

/// Why a case is not for an ordinary user, or not for root of a user namespace.
pub fn why_not(options: &Options, name: &str) -> Option<&'static str> {
    ROOTS.iter().find(|(beginning, why)| name.starts_with(beginning) && why.1(options)).map(|(_, why)| why.0)
}

/// Seccomp's mode of this process and all that it starts, and the number of filters.
pub fn filters() -> (String, u32) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").trim().to_owned();
    (field("Seccomp:"), field("Seccomp_filters:").parse().unwrap_or(0))
}

/// How many there are where nobody has mapped them.
pub const ALL_IDS: u64 = 0xffff_ffff;

/// The ids of this user namespace.
pub fn ids() -> u64 {
    sizes().iter().sum()
}

fn sizes() -> Vec<u64> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse().ok()).collect()
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
