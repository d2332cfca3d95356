//! The device rules of v2: one eBPF program of the fewest instructions that say what `shape::DEVICES` says.
//!
//! The kernel asks either for making a node (and nothing else) or for reading or writing.

use crate::sys::{Done, sys};

// Commands and constants, as in linux/bpf.h.
const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
/// Programs of nested cgroups run too.
const ALLOW_MULTI: u32 = 2;
const KIND_CHAR: i32 = 2;
/// Access is in the upper half of the first word: 1 make, 2 read, 4 write.
const READ_OR_WRITE: i32 = 6 << 16;

// struct bpf_cgroup_dev_ctx.
const ACCESS_AND_KIND: i16 = 0;
const MAJOR: i16 = 4;
const MINOR: i16 = 8;

// Opcodes.
const LOAD_WORD: u8 = 0x61;
const SET: u8 = 0xB7;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x7F;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_ABOVE: u8 = 0x25;
const JUMP_ANY_BIT: u8 = 0x45;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// struct bpf_insn: opcode, destination and source register (low and high half), jump or memory offset, constant.
#[repr(C)]
struct Instruction(u8, u8, i16, i32);

#[rustfmt::skip]
const PROGRAM: [Instruction; 20] = [
    Instruction(SET,            0x00, 0, 1),
    Instruction(LOAD_WORD,      0x12, ACCESS_AND_KIND, 0),
    Instruction(JUMP_ANY_BIT,   0x02, 1, READ_OR_WRITE),
    Instruction(EXIT,           0x00, 0, 0),                // c *:* m, b *:* m
    Instruction(AND,            0x02, 0, 0xFFFF),
    Instruction(JUMP_NOT_EQUAL, 0x02, 12, KIND_CHAR),       // to "refuse"
    Instruction(LOAD_WORD,      0x13, MAJOR, 0),
    Instruction(JUMP_EQUAL,     0x03, 11, 136),             // 136:*
    Instruction(LOAD_WORD,      0x14, MINOR, 0),
    Instruction(JUMP_EQUAL,     0x03, 6, 5),                // to "terminals"
    Instruction(JUMP_NOT_EQUAL, 0x03, 7, 1),                // to "refuse"
    Instruction(JUMP_ABOVE,     0x04, 6, 31),               // to "refuse"
    Instruction(SET,            0x00, 0, 0b11_1010_1000),   // 1:3, 1:5, 1:7, 1:8, 1:9
    Instruction(SHIFT_RIGHT,    0x40, 0, 0),
    Instruction(AND,            0x00, 0, 1),
    Instruction(EXIT,           0x00, 0, 0),
    Instruction(AND,            0x04, 0, !2),               // terminals: 5:0, 5:2
    Instruction(JUMP_EQUAL,     0x04, 1, 0),
    Instruction(SET,            0x00, 0, 0),                // refuse
    Instruction(EXIT,           0x00, 0, 0),
];

/// The part of union bpf_attr that BPF_PROG_LOAD cannot do without.
#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttributes {
    directory: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

pub(crate) fn limit(directory: i32) -> Done<()> {
    let load = LoadAttributes {
        kind: TYPE_CGROUP_DEVICE,
        count: PROGRAM.len() as u32,
        instructions: PROGRAM.as_ptr() as u64,
        license: c"".as_ptr() as u64,
        ..LoadAttributes::default()
    };
    let program = sys!(bpf, PROG_LOAD, &raw const load, size_of::<LoadAttributes>(); "load the device rules")? as i32;
    let attach = AttachAttributes {
        directory: directory as u32,
        program: program as u32,
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    sys!(bpf, PROG_ATTACH, &raw const attach, size_of::<AttachAttributes>(); "attach the device rules")?;
    sys!(close, program; "the device rules").map(drop)
}
