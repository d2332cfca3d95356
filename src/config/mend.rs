//! What the specification and runc allow and oci-spec 0.10 refuses, put into the form that it takes.
//!
//! Runs only after a parse failed. Each rule names the difference; all but the dropped capability names keep every
//! value's JSON pointer.

use oci_spec::runtime::Capability;
use serde_json::{Map, Value, json};

use super::at::{At, ROOT, shown};
use crate::error::Result;

pub(super) fn config(config: &mut Value, warnings: &mut Vec<String>) -> Result<()> {
    drop_nulls(config);
    if let Some(config) = config.as_object_mut() {
        // other platforms' sections say nothing to us, and the specification has no such mappings
        for key in ["solaris", "windows", "vm", "zos", "uidMappings", "gidMappings"] {
            config.remove(key);
        }
    }
    if let Some(process) = config.pointer_mut("/process").and_then(Value::as_object_mut) {
        // absent: root, as in Go
        process.entry("user").or_insert_with(|| json!({}));
        drop_capabilities(process, warnings);
        scheduler_flags(process);
        affinity(process, &ROOT.key("process"))?;
    }
    if let Some(resources) = config.pointer_mut("/linux/resources") {
        resources_without_nulls(resources);
    }
    for syscall in elements(config.pointer_mut("/linux/seccomp/syscalls")) {
        seccomp_defaults(syscall);
    }
    Ok(())
}

/// The document of an update, the same as `/linux/resources`.
pub(super) fn resources(resources: &mut Value) {
    drop_nulls(resources);
    resources_without_nulls(resources);
}

fn resources_without_nulls(resources: &mut Value) {
    hugepage_limits(resources);
    device_types(resources);
    no_pids_limit(resources);
}

fn elements(array: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    array.and_then(Value::as_array_mut).into_iter().flatten()
}

/// A null member means an absent one in Go; in a map of strings it means the empty string.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            for (key, member) in members {
                match member {
                    Value::Object(strings) if matches!(key.as_str(), "annotations" | "sysctl" | "unified") => {
                        for string in strings.values_mut().filter(|string| string.is_null()) {
                            *string = json!("");
                        }
                    }
                    member => drop_nulls(member),
                }
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// A newer kernel's capability is a warning, not an error: config.md says so.
fn drop_capabilities(process: &mut Map<String, Value>, warnings: &mut Vec<String>) {
    let mut unknown: Vec<String> = Vec::new();
    let sets = process.get_mut("capabilities").and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()).filter_map(Value::as_array_mut) {
        set.retain(|name| match name.as_str() {
            Some(text) if serde_json::from_value::<Capability>(name.clone()).is_err() => {
                unknown.push(shown(&format!("{text:?}")));
                false
            }
            _ => true,
        });
    }
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        warnings.push(format!("ignoring unknown or unavailable capabilities: {}", unknown.join(", ")));
    }
}

/// oci-spec misspells two of the specification's words.
fn scheduler_flags(process: &mut Map<String, Value>) {
    for flag in elements(process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags"))) {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = json!("SCHED_RESET_ON_FORK"),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = json!("SCHED_FLAG_D_L_OVERRUN"),
            _ => {}
        }
    }
}

/// Spaces and extra commas are allowed in a CPU list, and an empty one is none.
fn affinity(process: &mut Map<String, Value>, at: &At) -> Result<()> {
    let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) else { return Ok(()) };
    for key in ["initial", "final"] {
        let Some(list) = affinity.get(key).and_then(Value::as_str) else { continue };
        let ranges: Vec<&str> = list.split(',').map(str::trim).filter(|range| !range.is_empty()).collect();
        if !ranges.iter().all(|range| is_range(range)) {
            return Err(at.key("execCPUAffinity").key(key).must("a list of CPUs such as 0-3,7", list));
        }
        let ranges = ranges.join(",");
        if ranges.is_empty() {
            affinity.remove(key);
        } else {
            affinity.insert(key.to_owned(), Value::String(ranges));
        }
    }
    Ok(())
}

fn is_range(range: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    range.split_once('-').map_or_else(|| number(range), |(first, last)| number(first) && number(last))
}

/// Unsigned in the specification, signed in oci-spec: what is beyond is no limit either way.
fn hugepage_limits(resources: &mut Value) {
    for limit in elements(resources.get_mut("hugepageLimits")).filter_map(|entry| entry.get_mut("limit")) {
        if limit.as_u64().is_some_and(|limit| i64::try_from(limit).is_err()) {
            *limit = json!(i64::MAX);
        }
    }
}

/// An empty type is an absent one: all devices.
fn device_types(resources: &mut Value) {
    for rule in elements(resources.get_mut("devices")).filter_map(Value::as_object_mut) {
        if rule.get("type").and_then(Value::as_str) == Some("") {
            rule.remove("type");
        }
    }
}

/// A limit that is not given is none, not 0.
fn no_pids_limit(resources: &mut Value) {
    if resources.pointer("/pids").and_then(Value::as_object).is_some_and(|pids| !pids.contains_key("limit"))
        && let Some(resources) = resources.as_object_mut()
    {
        resources.remove("pids");
    }
}

/// What Go fills in and oci-spec wants to be written.
fn seccomp_defaults(syscall: &mut Value) {
    if let Some(syscall) = syscall.as_object_mut() {
        syscall.entry("names").or_insert_with(|| json!([]));
    }
    for arg in elements(syscall.get_mut("args")).filter_map(Value::as_object_mut) {
        arg.entry("index").or_insert_with(|| json!(0));
        arg.entry("value").or_insert_with(|| json!(0));
    }
}
