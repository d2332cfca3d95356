//! What a list of rules means, on either version of cgroups. Pure.
//!
//! Nothing is allowed until a rule allows it; the last rule that names a device decides, for each way of access
//! by itself (config-linux.md: "MUST apply entries in the listed order").

use std::collections::BTreeMap;

use crate::config::resources::{Access, DeviceRule, RuleKind};
use crate::error::{Error, Result};

/// BPF_DEVCG_ACC_* of linux/bpf.h, and DEVCG_ACC_* of v1.
pub const MKNOD: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 4;
pub const ALL: u8 = MKNOD | READ | WRITE;

/// Lists with `MAJOR:*` and `*:MINOR` meet in as many devices as the one has entries times the other.
const MOST: usize = 1 << 16;

/// What may be done with each device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    pub chars: Numbers,
    pub blocks: Numbers,
}

/// Bits of access by number: `exact` holds, else `majors`, else `minors`, else `rest`. No entry says what holds
/// without it, so that equal meanings are equal values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    pub rest: u8,
    pub majors: BTreeMap<u32, u8>,
    pub minors: BTreeMap<u32, u8>,
    pub exact: BTreeMap<(u32, u32), u8>,
}

/// The letters of `access` as bits.
pub fn bits(access: Access) -> u8 {
    let bit = |has, bit| if has { bit } else { 0 };
    bit(access.read, READ) | bit(access.write, WRITE) | bit(access.mknod, MKNOD)
}

/// The other way round: `rwm`.
pub fn letters(bits: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| bits & bit != 0).map(|(_, c)| c).collect()
}

impl Table {
    /// # Errors
    /// More entries than any list has that was meant.
    pub fn of(rules: &[DeviceRule]) -> Result<Self> {
        let mut table = Self::default();
        for rule in rules {
            let change = |old: u8| if rule.allow { old | bits(rule.access) } else { old & !bits(rule.access) };
            if rule.kind != RuleKind::Block {
                table.chars.change(rule, change)?;
            }
            if rule.kind != RuleKind::Char {
                table.blocks.change(rule, change)?;
            }
        }
        table.chars.normalise();
        table.blocks.normalise();
        Ok(table)
    }

    /// Whether no device is refused.
    pub fn allows_everything(&self) -> bool {
        let everything = Numbers { rest: ALL, ..Numbers::default() };
        self.chars == everything && self.blocks == everything
    }

    /// Of both kinds: character devices first.
    pub fn numbers(&self) -> [&Numbers; 2] {
        [&self.chars, &self.blocks]
    }
}

impl Numbers {
    /// What holds for a device.
    pub fn get(&self, major: u32, minor: u32) -> u8 {
        self.exact.get(&(major, minor)).copied().unwrap_or_else(|| self.beside(major, minor))
    }

    /// The same without its entry in `exact`.
    fn beside(&self, major: u32, minor: u32) -> u8 {
        self.majors.get(&major).or_else(|| self.minors.get(&minor)).copied().unwrap_or(self.rest)
    }

    fn change(&mut self, rule: &DeviceRule, change: impl Fn(u8) -> u8) -> Result<()> {
        match (rule.major, rule.minor) {
            (None, None) => {
                self.rest = change(self.rest);
                self.majors.values_mut().for_each(|bits| *bits = change(*bits));
                self.minors.values_mut().for_each(|bits| *bits = change(*bits));
                self.exact.values_mut().for_each(|bits| *bits = change(*bits));
            }
            (Some(major), None) => {
                if !self.majors.contains_key(&major) {
                    // what the new entry would hide
                    for (minor, bits) in &self.minors {
                        self.exact.entry((major, *minor)).or_insert(*bits);
                    }
                }
                let bits = self.majors.entry(major).or_insert(self.rest);
                *bits = change(*bits);
                let same = self.exact.range_mut((major, 0)..=(major, u32::MAX));
                same.for_each(|(_, bits)| *bits = change(*bits));
            }
            (None, Some(minor)) => {
                if !self.minors.contains_key(&minor) {
                    // what would hide the new entry
                    for (major, bits) in &self.majors {
                        self.exact.entry((*major, minor)).or_insert(*bits);
                    }
                }
                let bits = self.minors.entry(minor).or_insert(self.rest);
                *bits = change(*bits);
                let same = self.exact.iter_mut().filter(|((_, other), _)| *other == minor);
                same.for_each(|(_, bits)| *bits = change(*bits));
            }
            (Some(major), Some(minor)) => {
                let bits = change(self.get(major, minor));
                self.exact.insert((major, minor), bits);
            }
        }
        if self.exact.len() + self.majors.len() + self.minors.len() <= MOST {
            return Ok(());
        }
        Err(Error::new(format!("the device rules name more than {MOST} sets of devices"))
            .at(rule.pointer.as_deref().unwrap_or("/linux/resources/devices")))
    }

    /// Leaves out what holds anyway. An entry of `majors` or `minors` that says what the rest says hides nothing
    /// but what is in `exact`.
    fn normalise(&mut self) {
        let rest = self.rest;
        self.majors.retain(|_, bits| *bits != rest);
        self.minors.retain(|_, bits| *bits != rest);
        let mut exact = std::mem::take(&mut self.exact);
        exact.retain(|(major, minor), bits| *bits != self.beside(*major, *minor));
        self.exact = exact;
    }
}
