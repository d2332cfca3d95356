//! The same profiles through libseccomp: a comparison to be run by hand, see hack/seccomp-oracle.c.

use super::*;

/// What libseccomp makes of a profile; see hack/seccomp-oracle.c.
fn oracle(program: &std::ffi::OsStr, seccomp: &Seccomp) -> Vec<Instruction> {
    use std::fmt::Write as _;
    use std::io::Write as _;
    let mut input = format!("default {}\n", value(seccomp.default_action));
    for arch in &seccomp.architectures {
        let token = match arch {
            Arch::X86 => I386,
            Arch::X86_64 => X86_64,
            Arch::X32 => 0x4000_003e,
            _ => panic!("{arch:?}"),
        };
        writeln!(input, "arch {token}").unwrap();
    }
    for rule in &seccomp.rules {
        for name in &rule.names {
            write!(input, "rule {} {name} {}", value(rule.action), rule.conditions.len()).unwrap();
            for c in &rule.conditions {
                write!(input, " {} {} {} {}", c.index, c.op as u8 + 1, c.value, c.value_two).unwrap();
            }
            writeln!(input).unwrap();
        }
    }
    let mut child = std::process::Command::new(program)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{input}");
    let (instructions, rest) = output.stdout.as_chunks::<8>();
    assert!(rest.is_empty());
    instructions
        .iter()
        .map(|&[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
            code: u16::from_ne_bytes([c0, c1]),
            jt,
            jf,
            k: u32::from_ne_bytes([k0, k1, k2, k3]),
        })
        .collect()
}

/// libseccomp 2.6.1 makes programs that compare the architecture with numbers: the load between is missing.
fn forgets_the_number(program: &[Instruction]) -> bool {
    program.windows(2).any(|pair| {
        let token = pair[0].code == 0x15 && [X86_64, I386].contains(&pair[0].k) && pair[0].jt == 0;
        token && (pair[1].code, pair[1].k) != (0x20, 0)
    })
}

/// Runs both programs over all calls of three architectures; returns how many were compared.
fn compare(seccomp: &Seccomp, theirs: &[Instruction], arguments: &[[u64; 6]]) -> usize {
    let ours = filter(seccomp);
    let default = value(seccomp.default_action);
    let mut compared = 0;
    for (arch, base) in [(X86_64, 0), (X86_64, X32), (I386, 0), (AARCH64, 0)] {
        for number in (0..600).chain([0x3fff_ffff - base, 0x3fff_ffff]).map(|number| base + number) {
            for &args in arguments {
                // a difference on purpose: the kernel looks at 16 bits of ipc's first argument, so do we
                if (arch, number) == (I386, 117) && args[0] as u32 > 0xffff {
                    continue;
                }
                let call = Call { arch, number, args };
                let (our, their) = (run(&ours, call), run(theirs, call));
                // the other: calls newer than the profile
                if our != their && !(our == ENOSYS && their == default) {
                    panic!("{call:x?}: ours {our:#x}, libseccomp's {their:#x}\n{seccomp:?}");
                }
                compared += 1;
            }
        }
    }
    compared
}

#[test]
#[ignore = "needs libseccomp: see hack/seccomp-oracle.c"]
fn agrees_with_libseccomp() {
    let program = std::env::var_os("FERRUN_SECCOMP_ORACLE").unwrap();
    let mut random = Random(0xfeed);
    let mut some: Vec<[u64; 6]> = vec![[0; 6], [u64::MAX; 6]];
    for value in
        [1, 2, 3, 8, 9, 12, 16, 20, 21, 24, 40, 131_072, 131_080, 0x1000_0000, 0xffff_ffff, 1 << 32, (1 << 32) | 8]
    {
        some.extend((0..3).map(|index| std::array::from_fn(|at| if at == index { value } else { 0 })));
    }
    let docker = docker();
    let mut compared = compare(&docker, &oracle(&program, &docker), &some);
    // calls that x86_64 and x32 both have: others make libseccomp forget the number more often
    let known = |name: &&str| {
        let mut one = by_hand(Action::Errno(1), vec![rule(&[name], Action::Allow, &[])]);
        one.architectures.push(Arch::X32);
        let program = filter(&one);
        [0, X32].iter().all(|base| (0..600).any(|number| run(&program, Call::new(X86_64, base + number)) == ALLOW))
    };
    let names: Vec<&str> = docker.rules[0].names.iter().map(String::as_str).filter(known).collect();
    let more = ["socket", "personality", "clone", "accept", "recvmmsg", "semop", "shmat", "msgctl", "semtimedop"];
    let mut broken = 0;
    for _ in 0..1200 {
        // one action for all rules: libseccomp has no order for conditions of different ones that overlap
        let (default_action, action) = match random.below(3) {
            0 => (Action::Allow, Action::Errno(5)),
            1 => (Action::Errno(1), Action::Allow),
            _ => (Action::KillProcess, random.pick(&[Action::Log, Action::Trace(9), Action::Notify])),
        };
        let mut seccomp = random_profile(&mut random, &[action]);
        seccomp.default_action = default_action;
        let mut used = std::collections::HashSet::new();
        for rule in &mut seccomp.rules {
            // one rule a call: libseccomp 2.6.1 merges several, and may then return the default though a rule holds
            rule.names = (0..=random.below(3))
                .map(|_| if random.below(2) == 0 { random.pick(&names) } else { random.pick(&more) }.to_owned())
                .filter(|name| used.insert(name.clone()))
                .collect();
        }
        seccomp.architectures = vec![Arch::X86_64];
        seccomp.architectures.extend([Arch::X86, Arch::X32].into_iter().filter(|_| random.below(2) == 0));
        let arguments: Vec<[u64; 6]> = (0..12)
            .map(|_| {
                std::array::from_fn(|_| if random.below(2) == 0 { random.pick(&VALUES) } else { random.next() % 32 })
            })
            .collect();
        let theirs = oracle(&program, &seccomp);
        if forgets_the_number(&theirs) {
            broken += 1;
        } else {
            compared += compare(&seccomp, &theirs, &arguments);
        }
    }
    eprintln!("{compared} calls compared; {broken} programs of libseccomp skipped that do not load the number");
}
