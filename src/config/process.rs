//! `/process`.

use oci_spec::runtime::{PosixRlimit, PosixRlimitType, Process as SpecProcess, User as SpecUser};

use super::at::{At, ROOT};
use super::{IdMaps, Process, Rlimit, User, capabilities, scheduling, security};
use crate::error::Result;

impl Process {
    /// `warnings` gains a line for each thing that is left out.
    pub fn check(process: &SpecProcess, warnings: &mut Vec<String>) -> Result<Self> {
        let at = ROOT.key("process");
        let terminal = process.terminal().unwrap_or_default();
        check_cwd(process, &at.key("cwd"))?;
        Ok(Self {
            terminal,
            console_size: if terminal { console_size(process, &at.key("consoleSize"))? } else { None },
            args: args(process.args().as_deref().unwrap_or_default(), &at.key("args"))?,
            env: env(process.env().as_deref().unwrap_or_default(), &at.key("env"))?,
            cwd: process.cwd().clone(),
            user: user(process.user(), &at.key("user"))?,
            rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default(), &at.key("rlimits"))?,
            capabilities: capabilities::check(process.capabilities().as_ref(), &at.key("capabilities"), warnings)?,
            no_new_privileges: process.no_new_privileges().unwrap_or_default(),
            oom_score_adj: oom_score_adj(process, &at.key("oomScoreAdj"))?,
            scheduler: scheduling::scheduler(process.scheduler().as_ref(), &at.key("scheduler"))?,
            io_priority: scheduling::io_priority(process.io_priority().as_ref(), &at.key("ioPriority"))?,
            exec_affinity: scheduling::exec_affinity(process.exec_cpu_affinity().as_ref(), &at.key("execCPUAffinity"))?,
            apparmor_profile: security::label(process.apparmor_profile().as_deref(), &at.key("apparmorProfile"))?,
            selinux_label: security::label(process.selinux_label().as_deref(), &at.key("selinuxLabel"))?,
        })
    }
}

impl Process {
    /// Nobody can become who is not mapped.
    pub(super) fn check_ids(&self, maps: &IdMaps) -> Result<()> {
        let at = ROOT.key("process");
        let at = at.key("user");
        maps.check_uid(self.user.uid, &at.key("uid"))?;
        maps.check_gid(self.user.gid, &at.key("gid"))?;
        let groups = self.user.additional_gids.iter().enumerate();
        let at = at.key("additionalGids");
        groups.into_iter().try_for_each(|(index, gid)| maps.check_gid(*gid, &at.index(index)))
    }
}

fn check_cwd(process: &SpecProcess, at: &At) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(at.missing());
    }
    at.absolute(process.cwd())
}

/// Only asked for with a terminal: without one the specification has it ignored.
fn console_size(process: &SpecProcess, at: &At) -> Result<Option<(u16, u16)>> {
    let Some(size) = process.console_size() else { return Ok(None) };
    let side = |key: &str, size: u64| {
        u16::try_from(size).map_err(|_| at.key(key).must("a whole number from 0 to 65535", size))
    };
    Ok(Some((side("height", size.height())?, side("width", size.width())?)))
}

pub(super) fn args(args: &[String], at: &At) -> Result<Vec<String>> {
    if args.is_empty() {
        return Err(at.error("args must not be empty"));
    }
    for (index, arg) in args.iter().enumerate() {
        at.index(index).no_nul(arg)?;
    }
    Ok(args.to_vec())
}

/// Each name once and the last of its values, as with runc: programs differ in which of two they take.
pub(super) fn env(env: &[String], at: &At) -> Result<Vec<String>> {
    let mut names: Vec<(&str, usize)> = Vec::with_capacity(env.len());
    for (index, entry) in env.iter().enumerate() {
        let at = at.index(index);
        match entry.split_once('=') {
            None => return Err(at.must("NAME=value", entry)),
            Some(("", _)) => return Err(at.error(format!("{} must be NAME=value, its name is empty", at.name()))),
            // no value is shown: it may be a secret
            Some((name, _)) if entry.contains('\0') => return Err(at.must("free of NUL bytes", format!("{name}=…"))),
            Some((name, _)) => names.push((name, index)),
        }
    }
    names.sort_unstable();
    let mut last: Vec<usize> = names
        .iter()
        .enumerate()
        .filter(|(position, (name, _))| names.get(position + 1).is_none_or(|(next, _)| next != name))
        .map(|(_, (_, index))| *index)
        .collect();
    last.sort_unstable();
    Ok(last.into_iter().filter_map(|index| env.get(index).cloned()).collect())
}

fn user(user: &SpecUser, at: &At) -> Result<User> {
    let additional_gids = user.additional_gids().as_deref().unwrap_or_default();
    check_id(user.uid(), &at.key("uid"))?;
    check_id(user.gid(), &at.key("gid"))?;
    for (index, gid) in additional_gids.iter().enumerate() {
        check_id(*gid, &at.key("additionalGids").index(index))?;
    }
    if let Some(umask) = user.umask().filter(|umask| *umask > 0o777) {
        return Err(at.key("umask").must("at most 511 (octal 777)", umask));
    }
    Ok(User { uid: user.uid(), gid: user.gid(), umask: user.umask(), additional_gids: additional_gids.to_vec() })
}

/// -1 means "leave it" to setresuid(2) and chown(2).
pub(super) fn check_id(id: u32, at: &At) -> Result<()> {
    if id == u32::MAX { Err(at.must("at most 4294967294", id)) } else { Ok(()) }
}

fn rlimits(rlimits: &[PosixRlimit], at: &At) -> Result<Vec<Rlimit>> {
    let mut checked: Vec<Rlimit> = Vec::with_capacity(rlimits.len());
    for (index, rlimit) in rlimits.iter().enumerate() {
        let at = at.index(index);
        let (resource, name) = resource(rlimit.typ());
        if checked.iter().any(|earlier| earlier.resource == resource) {
            return Err(at.key("type").must("given once only", name));
        }
        if rlimit.soft() > rlimit.hard() {
            let right = format!("at most the hard limit {} of {name}", rlimit.hard());
            return Err(at.key("soft").must(&right, rlimit.soft()));
        }
        checked.push(Rlimit { resource, name, soft: rlimit.soft(), hard: rlimit.hard() });
    }
    Ok(checked)
}

#[allow(clippy::unnecessary_cast, reason = "signed in musl, unsigned in glibc")]
fn resource(kind: PosixRlimitType) -> (u32, &'static str) {
    use PosixRlimitType as Type;
    let (resource, name) = match kind {
        Type::RlimitCpu => (libc::RLIMIT_CPU, "RLIMIT_CPU"),
        Type::RlimitFsize => (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
        Type::RlimitData => (libc::RLIMIT_DATA, "RLIMIT_DATA"),
        Type::RlimitStack => (libc::RLIMIT_STACK, "RLIMIT_STACK"),
        Type::RlimitCore => (libc::RLIMIT_CORE, "RLIMIT_CORE"),
        Type::RlimitRss => (libc::RLIMIT_RSS, "RLIMIT_RSS"),
        Type::RlimitNproc => (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
        Type::RlimitNofile => (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
        Type::RlimitMemlock => (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
        Type::RlimitAs => (libc::RLIMIT_AS, "RLIMIT_AS"),
        Type::RlimitLocks => (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
        Type::RlimitSigpending => (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
        Type::RlimitMsgqueue => (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
        Type::RlimitNice => (libc::RLIMIT_NICE, "RLIMIT_NICE"),
        Type::RlimitRtprio => (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
        Type::RlimitRttime => (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
    };
    (resource as u32, name)
}

fn oom_score_adj(process: &SpecProcess, at: &At) -> Result<Option<i32>> {
    match process.oom_score_adj() {
        Some(score) if !(-1000..=1000).contains(&score) => Err(at.must("from -1000 to 1000", score)),
        score => Ok(score),
    }
}
