//! One more process for a container that runs.

use std::os::fd::OwnedFd;

use crate::cgroup;
use crate::config::Config;
use crate::container::exec::Target;
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::cgroupfs::Hierarchies;
use crate::plan::step::{Asset, Event};
use crate::sys::clone::Child;
use crate::sys::pidfd;

use super::channel::{Channel, Message};
use super::spawn::{self, HandOver, Hearing};
use super::{assets, terminal, tune};

/// All that an exec needs.
pub struct Order<'a> {
    pub target: &'a Target,
    /// The container's, with the process to be run.
    pub config: &'a Config,
    pub plan: &'a Plan,
    pub hand_over: HandOver,
}

/// The process, which runs the user's program.
pub struct Running {
    pub child: Child,
    /// The master of its terminal, where this process relays.
    pub console: Option<OwnedFd>,
}

/// Runs the process in the container whose init is behind `pidfd`.
///
/// # Errors
/// Any step's. The process is gone then.
pub fn exec(order: &Order<'_>, pidfd: OwnedFd) -> Result<Running> {
    let Order { target: Target { entry, record, init }, plan, .. } = order;
    let mut assets = assets::open_all(&plan.assets, entry)?;
    if let Some(place) = plan.assets.iter().position(|entry| entry.asset == Asset::Init) {
        assets[place] = Some(pidfd);
    }
    let state = |status: &str, _: i32| record.oci_state(status, init.pid);
    let of_init = || cgroup::of(init.pid);
    // one that was asked for is that or none
    let other: Option<spawn::OtherCgroup<'_>> = if plan.placement == record.placement { Some(&of_init) } else { None };
    let (child, channel) = spawn::spawn(plan, assets, &state, other)?;
    let mut birth = Birth { order, child: Some(child), console: None, handed_over: false };
    match birth.bring_up(&channel) {
        Ok(()) => {
            let Birth { child, console, .. } = birth;
            Ok(Running { child: child.ok_or_else(|| Error::new("no child was made"))?, console })
        }
        Err(error) => {
            birth.take_back();
            Err(error)
        }
    }
}

struct Birth<'a> {
    order: &'a Order<'a>,
    child: Option<Child>,
    console: Option<OwnedFd>,
    /// From then on the pid file is ours.
    handed_over: bool,
}

impl Birth<'_> {
    fn bring_up(&mut self, channel: &Channel) -> Result<()> {
        let Order { plan, hand_over, .. } = self.order;
        if !plan.is_reborn() {
            tune::all(&plan.after_clone, self.pid())?;
        }
        self.until_ready(channel)?;
        let pid = self.pid();
        tune::all(&plan.at_ready, pid)?;
        if let Some(child) = &self.child {
            self.handed_over = true;
            hand_over.run(child)?;
        }
        channel.send(&Message::Go { pid })?;
        spawn::until_exec(channel)
    }

    fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    fn until_ready(&mut self, channel: &Channel) -> Result<()> {
        let Order { config, plan, target: Target { record, .. }, .. } = self.order;
        let mut hearing = Hearing::new(channel, plan);
        loop {
            match hearing.next(self.child.as_ref())? {
                Some((Message::Event(Event::Ready), _)) => return Ok(()),
                Some((Message::Event(Event::Unplaced), _)) => {
                    self.place()?;
                    channel.send(&Message::Go { pid: self.pid() })?;
                }
                Some((Message::Spawned { pid }, Some(pidfd))) => {
                    spawn::succeed(&mut self.child, pid, pidfd)?;
                    tune::all(&plan.after_clone, pid)?;
                }
                Some((Message::Listener, Some(listener))) => {
                    spawn::send_listener(config, record, "running", self.pid(), &listener)?;
                }
                Some((Message::Console, master)) => {
                    // before there is a program that could ask
                    master.as_ref().into_iter().for_each(terminal::fit);
                    self.console = master;
                }
                Some((Message::Fault(error), _)) => return Err(error),
                Some((message, _)) => return Err(Error::new(format!("unexpected message: {message:?}"))),
                None => return Err(spawn::autopsy(self.child.take(), None)),
            }
        }
    }

    /// Into the container's cgroup, if the clone could not do it.
    fn place(&self) -> Result<()> {
        let Order { plan, target: Target { record, init, .. }, .. } = self.order;
        let own = cgroup::of(self.pid())?;
        let is_in =
            |hierarchies: &Hierarchies| matches!(hierarchies, Hierarchies::V2 { directory } if *directory == own);
        if is_in(&plan.placement.hierarchies) {
            return Ok(());
        }
        // where the init is, unless one was asked for
        let wanted = if plan.placement == record.placement {
            Hierarchies::V2 { directory: cgroup::of(init.pid)? }
        } else {
            plan.placement.hierarchies.clone()
        };
        if is_in(&wanted) { Ok(()) } else { cgroup::attach(&record.placement, &wanted, self.pid()) }
    }

    fn take_back(self) {
        if let Some(child) = self.child {
            let _ = pidfd::send_signal(&child.pidfd, libc::SIGKILL);
            let _ = pidfd::wait(&child.pidfd);
        }
        if self.handed_over {
            self.order.hand_over.take_back();
        }
    }
}
