//! The devices controller of cgroup v1: what its files mean, and which writes lead from one state to another.
//! Pure.
//!
//! The kernel (security/device_cgroup.c) has a default and a list of exceptions to it, all of one sense. With
//! default deny a request passes if one exception covers it whole; with default allow it is refused if any
//! exception covers a part of it. `devices.list` shows no exceptions of default allow.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::config::resources::{DeviceRule, RuleKind};
use crate::error::{Error, Result};

use super::emulate::{ALL, MKNOD, Numbers, READ, Table, WRITE, bits, letters};

/// What an exception is about. None is every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Devices {
    pub block: bool,
    pub major: Option<u32>,
    pub minor: Option<u32>,
}

/// A cgroup's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List {
    /// What no exception is about is allowed.
    pub allow: bool,
    pub exceptions: BTreeMap<Devices, u8>,
    /// In the order of the rules, as `devices.list` shows them then.
    order: Vec<Devices>,
}

/// One write to `devices.allow` or `devices.deny`: the kernel takes one rule each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    pub allow: bool,
    /// None: all devices, and the exceptions so far are forgotten.
    pub what: Option<(Devices, u8)>,
}

/// # Errors
/// The list means what version 1 cannot say.
pub fn check(rules: &[DeviceRule]) -> Result<()> {
    List::of(rules).map(drop)
}

impl List {
    /// # Errors
    /// As [`check`].
    pub fn of(rules: &[DeviceRule]) -> Result<Self> {
        let table = Table::of(rules)?;
        let denying = || exceptions(&table, |bits| bits).map(|exceptions| (false, covering(exceptions, rules)));
        let allowing = || exceptions(&table, |bits| ALL & !bits).map(|exceptions| (true, exceptions));
        let everything = table.chars.rest == ALL && table.blocks.rest == ALL;
        let made = if everything { allowing() } else { denying().or_else(|hole| allowing().map_err(|_| hole)) };
        let (allow, exceptions) = made.map_err(|hole| inexpressible(rules, hole))?;
        let mut known = BTreeSet::new();
        let makers = rules.iter().filter(|rule| rule.allow != allow);
        let spelled = makers.flat_map(spelled).chain(exceptions.keys().copied());
        let order = spelled.filter(|devices| exceptions.contains_key(devices) && known.insert(*devices)).collect();
        Ok(Self { allow, exceptions, order })
    }

    /// The text of `devices.list`.
    pub fn parse(text: &str) -> Self {
        let mut list = Self::default();
        for line in text.lines() {
            let mut words = line.split([' ', ':']);
            let (kind, major, minor, access) = (words.next(), words.next(), words.next(), words.next());
            if kind == Some("a") {
                list.allow = true;
                continue;
            }
            let number = |word: Option<&str>| word.and_then(|word| word.parse().ok());
            let devices = Devices { block: kind == Some("b"), major: number(major), minor: number(minor) };
            let letter = |letter, bit| if access.is_some_and(|access| access.contains(letter)) { bit } else { 0 };
            let bits = letter('r', READ) | letter('w', WRITE) | letter('m', MKNOD);
            if list.exceptions.insert(devices, bits).is_none() {
                list.order.push(devices);
            }
        }
        list
    }

    /// The writes that make a cgroup so whatever it was, by way of its default alone.
    pub fn anew(&self) -> Vec<Write> {
        let all = Write { allow: self.allow, what: None };
        let exceptions = self.order.iter().filter_map(|devices| self.exceptions.get_key_value(devices));
        let exceptions = exceptions.map(|(devices, bits)| Write { allow: !self.allow, what: Some((*devices, *bits)) });
        std::iter::once(all).chain(exceptions).collect()
    }

    /// The writes from `old`, read from the kernel, to this: in between nothing is refused that both allow, and
    /// nothing is allowed that neither does. None where there is no such way: the default changes, or there may
    /// be exceptions that the kernel does not show.
    pub fn change(&self, old: &Self) -> Option<Vec<Write>> {
        if self.allow || old.allow {
            return None;
        }
        let bits = |list: &Self, devices| list.exceptions.get(devices).copied().unwrap_or_default();
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for devices in &self.order {
            let (was, is) = (bits(old, devices), bits(self, devices));
            let both = READ | WRITE;
            let grant = (is & !was != 0).then_some(Write { allow: true, what: Some((*devices, is & !was)) });
            // one who may read and one who may write: together they would be one who may open for both
            if (was | is) & both == both && was & both != both && is & both != both {
                last.push(Write { allow: false, what: Some((*devices, was & !is)) });
                last.extend(grant);
            } else {
                first.extend(grant);
            }
        }
        for devices in old.exceptions.keys() {
            let (was, is) = (bits(old, devices), bits(self, devices));
            let write = Write { allow: false, what: Some((*devices, was & !is)) };
            if was & !is != 0 && !last.contains(&write) {
                last.push(write);
            }
        }
        first.extend(last);
        Some(first)
    }
}

/// The exceptions of both kinds, `sense` of their bits each. Wider ones are part of narrower ones, as one alone
/// has to cover a request.
///
/// # Errors
/// What is less in this sense than a wider one: only the wider one would count.
fn exceptions(table: &Table, sense: impl Fn(u8) -> u8) -> Result<BTreeMap<Devices, u8>, Devices> {
    let mut exceptions = BTreeMap::new();
    for (numbers, block) in table.numbers().into_iter().zip([false, true]) {
        let wider = |major: &u32, minor: &u32| {
            let row = numbers.majors.get(major).map_or(0, |bits| sense(*bits));
            row | numbers.minors.get(minor).map_or(0, |bits| sense(*bits)) | sense(numbers.rest)
        };
        let mut add = |major: Option<u32>, minor: Option<u32>, bits: u8, wider: u8| {
            let devices = Devices { block, major, minor };
            if sense(bits) != 0 {
                exceptions.insert(devices, sense(bits));
            }
            if wider & !sense(bits) == 0 { Ok(()) } else { Err(devices) }
        };
        let rest = sense(numbers.rest);
        add(None, None, numbers.rest, 0)?;
        for (major, bits) in &numbers.majors {
            add(Some(*major), None, *bits, rest)?;
        }
        for (minor, bits) in &numbers.minors {
            add(None, Some(*minor), *bits, rest)?;
        }
        for ((major, minor), bits) in &numbers.exact {
            add(Some(*major), Some(*minor), *bits, wider(major, minor))?;
        }
        crossings(numbers).try_for_each(|(major, minor)| {
            add(Some(major), Some(minor), numbers.get(major, minor), wider(&major, &minor))
        })?;
    }
    Ok(exceptions)
}

/// What a rule names.
fn spelled(rule: &DeviceRule) -> impl Iterator<Item = Devices> {
    let kinds = [(false, RuleKind::Block), (true, RuleKind::Char)];
    let kinds = kinds.into_iter().filter(|(_, other)| rule.kind != *other);
    kinds.map(|(block, _)| Devices { block, major: rule.major, minor: rule.minor })
}

/// Without what a wider exception says already, unless a rule says it too: `devices.list` is to show the rules.
/// Nobody asks for mknod and something else at once, so reading and writing alone have to be in one.
fn covering(exceptions: BTreeMap<Devices, u8>, rules: &[DeviceRule]) -> BTreeMap<Devices, u8> {
    let mut said: BTreeMap<Devices, u8> = BTreeMap::new();
    for rule in rules {
        for devices in spelled(rule) {
            let old = said.entry(devices).or_default();
            *old = if rule.allow { *old | bits(rule.access) } else { *old & !bits(rule.access) };
        }
    }
    let both = READ | WRITE;
    let shown = |(devices, all): (&Devices, &u8)| {
        let wider = |major, minor| {
            let other = Devices { block: devices.block, major, minor };
            exceptions.get(&other).filter(|_| other != *devices).copied().unwrap_or_default()
        };
        let wider = [wider(None, None), wider(devices.major, None), wider(None, devices.minor)];
        let union = wider.iter().fold(0, |union, bits| union | bits);
        let own = all & (said.get(devices).copied().unwrap_or_default() | !union);
        let split = all & both == both && !wider.iter().any(|bits| bits & both == both);
        (*devices, if split { own | both } else { own })
    };
    exceptions.iter().map(shown).filter(|(_, bits)| *bits != 0).collect()
}

/// The devices that both a `MAJOR:*` and a `*:MINOR` are about.
fn crossings(numbers: &Numbers) -> impl Iterator<Item = (u32, u32)> {
    numbers.majors.keys().flat_map(|major| numbers.minors.keys().map(|minor| (*major, *minor)))
}

fn inexpressible(rules: &[DeviceRule], hole: Devices) -> Error {
    let kind = if hole.block { RuleKind::Char } else { RuleKind::Block };
    let meets = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    let about = |rule: &&DeviceRule| {
        rule.kind != kind && meets(rule.major, hole.major) && meets(rule.minor, hole.minor) && rule.pointer.is_some()
    };
    let pointer = rules.iter().rev().find(about).and_then(|rule| rule.pointer.as_deref());
    Error::new(format!("cgroup v1 has no exceptions to exceptions, and {hole} needs one"))
        .at(pointer.unwrap_or("/linux/resources/devices"))
        .hint("name the devices one by one, or use cgroup v2")
}

impl fmt::Display for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{} {}:{}", if self.block { 'b' } else { 'c' }, number(self.major), number(self.minor))
    }
}

/// As the kernel reads it.
impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            None => f.write_str("a"),
            Some((devices, bits)) => write!(f, "{devices} {}", letters(*bits)),
        }
    }
}
