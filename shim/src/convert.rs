//! Between messages and what they stand for.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;

pub(crate) fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32, ..Timestamp::default() }
}

/// The type's name stands bare, as Go's typeurl writes it: containerd 1.6 knows no other.
pub(crate) fn any<M: Message>(package: &str, message: &M) -> Any {
    Any {
        type_url: format!("{package}.{}", M::NAME),
        value: message.write_to_bytes().unwrap_or_default(),
        ..Any::default()
    }
}
