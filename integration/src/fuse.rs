//! A file system whose server says nothing: who looks into it waits, and cannot be frozen meanwhile.

use crate::case::{Context, Res};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Ends the waiting of everybody in it when it is dropped.
pub struct Silent {
    device: Option<OwnedFd>,
    path: PathBuf,
}

impl Silent {
    pub fn mount(path: &Path) -> Res<Self> {
        fs::create_dir(path)?;
        let device = open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).context("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount("silent", path, "fuse", MountFlags::empty(), Some(CString::new(options)?.as_c_str()))
            .context("mount fuse")?;
        let silent = Self { device: Some(device), path: path.to_owned() };
        silent.greet()?;
        Ok(silent)
    }

    /// Answers FUSE_INIT (fuse.h): without that even the first look would wait for it.
    fn greet(&self) -> Res {
        const LENGTH: usize = 16 + 64;
        let Some(device) = &self.device else { return Ok(()) };
        let mut request = [0; 8192];
        rustix::io::read(device, &mut request)?;
        let mut reply = [0; LENGTH];
        // fuse_out_header: length, error, the request's own number
        reply[..4].copy_from_slice(&(LENGTH as u32).to_ne_bytes());
        reply[8..16].copy_from_slice(&request[8..16]);
        // fuse_init_out: protocol 7.31, and the least that is allowed
        for (at, value) in [(16, 7_u32), (20, 31), (24, 4096), (36, 4096), (40, 1)] {
            reply[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        rustix::io::write(device, &reply)?;
        Ok(())
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.device = None;
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
