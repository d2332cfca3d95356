//! The child: from the clone to `execve("/bin/true")`, in the order in which a runtime does it.

use std::ffi::CStr;
use std::ptr::null;

use ferrun_bench::shape;

use crate::sys::{Done, Failed, sys};
use crate::{Cgroups, Group, Job, c, cgroups, filter};

const QUIET: u64 = libc::MS_NOSUID | libc::MS_NOEXEC | libc::MS_NODEV;
const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
const LAST_CAPABILITY: u32 = 40;
const RLIMIT_NOFILE: i32 = 7;
const SIOCGIFFLAGS: i32 = 0x8913;
const SIOCSIFFLAGS: i32 = 0x8914;

/// Returns only with an error.
pub(crate) fn become_true(job: &Job) -> Done<()> {
    cgroups::join(job)?;
    if job.full {
        sys!(unshare, libc::CLONE_NEWCGROUP; "cgroup")?;
        crate::sys::write_file(c"/proc/self/oom_score_adj", shape::OOM_SCORE_ADJ_FULL.to_string().as_bytes())?;
    }
    sys!(setsid; "")?;
    loopback_up()?;
    sys!(sethostname, shape::HOSTNAME.as_ptr(), shape::HOSTNAME.len(); shape::HOSTNAME)?;
    sys!(keyctl, KEYCTL_JOIN_SESSION_KEYRING, c"_ses.floor"; "session keyring")?;
    mounts(job)?;
    enter_root(job)?;
    identity(job)?;
    execute_true()
}

/// The same in the namespaces of `init`, a pidfd; returns only with an error.
pub(crate) fn become_true_beside(job: &Job, init: i32) -> Done<()> {
    cgroups::join(job)?;
    let namespaces = libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if job.full {
        crate::sys::write_file(c"/proc/self/oom_score_adj", shape::OOM_SCORE_ADJ_FULL.to_string().as_bytes())?;
    }
    sys!(setns, init, namespaces | if job.full { libc::CLONE_NEWCGROUP } else { 0 }; "the namespaces")?;
    sys!(setsid; "")?;
    sys!(keyctl, KEYCTL_JOIN_SESSION_KEYRING, c"_ses.floor"; "session keyring")?;
    identity(job)?;
    execute_true()
}

fn execute_true() -> Done<()> {
    let args = [c"true".as_ptr(), null()];
    let env =
        [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), c"TERM=xterm".as_ptr(), null()];
    sys!(execve, c"/bin/true", args.as_ptr(), env.as_ptr(); "/bin/true").map(drop)
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: u64, data: &CStr) -> Done<()> {
    let result = sys!(mount, source, target, kind, flags, data; "");
    result.map(drop).map_err(|failed| Failed { on: target.to_string_lossy().into_owned(), ..failed })
}

/// Everything below the root, by names relative to it: the working directory is the bind of the root file system.
fn mounts(job: &Job) -> Done<()> {
    mount(c"", c"/", c"", libc::MS_SLAVE | libc::MS_REC, c"")?;
    let rootfs = c(&job.rootfs);
    mount(&rootfs, &rootfs, c"", libc::MS_BIND | libc::MS_REC, c"")?;
    sys!(chdir, rootfs.as_c_str(); &job.rootfs)?;
    mount(c"proc", c"proc", c"proc", 0, c"")?;
    mount(c"tmpfs", c"dev", c"tmpfs", libc::MS_NOSUID | libc::MS_STRICTATIME, c"mode=755,size=65536k")?;
    for dir in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        sys!(mkdir, dir, 0o755; "/dev")?;
    }
    let pts = libc::MS_NOSUID | libc::MS_NOEXEC;
    mount(c"devpts", c"dev/pts", c"devpts", pts, c"newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    mount(c"shm", c"dev/shm", c"tmpfs", QUIET, c"mode=1777,size=65536k")?;
    mount(c"mqueue", c"dev/mqueue", c"mqueue", QUIET, c"")?;
    mount(c"sysfs", c"sys", c"sysfs", QUIET | libc::MS_RDONLY, c"")?;
    cgroup_binds(job)?;
    devices()?;
    if job.full {
        for file in shape::BOUND_FILES {
            let source = c(&format!("{}/../{file}", job.rootfs));
            mount(&source, &c(&format!("etc/{file}")), c"", libc::MS_BIND | libc::MS_REC, c"")?;
        }
    }
    Ok(())
}

const CGROUP_VIEW: &CStr = c"sys/fs/cgroup";

/// The container's view of its cgroups: binds; a fresh cgroup mount would wait for the kernel's cgroup lock.
fn cgroup_binds(job: &Job) -> Done<()> {
    match &job.cgroups {
        Cgroups::V1(groups) => {
            mount(c"tmpfs", CGROUP_VIEW, c"tmpfs", QUIET, c"mode=755")?;
            for group in groups {
                hierarchy_bind(group)?;
            }
        }
        Cgroups::V2(path) if job.full => mount(&c(path), CGROUP_VIEW, c"", libc::MS_BIND, c"")?,
        // Without a cgroup namespace the paths in /proc/self/cgroup begin at the host's root.
        Cgroups::V2(_) => mount(c"/sys/fs/cgroup", CGROUP_VIEW, c"", libc::MS_BIND, c"")?,
    }
    make_view_read_only(CGROUP_VIEW)
}

fn hierarchy_bind(group: &Group) -> Done<()> {
    let target = c(&format!("sys/fs/cgroup/{}", group.hierarchy));
    sys!(mkdir, target.as_c_str(), 0o755; &group.hierarchy)?;
    mount(&c(&group.path), &target, c"", libc::MS_BIND, c"")?;
    make_view_read_only(&target)
}

fn make_view_read_only(target: &CStr) -> Done<()> {
    let flags = QUIET | libc::MS_RELATIME | libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    mount(c"", target, c"", flags, c"")
}

fn devices() -> Done<()> {
    let nodes = [
        (c"dev/null", 1, 3),
        (c"dev/zero", 1, 5),
        (c"dev/full", 1, 7),
        (c"dev/random", 1, 8),
        (c"dev/urandom", 1, 9),
        (c"dev/tty", 5, 0),
    ];
    sys!(umask, 0; "")?;
    for (path, major, minor) in nodes {
        sys!(mknod, path, (libc::S_IFCHR | 0o666) as i32, (major << 8) | minor; "/dev")?;
    }
    sys!(umask, 0o022; "")?;
    let links = [
        (c"/proc/self/fd", c"dev/fd"),
        (c"/proc/self/fd/0", c"dev/stdin"),
        (c"/proc/self/fd/1", c"dev/stdout"),
        (c"/proc/self/fd/2", c"dev/stderr"),
        (c"/proc/kcore", c"dev/core"),
        (c"pts/ptmx", c"dev/ptmx"),
    ];
    for (text, path) in links {
        sys!(symlink, text, path; "/dev")?;
    }
    Ok(())
}

/// Read-only and masked paths, then the new root, then the old one away.
fn enter_root(job: &Job) -> Done<()> {
    let read_only = QUIET | libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    for path in shape::READ_ONLY {
        let path = c(&path[1..]);
        if !absent(mount(&path, &path, c"", libc::MS_BIND | libc::MS_REC, c""))? {
            mount(c"", &path, c"", read_only, c"")?;
        }
    }
    let masked = if job.full { shape::MASKED.as_slice() } else { &shape::MASKED[..shape::MASKED_MIN] };
    for path in masked {
        mask(&c(&path[1..]))?;
    }
    sys!(pivot_root, c".", c"."; &job.rootfs)?;
    sys!(umount2, c".", libc::MNT_DETACH; "the old root")?;
    sys!(chdir, c"/"; "/")?;
    if job.full {
        return Ok(());
    }
    // The flags that the mount under the root came with must stay, or the kernel refuses (nothing locks them here).
    mount(c"", c"/", c"", libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY, c"")
}

fn mask(path: &CStr) -> Done<()> {
    match mount(c"/dev/null", path, c"", libc::MS_BIND, c"") {
        Err(failed) if failed.error.raw_os_error() == Some(libc::ENOTDIR) => {
            mount(c"tmpfs", path, c"tmpfs", libc::MS_RDONLY, c"")
        }
        other => absent(other).map(drop),
    }
}

/// A path that this kernel does not have is nothing to mask.
fn absent(result: Done<()>) -> Done<bool> {
    match result {
        Err(failed) if failed.error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
        other => other.map(|()| false),
    }
}

fn loopback_up() -> Done<()> {
    // struct ifreq: name[16], flags.
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    let socket = sys!(socket, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0; "lo")? as i32;
    sys!(ioctl, socket, SIOCGIFFLAGS, (&raw mut request).cast_const(); "lo")?;
    request[16] |= libc::IFF_UP as u8;
    sys!(ioctl, socket, SIOCSIFFLAGS, &raw const request; "lo")?;
    sys!(close, socket; "lo").map(drop)
}

#[repr(C)]
struct Limit {
    soft: u64,
    hard: u64,
}

fn identity(job: &Job) -> Done<()> {
    let caps = if job.full { shape::CAPS_FULL } else { shape::CAPS_MIN };
    if job.full {
        // Without no_new_privs (Docker's default) loading needs CAP_SYS_ADMIN: before the capabilities go.
        seccomp()?;
        sys!(setgroups, shape::GIDS_FULL.len(), shape::GIDS_FULL.as_ptr(); "additionalGids")?;
    } else {
        sys!(prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0; "no_new_privs")?;
        let limit = Limit { soft: shape::NOFILE_MIN, hard: shape::NOFILE_MIN };
        sys!(prlimit64, 0, RLIMIT_NOFILE, &raw const limit, 0; "RLIMIT_NOFILE")?;
    }
    for cap in (0..=LAST_CAPABILITY).filter(|cap| !caps.iter().any(|kept| kept.1 == *cap)) {
        sys!(prctl, libc::PR_CAPBSET_DROP, cap as i32, 0, 0, 0; "bounding set")?;
    }
    let set = caps.iter().fold(0_u64, |set, cap| set | 1 << cap.1);
    let (low, high) = (set as u32, (set >> 32) as u32);
    // `runc spec` fills the inheritable set no more, but needs it for the ambient one.
    let inheritable = if job.full { (0, 0) } else { (low, high) };
    let header = [CAPABILITY_VERSION_3, 0];
    let data = [low, low, inheritable.0, high, high, inheritable.1];
    sys!(capset, header.as_ptr(), data.as_ptr(); "capabilities")?;
    if !job.full {
        for cap in caps {
            sys!(prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, cap.1 as i32, 0, 0; cap.0)?;
        }
    }
    Ok(())
}

fn seccomp() -> Done<()> {
    let program = filter::program();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    sys!(seccomp, libc::SECCOMP_SET_MODE_FILTER as i32, 0, &raw const program; "the filter").map(drop)
}
