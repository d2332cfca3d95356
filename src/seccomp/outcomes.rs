//! What a profile says of each system call number of an architecture: intervals with one outcome each.
//!
//! Of several rules for a call the first without conditions decides alone, wherever it stands
//! (libseccomp keeps it and drops the rest). Else the first rule whose conditions are met decides, and
//! if there is none, the default action.

use crate::config::seccomp::{Action, Arch, Condition, Op, Rule, Seccomp};

use super::arch::{self, Mux, Row, X32_BIT};
use super::assembler::Target;
use super::value;

pub(super) const KILL_THREAD: u32 = libc::SECCOMP_RET_KILL_THREAD;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// A tracer sets the number to -1 to skip a call; it must not be taken for a call of x32.
const SKIPPED: u32 = u32::MAX;

/// A profile whose names are resolved to rows of the table.
pub(super) struct Profile<'a> {
    pub(super) default: u32,
    /// Whether calls that are newer than the profile get ENOSYS. A permissive profile means them too,
    /// and a tracer is trusted to cope with them.
    ages: bool,
    /// In the profile's order.
    rules: Vec<(&'static Row, &'a Rule)>,
    pub(super) unknown: Vec<&'a str>,
    socketcall: Option<&'static Row>,
    ipc: Option<&'static Row>,
}

/// The conditional rules of one system call. Equal chains share their code.
#[derive(PartialEq)]
pub(super) struct Chain<'a> {
    pub(super) rules: Vec<Alternative<'a>>,
    pub(super) narrow: bool,
    pub(super) big_endian: bool,
}

/// A rule of a chain, with its call's place among those multiplexed, if it is reached that way.
#[derive(Clone, Copy)]
pub(super) struct Alternative<'a> {
    pub(super) rule: &'a Rule,
    mux: Option<Mux>,
}

impl PartialEq for Alternative<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.rule, other.rule) && self.mux == other.mux
    }
}

impl Alternative<'_> {
    /// All conditions. The first argument of a multiplexed call is its number, so the rule's condition
    /// on the first argument gives way, as in libseccomp. Unlike there, only the bits that the kernel
    /// looks at are compared: the others would be a way around a rule that denies.
    pub(super) fn conditions(&self) -> impl Iterator<Item = Condition> {
        let number = self.mux.map(|mux| {
            let (mask, number) = match mux {
                Mux::Socketcall(number) => (u64::from(u32::MAX), number),
                Mux::Ipc(number) => (0xffff, number),
            };
            Condition { index: 0, value: mask, value_two: u64::from(number), op: Op::MaskedEq }
        });
        let first = if number.is_some() { 1 } else { 0 };
        number.into_iter().chain(self.rule.conditions.iter().copied().filter(move |c| c.index >= first))
    }

    fn unconditional(&self) -> bool {
        self.rule.conditions.is_empty() && self.mux.is_none()
    }
}

/// What becomes of the calls that carry one audit token.
pub(super) struct Section {
    pub(super) audit: u32,
    pub(super) intervals: Intervals,
}

/// First number and outcome of each interval: the first starts at 0, each ends where the next starts,
/// and neighbours differ.
#[derive(Default)]
pub(super) struct Intervals(pub(super) Vec<(u32, Target)>);

impl Intervals {
    fn push(&mut self, start: u32, target: Target) {
        if self.0.last().is_none_or(|&(_, last)| last != target) {
            self.0.push((start, target));
        }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = Target> {
        self.0.iter().map(|&(_, target)| target)
    }
}

/// A rule for one number.
struct Entry<'a> {
    number: u32,
    /// Among the profile's rules.
    position: usize,
    rule: Alternative<'a>,
}

impl<'a> Profile<'a> {
    pub(super) fn resolve(seccomp: &'a Seccomp) -> Self {
        let mut rules = Vec::new();
        let mut unknown = Vec::new();
        for rule in &seccomp.rules {
            for name in &rule.names {
                match arch::find(name) {
                    Some(row) => rules.push((row, rule)),
                    None => unknown.push(name.as_str()),
                }
            }
        }
        let permissive = matches!(seccomp.default_action, Action::Allow | Action::Log | Action::Trace(_));
        Self {
            default: value(seccomp.default_action),
            ages: !permissive,
            rules,
            unknown,
            socketcall: arch::find("socketcall"),
            ipc: arch::find("ipc"),
        }
    }

    /// The section of an architecture that has an audit token of its own.
    pub(super) fn section(&self, arch: Arch, chains: &mut Vec<Chain<'a>>) -> Section {
        let mut intervals = Intervals::default();
        self.fill(arch, 0, &mut intervals, chains);
        Section { audit: arch::facts(arch).audit, intervals }
    }

    /// The section of the token that x86_64 and x32 share: the numbers of x32 are above all others.
    /// The calls of the one that is not listed are foreign.
    pub(super) fn x86_64(&self, x86_64: bool, x32: bool, chains: &mut Vec<Chain<'a>>) -> Section {
        let mut intervals = Intervals::default();
        if x86_64 {
            self.fill(Arch::X86_64, 0, &mut intervals, chains);
        } else {
            intervals.push(0, Target::Ret(KILL_THREAD));
        }
        if x32 {
            self.fill(Arch::X32, X32_BIT, &mut intervals, chains);
        } else {
            intervals.push(X32_BIT, Target::Ret(KILL_THREAD));
            intervals.push(SKIPPED, Target::Ret(self.default));
        }
        Section { audit: arch::facts(Arch::X86_64).audit, intervals }
    }

    /// Appends the outcomes of an architecture's numbers, of which `start` is the first.
    fn fill(&self, arch: Arch, start: u32, intervals: &mut Intervals, chains: &mut Vec<Chain<'a>>) {
        let (entries, newest) = self.entries(arch);
        let known = match newest {
            Some(newest) if self.ages => newest + 1,
            _ => u32::MAX,
        };
        // from `next` on nothing is said yet
        let mut next = start;
        let gap = |intervals: &mut Intervals, to: Option<u32>, next: u32| {
            if next < known && to != Some(next) {
                intervals.push(next, Target::Ret(self.default));
            }
            if to.is_none_or(|to| to > known) && known != u32::MAX {
                intervals.push(next.max(known), Target::Ret(ENOSYS));
            }
        };
        if self.ages && newest.is_some() && matches!(arch, Arch::S390 | Arch::S390x) {
            // a number above the kernel's last one arrives as 0 there
            intervals.push(0, Target::Ret(ENOSYS));
            next = 1;
        }
        for rules in entries.chunk_by(|a, b| a.number == b.number) {
            let Some(number) = rules.first().map(|rule| rule.number).filter(|&number| number >= next) else {
                continue;
            };
            gap(intervals, Some(number), next);
            intervals.push(number, outcome(rules, arch, chains));
            next = number + 1;
        }
        gap(intervals, None, next);
    }

    /// The rules by number and in the profile's order, and the largest number that the profile knows.
    fn entries(&self, arch: Arch) -> (Vec<Entry<'a>>, Option<u32>) {
        let number = |row: Option<&Row>| row.and_then(|row| row.number(arch));
        let (socketcall, ipc) = (number(self.socketcall), number(self.ipc));
        let mut entries = Vec::with_capacity(self.rules.len());
        let mut newest = None;
        for (position, &(row, rule)) in self.rules.iter().enumerate() {
            // such a rule changes nothing, but it shows that the profile knows the call
            let idle = value(rule.action) == self.default;
            let mut add = |number: Option<u32>, mux| {
                if let Some(number) = number.filter(|_| !idle) {
                    entries.push(Entry { number, position, rule: Alternative { rule, mux } });
                }
            };
            let direct = row.number(arch);
            add(direct, None);
            match row.mux() {
                Some(mux @ Mux::Socketcall(_)) => add(socketcall, Some(mux)),
                Some(mux @ Mux::Ipc(_)) => add(ipc, Some(mux)),
                None => {}
            }
            newest = newest.max(direct.filter(|&number| !arch::is_private(arch, number)));
        }
        entries.sort_unstable_by_key(|entry| (entry.number, entry.position));
        (entries, newest)
    }
}

/// The outcome of a call by all its rules.
fn outcome<'a>(rules: &[Entry<'a>], arch: Arch, chains: &mut Vec<Chain<'a>>) -> Target {
    if let Some(entry) = rules.iter().find(|entry| entry.rule.unconditional()) {
        return Target::Ret(value(entry.rule.rule.action));
    }
    let facts = arch::facts(arch);
    let chain = Chain {
        rules: rules.iter().map(|entry| entry.rule).collect(),
        narrow: facts.narrow,
        big_endian: facts.big_endian(),
    };
    Target::Chain(chains.iter().position(|known| *known == chain).unwrap_or_else(|| {
        chains.push(chain);
        chains.len() - 1
    }))
}
