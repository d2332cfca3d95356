//! The command `delete`: containerd calls it when the shim of a container is gone, and has been told nothing.

use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use ferrun::error::{Call, Error, Result};

use crate::container::{PID_FILE, kept_exit, read_pid};
use crate::convert::timestamp;
use crate::flags::Flags;
use crate::options::Options;
use crate::reaper::Reaper;
use crate::runtime::Runtime;
use crate::{rootfs, socket};

/// The status of who was killed because nobody knows better.
const KILLED: u32 = 128 + libc::SIGKILL as u32;

/// The answer for containerd.
///
/// # Errors
/// The container, or its root file system, cannot be removed.
pub(crate) fn delete(flags: &Flags) -> Result<Vec<u8>> {
    let bundle = match &flags.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().call(|| "getcwd".to_owned())?,
    };
    let options = Options::load(&bundle)?;
    let runtime = Runtime::new(options, &flags.namespace, &bundle, Rc::new(Reaper::default()));
    runtime.delete_now(&flags.id)?;
    rootfs::unmount(&bundle.join("rootfs")).map_err(|failure| Error::new(failure.words))?;
    remove_socket(&bundle.join("address"));
    let mut response = DeleteResponse { exit_status: KILLED, ..DeleteResponse::default() };
    // a create that was given up has none
    response.pid = read_pid(&bundle.join(PID_FILE)).map_or(0, |pid| u32::try_from(pid).unwrap_or(0));
    let exit = kept_exit(&bundle);
    if let Some(exit) = &exit {
        response.exit_status = exit.status;
    }
    response.exited_at = Some(timestamp(exit.and_then(|exit| exit.at()).unwrap_or_else(SystemTime::now))).into();
    response.write_to_bytes().map_err(|error| Error::new(error.to_string()))
}

/// A shim that was killed leaves its socket. That of a pod whose shim lives is left alone.
fn remove_socket(address: &Path) {
    let text = std::fs::read_to_string(address).unwrap_or_default();
    if let Some(path) = text.trim().strip_prefix(socket::SCHEME) {
        socket::remove_stale(Path::new(path));
    }
}
