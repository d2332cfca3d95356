//! Syscalls that no crate of ours wraps. All `unsafe` of this program is here.

use serde_json::{Map, Value, json};

/// Any syscall with numbers as arguments; negative errno on failure.
pub fn syscall(number: i64, args: &[i64]) -> i64 {
    let a = |n: usize| args.get(n).copied().unwrap_or(0);
    // SAFETY: the probe is given its numbers by a case, which passes no address
    // that the kernel would write to; at worst this throw-away process dies.
    let r = unsafe { libc::syscall(number, a(0), a(1), a(2), a(3), a(4), a(5)) };
    if r == -1 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { r }
}

/// As a login shell starts a program. One that runs us in the background ignores some, and nohup(1) another: no
/// program of a container could trap those.
pub fn default_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the default is no function of ours.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

pub fn close_on_exec_from(first: i64) {
    const CLOSE_RANGE_CLOEXEC: i64 = 4;
    syscall(libc::SYS_close_range, &[first, i64::from(u32::MAX), CLOSE_RANGE_CLOEXEC]);
}

/// Fills a buffer by a syscall: `(number, arguments, position of the pointer)`.
fn filled(number: i64, before: &[i64], buffer: &mut [u8], after: &[i64]) -> i64 {
    let mut args = before.to_vec();
    args.push(buffer.as_mut_ptr() as i64);
    args.extend_from_slice(after);
    syscall(number, &args)
}

/// As the kernel says it: `(unreachable)/…` is not hidden, as libc would.
pub fn getcwd() -> String {
    let mut buffer = [0; 4096];
    let n = syscall_len(libc::SYS_getcwd, &mut buffer);
    String::from_utf8_lossy(&buffer[..n]).trim_end_matches('\0').to_owned()
}

fn syscall_len(number: i64, buffer: &mut [u8]) -> usize {
    let size = buffer.len() as i64;
    filled(number, &[], buffer, &[size]).max(0) as usize
}

pub fn securebits() -> i64 {
    syscall(libc::SYS_prctl, &[i64::from(libc::PR_GET_SECUREBITS)])
}

pub fn dumpable() -> i64 {
    syscall(libc::SYS_prctl, &[i64::from(libc::PR_GET_DUMPABLE)])
}

pub fn personality() -> i64 {
    syscall(libc::SYS_personality, &[0xffff_ffff])
}

pub fn parent_death_signal() -> i32 {
    let mut buffer = [0; 4];
    filled(libc::SYS_prctl, &[i64::from(libc::PR_GET_PDEATHSIG)], &mut buffer, &[]);
    i32::from_ne_bytes(buffer)
}

pub fn subreaper() -> i32 {
    let mut buffer = [0; 4];
    filled(libc::SYS_prctl, &[i64::from(libc::PR_GET_CHILD_SUBREAPER)], &mut buffer, &[]);
    i32::from_ne_bytes(buffer)
}

/// Any signal number: the crates have no names for the real-time ones.
pub fn send_signal(pid: i32, signal: i32) -> std::io::Result<()> {
    let r = syscall(libc::SYS_kill, &[pid.into(), signal.into()]);
    if r < 0 { Err(std::io::Error::from_raw_os_error(-r as i32)) } else { Ok(()) }
}

// Masks go to the kernel as they are: musl keeps three of the signals to itself.

fn set_mask(mask: u64) {
    syscall(libc::SYS_rt_sigprocmask, &[libc::SIG_SETMASK.into(), &raw const mask as i64, 0, 8]);
}

pub fn block_signals() {
    set_mask(u64::MAX);
}

/// Waits for one that is blocked.
pub fn next_signal() -> i64 {
    let all = u64::MAX;
    loop {
        let signal = syscall(libc::SYS_rt_sigtimedwait, &[&raw const all as i64, 0, 0, 8]);
        if signal > 0 {
            return signal;
        }
    }
}

/// Ends by a signal, which may be one that Rust or a caller handles otherwise.
pub fn die(signal: i32) -> ! {
    // struct sigaction of the kernel: SIG_DFL and no flags
    let default = [0u64; 4];
    syscall(libc::SYS_rt_sigaction, &[signal.into(), &raw const default as i64, 0, 8]);
    set_mask(0);
    let _ = send_signal(std::process::id() as i32, signal);
    std::process::exit(97)
}

/// struct sched_attr.
pub fn sched() -> Value {
    let mut b = [0u8; 56];
    let r = filled(libc::SYS_sched_getattr, &[0], &mut b, &[56, 0]);
    if r < 0 {
        return json!({"errno": -r});
    }
    let u32_at = |n: usize| u32::from_ne_bytes(b[n..n + 4].try_into().unwrap_or_default());
    let u64_at = |n: usize| u64::from_ne_bytes(b[n..n + 8].try_into().unwrap_or_default());
    json!({"policy": u32_at(4), "flags": u64_at(8), "nice": u32_at(16) as i32, "priority": u32_at(20),
           "runtime": u64_at(24), "deadline": u64_at(32), "period": u64_at(40)})
}

/// Class and level of `ioprio_get(IOPRIO_WHO_PROCESS, self)`.
pub fn ioprio() -> Value {
    let r = syscall(libc::SYS_ioprio_get, &[1, 0]);
    json!({"class": r >> 13, "priority": r & 0x1fff})
}

/// The name of the session keyring.
pub fn session_keyring() -> Value {
    const KEYCTL_DESCRIBE: i64 = 6;
    const SESSION: i64 = -3;
    let mut b = [0; 512];
    let n = filled(libc::SYS_keyctl, &[KEYCTL_DESCRIBE, SESSION], &mut b, &[512]);
    if n < 0 {
        return json!(n);
    }
    let text = String::from_utf8_lossy(&b[..(n as usize).min(512)]);
    // type;uid;gid;permissions;name
    json!(text.trim_end_matches('\0').splitn(5, ';').nth(4))
}

/// The label that a security module gave the session keyring.
pub fn session_keyring_label() -> Value {
    const KEYCTL_GET_SECURITY: i64 = 17;
    const SESSION: i64 = -3;
    let mut b = [0; 256];
    let n = filled(libc::SYS_keyctl, &[KEYCTL_GET_SECURITY, SESSION], &mut b, &[256]);
    if n < 0 {
        return json!(n);
    }
    json!(String::from_utf8_lossy(&b[..(n as usize).min(256)]).trim_end_matches('\0'))
}

const LIMITS: [(&str, i64); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

pub fn rlimits() -> Value {
    let mut m = Map::new();
    for (name, number) in LIMITS {
        let mut b = [0u8; 16];
        filled(libc::SYS_prlimit64, &[0, number, 0], &mut b, &[]);
        let at = |n: usize| u64::from_ne_bytes(b[n..n + 8].try_into().unwrap_or_default());
        m.insert(name.into(), json!([at(0), at(8)]));
    }
    Value::Object(m)
}

// bpf(2): union bpf_attr of linux/bpf.h in words of 32 bits, with room to spare, as some kernels write more than
// they are told to.
type BpfAttributes = [u32; 64];

const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_ATTACH: i64 = 8;
const BPF_PROG_GET_NEXT_ID: i64 = 11;
const BPF_PROG_GET_FD_BY_ID: i64 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_PROG_QUERY: i64 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

fn bpf(command: i64, attributes: &mut BpfAttributes) -> std::io::Result<i64> {
    let r = syscall(libc::SYS_bpf, &[command, attributes.as_mut_ptr() as i64, size_of::<BpfAttributes>() as i64]);
    if r < 0 { Err(std::io::Error::from_raw_os_error(-r as i32)) } else { Ok(r) }
}

fn set_pointer(attributes: &mut BpfAttributes, word: usize, pointer: u64) {
    attributes[word..word + 2].copy_from_slice(&[pointer as u32, (pointer >> 32) as u32]);
}

/// The ids of the device programs attached to a v2 cgroup itself.
pub fn attached_device_programs(directory: &std::path::Path) -> std::io::Result<Vec<u32>> {
    use std::os::fd::AsRawFd;
    let cgroup = std::fs::File::open(directory)?;
    let mut ids = [0u32; 64];
    let mut a: BpfAttributes = [0; 64];
    a[0] = cgroup.as_raw_fd() as u32;
    a[1] = BPF_CGROUP_DEVICE;
    set_pointer(&mut a, 4, ids.as_mut_ptr() as u64);
    a[6] = ids.len() as u32;
    bpf(BPF_PROG_QUERY, &mut a)?;
    Ok(ids[..a[6] as usize].to_vec())
}

/// How many device programs the machine has.
pub fn loaded_device_programs() -> std::io::Result<usize> {
    let mut count = 0;
    let mut id = 0;
    loop {
        let mut a: BpfAttributes = [0; 64];
        a[0] = id;
        match bpf(BPF_PROG_GET_NEXT_ID, &mut a) {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => return Ok(count),
            result => result?,
        };
        id = a[1];
        let mut a: BpfAttributes = [0; 64];
        a[0] = id;
        // one that vanishes meanwhile is none
        let Ok(fd) = bpf(BPF_PROG_GET_FD_BY_ID, &mut a) else { continue };
        let mut info = [0u32; 64];
        let mut a: BpfAttributes = [0; 64];
        a[0] = fd as u32;
        a[1] = size_of_val(&info) as u32;
        set_pointer(&mut a, 2, info.as_mut_ptr() as u64);
        let known = bpf(BPF_OBJ_GET_INFO_BY_FD, &mut a);
        syscall(libc::SYS_close, &[fd]);
        known?;
        count += usize::from(info[0] == BPF_PROG_TYPE_CGROUP_DEVICE);
    }
}

/// Attaches a program that allows everything, beside those that are there.
pub fn attach_device_program(directory: &std::path::Path) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // r0 = 1; exit
    let program: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
    let license = c"GPL";
    let mut a: BpfAttributes = [0; 64];
    a[0] = BPF_PROG_TYPE_CGROUP_DEVICE;
    a[1] = program.len() as u32;
    set_pointer(&mut a, 2, program.as_ptr() as u64);
    set_pointer(&mut a, 4, license.as_ptr() as u64);
    let loaded = bpf(BPF_PROG_LOAD, &mut a)?;
    let cgroup = std::fs::File::open(directory)?;
    let mut a: BpfAttributes = [0; 64];
    a[..4].copy_from_slice(&[cgroup.as_raw_fd() as u32, loaded as u32, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI]);
    let attached = bpf(BPF_PROG_ATTACH, &mut a);
    syscall(libc::SYS_close, &[loaded]);
    attached.map(drop)
}

/// Loads a filter that answers these syscalls of this architecture with their errnos. It holds for all that is
/// executed from here on.
pub fn install_filter(rules: &[(i64, i32)]) -> std::io::Result<()> {
    const SET_MODE_FILTER: i64 = 1;
    let mut program = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (number, errno) in rules {
        program.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *number as u32));
        program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | *errno as u32));
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    let all = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    match syscall(libc::SYS_seccomp, &[SET_MODE_FILTER, 0, &raw const all as i64]) {
        0 => Ok(()),
        errno => Err(std::io::Error::from_raw_os_error(-errno as i32)),
    }
}

fn op(code: u32, yes: u8, no: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: yes, jf: no, k }
}
