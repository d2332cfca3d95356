//! sched_setattr(2) and ioprio_set(2), by pid; the CPUs of this process.

use rustix::io::Errno;

use super::outcome;

/// `struct sched_attr` of sched_setattr(2), first version (48 bytes).
#[repr(C)]
#[derive(Default)]
pub struct SchedAttr {
    /// Filled in by the call.
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds, like the next two.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

pub fn sched_setattr(pid: i32, mut attr: SchedAttr) -> Result<(), Errno> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: the kernel reads `size` bytes of a struct that outlives the call, and may write the size it knows.
    outcome(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw mut attr, 0) }).map(drop)
}

/// `class` is IOPRIO_CLASS_*, `priority` 0 to 7.
pub fn ioprio_set(pid: i32, class: u16, priority: u16) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = u32::from(class) << IOPRIO_CLASS_SHIFT | u32::from(priority);
    // SAFETY: three integers.
    outcome(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid, value) }).map(drop)
}

/// The highest number that a CPU can have: no kernel is built for more.
const MAX_CPU: u32 = 8191;

/// sched_setaffinity(2) of this process: `ranges` of CPUs, each with its last one. The kernel leaves out those that
/// there are not, and those that the cpuset does not have.
///
/// # Errors
/// EINVAL: none is left.
pub fn set_affinity(ranges: &[(u32, u32)]) -> Result<(), Errno> {
    const BITS: u32 = libc::c_ulong::BITS;
    const WORDS: usize = ((MAX_CPU + 1) / BITS) as usize;
    let mut mask = [0 as libc::c_ulong; WORDS];
    for cpu in ranges.iter().flat_map(|&(first, last)| first..=last.min(MAX_CPU)) {
        mask[(cpu / BITS) as usize] |= 1 << (cpu % BITS);
    }
    // SAFETY: the kernel reads as many bytes as the mask has, which outlives the call.
    outcome(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), mask.as_ptr()) }).map(drop)
}

/// All CPUs that the cpuset has.
pub fn reset_affinity() -> Result<(), Errno> {
    set_affinity(&[(0, MAX_CPU)])
}
