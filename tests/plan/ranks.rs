//! What a plan's steps are called, and the one order that they have. Of the library alone, so that `hack/fuzz` uses
//! it too.

use ferrun::config::{Config, Namespace, Namespaces};
use ferrun::plan::Plan;
use ferrun::plan::step::{Event, HookKind, NamespaceKind, Step};

/// A step's name, told apart where one kind of step has several places.
fn label(step: &Step) -> &'static str {
    match step {
        Step::JoinNamespace { kind: NamespaceKind::Mount, .. } => "join-mount-namespace",
        Step::Unshare { namespaces } if namespaces[..] == [NamespaceKind::Cgroup] => "unshare-cgroup",
        Step::Unshare { namespaces } if namespaces[..] != [NamespaceKind::Time] => "unshare-mapped",
        Step::Barrier { event: Event::Mounted } => "barrier-mounted",
        Step::Barrier { event: Event::Unmapped } => "barrier-unmapped",
        Step::Barrier { event: Event::Ready } => "barrier-ready",
        Step::Hooks { kind: HookKind::CreateContainer, .. } => "create-container-hooks",
        Step::Hooks { kind: HookKind::StartContainer, .. } => "start-container-hooks",
        Step::LsmLabel { attribute, label } if attribute == "keycreate" => {
            if label.is_empty() {
                "label-of-keys-no-more"
            } else {
                "label-of-keys"
            }
        }
        other => other.name(),
    }
}

pub(crate) fn labels(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(|entry| label(&entry.step)).collect()
}

/// The order of every plan. What stands on one line may alternate. Seccomp has two places, and
/// `seccomp_is_loaded_as_late_as_it_may_be` says when which.
const ORDER: [&[&str]; 56] = [
    &["setsid"],
    &["oom-score-adj"],
    &["not-dumpable"],
    &["enter-namespaces"],
    &["reborn"],
    &["become-root-of-init"],
    &["join-namespace"],
    &["courier"],
    &["barrier-unmapped"],
    &["unshare"],
    &["enter-time-namespace"],
    &["become-root"],
    &["unshare-mapped"],
    &["loopback"],
    &["hostname"],
    &["domainname"],
    &["join-mount-namespace"],
    &["detach-propagation"],
    &["lock-trees"],
    &["attach-root"],
    &["mount"],
    &["devices"],
    &["make-directory"],
    &["join-cgroup"],
    &["affinity"],
    &["unshare-cgroup"],
    &["barrier-mounted"],
    &["create-container-hooks"],
    &["host-proc"],
    &["open"],
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

/// What is wrong with the order of a plan's steps, if anything is.
pub(crate) fn disorder(plan: &Plan, config: &Config, exec: bool) -> Option<String> {
    let labels = labels(plan);
    let rank = |label: &str| ORDER.iter().position(|labels| labels.contains(&label));
    let mapped = labels.iter().position(|label| *label == "barrier-unmapped").unwrap_or(usize::MAX);
    let hidden = labels.iter().position(|label| *label == "not-dumpable").unwrap_or_default();
    let joins_mounts = matches!(config.namespaces.mount, Namespace::Join { .. });
    let place = |label: &&'static str| match *label {
        // an unprivileged parent could not write the maps any more
        "not-dumpable" if hidden > mapped => rank("enter-time-namespace"),
        // without a mount namespace the root is entered before anything is looked up in it, but after the hooks of
        // the runtime's side
        "chroot" if config.namespaces.mount.is_host() => rank("attach-root"),
        "barrier-mounted" | "create-container-hooks" | "host-proc" if config.namespaces.mount.is_host() => {
            rank("detach-propagation")
        }
        // from namespaces of others there may be no way to our cgroups
        "join-cgroup" | "affinity" | "unshare-cgroup" if exec || cgroup_first(config) => rank("enter-namespaces"),
        // a courier of a create has joined what there is to join; one of an exec is in all of it
        "reborn" if !exec => rank("courier"),
        "host-proc" if exec || joins_mounts => rank("enter-namespaces"),
        // whose file of offsets is found in the host's /proc
        "unshare" | "enter-time-namespace" if joins_mounts && !config.namespaces.user.is_host() => {
            rank("join-namespace")
        }
        "become-root" if exec => rank("become-root-of-init"),
        "join-mount-namespace" if !config.namespaces.user.is_host() => rank("join-namespace"),
        other => rank(other),
    };
    let Some(ready) = labels.iter().position(|label| *label == "barrier-ready") else {
        return Some(format!("no barrier: {labels:?}"));
    };
    let (before, after) = labels.split_at(ready + 1);
    let unknown = before.iter().find(|label| rank(label).is_none());
    if let Some(unknown) = unknown {
        return Some(format!("ORDER lacks {unknown}"));
    }
    let ranks: Vec<_> = before.iter().map(place).collect();
    let last: Vec<_> = after.iter().map(|label| AFTER_READY.iter().position(|known| known == label)).collect();
    let sorted = ranks.is_sorted() && last.is_sorted_by(|one, next| one < next) && !last.contains(&None);
    (!sorted).then(|| format!("{labels:?}"))
}

fn cgroup_first(config: &Config) -> bool {
    let Namespaces { mount, cgroup, user, .. } = &config.namespaces;
    !mount.is_new() || matches!(cgroup, Namespace::Join { .. }) || !user.is_host()
}
