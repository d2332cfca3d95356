//! An interpreter of filters, and what the rules of a profile say word for word. Of the library alone, so that
//! `hack/fuzz` uses it too.

use ferrun::config::seccomp::{Action, Arch, Condition, Op, Rule, Seccomp};
use ferrun::seccomp::Instruction;

pub(crate) const X86_64: u32 = 0xc000_003e;
pub(crate) const I386: u32 = 0x4000_0003;
pub(crate) const AARCH64: u32 = 0xc000_00b7;
pub(crate) const X32: u32 = 0x4000_0000;

pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const LOG: u32 = 0x7ffc_0000;
pub(crate) const KILL_THREAD: u32 = 0;
pub(crate) const KILL_PROCESS: u32 = 0x8000_0000;
pub(crate) const TRAP: u32 = 0x0003_0000;
pub(crate) const NOTIFY: u32 = 0x7fc0_0000;
pub(crate) const EPERM: u32 = errno(1);
pub(crate) const ENOSYS: u32 = errno(38);

pub(crate) const fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

pub(crate) const fn trace(data: u32) -> u32 {
    0x7ff0_0000 | data
}

/// A system call, as seccomp shows it to a filter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    pub(crate) arch: u32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

impl Call {
    pub(crate) fn new(arch: u32, number: u32) -> Self {
        Self { arch, number, args: [0; 6] }
    }

    pub(crate) fn with(mut self, index: usize, value: u64) -> Self {
        self.args[index] = value;
        self
    }

    /// A word of struct seccomp_data, by its offset.
    pub(crate) fn word(&self, offset: u32, big_endian: bool) -> u32 {
        let index = (offset as usize - if offset < 16 { 0 } else { 16 }) / 8;
        let high = (offset % 8 == 4) != big_endian;
        match offset {
            0 => self.number,
            4 => self.arch,
            16..64 if high => (self.args[index] >> 32) as u32,
            16..64 => self.args[index] as u32,
            _ => panic!("load at {offset}"),
        }
    }
}

/// Runs a filter as the kernel does, and refuses what the kernel's check of a filter refuses.
pub(crate) fn run(program: &[Instruction], call: Call) -> u32 {
    run_on(program, call, false)
}

pub(crate) fn run_on(program: &[Instruction], call: Call, big_endian: bool) -> u32 {
    let mut at = 0;
    let mut a: Option<u32> = None;
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = |test: fn(u32, u32) -> bool| if test(a.unwrap(), k) { jt } else { jf };
        match code {
            0x20 => a = Some(call.word(k, big_endian)),
            0x54 => a = Some(a.unwrap() & k),
            0x05 => at += k as usize,
            0x15 => at += usize::from(holds(|a, k| a == k)),
            0x25 => at += usize::from(holds(|a, k| a > k)),
            0x35 => at += usize::from(holds(|a, k| a >= k)),
            0x06 => return k,
            _ => panic!("instruction {code:#x}"),
        }
    }
}

/// The plain meaning of a condition.
pub(crate) fn holds(condition: &Condition, args: &[u64; 6], narrow: bool) -> bool {
    let cut = |value: u64| if narrow { value & 0xffff_ffff } else { value };
    let arg = cut(args[usize::from(condition.index)]);
    let value = cut(condition.value);
    match condition.op {
        Op::Ne => arg != value,
        Op::Lt => arg < value,
        Op::Le => arg <= value,
        Op::Eq => arg == value,
        Op::Ge => arg >= value,
        Op::Gt => arg > value,
        Op::MaskedEq => arg & value == cut(condition.value_two) & value,
    }
}

pub(crate) fn value(action: Action) -> u32 {
    match action {
        Action::KillThread => KILL_THREAD,
        Action::KillProcess => KILL_PROCESS,
        Action::Trap => TRAP,
        Action::Errno(number) => errno(number.into()),
        Action::Notify => NOTIFY,
        Action::Trace(data) => trace(data.into()),
        Action::Log => LOG,
        Action::Allow => ALLOW,
    }
}

/// The numbers of system calls: by name, from whoever knows.
pub(crate) type Numbers<'a> = &'a dyn Fn(Arch, &str) -> Option<u32>;

/// `SYS_SOCKET` … and `SEMOP` …: the calls that x86 has behind socketcall and ipc.
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
const IPCS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Behind which number of `arch` the call `name` is as well, and what is in the first argument then, by which mask.
fn behind(name: &str, arch: Arch, numbers: Numbers) -> Option<(u32, u64, u64)> {
    if arch != Arch::X86 {
        return None;
    }
    if let Some(place) = SOCKETCALLS.iter().position(|known| *known == name) {
        return Some((numbers(arch, "socketcall")?, place as u64 + 1, 0xffff_ffff));
    }
    let (_, place) = IPCS.iter().find(|(known, _)| *known == name)?;
    // the kernel looks at 16 bits
    Some((numbers(arch, "ipc")?, *place, 0xffff))
}

/// Whose call it is, among the architectures that an x86_64 machine runs.
pub(crate) fn arch_of(call: Call) -> Option<Arch> {
    match call.arch {
        I386 => Some(Arch::X86),
        X86_64 if call.number < X32 => Some(Arch::X86_64),
        X86_64 => Some(Arch::X32),
        _ => None,
    }
}

/// How a rule bears on a call: not at all, always, or by its arguments.
fn bears(rule: &Rule, call: Call, arch: Arch, numbers: Numbers) -> Option<(bool, bool)> {
    let narrow = arch != Arch::X86_64;
    let all = |from: u8| rule.conditions.iter().filter(move |c| c.index >= from).all(|c| holds(c, &call.args, narrow));
    let found = rule.names.iter().filter_map(|name| {
        if numbers(arch, name) == Some(call.number) {
            return Some((rule.conditions.is_empty(), all(0)));
        }
        let (number, place, mask) = behind(name, arch, numbers)?;
        (number == call.number).then(|| (false, call.args[0] & mask == place && all(1)))
    });
    found.reduce(|one, other| (one.0 || other.0, one.1 || other.1))
}

/// What a profile says of a call on x86_64, word for word, with the rule of calls that are newer than the profile.
pub(crate) fn verdict(seccomp: &Seccomp, call: Call, numbers: Numbers) -> u32 {
    let default = value(seccomp.default_action);
    let x32 = seccomp.architectures.contains(&Arch::X32);
    if (call.arch, call.number) == (X86_64, u32::MAX) && !x32 {
        // a tracer's "skip this call"
        return default;
    }
    let Some(arch) = arch_of(call).filter(|arch| seccomp.architectures.contains(arch)) else { return KILL_THREAD };
    let other = |rule: &&Rule| value(rule.action) != default;
    let bearing = || {
        let rules = seccomp.rules.iter().filter(other);
        rules.filter_map(|rule| Some((rule, bears(rule, call, arch, numbers)?)))
    };
    let decides = bearing().find(|(_, (always, _))| *always).or_else(|| bearing().find(|(_, (_, holds))| *holds));
    let permissive = matches!(seccomp.default_action, Action::Allow | Action::Log | Action::Trace(_));
    let newest = || seccomp.rules.iter().flat_map(|rule| &rule.names).filter_map(|name| numbers(arch, name)).max();
    match decides {
        Some((rule, _)) => value(rule.action),
        None if bearing().next().is_none() && !permissive && newest().is_some_and(|newest| call.number > newest) => {
            ENOSYS
        }
        None => default,
    }
}
