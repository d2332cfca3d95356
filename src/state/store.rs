//! The directory of containers: claims, locks, records.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, lstat, mkdirat, open, openat, renameat,
    unlinkat,
};
use rustix::io::Errno;

use crate::cgroup::freezer;
use crate::error::{Call, Context, Error, Result};

use super::id;
use super::record::{Phase, Record, Status};

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";
const CONFIG: &str = "config.json";
/// Exists from create to start: the init waits at its other end.
pub const START_FIFO: &str = "start.fifo";
/// The last words of an init whose creator has left.
pub const FAULT: &str = "fault";
/// Holds the socket through which the container notifies us.
pub const NOTIFY: &str = "notify";

/// A record is a few hundred bytes and its annotations; more is not ours.
const MAX_STATE: usize = 16 << 20;

/// No command waits longer for another.
const LOCK_DEADLINE: Duration = Duration::from_secs(30);

/// ROOT: `--root`, `$XDG_RUNTIME_DIR/ferrun` or /run/ferrun.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// The directory of one container. While `locked`, nobody else changes it.
#[derive(Debug)]
pub struct Entry {
    pub id: String,
    pub path: PathBuf,
    directory: OwnedFd,
}

impl Store {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directory of a new container and locks it. None: the id is taken.
    ///
    /// # Errors
    /// A bad id; the file system refuses.
    pub fn claim(&self, id: &str) -> Result<Option<Entry>> {
        id::check(id)?;
        let path = self.root.join(id);
        if !self.is_trusted()? {
            // whatever the caller's umask, nobody else's to write to
            let make = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.root);
            make.call(|| format!("mkdir {}", self.root.display())).map_err(own_place)?;
        }
        match mkdirat(CWD, &path, Mode::from_raw_mode(0o711)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => return Err(errno).call(|| format!("mkdir {}", path.display())).map_err(own_place),
        }
        let entry = self.open(id)?;
        if !entry.try_lock()? {
            entry.lock()?;
        }
        // between mkdir and lock the directory may have been taken for a leftover, removed and made again
        Ok(if entry.is_current()? && entry.load()?.is_none() { Some(entry) } else { None })
    }

    /// Opens the directory of a container.
    ///
    /// # Errors
    /// `container ID does not exist`; it is somebody else's.
    pub fn enter(&self, id: &str) -> Result<Entry> {
        id::check(id)?;
        if !self.is_trusted()? {
            return Err(Error::new(format!("container {id:?} does not exist")));
        }
        self.open(id)
    }

    /// In a root that was looked at.
    fn open(&self, id: &str) -> Result<Entry> {
        let path = self.root.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Err(Error::new(format!("container {id:?} does not exist"))),
            Err(errno) => return Err(errno).call(|| format!("open {}", path.display())),
        };
        // in a root like /tmp everybody can make one
        check_owner(&fstat(&directory).call(|| "fstat".to_owned())?, &path)?;
        Ok(Entry { id: id.to_owned(), path, directory })
    }

    /// What a record says is done: its hooks run as the caller, its processes and cgroups are ended. So nobody else
    /// may write one. False: there is no root.
    ///
    /// # Errors
    /// The root is somebody else's, or a link of somebody else's, or everybody may rename what is in it.
    fn is_trusted(&self) -> Result<bool> {
        let call = || format!("stat {}", self.root.display());
        let mut stat = match lstat(&self.root) {
            Err(Errno::NOENT) => return Ok(false),
            stat => stat.call(call)?,
        };
        check_owner(&stat, &self.root)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            stat = match rustix::fs::stat(&self.root) {
                Err(Errno::NOENT) => return Ok(false),
                stat => stat.call(call)?,
            };
            check_owner(&stat, &self.root)?;
        }
        let mode = Mode::from_raw_mode(stat.st_mode);
        if mode.contains(Mode::WOTH) && !mode.contains(Mode::SVTX) {
            return Err(untrusted(&self.root, "everybody may change it"));
        }
        Ok(true)
    }

    /// All ids, sorted. A directory on its way out is none.
    pub fn ids(&self) -> Result<Vec<String>> {
        if !self.is_trusted()? {
            return Ok(Vec::new());
        }
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::os(format!("open {}", self.root.display()), error)),
        };
        let is_directory = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let mut ids: Vec<String> = entries
            .filter_map(io::Result::ok)
            .filter(is_directory)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !is_dead(name) && id::check(name).is_ok())
            .collect();
        ids.sort();
        Ok(ids)
    }

    /// Whether there is anything by that name.
    pub fn has(&self, id: &str) -> bool {
        lstat(self.root.join(id)).is_ok()
    }

    /// Finishes a removal that was interrupted. False: there was none.
    pub fn bury(&self, id: &str) -> Result<bool> {
        if !self.is_trusted()? {
            return Ok(false);
        }
        let dead = self.dead(id);
        match std::fs::remove_dir_all(&dead) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::os(format!("remove {}", dead.display()), error)),
        }
    }

    fn dead(&self, id: &str) -> PathBuf {
        self.root.join(format!(".{id}.dead"))
    }
}

fn own_place(error: Error) -> Error {
    match error.errno() {
        Some(libc::EACCES | libc::EPERM) => error.hint("set XDG_RUNTIME_DIR or --root to a directory of your own"),
        _ => error,
    }
}

/// The caller's own, or root's.
fn check_owner(stat: &Stat, path: &Path) -> Result<()> {
    if stat.st_uid == 0 || stat.st_uid == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    Err(untrusted(path, &format!("it belongs to uid {}", stat.st_uid)))
}

fn untrusted(path: &Path, why: &str) -> Error {
    let text = format!("the state of containers cannot be trusted in {}: {why}", path.display());
    Error::new(text).path(path).hint("--root names another directory")
}

/// `.ID.dead`: renamed to be removed.
fn is_dead(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".dead")
}

impl Entry {
    /// Whether the lock could be had at once.
    pub fn try_lock(&self) -> Result<bool> {
        match flock(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).call(|| format!("flock {}", self.path.display())),
        }
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// `does not exist`: whoever had it has removed the container. It was not given up in time.
    pub fn lock(&self) -> Result<()> {
        let deadline = Instant::now() + LOCK_DEADLINE;
        while !self.try_lock()? {
            if Instant::now() > deadline {
                let seconds = LOCK_DEADLINE.as_secs();
                return Err(Error::new(format!(
                    "another command has been at work on container {} for {seconds} s",
                    self.id
                ))
                .hint("a hook that does not end?"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.is_current()? { Ok(()) } else { Err(Error::new(format!("container {:?} does not exist", self.id))) }
    }

    /// For a command that goes on to watch the container.
    pub fn unlock(&self) -> Result<()> {
        flock(&self.directory, FlockOperation::Unlock).call(|| format!("flock {}", self.path.display()))
    }

    /// Whether this is still the container of that name: one that was open before it was removed can be locked,
    /// and what is done by path then is done to its successor.
    pub fn is_current(&self) -> Result<bool> {
        let ours = fstat(&self.directory).call(|| "fstat".to_owned())?;
        let now = rustix::fs::stat(&self.path);
        Ok(now.is_ok_and(|now| (now.st_dev, now.st_ino) == (ours.st_dev, ours.st_ino)))
    }

    /// Whether somebody works on it now.
    pub fn is_busy(&self) -> Result<bool> {
        match flock(&self.directory, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                self.unlock()?;
                Ok(false)
            }
            Err(Errno::WOULDBLOCK) => Ok(true),
            Err(errno) => Err(errno).call(|| format!("flock {}", self.path.display())),
        }
    }

    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Writes the record: nobody ever sees half of it.
    pub fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|error| Error::new(error.to_string()))?;
        let save = || {
            self.write(STATE_NEW, &text)?;
            renameat(&self.directory, STATE_NEW, &self.directory, STATE).call(|| "rename".to_owned())
        };
        save().context(|| format!("save the state of {}", self.id))
    }

    /// Keeps a copy of config.json: later edits of the bundle change nothing. It is written when the cgroups
    /// are made and before there is a process: without it, what is in the cgroups is not the container's.
    pub fn save_config(&self, bytes: &[u8]) -> Result<()> {
        self.write(CONFIG, bytes).context(|| format!("keep the config of {}", self.id))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file =
            openat(&self.directory, name, flags, Mode::from_raw_mode(0o600)).call(|| format!("create {name}"))?;
        let mut left = bytes;
        while !left.is_empty() {
            let length = rustix::io::write(&file, left).call(|| format!("write {name}"))?;
            left = &left[length..];
        }
        Ok(())
    }

    pub fn read(&self, name: &str) -> Result<Vec<u8>, Errno> {
        let file = openat(&self.directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        // takes most records and configs in one read; what is not written to costs nothing
        let mut bytes = vec![0; 16 << 10];
        let mut length = 0;
        loop {
            let more = rustix::io::read(&file, &mut bytes[length..])?;
            length += more;
            // of a regular file, less than was asked for is all there is
            if length < bytes.len() {
                break;
            }
            if length >= MAX_STATE {
                return Err(Errno::FBIG);
            }
            bytes.resize(length * 2, 0);
        }
        bytes.truncate(length);
        Ok(bytes)
    }

    /// The record. None: the creator died before it wrote one, or is about to.
    ///
    /// # Errors
    /// It is damaged, or of another version of this program.
    pub fn load(&self) -> Result<Option<Record>> {
        let bytes = match self.read(STATE) {
            Ok(bytes) => bytes,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(Error::os(format!("read {}", self.path.join(STATE).display()), errno)),
        };
        let record = Record::parse(&bytes).map_err(|error| error.path(self.path.join(STATE)));
        record.map(Some).context(|| format!("read the state of {}", self.id))
    }

    /// As [`Self::load`], of a container whose creation is over.
    ///
    /// # Errors
    /// `does not exist`: it is not there yet.
    pub fn load_created(&self) -> Result<Record> {
        self.load()?.ok_or_else(|| Error::new(format!("container {:?} does not exist", self.id)))
    }

    /// Whether the creator got as far as to keep the config: see [`Self::save_config`].
    pub fn has_config(&self) -> bool {
        rustix::fs::accessat(&self.directory, CONFIG, rustix::fs::Access::EXISTS, AtFlags::empty()).is_ok()
    }

    /// The container's own copy of config.json.
    pub fn config(&self) -> Result<Vec<u8>> {
        self.read(CONFIG).call(|| format!("read {}", self.path.join(CONFIG).display()))
    }

    /// What the container is doing now.
    pub fn status(&self, record: &Record) -> Result<Status> {
        match (record.phase, record.init) {
            (Phase::Creating, _) => Ok(if self.is_busy()? { Status::Creating } else { Status::Stopped }),
            (Phase::Created, Some(init)) if init.is_alive() => Ok(if freezer::is_frozen(&record.placement) {
                Status::Paused
            } else if self.awaits_start()? {
                Status::Created
            } else {
                Status::Running
            }),
            _ => Ok(Status::Stopped),
        }
    }

    /// Whether the init still holds the other end of the FIFO. After a crash of `start` the FIFO may be there
    /// without it.
    fn awaits_start(&self) -> Result<bool> {
        self.open_fifo().map(|fifo| fifo.is_some())
    }

    /// The writing end of the start FIFO; None when nobody reads it.
    pub fn open_fifo(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.directory, START_FIFO, flags, Mode::empty()) {
            Ok(fifo) => Ok(Some(fifo)),
            Err(Errno::NOENT | Errno::NXIO) => Ok(None),
            Err(errno) => Err(errno).call(|| format!("open {}", self.path.join(START_FIFO).display())),
        }
    }

    pub fn remove_fifo(&self) {
        // one that is gone is what is wanted
        let _ = unlinkat(&self.directory, START_FIFO, AtFlags::empty());
    }

    /// Removes the directory, out of sight first: an interrupted removal leaves no half a container.
    pub fn remove(&self, store: &Store) -> Result<()> {
        let dead = store.dead(&self.id);
        let remove = || {
            match renameat(CWD, &self.path, CWD, &dead) {
                Ok(()) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    std::fs::remove_dir_all(&dead).call(|| format!("remove {}", dead.display()))?;
                    renameat(CWD, &self.path, CWD, &dead).call(|| "rename".to_owned())?;
                }
                Err(errno) => return Err(errno).call(|| "rename".to_owned()),
            }
            for name in [STATE, CONFIG] {
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
            match unlinkat(CWD, &dead, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => Ok(()),
                Err(_) => std::fs::remove_dir_all(&dead).call(|| format!("remove {}", dead.display())),
            }
        };
        remove().context(|| format!("remove the state of {}", self.id))
    }
}
