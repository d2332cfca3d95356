//! `ferrun features`: what this binary implements, by the runtime-spec's features.md.
//!
//! The document says what was compiled in and nothing about the host: the same binary prints the same bytes on
//! every machine. What a host lacks is for another command.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::{landlock, options};
use crate::error::{Error, Result};

pub const OCI_VERSION_MIN: &str = "1.0.0";
pub const OCI_VERSION_MAX: &str = "1.3.0";
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Set by the release build.
pub const COMMIT: &str = match option_env!("FERRUN_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

const SYSTEMD: bool = cfg!(feature = "systemd");

const HOOKS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

const SECCOMP_OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

const SECCOMP_ARCHS: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

const SECCOMP_FLAGS: &[&str] = &[
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

const MEMORY_POLICY_MODES: &[&str] = &[
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];

const MEMORY_POLICY_FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The document, in the order of the specification.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'static str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Switch,
    selinux: Switch,
    intel_rdt: Switch,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Switch,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Debug, Clone, Copy, Serialize)]
struct Switch {
    enabled: bool,
}

#[derive(Debug, Clone, Serialize)]
struct MemoryPolicy {
    modes: &'static [&'static str],
    flags: &'static [&'static str],
}

#[derive(Debug, Clone, Serialize)]
struct MountExtensions {
    idmap: Switch,
}

/// What this binary implements.
pub fn features() -> Features {
    let mut mount_options: Vec<_> = options::words().collect();
    mount_options.sort_unstable();
    mount_options.dedup();
    Features {
        oci_version_min: OCI_VERSION_MIN,
        oci_version_max: OCI_VERSION_MAX,
        hooks: HOOKS,
        mount_options,
        linux: linux(),
        annotations: BTreeMap::from([("dev.ferrun.commit", COMMIT), ("dev.ferrun.version", VERSION)]),
        // a prefix: features.md, Unsafe annotations in config.json
        potentially_unsafe_config_annotations: if cfg!(feature = "systemd") {
            &[landlock::PREFIX, "org.systemd.property."]
        } else {
            &[landlock::PREFIX]
        },
    }
}

fn linux() -> Linux {
    Linux {
        namespaces: NAMESPACES,
        capabilities: capabilities(),
        cgroup: Cgroup { v1: true, v2: true, systemd: SYSTEMD, systemd_user: SYSTEMD, rdma: false },
        seccomp: Seccomp {
            enabled: true,
            actions: SECCOMP_ACTIONS,
            operators: SECCOMP_OPERATORS,
            archs: SECCOMP_ARCHS,
            known_flags: SECCOMP_FLAGS,
            supported_flags: SECCOMP_FLAGS,
        },
        apparmor: Switch { enabled: true },
        selinux: Switch { enabled: true },
        intel_rdt: Switch { enabled: false },
        memory_policy: MemoryPolicy { modes: MEMORY_POLICY_MODES, flags: MEMORY_POLICY_FLAGS },
        mount_extensions: MountExtensions { idmap: Switch { enabled: true } },
        net_devices: Switch { enabled: false },
    }
}

/// In the kernel's order, as runc prints them.
fn capabilities() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_unstable_by_key(caps::Capability::index);
    all.iter().map(ToString::to_string).collect()
}

/// The document as runc prints it: indented by four spaces, a newline at the end.
pub fn text() -> Result<String> {
    let mut bytes = Vec::with_capacity(8192);
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    features()
        .serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))
        .map_err(|error| Error::new(error.to_string()))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(|error| Error::new(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specs_own_types_read_it() {
        let text = text().unwrap();
        let read: oci_spec::runtime::Features = serde_json::from_str(&text).unwrap();
        let linux = read.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        assert_eq!(linux.capabilities().as_ref().unwrap().len(), 41);
        let seccomp = linux.seccomp().as_ref().unwrap();
        assert_eq!(seccomp.archs().as_ref().unwrap().len(), SECCOMP_ARCHS.len());
        assert_eq!(seccomp.actions().as_ref().unwrap().len(), 9);
        assert!(text.contains("\"mountExtensions\": {\n            \"idmap\": {\n                \"enabled\": true"));
        assert_eq!(linux.cgroup().as_ref().unwrap().systemd_user(), &Some(SYSTEMD));
        assert_eq!(read.annotations().as_ref().unwrap()["dev.ferrun.version"], VERSION);
    }

    #[test]
    fn shape_is_that_of_runc() {
        let text = text().unwrap();
        assert!(text.starts_with(
            "{\n    \"ociVersionMin\": \"1.0.0\",\n    \"ociVersionMax\": \"1.3.0\",\n    \"hooks\": [\n"
        ));
        assert!(text.ends_with("\n    ]\n}\n") || !cfg!(feature = "systemd"));
        let order = [
            "\"hooks\"",
            "\"mountOptions\"",
            "\"linux\"",
            "\"namespaces\"",
            "\"capabilities\"",
            "\"CAP_CHOWN\"",
            "\"CAP_CHECKPOINT_RESTORE\"",
            "\"cgroup\": {",
            "\"seccomp\"",
            "\"apparmor\"",
            "\"selinux\"",
            "\"intelRdt\"",
            "\"memoryPolicy\"",
            "\"mountExtensions\"",
            "\"netDevices\"",
            "\"annotations\"",
        ];
        let places: Vec<_> = order.iter().map(|word| text.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn lists_are_sorted() {
        for list in [
            NAMESPACES,
            SECCOMP_ACTIONS,
            SECCOMP_OPERATORS,
            SECCOMP_ARCHS,
            SECCOMP_FLAGS,
            MEMORY_POLICY_MODES,
            MEMORY_POLICY_FLAGS,
        ] {
            assert!(list.is_sorted());
        }
    }
}
