//! What containerd and a shim tell each other when one is started: three dialects.
//!
//! | containerd | stdin of `start` | stdout |
//! |---|---|---|
//! | up to 1.6 | runtime options, an `Any` | the address alone |
//! | 1.7 to 2.2 | the same; `MAX_SHIM_VERSION` is set | JSON |
//! | from 2.3 on | `BootstrapParams` | `BootstrapResult` |

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use ferrun::error::{Error, Result};

use crate::flags::Flags;

/// The Task API that we speak: version 3 has the same messages as 2.
const VERSION: u32 = 3;

/// How to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Plain,
    /// The version is no higher than what containerd takes: 1.7 refuses 3.
    Json {
        version: u32,
    },
    Protobuf,
}

/// What was asked.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) dialect: Dialect,
    pub(crate) options: Option<Any>,
    /// containerd's ttrpc address, where stdin has it; TTRPC_ADDRESS else.
    pub(crate) events: Option<String>,
    /// Where the socket goes, if containerd wants it elsewhere.
    pub(crate) socket_dir: Option<String>,
    pub(crate) debug: bool,
}

impl Asked {
    /// `limit`: the value of `MAX_SHIM_VERSION`.
    ///
    /// # Errors
    /// Neither of the two messages.
    pub(crate) fn parse(stdin: &[u8], flags: &Flags, limit: Option<&str>) -> Result<Self> {
        // An Any parses as BootstrapParams too: both begin with two strings. What tells them apart is the id.
        if let Ok(params) = BootstrapParams::parse_from_bytes(stdin)
            && !params.instance_id.is_empty()
            && params.instance_id == flags.id
            && params.namespace == flags.namespace
        {
            return Ok(Self::of(params));
        }
        let any =
            Any::parse_from_bytes(stdin).map_err(|error| Error::new(format!("read the options on stdin: {error}")))?;
        let dialect = match limit {
            None | Some("") => Dialect::Plain,
            Some(limit) => Dialect::Json { version: limit.parse().unwrap_or(2).clamp(2, VERSION) },
        };
        let options = Some(any).filter(|any| !any.type_url.is_empty());
        Ok(Self { dialect, options, events: None, socket_dir: None, debug: flags.debug })
    }

    fn of(params: BootstrapParams) -> Self {
        let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
        let options = params.extensions.into_iter().filter_map(|extension| extension.value.into_option());
        let options = options.into_iter().find(|any| crate::options::is_options(&any.type_url));
        Self {
            dialect: Dialect::Protobuf,
            options,
            events: non_empty(params.containerd_ttrpc_address),
            socket_dir: params.socket_dir.and_then(non_empty),
            // the more it tells, the lower: LOG_LEVEL_DEBUG is -4
            debug: params.log_level.value() <= -4,
        }
    }
}

/// The answer of `start`; `address` is `unix://PATH`.
pub(crate) fn answer(dialect: Dialect, address: &str) -> Vec<u8> {
    match dialect {
        Dialect::Plain => address.as_bytes().to_vec(),
        Dialect::Json { version } => {
            let json = serde_json::json!({ "version": version, "address": address, "protocol": "ttrpc" });
            json.to_string().into_bytes()
        }
        Dialect::Protobuf => {
            let mut result = BootstrapResult::new();
            result.version = VERSION as i32;
            result.address = address.to_owned();
            result.protocol = "ttrpc".to_owned();
            result.write_to_bytes().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::bootstrap_api::Extension;

    fn flags() -> Flags {
        Flags { id: "web".into(), namespace: "default".into(), ..Flags::default() }
    }

    fn any(type_url: &str) -> Any {
        Any { type_url: type_url.into(), value: b"\x32\x01x".to_vec(), ..Any::default() }
    }

    #[test]
    fn up_to_1_6() {
        let asked = Asked::parse(b"", &flags(), None).expect("nothing is an empty message");
        assert_eq!((asked.dialect, asked.options), (Dialect::Plain, None));
        assert_eq!(answer(Dialect::Plain, "unix:///s"), b"unix:///s");
    }

    #[test]
    fn of_1_7() {
        let options = any("containerd.runc.v1.Options");
        let stdin = options.write_to_bytes().expect("bytes");
        let asked = Asked::parse(&stdin, &flags(), Some("2")).expect("asked");
        assert_eq!(asked.dialect, Dialect::Json { version: 2 });
        assert_eq!(asked.options, Some(options));
        let json: serde_json::Value = serde_json::from_slice(&answer(asked.dialect, "unix:///s")).expect("JSON");
        assert_eq!(json, serde_json::json!({"version": 2, "address": "unix:///s", "protocol": "ttrpc"}));
        for (limit, version) in [("3", 3), ("9", 3), ("1", 2), ("x", 2)] {
            let asked = Asked::parse(&stdin, &flags(), Some(limit)).expect("asked");
            assert_eq!(asked.dialect, Dialect::Json { version });
        }
    }

    #[test]
    fn of_2_3() {
        let mut params = BootstrapParams::new();
        params.instance_id = "web".into();
        params.namespace = "default".into();
        params.containerd_ttrpc_address = "unix:///t".into();
        params.socket_dir = Some("/s".into());
        params.log_level = containerd_shim_protos::protobuf::EnumOrUnknown::from_i32(-4);
        for type_url in ["other.Config", "containerd.runc.v1.Options"] {
            params.extensions.push(Extension { value: Some(any(type_url)).into(), ..Extension::default() });
        }
        let stdin = params.write_to_bytes().expect("bytes");
        let asked = Asked::parse(&stdin, &flags(), Some("2")).expect("asked");
        let expected = Asked {
            dialect: Dialect::Protobuf,
            options: Some(any("containerd.runc.v1.Options")),
            events: Some("unix:///t".into()),
            socket_dir: Some("/s".into()),
            debug: true,
        };
        assert_eq!(asked, expected);
        let result = BootstrapResult::parse_from_bytes(&answer(asked.dialect, "unix:///s")).expect("result");
        assert_eq!((result.version, result.address.as_str(), result.protocol.as_str()), (3, "unix:///s", "ttrpc"));
    }

    #[test]
    fn options_that_look_like_parameters_are_options() {
        // its two strings are where the id and the namespace would be
        let stdin = any("containerd.runc.v1.Options").write_to_bytes().expect("bytes");
        assert!(BootstrapParams::parse_from_bytes(&stdin).is_ok());
        assert_eq!(Asked::parse(&stdin, &flags(), None).expect("asked").dialect, Dialect::Plain);
        assert!(Asked::parse(b"\xff\xff", &flags(), None).is_err());
    }
}
