//! Where the container's cgroups are.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::{CGROUP_ROOT, Cgroups, Host};

/// The container's cgroup directories. Part of the state record: written before any of them is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version", rename_all = "lowercase")]
pub enum Placement {
    #[default]
    None,
    /// One directory for each mounted hierarchy.
    V1 {
        directories: Vec<PathBuf>,
    },
    V2 {
        directory: PathBuf,
    },
}

impl Placement {
    /// All directories.
    pub fn directories(&self) -> &[PathBuf] {
        match self {
            Self::None => &[],
            Self::V1 { directories } => directories,
            Self::V2 { directory } => std::slice::from_ref(directory),
        }
    }
}

/// `/linux/cgroupsPath`: an absolute path counts from the root of the hierarchy, a relative one (and the
/// default, the id) from the runtime's own cgroup.
pub fn place(cgroups_path: Option<&Path>, id: &str, host: &Host) -> Placement {
    let path = cgroups_path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(id));
    match &host.cgroups {
        Cgroups::None => Placement::None,
        Cgroups::V1 { hierarchies } => Placement::V1 {
            directories: hierarchies.iter().map(|hierarchy| below(&hierarchy.mount, &hierarchy.own, path)).collect(),
        },
        // a cgroup that holds processes cannot have children with controllers: the place is beside our own
        Cgroups::V2 { own } => {
            let parent = own.parent().unwrap_or(Path::new("/"));
            Placement::V2 { directory: below(Path::new(CGROUP_ROOT), parent, path) }
        }
    }
}

fn below(mount: &Path, own: &Path, path: &Path) -> PathBuf {
    let strip = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
    if path.is_absolute() { mount.join(strip(path)) } else { mount.join(strip(own)).join(path) }
}
