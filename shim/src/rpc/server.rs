//! Answers requests, each in a task of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::{Code, Request, Response};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_local;

use super::frame::{self, Frame, MAX, REQUEST, RESPONSE};
use crate::failure::{Failure, Result};

/// What requests are for.
pub(crate) trait Handler: 'static {
    /// The answer to a request, which runs to its end whether or not somebody still waits for it.
    fn call(self: Rc<Self>, service: &str, method: &str, payload: &[u8]) -> impl Future<Output = Result<Vec<u8>>>;
}

/// How many there are.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Cell<usize>,
    change: Notify,
}

impl Connections {
    fn count(&self, change: impl Fn(usize) -> usize) {
        self.open.set(change(self.open.get()));
        self.change.notify_waiters();
    }

    pub(crate) async fn until_none(&self) {
        while self.open.get() > 0 {
            self.change.notified().await;
        }
    }

    pub(crate) async fn until_some(&self) {
        while self.open.get() == 0 {
            self.change.notified().await;
        }
    }
}

/// Answers who connects, for ever.
pub(crate) async fn serve(listener: UnixListener, handler: Rc<impl Handler>, connections: Rc<Connections>) {
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // out of fds: others may be closed meanwhile
                crate::log::warn(format!("accept: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if !is_allowed(&connection) {
            continue;
        }
        let (handler, connections) = (Rc::clone(&handler), Rc::clone(&connections));
        connections.count(|open| open + 1);
        spawn_local(async move {
            converse(connection, handler).await;
            connections.count(|open| open.saturating_sub(1));
        });
    }
}

/// The socket's mode keeps others out; this does so if somebody changes it.
fn is_allowed(connection: &UnixStream) -> bool {
    let us = rustix::process::geteuid().as_raw();
    match connection.peer_cred() {
        Ok(peer) if peer.uid() == 0 || peer.uid() == us => true,
        Ok(peer) => {
            crate::log::warn(format!("uid {} has connected, and is not answered", peer.uid()));
            false
        }
        Err(_) => false,
    }
}

async fn converse(connection: UnixStream, handler: Rc<impl Handler>) {
    let (mut reader, writer) = connection.into_split();
    let writer = Rc::new(Mutex::new(writer));
    loop {
        match next(&mut reader).await {
            Ok(Some(frame)) => {
                let (handler, writer) = (Rc::clone(&handler), Rc::clone(&writer));
                spawn_local(async move { answer(frame, handler, &writer).await });
            }
            Ok(None) => return,
            Err(error) => return crate::log::warn(format!("read a request: {error}")),
        }
    }
}

/// The next request. No method streams, so other frames have no meaning here.
async fn next(reader: &mut OwnedReadHalf) -> std::io::Result<Option<Frame>> {
    loop {
        match frame::read(reader).await? {
            Some(frame) if frame.kind != REQUEST => {}
            other => return Ok(other),
        }
    }
}

async fn answer(frame: Frame, handler: Rc<impl Handler>, writer: &Mutex<OwnedWriteHalf>) {
    let result = match Request::parse_from_bytes(&frame.payload) {
        Ok(request) => handler.call(&request.service, &request.method, &request.payload).await,
        Err(error) => Err(Failure::invalid(format!("read a request: {error}"))),
    };
    let mut response = respond(result);
    if response.len() > MAX {
        response = respond(Err(Failure::new(Code::RESOURCE_EXHAUSTED, "the answer is too long")));
    }
    let frame = Frame { stream: frame.stream, kind: RESPONSE, payload: response };
    // who has gone away needs no answer
    let _ = frame::write(&mut *writer.lock().await, &frame).await;
}

fn respond(result: Result<Vec<u8>>) -> Vec<u8> {
    let mut response = Response::new();
    match result {
        Ok(payload) => response.payload = payload,
        Err(failure) => {
            let status = response.status.mut_or_insert_default();
            status.code = failure.code.into();
            status.message = failure.words;
        }
    }
    response.write_to_bytes().unwrap_or_default()
}
