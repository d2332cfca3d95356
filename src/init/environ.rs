//! Working directory, HOME and the program itself, all inside the container and as its user.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, accessat, fstat, open, stat};
use rustix::io::Errno;
use rustix::process::chdir;

use crate::error::{Call, Context, Error, Result, errno_words};

use super::preflight;

/// True: not even root may enter it (NFS, FUSE); the user may be able to.
pub(super) fn chdir_as_root(path: &Path) -> Result<bool> {
    match chdir(path) {
        Ok(()) => Ok(false),
        Err(Errno::ACCESS | Errno::PERM) => Ok(true),
        Err(errno) => {
            Err(errno).call(|| "chdir".to_owned()).context(|| format!("enter the working directory {}", path.display()))
        }
    }
}

/// A working directory that an fd leaked from the host leads to has no path from our root: the kernel says
/// `(unreachable)` then (CVE-2024-21626).
pub(super) fn prove_cwd(path: &Path, again: bool) -> Result<()> {
    let enter = || {
        if again {
            chdir(path).call(|| "chdir".to_owned())?;
        }
        let cwd = rustix::process::getcwd(Vec::new()).call(|| "getcwd".to_owned())?;
        if cwd.to_bytes().starts_with(b"/") {
            Ok(())
        } else {
            Err(Error::new("current working directory is outside of container mount namespace root"))
        }
    };
    enter().map_err(|error| error.path(path)).context(|| format!("enter the working directory {}", path.display()))
}

/// No honest passwd file is larger; a hostile one must not cost time or memory.
const MAX_PASSWD: u64 = 16 << 20;
const MAX_LINE: u64 = 8 << 10;

/// The home directory of `uid` by the container's /etc/passwd, or `/`.
pub(super) fn home(uid: u32) -> String {
    open_passwd()
        .and_then(|file| find_home(BufReader::new(file.take(MAX_PASSWD)), uid))
        .unwrap_or_else(|| "/".to_owned())
}

/// Only a regular file: a FIFO of the image would make us wait for ever.
fn open_passwd() -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open("/etc/passwd", flags, Mode::empty()).ok()?;
    let regular = FileType::from_raw_mode(fstat(&file).ok()?.st_mode) == FileType::RegularFile;
    regular.then(|| file.into())
}

/// The home directory of `uid` by the text of a passwd file, which is the image's: nothing in it is trusted.
pub fn find_home(mut passwd: impl BufRead, uid: u32) -> Option<String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = passwd.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).ok()?;
        if length == 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&line);
        let fields: Vec<&str> = text.trim_end().split(':').collect();
        if let [_, _, id, _, _, home, ..] = fields[..]
            && id.parse() == Ok(uid)
            && home.starts_with('/')
            && !home.contains('\0')
        {
            return Some(home.to_owned());
        }
    }
}

/// Finds the program as execvp(3) would, with the words that Docker and Podman turn into 126 and 127.
pub(super) fn find_program(name: &str, path: Option<&str>) -> Result<CString> {
    let found = if name.contains('/') {
        check(name).map(|()| name.to_owned()).map_err(|errno| words(name, errno))
    } else {
        search(name, path.unwrap_or_default())
    };
    let found = found.map_err(|words| Error::new(format!("exec: {name:?}: {words}")))?;
    CString::new(found).map_err(|_| Error::new(format!("exec: {name:?}: a NUL in the name")))
}

fn words(name: &str, errno: Errno) -> String {
    let words = errno_words(errno.raw_os_error());
    match errno {
        Errno::NOENT | Errno::NOTDIR => format!("stat {name}: {words}"),
        Errno::ACCESS => preflight::explain(name, errno, None),
        // what execve(2) says of it, and what Docker before 23 turns into 126; later ones and Podman know both
        Errno::ISDIR => format!("permission denied: {words}"),
        _ => words,
    }
}

fn search(name: &str, path: &str) -> Result<String, String> {
    let mut refused = None;
    for directory in path.split(':') {
        // an empty entry is the working directory, which no caller expects to be searched
        if directory.is_empty() {
            continue;
        }
        let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::ACCESS) => refused = refused.or(Some(candidate)),
            Err(_) => {}
        }
    }
    Err(match refused {
        Some(candidate) => words(&candidate, Errno::ACCESS),
        None => "executable file not found in $PATH".to_owned(),
    })
}

/// Whether `path` is a file that this user may execute.
fn check(path: &str) -> Result<(), Errno> {
    let stat = stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Err(Errno::ACCESS) => Err(Errno::ACCESS),
        // whatever else there is, the execve will say
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_of_a_uid_only() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/evil:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\nno:x:7:7::relative:/\n";
        assert_eq!(find_home(passwd.as_bytes(), 0).as_deref(), Some("/root"));
        assert_eq!(find_home(passwd.as_bytes(), 1000).as_deref(), Some("/home/me"));
        assert_eq!(find_home(passwd.as_bytes(), 7), None);
        assert_eq!(find_home(passwd.as_bytes(), 8), None);
    }

    #[test]
    fn the_words_that_callers_match() {
        let say = |name: &str, path| find_program(name, path).expect_err("not there").to_string();
        assert_eq!(say("nope", Some("/usr/bin:/bin")), "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(say("/nope", None), "exec: \"/nope\": stat /nope: no such file or directory");
        assert_eq!(say("/etc", None), "exec: \"/etc\": permission denied: is a directory");
        assert!(find_program("sh", Some("/nope:/bin")).is_ok());
    }
}
