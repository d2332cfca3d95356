//! What is done with the bytes of each fuzz target, and what must hold then. `tests/fuzz_corpus.rs` calls the same
//! functions with the corpora, on a compiler without instrumentation.
//!
//! Each function takes any bytes and panics on a finding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#![allow(unreachable_pub)] // what is a library for the programs is a part of the test

#[path = "../../../tests/plan/hosts.rs"]
#[allow(dead_code)]
mod hosts;
mod plans;
#[path = "../../../tests/plan/ranks.rs"]
mod ranks;
mod seccomp;
mod texts;
mod words;

pub use plans::{config, plan, process, resources};
pub use seccomp::seccomp;
pub use texts::{cgroup_files, channel, elf, passwd, proc, state};
pub use words::{flags, lists, mounts, signal, user};

use ferrun::error::{Error, Result};

/// A target and its name.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: [Target; 16] = [
    ("channel", channel),
    ("cgroup_files", cgroup_files),
    ("config", config),
    ("elf", elf),
    ("flags", flags),
    ("lists", lists),
    ("mounts", mounts),
    ("passwd", passwd),
    ("plan", plan),
    ("proc", proc),
    ("process", process),
    ("resources", resources),
    ("seccomp", seccomp),
    ("signal", signal),
    ("state", state),
    ("user", user),
];

/// What a log could be made to say by an error.
const LONGEST: usize = 16 << 10;

/// What came out; of an error that it is one line, of bounded length.
fn checked<T>(result: Result<T>, input: usize) -> Option<T> {
    result.map_err(|error| check_error(&error, input)).ok()
}

fn check_error(error: &Error, input: usize) {
    let text = error.to_string();
    assert!(!text.chars().any(char::is_control), "not one line: {text:?}");
    // an escaped character is longer, and a path or a name is shown whole
    assert!(text.len() <= LONGEST + 16 * input, "{} bytes of words about {input}", text.len());
    assert!(!error.parts().cause.is_empty() || error.parts().call.is_some(), "an error without words");
}

fn text(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}
