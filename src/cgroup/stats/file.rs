//! Files of counters: read in one go, and the forms that they come in.

use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::error::{Call, Error, Result};

use super::{Pressure, RdmaEntry, Stall};

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
        let text = text.trim();
        // memory.high and its like may be written as -1, and are read so by old kernels
        match text {
            "max" | "-1" => Ok(Some(u64::MAX)),
            _ => text.parse().map(Some).map_err(|_| strange(&directory.join(name), text)),
        }
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
            let pair = line.split_once(' ').and_then(|(key, value)| Some((key, value.trim().parse().ok()?)));
            let (key, value) = pair.ok_or_else(|| strange(&directory.join(name), line))?;
            take(key, value);
        }
        Ok(true)
    }

    /// A pressure file. None: there is none.
    pub(super) fn pressure(&mut self, name: &str) -> Result<Option<Pressure>> {
        let directory = self.directory;
        let Some(text) = self.text(name)? else { return Ok(None) };
        pressure(text).map(Some).ok_or_else(|| strange(&directory.join(name), text))
    }

    /// rdma.current or rdma.max.
    pub(super) fn rdma(&mut self, name: &str) -> Result<Vec<RdmaEntry>> {
        let directory = self.directory;
        let Some(text) = self.text(name)? else { return Ok(Vec::new()) };
        let entry = |line: &str| rdma(line).ok_or_else(|| strange(&directory.join(name), line));
        text.lines().map(entry).collect()
    }
}

/// What the kernel does not write.
pub(super) fn strange(path: &Path, text: &str) -> Error {
    let short: String = text.chars().take(80).collect();
    Error::new(format!("{} holds {short:?}", path.display())).path(path)
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn pressure(text: &str) -> Option<Pressure> {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let mut stall = Stall::default();
        for field in rest.split_whitespace() {
            let (key, value) = field.split_once('=')?;
            match key {
                "avg10" => stall.avg10 = value.parse().ok()?,
                "avg60" => stall.avg60 = value.parse().ok()?,
                "avg300" => stall.avg300 = value.parse().ok()?,
                "total" => stall.total = value.parse().ok()?,
                _ => {}
            }
        }
        match kind {
            "some" => pressure.some = stall,
            "full" => pressure.full = stall,
            _ => {}
        }
    }
    Some(pressure)
}

/// `mlx4_0 hca_handle=2 hca_object=max`.
fn rdma(line: &str) -> Option<RdmaEntry> {
    let (device, rest) = line.split_once(' ')?;
    let mut entry = RdmaEntry { device: device.to_owned(), ..RdmaEntry::default() };
    for field in rest.split_whitespace() {
        let (key, value) = field.split_once('=')?;
        let value = if value == "max" { u32::MAX } else { value.parse().ok()? };
        match key {
            "hca_handle" => entry.hca_handles = value,
            "hca_object" => entry.hca_objects = value,
            _ => {}
        }
    }
    Some(entry)
}

/// The sizes of huge pages as the files of the hugetlb controller name them.
pub(super) fn page_sizes() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let name = |entry: std::io::Result<std::fs::DirEntry>| page_size(entry.ok()?.file_name().to_str()?);
    let mut sizes: Vec<String> = entries.filter_map(name).collect();
    sizes.sort();
    sizes
}

/// `hugepages-2048kB` is `2MB`.
fn page_size(name: &str) -> Option<String> {
    let mut size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let mut units = ["KB", "MB", "GB"].iter();
    let mut unit = units.next()?;
    while size >= 1024 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024, next);
    }
    Some(format!("{size}{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=7\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n";
        let read = pressure(text).expect("pressure");
        assert_eq!((read.some.avg10, read.some.avg60, read.some.total, read.full.total), (1.5, 0.25, 7, 3));
        assert_eq!(pressure("some avg10=x"), None);
        let read = rdma("mlx4_0 hca_handle=2 hca_object=max").expect("rdma");
        assert_eq!((read.device.as_str(), read.hca_handles, read.hca_objects), ("mlx4_0", 2, u32::MAX));
        let sizes = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "x"].map(page_size);
        assert_eq!(sizes, [Some("64KB".into()), Some("2MB".into()), Some("1GB".into()), None]);
    }

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
