//! Keyring, labels, sysctl, no_new_privs, seccomp and the like.

use std::ffi::CString;
use std::os::fd::AsFd;

use nix::sys::personality::Persona;

use crate::error::{Call, Context, Error, Result};
use crate::launch::channel::{Channel, Message};
use crate::plan::step::{MemoryPolicy, Seccomp, Sysctl};
use crate::sys::fd::Loose;
use crate::sys::proc::Proc;
use crate::sys::{key, mempolicy, seccomp as filter};

/// A used-up quota of keys, or a kernel without them, is no reason not to run.
pub(super) fn keyring(name: &str) -> Result<()> {
    let name = CString::new(name).map_err(|_| Error::new("a NUL in the name of a keyring"))?;
    if let Err(errno) = key::join_session(&name) {
        let error = Error::os("keyctl", errno).within("join a session keyring");
        let hint = if errno == rustix::io::Errno::DQUOT { "; kernel.keys.maxkeys is the limit" } else { "" };
        tracing::warn!("{error}{hint}: the container shares its caller's");
    }
    Ok(())
}

pub(super) fn not_dumpable() -> Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).call(|| "prctl PR_SET_DUMPABLE".to_owned())
}

pub(super) fn personality(domain: u32) -> Result<()> {
    nix::sys::personality::set(Persona::from_bits_retain(domain as i32)).call(|| "personality".to_owned()).map(drop)
}

pub(super) fn memory_policy(policy: &MemoryPolicy) -> Result<()> {
    mempolicy::set_mempolicy(policy.mode, &policy.nodes).call(|| "set_mempolicy".to_owned())
}

/// Through a procfs of our own: the container's may have anything mounted over it.
pub(super) fn sysctl(proc: &Proc, settings: &[Sysctl]) -> Result<()> {
    for Sysctl { name, path, value } in settings {
        write(proc, &format!("sys/{path}"), value)
            .context(|| format!("set sysctl {name} to {value}"))
            .at(|| format!("/linux/sysctl/{name}"))?;
    }
    Ok(())
}

fn write(proc: &Proc, path: &str, value: &str) -> Result<()> {
    let file = proc.open_for_writing(path).call(|| format!("open /proc/{path}"))?;
    rustix::io::write(file, value.as_bytes()).call(|| format!("write /proc/{path}")).map(drop)
}

pub(super) fn label(proc: &Proc, attribute: &str, label: &str) -> Result<()> {
    // /proc/thread-self is a link; the thread is the process here
    let number = proc.own_number().call(|| "readlink /proc/self".to_owned())?;
    let path = format!("{number}/attr/{attribute}");
    let file = Loose::from(proc.open_for_writing(&path).call(|| format!("open /proc/{path}"))?);
    let written = rustix::io::write(&*file, label.as_bytes()).call(|| format!("write /proc/{path}"));
    let explained = written.map(drop).map_err(|error| match attribute {
        "apparmor/exec" => explain_profile(error, label),
        _ => explain_label(error, attribute),
    });
    explained.context(|| format!("set the label {label}"))
}

/// Of `VERB PROFILE`: apparmor.d(5) writes a profile that is stacked with `&`.
fn explain_profile(error: Error, label: &str) -> Error {
    let (verb, profile) = label.split_once(' ').unwrap_or(("", label));
    match error.errno() {
        Some(libc::ENOENT) => error
            .cause(format!("the AppArmor profile {profile} is not loaded"))
            .hint("apparmor_parser -r FILE loads the profiles of a file"),
        Some(libc::EACCES | libc::EPERM) => {
            let stacked = if verb == "stack" { "&" } else { "" };
            error.hint(format!("the runtime's own profile must allow it: change_profile -> {stacked}{profile}"))
        }
        _ => error,
    }
}

/// SELinux says why in the audit log alone.
fn explain_label(error: Error, attribute: &str) -> Error {
    match error.errno() {
        Some(libc::EINVAL) => {
            let words = error.parts().cause.clone();
            error.cause(format!("{words}: the SELinux policy that is loaded has no such context"))
        }
        Some(libc::EACCES | libc::EPERM) => {
            let and = if attribute == "keycreate" { ", and create of such keys, class key" } else { "" };
            error.hint(format!("the SELinux policy must allow the runtime set{attribute}, class process{and}"))
        }
        _ => error,
    }
}

/// What SELinux wants of whoever labels files: of a file system or of a directory, each a class of its policy.
pub(super) fn explain_file_label(error: Error, label: &str, class: &str) -> Error {
    let error = match error.errno() {
        Some(libc::EINVAL) if error.parts().call.as_deref().is_some_and(|call| call.contains(label)) => {
            explain_label(error, "")
        }
        Some(libc::EACCES | libc::EPERM) => error.hint(format!(
            "for the label {label} the SELinux policy must allow the runtime relabelfrom and relabelto, class {class}"
        )),
        _ => return error,
    };
    error.at("/linux/mountLabel")
}

pub(super) fn no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).call(|| "prctl PR_SET_NO_NEW_PRIVS".to_owned())
}

pub(super) fn seccomp(channel: &Channel, seccomp: &Seccomp) -> Result<()> {
    let listener = filter::load(&seccomp.program, seccomp.flags)
        .context(|| format!("load the seccomp filter ({} instructions)", seccomp.program.len()))?;
    match listener {
        Some(listener) => channel.send_with(&Message::Listener, Some(listener.as_fd())),
        None => Ok(()),
    }
}
