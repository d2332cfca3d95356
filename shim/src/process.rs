//! One process of a container: the init, or an exec.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use containerd_shim_protos::types::task::Status;
use tokio::sync::{Mutex, Notify};

use crate::failure::{Failure, Result};
use crate::io::{Io, Wanted};
use crate::reaper::{Child, Ended};

#[derive(Debug)]
pub(crate) struct Process {
    /// The exec's id; empty for the init.
    pub(crate) id: String,
    pub(crate) wanted: Wanted,
    /// Of an exec: `Process` of the OCI configuration, as JSON.
    pub(crate) spec: Vec<u8>,
    pub(crate) io: RefCell<Option<Rc<Io>>>,
    child: RefCell<Option<Rc<Child>>>,
    started: Cell<bool>,
    /// How it ended, once that is on disk and its event is queued.
    ended: Cell<Option<Ended>>,
    deleted: Cell<bool>,
    change: Notify,
    /// Held while it is being started and while its end is reported: so a start comes before its exit.
    pub(crate) order: Mutex<()>,
}

impl Process {
    pub(crate) fn new(id: &str, wanted: Wanted, spec: Vec<u8>) -> Self {
        Self {
            id: id.to_owned(),
            wanted,
            spec,
            io: RefCell::default(),
            child: RefCell::default(),
            started: Cell::new(false),
            ended: Cell::new(None),
            deleted: Cell::new(false),
            change: Notify::new(),
            order: Mutex::new(()),
        }
    }

    pub(crate) fn io(&self) -> Option<Rc<Io>> {
        self.io.borrow().clone()
    }

    pub(crate) fn made(&self, child: Rc<Child>, io: Io) {
        self.child.replace(Some(child));
        self.io.replace(Some(Rc::new(io)));
    }

    pub(crate) fn child(&self) -> Option<Rc<Child>> {
        self.child.borrow().clone()
    }

    /// 0: there is none yet.
    pub(crate) fn pid(&self) -> u32 {
        self.child.borrow().as_ref().map_or(0, |child| child.pid() as u32)
    }

    pub(crate) fn set_started(&self) {
        self.started.set(true);
    }

    pub(crate) fn is_started(&self) -> bool {
        self.started.get()
    }

    /// Whether it was started and its end has not been reported.
    pub(crate) fn runs(&self) -> bool {
        self.started.get() && self.ended.get().is_none()
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.ended.get()
    }

    pub(crate) fn set_ended(&self, ended: Ended) {
        self.ended.set(Some(ended));
        self.change.notify_waiters();
    }

    pub(crate) fn set_deleted(&self) {
        self.deleted.set(true);
        self.change.notify_waiters();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.get()
    }

    /// # Errors
    /// It was deleted before it was started.
    pub(crate) async fn wait(&self) -> Result<Ended> {
        loop {
            if let Some(ended) = self.ended.get() {
                return Ok(ended);
            }
            if self.deleted.get() {
                return Err(Failure::not_found("the process was never started, and is deleted: not found"));
            }
            self.change.notified().await;
        }
    }

    pub(crate) fn status(&self) -> Status {
        match (self.ended.get(), self.started.get()) {
            (Some(_), _) => Status::STOPPED,
            (None, true) => Status::RUNNING,
            (None, false) => Status::CREATED,
        }
    }
}
