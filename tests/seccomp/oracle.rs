//! The same profiles through libseccomp: hack/seccomp-oracle runs this.
//!
//! A difference is either on purpose, or a known mistake of libseccomp's, or a failure. It is never taken for one of
//! the first two unless what the rules say word for word ([`verdict`]) is on our side; all are counted and shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;

use super::*;

/// How many profiles are made up.
const PROFILES: usize = 1000;

/// AUDIT_ARCH_X86_64 and libseccomp's own mark.
const X32_TOKEN: u32 = 0x4000_003e;

fn run_oracle(program: &OsStr, word: Option<&str>, input: &str) -> Vec<u8> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command = Command::new(program);
    let mut child = command.args(word).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{input}");
    output.stdout
}

/// What libseccomp makes of a profile.
fn theirs(program: &OsStr, seccomp: &Seccomp) -> Vec<Instruction> {
    use std::fmt::Write as _;
    let mut input = format!("default {}\n", value(seccomp.default_action));
    for arch in &seccomp.architectures {
        writeln!(input, "arch {}", token(*arch)).unwrap();
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
    let output = run_oracle(program, None, &input);
    let (instructions, rest) = output.as_chunks::<8>();
    assert!(rest.is_empty());
    let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    instructions.iter().map(instruction).collect()
}

fn token(arch: Arch) -> u32 {
    match arch {
        Arch::X86 => I386,
        Arch::X86_64 => X86_64,
        Arch::X32 => X32_TOKEN,
        _ => panic!("{arch:?}"),
    }
}

/// The calls that this libseccomp knows.
struct Names(HashMap<(u32, String), u32>);

impl Names {
    fn of(program: &OsStr) -> Self {
        let text = String::from_utf8(run_oracle(program, Some("names"), "")).unwrap();
        let line = |line: &str| {
            let mut words = line.split(' ');
            let mut number = || words.next().unwrap().parse::<u32>().unwrap();
            let (token, number) = (number(), number());
            ((token, words.next().unwrap().to_owned()), number)
        };
        Self(text.lines().map(line).collect())
    }

    fn number(&self, arch: Arch, name: &str) -> Option<u32> {
        self.0.get(&(token(arch), name.to_owned())).copied().or_else(|| number_by_filter(arch, name))
    }

    fn knows(&self, call: Call) -> bool {
        let token = if call.arch == X86_64 && call.number >= X32 { X32_TOKEN } else { call.arch };
        self.0.iter().any(|((arch, _), number)| *arch == token && *number == call.number)
    }
}

/// A call newer than libseccomp: since 403 all architectures count alike, and ours is what there is to ask.
fn number_by_filter(arch: Arch, name: &str) -> Option<u32> {
    let base = if arch == Arch::X32 { X32 } else { 0 };
    let token = if arch == Arch::X86 { I386 } else { X86_64 };
    let mut one = by_hand(Action::Errno(1), vec![rule(&[name], Action::Allow, &[])]);
    one.architectures.extend([Arch::X86, Arch::X32]);
    let program = filter(&one);
    (base + 403..base + 600).find(|number| run(&program, Call::new(token, *number)) == ALLOW)
}

/// Comparisons of a program whose word is not the one that they are about: libseccomp sometimes joins two places
/// without loading again, so that one instruction compares now one word of the call and now another, or takes the
/// architecture for a number.
fn confused(program: &[Instruction]) -> Vec<bool> {
    let mut loaded: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); program.len()];
    for (place, instruction) in program.iter().enumerate() {
        let words = if instruction.code == 0x20 { BTreeSet::from([instruction.k]) } else { loaded[place].clone() };
        let next = match instruction.code {
            0x06 => Vec::new(),
            0x05 => vec![instruction.k as usize],
            0x15 | 0x25 | 0x35 => vec![usize::from(instruction.jt), usize::from(instruction.jf)],
            _ => vec![0],
        };
        for next in next {
            loaded[place + 1 + next].extend(&words);
        }
    }
    let wrong = |(instruction, words): (&Instruction, &BTreeSet<u32>)| {
        let compares = matches!(instruction.code, 0x15 | 0x25 | 0x35);
        let token = [X86_64, I386].contains(&instruction.k);
        compares && (words.len() > 1 || words.contains(&ARCH) && !token)
    };
    program.iter().zip(&loaded).map(wrong).collect()
}

/// The offset of the architecture in struct seccomp_data.
const ARCH: u32 = 4;

/// Whether a call comes to one of these instructions.
fn passes(program: &[Instruction], call: Call, places: &[bool]) -> bool {
    // the interpreter stops where a return is
    (0..program.len()).filter(|place| places[*place]).any(|place| {
        let mut cut = program.to_vec();
        cut[place] = Instruction { code: 0x06, jt: 0, jf: 0, k: MARK };
        run(&cut, call) == MARK
    })
}

/// No verdict.
const MARK: u32 = 0x1234_5678;

/// Why verdicts may differ, how often they did, and the first time.
#[derive(Default)]
struct Differences(BTreeMap<&'static str, (usize, HashSet<usize>, String)>);

impl Differences {
    fn count(&mut self, why: &'static str, profile: usize, example: impl FnOnce() -> String) {
        let entry = self.0.entry(why).or_insert_with(|| (0, HashSet::new(), example()));
        entry.0 += 1;
        entry.1.insert(profile);
    }
}

/// The numbers of the calls that a profile names.
fn numbers<'a>(seccomp: &'a Seccomp, names: &Names) -> HashMap<(Arch, &'a str), u32> {
    let all = seccomp.rules.iter().flat_map(|rule| &rule.names).map(String::as_str).chain(["socketcall", "ipc"]);
    let archs = [Arch::X86_64, Arch::X32, Arch::X86];
    let found = all.flat_map(|name| archs.map(|arch| (arch, name)));
    found.filter_map(|key| Some((key, names.number(key.0, key.1)?))).collect()
}

/// One profile, both ways.
struct Pair<'a> {
    /// Which of all.
    place: usize,
    seccomp: &'a Seccomp,
    names: &'a Names,
    numbers: HashMap<(Arch, &'a str), u32>,
    ours: Vec<Instruction>,
    theirs: Vec<Instruction>,
    confused: Vec<bool>,
}

impl Pair<'_> {
    fn verdict(&self, call: Call) -> u32 {
        verdict(self.seccomp, call, &|arch, name| self.numbers.get(&(arch, name)).copied())
    }

    /// Of a difference: why. Panics when there is no reason that is known.
    fn explain(&self, call: Call, our: u32, their: u32) -> &'static str {
        let said = self.verdict(call);
        let about =
            || format!("{call:x?}: ours {our:#x}, libseccomp's {their:#x}, by the rules {said:#x}\n{:?}", self.seccomp);
        assert_eq!(our, said, "{}", about());
        if our == ENOSYS && their == value(self.seccomp.default_action) {
            return "on purpose: calls newer than the profile get ENOSYS";
        }
        if (call.arch, call.number) == (I386, 117) && call.args[0] as u32 > 0xffff {
            return "on purpose: the kernel looks at 16 bits of ipc's first argument, so do we";
        }
        if !self.names.knows(call) && their == value(self.seccomp.default_action) {
            return "libseccomp is too old to know the call";
        }
        if passes(&self.theirs, call, &self.confused) {
            return "libseccomp's mistake: a comparison in its program is reached with different words loaded";
        }
        panic!("{}", about());
    }

    /// Every number with every set of arguments that may make a difference; returns how many were compared.
    fn compare(&self, random: &mut Random, differences: &mut Differences) -> usize {
        let mut compared = 0;
        for (arch, base) in [(X86_64, 0), (X86_64, X32), (I386, 0), (AARCH64, 0)] {
            let edges =
                [0x3fff_ffff, 0x4000_0000, 0x4000_0258, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, u32::MAX - 1, u32::MAX];
            for number in (0..=600).map(|number| base + number).chain(edges) {
                for args in self.arguments(arch, number, random) {
                    let call = Call { arch, number, args };
                    let (our, their) = (run(&self.ours, call), run(&self.theirs, call));
                    if our != their {
                        let why = self.explain(call, our, their);
                        let example = || format!("{call:x?}: ours {our:#x}, libseccomp's {their:#x}");
                        differences.count(why, self.place, example);
                    }
                    compared += 1;
                }
            }
        }
        compared
    }

    /// Zeroes, ones and random ones for every call; around every value that a condition compares with for a call that
    /// has conditions, and the multiplexed ones with every call behind them.
    fn arguments(&self, arch: u32, number: u32, random: &mut Random) -> Vec<[u64; 6]> {
        let mut all = vec![[0; 6], [u64::MAX; 6], std::array::from_fn(|_| random.next())];
        let behind: &[u64] = if arch == I386 && [102, 117].contains(&number) {
            &[1, 2, 3, 4, 5, 9, 11, 12, 13, 14, 18, 19, 20, 21, 22, 23, 24, 0x1_0017, 1 << 32 | 1]
        } else {
            &[]
        };
        all.extend(behind.iter().map(|first| [*first, 0, 0, 0, 0, 0]));
        let call = Call { arch, number, args: [0; 6] };
        let Some(arch) = arch_of(call) else { return all };
        let about = |rule: &&Rule| {
            !behind.is_empty()
                || rule.names.iter().any(|name| self.numbers.get(&(arch, name.as_str())) == Some(&number))
        };
        let conditions: Vec<Condition> =
            self.seccomp.rules.iter().filter(about).flat_map(|rule| rule.conditions.clone()).collect();
        for _ in 0..conditions.len() * 24 {
            let mut args: [u64; 6] = std::array::from_fn(|_| random.pick(&VALUES));
            for c in &conditions {
                let near = [
                    c.value,
                    c.value.wrapping_add(1),
                    c.value.wrapping_sub(1),
                    c.value_two,
                    c.value ^ 1 << 32,
                    c.value & c.value_two | random.next() & !c.value,
                ];
                if random.below(4) != 0 {
                    args[usize::from(c.index)] = random.pick(&near);
                }
            }
            if !behind.is_empty() {
                args[0] = random.pick(behind);
            }
            all.push(args);
        }
        all
    }
}

/// A profile of which libseccomp has one reading: one rule a call.
fn made_up(random: &mut Random, names: &[&str]) -> Seccomp {
    const MORE: [&str; 9] =
        ["socket", "personality", "clone", "accept", "recvmmsg", "semop", "shmat", "msgctl", "semtimedop"];
    let (default_action, actions): (Action, &[Action]) = match random.below(3) {
        0 => (Action::Allow, &[Action::Errno(5), Action::Errno(4094), Action::Trap, Action::KillThread]),
        1 => (Action::Errno(1), &[Action::Allow, Action::Errno(38), Action::Log]),
        _ => (Action::KillProcess, &[Action::Log, Action::Trace(9), Action::Notify, Action::Allow]),
    };
    let mut seccomp = random_profile(random, actions);
    seccomp.default_action = default_action;
    let mut used = HashSet::new();
    for rule in &mut seccomp.rules {
        // libseccomp merges several, and may then return the default though a rule holds
        rule.names = (0..=random.below(3))
            .map(|_| if random.below(2) == 0 { random.pick(names) } else { random.pick(&MORE) }.to_owned())
            .filter(|name| used.insert(name.clone()))
            .collect();
    }
    seccomp.rules.retain(|rule| !rule.names.is_empty());
    seccomp.architectures = vec![Arch::X86_64];
    seccomp.architectures.extend([Arch::X86, Arch::X32].into_iter().filter(|_| random.below(2) == 0));
    seccomp
}

#[test]
#[ignore = "needs libseccomp: hack/seccomp-oracle"]
fn agrees_with_libseccomp() {
    let program = std::env::var_os("FERRUN_SECCOMP_ORACLE").unwrap();
    let names = Names::of(&program);
    assert!(names.0.len() > 1000, "{}", names.0.len());
    let mut random = Random(0xfeed);
    let docker = docker();
    // calls that all three have: others make libseccomp forget the number more often
    let everywhere = |name: &&str| {
        [Arch::X86_64, Arch::X32].into_iter().all(|arch| names.0.contains_key(&(token(arch), (*name).to_owned())))
    };
    let known: Vec<&str> = docker.rules[0].names.iter().map(String::as_str).filter(everywhere).collect();
    assert!(known.len() > 200, "{}", known.len());
    let mut differences = Differences::default();
    let (mut compared, mut mistaken) = (0, 0);
    for place in 0..=PROFILES {
        let seccomp = if place == 0 { docker.clone() } else { made_up(&mut random, &known) };
        let theirs = theirs(&program, &seccomp);
        let confused = confused(&theirs);
        mistaken += usize::from(confused.contains(&true));
        let ours = filter(&seccomp);
        assert!(!self::confused(&ours).contains(&true), "{seccomp:?}");
        let pair = Pair {
            place,
            seccomp: &seccomp,
            names: &names,
            numbers: numbers(&seccomp, &names),
            ours,
            theirs,
            confused,
        };
        compared += pair.compare(&mut random, &mut differences);
    }
    eprintln!("{compared} verdicts of {} profiles compared with libseccomp's", PROFILES + 1);
    for (why, (count, profiles, example)) in &differences.0 {
        eprintln!("{count} in {} profiles, {why}\n    such as {example}", profiles.len());
    }
    eprintln!("{mistaken} of libseccomp's programs have such comparisons");
    assert!(compared > 5_000_000, "{compared}");
}
