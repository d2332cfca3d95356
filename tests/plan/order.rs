//! Every plan has its steps in one order.

use ferrun::plan::create::create;
use serde_json::json;

use crate::invariants::{for_plans_of_both_kinds, without_mount_namespace};
use crate::parse;
use crate::ranks::{disorder, labels};

#[test]
fn steps_are_in_the_one_order() {
    for_plans_of_both_kinds(|made| {
        let wrong = disorder(&made.plan, &made.config, made.name.starts_with("exec"));
        assert_eq!(wrong, None, "{}", made.name);
    });
}

/// config.md, createContainer hooks: the path is one of the runtime's namespace, and they run before the root
/// changes.
#[test]
fn create_container_hooks_run_before_the_root_changes() {
    for (_, mut source) in without_mount_namespace() {
        source["hooks"] = json!({"createContainer": [{"path": "/bin/hook"}]});
        let config = parse(&source);
        let labels = labels(&create(&config, &crate::v2(), &crate::request(&config)).unwrap());
        let place = |label: &str| labels.iter().position(|known| *known == label).unwrap();
        assert!(place("create-container-hooks") < place("chroot"), "{labels:?}");
    }
}
