//! Profiles made of bytes: every filter is one that the kernel takes, and says of every call what the rules say.
//! What libseccomp says of 1,000 profiles is compared by `tests/seccomp.rs`.

use ferrun::config::seccomp::{Action, Arch, Condition, Op, Rule, Seccomp};
use ferrun::seccomp::{Instruction, MAX_INSTRUCTIONS, compile_for};

#[path = "../../../tests/seccomp/machine.rs"]
#[allow(dead_code)]
mod machine;

use machine::{AARCH64, Call, I386, X32, X86_64, run, verdict};

/// Names and their numbers on x86_64, x32 and x86: the kernel's tables.
const NAMES: [(&str, [u32; 3]); 16] = [
    ("read", [0, 0, 3]),
    ("write", [1, 1, 4]),
    ("open", [2, 2, 5]),
    ("mmap", [9, 9, 90]),
    ("ioctl", [16, 514, 54]),
    ("clone", [56, 56, 120]),
    ("execve", [59, 520, 11]),
    ("personality", [135, 135, 136]),
    ("socket", [41, 41, 359]),
    ("accept4", [288, 288, 364]),
    ("shmget", [29, 29, 395]),
    ("semtimedop", [220, 220, ABSENT]),
    ("socketcall", [ABSENT, ABSENT, 102]),
    ("ipc", [ABSENT, ABSENT, 117]),
    ("clone3", [435, 435, 435]),
    ("mseal", [462, 462, 462]),
];
const ABSENT: u32 = u32::MAX;

const ACTIONS: [Action; 10] = [
    Action::Allow,
    Action::Errno(1),
    Action::Errno(38),
    Action::KillThread,
    Action::KillProcess,
    Action::Trap,
    Action::Log,
    Action::Trace(3),
    Action::Notify,
    Action::Errno(4095),
];
const OPS: [Op; 7] = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq];
const EDGES: [u64; 12] = [
    0,
    1,
    2,
    0x10017,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    1 << 32,
    (1 << 32) | 2,
    u64::MAX - 1,
    u64::MAX,
];

fn number(arch: Arch, name: &str) -> Option<u32> {
    let (_, [x86_64, x32, x86]) = NAMES.iter().find(|(known, _)| *known == name)?;
    match arch {
        Arch::X86_64 => Some(*x86_64),
        Arch::X32 => Some(*x32).filter(|number| *number != ABSENT).map(|number| number | X32),
        Arch::X86 => Some(*x86),
        _ => None,
    }
    .filter(|number| *number != ABSENT)
}

/// Bytes, and zeroes when they are used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        usize::from(*first)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() % from.len()]
    }

    fn value(&mut self) -> u64 {
        match self.next() {
            edge if edge < 200 => EDGES[edge % EDGES.len()],
            _ => (0..8).fold(0, |value, _| value << 8 | self.next() as u64),
        }
    }

    fn done(&self) -> bool {
        self.0.is_empty()
    }
}

fn condition(bytes: &mut Bytes, index: u8) -> Condition {
    Condition { index, op: bytes.pick(&OPS), value: bytes.value(), value_two: bytes.value() }
}

fn profile(bytes: &mut Bytes) -> Seccomp {
    let default_action = bytes.pick(&ACTIONS);
    let more = bytes.next();
    let mut architectures = vec![Arch::X86_64];
    architectures.extend(
        [Arch::X86, Arch::X32].into_iter().enumerate().filter(|(bit, _)| more >> bit & 1 == 1).map(|(_, arch)| arch),
    );
    if more & 4 != 0 {
        architectures.push(Arch::Aarch64);
    }
    let mut rules = Vec::new();
    for _ in 0..bytes.next() % 24 {
        let names = (0..=bytes.next() % 3).map(|_| bytes.pick(&NAMES).0.to_owned()).collect();
        let which = bytes.next();
        let conditions = if which < 128 {
            Vec::new()
        } else {
            (0..6).filter(|bit| which >> bit & 1 == 1).map(|index| condition(bytes, index)).collect()
        };
        rules.push(Rule { names, action: bytes.pick(&ACTIONS), conditions });
    }
    Seccomp { default_action, architectures, flags: 0, rules, listener: None }
}

/// A profile, and then calls.
pub fn seccomp(data: &[u8]) {
    let mut bytes = Bytes(data);
    let seccomp = profile(&mut bytes);
    let Ok(program) = compile_for(&seccomp, Arch::X86_64) else { return };
    assert!(program.unknown.is_empty(), "{:?}", program.unknown);
    kernel_takes(&program.instructions);
    let mut calls = 0;
    while calls < 8 || !bytes.done() && calls < 64 {
        calls += 1;
        let args = std::array::from_fn(|_| bytes.value());
        // the numbers of the table with these arguments, and some others
        for (_, [x86_64, x32, x86]) in NAMES {
            compare(&seccomp, &program.instructions, Call { arch: X86_64, number: x86_64, args });
            compare(&seccomp, &program.instructions, Call { arch: X86_64, number: x32 | X32, args });
            compare(&seccomp, &program.instructions, Call { arch: I386, number: x86, args });
        }
        let number = bytes.value() as u32;
        for arch in [X86_64, I386, AARCH64] {
            // aarch64 cannot run here: its calls are foreign
            compare(&seccomp, &program.instructions, Call { arch, number, args });
        }
    }
    for native in [Arch::Aarch64, Arch::S390x, Arch::Mips] {
        let mut seccomp = seccomp.clone();
        seccomp.architectures.push(native);
        if let Ok(program) = compile_for(&seccomp, native) {
            kernel_takes(&program.instructions);
        }
    }
}

fn compare(seccomp: &Seccomp, program: &[Instruction], call: Call) {
    let (found, wanted) = (run(program, call), verdict(seccomp, call, &number));
    assert_eq!(found, wanted, "{call:x?}\n{seccomp:#?}");
}

/// What the kernel checks of a filter: bpf_check_classic and seccomp_check_filter.
pub(crate) fn kernel_takes(program: &[Instruction]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()), "{} instructions", program.len());
    for (place, instruction) in program.iter().enumerate() {
        let left = program.len() - place - 1;
        match instruction.code {
            0x20 => assert!(instruction.k < 64 && instruction.k % 4 == 0, "load at {}", instruction.k),
            0x05 => assert!((instruction.k as usize) < left, "jump beyond the end"),
            0x15 | 0x25 | 0x35 => {
                assert!(usize::from(instruction.jt.max(instruction.jf)) < left, "jump beyond the end");
            }
            0x54 | 0x06 => {}
            code => panic!("instruction {code:#x}"),
        }
    }
    assert_eq!(program.last().expect("an instruction").code, 0x06, "the end is no return");
}
