//! `ferrun spec`: writes the config.json to start from, as `runc spec` does.
//!
//! The content is that of runc's current sources. They differ from Debian's 1.1 by two repairs: no ambient
//! capabilities, and the TPM's directory is masked.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::Path;

use rustix::fs::Access;

use crate::error::{Error, RawErrno, Result};

/// The host facts on which the document depends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// With `--rootless`: who the container's root is to be on the host.
    pub rootless: Option<(u32, u32)>,
    /// /sys/fs/cgroup is a cgroup2 file system: the container gets a cgroup namespace.
    pub cgroup2: bool,
}

/// What the marked lines of [`TEMPLATE`] stand for.
struct Blocks {
    devpts_gid: &'static str,
    sys: &'static str,
    resources_or_mappings: String,
    network: &'static str,
    more_namespaces: String,
}

/// The text of the document, indented by tabs, without a newline at its end.
pub fn default_spec(facts: Facts) -> String {
    let namespace = |kind: &str| format!(",\n\t\t\t{{\n\t\t\t\t\"type\": \"{kind}\"\n\t\t\t}}");
    let cgroup = if facts.cgroup2 { namespace("cgroup") } else { String::new() };
    let blocks = match facts.rootless {
        None => Blocks {
            devpts_gid: ",\n\t\t\t\t\"gid=5\"",
            sys: SYS,
            resources_or_mappings: RESOURCES.to_owned(),
            network: NETWORK,
            more_namespaces: cgroup,
        },
        // A single id is mapped: there is no group 5. A network namespace of its own would be one without
        // a network, and sysfs can only be mounted by the owner of the network namespace.
        Some((uid, gid)) => Blocks {
            devpts_gid: "",
            sys: SYS_ROOTLESS,
            resources_or_mappings: mapping("uid", uid) + &mapping("gid", gid),
            network: "",
            more_namespaces: cgroup + &namespace("user"),
        },
    };
    TEMPLATE
        .replace("<devpts gid>", blocks.devpts_gid)
        .replace("<sys>\n", blocks.sys)
        .replace("<resources or mappings>\n", &blocks.resources_or_mappings)
        .replace("<network>\n", blocks.network)
        .replace("<more namespaces>", &blocks.more_namespaces)
}

fn mapping(kind: &str, id: u32) -> String {
    format!(
        "\t\t\"{kind}Mappings\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],\n"
    )
}

/// Writes config.json into `bundle`; one that is there already is never touched.
pub fn write(bundle: &Path, rootless: bool) -> Result<()> {
    let identity = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let facts = Facts { rootless: rootless.then(identity), cgroup2: on_cgroup2() };
    let path = bundle.join("config.json");
    let failed = |call: &str, error: &std::io::Error| {
        Error::os(format!("{call} {}", path.display()), RawErrno::from(error)).path(&path)
    };
    // the mode is 0666 less the umask, as runc's
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::new("File config.json exists. Remove it first").path(&path));
        }
        Err(error) => return Err(failed("open", &error)),
    };
    file.write_all(default_spec(facts).as_bytes()).map_err(|error| {
        // Half a file would stand in the way of the next attempt. That it cannot be written is what matters,
        // not that it cannot be removed either.
        let _ = rustix::fs::unlink(&path);
        failed("write", &error)
    })
}

/// Its root, and only that of a cgroup2 file system, has this file.
fn on_cgroup2() -> bool {
    rustix::fs::access("/sys/fs/cgroup/cgroup.controllers", Access::EXISTS).is_ok()
}

const SYS: &str = r#"		{
			"destination": "/sys",
			"type": "sysfs",
			"source": "sysfs",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
"#;

const SYS_ROOTLESS: &str = r#"		{
			"destination": "/sys",
			"type": "none",
			"source": "/sys",
			"options": [
				"rbind",
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
"#;

const RESOURCES: &str = r#"		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
"#;

const NETWORK: &str = r#"			{
				"type": "network"
			},
"#;

const TEMPLATE: &str = r#"{
	"ociVersion": "1.3.0",
	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "ferrun",
	"mounts": [
		{
			"destination": "/proc",
			"type": "proc",
			"source": "proc"
		},
		{
			"destination": "/dev",
			"type": "tmpfs",
			"source": "tmpfs",
			"options": [
				"nosuid",
				"strictatime",
				"mode=755",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/pts",
			"type": "devpts",
			"source": "devpts",
			"options": [
				"nosuid",
				"noexec",
				"newinstance",
				"ptmxmode=0666",
				"mode=0620"<devpts gid>
			]
		},
		{
			"destination": "/dev/shm",
			"type": "tmpfs",
			"source": "shm",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"mode=1777",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/mqueue",
			"type": "mqueue",
			"source": "mqueue",
			"options": [
				"nosuid",
				"noexec",
				"nodev"
			]
		},
<sys>
		{
			"destination": "/sys/fs/cgroup",
			"type": "cgroup",
			"source": "cgroup",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"relatime",
				"ro"
			]
		}
	],
	"linux": {
<resources or mappings>
		"namespaces": [
			{
				"type": "pid"
			},
<network>
			{
				"type": "ipc"
			},
			{
				"type": "uts"
			},
			{
				"type": "mount"
			}<more namespaces>
		],
		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/sys/firmware",
			"/proc/scsi",
			"/sys/devices/virtual/tpm"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn parsed(facts: Facts) -> serde_json::Value {
        let text = default_spec(facts);
        assert!(!text.contains('<') && text.starts_with("{\n\t\"ociVersion\"") && text.ends_with("\n}"), "{text}");
        serde_json::from_str::<oci_spec::runtime::Spec>(&text).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn namespaces(spec: &serde_json::Value) -> Vec<&str> {
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|each| each["type"].as_str().unwrap()).collect()
    }

    #[test]
    fn for_root() {
        let spec = parsed(Facts::default());
        assert_eq!(spec["ociVersion"], "1.3.0");
        assert_eq!(namespaces(&spec), ["pid", "network", "ipc", "uts", "mount"]);
        assert_eq!(spec["mounts"][5]["type"], "sysfs");
        assert_eq!(spec["mounts"][2]["options"][5], "gid=5");
        assert_eq!(spec["linux"]["resources"]["devices"][0]["access"], "rwm");
        assert!(spec["process"]["capabilities"]["ambient"].is_null());
        let spec = parsed(Facts { cgroup2: true, ..Facts::default() });
        assert_eq!(namespaces(&spec), ["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    }

    #[test]
    fn rootless() {
        let spec = parsed(Facts { rootless: Some((1000, 100)), cgroup2: true });
        assert_eq!(namespaces(&spec), ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        let mapping = |id| serde_json::json!([{"containerID": 0, "hostID": id, "size": 1}]);
        assert_eq!(spec["linux"]["uidMappings"], mapping(1000));
        assert_eq!(spec["linux"]["gidMappings"], mapping(100));
        assert!(spec["linux"]["resources"].is_null());
        assert_eq!(spec["mounts"][5]["options"][0], "rbind");
        assert_eq!(spec["mounts"][2]["options"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn what_exists_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        write(dir.path(), false).unwrap();
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(write(dir.path(), true).unwrap_err().to_string(), "File config.json exists. Remove it first");
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        fs::remove_file(&path).unwrap();
        symlink("/no/such", &path).unwrap();
        assert!(write(dir.path(), false).is_err());
        let error = write(&dir.path().join("absent"), false).unwrap_err().to_string();
        assert!(error.ends_with("config.json: no such file or directory"), "{error}");
    }
}
