//! A machine that boots with SELinux and has no policy (`hack/vm --lsm selinux`) gets one of ours.

use std::fs;
use std::path::Path;
use std::process::Command;

const SOURCE: &str = include_str!("../data/lsm.cil");
const ENFORCE: &str = "/sys/fs/selinux/enforce";
/// What the policy makes of everything that runs when it is loaded.
const RUNTIME: &str = "system_u:system_r:runtime_t:";

pub fn label(pid: impl std::fmt::Display) -> std::io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/attr/current"))?;
    Ok(text.trim_end_matches(['\0', '\n', ' ']).to_owned())
}

/// Loads and enforces it, where there is none: before any case, because all mounts look different afterwards.
pub fn prepare(dir: &Path) -> Result<(), String> {
    if !Path::new(ENFORCE).exists() || label("self").is_ok_and(|own| own != "kernel") {
        return Ok(());
    }
    let (source, binary) = (dir.join("policy.cil"), dir.join("policy"));
    let io = |what: &'static str| move |e: std::io::Error| format!("SELinux policy: {what}: {e}");
    fs::write(&source, SOURCE).map_err(io("write"))?;
    let mut secilc = Command::new("secilc");
    secilc.arg("-o").arg(&binary).args(["-f", "/dev/null"]).arg(&source);
    let out = secilc.output().map_err(io("secilc"))?;
    if !out.status.success() {
        return Err(format!("secilc: {}", String::from_utf8_lossy(&out.stderr)));
    }
    fs::write("/sys/fs/selinux/load", fs::read(binary).map_err(io("read"))?).map_err(io("load"))?;
    fs::write(ENFORCE, "1").map_err(io("enforce"))
}

/// Why the cases cannot be tried here, if they cannot.
pub fn missing() -> Option<String> {
    if !Path::new(ENFORCE).exists() {
        return Some("no SELinux here".to_owned());
    }
    let own = label("self").unwrap_or_default();
    (!own.starts_with(RUNTIME)).then(|| format!("SELinux has another policy here: this is {own}"))
}
