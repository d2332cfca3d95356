//! `run`: create and start in one; in the foreground until the container ends.

use clap::Parser;

use crate::container::delete;
use crate::container::notify::Notify;
use crate::error::{Context, Result};
use crate::hooks;
use crate::launch::create::{Born, Order, create};
use crate::launch::foreground::{Signals, supervise};
use crate::plan::Start;
use crate::state::store::Store;

use super::Options;
use super::bundle::{self, BundleOptions};

/// Create and start a container.
#[derive(Debug, Parser)]
#[command(name = "run")]
pub(super) struct Arguments {
    #[command(flatten)]
    bundle: BundleOptions,
    /// Return when the program runs
    #[arg(long, short)]
    detach: bool,
    /// Keep the container's state when it has ended
    #[arg(long)]
    keep: bool,
    /// Leave the container's orphans to the init of the host
    #[arg(long)]
    no_subreaper: bool,
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let id = arguments.id.clone();
    run(&arguments, options).context(|| bundle::name("run", &id))
}

fn run(arguments: &Arguments, options: &Options) -> Result<i32> {
    let bundle = bundle::read(&arguments.id, &arguments.bundle, options, Start::Now, !arguments.detach)?;
    bundle::warn(&bundle.plan);
    if !arguments.detach && !arguments.no_subreaper {
        // any pid stands for yes
        rustix::process::set_child_subreaper(Some(rustix::process::Pid::INIT))
            .map_err(|errno| crate::error::Error::os("prctl PR_SET_CHILD_SUBREAPER", errno))?;
    }
    let signals = if arguments.detach { None } else { Some(Signals::block()?) };
    let store = options.store();
    let order = Order {
        store: &store,
        config: &bundle.config,
        plan: &bundle.plan,
        request: &bundle.request,
        config_json: &bundle.config_json,
        hand_over: arguments.bundle.hand_over(),
    };
    let mut born = create(&order)?;
    let result = accompany(&mut born, signals.as_ref());
    if arguments.detach || arguments.keep {
        return result;
    }
    finish(&store, &born, result)
}

/// From the execve on: poststart hooks, notifications, and in the foreground all the rest of its life.
fn accompany(born: &mut Born, signals: Option<&Signals>) -> Result<i32> {
    hooks::run("poststart", &born.record.poststart, &born.record.oci_state("running", born.child.pid))?;
    // others may work on it now
    born.entry.unlock()?;
    let notify = born.notify.take();
    match signals {
        Some(signals) => {
            let notify = notify.map(Notify::of_this_process);
            supervise(&born.child, signals, born.console.take(), notify.as_ref())
        }
        None => {
            if let Some(notify) = notify {
                notify.until_ready(born.child.pid, std::os::fd::AsFd::as_fd(&born.child.pidfd))?;
            }
            Ok(0)
        }
    }
}

/// The container is gone, or must go because we cannot watch it any more.
fn finish(store: &Store, born: &Born, result: Result<i32>) -> Result<i32> {
    if result.is_err() {
        let _ = crate::sys::pidfd::send_signal(&born.child.pidfd, libc::SIGKILL);
        let _ = crate::sys::pidfd::wait(&born.child.pidfd);
    }
    let cleaned = clean_up(store, born);
    let status = result?;
    cleaned?;
    Ok(status)
}

fn clean_up(store: &Store, born: &Born) -> Result<()> {
    match born.entry.lock() {
        Ok(()) => delete::clean_up(store, &born.entry, &born.record),
        // somebody else has deleted it
        Err(_) if !born.entry.is_current()? => Ok(()),
        Err(error) => Err(error),
    }
}
