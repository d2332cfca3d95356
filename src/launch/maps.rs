//! The id maps of a new user namespace: user_namespaces(7). Written from outside, while the process in it waits.

use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::config::{IdMapping, IdMaps, map_text};
use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{MapWriter, NamespaceKind, WriteMaps};
use crate::sys::{clone, pidfd, program};

/// Writes them for the process `pid`.
///
/// # Errors
/// An id that is not the caller's to map; a helper that is missing or refuses.
pub(super) fn write(WriteMaps { maps, how }: &WriteMaps, pid: i32) -> Result<()> {
    let uids = Map { kind: "uid", list: &maps.uids };
    let gids = Map { kind: "gid", list: &maps.gids };
    match how {
        MapWriter::Direct => uids.write(pid).and_then(|()| gids.write(pid)),
        MapWriter::OwnIds => {
            uids.write(pid)?;
            // who cannot leave a group must not get rid of one that keeps them from something
            write_file(pid, "setgroups", "deny").at(|| "/linux/gidMappings".to_owned())?;
            gids.write(pid)
        }
        MapWriter::Helpers => uids.have_written(pid).and_then(|()| gids.have_written(pid)),
    }
}

/// A user namespace with these maps and nobody in it. The process that it takes to make one ends when all is written, or
/// when this one ends.
///
/// # Errors
/// As user_namespaces(7) has them: no privilege, too many namespaces, maps that overlap.
pub fn namespace(maps: &IdMaps) -> Result<OwnedFd> {
    let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe".to_owned())?;
    let mut ours = Some(ours);
    let child = clone::clone3(NamespaceKind::User.flag(), None, || {
        drop(ours.take());
        let _ = rustix::io::read(&theirs, &mut [0]);
        clone::exit(0)
    })
    .call(|| "clone3".to_owned())?;
    let pid = child.pid;
    let write = || {
        write_file(pid, "uid_map", &map_text(&maps.uids))?;
        write_file(pid, "gid_map", &map_text(&maps.gids))?;
        let path = format!("/proc/{pid}/ns/user");
        open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open {path}"))
    };
    let namespace = write();
    drop(ours);
    pidfd::wait(&child.pidfd).call(|| "waitid".to_owned())?;
    namespace
}

/// One of the two maps.
struct Map<'a> {
    /// `uid` or `gid`.
    kind: &'static str,
    list: &'a [IdMapping],
}

impl Map<'_> {
    fn pointer(&self) -> String {
        format!("/linux/{}Mappings", self.kind)
    }

    fn write(&self, pid: i32) -> Result<()> {
        write_file(pid, &format!("{}_map", self.kind), &map_text(self.list)).at(|| self.pointer()).map_err(|error| {
            match error.errno() {
                Some(libc::EPERM) => error.hint(format!(
                    "all that it maps must be {}s of the runtime's own user namespace, and the caller's to map",
                    self.kind
                )),
                _ => error,
            }
        })
    }

    /// By newuidmap(1) or newgidmap(1), which are privileged and ask /etc/subuid and /etc/subgid.
    #[expect(clippy::disallowed_methods, reason = "a program of the host's, before anything of the container is there")]
    fn have_written(&self, pid: i32) -> Result<()> {
        let name = format!("new{}map", self.kind);
        let numbers = self.list.iter().flat_map(|one| [one.container_id, one.host_id, one.size]);
        let run = || {
            let ended = program::forks(&mut Command::new(&name))
                .arg(pid.to_string())
                .args(numbers.map(|number| number.to_string()))
                .stdin(Stdio::null())
                .output()
                .call(|| format!("exec {name}"))
                .map_err(|error| match error.errno() {
                    Some(libc::ENOENT) => error.hint(format!(
                        "an unprivileged caller needs {name} (package uidmap) to map more than their own id"
                    )),
                    _ => error,
                })?;
            if ended.status.success() {
                return Ok(());
            }
            let said = String::from_utf8_lossy(&ended.stderr);
            let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            Err(Error::new(format!("{name}: {}", said.join("; ")))
                .hint(format!("/etc/sub{} must give the caller these ids", self.kind)))
        };
        run().context(|| format!("map the {}s of the user namespace", self.kind)).at(|| self.pointer())
    }
}

fn write_file(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let fd = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open {path}"));
    fd.and_then(|fd| rustix::io::write(fd, text.as_bytes()).call(|| format!("write {path}")))
        .map(drop)
        .context(|| "map the ids of the user namespace".to_owned())
}
