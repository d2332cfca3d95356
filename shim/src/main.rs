//! `containerd-shim-ferrun-v1`: what containerd talks to when a container runs with `io.containerd.ferrun.v1`.
//!
//! ```text
//! containerd ── start ──► this program ── the daemon, one for each pod ──► ferrun create, start, exec, kill, delete
//!            ◄─ address ─              ◄─ requests (ttrpc) ── events ─►
//! ```
//!
//! - [`flags`], [`bootstrap`], [`options`]: what containerd says when it starts one.
//! - [`start`], [`delete`], [`info`]: the commands. [`daemon`]: what stays.
//! - [`rpc`]: requests and answers. [`service`]: what is asked for. [`events`]: what containerd is told.
//! - [`container`], [`process`], [`runtime`], [`io`], [`reaper`]: what it is done with.
//! - [`metrics`], [`oom`], [`rootfs`], [`logger`]: what the service uses, each for itself.
//!
//! Invariants: one thread, so no locks but those that order operations; nothing that another process can hold up
//! (a FIFO, a log, a runtime) is waited for but in a task of its own. Every exit of a process is collected in one
//! place, and is on disk before it is told. `sys` has the only `unsafe`.

#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod bootstrap;
mod container;
mod convert;
mod daemon;
mod delete;
mod events;
mod failure;
mod files;
mod flags;
mod info;
mod io;
mod log;
mod logger;
mod metrics;
mod oom;
mod options;
mod process;
mod reaper;
mod rootfs;
mod rpc;
mod runtime;
mod service;
mod socket;
mod start;
mod sys;

use std::io::Write;
use std::process::ExitCode;

use ferrun::error::{Call, Error, Result};

use crate::flags::Flags;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // of `start` containerd shows what stands there
            let _ = writeln!(std::io::stderr(), "containerd-shim-ferrun-v1: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let flags = Flags::parse(arguments)?;
    if flags.version {
        return print(format!("containerd-shim-ferrun-v1 version {}\n", env!("CARGO_PKG_VERSION")).as_bytes());
    }
    if flags.info {
        return print(&info::info()?);
    }
    for (value, option) in [(&flags.namespace, "-namespace"), (&flags.id, "-id")] {
        if value.is_empty() {
            return Err(Error::new(format!("option {option} is wanted")));
        }
        // both become names of files
        ferrun::state::id::check(value).map_err(|error| error.within(option))?;
    }
    match flags.action.as_deref() {
        Some("start") => print(&start::start(&flags)?),
        Some("delete") => print(&delete::delete(&flags)?),
        Some(other) => Err(Error::new(format!("unknown command {other:?}"))),
        None => daemon::run(&flags),
    }
}

fn print(bytes: &[u8]) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).call(|| "write to stdout".to_owned())
}

/// All of stdin: containerd closes it.
fn stdin() -> Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::io::stdin().take(4 << 20).read_to_end(&mut bytes).call(|| "read stdin".to_owned())?;
    Ok(bytes)
}
