//! A file system in a file, by a loop device: loop(4). The device is free again when the mount is gone.

use std::fs::File;
use std::path::Path;

use ferrun::error::{Call, Error, Result};

use crate::sys;

/// A device that shows a file, for as long as it is open or mounted.
pub(super) struct Device {
    pub(super) path: String,
    _open: File,
}

/// How often another may take the free device that we were told of.
const TRIES: usize = 100;

/// # Errors
/// The file is none, or cannot be opened; there are no loop devices.
pub(super) fn device(source: &str, read_only: bool) -> Result<Device> {
    let file = open(source, !read_only)?;
    if !file.metadata().call(|| format!("stat {source}"))?.is_file() {
        return Err(Error::new(format!("{source} is no regular file")));
    }
    let control = open("/dev/loop-control", true)?;
    for _ in 0..TRIES {
        let number = sys::free_loop_device(&control).call(|| "ioctl LOOP_CTL_GET_FREE".to_owned())?;
        let path = format!("/dev/loop{number}");
        let device = open(&path, !read_only)?;
        match sys::configure_loop_device(&device, &file, read_only) {
            Ok(()) => return Ok(Device { path, _open: device }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(Error::os(format!("ioctl LOOP_CONFIGURE {path}"), error)),
        }
    }
    Err(Error::new("others take each loop device that is free"))
}

fn open(path: &str, write: bool) -> Result<File> {
    File::options().read(true).write(write).open(Path::new(path)).call(|| format!("open {path}"))
}
