//! SELinux's label of what is made for a container outside of it.

use rustix::fs::OFlags;

use crate::error::{Call, Context, Result};
use crate::sys::proc;

/// The sockets that `make` makes are the container's to talk to: setsockcreatecon(3).
pub(super) fn sockets<T>(label: Option<&str>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(label) = label else { return make() };
    sockcreate(label).context(|| format!("set the label {label}")).at(|| "/process/selinuxLabel".to_owned())?;
    let made = make();
    // what is made later for others must not have it
    sockcreate("").context(|| "take back the label of new sockets".to_owned())?;
    made
}

/// Outside of the container /proc is the host's own.
fn sockcreate(label: &str) -> Result<()> {
    let name = "attr/sockcreate";
    let file = proc::open_self(name, OFlags::WRONLY).call(|| format!("open /proc/self/{name}"))?;
    rustix::io::write(file, label.as_bytes()).call(|| format!("write /proc/self/{name}")).map(drop)
}
