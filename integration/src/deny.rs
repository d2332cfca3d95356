//! An outer seccomp filter under which the runtime is started: an old kernel (ENOSYS), or a host that forbids a
//! syscall (EPERM), as some container engines' own profiles do to what runs in them.

use crate::probe;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// What can be denied, by the name it has in a rule.
const NAMES: [(&str, &[i64]); 7] = [
    ("openat2", &[libc::SYS_openat2]),
    ("clone3", &[libc::SYS_clone3]),
    (
        "mount_api",
        &[
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
        ],
    ),
    ("mount_setattr", &[libc::SYS_mount_setattr]),
    ("pidfd_open", &[libc::SYS_pidfd_open]),
    ("close_range", &[libc::SYS_close_range]),
    ("getpid", &[libc::SYS_getpid]),
];

/// Every name with its errno: `openat2=ENOSYS,clone3=EPERM`.
fn parse(rules: &str) -> Result<Vec<(i64, i32)>, String> {
    let mut all = Vec::new();
    for rule in rules.split(',') {
        let (name, errno) = rule.split_once('=').ok_or(format!("{rule}: NAME=ERRNO"))?;
        let (_, numbers) = NAMES.iter().find(|(known, _)| *known == name).ok_or(format!("{name}: no such name"))?;
        let errno = match errno {
            "ENOSYS" => libc::ENOSYS,
            "EPERM" => libc::EPERM,
            _ => return Err(format!("{errno}: ENOSYS or EPERM")),
        };
        all.extend(numbers.iter().map(|number| (*number, errno)));
    }
    Ok(all)
}

/// `__deny RULES PROGRAM ARGUMENTS...`: becomes the program. Without no_new_privs, which the container would
/// inherit.
pub fn main(args: &[String]) -> ExitCode {
    let [rules, program, rest @ ..] = args else { return ExitCode::from(2) };
    let filtered = parse(rules).and_then(|rules| probe::install_filter(&rules).map_err(|e| format!("seccomp: {e}")));
    let why = match filtered {
        Ok(()) => Command::new(program).args(rest).exec().to_string(),
        Err(why) => why,
    };
    eprintln!("deny: {program}: {why}");
    ExitCode::from(2)
}
