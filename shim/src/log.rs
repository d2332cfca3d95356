//! The log: lines as logrus writes them, to the FIFO `log` of the bundle, which containerd reads.
//!
//! Nobody may be there to read, for containerd restarts: the FIFO is held open for both, and a line for which there
//! is no room is lost. A log that blocked would block every container of the pod.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, open};

#[derive(Debug)]
struct Log {
    fifo: Option<OwnedFd>,
    debug: bool,
    id: String,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log of the daemon, whose working directory is the bundle.
pub(crate) fn init(id: &str, debug: bool) {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    // without one (nobody made it) there is no log
    let fifo = open("log", flags, Mode::empty()).ok();
    let _ = LOG.set(Log { fifo, debug, id: id.to_owned() });
}

pub(crate) fn is_debug() -> bool {
    LOG.get().is_some_and(|log| log.debug)
}

pub(crate) fn debug(message: impl AsRef<str>) {
    if is_debug() {
        line("debug", message.as_ref());
    }
}

pub(crate) fn warn(message: impl AsRef<str>) {
    line("warning", message.as_ref());
}

fn line(level: &str, message: &str) {
    let Some(Log { fifo: Some(fifo), id, .. }) = LOG.get() else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = ferrun::log::rfc3339(now.as_secs() as i64, now.subsec_nanos());
    let line = format!("time=\"{time}\" level={level} msg={message:?} id={id} runtime=io.containerd.ferrun.v1\n");
    let _ = rustix::io::write(fifo, line.as_bytes());
}
