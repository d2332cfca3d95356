//! Seccomp filters, run by an interpreter: vectors, the profile of Docker, and random profiles against a naive
//! evaluation of their rules. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "seccomp/machine.rs"]
mod machine;
#[path = "seccomp/oracle.rs"]
mod oracle;

use ferrun::config::seccomp::{Action, Arch, Condition, Op, Rule, Seccomp, check};
use ferrun::seccomp::{Instruction, MAX_INSTRUCTIONS, compile, compile_for};
use machine::*;
use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

fn profile(value: Value) -> Seccomp {
    check(&serde_json::from_value::<LinuxSeccomp>(value).unwrap()).unwrap()
}

fn docker() -> Seccomp {
    check(&serde_json::from_str(include_str!("data/seccomp-docker.json")).unwrap()).unwrap()
}

/// A filter for an x86_64 machine.
fn filter(seccomp: &Seccomp) -> Vec<Instruction> {
    compile_for(seccomp, Arch::X86_64).unwrap().instructions
}

/// A trusted profile for x86_64 alone, written down by hand.
fn by_hand(default_action: Action, rules: Vec<Rule>) -> Seccomp {
    Seccomp { default_action, architectures: vec![Arch::X86_64], flags: 0, rules, listener: None }
}

fn rule(names: &[&str], action: Action, conditions: &[Condition]) -> Rule {
    Rule { names: names.iter().map(|&name| name.to_owned()).collect(), action, conditions: conditions.to_vec() }
}

fn when(index: u8, op: Op, value: u64, value_two: u64) -> Condition {
    Condition { index, value, value_two, op }
}

#[test]
fn operators_compare_64_bits() {
    let edges =
        [0, 1, 5, 0xffff_fffe, 0xffff_ffff, 1 << 32, (1 << 32) | 5, 5 << 32, (5 << 32) | 5, u64::MAX - 1, u64::MAX];
    for op in [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq] {
        for value in edges {
            for value_two in if op == Op::MaskedEq { &edges[..] } else { &edges[..1] } {
                let condition = when(3, op, value, *value_two);
                let mut seccomp =
                    by_hand(Action::Errno(1), vec![rule(&["read", "seccomp"], Action::Allow, &[condition])]);
                seccomp.architectures.push(Arch::X32);
                let program = filter(&seccomp);
                for arg in edges {
                    let call = Call::new(X86_64, 0).with(3, arg);
                    let expected = |narrow| if holds(&condition, &call.args, narrow) { ALLOW } else { EPERM };
                    assert_eq!(run(&program, call), expected(false), "{condition:?} {arg:#x}");
                    let call = Call { number: X32, ..call };
                    assert_eq!(run(&program, call), expected(true), "x32 {condition:?} {arg:#x}");
                }
            }
        }
    }
}

#[test]
fn conditions_of_a_rule_all_hold() {
    let both = [when(0, Op::Eq, 7, 0), when(5, Op::Gt, 1 << 40, 0)];
    let program = filter(&by_hand(Action::Errno(1), vec![rule(&["read"], Action::Allow, &both)]));
    let call = Call::new(X86_64, 0);
    assert_eq!(run(&program, call.with(0, 7).with(5, 1 << 41)), ALLOW);
    assert_eq!(run(&program, call.with(0, 7)), EPERM);
    assert_eq!(run(&program, call.with(5, 1 << 41)), EPERM);
}

#[test]
fn conditions_on_one_argument_are_alternatives() {
    let arg = |value: u64| json!({"index": 1, "value": value, "op": "SCMP_CMP_EQ"});
    let program = filter(&profile(json!({"defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [arg(3), arg(5)]}]})));
    let verdict = |value| run(&program, Call::new(X86_64, 0).with(1, value));
    assert_eq!([verdict(3), verdict(4), verdict(5)], [ALLOW, EPERM, ALLOW]);
}

#[test]
fn every_action_has_its_value() {
    let actions = [
        (Action::KillThread, KILL_THREAD),
        (Action::KillProcess, KILL_PROCESS),
        (Action::Trap, TRAP),
        (Action::Errno(13), errno(13)),
        (Action::Notify, NOTIFY),
        (Action::Trace(7), trace(7)),
        (Action::Log, LOG),
    ];
    let names = ["read", "open", "close", "stat", "fstat", "lstat", "poll"];
    let rules = names.iter().zip(actions).map(|(name, (action, _))| rule(&[name], action, &[])).collect();
    let program = filter(&by_hand(Action::Allow, rules));
    for (number, (_, expected)) in [0, 2, 3, 4, 5, 6, 7].into_iter().zip(actions) {
        assert_eq!(run(&program, Call::new(X86_64, number)), expected);
    }
    assert_eq!(run(&program, Call::new(X86_64, 1)), ALLOW);
}

#[test]
fn rule_without_conditions_decides_alone() {
    let condition = [when(0, Op::Eq, 1, 0)];
    let rules = vec![
        rule(&["read"], Action::Errno(2), &condition),
        rule(&["read"], Action::Allow, &[]),
        rule(&["read"], Action::Errno(3), &[]),
        // the same as the default: changes nothing, wherever it stands
        rule(&["write"], Action::Errno(1), &[]),
        rule(&["write"], Action::Allow, &condition),
    ];
    let program = filter(&by_hand(Action::Errno(1), rules));
    assert_eq!(run(&program, Call::new(X86_64, 0).with(0, 1)), ALLOW);
    assert_eq!(run(&program, Call::new(X86_64, 1).with(0, 1)), ALLOW);
    assert_eq!(run(&program, Call::new(X86_64, 1)), EPERM);
}

#[test]
fn calls_newer_than_the_profile_get_enosys() {
    let names = ["read", "statx", "listmount"];
    let newest = |default| filter(&by_hand(default, vec![rule(&names[..2], Action::KillThread, &[])]));
    for (default, value) in [(Action::Errno(1), EPERM), (Action::KillProcess, KILL_PROCESS), (Action::Trap, TRAP)] {
        let program = newest(default);
        // statx is 332
        assert_eq!(run(&program, Call::new(X86_64, 331)), value);
        assert_eq!(run(&program, Call::new(X86_64, 332)), KILL_THREAD);
        assert_eq!(run(&program, Call::new(X86_64, 333)), ENOSYS);
        assert_eq!(run(&program, Call::new(X86_64, X32 - 1)), ENOSYS);
    }
    for (default, value) in [(Action::Allow, ALLOW), (Action::Log, LOG), (Action::Trace(1), trace(1))] {
        assert_eq!(run(&newest(default), Call::new(X86_64, 333)), value);
    }
    // a rule that repeats the default shows that the profile knows the call
    let known = by_hand(Action::Errno(1), vec![rule(&names, Action::Errno(1), &[])]);
    assert_eq!(run(&filter(&known), Call::new(X86_64, 458)), EPERM);
    assert_eq!(run(&filter(&known), Call::new(X86_64, 459)), ENOSYS);
    // a profile that knows no call at all has no age
    assert_eq!(run(&filter(&by_hand(Action::Errno(1), vec![])), Call::new(X86_64, 999)), EPERM);
}

#[test]
fn foreign_architectures_are_killed() {
    let mut seccomp = by_hand(Action::Errno(1), vec![rule(&["read", "mseal"], Action::Allow, &[])]);
    let program = filter(&seccomp);
    assert_eq!(run(&program, Call::new(I386, 3)), KILL_THREAD);
    assert_eq!(run(&program, Call::new(AARCH64, 63)), KILL_THREAD);
    assert_eq!(run(&program, Call::new(X86_64, X32)), KILL_THREAD);
    // a tracer's "skip this call" is not a call of x32
    assert_eq!(run(&program, Call::new(X86_64, u32::MAX)), EPERM);
    seccomp.architectures.extend([Arch::X86, Arch::X32]);
    let program = filter(&seccomp);
    assert_eq!(run(&program, Call::new(I386, 3)), ALLOW);
    assert_eq!(run(&program, Call::new(I386, 4)), EPERM);
    assert_eq!(run(&program, Call::new(X86_64, X32)), ALLOW);
    assert_eq!(run(&program, Call::new(X86_64, X32 + 462)), ALLOW);
    assert_eq!(run(&program, Call::new(X86_64, X32 + 463)), ENOSYS);
    seccomp.architectures = vec![Arch::X32];
    let program = filter(&seccomp);
    assert_eq!(run(&program, Call::new(X86_64, 0)), KILL_THREAD);
    assert_eq!(run(&program, Call::new(X86_64, X32)), ALLOW);
}

#[test]
fn multiplexed_calls_are_found() {
    let domain = [when(0, Op::Eq, 40, 0)];
    let rules = vec![
        rule(&["socket"], Action::Errno(2), &domain),
        rule(&["shmget"], Action::Errno(3), &[]),
        rule(&["accept"], Action::Errno(4), &[]),
    ];
    let mut seccomp = by_hand(Action::Allow, rules);
    seccomp.architectures.push(Arch::X86);
    let program = filter(&seccomp);
    let verdict = |number, arg| run(&program, Call::new(I386, number).with(0, arg));
    // direct, and through socketcall, where the domain is out of sight
    assert_eq!([verdict(359, 40), verdict(359, 2)], [errno(2), ALLOW]);
    assert_eq!([verdict(102, 1), verdict(102, 2), verdict(102, 5)], [errno(2), ALLOW, errno(4)]);
    // the kernel looks at 16 bits of ipc's first argument
    assert_eq!([verdict(117, 23), verdict(117, 0x1_0017), verdict(117, 24)], [errno(3), errno(3), ALLOW]);
    assert_eq!(verdict(395, 0), errno(3));
}

#[test]
fn big_endian_arguments_are_found() {
    let mut seccomp = by_hand(
        Action::Errno(1),
        vec![rule(&["read", "write", "mseal"], Action::Allow, &[when(2, Op::Gt, 1 << 33, 0)])],
    );
    seccomp.architectures = vec![Arch::S390x, Arch::S390];
    let program = compile_for(&seccomp, Arch::S390x).unwrap().instructions;
    let verdict = |arch, number, arg| run_on(&program, Call::new(arch, number).with(2, arg), true);
    assert_eq!(verdict(0x8000_0016, 3, 1 << 34), ALLOW);
    assert_eq!(verdict(0x8000_0016, 3, 7), EPERM);
    // 31 bits: the low half alone
    assert_eq!(verdict(0x16, 3, 7), ALLOW);
    // what the kernel does not know arrives as setup(2)
    assert_eq!(verdict(0x8000_0016, 0, 0), ENOSYS);
}

#[test]
fn all_architectures_of_the_spec_compile() {
    let every = [
        Arch::X86,
        Arch::X86_64,
        Arch::X32,
        Arch::Arm,
        Arch::Aarch64,
        Arch::Mips,
        Arch::Mips64,
        Arch::Mips64n32,
        Arch::Mipsel,
        Arch::Mipsel64,
        Arch::Mipsel64n32,
        Arch::Ppc,
        Arch::Ppc64,
        Arch::Ppc64le,
        Arch::S390,
        Arch::S390x,
        Arch::Parisc,
        Arch::Parisc64,
        Arch::Riscv64,
        Arch::Loongarch64,
        Arch::M68k,
        Arch::Sh,
        Arch::Sheb,
    ];
    let mut seccomp = docker();
    seccomp.architectures = every.to_vec();
    for native in every {
        let length = compile_for(&seccomp, native).unwrap().instructions.len();
        assert!((100..1000).contains(&length), "{native:?}: {length}");
    }
    // arm's own calls are far above the others, and do not make a profile new
    seccomp.rules.push(rule(&["set_tls"], Action::Allow, &[]));
    let program = compile_for(&seccomp, Arch::Aarch64).unwrap().instructions;
    let verdict = |number| run(&program, Call::new(0x4000_0028, number));
    assert_eq!([verdict(0xf0005), verdict(0xf0004), verdict(0xf0006), verdict(500)], [ALLOW, ENOSYS, ENOSYS, ENOSYS]);
}

#[test]
fn unknown_names_are_told() {
    let rules = vec![rule(&["read", "frobnicate", &"x".repeat(4000)], Action::Allow, &[])];
    assert_eq!(compile(&by_hand(Action::Errno(1), rules)).unwrap().unknown[0], "frobnicate");
}

#[test]
fn too_long_a_filter_is_refused() {
    let many = |count: u64| {
        let rules = (0..count).map(|n| rule(&["read"], Action::Allow, &[when(0, Op::Eq, n, 0)])).collect();
        compile_for(&by_hand(Action::Errno(1), rules), Arch::X86_64)
    };
    let program = many(800).unwrap().instructions;
    assert!(program.len() <= MAX_INSTRUCTIONS);
    assert_eq!(run(&program, Call::new(X86_64, 0).with(0, 799)), ALLOW);
    assert_eq!(run(&program, Call::new(X86_64, 0).with(0, 800)), EPERM);
    assert_eq!(
        many(1000).unwrap_err().to_string(),
        "the filter needs more than the 4096 instructions that the kernel takes (config.json /linux/seccomp); use fewer rules with args, or fewer architectures"
    );
}

#[test]
fn docker_profile() {
    let seccomp = docker();
    let program = filter(&seccomp);
    assert!(program.len() <= 700, "{} instructions", program.len());
    let call = |number| Call::new(X86_64, number);
    let cases = [
        (call(0), ALLOW),
        (call(165), EPERM),                     // mount
        (call(435), ENOSYS),                    // clone3
        (call(56), ALLOW),                      // clone: fork
        (call(56).with(0, 0x1000_0000), EPERM), // CLONE_NEWUSER
        (call(41).with(0, 40), EPERM),          // AF_VSOCK
        (call(41).with(0, 2), ALLOW),           // AF_INET
        (call(135).with(0, 8), ALLOW),          // personality
        (call(135).with(0, 9), EPERM),
        (call(135).with(0, 0xffff_ffff), ALLOW),
        (call(600), ENOSYS),
        (Call::new(I386, 3), ALLOW),
        (Call::new(I386, 21), EPERM),          // mount
        (Call::new(X86_64, X32 | 520), ALLOW), // execve
        (Call::new(AARCH64, 63), KILL_THREAD),
    ];
    for (call, expected) in cases {
        assert_eq!(run(&program, call), expected, "{call:x?}");
    }
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const NAMES: [(&str, u32); 16] = [
    ("read", 0),
    ("write", 1),
    ("open", 2),
    ("close", 3),
    ("stat", 4),
    ("mmap", 9),
    ("ioctl", 16),
    ("clone", 56),
    ("execve", 59),
    ("personality", 135),
    ("mount", 165),
    ("openat", 257),
    ("statx", 332),
    ("clone3", 435),
    ("mseal", 462),
    ("listns", 470),
];
const VALUES: [u64; 8] = [0, 1, 2, 0x7e02_0000, 0xffff_ffff, 1 << 32, (1 << 32) | 2, u64::MAX];
const ACTIONS: [Action; 7] = [
    Action::Allow,
    Action::Errno(1),
    Action::Errno(38),
    Action::KillProcess,
    Action::Log,
    Action::Trace(3),
    Action::Trap,
];
const OPS: [Op; 7] = [Op::Ne, Op::Lt, Op::Le, Op::Eq, Op::Ge, Op::Gt, Op::MaskedEq];

fn random_profile(random: &mut Random, actions: &[Action]) -> Seccomp {
    let rules = (0..random.below(40))
        .map(|_| {
            let names: Vec<&str> = (0..=random.below(4)).map(|_| random.pick(&NAMES).0).collect();
            let conditions: Vec<Condition> = (0..6)
                .filter(|_| random.below(5) == 0)
                .collect::<Vec<u8>>()
                .into_iter()
                .map(|index| when(index, random.pick(&OPS), random.pick(&VALUES), random.pick(&VALUES)))
                .collect();
            rule(&names, random.pick(actions), &conditions)
        })
        .collect();
    let mut seccomp = by_hand(random.pick(&ACTIONS), rules);
    if random.below(2) == 0 {
        seccomp.architectures.push(Arch::X86);
    }
    seccomp
}

/// What the rules say of a call on x86_64, word for word.
fn naive(seccomp: &Seccomp, name: &str, number: u32, args: &[u64; 6]) -> Action {
    let named = |rule: &&Rule| rule.names.iter().any(|n| n == name) && rule.action != seccomp.default_action;
    let mut rules = seccomp.rules.iter().filter(named);
    let permissive = matches!(seccomp.default_action, Action::Allow | Action::Log | Action::Trace(_));
    let newest = NAMES
        .iter()
        .filter(|(name, _)| seccomp.rules.iter().any(|rule| rule.names.iter().any(|n| n == name)))
        .map(|&(_, number)| number)
        .max();
    if let Some(rule) = rules.clone().find(|rule| rule.conditions.is_empty()) {
        rule.action
    } else if let Some(rule) = rules.find(|rule| rule.conditions.iter().all(|c| holds(c, args, false))) {
        rule.action
    } else if !permissive && newest.is_some_and(|newest| number > newest) {
        Action::Errno(38)
    } else {
        seccomp.default_action
    }
}

#[test]
fn random_profiles_mean_what_their_rules_say() {
    let mut random = Random(0x5eed);
    for round in 0..1500 {
        let seccomp = random_profile(&mut random, &ACTIONS);
        let program = filter(&seccomp);
        for _ in 0..60 {
            let (name, number) = random.pick(&NAMES);
            let args = std::array::from_fn(|_| random.pick(&VALUES));
            let call = Call { arch: X86_64, number, args };
            let expected = naive(&seccomp, name, number, &args);
            assert_eq!(run(&program, call), value(expected), "round {round}: {call:x?} {seccomp:?}");
        }
    }
}
