//! `floor`: only the kernel work of a container, done by plain system calls in a fixed order.
//!
//! It reads no configuration, keeps no state, checks nothing that the kernel does not check; a runtime cannot be
//! faster than this by doing the same things, only by doing less. It takes the cheapest of known ways: one clone3,
//! the child joins v1 cgroups through `tasks` and is born in its v2 cgroup, the old mount API, binds instead of cgroup mounts, no second exec.
//!
//! ```text
//! floor min|full|min-limits|full-limits ROOTFS CGROUP [HIERARCHY:HIERARCHY:…|v2]
//! floor exec PID min|full CGROUP HIERARCHY:HIERARCHY:…|v2
//!                              one more process in the container whose init is PID
//! floor hello                  the start and end of a small static program: the floor of state, start, kill, delete
//! floor rss FILE PROGRAM ARG…  runs it and writes its peak RSS (KiB): see `launch`
//! ```
#![allow(clippy::disallowed_methods)]

mod cgroups;
mod container;
mod devices;
mod filter;
mod launch;
mod sys;

use std::ffi::CString;
use std::io::Write;
use std::process::ExitCode;

use ferrun_bench::shape;
use sys::{Done, Failed, sys};

/// What the arguments say; paths relative to nothing else.
pub(crate) struct Job {
    pub(crate) full: bool,
    pub(crate) limits: bool,
    pub(crate) rootfs: String,
    pub(crate) cgroups: Cgroups,
}

/// Where the container's cgroup is.
pub(crate) enum Cgroups {
    /// In each hierarchy.
    V1(Vec<Group>),
    /// The directory.
    V2(String),
}

pub(crate) struct Group {
    pub(crate) hierarchy: String,
    pub(crate) path: String,
}

fn main() -> ExitCode {
    let mut args = std::env::args();
    // Under this name it is the smallest payload, for the measurement of peak RSS.
    if args.next().is_some_and(|name| name == "true") {
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = args.collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["hello"] => {
            let _ = std::io::stdout().write_all(b"hello\n");
            ExitCode::SUCCESS
        }
        ["rss", file, program @ ..] if !program.is_empty() => launch::report_peak(file, program),
        ["exec", pid, kind, cgroup, hierarchies] => exec(pid, kind, cgroup, hierarchies),
        [kind, rootfs, cgroup] => run(kind, rootfs, cgroup, &shape::HIERARCHIES),
        [kind, rootfs, cgroup, hierarchies] => run(kind, rootfs, cgroup, &hierarchies.split(':').collect::<Vec<_>>()),
        _ => {
            eprintln!(
                "usage: floor min|full|min-limits|full-limits ROOTFS CGROUP [HIERARCHY:…|v2]\n       floor exec PID min|full CGROUP HIERARCHY:…|v2\n       floor hello\n       floor rss FILE PROGRAM ARG…"
            );
            ExitCode::from(2)
        }
    }
}

fn run(kind: &str, rootfs: &str, cgroup: &str, hierarchies: &[&str]) -> ExitCode {
    let (full, limits) = match kind {
        "min" => (false, false),
        "full" => (true, false),
        "min-limits" => (false, true),
        "full-limits" => (true, true),
        _ => {
            eprintln!("floor: no such kind: {kind}");
            return ExitCode::from(2);
        }
    };
    let job = Job { full, limits, rootfs: rootfs.to_owned(), cgroups: cgroups(cgroup, hierarchies) };
    ended(whole_life(&job))
}

/// Only an init's namespaces are joined, and its cgroup.
fn exec(pid: &str, kind: &str, cgroup: &str, hierarchies: &str) -> ExitCode {
    let cgroups = cgroups(cgroup, &hierarchies.split(':').collect::<Vec<_>>());
    let job = Job { full: kind == "full", limits: false, rootfs: String::new(), cgroups };
    ended(beside(&job, pid.parse().unwrap_or(0)))
}

fn cgroups(cgroup: &str, hierarchies: &[&str]) -> Cgroups {
    let group = |h: &&str| Group { hierarchy: (*h).to_owned(), path: format!("/sys/fs/cgroup/{h}/{cgroup}") };
    match hierarchies {
        ["v2"] => Cgroups::V2(format!("/sys/fs/cgroup/{cgroup}")),
        v1 => Cgroups::V1(v1.iter().map(group).collect()),
    }
}

fn ended(status: Done<i32>) -> ExitCode {
    match status {
        Ok(0) => ExitCode::SUCCESS,
        Ok(status) => {
            eprintln!("floor: the container ended with wait status {status:#x}");
            ExitCode::FAILURE
        }
        Err(failed) => {
            complain(&failed);
            ExitCode::FAILURE
        }
    }
}

fn whole_life(job: &Job) -> Done<i32> {
    let cgroup = cgroups::make(job)?;
    let child = sys::clone(
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS,
        cgroup,
    )?;
    if child == 0 {
        if let Err(failed) = container::become_true(job) {
            complain(&failed);
        }
        // Not through Rust's exit: the child must not run anything of the parent's.
        let _ = sys!(exit_group, 125; "");
    }
    let status = sys::wait(child);
    cgroups::remove(job)?;
    status
}

fn beside(job: &Job, pid: i32) -> Done<i32> {
    let init = sys!(pidfd_open, pid, 0; "the init")? as i32;
    sys!(setns, init, libc::CLONE_NEWPID; "the pid namespace")?;
    let cgroup = match &job.cgroups {
        Cgroups::V1(_) => None,
        Cgroups::V2(path) => Some(sys::open_directory(path)?),
    };
    let child = sys::clone(0, cgroup)?;
    if child == 0 {
        if let Err(failed) = container::become_true_beside(job, init) {
            complain(&failed);
        }
        let _ = sys!(exit_group, 125; "");
    }
    sys::wait(child)
}

fn complain(failed: &Failed) {
    eprintln!("floor: {} {}: {}", failed.call, failed.on, failed.error);
}

pub(crate) fn c(path: &str) -> CString {
    // Arguments of a process cannot hold a NUL; an empty path fails in the kernel with ENOENT.
    CString::new(path).unwrap_or_default()
}
