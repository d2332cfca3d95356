//! Lays out a program from its end to its beginning, so that the distance of a jump is known when it is made.
//!
//! Conditional jumps reach 255 instructions. What is farther is brought near: a return is copied, anything
//! else is reached through an unconditional jump.

use super::Instruction;
use super::outcomes::{Intervals, KILL_THREAD};

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
/// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The reach of a conditional jump, less the instructions that may come between it and its first goal.
const NEAR: usize = 250;

/// Where a system call number leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Ret(u32),
    /// An index into the chains.
    Chain(usize),
}

/// An instruction, counted from the program's end.
#[derive(Clone, Copy)]
pub(super) struct Label(usize);

/// Where a branch of a tree goes.
#[derive(Clone, Copy)]
pub(super) enum Branch {
    Leaf(Target),
    Node(Label),
}

pub(super) struct Assembler {
    /// The last instruction comes first.
    code: Vec<Instruction>,
    /// The nearest place of each target that has one.
    places: Vec<(Target, Label)>,
}

impl Assembler {
    pub(super) fn new() -> Self {
        Self { code: Vec::with_capacity(1024), places: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.code.len()
    }

    /// The program.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.code.reverse();
        self.code
    }

    /// The instruction that was made last.
    pub(super) fn here(&self) -> Label {
        Label(self.code.len() - 1)
    }

    pub(super) fn knows(&self, target: Target) -> bool {
        self.places.iter().any(|&(known, _)| known == target)
    }

    /// Makes the last instruction the place of a target.
    pub(super) fn mark(&mut self, target: Target) {
        let here = self.here();
        match self.places.iter_mut().find(|(known, _)| *known == target) {
            Some(place) => place.1 = here,
            None => self.places.push((target, here)),
        }
    }

    /// Instructions that were made elsewhere, the first one first.
    pub(super) fn block(&mut self, instructions: impl DoubleEndedIterator<Item = Instruction>) {
        self.code.extend(instructions.rev());
    }

    pub(super) fn ret(&mut self, value: u32) {
        self.push(RETURN, 0, 0, value);
        self.mark(Target::Ret(value));
    }

    pub(super) fn load_number(&mut self) {
        self.push(LOAD, 0, 0, NUMBER);
    }

    pub(super) fn load_arch(&mut self) {
        self.push(LOAD, 0, 0, ARCH);
    }

    pub(super) fn if_equal(&mut self, value: u32, then: Label, otherwise: Label) -> Label {
        self.branch(EQUAL, value, Branch::Node(then), Branch::Node(otherwise))
    }

    /// A tree over intervals of numbers; it expects the number to be loaded.
    pub(super) fn tree(&mut self, intervals: &Intervals) {
        let root = self.subtree(&intervals.0);
        let label = self.near(root);
        if label.0 != self.here().0 {
            // one interval alone: there is nothing to compare
            self.push(JUMP, 0, 0, (self.code.len() - label.0 - 1) as u32);
        }
    }

    fn subtree(&mut self, intervals: &[(u32, Target)]) -> Branch {
        match *intervals {
            [] | [_] => Branch::Leaf(intervals.first().map_or(Target::Ret(KILL_THREAD), |&(_, only)| only)),
            [(_, around), (start, inside), (end, after)] if around == after && end - start == 1 => {
                Branch::Node(self.branch(EQUAL, start, Branch::Leaf(inside), Branch::Leaf(around)))
            }
            _ => {
                let middle = intervals.len() / 2;
                let (low, high) = intervals.split_at(middle);
                let start = high[0].0;
                let high = self.subtree(high);
                let low = self.subtree(low);
                Branch::Node(self.branch(AT_LEAST, start, high, low))
            }
        }
    }

    fn branch(&mut self, code: u16, value: u32, then: Branch, otherwise: Branch) -> Label {
        let then = self.near(then);
        let otherwise = self.near(otherwise);
        let distance = |label: Label| (self.code.len() - label.0 - 1) as u8;
        self.push(code, distance(then), distance(otherwise), value);
        self.here()
    }

    /// A label within reach that leads to the branch.
    fn near(&mut self, branch: Branch) -> Label {
        let place = match branch {
            Branch::Node(label) => Some(label),
            Branch::Leaf(target) => self.places.iter().find(|(known, _)| *known == target).map(|&(_, label)| label),
        };
        match (place, branch) {
            (Some(label), _) if self.code.len() - label.0 <= NEAR => return label,
            (_, Branch::Leaf(Target::Ret(value))) => self.ret(value),
            (Some(label), _) => {
                self.push(JUMP, 0, 0, (self.code.len() - label.0 - 1) as u32);
                if let Branch::Leaf(target) = branch {
                    self.mark(target);
                }
            }
            // every chain is laid out before its tree; if not, the call is not let through
            (None, _) => self.ret(KILL_THREAD),
        }
        self.here()
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) {
        self.code.push(Instruction { code, jt, jf, k });
    }
}
