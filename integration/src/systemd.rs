//! What systemd says of the units that a runtime has asked it for.

use std::path::Path;
use std::process::{Command, Stdio};

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
    Command::new("systemctl").arg(verb).stdin(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn systemctl(args: &[&str]) -> String {
    let out = Command::new("systemctl").args(args).stdin(Stdio::null()).stderr(Stdio::null()).output();
    out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
}
