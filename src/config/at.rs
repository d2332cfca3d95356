//! Where in config.json something stands, and the one way to say what is wrong with it.
//!
//! An [`At`] lives on the stack: text is made of it only for an error or a record, so that a good config
//! pays nothing for its error messages.

use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// How much of a value an error shows.
const SHOWN: usize = 100;

/// A place in config.json.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

/// The whole file.
pub(super) static ROOT: At<'static> = At { parent: None, step: Step::Key("") };

impl<'a> At<'a> {
    pub(super) fn key<'b>(&'b self, key: &'b str) -> At<'b>
    where
        'a: 'b,
    {
        At { parent: Some(self), step: Step::Key(key) }
    }

    pub(super) fn index<'b>(&'b self, index: usize) -> At<'b>
    where
        'a: 'b,
    {
        At { parent: Some(self), step: Step::Index(index) }
    }

    pub(super) fn pointer(&self) -> String {
        pointer(&self.steps())
    }

    pub(super) fn name(&self) -> String {
        name(&self.steps())
    }

    fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let mut at = self;
        while let Some(parent) = at.parent {
            steps.push(match at.step {
                Step::Key(key) => key.to_owned(),
                Step::Index(index) => index.to_string(),
            });
            at = parent;
        }
        steps.reverse();
        steps
    }

    /// An error about this place, in its own words.
    pub(super) fn error(&self, words: impl Into<String>) -> Error {
        Error::new(words).at(self.pointer())
    }

    /// The usual error: what it must be, and what it is.
    pub(super) fn must(&self, right: &str, found: impl Debug) -> Error {
        must(&self.steps(), right, &shown(&format!("{found:?}")))
    }

    pub(super) fn missing(&self) -> Error {
        missing(&self.steps())
    }

    /// Text for a system call: no NUL.
    pub(super) fn no_nul(&self, text: &str) -> Result<()> {
        if text.contains('\0') { Err(self.must("free of NUL bytes", text)) } else { Ok(()) }
    }

    /// Text for a file of the kernel's, or a name that ends up in one: no control characters.
    pub(super) fn one_line(&self, text: &str) -> Result<()> {
        if text.chars().any(char::is_control) { Err(self.must("free of control characters", text)) } else { Ok(()) }
    }

    /// A path on the host.
    pub(super) fn absolute(&self, path: &Path) -> Result<()> {
        self.no_nul(&path.to_string_lossy())?;
        if path.is_absolute() { Ok(()) } else { Err(self.must("an absolute path", path)) }
    }

    /// A path in the container: absolute, without `..`; comes back without `.` and doubled slashes.
    pub(super) fn inside(&self, path: &Path) -> Result<PathBuf> {
        if !path.is_absolute() {
            return Err(self.must("an absolute path", path));
        }
        self.one_line(&path.to_string_lossy())?;
        if path.components().any(|component| component == Component::ParentDir) {
            return Err(self.must("a path without `..`", path));
        }
        Ok(path.components().collect())
    }
}

/// RFC 6901.
pub(super) fn pointer(steps: &[String]) -> String {
    steps.iter().fold(String::new(), |pointer, step| pointer + "/" + &step.replace('~', "~0").replace('/', "~1"))
}

/// The same for people: `mounts[3].destination`.
fn name(steps: &[String]) -> String {
    let mut name = String::new();
    for step in steps {
        if !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            name += &format!("[{step}]");
        } else if name.is_empty() {
            name += &shown(step);
        } else if step.contains(['.', '/', ' ']) || step.is_empty() {
            name += &format!("[{}]", shown(&format!("{step:?}")));
        } else {
            name += &format!(".{}", shown(step));
        }
    }
    if name.is_empty() { "config.json".to_owned() } else { name }
}

pub(super) fn must(steps: &[String], right: &str, found: &str) -> Error {
    Error::new(format!("{} must be {right}: {found}", name(steps))).at(pointer(steps))
}

pub(super) fn missing(steps: &[String]) -> Error {
    Error::new(format!("{} must be given", name(steps))).at(pointer(steps))
}

/// A value may be of any size; an error may not.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
