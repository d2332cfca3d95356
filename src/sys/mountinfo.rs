//! /proc/self/mountinfo: proc_pid_mountinfo(5). For the words of an error only; nothing is decided by these names.

use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// As statx(2) has it in `stx_mnt_id`.
    pub id: u64,
    pub point: PathBuf,
    pub fstype: String,
    /// Its files show other owners than the file system has.
    pub idmapped: bool,
}

/// The lines of `text` that can be read.
pub fn parse(text: &str) -> Vec<MountInfo> {
    text.lines().filter_map(line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`
fn line(line: &str) -> Option<MountInfo> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ');
    let id = fields.next()?.parse().ok()?;
    let point = PathBuf::from(std::ffi::OsString::from_vec(unescaped(fields.nth(3)?)));
    let idmapped = fields.next()?.split(',').any(|option| option == "idmapped");
    Some(MountInfo { id, point, fstype: file_system.split(' ').next()?.to_owned(), idmapped })
}

/// Blanks and the like are written as `\040`.
fn unescaped(text: &str) -> Vec<u8> {
    let mut left = text.as_bytes();
    let mut plain = Vec::new();
    while let [first, rest @ ..] = left {
        let code = rest.get(..3).filter(|_| *first == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        let code = code.and_then(|code| u8::from_str_radix(code, 8).ok());
        plain.push(code.unwrap_or(*first));
        left = if code.is_some() { &rest[3..] } else { rest };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel() {
        let text = "36 35 98:0 /a /mnt\\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue\n\
                    37 36 0:9 / /x\\134040 rw,idmapped - fuse.sshfs a - b rw\nnonsense\n1 2 3:4 / /x";
        let mount = |id, point: &str, fstype: &str, idmapped| MountInfo {
            id,
            point: point.into(),
            fstype: fstype.to_owned(),
            idmapped,
        };
        assert_eq!(parse(text), [mount(36, "/mnt 2", "ext3", false), mount(37, "/x\\040", "fuse.sshfs", true)]);
    }
}
