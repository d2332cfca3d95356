//! Single words: mount options, lists of numbers, `--user`, signals, values of flags. Those of config.json are put
//! into one that is good otherwise.

use ferrun::cli::numbers;
use ferrun::config::{Config, MountSource};
use ferrun::container::exec::User;
use ferrun::container::kill::parse_signal;
use ferrun::error::Error;
use serde_json::{Value, json};

use super::{checked, text};

/// The lines of the input, as a list of words.
fn lines(data: &[u8]) -> Vec<String> {
    text(data).lines().map(str::to_owned).collect()
}

/// A config of nothing but what has to be there.
pub(crate) fn base() -> Value {
    json!({
        "ociVersion": "1.2.0", "root": {"path": "rootfs"},
        "process": {"cwd": "/", "args": ["sh"], "user": {"uid": 0, "gid": 0}},
        "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}]}
    })
}

fn parse(config: &Value, input: usize) -> Option<Config> {
    checked(Config::parse(&serde_json::to_vec(config).expect("text")), input)
}

/// The first line is the type, the second the source, the third the destination, the rest the options.
pub fn mounts(data: &[u8]) {
    let mut words = lines(data).into_iter();
    let mut word = || words.next().unwrap_or_default();
    let (kind, source, destination) = (word(), word(), word());
    let options: Vec<String> = words.collect();
    let mut config = base();
    config["mounts"] = json!([{"destination": destination, "type": kind, "source": source, "options": options}]);
    let Some(config) = parse(&config, data.len()) else { return };
    for mount in &config.mounts {
        let text = mount.destination.to_str().expect("text");
        assert!(text.starts_with('/') && !text.split('/').any(|part| part == ".."), "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
        let options = &mount.options;
        for attr in [options.attr, options.recursive_attr] {
            // but for the field of atime, which is cleared by whoever sets it
            assert_eq!(attr.set & attr.clear & !ATIME, 0, "set and cleared: {options:?}");
        }
        for data in &options.data {
            assert!(!data.key.is_empty() && !data.key.contains('\0') && data.index < 1 << 20, "{data:?}");
        }
        for mapping in options.idmap.iter().flat_map(|map| map.maps.uids.iter().chain(&map.maps.gids)) {
            mapped(mapping);
        }
        if let MountSource::Fs { fstype, .. } = &mount.source {
            assert!(!fstype.contains('\0'));
        }
    }
    super::plans::planned(&config);
}

/// MOUNT_ATTR__ATIME
const ATIME: u64 = 0x70;

fn mapped(mapping: &ferrun::config::IdMapping) {
    assert!(mapping.size > 0);
    assert!(mapping.container_id.checked_add(mapping.size).is_some());
    assert!(mapping.host_id.checked_add(mapping.size).is_some());
}

/// Lists of CPUs, nodes and id mappings, wherever they are: one to a line.
pub fn lists(data: &[u8]) {
    let mut words = lines(data).into_iter();
    let mut word = || words.next().unwrap_or_default();
    let (first, second, third, fourth) = (word(), word(), word(), word());
    let mut config = base();
    config["process"]["execCPUAffinity"] = json!({"initial": first, "final": second});
    config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": third});
    config["linux"]["resources"] = json!({"cpu": {"cpus": first, "mems": third}});
    config["mounts"] =
        json!([{"destination": "/a", "source": "/a", "type": "bind", "options": ["bind", format!("idmap={fourth}")]}]);
    // each for itself, so that one that is wrong does not hide the others
    for drop in ["", "/process/execCPUAffinity", "/linux/memoryPolicy", "/linux/resources", "/mounts"] {
        let mut some = config.clone();
        if let Some((parent, key)) = drop.rsplit_once('/') {
            some.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object").remove(key);
        }
        let Some(config) = parse(&some, data.len()) else { continue };
        let affinity = &config.process.exec_affinity;
        for cpus in [&affinity.initial, &affinity.last].into_iter().flatten() {
            assert!(cpus.0.iter().all(|(first, last)| first <= last && *last < 8192), "{cpus:?}");
        }
        if let Some(policy) = &config.memory_policy {
            assert!(policy.nodes.is_sorted() && policy.nodes.len() <= 32768, "{policy:?}");
        }
        for mount in &config.mounts {
            for mapping in mount.options.idmap.iter().flat_map(|map| map.maps.uids.iter().chain(&map.maps.gids)) {
                mapped(mapping);
            }
        }
        super::plans::planned(&config);
    }
}

/// `--user`, without any file: numbers alone are known.
pub fn user(data: &[u8]) {
    let said = text(data);
    let unknown = |_: &str| Err::<&[u8], _>(Error::new("there is no such file"));
    if let Some(found) = checked(User::find_in(&said, unknown), data.len()) {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty();
        assert!(said.split(':').all(digits), "{said:?} became {found:?}");
        assert!(found.uid.is_some_and(|uid| uid != u32::MAX) && found.gid != Some(u32::MAX), "{found:?}");
    }
}

/// `kill`'s signal.
pub fn signal(data: &[u8]) {
    if let Some(signal) = checked(parse_signal(&text(data)), data.len()) {
        assert!((0..=64).contains(&signal), "{signal}");
    }
}

/// Numbers, sizes and durations of the command line.
pub fn flags(data: &[u8]) {
    let said = text(data);
    if let Some(number) = checked(numbers::unsigned(&said), data.len()) {
        assert!(number.is_u64());
    }
    checked(numbers::signed(&said), data.len());
    if let Some(bytes) = checked(numbers::bytes(&said), data.len()) {
        assert!(bytes.as_i64().is_some_and(|bytes| bytes >= -1), "{said:?} became {bytes}");
    }
    checked(numbers::duration(&said), data.len());
}
