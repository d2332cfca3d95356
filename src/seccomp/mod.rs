//! From a profile to a classic BPF program, in the parent and without a system call.
//!
//! ```text
//! ld arch; one jeq per audit token; ret KILL_THREAD
//! per token: ld nr; a balanced tree of comparisons over intervals of numbers of one outcome
//!            then the conditional rules of single calls, compiled by seccompiler
//! ```
//!
//! The program is the same as what runc and libseccomp make of a profile: calls newer than all that a
//! profile knows get ENOSYS, foreign architectures are killed. It is loaded by `sys::seccomp`.

mod arch;
mod assembler;
mod conditions;
mod outcomes;
mod table;

use crate::config::seccomp::{Action, Arch, POINTER, Seccomp};
use crate::error::{Context, Error, Result};

use assembler::{Assembler, Target};
use outcomes::{Chain, KILL_THREAD, Profile, Section};

pub use libc::sock_filter as Instruction;

/// `BPF_MAXINSNS`: the kernel takes no longer program.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A filter for seccomp(2).
#[derive(Debug, Clone)]
pub struct Program {
    pub instructions: Vec<Instruction>,
    /// Names in the profile that no architecture has a system call for; they are ignored.
    pub unknown: Vec<String>,
}

/// Compiles a profile for the machine that this runs on.
pub fn compile(seccomp: &Seccomp) -> Result<Program> {
    compile_for(seccomp, Arch::NATIVE)
}

/// Compiles a profile for a machine of the architecture `native`. Architectures whose programs such a
/// machine cannot run are left out: no system call ever comes from them, and a profile that lists all
/// that exist would else be too long.
pub fn compile_for(seccomp: &Seccomp, native: Arch) -> Result<Program> {
    let profile = Profile::resolve(seccomp);
    let mut chains = Vec::new();
    let sections = sections(seccomp, native, &profile, &mut chains);
    let instructions = assemble(profile.default, &sections, &chains).at(|| POINTER.to_owned())?;
    let unknown = profile.unknown.iter().map(|&name| name.to_owned()).collect();
    Ok(Program { instructions, unknown })
}

/// One section per audit token, in the profile's order.
fn sections<'a>(seccomp: &Seccomp, native: Arch, profile: &Profile<'a>, chains: &mut Vec<Chain<'a>>) -> Vec<Section> {
    let listed = |arch: Arch| seccomp.architectures.contains(&arch);
    let mut sections: Vec<Section> = Vec::new();
    for &arch in seccomp.architectures.iter().filter(|&&arch| arch::runs(native, arch)) {
        let audit = arch::facts(arch).audit;
        if sections.iter().all(|section| section.audit != audit) {
            sections.push(match arch {
                Arch::X86_64 | Arch::X32 => profile.x86_64(listed(Arch::X86_64), listed(Arch::X32), chains),
                _ => profile.section(arch, chains),
            });
        }
    }
    sections
}

/// Lays the program out, from its end to its beginning: jumps only go forward.
fn assemble(default: u32, sections: &[Section], chains: &[Chain<'_>]) -> Result<Vec<Instruction>> {
    let mut code = Assembler::new();
    let mut entries = Vec::with_capacity(sections.len());
    // the first section is the native one: made last, it stands first
    for section in sections.iter().rev() {
        for target in section.intervals.targets() {
            if let (Target::Chain(chain), false) = (target, code.knows(target)) {
                conditions::emit(&mut code, &chains[chain], default)?;
                code.mark(target);
            }
            check_length(&code)?;
        }
        code.tree(&section.intervals);
        code.load_number();
        entries.push((section.audit, code.here()));
    }
    code.ret(KILL_THREAD);
    let mut otherwise = code.here();
    for (audit, section) in entries {
        otherwise = code.if_equal(audit, section, otherwise);
    }
    code.load_arch();
    check_length(&code)?;
    Ok(code.finish())
}

fn check_length(code: &Assembler) -> Result<()> {
    if code.len() <= MAX_INSTRUCTIONS {
        return Ok(());
    }
    Err(Error::new(format!("the filter needs more than the {MAX_INSTRUCTIONS} instructions that the kernel takes"))
        .hint("use fewer rules with args, or fewer architectures"))
}

/// The value that a filter returns for an action (linux/seccomp.h).
fn value(action: Action) -> u32 {
    match action {
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Trace(data) => libc::SECCOMP_RET_TRACE | u32::from(data),
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Allow => libc::SECCOMP_RET_ALLOW,
    }
}
