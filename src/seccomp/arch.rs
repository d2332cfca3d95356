//! What a filter needs to know of each architecture, and the look-up of system calls in the table.

use crate::config::seccomp::Arch;

use super::table::ROWS;

/// Columns of the table: architectures that share their numbers share a column.
const COLUMNS: usize = 18;
/// The longest name has 28 bytes.
const NAME: usize = 32;
/// The mark of a call that an architecture lacks.
pub(super) const ABSENT: u16 = u16::MAX;
/// Arm's own calls are 0xf0001 and up; the table keeps the low digit and this mark.
const ARM_PRIVATE: u16 = 0xf000;
const ARM_PRIVATE_BASE: u32 = 0xf0000;
/// Tells the numbers of x32 from those of x86_64 under the one audit token that they share.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// A system call, with its number in each column.
pub(super) struct Row {
    name: [u8; NAME],
    numbers: [u16; COLUMNS],
    mux: Option<Mux>,
}

/// The call's place behind one of the two calls that some old architectures multiplex.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mux {
    Socketcall(u8),
    Ipc(u8),
}

pub(super) const fn row(name: &str, numbers: [u16; COLUMNS]) -> Row {
    let bytes = name.as_bytes();
    let mut padded = [0; NAME];
    let mut position = 0;
    while position < bytes.len() {
        padded[position] = bytes[position];
        position += 1;
    }
    Row { name: padded, numbers, mux: mux(&padded) }
}

/// `SYS_SOCKET` … of linux/net.h, from 1 on.
const SOCKETCALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];
/// `SEMOP` … of linux/ipc.h.
const IPCS: [(&str, u8); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

const fn mux(name: &[u8; NAME]) -> Option<Mux> {
    let mut position = 0;
    while position < SOCKETCALLS.len() {
        if is(name, SOCKETCALLS[position]) {
            return Some(Mux::Socketcall(position as u8 + 1));
        }
        position += 1;
    }
    position = 0;
    while position < IPCS.len() {
        if is(name, IPCS[position].0) {
            return Some(Mux::Ipc(IPCS[position].1));
        }
        position += 1;
    }
    None
}

const fn is(padded: &[u8; NAME], name: &str) -> bool {
    let bytes = name.as_bytes();
    let mut position = 0;
    while position < bytes.len() {
        if padded[position] != bytes[position] {
            return false;
        }
        position += 1;
    }
    padded[bytes.len()] == 0
}

/// The row of a name; none if no architecture has such a call.
pub(super) fn find(name: &str) -> Option<&'static Row> {
    // a NUL would pass for padding
    if name.ends_with('\0') {
        return None;
    }
    let mut padded = [0; NAME];
    padded.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    let position = ROWS.binary_search_by(|row| row.name.cmp(&padded)).ok()?;
    ROWS.get(position)
}

impl Row {
    /// The call's number on an architecture, as seccomp sees it.
    pub(super) fn number(&self, arch: Arch) -> Option<u32> {
        let facts = facts(arch);
        match self.numbers[facts.column] {
            ABSENT => None,
            private if private > ARM_PRIVATE => Some(ARM_PRIVATE_BASE + u32::from(private - ARM_PRIVATE)),
            number if arch == Arch::X32 => Some(u32::from(number) | X32_BIT),
            number => Some(u32::from(number)),
        }
    }

    pub(super) fn mux(&self) -> Option<Mux> {
        self.mux
    }
}

/// True for arm's own calls, which are far above all others and say nothing of a profile's age.
pub(super) fn is_private(arch: Arch, number: u32) -> bool {
    arch == Arch::Arm && number >= ARM_PRIVATE_BASE
}

/// Architectures that one kernel can run at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    X86,
    Arm,
    Mips,
    Mipsel,
    Ppc,
    Ppcle,
    S390,
    Parisc,
    Riscv,
    Loongarch,
    M68k,
    Sh,
    Sheb,
}

pub(super) struct Facts {
    /// `AUDIT_ARCH_*`.
    pub(super) audit: u32,
    /// Arguments are compared by their low 32 bits only.
    pub(super) narrow: bool,
    family: Family,
    column: usize,
}

impl Facts {
    pub(super) fn big_endian(&self) -> bool {
        self.audit & AUDIT_LE == 0
    }
}

const AUDIT_64: u32 = 0x8000_0000;
const AUDIT_LE: u32 = 0x4000_0000;
const AUDIT_N32: u32 = 0x2000_0000;

/// The audit tokens are ELF machine numbers with a few bits (linux/audit.h).
pub(super) const fn facts(arch: Arch) -> Facts {
    let (machine, bits, narrow, family, column) = match arch {
        Arch::X86_64 => (62, AUDIT_64 | AUDIT_LE, false, Family::X86, 0),
        Arch::X32 => (62, AUDIT_64 | AUDIT_LE, true, Family::X86, 1),
        Arch::X86 => (3, AUDIT_LE, true, Family::X86, 2),
        Arch::Aarch64 => (183, AUDIT_64 | AUDIT_LE, false, Family::Arm, 3),
        Arch::Arm => (40, AUDIT_LE, true, Family::Arm, 4),
        Arch::Riscv64 => (243, AUDIT_64 | AUDIT_LE, false, Family::Riscv, 5),
        Arch::Loongarch64 => (258, AUDIT_64 | AUDIT_LE, false, Family::Loongarch, 6),
        Arch::S390x => (22, AUDIT_64, false, Family::S390, 7),
        Arch::S390 => (22, 0, true, Family::S390, 8),
        Arch::Ppc64 => (21, AUDIT_64, false, Family::Ppc, 9),
        Arch::Ppc64le => (21, AUDIT_64 | AUDIT_LE, false, Family::Ppcle, 9),
        Arch::Ppc => (20, 0, true, Family::Ppc, 10),
        Arch::Mips => (8, 0, true, Family::Mips, 11),
        Arch::Mips64 => (8, AUDIT_64, false, Family::Mips, 12),
        Arch::Mips64n32 => (8, AUDIT_64 | AUDIT_N32, true, Family::Mips, 13),
        Arch::Mipsel => (8, AUDIT_LE, true, Family::Mipsel, 11),
        Arch::Mipsel64 => (8, AUDIT_64 | AUDIT_LE, false, Family::Mipsel, 12),
        Arch::Mipsel64n32 => (8, AUDIT_64 | AUDIT_N32 | AUDIT_LE, true, Family::Mipsel, 13),
        Arch::Parisc => (15, 0, true, Family::Parisc, 14),
        Arch::Parisc64 => (15, AUDIT_64, false, Family::Parisc, 15),
        Arch::M68k => (4, 0, true, Family::M68k, 16),
        Arch::Sh => (42, AUDIT_LE, true, Family::Sh, 17),
        Arch::Sheb => (42, 0, true, Family::Sheb, 17),
    };
    Facts { audit: machine | bits, narrow, family, column }
}

/// Whether a kernel of `native` can run programs of `arch`.
pub(super) fn runs(native: Arch, arch: Arch) -> bool {
    facts(native).family == facts(arch).family
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted() {
        assert!(ROWS.is_sorted_by(|a, b| a.name < b.name));
    }

    #[test]
    fn numbers_are_those_of_the_kernel() {
        let number = |name: &str, arch| find(name).unwrap().number(arch);
        for (name, expected) in [("read", libc::SYS_read), ("openat2", libc::SYS_openat2), ("clone3", libc::SYS_clone3)]
        {
            assert_eq!(number(name, Arch::NATIVE), Some(expected as u32), "{name}");
        }
        assert_eq!(number("mseal", Arch::Aarch64), Some(462));
        assert_eq!(number("execve", Arch::X32), Some(X32_BIT | 520));
        assert_eq!(number("socketcall", Arch::X86), Some(102));
        assert_eq!(number("socketcall", Arch::X86_64), None);
        assert_eq!(number("set_tls", Arch::Arm), Some(0xf0005));
        assert_eq!(number("read", Arch::Mipsel64), Some(5000));
        assert!(find("frobnicate").is_none() && find("").is_none() && find(&"x".repeat(300)).is_none());
        assert!(find("sock").is_none() && find("socket\0").is_none());
    }

    #[test]
    fn tokens_are_those_of_the_spec_crate() {
        assert_eq!(facts(Arch::X86_64).audit, 0xc000_003e);
        assert_eq!(facts(Arch::X86).audit, 0x4000_0003);
        assert_eq!(facts(Arch::Mipsel64n32).audit, 0xe000_0008);
        assert_eq!(facts(Arch::Loongarch64).audit, 0xc000_0102);
        assert_eq!(facts(Arch::S390x).audit, 0x8000_0016);
        assert_eq!(facts(Arch::Sheb).audit, 0x2a);
    }
}
