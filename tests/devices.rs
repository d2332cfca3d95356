//! Device rules: programs run by an interpreter and lists run by a model of the kernel's device cgroup, both against
//! a naive evaluation of the rules. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "devices/kernel.rs"]
mod kernel;
#[path = "devices/random.rs"]
mod random;

use ferrun::cgroup::devices::emulate::{ALL, MKNOD, READ, Table, WRITE, bits};
use ferrun::cgroup::devices::lists::{self, List};
use ferrun::cgroup::devices::program::compile;
use ferrun::cgroup::devices::rules::with_defaults;
use ferrun::cgroup::devices::unit::{Policy, policy};
use ferrun::config::resources::{Access, DeviceRule, RuleKind};
use ferrun::sys::bpf::Instruction;

use kernel::Kernel;
use random::Random;

/// A device of a kind with numbers, and what is to be done with it.
#[derive(Debug, Clone, Copy)]
struct Request {
    block: bool,
    major: u32,
    minor: u32,
    access: u8,
}

/// mknod is never asked for together with anything else.
const ACCESS: [u8; 4] = [MKNOD, READ, WRITE, READ | WRITE];

/// The last rule about a device decides, for each way of access.
fn naive(rules: &[DeviceRule], request: Request) -> bool {
    let allowed = |bit: u8| {
        let about = |rule: &&DeviceRule| {
            rule.kind != if request.block { RuleKind::Char } else { RuleKind::Block }
                && rule.major.is_none_or(|major| major == request.major)
                && rule.minor.is_none_or(|minor| minor == request.minor)
                && bits(rule.access) & bit != 0
        };
        rules.iter().rev().find(about).is_some_and(|rule| rule.allow)
    };
    [READ, WRITE, MKNOD].into_iter().filter(|bit| request.access & bit != 0).all(allowed)
}

/// The program's bytes, checked once.
fn run(program: &[u8], request: Request) -> bool {
    let kind = if request.block { 1 } else { 2 };
    let words = [u32::from(request.access) << 16 | kind, request.major, request.minor];
    let mut context: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut vm = rbpf::EbpfVmRaw::new(None).unwrap();
    // the interpreter's own check of a program takes longer than to run it
    vm.set_verifier(|_| Ok(())).unwrap();
    vm.set_program(program).unwrap();
    match vm.execute_program(&mut context).unwrap() {
        0 => false,
        1 => true,
        other => panic!("the program returns {other}"),
    }
}

fn compiled(rules: &[DeviceRule]) -> Vec<u8> {
    let program = bytes(&compile(&Table::of(rules).unwrap()).unwrap());
    rbpf::EbpfVmRaw::new(Some(&program)).unwrap();
    program
}

fn bytes(program: &[Instruction]) -> Vec<u8> {
    let one = |i: &Instruction| {
        let (offset, constant) = (i.offset.to_le_bytes(), i.constant.to_le_bytes());
        [i.code, i.registers, offset[0], offset[1], constant[0], constant[1], constant[2], constant[3]]
    };
    program.iter().flat_map(one).collect()
}

/// `allow c 1:3 rw`, `deny a`; numbered pointers.
fn rules(text: &[&str]) -> Vec<DeviceRule> {
    let number = |word: &str| if word == "*" { None } else { Some(word.parse().unwrap()) };
    let one = |(index, line): (usize, &&str)| {
        let words: Vec<&str> = line.split([' ', ':']).collect();
        let letters = words.get(4).copied().unwrap_or("rwm");
        DeviceRule {
            allow: words[0] == "allow",
            kind: match words[1] {
                "c" => RuleKind::Char,
                "b" => RuleKind::Block,
                _ => RuleKind::All,
            },
            major: words.get(2).and_then(|word| number(word)),
            minor: words.get(3).and_then(|word| number(word)),
            access: Access { read: letters.contains('r'), write: letters.contains('w'), mknod: letters.contains('m') },
            pointer: Some(format!("/linux/resources/devices/{index}")),
        }
    };
    text.iter().enumerate().map(one).collect()
}

/// What Docker asks for.
fn docker() -> Vec<DeviceRule> {
    let own = rules(&[
        "deny a",
        "allow c 1:5",
        "allow c 1:3",
        "allow c 1:9",
        "allow c 1:8",
        "allow c 5:0",
        "allow c 5:1",
        "deny c 10:229",
        "allow c *:* m",
        "allow b *:* m",
        "allow c 1:7",
        "allow c 136:*",
        "allow c 5:2",
        "allow c 10:200",
    ]);
    with_defaults(&own)
}

/// Every device that the rules name, and those around them.
fn requests(rules: &[DeviceRule]) -> Vec<Request> {
    let around = |numbers: &mut dyn Iterator<Item = Option<u32>>| {
        let mut all: Vec<u32> = numbers.flatten().flat_map(|n| [n.saturating_sub(1), n, n.saturating_add(1)]).collect();
        all.extend([0, 4095]);
        all.sort_unstable();
        all.dedup();
        all
    };
    let majors = around(&mut rules.iter().map(|rule| rule.major));
    let minors = around(&mut rules.iter().map(|rule| rule.minor));
    let mut requests = Vec::new();
    for block in [false, true] {
        for &major in &majors {
            for &minor in &minors {
                requests.extend(ACCESS.map(|access| Request { block, major, minor, access }));
            }
        }
    }
    requests
}

#[test]
fn the_docker_list() {
    let rules = docker();
    let program = compiled(&rules);
    for request in requests(&rules) {
        assert_eq!(run(&program, request), naive(&rules, request), "{request:?}");
    }
    // 0.5 ms are what crun pays to load 112
    assert!(program.len() <= 25 * 8, "{} instructions", program.len() / 8);
    let allowed = |block, major, minor, access| naive(&rules, Request { block, major, minor, access });
    assert!(allowed(false, 1, 3, READ | WRITE) && allowed(false, 136, 7, ALL) && allowed(true, 8, 0, MKNOD));
    assert!(!allowed(false, 1, 11, READ) && !allowed(true, 8, 0, READ) && !allowed(false, 10, 229, WRITE));
}

#[test]
fn everything_and_nothing() {
    let length = |rules: &[DeviceRule]| compile(&Table::of(rules).unwrap()).unwrap().len();
    assert_eq!(length(&rules(&["allow a"])), 2);
    assert!(Table::of(&with_defaults(&rules(&["allow a"]))).unwrap().allows_everything());
    assert!(!Table::of(&rules(&["allow a", "deny c 1:11 r"])).unwrap().allows_everything());
    let nothing = compiled(&[]);
    for access in ACCESS {
        assert!(!run(&nothing, Request { block: false, major: 1, minor: 3, access }));
    }
}

#[test]
fn programs_do_what_the_rules_say() {
    let mut random = Random::new(1);
    for round in 0..1000 {
        let rules = random.rules(round % 12);
        let table = Table::of(&rules).unwrap();
        let program = compiled(&rules);
        for request in requests(&rules) {
            let want = naive(&rules, request);
            assert_eq!(run(&program, request), want, "{request:?}: {rules:#?}\n{table:#?}");
            let numbers = if request.block { &table.blocks } else { &table.chars };
            assert_eq!(
                request.access & !numbers.get(request.major, request.minor) == 0,
                want,
                "{request:?}: {table:?}"
            );
        }
    }
}

#[test]
fn long_lists_are_searched() {
    let lines: Vec<String> = (0..2000).map(|n| format!("allow b {}:{} rw", n % 40, n * 3)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let rules = rules(&lines);
    let program = compiled(&rules);
    for n in 0..200 {
        let request = Request { block: true, major: n % 41, minor: n * 31 % 6000, access: READ };
        assert_eq!(run(&program, request), naive(&rules, request), "{request:?}");
    }
}

#[test]
fn numbers_beyond_what_the_kernel_has() {
    let rules = rules(&["allow c 4294967295:4294967295", "allow c 2147483648:0", "allow b 7:2147483649 r"]);
    let program = compiled(&rules);
    for (block, major, minor) in
        [(false, u32::MAX, u32::MAX), (false, 1 << 31, 0), (true, 7, (1 << 31) + 1), (false, u32::MAX, 0), (true, 7, 1)]
    {
        let request = Request { block, major, minor, access: READ };
        assert_eq!(run(&program, request), naive(&rules, request), "{request:?}");
    }
}

#[test]
fn too_many_rules_are_an_error() {
    let lines: Vec<String> = (0..70_000).map(|n| format!("allow b {}:{n} r", n % 4096)).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let error = Table::of(&rules(&lines)).unwrap_err();
    assert!(error.to_string().contains("/linux/resources/devices/"), "{error}");
    let crossed: Vec<String> =
        (0..400).flat_map(|n| [format!("allow c {n}:* r"), format!("allow c *:{n} w")]).collect();
    let crossed: Vec<&str> = crossed.iter().map(String::as_str).collect();
    assert!(Table::of(&rules(&crossed)).is_err());
}

#[test]
fn a_list_of_version_1_does_what_the_rules_say() {
    let mut random = Random::new(2);
    let mut expressible = 0;
    for round in 0..2000 {
        let rules = random.rules(round % 8);
        let Ok(list) = List::of(&rules) else { continue };
        expressible += 1;
        let mut kernel = Kernel::default();
        for write in list.anew() {
            kernel.write(&write.to_string(), write.allow).unwrap();
        }
        for request in requests(&rules) {
            assert_eq!(kernel.allows(request), naive(&rules, request), "{request:?}: {rules:#?}\n{list:#?}");
        }
        if !list.allow {
            assert_eq!(List::parse(&kernel.list()), list);
        }
    }
    assert!(expressible > 500, "{expressible}");
}

#[test]
fn no_open_window_and_none_that_is_shut() {
    let mut random = Random::new(3);
    let mut changes = 0;
    for round in 0..3000 {
        let (old_rules, new_rules) = (random.rules(round % 7), random.rules(round % 5));
        let (Ok(old), Ok(new)) = (List::of(&old_rules), List::of(&new_rules)) else { continue };
        let mut kernel = Kernel::default();
        for write in old.anew() {
            kernel.write(&write.to_string(), write.allow).unwrap();
        }
        let Some(writes) = new.change(&List::parse(&kernel.list())) else {
            assert!(old.allow || new.allow);
            continue;
        };
        changes += 1;
        let requests = requests(&[old_rules.clone(), new_rules.clone()].concat());
        for write in &writes {
            assert!(write.what.is_some(), "a disruptive write");
            kernel.write(&write.to_string(), write.allow).unwrap();
            for &request in &requests {
                let (before, after) = (naive(&old_rules, request), naive(&new_rules, request));
                let now = kernel.allows(request);
                assert!(now || !(before && after), "{request:?} is refused after {write}: {old:?} {new:?}");
                assert!(!now || before || after, "{request:?} is allowed after {write}: {old:?} {new:?}");
            }
        }
        for &request in &requests {
            assert_eq!(kernel.allows(request), naive(&new_rules, request), "{request:?}");
        }
        assert!(new.change(&List::parse(&kernel.list())).unwrap().is_empty());
    }
    assert!(changes > 500, "{changes}");
}

#[test]
fn what_version_1_cannot_say() {
    let refused = |lines: &[&str]| lists::check(&with_defaults(&rules(lines))).map_err(|error| error.to_string());
    assert_eq!(refused(&["deny a", "allow c 10:200", "deny b 8:*"]), Ok(()));
    assert_eq!(refused(&["allow a", "deny c 10:200 rw", "deny b 8:* rw"]), Ok(()));
    assert_eq!(refused(&["allow a", "deny b *:* rw"]), Ok(()));
    assert_eq!(refused(&["deny a", "allow c *:* rwm", "deny c 10:200 rw"]), Ok(()), "as exceptions of allow");
    let error = refused(&["allow a", "deny b 8:* rw", "allow b 8:1"]).unwrap_err();
    assert!(error.contains("b 8:1") && error.contains("(config.json /linux/resources/devices/2)"), "{error}");
    let error = refused(&["deny a", "allow b 8:* rw", "deny b 8:1 rw"]).unwrap_err();
    assert!(error.contains("/linux/resources/devices/2"), "{error}");
}

#[test]
fn few_writes_for_docker() {
    let list = List::of(&docker()).unwrap();
    let writes: Vec<String> = list.anew().iter().map(ToString::to_string).collect();
    assert_eq!(
        writes,
        [
            "a",
            "c 1:5 rwm",
            "c 1:3 rwm",
            "c 1:9 rwm",
            "c 1:8 rwm",
            "c 5:0 rwm",
            "c 5:1 rwm",
            "c *:* m",
            "b *:* m",
            "c 1:7 rwm",
            "c 136:* rwm",
            "c 5:2 rwm",
            "c 10:200 rwm"
        ]
    );
}

/// `devices.list` shows what was asked for, in its order (as crun's does, and as OCI's suite wants it).
#[test]
fn the_list_shows_the_rules() {
    let shown = |lines: &[&str], count: usize| -> Vec<String> {
        let list = List::of(&with_defaults(&rules(lines))).unwrap();
        list.anew().iter().skip(1).take(count).map(ToString::to_string).collect()
    };
    let lines = ["deny a", "allow c 10:229 rwm", "allow b 8:20 rw", "allow b 10:200 r"];
    assert_eq!(shown(&lines, 3), ["c 10:229 rwm", "b 8:20 rw", "b 10:200 r"]);
    // who opens for both is asked about both at once
    assert_eq!(shown(&["allow b 8:* r", "allow b 8:1 w"], 2), ["b 8:* r", "b 8:1 rw"]);
}

#[test]
fn the_words_of_systemd() {
    let words = |lines: &[&str], backed| match policy(&with_defaults(&rules(lines)), backed).unwrap() {
        Policy::Auto => vec!["auto".to_owned()],
        Policy::Strict(list) => list.into_iter().map(|one| format!("{} {}", one.node, one.access)).collect(),
    };
    let default = [
        "char-* m",
        "char-136 rwm",
        "/dev/char/1:3 rwm",
        "/dev/char/1:5 rwm",
        "/dev/char/1:7 rwm",
        "/dev/char/1:8 rwm",
        "/dev/char/1:9 rwm",
        "/dev/char/5:0 rwm",
        "/dev/char/5:2 rwm",
        "block-* m",
    ];
    assert_eq!(words(&[], false), default);
    assert_eq!(words(&["deny a", "allow b 8:0 r"], true)[10..], ["/dev/block/8:0 rm"]);
    assert_eq!(words(&["allow a"], false), ["auto"]);
    // an exception to everything: too wide or too narrow, never both
    assert_eq!(words(&["allow a", "deny c 1:11 rw"], true), ["char-* rwm", "block-* rwm"]);
    let narrow = words(&["allow a", "deny c 1:11 rw"], false);
    assert_eq!(narrow, ["char-* m", "block-* rwm"]);
    assert_eq!(words(&["allow c *:7 r"], false)[0], "char-* m");
    assert_eq!(words(&["allow c *:7 r"], true)[0], "char-* rm");
}

/// What systemd would allow by the list holds all that the rules allow, or nothing that they do not.
#[test]
fn systemd_errs_to_the_side_that_it_is_told() {
    let mut random = Random::new(4);
    for round in 0..500 {
        let rules = random.rules(round % 8);
        for backed in [false, true] {
            let Policy::Strict(list) = policy(&rules, backed).unwrap() else { continue };
            for request in requests(&rules) {
                let kind = if request.block { "block" } else { "char" };
                let nodes = [
                    format!("{kind}-*"),
                    format!("{kind}-{}", request.major),
                    format!("/dev/{kind}/{}:{}", request.major, request.minor),
                ];
                let has = |access: &str, bit: u8, letter| request.access & bit == 0 || access.contains(letter);
                let allowed = list.iter().any(|one| {
                    let access = one.access.as_str();
                    nodes.contains(&one.node)
                        && has(access, READ, 'r')
                        && has(access, WRITE, 'w')
                        && has(access, MKNOD, 'm')
                });
                let want = naive(&rules, request);
                let fine = if backed { allowed || !want } else { want || !allowed };
                assert!(fine, "{request:?} backed {backed}: {rules:#?} {list:?}");
            }
        }
    }
}
