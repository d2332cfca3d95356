//! Joining cgroups of version 1, and the CPUs that a cgroup gives.

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::Cpus;
use crate::sys::fd::Loose;
use crate::sys::sched;

/// Writes `0` into `tasks` of each directory: a single thread that moves itself takes no lock (Linux 5.5),
/// where any write to `cgroup.procs` waits about 10 ms for an RCU grace period.
pub(super) fn join(directories: &[PathBuf]) -> Result<()> {
    for directory in directories {
        match write_to(directory, "tasks") {
            // a kernel that wants the whole process to move
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::BUSY) => write_to(directory, "cgroup.procs"),
            result => result,
        }
        .call(|| "write 0 to tasks".to_owned())
        .map_err(|error| explain(error, directory))?;
    }
    Ok(())
}

fn write_to(directory: &std::path::Path, file: &str) -> Result<(), Errno> {
    let fd = Loose::from(open(directory.join(file), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?);
    write(&*fd, b"0").map(drop)
}

fn explain(error: Error, directory: &std::path::Path) -> Error {
    let error = error.path(directory).within(format!("join cgroup {}", directory.display()));
    match error.errno() {
        Some(libc::ENOSPC) => error.hint("cpuset.cpus or cpuset.mems is empty"),
        Some(libc::EINVAL) => error.hint("a real-time task cannot join a cpu cgroup without cpu.rt_runtime_us"),
        _ => error,
    }
}

/// A caller that is bound to some CPUs (a unit of systemd with CPUAffinity=) hands that on, and since Linux 6.2 a
/// cpuset does not undo it: the container would never use what its own cpuset gives.
pub(super) fn affinity(cpus: Option<&Cpus>) -> Result<()> {
    let Some(cpus) = cpus else {
        // what refuses it (a filter on the caller) leaves what was inherited
        let _ = sched::reset_affinity();
        return Ok(());
    };
    sched::set_affinity(&cpus.0)
        .call(|| "sched_setaffinity".to_owned())
        .context(|| format!("run on the CPUs {cpus}"))
        .map_err(|error| match error.errno() {
            Some(libc::EINVAL) => error.hint("the container's cpuset has none of them"),
            _ => error,
        })
}
