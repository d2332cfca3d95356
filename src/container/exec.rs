//! What an exec wants to know of its container.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, open};

use crate::cgroup::{self, freezer};
use crate::error::{Call, Context, Error, Result};
use crate::plan::cgroupfs::Placement;
use crate::state::process::Process;
use crate::state::record::{Phase, Record};
use crate::state::store::{Entry, Store};
use crate::sys::root::Root;

/// A container in which a process can be run.
#[derive(Debug)]
pub struct Target {
    pub entry: Entry,
    pub record: Record,
    pub init: Process,
}

/// Finds the container; with it a pidfd of its init.
///
/// # Errors
/// `does not exist`; `container not running`; it is paused.
pub fn enter(store: &Store, id: &str, ignore_paused: bool) -> Result<(Target, OwnedFd)> {
    let entry = store.enter(id)?;
    let record = entry.load_created()?;
    let stopped = || Error::new("cannot exec in a stopped container: container not running");
    let init = match (record.phase, record.init) {
        (Phase::Created, Some(init)) => init,
        _ if entry.is_busy()? => return Err(Error::new("cannot exec in a container that is being created")),
        _ => return Err(stopped()),
    };
    let pidfd = init.open()?.ok_or_else(stopped)?;
    // with the option it is made now, and runs when the container does again
    if !ignore_paused && freezer::is_frozen(&record.placement) {
        return Err(Error::new("cannot exec in a paused container (use --ignore-paused to override)"));
    }
    Ok((Target { entry, record, init }, pidfd))
}

/// The cgroups for the process: the container's, or with `--cgroup` some below them.
///
/// # Errors
/// A path that leads out, a controller that there is not.
pub fn placement(record: &Record, below: &[String]) -> Result<Placement> {
    cgroup::below(&record.placement, below).context(|| "--cgroup".to_owned())
}

/// No honest passwd or group file is larger, and nothing that is wanted stands later in a line: a hostile one must
/// not cost time or memory.
const MAX_DATABASE: u64 = 16 << 20;
const MAX_LINE: u64 = 4 << 10;

/// What `--user` says: numbers, or names that the container's own files know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct User {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

impl User {
    /// `1`, `1:2`, `name`, `name:group`. A number is never taken for a name (CVE-2026-30892).
    ///
    /// # Errors
    /// A name that the container does not know.
    pub fn find(text: &str, record: &Record) -> Result<Self> {
        Self::find_in(text, |file| open_inside(record, file).context(|| format!("read the container's {file}")))
    }

    /// The same, where `open` gives `/etc/passwd` and `/etc/group`. Those are the image's: nothing in them is
    /// trusted.
    ///
    /// # Errors
    /// A name that they do not have, or not with an id; what `open` says.
    pub fn find_in<R: Read>(text: &str, open: impl Fn(&str) -> Result<R>) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let find = || {
            let mut found = match number(user)? {
                Some(uid) => Self { uid: Some(uid), gid: None },
                None => match by_name(open("/etc/passwd")?, user).call(|| "read /etc/passwd".to_owned())? {
                    [Some(uid), Some(gid)] => Self { uid: Some(uid), gid: Some(gid) },
                    _ => return Err(unknown(user, "user", "/etc/passwd")),
                },
            };
            if let Some(group) = group {
                found.gid = match number(group)? {
                    Some(gid) => Some(gid),
                    None => match by_name(open("/etc/group")?, group).call(|| "read /etc/group".to_owned())? {
                        [Some(gid), _] => Some(gid),
                        _ => return Err(unknown(group, "group", "/etc/group")),
                    },
                };
            }
            Ok(found)
        };
        find().context(|| format!("--user {text}"))
    }
}

fn unknown(name: &str, what: &str, file: &str) -> Error {
    Error::new(format!("unable to find {what} {name}: no matching entries in the container's {file}"))
}

/// None: it is a name.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return Err(Error::new("a user or group must not be empty"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        // of the image's own making: `+1`, `0x1` and ` 1` are meant as numbers, and no name begins so
        let name = text.starts_with(|first: char| first.is_alphabetic() || first == '_');
        return if name { Ok(None) } else { Err(Error::new(format!("{text:?} is neither an id nor a name"))) };
    }
    match text.parse() {
        // -1 means "leave it" to the kernel
        Ok(id) if id != u32::MAX => Ok(Some(id)),
        _ => Err(Error::new(format!("{text} is no id: they go up to 4294967294"))),
    }
}

/// The third and fourth field of the line of `name`, where they are ids.
fn by_name(file: impl Read, name: &str) -> std::io::Result<[Option<u32>; 2]> {
    let mut file = BufReader::new(file.take(MAX_DATABASE));
    let mut line = Vec::new();
    while file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        if !line.ends_with(b"\n") {
            // a group of many members
            file.skip_until(b'\n')?;
        }
        let mut fields = line.split(|byte| *byte == b':' || *byte == b'\n');
        if fields.next() == Some(name.as_bytes()) {
            let mut ids = fields.skip(1).map(|field| number(std::str::from_utf8(field).ok()?).ok().flatten());
            return Ok([ids.next().flatten(), ids.next().flatten()]);
        }
        line.clear();
    }
    Ok([None; 2])
}

/// A file of the container's, resolved inside its root. Only a regular one: a FIFO would make us wait for ever.
fn open_inside(record: &Record, file: &str) -> Result<std::fs::File> {
    let root = format!("/proc/{}/root", record.pid());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(&root, flags, Mode::empty()).call(|| format!("open {root}"))?;
    let file = Root::new(&root)
        .open(Path::new(file), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
        .call(|| "open".to_owned())?;
    let stat = fstat(&file).call(|| "fstat".to_owned())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new("it is no regular file"));
    }
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::{User, number};
    use crate::error::Result;

    #[test]
    fn numbers_are_never_names() {
        assert_eq!(number("0").expect("a number"), Some(0));
        assert_eq!(number("4294967294").expect("a number"), Some(u32::MAX - 1));
        assert_eq!(number("web").expect("a name"), None);
        assert_eq!(number("_apt").expect("a name"), None);
        for neither in ["-1", "+1", " 1", "0x1", "1 ", "1:", "\u{661}"] {
            assert!(number(neither).is_err(), "{neither:?}");
        }
        assert!(number("4294967295").is_err() && number("99999999999").is_err() && number("").is_err());
    }

    fn find(text: &str, file: &str) -> Result<User> {
        User::find_in(text, |_| Ok(file.as_bytes()))
    }

    #[test]
    fn names_of_the_image() {
        let members = "m,".repeat(5_000);
        let file = format!("a:x:1:2:::\nmany:x:3:{members}\nlast:x:4:5");
        let user = |uid, gid| User { uid: Some(uid), gid };
        assert_eq!(find("a", &file).expect("a name"), user(1, Some(2)));
        assert_eq!(find("last", &file).expect("a name"), user(4, Some(5)));
        assert_eq!(find("7:many", &file).expect("a group"), user(7, Some(3)));
        // what is no id is never root, nor "leave it"
        for id in ["", "-1", "+1", "4294967295", "4294967296", "0x1", "a"] {
            let line = format!("web:x:{id}:{id}:::\n");
            assert!(find("web", &line).is_err() && find("7:web", &line).is_err(), "{id:?}");
        }
        assert!(find("m", &file).is_err() && find("nobody", "").is_err());
    }
}
