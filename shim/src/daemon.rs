//! The shim that stays: it answers until its last container is deleted and containerd tells it to go.

use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use ferrun::error::{Call, Error, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::set_child_subreaper;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::LocalSet;

use crate::events::Publisher;
use crate::flags::Flags;
use crate::reaper::Reaper;
use crate::rpc::{Connections, serve};
use crate::service::Service;
use crate::socket::Name;

/// How long containerd may take to learn the last events before we go.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a shim without containers waits for somebody to connect, or to tell it to go.
const IDLE: Duration = Duration::from_secs(10);

/// Until it is told to go, or has nothing to do.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let listener = UnixListener::from(crate::sys::inherited_socket().call(|| "take the socket".to_owned())?);
    let path = flags.socket.clone().ok_or_else(|| Error::new("option -socket is wanted"))?;
    let socket = Rc::new(Name::new(&path));
    let result = prepare(flags, &socket, listener);
    socket.remove();
    result
}

fn prepare(flags: &Flags, socket: &Rc<Name>, listener: UnixListener) -> Result<()> {
    crate::log::init(&flags.id, flags.debug);
    set_child_subreaper(rustix::process::Pid::from_raw(1)).call(|| "prctl PR_SET_CHILD_SUBREAPER".to_owned())?;
    let signals = signals().map_err(|errno| Error::os("signalfd", errno))?;
    listener.set_nonblocking(true).call(|| "fcntl O_NONBLOCK".to_owned())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.call(|| "make an event loop".to_owned())?;
    let served = LocalSet::new().block_on(&runtime, async {
        let signals = crate::sys::watch(signals, Interest::READABLE).call(|| "watch signals".to_owned())?;
        let listener = tokio::net::UnixListener::from_std(listener).call(|| "watch the socket".to_owned())?;
        live(flags, socket, listener, signals).await;
        Ok(())
    });
    // a task that waits for what does not come keeps nobody here
    runtime.shutdown_background();
    served
}

/// Blocked here, and at their defaults in every program that we start.
fn signals() -> nix::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

async fn live(flags: &Flags, socket: &Rc<Name>, listener: tokio::net::UnixListener, signals: AsyncFd<SignalFd>) {
    let reaper = Rc::new(Reaper::default());
    let publisher = Publisher::new(std::env::var(crate::start::EVENTS).ok().as_deref(), &flags.namespace);
    let service = Service::new(&flags.namespace, Rc::clone(socket), Rc::clone(&reaper), Rc::clone(&publisher));
    let connections = Rc::new(Connections::default());
    tokio::task::spawn_local(Rc::clone(&publisher).forward());
    tokio::task::spawn_local(serve(listener, Rc::clone(&service), Rc::clone(&connections)));
    tokio::select! {
        () = until_told_to_end(&signals, &reaper) => {}
        () = service.over.notified() => {}
        () = until_idle(&service, &connections) => {}
        () = until_forsaken(&service) => {}
    }
    socket.remove(); // nobody shall find us any more
    publisher.flush(LAST_WORDS).await;
}

/// Collects children until SIGTERM or SIGINT comes. Containers go on: who stops the shim has its reasons.
async fn until_told_to_end(signals: &AsyncFd<SignalFd>, reaper: &Reaper) {
    loop {
        let Ok(mut ready) = signals.readable().await else { return };
        let mut children = false;
        while let Ok(Some(signal)) = signals.get_ref().read_signal() {
            match i32::try_from(signal.ssi_signo).map(Signal::try_from) {
                Ok(Ok(Signal::SIGCHLD)) => children = true,
                Ok(Ok(Signal::SIGTERM | Signal::SIGINT)) => return,
                _ => {}
            }
        }
        ready.clear_ready();
        if children {
            reaper.collect();
        }
    }
}

/// Until there is no container and nobody has been connected for a while: a containerd that was killed between
/// `start` and `Create` leaves such a shim.
async fn until_idle(service: &Service, connections: &Connections) {
    loop {
        connections.until_none().await;
        let somebody = tokio::time::timeout(IDLE, connections.until_some()).await.is_ok();
        if !somebody && !service.has_containers() {
            return;
        }
        connections.until_some().await;
    }
}

/// Until the last container has been gone for a while and nobody has told us to go: a containerd that was killed
/// between `Delete` and `Shutdown` comes back, connects and knows nothing to ask.
async fn until_forsaken(service: &Service) {
    loop {
        service.until_containers(true).await;
        service.until_containers(false).await;
        if tokio::time::timeout(IDLE, service.until_containers(true)).await.is_err() {
            return;
        }
    }
}
