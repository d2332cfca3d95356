//! Events for containerd, in the order in which they happened. What it misses while it restarts, it is told later.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ForwardRequest;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::shim::event::Envelope;
use tokio::sync::Notify;

use crate::convert::{any, timestamp};
use crate::rpc::Client;

/// More than can happen in a restart; beyond it the oldest are lost.
const MOST: usize = 4096;

/// How long containerd may take to take one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
const LONG_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Publisher {
    /// containerd's socket. None: nobody is to be told.
    address: Option<PathBuf>,
    namespace: String,
    queue: RefCell<VecDeque<ForwardRequest>>,
    more: Notify,
    empty: Notify,
    lost: Cell<u64>,
}

impl Publisher {
    /// `address`: a path, with or without `unix://`.
    pub(crate) fn new(address: Option<&str>, namespace: &str) -> Rc<Self> {
        let path = address.map(|address| address.strip_prefix("unix://").unwrap_or(address));
        Rc::new(Self {
            address: path.filter(|path| !path.is_empty()).map(PathBuf::from),
            namespace: namespace.to_owned(),
            queue: RefCell::default(),
            more: Notify::new(),
            empty: Notify::new(),
            lost: Cell::new(0),
        })
    }

    pub(crate) fn publish(&self, topic: &str, event: &impl Message) {
        crate::log::debug(format!("event {topic}"));
        if self.address.is_none() {
            return;
        }
        let mut envelope = Envelope::new();
        envelope.timestamp = Some(timestamp(SystemTime::now())).into();
        envelope.namespace = self.namespace.clone();
        envelope.topic = topic.to_owned();
        envelope.event = Some(any("containerd.events", event)).into();
        let request = ForwardRequest { envelope: Some(envelope).into(), ..ForwardRequest::default() };
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= MOST {
            queue.pop_front();
            self.lost.set(self.lost.get() + 1);
        }
        queue.push_back(request);
        self.more.notify_one();
    }

    /// Tells containerd, for ever.
    pub(crate) async fn forward(self: Rc<Self>) {
        let Some(address) = self.address.clone() else { return };
        let mut client = None;
        let mut pause = PAUSE;
        loop {
            let Some(next) = self.queue.borrow().front().cloned() else {
                self.empty.notify_waiters();
                self.more.notified().await;
                continue;
            };
            match tell(&mut client, &address, &next).await {
                Ok(()) => {
                    pause = PAUSE;
                    let mut queue = self.queue.borrow_mut();
                    // it may have been lost meanwhile
                    if queue.front() == Some(&next) {
                        queue.pop_front();
                    }
                }
                Err(error) => {
                    client = None;
                    crate::log::debug(format!("containerd at {}: {error}", address.display()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONG_PAUSE);
                }
            }
        }
    }

    /// Until containerd knows all, or `limit`.
    pub(crate) async fn flush(&self, limit: Duration) {
        let all = async {
            while self.address.is_some() && !self.queue.borrow().is_empty() {
                self.empty.notified().await;
            }
        };
        let _ = tokio::time::timeout(limit, all).await;
    }
}

/// # Errors
/// containerd is not there, or does not answer. That it does not want this event is none: it would not later either.
async fn tell(client: &mut Option<Client>, address: &Path, request: &ForwardRequest) -> std::io::Result<()> {
    let payload = request.write_to_bytes().map_err(std::io::Error::other)?;
    let tell = async {
        let client = match client {
            Some(client) => client,
            None => client.insert(Client::connect(address).await?),
        };
        client.call("containerd.services.events.ttrpc.v1.Events", "Forward", payload).await
    };
    match tokio::time::timeout(PATIENCE, tell).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(failure))) => {
            crate::log::warn(format!("containerd refuses an event: {}", failure.words));
            Ok(())
        }
        Ok(Err(error)) => Err(error),
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}
