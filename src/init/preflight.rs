//! Why a program cannot be executed: the kernel has one number for many reasons. Looked up only after the fact, by
//! the process that failed: inside the container's root and with the rights of its user. No read is without bound,
//! and nothing but a regular file is opened.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, accessat, fstat, open, stat, statvfs,
};
use rustix::io::Errno;

use crate::error::errno_words;

/// What the kernel looks at to tell what a file is: BINPRM_BUF_SIZE.
const HEAD: usize = 256;
/// More program headers than any honest program has.
const MAX_HEADERS: usize = 128;
const MAX_PATH: usize = 4096;
/// An interpreter may be a script itself; the kernel goes no further either.
const MAX_DEPTH: usize = 5;
const PT_INTERP: u32 = 3;

/// e_machine of what this kernel runs, and of others that an image may be for: elf.h.
const MACHINES: [(u16, &str, bool); 10] = [
    (62, "x86-64", cfg!(target_arch = "x86_64")),
    (3, "i386", cfg!(any(target_arch = "x86_64", target_arch = "x86"))),
    (183, "arm64", cfg!(target_arch = "aarch64")),
    (40, "arm", cfg!(any(target_arch = "aarch64", target_arch = "arm"))),
    (243, "riscv", cfg!(any(target_arch = "riscv64", target_arch = "riscv32"))),
    (22, "s390x", cfg!(target_arch = "s390x")),
    (21, "ppc64", cfg!(target_arch = "powerpc64")),
    (20, "ppc", cfg!(any(target_arch = "powerpc64", target_arch = "powerpc"))),
    (8, "mips", cfg!(any(target_arch = "mips", target_arch = "mips64"))),
    (258, "loongarch", cfg!(target_arch = "loongarch64")),
];

/// The words of `errno` for the execve of `path`, and what is wrong with the file when that can be seen.
pub fn explain(path: &str, errno: Errno, label: Option<&str>) -> String {
    let words = errno_words(errno.raw_os_error());
    match (fault(path, 0), label) {
        (Some(fault), _) => format!("{words}: {fault}"),
        // the module itself says why in the kernel's log alone
        (None, Some(label)) if matches!(errno, Errno::ACCESS | Errno::PERM) => {
            format!("{words}: with the label {label:?} the security policy may not let it be executed")
        }
        (None, _) => words,
    }
}

/// None: nothing that could be seen.
fn fault(path: &str, depth: usize) -> Option<String> {
    let found = match stat(path) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Some(format!("{path} does not exist")),
        Err(errno) => return Some(format!("stat {path}: {}", errno_words(errno.raw_os_error()))),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Some(format!("{path} is no regular file"));
    }
    if statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
        return Some(format!("{path} is on a file system that is mounted noexec"));
    }
    if accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) == Err(Errno::ACCESS) {
        return Some(format!(
            "{path} has mode {:03o}, which does not let this user execute it",
            found.st_mode & 0o7777
        ));
    }
    if depth == MAX_DEPTH {
        return Some(format!("{path} is the interpreter of an interpreter, and so on"));
    }
    let file = open_regular(path)?;
    let mut head = [0; HEAD];
    let length = file.read_at(&mut head, 0).ok()?;
    match &head[..length] {
        [] => Some(format!("{path} is empty")),
        script @ [b'#', b'!', ..] => of_script(path, script, depth),
        elf if elf.starts_with(b"\x7fELF") => of_elf(path, &file, elf, depth),
        _ => Some(format!("{path} is neither a program in ELF format nor a script that begins with #!")),
    }
}

fn open_regular(path: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty()).ok()?;
    let regular = FileType::from_raw_mode(fstat(&file).ok()?.st_mode) == FileType::RegularFile;
    regular.then(|| file.into())
}

fn of_script(path: &str, head: &[u8], depth: usize) -> Option<String> {
    let line = head[2..].split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let interpreter = line.trim_start_matches([' ', '\t']).split([' ', '\t', '\0']).next()?;
    if interpreter.is_empty() {
        return Some(format!("the #! line of {path} names no interpreter"));
    }
    let fault = fault(interpreter, depth + 1)?;
    let hint = if interpreter.ends_with('\r') { " (the line ends in a carriage return)" } else { "" };
    Some(format!("{path} is a script for {}{hint}: {}", interpreter.escape_default(), fault.escape_default()))
}

fn of_elf(path: &str, file: &File, head: &[u8], depth: usize) -> Option<String> {
    let Some(elf) = Elf::parse(head) else { return Some(format!("{path} is a damaged program")) };
    match MACHINES.iter().find(|(number, ..)| *number == elf.machine) {
        Some((_, _, true)) => {}
        Some((_, name, false)) => return Some(format!("{path} is a program for {name}, not for this machine")),
        None => return Some(format!("{path} is a program for ELF machine {}, not for this one", elf.machine)),
    }
    let loader = elf.loader(file)?;
    let fault = fault(&loader, depth + 1)?;
    Some(format!("{path} is a program for the loader {}: {}", loader.escape_default(), fault.escape_default()))
}

/// As much of an ELF header as leads to the name of the loader: elf(5).
struct Elf {
    wide: bool,
    big_endian: bool,
    machine: u16,
    headers: u64,
    header_size: usize,
    header_count: usize,
}

impl Elf {
    fn parse(head: &[u8]) -> Option<Self> {
        let wide = *head.get(4)? == 2;
        let big_endian = *head.get(5)? == 2;
        let number = |offset, length| number(head, offset, length, big_endian);
        let (headers, sizes) = if wide { (number(32, 8)?, 54) } else { (number(28, 4)?, 42) };
        Some(Self {
            wide,
            big_endian,
            machine: number(18, 2)? as u16,
            headers,
            header_size: number(sizes, 2)? as usize,
            header_count: number(sizes + 2, 2)? as usize,
        })
    }

    /// None: it has none, or is damaged.
    fn loader(&self, file: &File) -> Option<String> {
        let smallest = if self.wide { 56 } else { 32 };
        if self.header_count > MAX_HEADERS || !(smallest..=HEAD).contains(&self.header_size) {
            return None;
        }
        let mut headers = vec![0; self.header_count * self.header_size];
        file.read_exact_at(&mut headers, self.headers).ok()?;
        let number = |header, offset, length| number(header, offset, length, self.big_endian);
        let header = headers.chunks(self.header_size).find(|header| number(header, 0, 4) == Some(PT_INTERP.into()))?;
        let (place, length) = if self.wide {
            (number(header, 8, 8)?, number(header, 32, 8)?)
        } else {
            (number(header, 4, 4)?, number(header, 16, 4)?)
        };
        let mut name = vec![0; usize::try_from(length).ok().filter(|length| *length <= MAX_PATH)?];
        file.read_exact_at(&mut name, place).ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(name).into_owned())
    }
}

fn number(bytes: &[u8], offset: usize, length: usize, big_endian: bool) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(length)?)?;
    let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
    Some(if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_any_bytes_is_read_within_bounds() {
        for length in 0..HEAD {
            let mut head = vec![0xff; length];
            assert_eq!(Elf::parse(&head).is_some(), length >= 46, "{length}");
            if let Some(byte) = head.get_mut(4) {
                *byte = 2;
            }
            assert_eq!(Elf::parse(&head).is_some(), length >= 58, "{length}");
        }
    }

    #[test]
    fn numbers_of_both_byte_orders() {
        assert_eq!(number(&[1, 2, 3], 1, 2, true), Some(0x203));
        assert_eq!(number(&[1, 2, 3], 1, 2, false), Some(0x302));
        assert_eq!(number(&[1, 2, 3], usize::MAX, 2, false), None);
    }

    #[test]
    fn a_program_that_runs_has_no_fault() {
        assert_eq!(fault("/proc/self/exe", 0), None);
        assert!(fault("/proc/self/nothing", 0).is_some_and(|fault| fault.ends_with("does not exist")));
    }
}
