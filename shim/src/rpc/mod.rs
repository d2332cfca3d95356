//! ttrpc: https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md. The messages are the crate's; the server and the
//! client are our own, because the crate's server drops a request that is under way when its caller goes away or its
//! time is up: a create would be left where it was.

mod client;
mod frame;
mod server;

pub(crate) use client::Client;
pub(crate) use server::{Connections, Handler, serve};
