//! What a user may map beside their own id: subuid(5), subgid(5).

use std::fs;
use std::path::PathBuf;

/// A range of ids, the caller's to map by newuidmap(1) and newgidmap(1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: u32,
    /// At least 1; the range ends below 4294967295.
    pub size: u32,
}

/// The ranges of `uid` in /etc/subuid and /etc/subgid. None: one of them has none, or a program that is needed to map
/// them is not there.
pub fn of(uid: u32) -> Option<[Vec<Range>; 2]> {
    if !has_program("newuidmap") || !has_program("newgidmap") {
        return None;
    }
    let name = fs::read_to_string("/etc/passwd").ok().and_then(|text| name_of(&text, uid));
    let read = |path: &str| {
        let text = fs::read_to_string(path).ok()?;
        Some(ranges(&text, uid, name.as_deref())).filter(|ranges| !ranges.is_empty())
    };
    Some([read("/etc/subuid")?, read("/etc/subgid")?])
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory: PathBuf| directory.join(name))
        .any(|path| rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok())
}

/// The login name of `uid`, from the text of a passwd file.
fn name_of(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Lines of `NAME:FIRST:SIZE` or `UID:FIRST:SIZE`. What is no such line is not ours to complain about.
pub fn ranges(text: &str, uid: u32, name: Option<&str>) -> Vec<Range> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let range = Range { first: fields.next()?.parse().ok()?, size: fields.next()?.parse().ok()? };
            let whole = range.size > 0 && range.first.checked_add(range.size).is_some();
            (whole && (owner == number || Some(owner) == name)).then_some(range)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_and_by_number() {
        let text = "me:100000:65536\n1000:5:7\nyou:1:1\n\nme:x:1\nme:1:0\nme:4294967295:1\n# me:1:2\nme:9\n";
        let range = |first, size| Range { first, size };
        assert_eq!(ranges(text, 1000, Some("me")), [range(100_000, 65_536), range(5, 7)]);
        assert_eq!(ranges(text, 1000, None), [range(5, 7)]);
        assert_eq!(ranges(text, 100, Some("nobody")), []);
        assert_eq!(name_of("root:x:0:0::/:/bin/sh\nme:x:1000:100::/:/bin/sh\nbad\n", 1000).as_deref(), Some("me"));
    }
}
