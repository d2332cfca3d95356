//! The container's terminal: allocated in its own devpts, by descriptor only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, Uid, fchown};
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::error::{Call, Context, Error, Result};
use crate::launch::channel::{Message, send_fd};

use crate::plan::step::Console;
use crate::sys::mount;
use crate::sys::root::file_type;

use super::Init;

/// linux/magic.h
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;

pub(super) fn console(init: &Init<'_>, console: &Console) -> Result<()> {
    set_up(init, console).context(|| "set up the terminal".to_owned())
}

/// The slave comes from the master's own fd (TIOCGPTPEER), never from a path below the container's /dev/pts
/// (CVE-2025-52565), and is mounted on /dev/console by fd.
fn set_up(init: &Init<'_>, console: &Console) -> Result<()> {
    let master = master(init)?;
    unlockpt(&master).call(|| "ioctl TIOCSPTLCK".to_owned())?;
    let slave = ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .call(|| "ioctl TIOCGPTPEER".to_owned())?;
    if let Some((rows, columns)) = console.size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).call(|| "ioctl TIOCSWINSZ".to_owned())?;
    }
    if console.owner != 0 {
        fchown(&slave, Some(Uid::from_raw(console.owner)), None).call(|| "chown".to_owned())?;
    }
    if console.bind {
        bind_console(init, &slave).context(|| "bind the terminal on /dev/console".to_owned())?;
    }
    match console.socket {
        Some(socket) => send_fd(init.asset(socket)?, b"/dev/ptmx", master.as_fd())?,
        None => init.channel.send_with(&Message::Console, Some(master.as_fd()))?,
    }
    ioctl_tiocsctty(&slave).call(|| "ioctl TIOCSCTTY".to_owned())?;
    rustix::stdio::dup2_stdin(&slave)
        .and_then(|()| rustix::stdio::dup2_stdout(&slave))
        .and_then(|()| rustix::stdio::dup2_stderr(&slave))
        .call(|| "dup2".to_owned())
}

/// /dev/ptmx is a link to pts/ptmx: the container's own devpts. It must be the multiplexer (5:2) that opens.
fn master(init: &Init<'_>) -> Result<OwnedFd> {
    let path = Path::new("/dev/pts/ptmx");
    let open = || {
        // to open is to act, on some devices: nothing but a devpts, where all names are the kernel's, is opened
        let devpts = init.root()?.resolve_real_directory(Path::new("/dev/pts")).call(|| "open /dev/pts".to_owned())?;
        if rustix::fs::fstatfs(&devpts).call(|| "fstatfs".to_owned())?.f_type as u64 != DEVPTS_SUPER_MAGIC {
            return Err(Error::new("/dev/pts is no devpts"));
        }
        rustix::fs::openat(
            &devpts,
            "ptmx",
            OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .call(|| "open".to_owned())
    };
    let fd = open()
        .map_err(|error| error.path(path))
        .context(|| "open /dev/pts/ptmx".to_owned())
        .map_err(|error| error.hint("a terminal needs a devpts mounted on /dev/pts"))?;
    let stat = rustix::fs::fstat(&fd).call(|| "fstat".to_owned())?;
    if stat.st_rdev != rustix::fs::makedev(5, 2) {
        return Err(Error::new("/dev/pts/ptmx is not the terminal multiplexer"));
    }
    Ok(fd)
}

fn bind_console(init: &Init<'_>, slave: &OwnedFd) -> Result<()> {
    let root = init.root()?;
    // /dev may be the image's own directory: nothing of it is followed (CVE-2026-88264)
    let dev = root.resolve_real_directory(Path::new("/dev")).call(|| "open /dev".to_owned())?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    match rustix::fs::openat(&dev, "console", flags, Mode::from_raw_mode(0o600)) {
        Ok(_) | Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(errno).call(|| "create".to_owned()),
    }
    let target = rustix::fs::openat(&dev, "console", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open".to_owned())?;
    if file_type(&target).call(|| "fstat".to_owned())? == rustix::fs::FileType::Symlink {
        return Err(Error::new("/dev/console is a symbolic link"));
    }
    let tree = mount::clone_tree(slave, "", false).call(|| "open_tree".to_owned())?;
    mount::attach(&tree, &target).call(|| "move_mount".to_owned())
}
