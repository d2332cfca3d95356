//! Files of counters: read in one go.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};

use super::{Pressure, RdmaEntry, forms};

/// Larger than any file that is read here: the kernel hands such a file over at once.
const SIZE: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Buffer(Vec<u8>);

/// A cgroup whose files are read.
pub(super) struct Files<'a> {
    pub directory: &'a Path,
    pub buffer: &'a mut Buffer,
}

impl Files<'_> {
    /// A file, whole. None: there is none, or it does not work here (pressure without PSI).
    pub(super) fn text(&mut self, name: &str) -> Result<Option<&str>> {
        let path = self.directory.join(name);
        let buffer = &mut self.buffer.0;
        buffer.resize(SIZE, 0);
        let mut read = || {
            let fd = open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::read(&fd, &mut buffer[..])
        };
        let length = match read() {
            Ok(length) => length,
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno).call(|| format!("read {}", path.display())),
        };
        let text = std::str::from_utf8(&self.buffer.0[..length]);
        text.map(Some).map_err(|_| strange(&path, "bytes that are no text"))
    }

    /// A file with one number, or `max`. None: there is none.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>> {
        let directory = self.directory;
        let Some(text) = self.text(name)? else { return Ok(None) };
        forms::number(text).map(Some).ok_or_else(|| strange(&directory.join(name), text))
    }

    /// As [`Self::number`]; 0 for none.
    pub(super) fn number_or_0(&mut self, name: &str) -> Result<u64> {
        Ok(self.number(name)?.unwrap_or(0))
    }

    /// A file of `key value` lines, to `take`. False: there is none.
    pub(super) fn pairs(&mut self, name: &str, mut take: impl FnMut(&str, u64)) -> Result<bool> {
        let directory = self.directory;
        let Some(text) = self.text(name)? else { return Ok(false) };
        for line in text.lines() {
            let (key, value) = forms::pair(line).ok_or_else(|| strange(&directory.join(name), line))?;
            take(key, value);
        }
        Ok(true)
    }

    /// A pressure file. None: there is none.
    pub(super) fn pressure(&mut self, name: &str) -> Result<Option<Pressure>> {
        let directory = self.directory;
        let Some(text) = self.text(name)? else { return Ok(None) };
        forms::pressure(text).map(Some).ok_or_else(|| strange(&directory.join(name), text))
    }

    /// rdma.current or rdma.max.
    pub(super) fn rdma(&mut self, name: &str) -> Result<Vec<RdmaEntry>> {
        let directory = self.directory;
        let Some(text) = self.text(name)? else { return Ok(Vec::new()) };
        let entry = |line: &str| forms::rdma(line).ok_or_else(|| strange(&directory.join(name), line));
        text.lines().map(entry).collect()
    }
}

/// What the kernel does not write.
pub(super) fn strange(path: &Path, text: &str) -> Error {
    let short: String = text.chars().take(80).collect();
    Error::new(format!("{} holds {short:?}", path.display())).path(path)
}

/// The sizes of huge pages as the files of the hugetlb controller name them.
pub(super) fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| forms::page_size(entry.ok()?.file_name().to_str()?);
    let mut sizes: Vec<String> = entries.filter_map(name).collect();
    sizes.sort();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_missing_a_number_or_strange() {
        let directory = tempfile::tempdir().expect("directory");
        let mut buffer = Buffer::default();
        let mut files = Files { directory: directory.path(), buffer: &mut buffer };
        for (name, text) in [("n", "42\n"), ("m", "max\n"), ("s", "a b\n"), ("p", "a 1\nb 2\n")] {
            std::fs::write(directory.path().join(name), text).expect("write");
        }
        assert_eq!(files.number("n").expect("n"), Some(42));
        assert_eq!(files.number("m").expect("m"), Some(u64::MAX));
        assert_eq!(files.number("none").expect("none"), None);
        assert!(files.number("s").is_err() && files.pairs("s", |_, _| {}).is_err());
        let mut sum = 0;
        assert!(files.pairs("p", |_, value| sum += value).expect("p"));
        assert_eq!(sum, 3);
    }
}
