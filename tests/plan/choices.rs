//! Single choices of the plan, each with its reason: what a golden file shows and does not explain.

use std::path::Path;

use ferrun::config::Config;
use ferrun::host::Host;
use ferrun::plan::cgroupfs::place;
use ferrun::plan::create::create;
use ferrun::plan::step::{Asset, Capabilities, MapWriter, PropagationKind, Step};
use ferrun::plan::{Manager, Plan, Request};
use serde_json::{Value, json};

use crate::hosts::{
    ALL_HOSTS, confined, nested, no_cgroups, ordinary, v1, v2, v2_root, with_lsms, without_capabilities,
};
use crate::{below_systemd, parse, request, source};

fn plan_of(source: &Value, host: &Host) -> Plan {
    let config = parse(source);
    create(&config, host, &request(&config)).unwrap()
}

/// `bare` with one property set; its parent must be there.
fn bare_with(pointer: &str, value: Value) -> Value {
    let mut source = source("bare");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    source.pointer_mut(parent).unwrap()[key] = value;
    source
}

fn placed(path: Option<&str>, host: &Host) -> Vec<String> {
    let placement = place(path.map(Path::new), "web", host);
    placement.directories().iter().map(|directory| directory.to_str().unwrap().to_owned()).collect()
}

#[test]
fn absolute_cgroup_paths_count_from_the_root_others_from_our_own() {
    let v1 = v1();
    assert_eq!(placed(Some("/a/b"), &v1)[2..], ["/sys/fs/cgroup/pids/a/b", "/sys/fs/cgroup/systemd/a/b"]);
    assert_eq!(placed(Some("/a"), &v1)[0], "/sys/fs/cgroup/cpu,cpuacct/a");
    assert_eq!(placed(Some("a/b"), &v1)[2], "/sys/fs/cgroup/pids/user.slice/a/b");
    assert_eq!(placed(Some("a/b"), &v1)[0], "/sys/fs/cgroup/cpu,cpuacct/a/b");
    for none in [None, Some("")] {
        assert_eq!(placed(none, &v1)[3], "/sys/fs/cgroup/systemd/user.slice/session.scope/web");
    }
}

/// A v2 cgroup with processes cannot hand controllers to children: the container's is beside ours.
#[test]
fn on_v2_the_default_cgroup_is_a_sibling() {
    assert_eq!(placed(None, &v2()), ["/sys/fs/cgroup/user.slice/web"]);
    assert_eq!(placed(Some("a/b"), &v2()), ["/sys/fs/cgroup/user.slice/a/b"]);
    assert_eq!(placed(Some("/a"), &v2()), ["/sys/fs/cgroup/a"]);
    assert_eq!(placed(None, &v2_root()), ["/sys/fs/cgroup/web"]);
    assert!(placed(Some("/a"), &no_cgroups()).is_empty());
}

#[test]
fn what_cannot_be_granted_is_a_warning() {
    let plan = plan_of(&source("minimal"), &without_capabilities());
    let sets = plan.steps.iter().find_map(|entry| match &entry.step {
        Step::Capabilities(sets) => Some(*sets),
        _ => None,
    });
    let Capabilities { bounding, effective, permitted, .. } = sets.unwrap();
    assert_eq!(permitted, (1 << 29) | (1 << 10), "CAP_AUDIT_WRITE and CAP_NET_BIND_SERVICE");
    assert_eq!(effective, permitted);
    // not in our own bounding set perhaps, but dropping it is no grant
    assert_eq!(bounding, permitted | (1 << 5));
    assert!(plan.warnings.iter().any(|warning| warning.ends_with("cannot be granted: CAP_KILL")), "{plan}");
}

/// setresuid(2) from 0 to another clears the permitted set, unless it is told not to.
#[test]
fn capabilities_are_kept_over_the_change_of_user_only_if_some_stay() {
    let keeps = |source: &Value| {
        let plan = plan_of(source, &v2());
        plan.steps.iter().find_map(|entry| match entry.step {
            Step::User { keep, .. } => Some(keep),
            _ => None,
        })
    };
    assert_eq!(keeps(&source("user")), Some(true));
    assert_eq!(keeps(&source("minimal")), Some(false), "root keeps them anyway");
    assert_eq!(keeps(&bare_with("/process/user/uid", json!(7))), Some(false));
}

#[test]
fn a_profile_that_allows_everything_is_no_filter() {
    let plan = plan_of(&bare_with("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"})), &no_cgroups());
    assert!(!plan.to_string().contains("seccomp"), "{plan}");
}

#[test]
fn unknown_system_calls_are_a_note_for_the_debug_log() {
    let plan = plan_of(&source("seccomp"), &no_cgroups());
    assert_eq!(plan.notes, ["seccomp: no such system call: no_such_call"]);
    assert!(plan.warnings.is_empty());
}

#[test]
fn home_is_looked_up_only_when_it_is_not_given() {
    let has_home = |source: &Value| plan_of(source, &no_cgroups()).to_string().contains("init     home ");
    assert!(has_home(&source("bare")));
    assert!(!has_home(&source("user")));
    assert!(has_home(&bare_with("/process/env", json!(["HOMEPAGE=x"]))));
}

#[test]
fn the_callers_variables_come_after_the_containers() {
    let config = parse(&bare_with("/process/env", json!(["A=1"])));
    let plan = create(&config, &v1(), &below_systemd(&config)).unwrap();
    let Some(Step::Exec { env, .. }) = plan.steps.last().map(|entry| entry.step.clone()) else {
        panic!("the last step is no exec: {plan}");
    };
    let notify = "NOTIFY_SOCKET=/run/ferrun-notify/notify.sock";
    assert_eq!(env, ["A=1", "LISTEN_FDS=2", "LISTEN_PID=1", notify]);
}

/// rprivate is what the caller must ask for; shared would let the container's mounts out.
#[test]
fn trees_of_the_host_are_slaves_unless_the_root_is_private() {
    let propagation = |word: Option<&str>| {
        let mut source = source("dev-bound");
        if let Some(word) = word {
            source["linux"]["rootfsPropagation"] = json!(word);
        }
        let plan = plan_of(&source, &no_cgroups());
        let trees: Vec<_> = plan
            .assets
            .iter()
            .filter_map(|entry| match &entry.asset {
                Asset::Tree { attributes, .. } => attributes.first().and_then(|first| first.propagation),
                _ => None,
            })
            .collect();
        assert_eq!(trees.len(), 2, "the root and /dev");
        assert_eq!(trees[0], trees[1]);
        trees[0]
    };
    use PropagationKind::{Private, Slave};
    for (word, kind) in [
        (None, Slave),
        (Some("rslave"), Slave),
        (Some("shared"), Slave),
        (Some("rprivate"), Private),
        (Some("unbindable"), Private),
    ] {
        assert_eq!(propagation(word), kind, "{word:?}");
    }
}

/// Kubernetes' `Bidirectional`: the root and the mount are shared, and what the container mounts there appears on
/// the host. A copy of a mount that is cut off already can no more be the host's peer.
#[test]
fn a_shared_bind_in_a_shared_root_is_the_hosts_peer() {
    let late = |root: &str| {
        let mut source = source("bare");
        source["linux"]["rootfsPropagation"] = json!(root);
        source["mounts"] = json!([{"destination": "/m", "source": "/s", "options": ["rbind", "rshared"]}]);
        let plan = plan_of(&source, &no_cgroups());
        plan.assets.iter().find_map(|entry| match &entry.asset {
            Asset::Tree { path, late, .. } if path == Path::new("/s") => Some(*late),
            _ => None,
        })
    };
    assert_eq!(late("rslave"), Some(true), "as with runc, only a shared root lets anything out");
    assert_eq!(late("rshared"), Some(false));
}

/// Only the mount is read-only of what may be the kernel's one instance; of another also the superblock.
#[test]
fn read_only_file_systems() {
    let flags = |fstype: &str| {
        let mount = json!([{"destination": "/m", "type": fstype, "source": "s", "options": ["ro"]}]);
        let mut source = source("bare");
        source["mounts"] = mount;
        let plan = plan_of(&source, &no_cgroups()).to_string();
        (plan.contains("flags=[\"ro\"]"), plan.contains("\"set\":1"))
    };
    assert_eq!(flags("overlay"), (true, true));
    for shared in ["tmpfs", "sysfs", "mqueue", "devpts"] {
        assert_eq!(flags(shared), (false, true), "{shared}");
    }
}

fn is_null(asset: &Asset) -> bool {
    matches!(asset, Asset::Device { path, major: 1, minor: 3, .. } if path.as_os_str() == "/dev/null")
}

/// CVE-2023-25809: the host's cgroups are below its /sys.
#[test]
fn a_read_only_sys_in_a_user_namespace_is_so_throughout() {
    let whole = |user: bool, source_path: &str| {
        let mut source = source(if user { "idmapped-user" } else { "bare" });
        source["mounts"] = json!([{"destination": "/sys", "source": source_path, "options": ["rbind", "ro"]}]);
        plan_of(&source, &no_cgroups()).assets.iter().any(|entry| match &entry.asset {
            Asset::Tree { path, attributes, .. } if path == Path::new(source_path) => {
                attributes.iter().any(|change| change.recursive && change.set & 1 != 0)
            }
            _ => false,
        })
    };
    assert!(whole(true, "/sys") && whole(true, "/sys/fs"));
    assert!(!whole(false, "/sys") && !whole(true, "/system"));
}

/// CVE-2025-31133: /dev/null for masks is an asset of the parent's, never a name in the container.
#[test]
fn masks_come_from_the_host() {
    for (_, host) in ALL_HOSTS {
        let plan = plan_of(&source("root"), &host());
        // in a user namespace there is one more, for /dev
        let wanted = 1 + usize::from(host().identity.nested);
        assert_eq!(plan.assets.iter().filter(|entry| is_null(&entry.asset)).count(), wanted);
    }
    let unmasked = plan_of(&source("bare"), &v2());
    assert!(!unmasked.assets.iter().any(|entry| is_null(&entry.asset)), "what nobody needs is not opened");
}

#[test]
fn nothing_of_the_request_is_looked_up() {
    // paths that do not exist: a plan is made of what it is given
    let config = parse(&source("terminal"));
    let request = Request { bundle: "/nonexistent".into(), rootfs: "/nonexistent/rootfs".into(), ..request(&config) };
    assert!(create(&config, &v2(), &request).is_ok());
}

/// With no_new_privs the kernel lets one who is confined only be confined further; without, the profile asked for is
/// the one that is got, as with the peers.
#[test]
fn profiles_are_stacked_only_where_they_must_be() {
    let label = |host: &Host, no_new_privileges: bool| {
        let mut source = source("labels");
        source["process"]["noNewPrivileges"] = json!(no_new_privileges);
        plan_of(&source, host).steps.iter().find_map(|entry| match &entry.step {
            Step::LsmLabel { attribute, label } if attribute == "apparmor/exec" => Some(label.clone()),
            _ => None,
        })
    };
    assert_eq!(label(&confined(), true).as_deref(), Some("stack web"));
    assert_eq!(label(&confined(), false).as_deref(), Some("exec web"));
    assert_eq!(label(&with_lsms(), true).as_deref(), Some("exec web"));
    assert_eq!(label(&with_lsms(), false).as_deref(), Some("exec web"));
    assert_eq!(label(&no_cgroups(), true), None);
}

/// Managers write it where there is nothing to be unconfined by.
#[test]
fn unconfined_without_apparmor_is_not_worth_a_word() {
    let source = bare_with("/process/apparmorProfile", json!("unconfined"));
    assert!(plan_of(&source, &no_cgroups()).warnings.is_empty());
    let plan = plan_of(&source, &with_lsms());
    assert!(plan.to_string().contains("label=exec unconfined"), "{plan}");
}

/// Who may make no cgroups runs containers without; but a limit that nothing keeps is no limit.
#[test]
fn limits_without_cgroups_are_refused() {
    let mut wanted = source("bare");
    wanted["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    let refused = |config: &Config| Request { manager: Manager::Refused, rootless: true, ..request(config) };
    for host in [v2(), ordinary(), no_cgroups()] {
        let config = parse(&wanted);
        let plan = create(&config, &host, &refused(&config)).unwrap();
        assert!(plan.placement.directories().is_empty() && plan.limits.devices.is_none() && !plan.spawn.into_cgroup);
        let mut limited = wanted.clone();
        limited["linux"]["resources"]["pids"] = json!({"limit": 5});
        let config = parse(&limited);
        let error = create(&config, &host, &refused(&config)).unwrap_err();
        assert_eq!(error.parts().pointer.as_deref(), Some("/linux/resources/pids/limit"), "{error}");
    }
}

/// Who maps what: the kernel lets anybody map their own id, privileges map all, and the rest is for the helpers.
#[test]
fn maps_are_written_by_whom_the_kernel_lets() {
    let how = |name: &str, host: Host| plan_of(&source(name), &host).id_maps.map(|maps| maps.how);
    assert_eq!(how("mapped", v2()), Some(MapWriter::Direct));
    assert_eq!(how("mapped", nested()), Some(MapWriter::Direct));
    assert_eq!(how("mapped", ordinary()), Some(MapWriter::Helpers));
    assert_eq!(how("mapped-guest", ordinary()), Some(MapWriter::OwnIds));
    assert_eq!(how("mapped-pod", v2()), None);
    assert_eq!(how("minimal", v2()), None);
    let config = parse(&{
        let mut more = source("mapped-guest");
        more["process"]["user"]["additionalGids"] = json!([0]);
        more
    });
    let error = create(&config, &ordinary(), &request(&config)).unwrap_err();
    assert_eq!(error.parts().pointer.as_deref(), Some("/process/user/additionalGids"), "{error}");
    assert!(create(&config, &v2(), &request(&config)).is_ok());
}
