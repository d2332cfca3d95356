//! The cases, a file per area. Names are `area::what_is_so`.

mod apparmor;
mod capabilities;
mod cgroups;
mod changes;
mod config;
mod crash;
mod delegation;
mod devices;
mod events;
pub mod exec;
mod exec_edges;
mod exec_many;
mod fds;
mod foreground;
mod hooks;
mod idmap;
mod io;
mod landlock;
mod lifecycle;
mod mounts;
mod namespaces;
mod nested;
mod notify;
mod pause;
mod process;
mod program;
mod ps;
mod relay;
mod resources;
mod rootfs;
mod rootless;
mod seccomp;
mod selinux;
mod stress;
mod symlinks;
mod systemd;
mod terminal;
mod terminal_ends;
mod units;
mod update;
mod userns;
mod verbs;

use crate::case::Case;

pub fn all() -> Vec<Case> {
    let areas = [
        lifecycle::cases(),
        verbs::cases(),
        io::cases(),
        fds::cases(),
        foreground::cases(),
        notify::cases(),
        terminal::cases(),
        terminal_ends::cases(),
        relay::cases(),
        process::cases(),
        capabilities::cases(),
        namespaces::cases(),
        nested::cases(),
        userns::cases(),
        rootless::cases().into_iter().map(|case| case.without_userns("an ordinary caller has its own")).collect(),
        mounts::cases(),
        idmap::cases(),
        symlinks::cases(),
        rootfs::cases(),
        seccomp::cases(),
        apparmor::cases(),
        selinux::cases(),
        landlock::cases(),
        exec::cases(),
        exec_edges::cases(),
        exec_many::cases(),
        program::cases(),
        hooks::cases(),
        cgroups::cases(),
        resources::cases(),
        changes::cases(),
        pause::cases(),
        ps::cases(),
        update::cases(),
        events::cases(),
        delegation::cases(),
        systemd::cases(),
        devices::cases(),
        units::cases(),
        config::cases(),
        stress::cases(),
        crash::cases(),
        crate::security::cases(),
    ];
    areas.into_iter().flatten().collect()
}
