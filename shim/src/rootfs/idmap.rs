//! An overlay whose lower layers are id-mapped (Linux 5.19): on the disk they belong to the host's users, in the
//! container to its own. So containerd 2 has pods with user namespaces share the layers of others.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use containerd_shim_protos::api::Mount;
use ferrun::config::IdMaps;
use ferrun::error::{Call, Context, Error};
use ferrun::init::tree;
use ferrun::launch::maps;
use ferrun::sys;
use rustix::fs::CWD;
use rustix::mount::{UnmountFlags, unmount};

use super::{Options, file_system, place};

/// The mapped layers, one on the other, at the place of the overlay. It is mounted on top of them, as the kernel takes
/// only layers that are attached somewhere (before Linux 6.15), and it alone is left. There is no other directory of
/// ours that a shim that was killed could leave mounts in.
pub(super) fn overlay(mount: &Mount, options: &Options, maps: &IdMaps, target: &Path) -> Result<(), Error> {
    let below = place(target, &mount.target)?;
    let paths = options.lower();
    if paths.is_empty() {
        return Err(Error::new("an id-mapped overlay without lowerdir="));
    }
    let users = maps::namespace(maps)?;
    let mut layers = Vec::new();
    for path in &paths {
        let layer = layer(path, &users).context(|| format!("id-map the layer {}", path.display()))?;
        layers.push(layer);
    }
    let mut stack = Stack { place: &below, height: 0 };
    for layer in &layers {
        sys::mount::attach(layer, &below).call(|| "move_mount".to_owned())?;
        stack.height += 1;
    }
    let lower: Vec<String> = layers.iter().map(|layer| format!("/proc/self/fd/{}", layer.as_raw_fd())).collect();
    file_system(mount, &options.with_lower(&lower), &below)?;
    stack.height += 1;
    let top = place(target, &mount.target)?;
    let made = sys::mount::clone_tree(&top, "", false).call(|| "open_tree".to_owned())?;
    drop(stack);
    sys::mount::attach(&made, &below).call(|| "move_mount".to_owned())
}

fn layer(path: &Path, users: &OwnedFd) -> Result<OwnedFd, Error> {
    let name = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8"))?;
    let copy = sys::mount::clone_tree(CWD, name, false).call(|| "open_tree".to_owned())?;
    tree::map_ids(&copy, path, false, users.as_fd())?;
    Ok(copy)
}

/// Mounts of ours on each other, for as long as they are needed.
struct Stack<'a> {
    place: &'a OwnedFd,
    height: usize,
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        for _ in 0..self.height {
            // what is on top of the place goes
            let _ = unmount(format!("/proc/self/fd/{}", self.place.as_raw_fd()), UnmountFlags::DETACH);
        }
    }
}
