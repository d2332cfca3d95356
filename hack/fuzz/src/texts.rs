//! Files and messages: of the container's image, of the container's init, of the kernel, of ourselves.

use ferrun::cgroup::devices::lists::List;
use ferrun::cgroup::stats::{Io, forms};
use ferrun::container::exec::User;
use ferrun::error::Error;
use ferrun::host::{cause, parse_own_v2, parse_v1, subids};
use ferrun::init::{environ, preflight};
use ferrun::launch::channel::Message;
use ferrun::state::record::Record;
use ferrun::sys::mountinfo;
use ferrun::sys::proc::parse_stat;

use super::{check_error, checked, text};

/// The channel from the init, and the file of its last words.
pub fn channel(data: &[u8]) {
    if let Some(message) = checked(Message::parse(data), data.len()) {
        if let Message::Fault(error) = &message {
            let text = error.to_string();
            assert!(!text.chars().any(char::is_control), "not one line: {text:?}");
        }
        let again = Message::parse(&serde_json::to_vec(&message).expect("text")).expect("a message");
        assert_eq!(again, message);
    }
    if let Ok(error) = serde_json::from_slice::<Error>(data) {
        let text = error.to_string();
        assert!(!text.chars().any(char::is_control), "not one line: {text:?}");
    }
}

/// `state.json`: what is written is what was read, and what hooks are told is JSON.
pub fn state(data: &[u8]) {
    let Some(record) = checked(Record::parse(data), data.len()) else { return };
    let again = Record::parse(&serde_json::to_vec(&record).expect("text")).expect("a record");
    assert_eq!(again, record);
    let told: serde_json::Value = serde_json::from_str(&record.oci_state("running", record.pid())).expect("JSON");
    assert_eq!(told["id"], record.id.as_str());
    record.placement.directories();
}

/// The image's /etc/passwd and /etc/group. The first line is the name that is looked for.
pub fn passwd(data: &[u8]) {
    let split = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (name, file) = (text(&data[..split]), data.get(split + 1..).unwrap_or_default());
    for user in [name.clone(), format!("{name}:{name}"), format!("0:{name}")] {
        let found = checked(User::find_in(&user, |_| Ok(file)), data.len()).unwrap_or(User { uid: Some(0), gid: None });
        assert!(found.uid.is_some_and(|uid| uid != u32::MAX) && found.gid != Some(u32::MAX), "{found:?}");
    }
    for uid in [0, 1000, u32::MAX] {
        if let Some(home) = environ::find_home(file, uid) {
            assert!(home.starts_with('/') && !home.contains(['\0', '\n', ':']), "{home:?}");
        }
    }
}

/// What the kernel says of processes, this one among them, and of mounts; who has which subordinate ids.
pub fn proc(data: &[u8]) {
    let said = text(data);
    for hierarchy in parse_v1(&said) {
        assert!(!hierarchy.controllers.is_empty() && !hierarchy.name().contains('\n'));
    }
    parse_own_v2(&said);
    if let Some(stat) = parse_stat(data) {
        assert!(data.contains(&stat.state));
    }
    for mount in mountinfo::parse(&said) {
        assert!(mount.point.as_os_str().len() <= said.len());
    }
    for range in subids::ranges(&said, 1000, Some("me")) {
        assert!(range.size > 0 && range.first.checked_add(range.size).is_some(), "{range:?}");
    }
    let mut parts = said.splitn(3, '\u{1}');
    let mut part = || parts.next().unwrap_or_default();
    for cause in cause::causes(part(), part(), part()) {
        check_error(&Error::new("x").hint(cause), data.len());
    }
}

/// Counters and device lists of cgroups.
pub fn cgroup_files(data: &[u8]) {
    let said = text(data);
    forms::number(&said);
    forms::pressure(&said);
    forms::page_size(&said);
    if let Some(numbers) = forms::numbers(&said) {
        assert!(numbers.len() <= 2 << 16, "{} numbers", numbers.len());
    }
    let mut io = Io::default();
    for line in said.lines() {
        forms::pair(line);
        forms::rdma(line);
        forms::entry(line);
        forms::device(line, &mut io);
    }
    devices(&said);
}

/// A list leads to itself by what it says to write, and from any other as well.
fn devices(said: &str) {
    let (old, new) = said.split_once('\u{1}').unwrap_or((said, ""));
    let (old, new) = (List::parse(old), List::parse(new));
    for write in old.anew().iter().chain(&new.change(&old).unwrap_or_default()) {
        let line = write.to_string();
        assert!(line == "a" || line.split(' ').count() >= 2, "{line:?}");
    }
    // an exception without a letter asks for nothing
    if !old.allow && old.exceptions.values().all(|bits| *bits != 0) {
        assert_eq!(old.change(&old), Some(Vec::new()), "{said:?}");
    }
}

/// Why a program of the image cannot be executed.
pub fn elf(data: &[u8]) {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let fd = rustix::fs::memfd_create("program", rustix::fs::MemfdFlags::CLOEXEC).expect("memfd");
    let mut file = std::fs::File::from(fd);
    file.write_all(data).expect("write");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::fchmod(&file, mode).expect("fchmod");
    let words = preflight::explain(&path, rustix::io::Errno::ACCESS, None);
    check_error(&Error::new(words), data.len());
}
