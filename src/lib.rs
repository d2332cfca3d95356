//! Ferrun, a low-level OCI container runtime. How a container is born:
//!
//! ```text
//! bundle ─► Spec ─► Config ─► Plan ─► launch (parent) ─┬─► init (child): runs the steps, then execve
//!          (oci-   (checked, (pure,                    │
//!           spec)   filled)   printable)               └─► state record
//! ```
//!
//! - [`config`]: what config.json says, proved before anything is touched.
//! - [`host`]: what this machine is, as facts.
//! - [`plan`]: both, made into the flat list of all that will be done. No I/O.
//! - [`launch`]: the parent's side: opens, clones, waits, records.
//! - [`init`]: the child's side: one function for each step. It cannot name the config.
//! - [`cgroup`], [`hooks`], [`seccomp`], [`state`]: what these use.
//! - [`container`]: operations on containers that exist.
//! - [`cli`]: the verbs: parse, call one function of the library, print.
//! - [`sys`]: the only place with `unsafe`.
//!
//! Invariants: the process has one thread, always. Nothing is ever mounted in the host's mount namespace. Until
//! the root is entered, no name inside it is resolved but through [`sys::root`]. A failure leaves everything as if
//! the operation had never been tried. `tests/layering.rs` checks which module may use which.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests prepare what they need by path

pub mod cgroup;
pub mod cli;
pub mod config;
pub mod container;
pub mod error;
pub mod hooks;
pub mod host;
pub mod init;
pub mod launch;
pub mod log;
pub mod plan;
pub mod seccomp;
pub mod state;
pub mod sys;
