//! The only unsafe code of the floor: raw system calls and the two structs they need.
//!
//! Every call goes straight to the kernel, so that no library's bookkeeping is counted as kernel work.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;

use crate::c;

/// An error that says which call on what failed; the floor has nothing to recover.
pub(crate) struct Failed {
    pub(crate) call: &'static str,
    pub(crate) on: String,
    pub(crate) error: io::Error,
}

pub(crate) type Done<T> = Result<T, Failed>;

/// Anything that can stand in a system call's argument register.
pub(crate) trait Arg {
    fn raw(self) -> libc::c_long;
}
impl Arg for i32 {
    fn raw(self) -> libc::c_long {
        self.into()
    }
}
impl Arg for u64 {
    fn raw(self) -> libc::c_long {
        self as libc::c_long
    }
}
impl Arg for usize {
    fn raw(self) -> libc::c_long {
        self as libc::c_long
    }
}
impl Arg for &CStr {
    fn raw(self) -> libc::c_long {
        self.as_ptr() as libc::c_long
    }
}
impl<T> Arg for *const T {
    fn raw(self) -> libc::c_long {
        self as libc::c_long
    }
}

/// `call(NAME, NUMBER, args)`: one system call; pointers in `args` must point at what the kernel expects there.
pub(crate) fn call(name: &'static str, number: libc::c_long, args: &[libc::c_long], on: &str) -> Done<libc::c_long> {
    let arg = |i: usize| args.get(i).copied().unwrap_or(0);
    // SAFETY: all pointers passed by this crate come from references that outlive the call and have the layout of the
    // kernel's ABI; no call used here hands memory to another thread (there is none).
    let result = unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) };
    if result < 0 {
        return Err(Failed { call: name, on: on.to_owned(), error: io::Error::last_os_error() });
    }
    Ok(result)
}

/// `sys!(mkdir, path, 0o755; on)`: the call by its name; `on` is what an error is about.
macro_rules! sys {
    ($name:ident $(, $arg:expr)* ; $on:expr) => {
        $crate::sys::call(
            stringify!($name),
            $crate::sys::number::$name,
            &[$($crate::sys::Arg::raw($arg)),*],
            $on,
        )
    };
}
pub(crate) use sys;

/// The numbers under the calls' own names, for `sys!`.
#[allow(non_upper_case_globals)]
pub(crate) mod number {
    pub(crate) use libc::{
        SYS_bpf as bpf, SYS_capset as capset, SYS_chdir as chdir, SYS_clone3 as clone3, SYS_close as close,
        SYS_execve as execve, SYS_exit_group as exit_group, SYS_ioctl as ioctl, SYS_keyctl as keyctl,
        SYS_mkdir as mkdir, SYS_mknod as mknod, SYS_mount as mount, SYS_open as open, SYS_pidfd_open as pidfd_open,
        SYS_pivot_root as pivot_root, SYS_prctl as prctl, SYS_prlimit64 as prlimit64, SYS_rmdir as rmdir,
        SYS_seccomp as seccomp, SYS_setgroups as setgroups, SYS_sethostname as sethostname, SYS_setns as setns,
        SYS_setsid as setsid, SYS_socket as socket, SYS_symlink as symlink, SYS_umask as umask, SYS_umount2 as umount2,
        SYS_unshare as unshare, SYS_wait4 as wait4, SYS_write as write,
    };
}

/// Beyond the 32 bits that libc's constants of this kind have.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// struct clone_args.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces and, on v2, into the cgroup whose directory is open; `Ok(0)` in the child.
pub(crate) fn clone(namespaces: i32, cgroup: Option<i32>) -> Done<libc::c_long> {
    let mut args = CloneArgs { flags: namespaces as u64, exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = fd as u64;
    }
    sys!(clone3, &raw const args, size_of::<CloneArgs>(); "the container")
}

/// Waits for the child and gives its raw wait status.
pub(crate) fn wait(pid: libc::c_long) -> Done<i32> {
    let mut status = 0_i32;
    sys!(wait4, pid as i32, (&raw mut status).cast_const(), 0, 0; "the container")?;
    Ok(status)
}

pub(crate) fn open_directory(path: &str) -> Done<i32> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    sys!(open, c(path).as_c_str(), flags; path).map(|fd| fd as i32)
}

pub(crate) fn write_file(path: &CStr, text: &[u8]) -> Done<()> {
    write_each(path, [text])
}

/// One write for each text.
pub(crate) fn write_each<T: AsRef<[u8]>>(path: &CStr, texts: impl IntoIterator<Item = T>) -> Done<()> {
    let named = |failed| Failed { on: path.to_string_lossy().into_owned(), ..failed };
    let fd = sys!(open, path, libc::O_WRONLY | libc::O_CLOEXEC, 0; "").map_err(named)? as i32;
    for text in texts {
        let text = text.as_ref();
        sys!(write, fd, text.as_ptr(), text.len(); "").map_err(named)?;
    }
    sys!(close, fd; "").map(drop)
}
