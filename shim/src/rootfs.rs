//! The mounts that containerd wants at BUNDLE/rootfs.
//!
//! They are made in the host's mount namespace, where containerd looks for them: everything else of a container is
//! mounted by the runtime, out of the host's sight.

mod idmap;
mod image;
mod options;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use ferrun::error::{Call, Context, Error};
use ferrun::init::tree;
use ferrun::launch::maps;
use ferrun::sys;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, open, openat2, unlinkat};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::failure::Result;

use options::Options;

/// Mounts all, in order, at `target`, which is made if need be. When one fails, those before it are undone.
///
/// # Errors
/// A type or an option that is not supported: nothing has been mounted then. The kernel refuses.
pub(crate) fn mount(mounts: &[Mount], target: &Path) -> Result<()> {
    let context = |mount: &Mount| format!("mount {} {} at {}", mount.type_, mount.source, target.display());
    let parsed = mounts.iter().map(|mount| Options::parse(mount).context(|| context(mount)));
    let parsed = parsed.collect::<Result<Vec<Options>, Error>>()?;
    if mounts.is_empty() {
        return Ok(());
    }
    let made = make(target)?;
    for (mount, options) in mounts.iter().zip(&parsed) {
        if let Err(error) = mount_one(mount, options, target).context(|| context(mount)) {
            // of two failures the first one counts
            let _ = unmount(target);
            if made {
                let _ = unlinkat(CWD, target, AtFlags::REMOVEDIR);
            }
            return Err(error.into());
        }
    }
    Ok(())
}

/// True: it was not there. Others may pass through it, to a rootfs whose root the container's users own.
fn make(target: &Path) -> Result<bool, Error> {
    match mkdirat(CWD, target, Mode::from_raw_mode(0o711)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno).call(|| format!("mkdir {}", target.display())),
    }
}

fn mount_one(mount: &Mount, options: &Options, target: &Path) -> Result<(), Error> {
    let place = place(target, &mount.target)?;
    match &options.idmap {
        _ if options.bind => bind(mount, options, &place),
        Some(maps) => idmap::overlay(mount, options, maps, target),
        None => file_system(mount, options, &place),
    }
}

fn file_system(mount: &Mount, options: &Options, place: &OwnedFd) -> Result<(), Error> {
    let data = options.data()?;
    let _back = data.directory.as_deref().map(Chdir::to).transpose()?;
    let data = std::ffi::CString::new(data.text).map_err(|_| Error::new("an option has a NUL in it"))?;
    let device = options.looped.then(|| image::device(&mount.source, options.is_read_only())).transpose()?;
    let source = device.as_ref().map_or(mount.source.as_str(), |device| device.path.as_str());
    // the descriptor, not the path: what it leads to has been looked at
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::mount::mount(source, path, &mount.type_, options.flags(), data.as_c_str()).call(|| "mount".to_owned())
}

/// Where in the rootfs a mount goes: `inside` is the image's to name and to lead astray.
fn place(target: &Path, inside: &str) -> Result<OwnedFd, Error> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = open(target, flags | OFlags::DIRECTORY, Mode::empty()).call(|| format!("open {}", target.display()))?;
    if inside.is_empty() {
        return Ok(root);
    }
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(&root, inside, flags, Mode::empty(), resolve).call(|| format!("open {inside} in the rootfs"))
}

/// A bind mount is read-only (and so on) before anybody can see it.
fn bind(mount: &Mount, options: &Options, place: impl AsFd) -> Result<(), Error> {
    let tree = sys::mount::clone_tree(CWD, &mount.source, options.recursive).call(|| "open_tree".to_owned())?;
    if let Some(maps) = &options.idmap {
        tree::map_ids(&tree, Path::new(&mount.source), options.recursive, maps::namespace(maps)?.as_fd())?;
    }
    if let Some(change) = options.change() {
        sys::mount::set_attr(&tree, change).call(|| "mount_setattr".to_owned())?;
    }
    sys::mount::attach(&tree, place).call(|| "move_mount".to_owned())
}

/// The working directory, for as long as it takes the kernel to read paths that are too long otherwise. We have one
/// thread.
struct Chdir {
    back: OwnedFd,
}

impl Chdir {
    fn to(directory: &Path) -> Result<Self, Error> {
        let back = open(".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let back = back.call(|| "open .".to_owned())?;
        rustix::process::chdir(directory).call(|| format!("chdir {}", directory.display()))?;
        Ok(Self { back })
    }
}

impl Drop for Chdir {
    fn drop(&mut self) {
        // a descriptor of a directory we were in
        let _ = rustix::process::fchdir(&self.back);
    }
}

/// Unmounts all that is at `target`, and below it. Nothing there: nothing to do.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn unmount(target: &Path) -> Result<()> {
    // with all that is below it, and in spite of whoever still looks in: who that may be has been killed
    if !detach(target)? && rustix::fs::lstat(target).is_ok() {
        let text = std::fs::read_to_string("/proc/self/mountinfo")
            .map_err(|error| Error::os("read /proc/self/mountinfo", error))?;
        for place in below(&text, &real(target)?) {
            detach(&place)?;
        }
    }
    Ok(())
}

/// False: nothing is mounted there.
fn detach(target: &Path) -> Result<bool, Error> {
    let mut any = false;
    loop {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => any = true,
            Err(Errno::INVAL | Errno::NOENT) => return Ok(any),
            Err(errno) => return Err(errno).call(|| format!("unmount {}", target.display())),
        }
    }
}

/// As mountinfo calls it.
fn real(path: &Path) -> Result<PathBuf, Error> {
    let fd = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open {}", path.display()))?;
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    std::fs::read_link(&link).map_err(|error| Error::os(format!("readlink {link}"), error))
}

/// The mount points below `target`, those on top first.
fn below(mountinfo: &str, target: &Path) -> Vec<PathBuf> {
    let point = |line: &str| line.split(' ').nth(4).map(unescape);
    let inside = |point: &PathBuf| point.starts_with(target) && point != target;
    let mut points: Vec<PathBuf> = mountinfo.lines().filter_map(point).filter(inside).collect();
    points.reverse();
    points
}

/// `\040` is a space: proc_pid_mountinfo(5).
fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                bytes.push(escaped);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_below() {
        let text = "22 1 8:1 / / rw - ext4 /dev/sda rw\n\
                    30 22 0:5 / /b/rootfs rw - tmpfs t rw\n\
                    31 30 0:6 / /b/rootfs/a\\040b rw - tmpfs t rw\n\
                    32 31 0:7 / /b/rootfs/a\\040b/c rw - tmpfs t rw\n\
                    33 22 0:8 / /b/rootfs2 rw - tmpfs t rw\n";
        let points = below(text, Path::new("/b/rootfs"));
        assert_eq!(points, [Path::new("/b/rootfs/a b/c"), Path::new("/b/rootfs/a b")]);
    }

    #[test]
    fn escapes_that_are_none_stay() {
        for (text, path) in [("a\\134b", "a\\b"), ("a\\9", "a\\9"), ("\\", "\\"), ("\\777", "\\777"), ("é\\011", "é\t")]
        {
            assert_eq!(unescape(text), Path::new(path), "{text}");
        }
    }

    #[test]
    fn nothing_is_made_for_no_mount_or_a_bad_one() {
        let directory = tempfile::tempdir().expect("directory");
        let target = directory.path().join("rootfs");
        mount(&[], &target).expect("none");
        let fuse = Mount { type_: "fuse3.squashfuse".into(), ..Mount::default() };
        let failure = mount(&[fuse], &target).expect_err("fuse");
        assert!(failure.words.contains("fuse file systems are not supported"), "{}", failure.words);
        assert!(rustix::fs::lstat(&target).is_err());
        unmount(&target).expect("nothing there");
    }

    /// Runs [`for_real`] in a mount namespace of its own.
    #[test]
    fn mounts_as_root() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let _children = crate::reaper::children();
        let test = std::env::current_exe().expect("test");
        let mut command = std::process::Command::new("unshare");
        command.arg("--mount").arg(test).args(["--ignored", "--exact", "rootfs::tests::for_real", "--nocapture"]);
        assert!(command.status().expect("unshare").success());
    }

    #[test]
    #[ignore = "started by mounts_as_root"]
    fn for_real() {
        let directory = tempfile::tempdir().expect("directory");
        // a file system that an overlay can lie on wherever the tests run
        let tmpfs = Mount { type_: "tmpfs".into(), source: "t".into(), ..Mount::default() };
        mount(&[tmpfs], directory.path()).expect("tmpfs");
        let target = directory.path().join("rootfs");
        overlay_of_many_layers(directory.path(), &target);
        id_mapped(directory.path(), &target);
        if Path::new("/dev/loop-control").exists() {
            image(directory.path(), &target);
        }
        binds(directory.path(), &target);
        undone(directory.path(), &target);
        unmount(directory.path()).expect("unmount");
    }

    fn with(kind: &str, source: &Path, inside: &str, options: &[&str]) -> Mount {
        let source = source.to_str().expect("UTF-8").to_owned();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Mount { type_: kind.into(), source, target: inside.into(), options, ..Mount::default() }
    }

    fn overlay_of_many_layers(directory: &Path, target: &Path) {
        let layers = directory.join("a name that is long enough for a list of more than a page");
        let mut lower = Vec::new();
        for layer in 0..100 {
            let path = layers.join(layer.to_string());
            std::fs::create_dir_all(&path).expect("layer");
            std::fs::write(path.join(layer.to_string()), "").expect("file");
            lower.push(path.to_str().expect("UTF-8").to_owned());
        }
        let lower = format!("lowerdir={}", lower.join(":"));
        let before = std::env::current_dir().expect("directory");
        mount(&[with("overlay", Path::new("overlay"), "", &["ro", &lower])], target).expect("overlay");
        assert_eq!(std::env::current_dir().expect("directory"), before);
        assert_eq!(std::fs::read_dir(target).expect("rootfs").count(), 100);
        unmount(target).expect("unmount");
        unmount(target).expect("nothing there");
        assert_eq!(std::fs::read_dir(target).expect("rootfs").count(), 0);
    }

    /// Every mount at `target`, on each other.
    fn stacked(target: &Path) -> usize {
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        text.lines().filter(|line| line.split(' ').nth(4) == target.to_str()).count()
    }

    fn id_mapped(directory: &Path, target: &Path) {
        use std::os::unix::fs::MetadataExt;
        let [lower, middle, upper, work] = ["lower", "middle:", "upper", "work"].map(|name| {
            let path = directory.join(name);
            std::fs::create_dir(&path).expect("directory");
            path
        });
        std::fs::write(lower.join("lower"), "").expect("file");
        std::fs::write(middle.join("middle"), "").expect("file");
        std::os::unix::fs::lchown(lower.join("lower"), Some(7), Some(8)).expect("chown");
        let place = |path: &Path| path.to_str().expect("UTF-8").replace(':', "\\:");
        let data = |lower: &Path| {
            let list = format!("lowerdir={}:{}", place(&middle), place(lower));
            [format!("upperdir={}", place(&upper)), list, format!("workdir={}", place(&work))]
        };
        let overlay = |lower: &Path| {
            let data = data(lower);
            let [upper, list, work] = data.each_ref().map(String::as_str);
            let maps = ["uidmap=0:100000:1000", "gidmap=0:200000:1000"];
            with("overlay", Path::new("overlay"), "", &[maps[0], maps[1], upper, list, work])
        };
        mount(&[overlay(&lower)], target).expect("overlay");
        assert_eq!(stacked(target), 1);
        let owner = |name: &str| std::fs::metadata(target.join(name)).map(|file| (file.uid(), file.gid())).expect(name);
        assert_eq!((owner("lower"), owner("middle")), ((100_007, 200_008), (100_000, 200_000)));
        std::fs::write(target.join("middle"), "changed").expect("copied up");
        assert!(std::fs::read(middle.join("middle")).expect("layer").is_empty());
        unmount(target).expect("unmount");
        let failure = mount(&[overlay(Path::new("/proc"))], target).expect_err("proc");
        assert!(
            failure.words.contains("id-map the layer /proc: mount_setattr(MOUNT_ATTR_IDMAP): "),
            "{}",
            failure.words
        );
        assert!(failure.words.contains("proc (/proc) cannot be id-mapped"), "{}", failure.words);
        assert_eq!(stacked(target), 0);
        // what the kernel refuses once the layers are there
        let mut twice = overlay(&lower);
        twice.options.push("upperdir=/nonesuch".into());
        mount(&[twice], target).expect_err("no such upper directory");
        assert_eq!(stacked(target), 0);
        let mapped = with("bind", &lower, "", &["bind", "ro", "uidmap=7:8:1", "gidmap=8:9:1"]);
        mount(&[mapped], target).expect("bind");
        assert_eq!(owner("lower"), (8, 9));
        unmount(target).expect("unmount");
    }

    /// A file system in a file: its loop device goes with the mount.
    fn image(directory: &Path, target: &Path) {
        let file = directory.join("image");
        std::fs::File::create(&file).and_then(|file| file.set_len(8 << 20)).expect("file");
        let made = std::process::Command::new("/sbin/mkfs.ext4").args(["-q", "-F"]).arg(&file).status().expect("mkfs");
        assert!(made.success());
        let users = || {
            let backing = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("loop/backing_file"));
            let all = std::fs::read_dir("/sys/block").expect("sysfs").filter_map(|entry| backing(entry.ok()?).ok());
            all.filter(|name| Path::new(name.trim()) == file).count()
        };
        mount(&[with("ext4", &file, "", &["loop"])], target).expect("ext4");
        std::fs::write(target.join("made"), "x").expect("writable");
        assert_eq!(users(), 1);
        unmount(target).expect("unmount");
        mount(&[with("ext4", &file, "", &["loop", "ro"])], target).expect("ext4");
        assert_eq!(std::fs::read(target.join("made")).expect("kept"), b"x");
        std::fs::write(target.join("other"), "").expect_err("read-only");
        unmount(target).expect("unmount");
        let failure = mount(&[with("xfs", &file, "", &["loop"])], target).expect_err("another file system");
        assert!(failure.words.contains(": mount: "), "{}", failure.words);
        let failure = mount(&[with("ext4", directory, "", &["loop", "ro"])], target).expect_err("a directory");
        assert!(failure.words.contains("is no regular file"), "{}", failure.words);
        // the kernel lets go of it a moment after
        let patience = std::time::Instant::now();
        while users() > 0 && patience.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert_eq!(users(), 0);
    }

    fn binds(directory: &Path, target: &Path) {
        let source = directory.join("source");
        std::fs::create_dir_all(source.join("inside")).expect("source");
        // absolute, and out of the rootfs on the host
        std::os::unix::fs::symlink("/inside", source.join("link")).expect("symlink");
        let data = directory.join("data");
        std::fs::create_dir(&data).expect("data");
        std::fs::write(data.join("file"), "").expect("file");
        let mounts = [with("bind", &source, "", &["rbind", "rw"]), with("bind", &data, "link", &["bind", "ro"])];
        mount(&mounts, target).expect("binds");
        let error = std::fs::write(target.join("inside/file"), "x").expect_err("read-only");
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        std::fs::write(target.join("made"), "").expect("writable");
        unmount(target).expect("unmount");
        assert!(source.join("made").is_file() && !source.join("inside/file").exists());
        // below a directory that is no mount point itself
        mount(&[with("bind", &data, "", &["bind"])], &target.join("a b")).expect("bind");
        unmount(target).expect("unmount");
        std::fs::remove_dir(target.join("a b")).expect("no mount point");
        std::fs::remove_dir(target).expect("no mount point");
    }

    fn undone(directory: &Path, target: &Path) {
        let mounts = [with("bind", directory, "", &["bind"]), with("nonesuch", Path::new("x"), "", &[])];
        let failure = mount(&mounts, target).expect_err("no such file system");
        let words = format!("mount nonesuch x at {}: mount: no such device", target.display());
        assert_eq!(failure.words, words);
        assert!(rustix::fs::lstat(target).is_err());
    }
}
