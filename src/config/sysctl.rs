//! `/linux/sysctl`: only what belongs to a namespace of the container may be set.

use std::collections::HashMap;

use super::at::At;
use super::{Namespaces, Sysctl};
use crate::error::Result;

/// Of the IPC namespace, as runc has them.
const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shm_rmid_forced",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
];

/// Sorted by path.
pub(super) fn check(sysctl: Option<&HashMap<String, String>>, namespaces: &Namespaces, at: &At) -> Result<Vec<Sysctl>> {
    let mut names: Vec<(&String, &String)> = sysctl.into_iter().flatten().collect();
    names.sort_unstable();
    let mut checked: Vec<Sysctl> = Vec::with_capacity(names.len());
    for (name, value) in names {
        let at = at.key(name);
        let path = path(name, &at)?;
        check_value(value, &at)?;
        check_namespace(name, &path, namespaces, &at)?;
        if let Some(other) = checked.iter().find(|other| other.path == path) {
            return Err(at.error(format!("sysctl {name:?} is the same as {:?}", other.name)));
        }
        checked.push(Sysctl { name: name.clone(), path, value: value.clone() });
    }
    checked.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(checked)
}

/// sysctl(8): the first separator says which of the two is meant to be one; the other stands for it within a
/// name, as in `net.ipv4.conf.eth0/100.forwarding` and `net/ipv4/conf/eth0.100/forwarding`.
fn path(name: &str, at: &At) -> Result<String> {
    at.one_line(name)?;
    let path: String = if name.find(['.', '/']).is_some_and(|first| name.as_bytes().get(first) == Some(&b'.')) {
        let swap = |c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        };
        name.chars().map(swap).collect()
    } else {
        name.to_owned()
    };
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(at.error(format!("sysctl {name:?} must be a name such as \"net.ipv4.ip_forward\"")));
    }
    Ok(path)
}

/// No value has a `+`, but what passes lists of sysctls on may split at it (CVE-2022-0811).
fn check_value(value: &str, at: &At) -> Result<()> {
    let control = |c: char| c.is_control() && c != '\t';
    if value.contains(control) || value.contains('+') {
        return Err(at.must("free of control characters and of +", value));
    }
    Ok(())
}

fn check_namespace(name: &str, path: &str, namespaces: &Namespaces, at: &At) -> Result<()> {
    let error = |words: &str| Err(at.error(format!("sysctl {name:?} {words}")));
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        if namespaces.ipc.is_host() {
            return error("is not allowed in the hosts ipc namespace");
        }
    } else if path.starts_with("net/") {
        if namespaces.network.is_host() {
            return error("not allowed in host network namespace");
        }
    } else if path == "kernel/hostname" {
        return error("is not allowed as it conflicts with the OCI \"hostname\" field");
    } else if path != "kernel/domainname" || namespaces.uts.is_host() {
        return error("is not in a separate kernel namespace");
    }
    Ok(())
}
