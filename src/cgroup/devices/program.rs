//! A [`Table`] as the eBPF program that cgroup v2 asks before a device is opened or made. Pure.
//!
//! The kernel shows it `struct bpf_cgroup_dev_ctx` of linux/bpf.h: kind and access in one word, major, minor.
//! Loading costs time in every create, so it is short: what every entry allows is decided first, and the rest
//! by a search for the major number and then one for the minor.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::sys::bpf::Instruction;

use super::emulate::{ALL, Numbers, Table};

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const EXIT: u8 = 0x95;
const JUMP: u8 = 0x05;
/// Comparisons of 32 bits (Linux 5.1), with a constant.
const IF_EQUAL: u8 = 0x16;
const IF_NOT_EQUAL: u8 = 0x56;
const IF_AT_LEAST: u8 = 0x36;
const IF_ANY_BIT: u8 = 0x46;

const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
/// Kind in the low half, access in the high one.
const ACCESS: u8 = 2;
const MAJOR: u8 = 3;
const MINOR: u8 = 4;

/// BPF_DEVCG_DEV_BLOCK; the other kind has another bit.
const BLOCK: i32 = 1;

/// Up to so many numbers are compared one by one.
const FEW: usize = 6;

/// A place in the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Allow,
    Deny,
    /// Allow if no other access is asked for.
    Only(u8),
    /// Whatever else; numbered.
    Block(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Do(Instruction),
    /// Code, register, constant, where to.
    Jump(u8, u8, i32, Label),
    Here(Label),
}

/// # Errors
/// There are more entries than jumps can cross.
pub fn compile(table: &Table) -> Result<Vec<Instruction>> {
    let mut writer = Writer { always: always(table), code: Vec::new(), blocks: 0, only: BTreeSet::new() };
    if writer.always == ALL {
        return Ok(vec![Instruction::new(MOVE, RESULT, 0, 0, 1), Instruction::new(EXIT, 0, 0, 0, 0)]);
    }
    writer.instruction(MOVE, RESULT, 0, 0, 0);
    writer.instruction(LOAD_WORD, ACCESS, CONTEXT, 0, 0);
    if writer.always != 0 {
        let rest = writer.label();
        writer.jump(IF_ANY_BIT, ACCESS, asks(ALL & !writer.always), rest);
        writer.go(Label::Allow);
        writer.here(rest);
    }
    if table.chars == table.blocks {
        writer.kind(&table.chars);
    } else {
        let (blocks, direct) = writer.entry(&table.blocks);
        writer.jump(IF_ANY_BIT, ACCESS, BLOCK, blocks);
        writer.kind(&table.chars);
        if !direct {
            writer.here(blocks);
            writer.kind(&table.blocks);
        }
    }
    writer.end();
    resolve(&shorten(writer.code))
}

/// What is allowed with every device.
fn always(table: &Table) -> u8 {
    let of = |numbers: &Numbers| {
        let rows = numbers.majors.values().chain(numbers.minors.values()).chain(numbers.exact.values());
        rows.fold(numbers.rest, |all, bits| all & bits)
    };
    of(&table.chars) & of(&table.blocks)
}

/// Bits of access as they stand in the first word.
fn asks(bits: u8) -> i32 {
    i32::from(bits) << 16
}

struct Writer {
    /// Who asks for no more than this has been answered.
    always: u8,
    code: Vec<Op>,
    blocks: usize,
    /// The [`Label::Only`] that were named.
    only: BTreeSet<u8>,
}

impl Writer {
    fn instruction(&mut self, code: u8, to: u8, from: u8, offset: i16, constant: i32) {
        self.code.push(Op::Do(Instruction::new(code, to, from, offset, constant)));
    }

    fn jump(&mut self, code: u8, register: u8, constant: i32, to: Label) {
        self.code.push(Op::Jump(code, register, constant, to));
    }

    fn go(&mut self, to: Label) {
        self.jump(JUMP, 0, 0, to);
    }

    fn here(&mut self, label: Label) {
        self.code.push(Op::Here(label));
    }

    fn label(&mut self) -> Label {
        self.blocks += 1;
        Label::Block(self.blocks)
    }

    /// Where it is decided when the device's bits are known.
    fn leaf(&mut self, bits: u8) -> Label {
        match bits {
            ALL => Label::Allow,
            _ if bits == self.always => Label::Deny,
            _ => {
                self.only.insert(bits);
                Label::Only(bits)
            }
        }
    }

    /// Where a kind's part begins, and whether that is a leaf already.
    fn entry(&mut self, numbers: &Numbers) -> (Label, bool) {
        let direct = numbers.majors.is_empty() && numbers.minors.is_empty() && numbers.exact.is_empty();
        (if direct { self.leaf(numbers.rest) } else { self.label() }, direct)
    }

    fn kind(&mut self, numbers: &Numbers) {
        let mut rows: BTreeMap<u32, Vec<(u32, u8)>> = numbers.majors.keys().map(|major| (*major, Vec::new())).collect();
        for ((major, minor), bits) in &numbers.exact {
            rows.entry(*major).or_default().push((*minor, *bits));
        }
        if !rows.is_empty() {
            self.instruction(LOAD_WORD, MAJOR, CONTEXT, 4, 0);
        }
        if !numbers.exact.is_empty() || !numbers.minors.is_empty() {
            self.instruction(LOAD_WORD, MINOR, CONTEXT, 8, 0);
        }
        // where a device goes that has no row
        let rest = if numbers.minors.is_empty() { self.leaf(numbers.rest) } else { self.label() };
        let mut cases = Vec::new();
        let mut blocks = Vec::new();
        for (major, minors) in &rows {
            let otherwise = match numbers.majors.get(major) {
                Some(bits) => self.leaf(*bits),
                None => rest,
            };
            let to = if minors.is_empty() { otherwise } else { self.label() };
            cases.push((*major, to));
            if !minors.is_empty() {
                blocks.push((to, minors, otherwise));
            }
        }
        self.choose(MAJOR, &cases, rest);
        for (label, minors, otherwise) in blocks {
            self.here(label);
            self.choose_leaf(minors, otherwise);
        }
        if !numbers.minors.is_empty() {
            self.here(rest);
            let minors: Vec<(u32, u8)> = numbers.minors.iter().map(|(minor, bits)| (*minor, *bits)).collect();
            let otherwise = self.leaf(numbers.rest);
            self.choose_leaf(&minors, otherwise);
        }
    }

    fn choose_leaf(&mut self, minors: &[(u32, u8)], otherwise: Label) {
        let cases: Vec<(u32, Label)> = minors.iter().map(|(minor, bits)| (*minor, self.leaf(*bits))).collect();
        self.choose(MINOR, &cases, otherwise);
    }

    /// Goes where the case of this number leads. `cases` are sorted.
    fn choose(&mut self, register: u8, cases: &[(u32, Label)], otherwise: Label) {
        if cases.len() <= FEW {
            for (number, to) in cases {
                if *to != otherwise {
                    self.jump(IF_EQUAL, register, number.cast_signed(), *to);
                }
            }
            self.go(otherwise);
            return;
        }
        let (low, high) = cases.split_at(cases.len() / 2);
        let upper = self.label();
        self.jump(IF_AT_LEAST, register, high[0].0.cast_signed(), upper);
        self.choose(register, low, otherwise);
        self.here(upper);
        self.choose(register, high, otherwise);
    }

    fn end(&mut self) {
        for bits in std::mem::take(&mut self.only) {
            self.here(Label::Only(bits));
            self.jump(IF_ANY_BIT, ACCESS, asks(ALL & !bits), Label::Deny);
            self.go(Label::Allow);
        }
        self.here(Label::Allow);
        self.instruction(MOVE, RESULT, 0, 0, 1);
        // the result is 0 until here
        self.here(Label::Deny);
        self.instruction(EXIT, 0, 0, 0, 0);
    }
}

/// Leaves out jumps to the next instruction, turning the test before one around where that helps.
fn shorten(code: Vec<Op>) -> Vec<Op> {
    let follows = |at: usize, label: Label| {
        let places = code.iter().skip(at).map_while(|op| match op {
            Op::Here(here) => Some(*here),
            _ => None,
        });
        places.into_iter().any(|here| here == label)
    };
    let mut short: Vec<Op> = Vec::with_capacity(code.len());
    for (at, op) in code.iter().enumerate() {
        if let Op::Jump(JUMP, _, _, to) = *op {
            if follows(at + 1, to) {
                continue;
            }
            if let Some(Op::Jump(IF_EQUAL, register, number, equal)) = short.last().copied()
                && follows(at + 1, equal)
            {
                short.pop();
                short.push(Op::Jump(IF_NOT_EQUAL, register, number, to));
                continue;
            }
        }
        short.push(*op);
    }
    short
}

/// Puts distances in place of names.
fn resolve(code: &[Op]) -> Result<Vec<Instruction>> {
    let mut places = BTreeMap::new();
    let mut length = 0;
    for op in code {
        match op {
            Op::Here(label) => {
                places.insert(*label, length);
            }
            _ => length += 1,
        }
    }
    let too_long = || Error::new("more device rules than one program can hold").at("/linux/resources/devices");
    let mut program = Vec::with_capacity(length);
    for op in code {
        match *op {
            Op::Here(_) => {}
            Op::Do(instruction) => program.push(instruction),
            Op::Jump(code, register, constant, to) => {
                let distance = places.get(&to).and_then(|place| place.checked_sub(program.len() + 1));
                let offset = distance.and_then(|distance| i16::try_from(distance).ok()).ok_or_else(too_long)?;
                program.push(Instruction::new(code, register, 0, offset, constant));
            }
        }
    }
    Ok(program)
}
