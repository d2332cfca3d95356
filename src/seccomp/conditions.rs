//! The rules of one call that look at its arguments: their conditions are compiled by `seccompiler`.

use seccompiler::{BpfProgram, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use crate::config::seccomp::{Condition, Op};
use crate::error::{Error, Result};

use super::assembler::Assembler;
use super::outcomes::{Alternative, Chain};
use super::{Instruction, value};

/// seccompiler begins a rule with two jumps that tie it into its own list of rules.
const PREAMBLE: usize = 2;
/// Where struct seccomp_data has the arguments.
const ARGS: u32 = 16;
const HALF: u32 = 4;

/// Each rule in turn: its conditions, which jump behind its return unless they are met, and the return.
/// Behind the last one stands the default.
pub(super) fn emit(code: &mut Assembler, chain: &Chain<'_>, default: u32) -> Result<()> {
    code.ret(default);
    for rule in chain.rules.iter().rev() {
        code.ret(value(rule.rule.action));
        let conditions = compile(rule, chain.narrow)?;
        code.block(conditions.into_iter().skip(PREAMBLE).map(|instruction| Instruction {
            code: instruction.code,
            jt: instruction.jt,
            jf: instruction.jf,
            k: if chain.big_endian { swap_halves(instruction.code, instruction.k) } else { instruction.k },
        }));
    }
    Ok(())
}

fn compile(rule: &Alternative<'_>, narrow: bool) -> Result<BpfProgram> {
    let conditions = rule.conditions().map(|condition| translate(condition, narrow)).collect::<Result<_>>()?;
    Ok(SeccompRule::new(conditions).map_err(refused)?.into())
}

fn translate(condition: Condition, narrow: bool) -> Result<SeccompCondition> {
    let length = if narrow { SeccompCmpArgLen::Dword } else { SeccompCmpArgLen::Qword };
    let (op, value) = match condition.op {
        Op::Ne => (SeccompCmpOp::Ne, condition.value),
        Op::Lt => (SeccompCmpOp::Lt, condition.value),
        Op::Le => (SeccompCmpOp::Le, condition.value),
        Op::Eq => (SeccompCmpOp::Eq, condition.value),
        Op::Ge => (SeccompCmpOp::Ge, condition.value),
        Op::Gt => (SeccompCmpOp::Gt, condition.value),
        Op::MaskedEq => (SeccompCmpOp::MaskedEq(condition.value), condition.value_two),
    };
    SeccompCondition::new(condition.index, length, op, value).map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> Error {
    Error::new(format!("seccompiler: {error}"))
}

/// seccompiler knows only little-endian machines; on others the high half of an argument comes first.
fn swap_halves(code: u16, k: u32) -> u32 {
    let loads = u32::from(code) & 0x07 == libc::BPF_LD;
    if loads && k >= ARGS { k ^ HALF } else { k }
}
