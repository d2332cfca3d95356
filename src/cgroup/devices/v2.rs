//! One eBPF program, attached to the cgroup's directory, and living as long as that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, open, unlink};
use rustix::io::Errno;

use crate::config::resources::DeviceRule;
use crate::error::{Call, Context, Error, Result};
use crate::sys::bpf;

use super::emulate::Table;
use super::program;

/// How often what is attached may change under our hands: systemd does it on a daemon-reload.
const ATTEMPTS: usize = 16;

/// Whatever is attached to the cgroup, afterwards it is this alone.
pub(super) fn set(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let table = Table::of(rules)?;
    let set = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let cgroup = open(directory, flags, Mode::empty()).call(|| format!("open {}", directory.display()))?;
        let attached = bpf::attached(cgroup.as_fd()).call(|| "bpf PROG_QUERY".to_owned())?;
        if table.allows_everything() && attached.ids.is_empty() {
            return Ok(());
        }
        let program = load(&table)?;
        replace(cgroup.as_fd(), program.as_fd(), attached)
    };
    set().map_err(explain).context(|| "set the device rules".to_owned()).at(|| "/linux/resources/devices".to_owned())
}

/// Loads the rules as a program and pins it to `path`, in the place of what is there.
///
/// # Errors
/// No privilege for eBPF; `path` is not in a bpf file system.
pub fn pin(rules: &[DeviceRule], path: &Path) -> Result<()> {
    let program = load(&Table::of(rules)?).map_err(explain)?;
    let pinned = match bpf::pin(program.as_fd(), path) {
        Err(Errno::EXIST) => unlink(path).and_then(|()| bpf::pin(program.as_fd(), path)),
        result => result,
    };
    pinned.call(|| format!("bpf OBJ_PIN {}", path.display())).context(|| "pin the device rules".to_owned())
}

/// Takes the pin away; one that is gone is fine.
///
/// # Errors
/// Those of unlink(2).
pub fn unpin(path: &Path) -> Result<()> {
    match rustix::fs::unlinkat(CWD, path, rustix::fs::AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        result => result.call(|| format!("unlink {}", path.display())),
    }
}

fn load(table: &Table) -> Result<OwnedFd> {
    let program = program::compile(table)?;
    bpf::load(&program).map_err(|(errno, words)| {
        let error = Error::os(format!("bpf PROG_LOAD instructions={}", program.len()), errno);
        match words {
            Some(words) => error.cause(words),
            None => error,
        }
    })
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(libc::EPERM) => {
            error.hint("device rules of cgroup v2 need CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, on the host")
        }
        Some(libc::ENOSYS | libc::EINVAL) => error.hint("the kernel needs CONFIG_CGROUP_BPF"),
        _ => error,
    }
}

/// One of the old programs gives its place, in one step; the others go. What several allow is what all of them
/// allow, so that on the way there is nothing that neither the old rules nor the new ones allow.
fn replace(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>, mut attached: bpf::Attached) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if attached.ids.is_empty() {
            return bpf::attach(cgroup, program, bpf::ALLOW_MULTI, None).call(|| "bpf PROG_ATTACH".to_owned());
        }
        if attached.flags & bpf::ALLOW_MULTI == 0 {
            // then there is but one, and each attachment takes the place of the last
            return bpf::attach(cgroup, program, attached.flags, None).call(|| "bpf PROG_ATTACH".to_owned());
        }
        let old = open_all(&attached.ids)?;
        for (index, one) in old.iter().enumerate() {
            match bpf::attach(cgroup, program, bpf::ALLOW_MULTI, Some(one.as_fd())) {
                // gone meanwhile, or attached by a link
                Err(Errno::NOENT) => {}
                Ok(()) => return detach_all(cgroup, old.iter().skip(index + 1)),
                Err(errno) => return Err(errno).call(|| "bpf PROG_ATTACH replace".to_owned()),
            }
        }
        attached = bpf::attached(cgroup).call(|| "bpf PROG_QUERY".to_owned())?;
    }
    // what is attached by links is its maker's; it can only forbid
    let old = open_all(&attached.ids)?;
    bpf::attach(cgroup, program, bpf::ALLOW_MULTI, None).call(|| "bpf PROG_ATTACH".to_owned())?;
    detach_all(cgroup, old.iter())
}

/// Those that are still there.
fn open_all(ids: &[u32]) -> Result<Vec<OwnedFd>> {
    let open = |id: &u32| match bpf::by_id(*id) {
        Err(Errno::NOENT) => None,
        result => Some(result.call(|| format!("bpf PROG_GET_FD_BY_ID {id}"))),
    };
    ids.iter().filter_map(open).collect()
}

fn detach_all<'a>(cgroup: BorrowedFd<'_>, programs: impl Iterator<Item = &'a OwnedFd>) -> Result<()> {
    for program in programs {
        match bpf::detach(cgroup, program.as_fd()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno).call(|| "bpf PROG_DETACH".to_owned()),
        }
    }
    Ok(())
}
