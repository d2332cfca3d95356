//! The shim as containerd meets it: `start` in each dialect, requests over ttrpc (by the crate's client, which is not
//! the shim's own code), events to a server of the test's. Below it a stand-in for the runtime, a shell script: what
//! it makes are plain processes, so neither root nor namespaces are needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "task/bootstrap.rs"]
mod bootstrap;
#[path = "task/faults.rs"]
mod faults;
#[path = "task/life.rs"]
mod life;
#[path = "task/output.rs"]
mod output;
#[path = "task/security.rs"]
mod security;
#[path = "task/world.rs"]
mod world;
