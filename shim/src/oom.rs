//! Tells when the kernel killed a process of a container for want of memory.

use ferrun::cgroup::events::OomWatch;
use ferrun::error::Call;
use ferrun::plan::cgroupfs::Placement;
use rustix::event::PollFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::failure::Result;
use crate::sys;

/// Watches the memory cgroup of one container. One task of tokio's, on its only thread, awaits [`Watch::next`].
#[derive(Debug)]
pub(crate) struct Watch {
    memory: AsyncFd<OomWatch>,
    interest: Interest,
}

impl Watch {
    /// None: nobody counts memory there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn open(placement: &Placement) -> Result<Option<Self>> {
        let Some(watch) = OomWatch::new(placement)? else { return Ok(None) };
        let interest = if watch.flags() == PollFlags::PRI { Interest::PRIORITY } else { Interest::READABLE };
        let memory = sys::watch(watch, interest).call(|| "epoll_ctl memory events".to_owned())?;
        Ok(Some(Self { memory, interest }))
    }

    /// Returns when it has happened (again). The removal of the cgroup is not told of: whoever deletes the
    /// container drops this. None: the event loop ends.
    pub(crate) async fn next(&mut self) -> Option<()> {
        loop {
            let mut guard = self.memory.ready_mut(self.interest).await.ok()?;
            // before the look, so that what happens meanwhile wakes us again
            guard.clear_ready();
            if guard.get_inner_mut().happened() {
                return Some(());
            }
        }
    }
}
