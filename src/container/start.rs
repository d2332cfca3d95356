//! `start`: the byte that the init waits for, and what became of it.

use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::notify::Notify;
use crate::error::{Call, Context, Error, Result};
use crate::hooks;
use crate::state::record::{Record, Status};
use crate::state::store::{Entry, FAULT, Store};

/// Starts the user's program and returns when it runs.
///
/// # Errors
/// `does not exist`; it is not created; the program cannot be executed, with the reason.
pub fn start(store: &Store, id: &str) -> Result<Record> {
    let entry = store.enter(id)?;
    entry.lock()?;
    let record = entry.load_created()?;
    let start = || {
        let notify = start_locked(&entry, &record)?;
        // others may work on a container that is not ready yet
        entry.unlock()?;
        match (notify, record.init.map(|init| init.open()).transpose()?.flatten()) {
            (Some(notify), Some(init)) => notify.until_ready(record.pid(), init.as_fd()),
            _ => Ok(()),
        }
    };
    start().context(|| format!("start {id}"))?;
    Ok(record)
}

fn start_locked(entry: &Entry, record: &Record) -> Result<Option<Notify>> {
    let fifo = match (entry.status(record)?, entry.open_fifo()?) {
        (Status::Created, Some(fifo)) => fifo,
        (Status::Created | Status::Running, _) => return Err(Error::new("cannot start an already running container")),
        (Status::Paused, _) => return Err(Error::new("cannot start a container in the paused state")),
        (Status::Stopped, _) => return Err(Error::new("cannot start a container that has stopped")),
        (Status::Creating, _) => return Err(Error::new("cannot start a container that is being created")),
    };
    let notify = Notify::listen(entry, record.socket_label.as_deref())?;
    rustix::io::write(&fifo, b"0").call(|| "write the start FIFO".to_owned())?;
    entry.remove_fifo();
    // the other end goes with the execve, or with the init
    loop {
        match poll(&mut [PollFd::new(&fifo, PollFlags::empty())], None) {
            Err(Errno::INTR) => {}
            result => {
                result.call(|| "poll".to_owned())?;
                break;
            }
        }
    }
    if let Some(fault) = fault(entry) {
        return Err(fault);
    }
    let result = hooks::run("poststart", &record.poststart, &record.oci_state("running", record.pid()));
    if result.is_err() {
        // runtime.md, Lifecycle, step 9: stop the container
        super::delete::end(record)?;
    }
    result.map(|()| notify)
}

/// What the init said before it died.
fn fault(entry: &Entry) -> Option<Error> {
    let words = entry.read(FAULT).ok().filter(|words| !words.is_empty())?;
    Some(serde_json::from_slice(&words).unwrap_or_else(|_| Error::new("the container's init failed")))
}
