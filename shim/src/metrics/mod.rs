//! Stats: what a container uses, as the message that containerd knows for this host's version of cgroups.

mod v1;
mod v2;

use std::path::Path;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use ferrun::cgroup::stats::{Groups, Reader};
use ferrun::error::Error;
use ferrun::plan::cgroupfs::{Hierarchies, Placement};
use ferrun::state::store::Store;

use crate::failure::{Failure, Result};

/// Names without a host in front: containerd looks them up as they are.
const V1: &str = "io.containerd.cgroups.v1.Metrics";
const V2: &str = "io.containerd.cgroups.v2.Metrics";

/// The counters of the container `id` that the runtime keeps in `root` (`--root`).
///
/// # Errors
/// `NOT_FOUND`: there is none, or it is gone, or it has no cgroup. A file cannot be read, or does not look as the
/// kernel writes it.
pub(crate) fn read(root: &Path, id: &str) -> Result<Any> {
    let store = Store::new(root.to_owned());
    let gone = || Failure::not_found(format!("container {id}: cgroup does not exist"));
    if !store.has(id) {
        return Err(gone());
    }
    of(&store.enter(id)?.load_created()?.placement)?.ok_or_else(gone)
}

/// None: no cgroup, or no longer one.
fn of(placement: &Placement) -> Result<Option<Any>> {
    // a controller may be missing; all of them are missing only when the container is deleted
    if !placement.directories().iter().any(|directory| rustix::fs::stat(directory).is_ok()) {
        return Ok(None);
    }
    // not kept until the next time: its buffer would be a good part of this process
    let stats = Reader::default().read(placement, Groups::ALL)?;
    match &placement.hierarchies {
        Hierarchies::None => Ok(None),
        Hierarchies::V1 { .. } => pack(V1, &v1::metrics(&stats, &v1::device_name)).map(Some),
        Hierarchies::V2 { .. } => pack(V2, &v2::metrics(&stats)).map(Some),
    }
}

fn pack(name: &str, message: &impl Message) -> Result<Any> {
    let value = message.write_to_bytes().map_err(|error| Error::new(format!("write {name}: {error}")))?;
    Ok(Any { type_url: name.to_owned(), value, ..Any::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_nobody_knows_is_not_found() {
        let directory = tempfile::tempdir().expect("directory");
        let failure = read(directory.path(), "c").expect_err("none");
        assert_eq!(failure, Failure::not_found("container c: cgroup does not exist"));
    }

    #[test]
    fn one_that_is_gone_has_none() {
        let directory = tempfile::tempdir().expect("directory");
        let gone = directory.path().join("gone");
        for hierarchies in [
            Hierarchies::None,
            Hierarchies::V1 { directories: vec![gone.clone()] },
            Hierarchies::V2 { directory: gone.clone() },
        ] {
            assert_eq!(of(&Placement::of(hierarchies)).expect("metrics"), None);
        }
    }

    #[test]
    fn one_that_is_there_has_the_message_of_its_version() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().to_owned();
        std::fs::write(path.join("pids.current"), "3\n").expect("write");
        std::fs::write(path.join("pids.max"), "max\n").expect("write");
        let v2 = of(&Placement::of(Hierarchies::V2 { directory: path.clone() })).expect("metrics").expect("there");
        assert_eq!(v2.type_url, V2);
        let message = containerd_shim_protos::cgroups_v2::metrics::Metrics::parse_from_bytes(&v2.value).expect("v2");
        assert_eq!((message.pids().current, message.pids().limit), (3, u64::MAX));
        // nothing under /sys/fs/cgroup: no controller
        let v1 = of(&Placement::of(Hierarchies::V1 { directories: vec![path] })).expect("metrics").expect("there");
        assert_eq!(v1.type_url, V1);
    }
}
