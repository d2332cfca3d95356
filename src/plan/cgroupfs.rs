//! Where the container's cgroups are.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::{CGROUP_ROOT, Cgroups, Host};

/// The container's cgroup directories. Part of the state record: written before any of them is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    #[serde(flatten)]
    pub hierarchies: Hierarchies,
    /// The scope of systemd's that makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

/// The directories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "version", rename_all = "lowercase")]
pub enum Hierarchies {
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

/// A transient scope: systemd.scope(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// With its `.scope`.
    pub name: String,
    /// With its `.slice`.
    pub slice: String,
    pub bus: Bus,
    /// Where the program of its device rules is pinned, for systemd to attach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
}

/// Which systemd is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bus {
    System,
    /// The caller's own.
    User,
}

impl Placement {
    /// All directories.
    pub fn directories(&self) -> &[PathBuf] {
        match &self.hierarchies {
            Hierarchies::None => &[],
            Hierarchies::V1 { directories } => directories,
            Hierarchies::V2 { directory } => std::slice::from_ref(directory),
        }
    }

    /// Made by us: no unit.
    pub fn of(hierarchies: Hierarchies) -> Self {
        Self { hierarchies, unit: None }
    }
}

/// `/linux/cgroupsPath`: an absolute path counts from the root of the hierarchy, a relative one (and the
/// default, the id) from the runtime's own cgroup.
pub fn place(cgroups_path: Option<&Path>, id: &str, host: &Host) -> Placement {
    let path = cgroups_path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(id));
    Placement::of(match &host.cgroups {
        Cgroups::None => Hierarchies::None,
        Cgroups::V1 { hierarchies } => {
            Hierarchies::V1 { directories: hierarchies.iter().map(|one| below(&one.mount, &one.own, path)).collect() }
        }
        // a cgroup that holds processes cannot have children with controllers: the place is beside our own
        Cgroups::V2 { own } => {
            let parent = own.parent().unwrap_or(Path::new("/"));
            Hierarchies::V2 { directory: below(Path::new(CGROUP_ROOT), parent, path) }
        }
    })
}

fn below(mount: &Path, own: &Path, path: &Path) -> PathBuf {
    let strip = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_owned();
    if path.is_absolute() { mount.join(strip(path)) } else { mount.join(strip(own)).join(path) }
}
