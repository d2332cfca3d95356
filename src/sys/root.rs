//! Names inside a hostile root file system, resolved by openat2(2) as if that were the whole world.
//!
//! A symlink leads to where it would lead after a chroot, `..` stops at the root, magic links are refused.
//! What is found is an O_PATH fd, never a path to be walked again. Nothing that is made here follows a link.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat};
use rustix::io::Errno;

/// A directory that is the root of every name given to it.
#[derive(Debug, Clone, Copy)]
pub struct Root<'fd>(BorrowedFd<'fd>);

/// What a missing mount target is made as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Directory,
    File,
}

const IN_ROOT: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// As many links in a row as the kernel follows: path_resolution(7).
const MAX_LINKS: usize = 40;

impl<'fd> Root<'fd> {
    pub fn new(fd: &'fd impl AsFd) -> Self {
        Self(fd.as_fd())
    }

    /// openat2(2) below the root; `extra` adds to the rules of resolution.
    ///
    /// The kernel answers EAGAIN when something was renamed meanwhile; a racing container could make it do
    /// so for ever, hence the bound.
    fn open_with(&self, path: &Path, flags: OFlags, extra: ResolveFlags) -> Result<OwnedFd, Errno> {
        let mut tries = 0;
        loop {
            match openat2(self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), IN_ROOT | extra) {
                Err(Errno::AGAIN) if tries < 128 => tries += 1,
                result => return result,
            }
        }
    }

    /// Opens what `path` leads to.
    pub fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        self.open_with(path, flags, ResolveFlags::empty())
    }

    /// An O_PATH fd of what `path` leads to.
    pub fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::PATH)
    }

    /// As [`Self::resolve`], for what must be a directory with no symlink on the way: /proc and /sys
    /// (CVE-2019-19921, CVE-2023-27561), /dev (CVE-2026-41579).
    ///
    /// # Errors
    /// ELOOP: a symlink on the way; ENOTDIR: it is one itself, or no directory.
    pub fn resolve_real_directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        self.open_with(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW, ResolveFlags::NO_SYMLINKS)
    }

    /// An O_PATH fd of `path`, which is made when missing: each missing component as a directory of mode
    /// 0755, the last as `target` says (a file of mode 0644).
    pub fn resolve_or_make(&self, path: &Path, target: Target) -> Result<OwnedFd, Errno> {
        match self.resolve(path) {
            Err(Errno::NOENT) => self.make(path, target),
            result => result,
        }
    }

    /// Walks `path` component by component; a dangling link is expanded and walked likewise.
    fn make(&self, path: &Path, target: Target) -> Result<OwnedFd, Errno> {
        let mut left: VecDeque<OsString> = components(path);
        let mut links = 0;
        let mut done = OsString::from("/");
        let mut current = self.open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
        while let Some(name) = left.pop_front() {
            let mut next = done.clone();
            next.push("/");
            next.push(&name);
            match self.resolve(Path::new(&next)) {
                Ok(fd) => (current, done) = (fd, next),
                // `..` of a directory that was moved away meanwhile leads to nobody knows where
                Err(Errno::NOENT) if name != ".." => match self.make_entry(&current, &name, left.is_empty(), target) {
                    Ok(fd) => (current, done) = (fd, next),
                    Err(Errno::LOOP) if links < MAX_LINKS => {
                        links += 1;
                        let link = readlinkat(&current, name.as_os_str(), Vec::new())?;
                        let link = OsString::from_vec(link.into_bytes());
                        if link.as_bytes().starts_with(b"/") {
                            done = OsString::from("/");
                            current = self.open(Path::new("/"), OFlags::PATH | OFlags::DIRECTORY)?;
                        }
                        for component in components(Path::new(&link)).into_iter().rev() {
                            left.push_front(component);
                        }
                    }
                    Err(errno) => return Err(errno),
                },
                Err(errno) => return Err(errno),
            }
        }
        Ok(current)
    }

    /// Makes one entry and opens exactly that.
    ///
    /// # Errors
    /// ENOENT: the entry is `..`, which is missing only when its directory was moved away meanwhile; it would
    /// lead to wherever that is now, past the root even.
    ///
    /// ELOOP: a (dangling) link is there.
    fn make_entry(&self, dir: &OwnedFd, name: &OsStr, last: bool, target: Target) -> Result<OwnedFd, Errno> {
        if name == ".." {
            return Err(Errno::NOENT);
        }
        if last && target == Target::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
            match openat(dir, name, flags, Mode::from_raw_mode(0o644)) {
                Ok(_) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        } else {
            match mkdirat(dir, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        let fd = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        match file_type(&fd)? {
            FileType::Symlink => Err(Errno::LOOP),
            _ => Ok(fd),
        }
    }
}

/// The names in `path`, `..` among them.
fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}

pub fn file_type(fd: impl AsFd) -> Result<FileType, Errno> {
    fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// Whether the entry `name` of `dir` is the device given. A link is never followed.
pub fn is_device(dir: impl AsFd, name: &OsStr, kind: FileType, device: u64) -> Result<bool, Errno> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == kind && (kind == FileType::Fifo || stat.st_rdev == device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn root(dir: &Path) -> OwnedFd {
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).expect("open the root")
    }

    #[test]
    fn links_stay_inside() {
        let outer = tempfile::tempdir().expect("tempdir");
        let dir = outer.path().join("root");
        fs::create_dir(&dir).expect("mkdir");
        symlink("/outside", dir.join("absolute")).expect("symlink");
        symlink("../../../../outside2", dir.join("relative")).expect("symlink");
        symlink("absolute", dir.join("chain")).expect("symlink");
        let fd = root(&dir);
        let root = Root::new(&fd);
        root.resolve_or_make(Path::new("/absolute/a/b"), Target::Directory).expect("make");
        root.resolve_or_make(Path::new("/relative/file"), Target::File).expect("make");
        root.resolve_or_make(Path::new("/chain/c"), Target::File).expect("make");
        assert!(dir.join("outside/a/b").is_dir());
        assert!(dir.join("outside2/file").is_file());
        assert!(dir.join("outside/c").is_file());
        assert!(!outer.path().join("outside").exists() && !outer.path().join("outside2").exists());
    }

    #[test]
    fn endless_links_end() {
        let dir = tempfile::tempdir().expect("tempdir");
        symlink("b", dir.path().join("a")).expect("symlink");
        symlink("a", dir.path().join("b")).expect("symlink");
        let fd = root(dir.path());
        let result = Root::new(&fd).resolve_or_make(Path::new("/a/x"), Target::Directory);
        assert_eq!(result.expect_err("a loop"), Errno::LOOP);
    }

    #[test]
    fn a_linked_proc_is_no_real_directory() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::create_dir(dir.path().join("evil")).expect("mkdir");
        symlink("evil", dir.path().join("proc")).expect("symlink");
        let fd = root(dir.path());
        let root = Root::new(&fd);
        let refused = root.resolve_real_directory(Path::new("/proc")).expect_err("a link");
        assert!(matches!(refused, Errno::LOOP | Errno::NOTDIR), "{refused}");
        assert!(root.resolve_real_directory(Path::new("/evil")).is_ok());
    }
}
