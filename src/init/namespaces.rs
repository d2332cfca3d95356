//! Namespaces: joined, unshared, and what is set up in them.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};

use crate::error::{Call, Context, Result};
use crate::plan::step::{NamespaceKind, TimeOffset};
use crate::sys::{clone, ioctl, proc};

use super::identity;

pub(super) fn join(kind: NamespaceKind, namespace: BorrowedFd<'_>) -> Result<()> {
    if kind == NamespaceKind::User {
        identity::leave_groups();
    }
    clone::setns(namespace, kind.flag())
        .call(|| "setns".to_owned())
        .context(|| format!("join the {kind:?} namespace").to_lowercase())
}

/// Enters those of the process behind `init`. With the mount namespace comes its root.
pub(super) fn enter(init: BorrowedFd<'_>, namespaces: &[NamespaceKind]) -> Result<Option<OwnedFd>> {
    let flags = namespaces.iter().fold(0, |flags, kind| flags | kind.flag());
    if namespaces.contains(&NamespaceKind::User) {
        identity::leave_groups();
    }
    let enter = || {
        clone::setns(init, flags).call(|| "setns".to_owned())?;
        if !namespaces.contains(&NamespaceKind::Mount) {
            return Ok(None);
        }
        open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .call(|| "open /".to_owned())
            .map(Some)
    };
    enter().context(|| "enter the container's namespaces".to_owned())
}

pub(super) fn unshare(namespaces: &[NamespaceKind]) -> Result<()> {
    let flags = namespaces.iter().fold(0, |flags, kind| flags | kind.flag());
    let names = || namespaces.iter().map(|kind| format!("{kind:?}").to_lowercase()).collect::<Vec<_>>().join(", ");
    clone::unshare(flags).call(|| "unshare".to_owned()).context(|| format!("make namespaces ({})", names()))
}

/// unshare(2) makes a time namespace for children only: time_namespaces(7). The offsets must be written
/// before anybody enters it; then this very process does.
pub(super) fn enter_time(offsets: &[TimeOffset]) -> Result<()> {
    if !offsets.is_empty() {
        let lines: String =
            offsets.iter().map(|offset| format!("{} {} {}\n", offset.clock, offset.secs, offset.nanosecs)).collect();
        let file = proc::open_self("timens_offsets", OFlags::WRONLY).call(|| "open".to_owned());
        file.and_then(|file| rustix::io::write(file, lines.as_bytes()).call(|| "write".to_owned()))
            .context(|| "set the offsets of the time namespace".to_owned())?;
    }
    proc::open_self("ns/time_for_children", OFlags::RDONLY)
        .and_then(|namespace| clone::setns(namespace, NamespaceKind::Time.flag()))
        .call(|| "setns".to_owned())
        .context(|| "enter the time namespace".to_owned())
}

pub(super) fn loopback() -> Result<()> {
    ioctl::loopback_up()
        .call(|| "ioctl SIOCSIFFLAGS".to_owned())
        .context(|| "bring the loopback interface up".to_owned())
}

pub(super) fn hostname(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes())
        .call(|| "sethostname".to_owned())
        .context(|| format!("set the host name {name}"))
}

pub(super) fn domainname(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes())
        .call(|| "setdomainname".to_owned())
        .context(|| format!("set the domain name {name}"))
}
