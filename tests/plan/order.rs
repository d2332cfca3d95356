//! Every plan has its steps in one order.

use ferrun::config::{Namespace, Namespaces};

use crate::invariants::{Made, for_plans_of_both_kinds, labels};

/// The order of every plan. What stands on one line may alternate. Seccomp has two places, and
/// [`seccomp_is_loaded_as_late_as_it_may_be`] says when which.
const ORDER: [&[&str]; 46] = [
    &["setsid"],
    &["not-dumpable"],
    &["enter-namespaces"],
    &["join-namespace"],
    &["unshare"],
    &["enter-time-namespace"],
    &["loopback"],
    &["hostname"],
    &["domainname"],
    &["join-mount-namespace"],
    &["detach-propagation"],
    &["attach-root"],
    &["mount"],
    &["devices"],
    &["make-directory"],
    &["join-cgroup"],
    &["affinity"],
    &["unshare-cgroup"],
    &["barrier-mounted"],
    &["create-container-hooks"],
    &["pivot-root", "move-root", "chroot"],
    &["console"],
    &["sysctl"],
    &["readonly-paths"],
    &["masked-paths"],
    &["root-readonly"],
    &["root-propagation"],
    &["label-of-keys"],
    &["keyring"],
    &["label-of-keys-no-more"],
    &["memory-policy"],
    &["personality"],
    &["umask"],
    &["lsm-label"],
    &["no-new-privileges"],
    &["rlimits"],
    &["chdir"],
    &["bounding-set"],
    &["user"],
    &["capabilities"],
    &["prove-cwd"],
    &["home", "find-program"],
    &["close-fds"],
    &["seccomp"],
    &["drop-capabilities"],
    &["barrier-ready"],
];

const AFTER_READY: [&str; 6] =
    ["await-start", "start-container-hooks", "landlock", "seccomp", "drop-capabilities", "exec"];

#[test]
fn steps_are_in_the_one_order() {
    let rank = |label: &str| ORDER.iter().position(|labels| labels.contains(&label));
    for_plans_of_both_kinds(|made| {
        let labels = labels(&made.plan);
        let ready = labels.iter().position(|label| *label == "barrier-ready").expect("a barrier");
        let (before, after) = labels.split_at(ready + 1);
        // without a mount namespace the root is entered before anything is looked up in it
        let place = |label: &'static str| match label {
            "chroot" if made.config.namespaces.mount.is_host() => rank("attach-root"),
            // from namespaces of others there may be no way to our cgroups
            "join-cgroup" | "affinity" | "unshare-cgroup" if cgroup_first(made) => rank("enter-namespaces"),
            other => Some(rank(other).unwrap_or_else(|| panic!("{}: ORDER lacks {other}", made.name))),
        };
        let ranks: Vec<_> = before.iter().map(|label| place(label)).collect();
        assert!(ranks.is_sorted(), "{}: {labels:?}", made.name);
        let ranks: Vec<_> =
            after.iter().map(|label| AFTER_READY.iter().position(|known| known == label).unwrap()).collect();
        assert!(ranks.is_sorted_by(|one, next| one < next), "{}: {labels:?}", made.name);
    });
}

fn cgroup_first(made: &Made) -> bool {
    let Namespaces { mount, cgroup, .. } = &made.config.namespaces;
    made.name.starts_with("exec") || !mount.is_new() || matches!(cgroup, Namespace::Join { .. })
}
