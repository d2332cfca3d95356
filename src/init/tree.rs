//! Detached copies of the host's mounts, finished before anybody can see them.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, fstatfs};

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Asset, Attributes};
use crate::sys::mount;

use super::mount::set_attributes;

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// Opens an [`Asset::Tree`], in the parent or in the init's copy of the host's mounts.
pub(crate) fn open(asset: &Asset) -> Result<OwnedFd> {
    let Asset::Tree { path, recursive, attributes, procfs, .. } = asset else {
        return Err(Error::new("this asset is no tree"));
    };
    copy(path, *recursive, attributes, *procfs)
        .map_err(|error| error.path(path))
        .context(|| format!("open {}", path.display()))
}

fn copy(path: &Path, recursive: bool, attributes: &[Attributes], procfs: bool) -> Result<OwnedFd> {
    let name = path.to_str().ok_or_else(|| Error::new("the path is not UTF-8"))?;
    let tree = mount::clone_tree(CWD, name, recursive).call(|| "open_tree".to_owned())?;
    if procfs && fstatfs(&tree).call(|| "fstatfs".to_owned())?.f_type as u64 != PROC_SUPER_MAGIC {
        return Err(Error::new("only a procfs may be mounted on /proc"));
    }
    set_attributes(&tree, attributes)?;
    Ok(tree)
}
