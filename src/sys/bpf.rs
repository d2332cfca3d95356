//! bpf(2), for programs that decide about devices.

use std::ffi::{CStr, CString};
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::io::Errno;

use super::outcome;

const PROG_LOAD: libc::c_int = 5;
const OBJ_PIN: libc::c_int = 6;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;

/// BPF_PROG_TYPE_CGROUP_DEVICE
const TYPE_CGROUP_DEVICE: u32 = 15;
/// BPF_CGROUP_DEVICE
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// Several programs may be attached; all of them have to allow.
pub const ALLOW_MULTI: u32 = 2;
/// In the place of one of those.
const REPLACE: u32 = 4;

/// BPF_CGROUP_MAX_PROGS: a cgroup never has more.
pub const MAX_ATTACHED: usize = 64;

/// What bpftool shows; at most 15 letters.
const NAME: &[u8; 14] = b"ferrun_devices";

const LOG_SIZE: usize = 64 << 10;

/// `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u8,
    /// Destination in the low half, source in the high one (little endian).
    pub registers: u8,
    pub offset: i16,
    pub constant: i32,
}

impl Instruction {
    pub fn new(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Self {
        let registers = if cfg!(target_endian = "big") { to << 4 | from } else { from << 4 | to };
        Self { code, registers, offset, constant }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    /// What would be padding, and so need not be zero when the struct is written: the kernel insists on it.
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr`, and zeroes beyond: there are kernels that write the answer to a query beyond the size
/// that they were told (`query.revision`, Linux 6.6).
#[repr(C)]
union Attributes {
    load: Load,
    attach: Attach,
    query: Query,
    pin: Pin,
    id: u32,
    whole: [u64; 32],
}

impl Attributes {
    fn new() -> Self {
        Self { whole: [0; 32] }
    }
}

fn bpf(command: libc::c_int, attributes: &mut Attributes) -> Result<libc::c_long, Errno> {
    // SAFETY: the kernel reads and writes within `size` bytes of a union that outlives the call, and where its
    // pointers lead: each caller points to memory of the length it names beside.
    outcome(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<Attributes>()) })
}

fn new_fd(number: libc::c_long) -> OwnedFd {
    // SAFETY: called with the result of a command that makes a new, close-on-exec fd, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(number as RawFd) }
}

/// Loads a program for device cgroups.
///
/// # Errors
/// EPERM: no CAP_BPF with CAP_NET_ADMIN, nor CAP_SYS_ADMIN, in the initial user namespace. When the program
/// itself is refused, the verifier's last words come with it.
pub fn load(program: &[Instruction]) -> Result<OwnedFd, (Errno, Option<String>)> {
    let refused = match try_load(program, &mut []) {
        Ok(fd) => return Ok(fd),
        Err(errno @ (Errno::INVAL | Errno::ACCESS)) => errno,
        Err(errno) => return Err((errno, None)),
    };
    // writing the log takes time, so it is asked for only when there is something to read
    let mut log = vec![0; LOG_SIZE];
    match try_load(program, &mut log) {
        Ok(fd) => Ok(fd),
        Err(_) => Err((refused, last_words(&log))),
    }
}

fn try_load(program: &[Instruction], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    const LICENSE: &CStr = c"Apache-2.0";
    let mut name = [0; 16];
    name[..NAME.len()].copy_from_slice(NAME);
    let mut attributes = Attributes::new();
    attributes.load = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: log.len() as u32,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        flags: 0,
        name,
    };
    bpf(PROG_LOAD, &mut attributes).map(new_fd)
}

/// The verifier ends with figures about itself; what it objects to stands before.
fn last_words(log: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(log);
    let lines = text.trim_end_matches('\0').lines().filter(|line| !line.is_empty());
    lines.rev().find(|line| !line.starts_with("processed ")).map(str::to_owned)
}

/// The programs of a cgroup itself, without its ancestors'.
pub struct Attached {
    pub ids: Vec<u32>,
    /// BPF_F_* of their attachment.
    pub flags: u32,
}

pub fn attached(cgroup: BorrowedFd<'_>) -> Result<Attached, Errno> {
    let mut ids = [0u32; MAX_ATTACHED];
    let mut attributes = Attributes::new();
    attributes.query = Query {
        target: cgroup.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: MAX_ATTACHED as u32,
        reserved: 0,
    };
    bpf(PROG_QUERY, &mut attributes)?;
    // SAFETY: all bits are valid for these integers, and all were zeroed.
    let query = unsafe { attributes.query };
    let count = (query.count as usize).min(MAX_ATTACHED);
    Ok(Attached { ids: ids[..count].to_vec(), flags: query.attach_flags })
}

/// A program that is loaded.
///
/// # Errors
/// ENOENT: it is gone. EPERM: no CAP_SYS_ADMIN.
pub fn by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = Attributes::new();
    attributes.id = id;
    bpf(PROG_GET_FD_BY_ID, &mut attributes).map(new_fd)
}

/// Attaches `program`; with `replaced` in the place of that, in one step.
///
/// # Errors
/// ENOENT: `replaced` is not attached. EPERM: other programs are attached with other `flags`.
pub fn attach(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    flags: u32,
    replaced: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attributes = Attributes::new();
    attributes.attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: flags | if replaced.is_some() { REPLACE } else { 0 },
        replaced: replaced.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

/// # Errors
/// ENOENT: it is not attached, or by a link.
pub fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attributes = Attributes::new();
    attributes.attach = Attach {
        target: cgroup.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: 0,
        replaced: 0,
    };
    bpf(PROG_DETACH, &mut attributes).map(drop)
}

/// Gives `program` a name in a bpf file system, which keeps it loaded.
pub fn pin(program: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::INVAL)?;
    let mut attributes = Attributes::new();
    attributes.pin = Pin { path: path.as_ptr() as u64, fd: program.as_raw_fd() as u32, flags: 0 };
    bpf(OBJ_PIN, &mut attributes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(std::mem::offset_of!(Load, name), 48);
        assert_eq!(std::mem::offset_of!(Query, count), 24);
        // without padding, whose bytes nobody promises to be zero
        assert_eq!([size_of::<Load>(), size_of::<Attach>(), size_of::<Query>(), size_of::<Pin>()], [64, 20, 32, 16]);
        assert_eq!(size_of::<Attributes>(), 256);
    }

    #[test]
    fn the_last_words_are_those_before_the_figures() {
        let log = b"0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n\0\0\0";
        assert_eq!(last_words(log).as_deref(), Some("R0 !read_ok"));
        assert_eq!(last_words(&[0; 8]), None);
    }
}
