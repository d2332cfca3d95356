//! A program that goes for every process that shows up in its pid namespace and is not of its container.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// What it got hold of.
#[derive(Default)]
struct Loot {
    /// Foreign processes that it saw.
    seen: BTreeSet<i32>,
    /// Their programs, opened for reading.
    programs: Vec<OwnedFd>,
    descriptors: BTreeSet<String>,
    attached: BTreeSet<i32>,
    memory: BTreeSet<i32>,
    /// Of those processes whose root directory shows the host's marker.
    host: BTreeSet<i32>,
    rounds: u64,
}

/// `rob MARKER STOP`: until the file STOP exists. MARKER is a path of the host.
pub fn main(marker: &str, stop: &str) -> Value {
    let mut loot = Loot::default();
    println!("ready");
    while !Path::new(stop).exists() {
        loot.rounds += 1;
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if pid != std::process::id() as i32 {
                loot.rob(pid, marker);
            }
        }
    }
    let written = loot.programs.iter().filter(|program| overwrite(program)).count();
    json!({
        "rounds": loot.rounds, "seen": loot.seen.len(), "programs": loot.programs.len(), "written": written,
        "descriptors": loot.descriptors, "attached": loot.attached.len(), "memory": loot.memory.len(),
        "host": loot.host.len(),
    })
}

/// A program of the rootfs is no loot. A link that cannot be read belongs to a foreign one.
fn foreign(pid: i32) -> bool {
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Ok(target) => target != Path::new("/probe") && target != Path::new("/bin/busybox"),
        Err(e) => e.kind() == std::io::ErrorKind::PermissionDenied,
    }
}

impl Loot {
    fn rob(&mut self, pid: i32, marker: &str) {
        if !foreign(pid) {
            return;
        }
        self.seen.insert(pid);
        // each is a look of its own: the process may have become the user's meanwhile
        let program = File::open(format!("/proc/{pid}/exe"));
        if let Ok(program) = program
            && foreign(pid)
            && self.programs.len() < 64
        {
            self.programs.push(program.into());
        }
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let standard = entry.file_name().to_string_lossy().parse::<i32>().is_ok_and(|fd| fd < 3);
            if !standard
                && let Ok(target) = fs::read_link(entry.path())
                && foreign(pid)
            {
                self.descriptors.insert(target.to_string_lossy().into_owned());
            }
        }
        if fs::exists(format!("/proc/{pid}/root{marker}")).unwrap_or(false) {
            self.host.insert(pid);
        }
        if File::options().write(true).open(format!("/proc/{pid}/mem")).is_ok() && foreign(pid) {
            self.memory.insert(pid);
        }
        let target = nix::unistd::Pid::from_raw(pid);
        if nix::sys::ptrace::seize(target, nix::sys::ptrace::Options::empty()).is_ok() {
            if foreign(pid) {
                self.attached.insert(pid);
            }
            let _ = nix::sys::ptrace::interrupt(target);
            let _ = nix::sys::wait::waitpid(target, None);
            let _ = nix::sys::ptrace::detach(target, None);
        }
    }
}

/// Adds a byte, once nobody runs it any more. The cases give a copy of the runtime away for this.
fn overwrite(program: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    (0..50).any(|_| {
        let opened = File::options().append(true).open(&path);
        let written = opened.is_ok_and(|mut file| file.write_all(b"!").is_ok());
        if !written {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        written
    })
}
