//! What systemd says of the units that a runtime has asked it for.

use crate::user;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Where the manager of `--as-user` has its cgroups: it is the one that is asked then.
static USERS: OnceLock<String> = OnceLock::new();

pub fn ask_the_users(top: String) {
    let _ = USERS.set(top);
}

/// The cgroup in which the manager's slices are.
pub fn top() -> &'static str {
    USERS.get().map_or("", String::as_str)
}

/// A program that asks the manager: `systemctl`, `systemd-run`.
pub fn program(name: &str) -> Command {
    let mut command = if USERS.get().is_some() { user::command(name) } else { Command::new(name) };
    if USERS.get().is_some() {
        command.arg("--user");
    }
    command.stdin(Stdio::null());
    command
}

pub fn is_here() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The units with this tag in their names that it knows, running or failed.
pub fn units(tag: &str) -> Vec<String> {
    let text = systemctl(&["list-units", "--all", "--plain", "--no-legend", "--no-pager", &format!("*{tag}*")]);
    text.lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect()
}

/// One property of a unit: empty where it is unknown.
pub fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// With all their processes.
pub fn stop(units: &[String]) {
    if units.is_empty() {
        return;
    }
    for verb in [&["kill", "--signal=KILL"][..], &["stop"], &["reset-failed"]] {
        let all: Vec<&str> = verb.iter().copied().chain(units.iter().map(String::as_str)).collect();
        systemctl(&all);
    }
}

/// Does something to systemd itself: `daemon-reload`.
pub fn control(verb: &str) -> bool {
    program("systemctl").arg(verb).status().is_ok_and(|status| status.success())
}

fn systemctl(args: &[&str]) -> String {
    let out = program("systemctl").args(args).stderr(Stdio::null()).output();
    out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}
