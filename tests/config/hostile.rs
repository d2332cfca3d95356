//! Bytes that are no config: nothing panics, every error is one line.

use std::time::Instant;

use ferrun::config::{Config, load};
use serde_json::{Value, json};

use crate::{check_shape, runc_spec, set};

fn said(bytes: &[u8]) -> String {
    let text = Config::parse(bytes).unwrap_err().to_string();
    check_shape(&text);
    text
}

#[test]
fn no_json() {
    assert_eq!(said(b""), "config.json is empty");
    assert_eq!(said(b" \n\t"), "config.json is empty");
    assert_eq!(said(&[0; 4096]), "config.json is not valid JSON: NUL byte at offset 0");
    assert_eq!(said(b"{\"a\": \0}"), "config.json is not valid JSON: NUL byte at offset 6");
    assert_eq!(said(b"[]"), "config.json must be a JSON object, not an array");
    assert_eq!(said(b"null"), "config.json must be a JSON object, not null");
    assert_eq!(said(b"{}"), "ociVersion must be given (config.json /ociVersion)");
    assert_eq!(said(b"{\n \"a\": 1,\n}"), "config.json is not valid JSON: trailing comma at line 3 column 1");
    assert_eq!(said(b"{\"a\": {"), "config.json ends too early: EOF while parsing an object at line 1 column 7");
    assert!(said(b"\xef\xbb\xbf{}").contains("line 1 column 1"));
    assert!(said(b"{\"hostname\": \"\xff\"}").contains("line 1 column"));
    assert!(said(b"{} {}").contains("trailing characters"));
    assert!(said(b"hello").contains("not valid JSON"));
    assert_eq!(said(&vec![b'a'; 100 << 20]), format!("config.json is larger than {} MiB", load::LIMIT >> 20));
}

#[test]
fn too_deep() {
    let deep = "[".repeat(100_000);
    assert!(said(deep.as_bytes()).contains("nested deeper than 128 levels"));
    assert!(said(format!("{{\"process\":{deep}").as_bytes()).contains("nested deeper than 128 levels"));
    assert!(said("{\"a\":".repeat(100_000).as_bytes()).contains("nested deeper than 128 levels"));
    let closed = format!("{{\"unknown\":{deep}{}}}", "]".repeat(100_000));
    assert!(said(closed.as_bytes()).contains("ociVersion must be given"));
}

#[test]
fn cut_at_every_byte() {
    let text = serde_json::to_vec_pretty(&runc_spec()).unwrap();
    for length in 0..text.len() {
        let error = said(&text[..length]);
        assert!(error.contains("ends too early") || error.contains("is empty"), "{length}: {error}");
    }
}

/// A list of ranges that overlap costs as much as its text, not as much as all that it names.
#[test]
fn ranges_that_overlap_pile_up_no_work() {
    let with = |pointer: &str, value: Value| {
        let mut config = runc_spec();
        set(&mut config, pointer, value);
        serde_json::to_vec(&config).unwrap()
    };
    let begin = Instant::now();
    let nodes = with("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0-32767,".repeat(100_000)}));
    let policy = Config::parse(&nodes).unwrap().memory_policy.unwrap();
    assert!(policy.nodes.iter().copied().eq(0..=32767));
    // these are walked through range by range when they are used
    let cpus = vec!["0-8191"; 10_000].join(",");
    let cpus = with("/process/execCPUAffinity", json!({"initial": cpus}));
    assert!(said(&cpus).contains("must be a list of CPUs"));
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}

/// xorshift64: the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let good = serde_json::to_vec(&runc_spec()).unwrap();
    let mut accepted = 0;
    for _ in 0..5_000 {
        let mut text = good.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(text.len());
            match random.below(4) {
                0 => text[place] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(text.drain(place..(place + 1 + random.below(9)).min(text.len()))),
                2 => text.insert(place, b"{}[]\",:0-9e\\nu"[random.below(14)]),
                _ => {
                    let end = (place + random.below(40)).min(text.len());
                    let copy = text[place..end].to_vec();
                    let target = random.below(text.len());
                    text.splice(target..target, copy);
                }
            }
        }
        match Config::parse(&text) {
            Ok(_) => accepted += 1,
            Err(error) => check_shape(&error.to_string()),
        }
    }
    assert!(accepted > 100, "{accepted}");
}

/// Replaces a random value by another: valid JSON, so that the pointer of every error can be looked up.
#[test]
fn random_values_have_pointers() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut good = runc_spec();
    set(&mut good, "/process/scheduler", json!({"policy": "SCHED_RR", "priority": 1, "flags": ["SCHED_FLAG_RECLAIM"]}));
    set(&mut good, "/linux/devices", json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 2}]));
    set(&mut good, "/hooks", json!({"poststop": [{"path": "/x", "timeout": 2}]}));
    set(
        &mut good,
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]}]}),
    );
    set(&mut good, "/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    let mut pointers = Vec::new();
    collect(&good, &mut String::new(), &mut pointers);
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("x"),
        json!("a\0"),
        json!("/../x"),
        json!([]),
        json!({}),
        json!([[]]),
        json!([{}]),
        json!(["x", 1]),
        json!({"a": "b"}),
        json!([null]),
        json!("SCHED_ISO"),
        json!("CAP_X"),
        json!("rro"),
        json!("\u{1f980}".repeat(200)),
    ];
    for _ in 0..5_000 {
        let pointer = &pointers[random.below(pointers.len())];
        let mut config = good.clone();
        *config.pointer_mut(pointer).unwrap() = values[random.below(values.len())].clone();
        let Err(error) = Config::parse(&serde_json::to_vec(&config).unwrap()) else { continue };
        let text = error.to_string();
        check_shape(&text);
        let place = error.parts().pointer.as_deref().unwrap_or_else(|| panic!("{text}"));
        // the place or, if it is absent, where it should be
        let parent = place.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(config.pointer(place).is_some() || config.pointer(parent).is_some(), "{pointer}: {text}");
    }
}

fn collect(value: &Value, pointer: &mut String, pointers: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value)).collect()
        }
        Value::Array(list) => list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (key, value) in members {
        let length = pointer.len();
        pointer.push('/');
        pointer.push_str(&key);
        pointers.push(pointer.clone());
        collect(value, pointer, pointers);
        pointer.truncate(length);
    }
}
