//! What files held before an update, in the form in which they take it back.

use std::os::fd::BorrowedFd;

use crate::plan::cgroupfs::Placement;
use crate::sys::proc;

use super::super::limits::{Rule, Setting};
use super::Writer;

/// What the files held before an update, in the order of writing.
#[derive(Debug, Default)]
pub(in crate::cgroup) struct Undo(Vec<Setting>);

impl Undo {
    pub(super) fn push(&mut self, controller: &str, file: String, value: String) {
        let (controller, pointer) = (controller.to_owned(), String::new());
        self.0.push(Setting { controller, file, value, pointer, rule: Rule::Plain });
    }

    /// Puts back what was there: the last first, so that each state on the way is one that the kernel took
    /// before. What resists is said in the log.
    pub(in crate::cgroup) fn run(&self, placement: &Placement) {
        let mut writer = Writer::new(placement, false);
        for setting in self.0.iter().rev() {
            if let Err(error) = writer.write(setting) {
                tracing::warn!("{}", error.within("put back what was there before the update"));
            }
        }
    }
}

/// What `value` is about to replace in the open `file`.
pub(super) fn read(fd: BorrowedFd<'_>, file: &str, value: &str) -> Option<String> {
    proc::read_open(fd).ok().map(|text| old_value(file, value, &text))
}

/// Of `text`, the part that `value` replaces.
fn old_value(file: &str, value: &str, text: &str) -> String {
    let by_key = file.ends_with(".max") && file != "cpu.max" || file.contains("device") || file.contains("weight");
    let key = value.split_once(' ').map(|(key, _)| key);
    if let Some(key) = key.filter(|key| by_key && *key != "default" || file == "net_prio.ifpriomap" && !key.is_empty())
    {
        let line = text.lines().find(|line| line.split(' ').next() == Some(key));
        return line.map_or_else(|| unset(file, key, value), str::to_owned);
    }
    let first = text.lines().next().unwrap_or_default();
    for name in ["default ", "oom_kill_disable "] {
        if let Some(number) = first.strip_prefix(name) {
            return number.to_owned();
        }
    }
    // nothing at all would be no write; a line without anything is what `cpuset.cpus` takes for nothing
    if text.trim().is_empty() { "\n".to_owned() } else { text.trim_end().to_owned() }
}

/// A key that had no line of its own.
fn unset(file: &str, key: &str, value: &str) -> String {
    let none = match file {
        "io.weight" => "default".to_owned(),
        // each limit by its own name
        "io.max" | "rdma.max" => {
            let names = value.split(' ').skip(1).filter_map(|limit| limit.split_once('='));
            names.map(|(name, _)| format!("{name}=max")).collect::<Vec<_>>().join(" ")
        }
        file if file.ends_with(".max") => "max".to_owned(),
        _ => "0".to_owned(),
    };
    format!("{key} {none}")
}

#[cfg(test)]
mod tests {
    use super::old_value;

    #[test]
    fn what_is_put_back() {
        for (file, value, text, old) in [
            ("memory.max", "1048576", "max\n", "max"),
            ("cpu.max", "5000 10000", "max 100000\n", "max 100000"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpuset.cpus", "0", "0-3\n", "0-3"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0"),
            ("io.max", "8:0 rbps=1", "8:16 rbps=2 wbps=max riops=max wiops=max\n", "8:0 rbps=max"),
            (
                "io.max",
                "8:0 rbps=1",
                "8:0 rbps=2 wbps=max riops=max wiops=max\n",
                "8:0 rbps=2 wbps=max riops=max wiops=max",
            ),
            ("io.max", "8:0 rbps=1", "", "8:0 rbps=max"),
            ("rdma.max", "mlx4_0 hca_handle=2 hca_object=3", "", "mlx4_0 hca_handle=max hca_object=max"),
            ("misc.max", "sev 3", "sev 7\nsev_es max\n", "sev 7"),
            ("io.weight", "200", "default 100\n8:0 50\n", "100"),
            ("io.weight", "8:0 200", "default 100\n8:0 50\n", "8:0 50"),
            ("io.weight", "8:0 200", "default 100\n", "8:0 default"),
            ("io.bfq.weight", "8:0 200", "default 100\n", "8:0 0"),
            ("blkio.throttle.read_bps_device", "8:0 200", "8:16 5\n", "8:0 0"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 2\n", "eth0 2"),
            ("hugetlb.2MB.max", "0", "max\n", "max"),
        ] {
            assert_eq!(old_value(file, value, text), old, "{file} {value}");
        }
    }
}
