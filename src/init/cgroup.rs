//! Joining cgroups of version 1.

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, write};

use crate::error::{Call, Error, Result};
use crate::sys::fd::Loose;

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
