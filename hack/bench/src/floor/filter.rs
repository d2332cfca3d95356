//! A seccomp program of the size and depth that a good compiler makes of Docker's profile.
//!
//! Intervals of equal verdict in a balanced tree of `>=` tests, one tree per architecture. Making it here costs
//! microseconds; loading it (verifier, JIT, the kernel's run over every system call) is the kernel work that counts.

use ferrun_bench::shape::{AF_VSOCK, CLONE_NAMESPACES, PERSONALITIES};
use ferrun_bench::syscalls::{ALLOWED, Syscall};
use libc::sock_filter;

const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const NOT_X32: u32 = 0xBFFF_FFFF;
const RET_ALLOW: u32 = 0x7FFF_0000;
const RET_ERRNO: u32 = 0x0005_0000;

// Opcodes, as in linux/bpf_common.h.
const LOAD: u16 = 0x20;
const JUMP_ALWAYS: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_AT_LEAST: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = 16;

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Allow,
    Errno(i32),
    Clone,
    Socket,
    Personality,
}

pub(crate) fn program() -> Vec<sock_filter> {
    let native = tree(&intervals(|row| row.1, [56, 435, 135, 41]));
    let compat = tree(&intervals(|row| row.2, [120, 435, 136, 359]));
    let mut code = vec![op(LOAD, ARCH)];
    // The native half may be longer than a conditional jump reaches.
    code.push(jump(JUMP_EQUAL, AUDIT_ARCH_X86_64, 1, 0));
    code.push(op(JUMP_ALWAYS, native.len() as u32 + 2));
    code.extend([op(LOAD, NR), op(AND, NOT_X32)]);
    code.extend(native);
    code.push(jump(JUMP_EQUAL, AUDIT_ARCH_I386, 1, 0));
    code.push(op(RETURN, RET_ERRNO | libc::EPERM as u32));
    code.push(op(LOAD, NR));
    code.extend(compat);
    code
}

/// The whole number line as (first number, verdict), each going on until the next.
fn intervals(number: impl Fn(&Syscall) -> i32, [clone, clone3, personality, socket]: [i32; 4]) -> Vec<(u32, Verdict)> {
    let mut verdicts: Vec<(i32, Verdict)> =
        ALLOWED.iter().map(number).filter(|&n| n >= 0).map(|n| (n, Verdict::Allow)).collect();
    verdicts.extend([
        (clone, Verdict::Clone),
        (clone3, Verdict::Errno(libc::ENOSYS)),
        (personality, Verdict::Personality),
        (socket, Verdict::Socket),
    ]);
    verdicts.sort_by_key(|&(n, _)| n);
    let refused = Verdict::Errno(libc::EPERM);
    let mut line = vec![(0_u32, refused)];
    let mut next = 0_i32;
    let mut push = |from: i32, verdict: Verdict| match line.last_mut() {
        Some(last) if last.1 == verdict => {}
        Some(last) if last.0 == from as u32 => last.1 = verdict,
        _ => line.push((from as u32, verdict)),
    };
    for (n, verdict) in verdicts {
        if n > next {
            push(next, refused);
        }
        push(n, verdict);
        next = n + 1;
    }
    push(next, refused);
    line
}

fn tree(line: &[(u32, Verdict)]) -> Vec<sock_filter> {
    if let [(_, verdict)] = line {
        return leaf(*verdict);
    }
    let (low, high) = line.split_at(line.len() / 2);
    let Some(&(start, _)) = high.first() else {
        return Vec::new();
    };
    let (low, high) = (tree(low), tree(high));
    let mut code = match u8::try_from(low.len()) {
        Ok(distance) => vec![jump(JUMP_AT_LEAST, start, distance, 0)],
        Err(_) => vec![jump(JUMP_AT_LEAST, start, 0, 1), op(JUMP_ALWAYS, low.len() as u32)],
    };
    code.extend(low);
    code.extend(high);
    code
}

fn leaf(verdict: Verdict) -> Vec<sock_filter> {
    let allow = op(RETURN, RET_ALLOW);
    let refuse = op(RETURN, RET_ERRNO | libc::EPERM as u32);
    match verdict {
        Verdict::Allow => vec![allow],
        Verdict::Errno(errno) => vec![op(RETURN, RET_ERRNO | errno as u32)],
        Verdict::Clone => {
            vec![op(LOAD, ARG0), op(AND, CLONE_NAMESPACES), jump(JUMP_EQUAL, 0, 0, 1), allow, refuse]
        }
        Verdict::Socket => vec![op(LOAD, ARG0), jump(JUMP_EQUAL, AF_VSOCK, 1, 0), allow, refuse],
        Verdict::Personality => {
            let count = PERSONALITIES.len();
            let mut code = vec![op(LOAD, ARG0)];
            code.extend(PERSONALITIES.iter().enumerate().map(|(i, &p)| jump(JUMP_EQUAL, p, (count - i) as u8, 0)));
            code.extend([refuse, allow]);
            code
        }
    }
}

fn op(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
