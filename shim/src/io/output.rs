//! Output on its way from a process to who reads it.
//!
//! A reader may be slow, may have stopped, may be gone and come again. What was written is kept for it until the
//! process is deleted; and the end of the process is told when it has been read, because clients (those of
//! containerd 1 at least) stop reading then.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ferrun::error::{Call, Result};
use rustix::io::ioctl_fionread;
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, spawn_local};

use super::fifo;
use super::relay::{Brake, End, Stop, append, is_ready, relay};

/// How long `Delete` waits for a reader that has stopped.
const DRAIN: Duration = Duration::from_secs(10);

/// A reader that has taken nothing for so long has stopped.
const STALL: Duration = Duration::from_millis(500);

/// Between two looks at what is read: nobody tells. At first, and after a while.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_SELDOM: Duration = Duration::from_secs(1);

/// Where output goes.
#[derive(Debug)]
pub(super) enum Sink {
    /// Open for both.
    Fifo(OwnedFd),
    /// A pipe to a program, or a file for the process itself.
    Other(OwnedFd),
    /// A file to append to what a terminal says.
    File(File),
}

/// The outputs of a process.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    flows: RefCell<Vec<Rc<Flow>>>,
    tasks: RefCell<Vec<AbortHandle>>,
    done: Rc<Notify>,
    pub(super) brake: Rc<Brake>,
}

#[derive(Debug)]
struct Flow {
    stage: RefCell<Stage>,
    /// Bytes.
    moved: Cell<u64>,
}

#[derive(Debug)]
enum Stage {
    Relays {
        source: Rc<End>,
        sink: Rc<End>,
    },
    Appends(Rc<End>),
    /// All is in the FIFO, of which this is the writing end.
    Keeps(Rc<OwnedFd>),
    Over,
}

impl Outputs {
    /// Relays one more.
    pub(super) fn add(&self, source: OwnedFd, sink: Sink) -> Result<()> {
        let is_fifo = matches!(sink, Sink::Fifo(_));
        let source = Rc::new(End::new(source, Interest::READABLE).call(|| "watch output".to_owned())?);
        let sink = match sink {
            Sink::Fifo(sink) | Sink::Other(sink) => sink,
            Sink::File(file) => {
                self.append(source, file);
                return Ok(());
            }
        };
        let sink = Rc::new(End::new(sink, Interest::WRITABLE).call(|| "watch output".to_owned())?);
        let flow = self.flow(Stage::Relays { source: Rc::clone(&source), sink: Rc::clone(&sink) });
        let (brake, done) = (Rc::clone(&self.brake), Rc::clone(&self.done));
        let task = spawn_local(async move {
            let stop = relay(&source, &sink, &brake, &flow.moved).await;
            // opened before the other end is closed: what is in a FIFO that nobody has open is lost
            let writer = if is_fifo && stop != Stop::Refused { fifo::writer(sink.as_fd()).ok() } else { None };
            drop((source, sink));
            if let Some(writer) = writer.map(Rc::new) {
                flow.stage.replace(Stage::Keeps(Rc::clone(&writer)));
                tokio::select! {
                    () = until_read(&writer) => {}
                    () = brake.pulled() => {}
                }
            }
            flow.stage.replace(Stage::Over);
            done.notify_waiters();
        });
        self.tasks.borrow_mut().push(task.abort_handle());
        Ok(())
    }

    fn append(&self, source: Rc<End>, file: File) {
        let flow = self.flow(Stage::Appends(Rc::clone(&source)));
        let (brake, done) = (Rc::clone(&self.brake), Rc::clone(&self.done));
        let task = spawn_local(async move {
            append(&source, file, &brake, &flow.moved).await;
            flow.stage.replace(Stage::Over);
            done.notify_waiters();
        });
        self.tasks.borrow_mut().push(task.abort_handle());
    }

    fn flow(&self, stage: Stage) -> Rc<Flow> {
        let flow = Rc::new(Flow { stage: RefCell::new(stage), moved: Cell::new(0) });
        self.flows.borrow_mut().push(Rc::clone(&flow));
        flow
    }

    /// Until what was written has been read, or nobody reads.
    pub(super) async fn settle(&self) {
        let (mut seen, mut since, mut pause) = (None, Instant::now(), LOOK);
        let begin = since;
        loop {
            let now: Vec<_> = self.flows.borrow().iter().filter_map(|flow| flow.behind()).collect();
            if now.is_empty() || begin.elapsed() > DRAIN {
                return;
            }
            if seen.as_ref() != Some(&now) {
                (seen, since) = (Some(now), Instant::now());
            } else if since.elapsed() > STALL {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK * 20);
        }
    }

    /// Lets what was written go out, then closes all. A reader that has stopped is waited for, but not for ever.
    pub(super) async fn close(&self) {
        self.brake.pull();
        let is_over = |flow: &Rc<Flow>| matches!(*flow.stage.borrow(), Stage::Over);
        let over = async {
            while !self.flows.borrow().iter().all(is_over) {
                self.done.notified().await;
            }
        };
        if tokio::time::timeout(DRAIN, over).await.is_err() {
            crate::log::warn("output was not read, and is dropped");
            // or each would hold its pipes for as long as nobody reads
            self.tasks.take().iter().for_each(AbortHandle::abort);
            self.flows.take();
        }
    }
}

impl Flow {
    /// None: nothing waits to be read, or nobody is there to. Else what changes when something is.
    fn behind(&self) -> Option<(u64, u64)> {
        match &*self.stage.borrow() {
            Stage::Relays { source, sink } => {
                let waiting = ioctl_fionread(sink).unwrap_or(0);
                (waiting > 0 || is_ready(source.as_fd(), false)).then_some((self.moved.get(), waiting))
            }
            Stage::Appends(source) => is_ready(source.as_fd(), false).then(|| (self.moved.get(), 0)),
            Stage::Keeps(writer) => fifo::has_reader(writer.as_fd()).then(|| (0, ioctl_fionread(writer).unwrap_or(0))),
            Stage::Over => None,
        }
    }
}

/// Until there is a reader, and it has all. One that comes waits for a writer: closed before, it would wait for ever.
async fn until_read(writer: &OwnedFd) {
    let mut pause = LOOK;
    while !fifo::has_reader(writer.as_fd()) || ioctl_fionread(writer).is_ok_and(|waiting| waiting > 0) {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOK_SELDOM);
    }
}
