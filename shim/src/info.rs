//! `-info`: what the runtime can do, for containerd's introspection.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use ferrun::error::{Error, Result};

use crate::options::Options;
use crate::runtime::ask;

/// The type under which containerd knows the JSON of `features`.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

pub(crate) fn info() -> Result<Vec<u8>> {
    let given = crate::stdin()?;
    let options = Any::parse_from_bytes(&given).map_err(|error| Error::new(format!("read the options: {error}")))?;
    let parsed = Options::parse(Some(&options))?;
    let mut info = RuntimeInfo::new();
    info.name = "io.containerd.ferrun.v1".to_owned();
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").to_owned(), ..RuntimeVersion::default() };
    info.version = Some(version).into();
    info.options = Some(options).filter(|options| !options.type_url.is_empty()).into();
    // unchanged: what this program does not know may be what somebody looks for
    let value = ask(&parsed, "features")?;
    info.features = Some(Any { type_url: FEATURES.to_owned(), value, ..Any::default() }).into();
    info.write_to_bytes().map_err(|error| Error::new(error.to_string()))
}
