//! Landlock (landlock(7)) by annotations, until the specification has it: what the program may still reach. Whatever
//! is asked for is enforced, or is an error: nothing is left out because a kernel is too old.
//!
//! | annotation | value | from Linux |
//! |---|---|---|
//! | `dev.ferrun.landlock.read` | paths, by `:`, whose files and directories may be read | 6.10 |
//! | `dev.ferrun.landlock.execute` | read and executed | 6.10 |
//! | `dev.ferrun.landlock.write` | read, changed, made and removed, but not executed | 6.10 |
//! | `dev.ferrun.landlock.all` | all of these | 6.10 |
//! | `dev.ferrun.landlock.bind-tcp` | ports, by `,`, to listen on | 6.7 |
//! | `dev.ferrun.landlock.connect-tcp` | ports, by `,`, to connect to | 6.7 |
//! | `dev.ferrun.landlock.scope` | `signal`, `abstract-unix-socket`, by `,`: not beyond the container's process | 6.12 |
//!
//! With one of the first four, everything that none of them names is refused; with one of the next two, all other
//! ports. They want `noNewPrivileges`, and hold for `exec` as well.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Process;
use super::at::{At, ROOT};
use crate::error::Result;

/// All annotations that begin with this are rules.
pub const PREFIX: &str = "dev.ferrun.landlock.";

/// A rule set. None in a field: no rule of the kind, and nothing of it is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Landlock {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<PathRule>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_tcp: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect_tcp: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scope_signal: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scope_abstract_unix_socket: bool,
}

/// A file, or a directory with all that is below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathRule {
    /// Absolute, in the container.
    pub path: PathBuf,
    pub access: PathAccess,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PathAccess {
    Read,
    Execute,
    Write,
    All,
}

impl PathAccess {
    /// As the annotation ends.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Execute => "execute",
            Self::Write => "write",
            Self::All => "all",
        }
    }
}

/// The rules among the annotations; None: there are none.
pub(super) fn check(annotations: &BTreeMap<String, String>) -> Result<Option<Landlock>> {
    let at = ROOT.key("annotations");
    let mut landlock = None;
    for (key, value) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        rule(landlock.get_or_insert_default(), name, value, &at.key(key))?;
    }
    Ok(landlock)
}

/// landlock_restrict_self(2) wants it, or a privilege that the container should not have.
pub(super) fn check_process(landlock: Option<&Landlock>, process: &Process) -> Result<()> {
    if landlock.is_some() && !process.no_new_privileges {
        let at = ROOT.key("process");
        return Err(at.key("noNewPrivileges").error(format!("noNewPrivileges must be true for {PREFIX}* to hold")));
    }
    Ok(())
}

fn rule(landlock: &mut Landlock, name: &str, value: &str, at: &At) -> Result<()> {
    let accesses = [PathAccess::Read, PathAccess::Execute, PathAccess::Write, PathAccess::All];
    if let Some(access) = accesses.into_iter().find(|access| access.name() == name) {
        let rules = landlock.paths.get_or_insert_default();
        for path in value.split(':').filter(|path| !path.is_empty()) {
            rules.push(PathRule { path: at.inside(Path::new(path))?, access });
        }
        return Ok(());
    }
    match name {
        "bind-tcp" => landlock.bind_tcp = Some(ports(value, at)?),
        "connect-tcp" => landlock.connect_tcp = Some(ports(value, at)?),
        "scope" => scope(landlock, value, at)?,
        _ => return Err(at.error("no such rule: read, execute, write, all, bind-tcp, connect-tcp and scope are known")),
    }
    Ok(())
}

fn scope(landlock: &mut Landlock, value: &str, at: &At) -> Result<()> {
    for word in value.split(',') {
        match word {
            "signal" => landlock.scope_signal = true,
            "abstract-unix-socket" => landlock.scope_abstract_unix_socket = true,
            _ => return Err(at.must("signal, abstract-unix-socket or both, separated by a comma", value)),
        }
    }
    Ok(())
}

fn ports(value: &str, at: &At) -> Result<Vec<u16>> {
    let port =
        |text: &str| text.parse().map_err(|_| at.must("port numbers from 0 to 65535, separated by commas", value));
    value.split(',').filter(|text| !text.is_empty()).map(port).collect()
}
