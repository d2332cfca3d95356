//! What holds for the host's mounts in every plan.

use ferrun::plan::step::{Asset, AssetId, Entry, FsMount, Mount, MountWhat, Step};

use crate::invariants::{Made, for_every_plan};
use crate::ranks::labels;

/// A copy of a shared mount is its peer: what the container mounts in it would appear on the host.
#[test]
fn no_tree_stays_a_peer_of_the_hosts() {
    for_every_plan(|made| {
        for entry in &made.plan.assets {
            if let Asset::Tree { attributes, recursive, late, .. } = &entry.asset {
                let first = attributes.iter().find(|change| change.propagation.is_some());
                let cut = *late || first.is_some_and(|first| first.recursive || !recursive);
                assert!(cut || asked_for_peers(made, entry.pointer.as_deref()), "{}: {entry:?}", made.name);
            }
        }
    });
}

/// mount_namespaces(7): a mount that comes into a user namespace by descriptor could be changed by who is root there.
#[test]
fn what_the_runtime_opens_for_a_user_namespace_is_locked() {
    for_every_plan(|made| {
        let ordinary = made.name.contains(" on ordinary,");
        let mapped = !made.config.namespaces.user.is_host();
        let instead = |step: &Entry| match &step.step {
            Step::Mount(Mount { what: MountWhat::Fs(FsMount { else_bind, .. }), .. }) => *else_bind,
            _ => None,
        };
        let instead: Vec<_> = made.plan.steps.iter().filter_map(instead).collect();
        let mut by_init = false;
        for (id, entry) in made.plan.assets.iter().enumerate() {
            if let Asset::Tree { late, locked, attributes, .. } = &entry.asset {
                // to who may not mount the opening is refused already; what that one's init opens has the host's flags
                let more = attributes.iter().any(|change| change.set != 0) && !instead.contains(&AssetId(id));
                let wanted = mapped && if ordinary { *late && more } else { !late };
                assert_eq!(*locked, wanted, "{}: {entry:?}", made.name);
                by_init |= *late && *locked;
            }
        }
        assert_eq!(labels(&made.plan).contains(&"lock-trees"), by_init, "{}", made.name);
    });
}

/// `shared`: then it is the caller's wish.
fn asked_for_peers(made: &Made, pointer: Option<&str>) -> bool {
    let mount = pointer.and_then(|pointer| pointer.strip_suffix("/source"));
    let options = mount.and_then(|mount| made.source.pointer(&format!("{mount}/options")));
    options.is_some_and(|options| options.to_string().contains("shared"))
}
