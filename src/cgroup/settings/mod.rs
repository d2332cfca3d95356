//! Limits on their way into the files of a cgroup, and back.

mod explain;
mod undo;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::plan::cgroupfs::{Hierarchies, Placement};
use crate::sys::proc;

use super::limits::{Rule, Setting, convert};
use super::{controllers, v1};

pub(super) use undo::Undo;

/// The kernel checks each of these against others of its row, with EINVAL: what is refused may be taken when the
/// others are written.
const CHECKED_TOGETHER: [&str; 9] = [
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.cfs_burst_us",
    "cpu.rt_period_us",
    "cpu.rt_runtime_us",
    "cpu.max",
    "cpu.max.burst",
];

/// Writes the limits of a new cgroup; on v2 its parents hand the controllers down first.
pub(super) fn apply(placement: &Placement, settings: &[Setting]) -> Result<()> {
    if let Hierarchies::V2 { directory } = &placement.hierarchies {
        controllers::hand_down(directory, settings.iter().map(|setting| setting.controller.as_str()))?;
    }
    Writer::new(placement, false).write_all(settings)
}

/// Writes the limits of a cgroup in use. A failure leaves the old ones.
pub(super) fn update(placement: &Placement, settings: &[Setting], check_memory: bool) -> Result<Undo> {
    let mut writer = Writer::new(placement, true);
    if check_memory {
        writer.check_memory(settings)?;
    }
    match writer.write_all(settings) {
        Ok(()) => Ok(writer.undo),
        Err(error) => {
            writer.undo.run(placement);
            Err(error)
        }
    }
}

/// Whoever writes, with the directories that are open.
struct Writer<'a> {
    placement: &'a Placement,
    directories: Vec<Directory>,
    /// Whether what the files held is to be remembered.
    remember: bool,
    undo: Undo,
}

/// A cgroup, open.
struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    fn open(path: &Path) -> Result<Self> {
        let fd = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self { path: path.to_owned(), fd: fd.call(|| format!("open {}", path.display()))? })
    }

    fn open_file(&self, file: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        openat(&self.fd, file, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    }

    fn read(&self, file: &str) -> Result<String, Errno> {
        proc::read_open(self.open_file(file, OFlags::RDONLY)?.as_fd())
    }
}

/// Why one setting was not written.
enum Refusal {
    /// There is no file of the setting's.
    Missing,
    Open(Errno),
    Write {
        file: String,
        value: String,
        errno: Errno,
    },
    /// Found out before any write.
    Told(Error),
}

impl<'a> Writer<'a> {
    fn new(placement: &'a Placement, remember: bool) -> Self {
        Self { placement, directories: Vec::new(), remember, undo: Undo::default() }
    }

    fn write_all(&mut self, settings: &[Setting]) -> Result<()> {
        let mut later = Vec::new();
        for setting in settings {
            match self.write(setting) {
                Err(error)
                    if error.errno() == Some(libc::EINVAL) && CHECKED_TOGETHER.contains(&setting.file.as_str()) =>
                {
                    later.push(setting);
                }
                result => result?,
            }
        }
        later.into_iter().try_for_each(|setting| self.write(setting))
    }

    fn write(&mut self, setting: &Setting) -> Result<()> {
        let written = self.try_write(setting);
        written.at(|| setting.pointer.clone()).context(|| format!("limit {}", setting.controller))
    }

    fn try_write(&mut self, setting: &Setting) -> Result<()> {
        let index = self.directory(&setting.controller)?;
        let directory = self.directories.get(index).ok_or_else(|| Error::new("no such directory"))?;
        let old = write(directory, setting, self.remember)
            .map_err(|refusal| explain::refusal(self.placement, directory, setting, refusal))?;
        if let Some((file, value)) = old {
            self.undo.push(&setting.controller, file, value);
        }
        Ok(())
    }

    /// The index of the one that has `controller`, opened when it is needed first.
    fn directory(&mut self, controller: &str) -> Result<usize> {
        let path = match &self.placement.hierarchies {
            Hierarchies::None => None,
            Hierarchies::V1 { directories } => directories.iter().find(|path| v1::has_controller(path, controller)),
            Hierarchies::V2 { directory } => Some(directory),
        };
        let Some(path) = path else { return Err(explain::not_mounted(controller)) };
        if let Some(index) = self.directories.iter().position(|open| open.path == *path) {
            return Ok(index);
        }
        self.directories.push(Directory::open(path)?);
        Ok(self.directories.len() - 1)
    }

    /// A limit that would make the kernel kill at once is refused, in runc's words. No usage to be read is no
    /// reason to refuse.
    fn check_memory(&mut self, settings: &[Setting]) -> Result<()> {
        for setting in settings {
            let (usage, what) = match (setting.file.as_str(), &setting.rule) {
                ("memory.max", _) => ("memory.current", "memory"),
                ("memory.limit_in_bytes", _) => ("memory.usage_in_bytes", "memory"),
                ("memory.swap.max", Rule::LessMemory) => ("memory.current", "memory+swap"),
                ("memory.memsw.limit_in_bytes", _) => ("memory.memsw.usage_in_bytes", "memory+swap"),
                _ => continue,
            };
            let directory = self.directory(&setting.controller)?;
            let text = self.directories.get(directory).and_then(|directory| directory.read(usage).ok());
            let usage = text.and_then(|text| text.trim().parse::<u64>().ok());
            if let (Some(usage), Ok(limit)) = (usage, setting.value.parse::<u64>())
                && limit <= usage
            {
                return Err(
                    Error::new(format!("rejecting {what} limit {limit} <= usage {usage}")).at(setting.pointer.clone())
                );
            }
        }
        Ok(())
    }
}

/// Writes one setting. Says what the file held, if that is to be remembered and can be.
fn write(directory: &Directory, setting: &Setting, remember: bool) -> Result<Option<(String, String)>, Refusal> {
    let (mut file, mut value) = (setting.file.as_str(), setting.value.as_str());
    let computed = compute(directory, setting)?;
    if let Some(computed) = &computed {
        value = computed;
    }
    let mut opened = open_to_write(directory, file, remember);
    if let (Err(Errno::NOENT), Rule::Or { file: other, value: its }) = (&opened, &setting.rule) {
        (file, value) = (other, its);
        opened = open_to_write(directory, file, remember);
    }
    let (fd, readable) = match opened {
        Ok(opened) => opened,
        Err(Errno::NOENT) if setting.rule == Rule::IfThere => return Ok(None),
        Err(Errno::NOENT) => return Err(Refusal::Missing),
        Err(errno) => return Err(Refusal::Open(errno)),
    };
    let old = if readable { undo::read(fd.as_fd(), file, value) } else { None };
    write_open(fd.as_fd(), value).map_err(|errno| Refusal::Write {
        file: file.to_owned(),
        value: value.to_owned(),
        errno,
    })?;
    Ok(old.map(|old| (file.to_owned(), old)))
}

/// One write: the kernel takes a value whole or not at all.
fn write_open(fd: BorrowedFd<'_>, value: &str) -> Result<(), Errno> {
    rustix::io::write(fd, value.as_bytes()).map(drop)
}

/// Second: whether it can be read too. Some files (`memory.reclaim`) are for writing only.
fn open_to_write(directory: &Directory, file: &str, readable: bool) -> Result<(OwnedFd, bool), Errno> {
    if readable {
        match directory.open_file(file, OFlags::RDWR) {
            Err(Errno::ACCESS) => {}
            result => return result.map(|fd| (fd, true)),
        }
    }
    directory.open_file(file, OFlags::WRONLY).map(|fd| (fd, false))
}

/// A value that depends on what is in force.
fn compute(directory: &Directory, setting: &Setting) -> Result<Option<String>, Refusal> {
    let read = |file: &str| {
        directory.read(file).map_err(|errno| match errno {
            Errno::NOENT => Refusal::Missing,
            errno => Refusal::Told(Error::os(format!("read {}", directory.path.join(file).display()), errno)),
        })
    };
    match setting.rule {
        Rule::LessMemory => {
            let swap: i64 = setting.value.parse().unwrap_or(-1);
            // "max" is no number
            let memory = read("memory.max")?.trim().parse().unwrap_or(-1);
            let alone = convert::swap(swap, memory).map_err(|words| Refusal::Told(Error::new(words)))?;
            Ok(Some(alone.to_string()))
        }
        Rule::BehindQuota => {
            let text = read("cpu.max")?;
            let quota = text.split_whitespace().next().unwrap_or("max");
            Ok(Some(format!("{quota} {}", setting.value)))
        }
        _ => Ok(None),
    }
}
