//! What the security modules are told: AppArmor's profile, SELinux's labels of the process, its keys and its files.
//!
//! Labels of modules that this host does not have are left out with a warning, as crun does.

use crate::config::{Config, MountOptions};
use crate::host::Host;

use super::step::{FsLabel, Step};
use super::{Draft, Request};

const PROFILE: &str = "/process/apparmorProfile";
const LABEL: &str = "/process/selinuxLabel";

/// What the program becomes at the execve.
pub(super) fn process(draft: &mut Draft, config: &Config, host: &Host) {
    let process = &config.process;
    if let Some(profile) = &process.apparmor_profile {
        if host.lsm.apparmor {
            // without new privileges one who is confined may only be confined further: the kernel refuses `exec`
            let verb = if host.lsm.confined && process.no_new_privileges { "stack" } else { "exec" };
            let label = format!("{verb} {profile}");
            draft.step_at(PROFILE, Step::LsmLabel { attribute: "apparmor/exec".to_owned(), label });
        } else if profile != "unconfined" {
            draft.warnings.push(format!("apparmorProfile {profile} is left out: this host has no AppArmor"));
        }
    }
    match (of_process(config, host), &process.selinux_label) {
        (Some(label), _) => attribute(draft, "exec", &label),
        (None, Some(label)) => {
            draft.warnings.push(format!("selinuxLabel {label} is left out: this host has no SELinux"));
        }
        (None, None) => {}
    }
}

fn attribute(draft: &mut Draft, attribute: &str, label: &str) {
    draft.step_at(LABEL, Step::LsmLabel { attribute: attribute.to_owned(), label: label.to_owned() });
}

/// The keyring is made by us and searched by the container: it has the container's label, or the policy comes
/// between them.
pub(super) fn keyring(draft: &mut Draft, config: &Config, host: &Host, request: &Request) {
    if request.no_new_keyring {
        return;
    }
    let label = of_process(config, host);
    if let Some(label) = &label {
        attribute(draft, "keycreate", label);
    }
    draft.step(Step::Keyring { name: format!("_ses.{}", request.id) });
    if label.is_some() {
        attribute(draft, "keycreate", "");
    }
}

/// `/process/selinuxLabel`, where there is who knows what it means.
pub(super) fn of_process(config: &Config, host: &Host) -> Option<String> {
    config.process.selinux_label.clone().filter(|_| host.lsm.selinux)
}

/// `/linux/mountLabel`, where there is who knows what it means.
pub(super) fn files(config: &Config, host: &Host) -> Option<String> {
    config.mount_label.clone().filter(|_| host.lsm.selinux)
}

pub(super) fn warn_of_files(draft: &mut Draft, config: &Config, host: &Host) {
    if let Some(label) = config.mount_label.as_ref().filter(|_| !host.lsm.selinux) {
        draft.warnings.push(format!("mountLabel {label} is left out: this host has no SELinux"));
    }
}

/// The label of a new file system. Options of its own win. What the kernel labels file by file (proc, sysfs)
/// is left alone, and the superblock of mqueue came with the IPC namespace.
pub(super) fn file_system(label: Option<&str>, fstype: &str, options: &MountOptions) -> Option<FsLabel> {
    let own = ["context", "fscontext", "defcontext", "rootcontext"];
    if options.data.iter().any(|data| own.contains(&data.key.as_str())) {
        return None;
    }
    let label = label?.to_owned();
    match fstype {
        "proc" | "sysfs" => None,
        "mqueue" => Some(FsLabel::Root(label)),
        _ => Some(FsLabel::Context(label)),
    }
}
