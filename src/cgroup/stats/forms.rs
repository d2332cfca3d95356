//! The forms that files of counters come in. Pure.
//!
//! The kernel writes these files; still nothing here panics or grows without bound, whatever they hold.

use super::{Io, IoEntry, Pressure, RdmaEntry, Stall};

/// No kernel has more CPUs or memory nodes.
const MAX_NUMBERS: u32 = 1 << 16;

/// One number, or `max`.
pub fn number(text: &str) -> Option<u64> {
    match text.trim() {
        // memory.high and its like may be written as -1, and are read so by old kernels
        "max" | "-1" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// `key value`.
pub fn pair(line: &str) -> Option<(&str, u64)> {
    let (key, value) = line.split_once(' ')?;
    Some((key, value.trim().parse().ok()?))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
pub fn pressure(text: &str) -> Option<Pressure> {
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
pub fn rdma(line: &str) -> Option<RdmaEntry> {
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

/// `hugepages-2048kB` is `2MB`.
pub fn page_size(name: &str) -> Option<String> {
    let mut size: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let mut units = ["KB", "MB", "GB"].iter();
    let mut unit = units.next()?;
    while size >= 1024 {
        let Some(next) = units.next() else { break };
        (size, unit) = (size / 1024, next);
    }
    Some(format!("{size}{unit}"))
}

/// `0-3,7`.
pub fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last >= MAX_NUMBERS || numbers.len() >= MAX_NUMBERS as usize {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Version 1: `8:0 Read 4096` or `8:0 12`.
pub fn entry(line: &str) -> Option<IoEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let (operation, value) = rest.rsplit_once(' ').unwrap_or(("", rest));
    Some(IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        operation: operation.to_owned(),
        value: value.parse().ok()?,
    })
}

/// Version 2: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
pub fn device(line: &str, io: &mut Io) -> Option<()> {
    let mut fields = line.split_whitespace();
    let (major, minor) = fields.next()?.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    for field in fields {
        // cost.* and others are no plain counters
        let Some((key, value)) = field.split_once('=') else { continue };
        let (list, operation) = match key {
            "rbytes" => (&mut io.service_bytes, "Read"),
            "wbytes" => (&mut io.service_bytes, "Write"),
            "rios" => (&mut io.serviced, "Read"),
            "wios" => (&mut io.serviced, "Write"),
            _ => continue,
        };
        list.push(IoEntry { major, minor, operation: operation.to_owned(), value: value.parse().ok()? });
    }
    Some(())
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
    fn lists_and_devices() {
        assert_eq!(numbers("0-2,7"), Some(vec![0, 1, 2, 7]));
        assert_eq!(numbers(""), Some(vec![]));
        assert_eq!(numbers("x"), None);
        let read = entry("8:16 Read 4096").expect("entry");
        assert_eq!((read.major, read.minor, read.operation.as_str(), read.value), (8, 16, "Read", 4096));
        assert_eq!(entry("8:0 12").expect("entry").operation, "");
        assert_eq!(entry("8 12"), None);
    }

    #[test]
    fn a_list_has_an_end() {
        assert_eq!(numbers("0-4294967295"), None);
        assert_eq!(numbers(&"0-65535,".repeat(1000)), None);
        assert_eq!(numbers("0-65535").map(|numbers| numbers.len()), Some(65536));
    }

    #[test]
    fn lines_of_io_stat() {
        let mut io = Io::default();
        device("8:16 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=7", &mut io).expect("line");
        let values: Vec<u64> = io.service_bytes.iter().chain(&io.serviced).map(|entry| entry.value).collect();
        assert_eq!(values, [1, 2, 3, 4]);
        assert!(device("8:0", &mut io).is_some() && device("x rbytes=1", &mut io).is_none());
    }
}
