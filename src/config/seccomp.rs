//! `linux.seccomp`: the untrusted profile and the trusted one.
//!
//! Owns the profile's data types and their checks. Knows no system call number and no BPF: a name that no
//! architecture has is found, and left out, where the profile is compiled (`crate::seccomp`).

use std::path::PathBuf;

use oci_spec::runtime::{
    Arch as SpecArch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use serde::Serialize;

use crate::error::{Error, Result};

/// Where the profile is in config.json.
pub const POINTER: &str = "/linux/seccomp";

/// The largest error number that the kernel returns from a filter; it would clamp a larger one.
const MAX_ERRNO: u32 = 4095;
/// A system call has six arguments.
const MAX_ARG: usize = 5;

/// A checked profile: every default is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seccomp {
    pub default_action: Action,
    /// The native one first, each once.
    pub architectures: Vec<Arch>,
    /// `SECCOMP_FILTER_FLAG_*`, complete: what seccomp(2) is to be called with.
    pub flags: u32,
    /// In the profile's order.
    pub rules: Vec<Rule>,
    /// Who answers the notifications; there if and only if a rule notifies.
    pub listener: Option<Listener>,
}

impl Seccomp {
    /// False if the filter would refuse nothing. Such a profile is not loaded, as in runc: a filter
    /// would still kill the calls of foreign architectures.
    pub fn restricts(&self) -> bool {
        self.default_action != Action::Allow || !self.rules.is_empty()
    }
}

/// What becomes of a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    KillThread,
    KillProcess,
    Trap,
    Errno(u16),
    Notify,
    Trace(u16),
    Log,
    Allow,
}

/// What to do with calls of these names whose arguments meet all conditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    /// No two about the same argument.
    pub conditions: Vec<Condition>,
}

/// `args[index] op value`; for [`Op::MaskedEq`] `args[index] & value == value_two`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Condition {
    pub index: u8,
    pub value: u64,
    pub value_two: u64,
    pub op: Op,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

/// The seccomp agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    pub path: PathBuf,
    pub metadata: Option<String>,
}

/// An architecture, in the sense of a set of system call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    X86,
    #[serde(rename = "x86_64")]
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Ppc,
    Ppc64,
    Ppc64le,
    S390,
    S390x,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

impl Arch {
    /// The architecture that this runtime, and so the container's kernel, is of.
    pub const NATIVE: Self = native();
}

const fn native() -> Arch {
    let little = cfg!(target_endian = "little");
    if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) {
        Arch::X32
    } else if cfg!(target_arch = "x86_64") {
        Arch::X86_64
    } else if cfg!(target_arch = "x86") {
        Arch::X86
    } else if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else if cfg!(target_arch = "arm") {
        Arch::Arm
    } else if cfg!(target_arch = "riscv64") {
        Arch::Riscv64
    } else if cfg!(target_arch = "loongarch64") {
        Arch::Loongarch64
    } else if cfg!(target_arch = "s390x") {
        Arch::S390x
    } else if cfg!(target_arch = "powerpc64") {
        if little { Arch::Ppc64le } else { Arch::Ppc64 }
    } else if cfg!(target_arch = "powerpc") {
        Arch::Ppc
    } else if cfg!(target_arch = "mips64") {
        if little { Arch::Mipsel64 } else { Arch::Mips64 }
    } else if cfg!(target_arch = "mips") {
        if little { Arch::Mipsel } else { Arch::Mips }
    } else {
        // evaluated at compile time: a build error, never a panic
        unreachable!()
    }
}

/// Turns the profile of config.json into a trusted one.
pub fn check(spec: &LinuxSeccomp) -> Result<Seccomp> {
    let default_action = action(spec.default_action(), spec.default_errno_ret(), "/defaultErrnoRet")?;
    if default_action == Action::Notify {
        return Err(wrong("/defaultAction", "SCMP_ACT_NOTIFY cannot be the default action")
            .hint("name the system calls to be notified of in a rule"));
    }
    let mut rules = Vec::new();
    for (number, syscall) in spec.syscalls().iter().flatten().enumerate() {
        check_rule(syscall, number, &mut rules)?;
    }
    let listener = listener(spec, &rules)?;
    Ok(Seccomp {
        default_action,
        architectures: architectures(spec),
        flags: flags(spec, listener.is_some()),
        rules,
        listener,
    })
}

fn wrong(pointer: &str, cause: impl Into<String>) -> Error {
    Error::new(cause).at(format!("{POINTER}{pointer}"))
}

fn action(action: LinuxSeccompAction, errno: Option<u32>, pointer: &str) -> Result<Action> {
    // the spec: an errno for an action that has none MUST be an error
    let without_errno = |plain: Action| match errno {
        None => Ok(plain),
        Some(errno) => Err(wrong(pointer, format!("error number {errno} given, but {action} has none"))
            .hint("only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take one")),
    };
    let data = |limit: u32| {
        let errno = errno.unwrap_or(libc::EPERM as u32);
        match u16::try_from(errno) {
            Ok(data) if errno <= limit => Ok(data),
            _ => Err(wrong(pointer, format!("error number {errno} of {action} is above {limit}"))),
        }
    };
    match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => without_errno(Action::KillThread),
        LinuxSeccompAction::ScmpActKillProcess => without_errno(Action::KillProcess),
        LinuxSeccompAction::ScmpActTrap => without_errno(Action::Trap),
        LinuxSeccompAction::ScmpActErrno => data(MAX_ERRNO).map(Action::Errno),
        LinuxSeccompAction::ScmpActNotify => without_errno(Action::Notify),
        LinuxSeccompAction::ScmpActTrace => data(u32::from(u16::MAX)).map(Action::Trace),
        LinuxSeccompAction::ScmpActLog => without_errno(Action::Log),
        LinuxSeccompAction::ScmpActAllow => without_errno(Action::Allow),
    }
}

fn check_rule(syscall: &LinuxSyscall, number: usize, rules: &mut Vec<Rule>) -> Result<()> {
    let base = format!("/syscalls/{number}");
    let action = action(syscall.action(), syscall.errno_ret(), &format!("{base}/errnoRet"))?;
    if syscall.names().is_empty() {
        return Err(wrong(&format!("{base}/names"), "no system call is named").hint("name at least one"));
    }
    for (position, name) in syscall.names().iter().enumerate() {
        if name.is_empty() {
            return Err(wrong(&format!("{base}/names/{position}"), "the name of a system call is empty"));
        }
        // the init passes the listener on by writing to the runtime, after the filter is in force:
        // it would wait for an agent that does not exist yet
        if action == Action::Notify && name == "write" {
            return Err(wrong(
                &format!("{base}/names/{position}"),
                "SCMP_ACT_NOTIFY cannot be used for the write system call",
            ));
        }
    }
    let conditions = conditions(syscall.args().as_deref().unwrap_or_default(), &base)?;
    let rule = |conditions| Rule { names: syscall.names().clone(), action, conditions };
    if shares_argument(&conditions) {
        // libseccomp once could not express two conditions on an argument, so runc made them
        // alternatives, and profiles rely on it
        rules.extend(conditions.into_iter().map(|condition| rule(vec![condition])));
    } else {
        rules.push(rule(conditions));
    }
    Ok(())
}

fn conditions(args: &[LinuxSeccompArg], base: &str) -> Result<Vec<Condition>> {
    args.iter()
        .enumerate()
        .map(|(position, arg)| {
            let index = u8::try_from(arg.index()).ok().filter(|_| arg.index() <= MAX_ARG).ok_or_else(|| {
                wrong(
                    &format!("{base}/args/{position}/index"),
                    format!("argument index {} is above {MAX_ARG}", arg.index()),
                )
            })?;
            let op = match arg.op() {
                LinuxSeccompOperator::ScmpCmpNe => Op::Ne,
                LinuxSeccompOperator::ScmpCmpLt => Op::Lt,
                LinuxSeccompOperator::ScmpCmpLe => Op::Le,
                LinuxSeccompOperator::ScmpCmpEq => Op::Eq,
                LinuxSeccompOperator::ScmpCmpGe => Op::Ge,
                LinuxSeccompOperator::ScmpCmpGt => Op::Gt,
                LinuxSeccompOperator::ScmpCmpMaskedEq => Op::MaskedEq,
            };
            Ok(Condition { index, value: arg.value(), value_two: arg.value_two().unwrap_or(0), op })
        })
        .collect()
}

fn shares_argument(conditions: &[Condition]) -> bool {
    let mut seen = [false; MAX_ARG + 1];
    conditions.iter().any(|condition| std::mem::replace(&mut seen[usize::from(condition.index)], true))
}

fn listener(spec: &LinuxSeccomp, rules: &[Rule]) -> Result<Option<Listener>> {
    let metadata = spec.listener_metadata().clone().filter(|metadata| !metadata.is_empty());
    let notifies = rules.iter().any(|rule| rule.action == Action::Notify);
    let path = spec.listener_path().clone().filter(|path| !path.as_os_str().is_empty());
    match path {
        None if metadata.is_some() => Err(wrong("/listenerMetadata", "listenerMetadata is set without a listenerPath")),
        None if notifies => Err(wrong("/listenerPath", "SCMP_ACT_NOTIFY is used without a listenerPath")
            .hint("set listenerPath to the socket of the seccomp agent")),
        None => Ok(None),
        Some(path) if !path.is_absolute() => {
            Err(wrong("/listenerPath", format!("{} is not an absolute path", path.display())))
        }
        Some(path) => Ok(notifies.then_some(Listener { path, metadata })),
    }
}

fn architectures(spec: &LinuxSeccomp) -> Vec<Arch> {
    let mut all = vec![Arch::NATIVE];
    for arch in spec.architectures().iter().flatten().map(|arch| checked_arch(*arch)) {
        if !all.contains(&arch) {
            all.push(arch);
        }
    }
    all
}

fn checked_arch(arch: SpecArch) -> Arch {
    match arch {
        SpecArch::ScmpArchNative => Arch::NATIVE,
        SpecArch::ScmpArchX86 => Arch::X86,
        SpecArch::ScmpArchX86_64 => Arch::X86_64,
        SpecArch::ScmpArchX32 => Arch::X32,
        SpecArch::ScmpArchArm => Arch::Arm,
        SpecArch::ScmpArchAarch64 => Arch::Aarch64,
        SpecArch::ScmpArchMips => Arch::Mips,
        SpecArch::ScmpArchMips64 => Arch::Mips64,
        SpecArch::ScmpArchMips64n32 => Arch::Mips64n32,
        SpecArch::ScmpArchMipsel => Arch::Mipsel,
        SpecArch::ScmpArchMipsel64 => Arch::Mipsel64,
        SpecArch::ScmpArchMipsel64n32 => Arch::Mipsel64n32,
        SpecArch::ScmpArchPpc => Arch::Ppc,
        SpecArch::ScmpArchPpc64 => Arch::Ppc64,
        SpecArch::ScmpArchPpc64le => Arch::Ppc64le,
        SpecArch::ScmpArchS390 => Arch::S390,
        SpecArch::ScmpArchS390x => Arch::S390x,
        SpecArch::ScmpArchParisc => Arch::Parisc,
        SpecArch::ScmpArchParisc64 => Arch::Parisc64,
        SpecArch::ScmpArchRiscv64 => Arch::Riscv64,
        SpecArch::ScmpArchLoongarch64 => Arch::Loongarch64,
        SpecArch::ScmpArchM68k => Arch::M68k,
        SpecArch::ScmpArchSh => Arch::Sh,
        SpecArch::ScmpArchSheb => Arch::Sheb,
    }
}

fn flags(spec: &LinuxSeccomp, listens: bool) -> u32 {
    let Some(flags) = spec.flags() else {
        // not even an empty list: runc's default, without which the speculative store bypass
        // mitigation slows the whole container down
        return libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32 | new_listener(listens);
    };
    let bits = flags.iter().fold(0, |bits, flag| {
        bits | match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => libc::SECCOMP_FILTER_FLAG_TSYNC as u32,
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG as u32,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
            // EINVAL without a listener, for whom alone it has a meaning
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv if listens => {
                libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV as u32
            }
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 0,
        }
    });
    let both = bits & libc::SECCOMP_FILTER_FLAG_TSYNC as u32 != 0 && listens;
    // a positive result could be a thread or a listener: the kernel insists on the distinction
    let distinct = if both { libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32 } else { 0 };
    bits | distinct | new_listener(listens)
}

fn new_listener(listens: bool) -> u32 {
    if listens { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32 } else { 0 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn profile(value: Value) -> Result<Seccomp> {
        check(&serde_json::from_value(value).unwrap())
    }

    /// The profile `{defaultAction: ERRNO, syscalls: [rule]}` and more fields.
    fn with_rule(rule: Value, more: Value) -> Result<Seccomp> {
        let mut value = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]});
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        profile(value)
    }

    fn message(result: Result<Seccomp>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_filled() {
        let seccomp = profile(json!({"defaultAction": "SCMP_ACT_ERRNO"})).unwrap();
        assert_eq!(seccomp.default_action, Action::Errno(1));
        assert_eq!(seccomp.architectures, [Arch::NATIVE]);
        assert_eq!(seccomp.flags, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
        assert!(seccomp.restricts());
        assert!(!profile(json!({"defaultAction": "SCMP_ACT_ALLOW"})).unwrap().restricts());
    }

    #[test]
    fn errno_is_resolved() {
        let seccomp = profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["a"], "action": "SCMP_ACT_TRACE", "errnoRet": 65535},
            {"names": ["b"], "action": "SCMP_ACT_TRACE"},
            {"names": ["c"], "action": "SCMP_ACT_KILL"}]}))
        .unwrap();
        assert_eq!(seccomp.default_action, Action::Errno(38));
        let actions: Vec<_> = seccomp.rules.iter().map(|rule| rule.action).collect();
        assert_eq!(actions, [Action::Trace(65535), Action::Trace(1), Action::KillThread]);
    }

    #[test]
    fn mistakes_name_the_place() {
        let cases = [
            (
                profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096})),
                "error number 4096 of SCMP_ACT_ERRNO is above 4095 (config.json /linux/seccomp/defaultErrnoRet)",
            ),
            (
                with_rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}), json!({})),
                "error number 1 given, but SCMP_ACT_ALLOW has none (config.json /linux/seccomp/syscalls/0/errnoRet); only SCMP_ACT_ERRNO and SCMP_ACT_TRACE take one",
            ),
            (
                profile(json!({"defaultAction": "SCMP_ACT_NOTIFY"})),
                "SCMP_ACT_NOTIFY cannot be the default action (config.json /linux/seccomp/defaultAction); name the system calls to be notified of in a rule",
            ),
            (
                with_rule(json!({"names": ["read", "write"], "action": "SCMP_ACT_NOTIFY"}), json!({})),
                "SCMP_ACT_NOTIFY cannot be used for the write system call (config.json /linux/seccomp/syscalls/0/names/1)",
            ),
            (
                with_rule(json!({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}), json!({})),
                "SCMP_ACT_NOTIFY is used without a listenerPath (config.json /linux/seccomp/listenerPath); set listenerPath to the socket of the seccomp agent",
            ),
            (
                profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerPath": "run/agent"})),
                "run/agent is not an absolute path (config.json /linux/seccomp/listenerPath)",
            ),
            (
                profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "listenerMetadata": "x"})),
                "listenerMetadata is set without a listenerPath (config.json /linux/seccomp/listenerMetadata)",
            ),
            (
                with_rule(
                    json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [
                        {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}),
                    json!({}),
                ),
                "argument index 6 is above 5 (config.json /linux/seccomp/syscalls/0/args/1/index)",
            ),
            (
                with_rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"}), json!({})),
                "no system call is named (config.json /linux/seccomp/syscalls/0/names); name at least one",
            ),
            (
                with_rule(json!({"names": ["read", ""], "action": "SCMP_ACT_ALLOW"}), json!({})),
                "the name of a system call is empty (config.json /linux/seccomp/syscalls/0/names/1)",
            ),
        ];
        for (result, expected) in cases {
            assert_eq!(message(result), expected);
        }
    }

    #[test]
    fn conditions_on_one_argument_are_alternatives() {
        let arg = |index: u8, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
        let rule = |args: Value| json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args});
        let seccomp = with_rule(rule(json!([arg(1, 5), arg(2, 6), arg(1, 7)])), json!({})).unwrap();
        let values: Vec<Vec<u64>> =
            seccomp.rules.iter().map(|rule| rule.conditions.iter().map(|c| c.value).collect()).collect();
        assert_eq!(values, [[5], [6], [7]]);
        let seccomp = with_rule(rule(json!([arg(1, 5), arg(2, 6)])), json!({})).unwrap();
        assert_eq!(seccomp.rules.len(), 1);
    }

    #[test]
    fn listener_is_there_if_a_rule_notifies() {
        let more = json!({"listenerPath": "/run/agent", "listenerMetadata": "m", "flags":
            ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]});
        let seccomp = with_rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}), more.clone()).unwrap();
        assert_eq!(seccomp.listener, Some(Listener { path: "/run/agent".into(), metadata: Some("m".into()) }));
        assert_eq!(seccomp.flags, 1 | 2 | 8 | 16 | 32);
        let seccomp = with_rule(json!({"names": ["mkdir"], "action": "SCMP_ACT_ALLOW"}), more).unwrap();
        assert_eq!(seccomp.listener, None);
        assert_eq!(seccomp.flags, 1 | 2);
    }

    #[test]
    fn architectures_are_native_first_and_once() {
        let seccomp = profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": [],
            "architectures": ["SCMP_ARCH_S390X", "SCMP_ARCH_NATIVE", "SCMP_ARCH_X32", "SCMP_ARCH_X32", "SCMP_ARCH_SHEB"]}))
        .unwrap();
        assert_eq!(seccomp.architectures[0], Arch::NATIVE);
        assert!(seccomp.architectures.len() <= 4);
        assert_eq!(seccomp.flags, 0);
    }
}
