//! The options of the runtime handler: `containerd.runc.v1.Options`, or as TOML in `runtimeoptions.v1.Options`, in
//! which the CRI plugin passes what stands in its configuration for a runtime that it does not know.

use std::path::{Path, PathBuf};

use containerd_shim_protos::protobuf::rt::WireType;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{CodedInputStream, Message};
use containerd_shim_protos::shim::oci;
use ferrun::error::{Call, Error, Result};
use serde::{Deserialize, Serialize};

/// runc's names, as they stand in containerd's configuration and in `options.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Options {
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
    /// The cgroup that the shim itself goes to.
    pub(crate) shim_cgroup: String,
    /// Owner of the pipes of containers.
    pub(crate) io_uid: u32,
    pub(crate) io_gid: u32,
    /// The runtime: a name or a path. Empty: `ferrun`.
    pub(crate) binary_name: String,
    /// Where it keeps its state; a directory for each namespace of containerd's. Empty: /run/containerd/ferrun.
    pub(crate) root: PathBuf,
    pub(crate) systemd_cgroup: bool,
}

const RUNC: &str = "containerd.runc.v1.Options";
const GENERIC: &str = "runtimeoptions.v1.Options";
/// What containerd 1's client makes for a runtime that it does not know: of its fields the owner of pipes.
const CLIENT: &str = "containerd.linux.runc.CreateOptions";

/// Without what may stand before it: `type.googleapis.com/`.
fn name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

pub(crate) fn is_options(type_url: &str) -> bool {
    // the name of runtimeoptions.v1 changed with containerd 2.0
    matches!(name(type_url), RUNC | CLIENT | GENERIC | "runtimeoptions.v1alpha1.Options")
}

impl Options {
    /// # Errors
    /// Not a message of the type that it says, or of a type that is not known; a file that cannot be read.
    pub(crate) fn parse(any: Option<&Any>) -> Result<Self> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else { return Ok(Self::default()) };
        let context = |error: Error| error.within(format!("options {}", any.type_url));
        match name(&any.type_url) {
            RUNC => Self::of_runc(&any.value).map_err(context),
            CLIENT => Self::of_client(&any.value).map_err(context),
            _ if is_options(&any.type_url) => Self::of_generic(&any.value).map_err(context),
            _ => Err(context(Error::new("their type is not known"))),
        }
    }

    fn of_runc(bytes: &[u8]) -> Result<Self> {
        let options = oci::Options::parse_from_bytes(bytes).map_err(|error| Error::new(error.to_string()))?;
        Ok(Self {
            no_pivot_root: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
            shim_cgroup: options.shim_cgroup,
            io_uid: options.io_uid,
            io_gid: options.io_gid,
            binary_name: options.binary_name,
            root: options.root.into(),
            systemd_cgroup: options.systemd_cgroup,
        })
    }

    /// {1: no pivot_root, 8: no new keyring, 9: cgroup of the shim, 10: uid and 11: gid of pipes}.
    fn of_client(bytes: &[u8]) -> Result<Self> {
        let mut options = Self::default();
        for field in fields(bytes)? {
            match field {
                (1, Value::Number(value)) => options.no_pivot_root = value != 0,
                (8, Value::Number(value)) => options.no_new_keyring = value != 0,
                (9, Value::Bytes(value)) => options.shim_cgroup = utf8(value)?,
                (10, Value::Number(value)) => options.io_uid = id(value)?,
                (11, Value::Number(value)) => options.io_gid = id(value)?,
                _ => {}
            }
        }
        Ok(options)
    }

    /// {1: type of the body, 2: path of a file, 3: body}; the body, or the file, is TOML.
    fn of_generic(bytes: &[u8]) -> Result<Self> {
        let (mut path, mut body) = (String::new(), Vec::new());
        for field in fields(bytes)? {
            match field {
                (2, Value::Bytes(value)) => path = utf8(value)?,
                (3, Value::Bytes(value)) => body = value,
                _ => {}
            }
        }
        if body.is_empty() && !path.is_empty() {
            body = std::fs::read(&path).call(|| format!("read {path}"))?;
        }
        toml::from_str(&utf8(body)?).map_err(|error| Error::new(format!("line of TOML: {}", error.message())))
    }

    /// Keeps them for `delete`, which is called without them.
    pub(crate) fn save(&self, bundle: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).map_err(|error| Error::new(error.to_string()))?;
        crate::files::replace(&bundle.join(FILE), &text)
    }

    /// Those that [`Self::save`] kept; the defaults when there are none.
    pub(crate) fn load(bundle: &Path) -> Result<Self> {
        let path = bundle.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| Error::new(format!("{}: {error}", path.display())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::os(format!("read {}", path.display()), error)),
        }
    }
}

const FILE: &str = "options.json";

/// A field of a message that has no crate.
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Those of the two kinds that the messages here have, by number.
fn fields(bytes: &[u8]) -> Result<Vec<(u32, Value)>> {
    let mut stream = CodedInputStream::from_bytes(bytes);
    let mut fields = Vec::new();
    let mut read = || {
        while let Some(tag) = stream.read_raw_tag_or_eof()? {
            let kind = WireType::new(tag & 7).ok_or(std::io::Error::from(std::io::ErrorKind::InvalidData))?;
            match kind {
                WireType::Varint => fields.push((tag >> 3, Value::Number(stream.read_raw_varint64()?))),
                WireType::LengthDelimited => fields.push((tag >> 3, Value::Bytes(stream.read_bytes()?))),
                other => stream.skip_field(other)?,
            }
        }
        Ok(())
    };
    read().map_err(|error: containerd_shim_protos::protobuf::Error| Error::new(error.to_string()))?;
    Ok(fields)
}

fn utf8(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::new("not UTF-8"))
}

fn id(value: u64) -> Result<u32> {
    u32::try_from(value).map_err(|_| Error::new(format!("{value} is no uid or gid")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, value: Vec<u8>) -> Any {
        Any { type_url: type_url.into(), value, ..Any::default() }
    }

    #[test]
    fn runc_options() {
        let message =
            oci::Options { binary_name: "crun".into(), systemd_cgroup: true, io_uid: 7, ..Default::default() };
        let bytes = message.write_to_bytes().expect("bytes");
        for type_url in ["containerd.runc.v1.Options", "types.containerd.io/containerd.runc.v1.Options"] {
            let options = Options::parse(Some(&any(type_url, bytes.clone()))).expect("options");
            let expected =
                Options { binary_name: "crun".into(), systemd_cgroup: true, io_uid: 7, ..Options::default() };
            assert_eq!(options, expected);
        }
        assert_eq!(Options::parse(None).expect("options"), Options::default());
        assert!(Options::parse(Some(&any("io.kata.Options", vec![]))).is_err());
        assert!(Options::parse(Some(&any("containerd.runc.v1.Options", vec![0xff]))).is_err());
    }

    fn generic(path: &str, body: &str) -> Any {
        let mut bytes = vec![0x0a, 1, b't'];
        for (tag, text) in [(0x12, path), (0x1a, body)] {
            if !text.is_empty() {
                bytes.extend([tag, u8::try_from(text.len()).expect("short")]);
                bytes.extend(text.as_bytes());
            }
        }
        any("runtimeoptions.v1.Options", bytes)
    }

    #[test]
    fn generic_options() {
        let body = "BinaryName = \"/opt/ferrun\"\nSystemdCgroup = true\nOther = [1]\n";
        let expected = Options { binary_name: "/opt/ferrun".into(), systemd_cgroup: true, ..Options::default() };
        assert_eq!(Options::parse(Some(&generic("", body))).expect("options"), expected);
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("o.toml");
        std::fs::write(&path, body).expect("file");
        assert_eq!(Options::parse(Some(&generic(&path.to_string_lossy(), ""))).expect("options"), expected);
        assert_eq!(Options::parse(Some(&generic("", ""))).expect("options"), Options::default());
        for bad in [generic("", "x = "), generic("/nonexistent", ""), generic("", "NoPivotRoot = 3")] {
            assert!(Options::parse(Some(&bad)).is_err());
        }
    }

    #[test]
    fn options_of_the_client() {
        // {10: 100000, 11: 7, 12: "w"}
        let bytes = b"\x50\xa0\x8d\x06\x58\x07\x62\x01w".to_vec();
        let options = Options::parse(Some(&any("containerd.linux.runc.CreateOptions", bytes))).expect("options");
        assert_eq!(options, Options { io_uid: 100_000, io_gid: 7, ..Options::default() });
        for bad in [&b"\x50"[..], b"\x50\xff\xff\xff\xff\xff\x01", b"\x4a\x01\xff", b"\x57"] {
            assert!(
                Options::parse(Some(&any("containerd.linux.runc.CreateOptions", bad.to_vec()))).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn they_are_kept() {
        let directory = tempfile::tempdir().expect("directory");
        assert_eq!(Options::load(directory.path()).expect("options"), Options::default());
        let options = Options { root: "/r".into(), no_pivot_root: true, ..Options::default() };
        options.save(directory.path()).expect("saved");
        assert_eq!(Options::load(directory.path()).expect("options"), options);
    }
}
