//! The mount API of Linux 5.2 and 5.12, on detached mounts: what is attached is final.

use std::ffi::CStr;
use std::fmt;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::fd::Loose;
use super::outcome;

pub use libc::{MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};

/// One mount_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// MOUNT_ATTR_* bits.
    pub set: u64,
    pub clear: u64,
    /// One of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0.
    pub propagation: u64,
    pub recursive: bool,
}

/// Changes the mount whose root `mount` is (Linux 5.12).
pub fn set_attr(mount: impl AsFd, change: SetAttr) -> Result<(), Errno> {
    set_attr_at(mount.as_fd(), c"", change, None)
}

/// Makes the files of a detached mount belong to whom the user namespace `users` says, for good (Linux 5.12).
///
/// # Errors
/// EINVAL: its file system cannot do that; EPERM: it is id-mapped already, or its file system or `users` is not ours.
pub fn set_idmap(mount: impl AsFd, users: BorrowedFd<'_>, recursive: bool) -> Result<(), Errno> {
    let change = SetAttr { set: libc::MOUNT_ATTR_IDMAP, recursive, ..SetAttr::default() };
    set_attr_at(mount.as_fd(), c"", change, Some(users))
}

fn set_attr_at(
    directory: BorrowedFd<'_>,
    path: &CStr,
    change: SetAttr,
    users: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let attr = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: users.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: a NUL-terminated path and a mount_attr of the size given, both outliving the call.
    outcome(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// As [`clone_tree`] of one mount or all; with `nofollow` a symlink at `path` is what is copied.
pub fn clone_entry(path: &str, recursive: bool, nofollow: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, nofollow);
    open_tree(CWD, path, flags)
}

/// A detached copy of what is mounted at `path` below `dir`: a bind mount that is nowhere yet.
pub fn clone_tree(dir: impl AsFd, path: &str, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
    open_tree(dir, path, flags)
}

/// Attaches a detached mount (or moves an attached one) onto the directory or file that `target` is.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", target, "", flags)
}

/// As [`attach`], onto the entry `name` of the directory `dir`, which must be one that only we write to.
pub fn attach_at(mount: impl AsFd, dir: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    move_mount(mount, "", dir, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// As [`set_attr`], of the mount at the root directory of this process.
pub fn set_attr_of_root(change: SetAttr) -> Result<(), Errno> {
    set_attr_at(CWD, c"/", change, None)
}

/// A failed step of making a file system, with what the kernel's log of that context says.
#[derive(Debug)]
pub struct ContextError {
    pub call: String,
    pub errno: Errno,
    /// `tmpfs: Bad value for 'size'`.
    pub message: Option<String>,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.message.as_deref().unwrap_or(&self.errno.to_string()))
    }
}

/// A file system that is being configured: fsopen(2). Used by the init only.
#[derive(Debug)]
pub struct Context(Loose);

impl Context {
    pub fn open(fstype: &str) -> Result<Self, ContextError> {
        fsopen(fstype, FsOpenFlags::FSOPEN_CLOEXEC).map(|fd| Self(fd.into())).map_err(|errno| ContextError {
            call: format!("fsopen {fstype}"),
            errno,
            message: (errno == Errno::NODEV).then(|| format!("unknown file system type \"{fstype}\"")),
        })
    }

    pub fn flag(&self, key: &str) -> Result<(), ContextError> {
        fsconfig_set_flag(self.0.as_fd(), key).map_err(|errno| self.failed(format!("fsconfig {key}"), errno))
    }

    /// The kernel takes values of up to 255 bytes.
    pub fn string(&self, key: &str, value: &str) -> Result<(), ContextError> {
        fsconfig_set_string(self.0.as_fd(), key, value)
            .map_err(|errno| self.failed(format!("fsconfig {key}={value}"), errno))
    }

    pub fn create(&self) -> Result<(), ContextError> {
        fsconfig_create(self.0.as_fd()).map_err(|errno| self.failed("fsconfig create".to_owned(), errno))
    }

    /// The detached mount of it, with MOUNT_ATTR_* bits.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd, ContextError> {
        let attributes = MountAttrFlags::from_bits_retain(attributes as u32);
        fsmount(self.0.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map_err(|errno| self.failed("fsmount".to_owned(), errno))
    }

    /// The last error in the context's log: a read gives one message, `e ` before an error.
    fn failed(&self, call: String, errno: Errno) -> ContextError {
        let mut message = None;
        let mut buffer = [0; 512];
        while let Ok(length @ 1..) = rustix::io::read(&*self.0, &mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Some(text) = text.strip_prefix("e ") {
                message = Some(text.trim_end().to_owned());
            }
        }
        ContextError { call, errno, message }
    }
}
