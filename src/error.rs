//! The one error type: a line that names operation, object, call and cause, and the same as fields.
//!
//! An error is built where the cause is known ([`Error::new`], [`Error::os`]) and gains an outer
//! context on its way up ([`Error::within`], [`Context::context`]). It is returned or logged, never both.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed and why. Displayed as one line, outermost context first, innermost cause last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Parts")]
pub struct Error(Box<Parts>);

/// The fields of an error, as the JSON log shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Outer contexts, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<String>,
    /// The innermost cause, in words.
    pub cause: String,
    /// The system call that failed, with what tells it apart (`fsconfig size=lots`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The error number, as errno(3) has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// The file that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Where in config.json it comes from: an RFC 6901 JSON pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// What the pointer points into, where that is not config.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The plan's step that was under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The words of errno(3), lower case, as Go's runtimes print them and as callers match them
/// (`no such file or directory`, `permission denied`, `is a directory`).
pub fn errno_words(errno: i32) -> String {
    let words = Errno::from_raw(errno).desc();
    let mut chars = words.chars();
    match chars.next() {
        // an acronym ("RFS specific error") keeps its capitals
        Some(first) if !chars.as_str().starts_with(char::is_uppercase) => {
            first.to_ascii_lowercase().to_string() + chars.as_str()
        }
        _ => words.to_owned(),
    }
}

impl Error {
    /// A cause in words.
    pub fn new(cause: impl Into<String>) -> Self {
        Self(Box::new(Parts { cause: one_line(&cause.into()), ..Parts::default() }))
    }

    /// A system call that failed with `errno`.
    pub fn os(call: impl Into<String>, errno: impl Into<RawErrno>) -> Self {
        let RawErrno(errno) = errno.into();
        Self(Box::new(Parts {
            cause: errno_words(errno),
            call: Some(one_line(&call.into())),
            errno: Some(errno),
            ..Parts::default()
        }))
    }

    /// Adds an outer context: what was being done, to which object.
    #[must_use]
    pub fn within(mut self, context: impl Into<String>) -> Self {
        self.0.contexts.push(one_line(&context.into()));
        self
    }

    /// Names the place in config.json, unless an inner part did already.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer.get_or_insert_with(|| one_line(&pointer.into()));
        self
    }

    /// As [`Self::at`]; a pointer that does not begin with a slash counts from this one.
    #[must_use]
    pub fn below(mut self, pointer: &str) -> Self {
        match &mut self.0.pointer {
            Some(inner) if !inner.starts_with('/') => *inner = format!("{pointer}/{inner}"),
            Some(_) => {}
            None => return self.at(pointer),
        }
        self
    }

    /// Names what the pointer points into, where that is not config.json.
    #[must_use]
    pub fn of(mut self, document: impl Into<String>) -> Self {
        self.0.document.get_or_insert_with(|| document.into());
        self
    }

    /// Names the file that it was about, unless an inner part did already.
    #[must_use]
    pub fn path(mut self, path: impl AsRef<Path>) -> Self {
        self.0.path.get_or_insert_with(|| one_line(&path.as_ref().display().to_string()));
        self
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint.get_or_insert_with(|| one_line(&hint.into()));
        self
    }

    /// Names the plan's step that was under way.
    #[must_use]
    pub fn step(mut self, step: impl Into<String>) -> Self {
        self.0.step.get_or_insert_with(|| step.into());
        self
    }

    /// Replaces the words of the cause by what the kernel or a helper said in more detail.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<String>) -> Self {
        self.0.cause = one_line(&cause.into());
        self
    }

    pub fn parts(&self) -> &Parts {
        &self.0
    }

    /// The error number of the innermost system call, if it was one.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }
}

/// Of an error that another process wrote down: the init, which has been in the container.
impl From<Parts> for Error {
    fn from(mut parts: Parts) -> Self {
        let Parts { contexts, cause, call, errno: _, path, pointer, document, step, hint } = &mut parts;
        let optional = [call, path, pointer, document, step, hint].into_iter().flatten();
        for text in contexts.iter_mut().chain([cause]).chain(optional) {
            *text = one_line(text);
        }
        Self(Box::new(parts))
    }
}

/// One line whatever the input holds: control characters are escaped.
fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    } else {
        text.to_owned()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0;
        for context in parts.contexts.iter().rev() {
            write!(f, "{context}: ")?;
        }
        if let Some(call) = &parts.call {
            write!(f, "{call}: ")?;
        }
        f.write_str(&parts.cause)?;
        if let Some(pointer) = &parts.pointer {
            write!(f, " ({} {pointer})", parts.document.as_deref().unwrap_or("config.json"))?;
        }
        if let Some(hint) = &parts.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// An error number from any of the crates that hand them out.
pub struct RawErrno(pub i32);

impl From<i32> for RawErrno {
    fn from(errno: i32) -> Self {
        Self(errno)
    }
}

impl From<rustix::io::Errno> for RawErrno {
    fn from(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error())
    }
}

impl From<Errno> for RawErrno {
    fn from(errno: Errno) -> Self {
        Self(errno as i32)
    }
}

impl From<&std::io::Error> for RawErrno {
    fn from(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

impl From<std::io::Error> for RawErrno {
    fn from(error: std::io::Error) -> Self {
        Self::from(&error)
    }
}

/// Turns a failed call into an [`Error`] that names it.
pub trait Call<T> {
    /// `call` names the system call and what it was called on.
    fn call(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<RawErrno>> Call<T> for std::result::Result<T, E> {
    fn call(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::os(call(), errno))
    }
}

/// Adds outer context to a result.
pub trait Context<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T>;
    /// See [`Error::at`].
    fn at(self, pointer: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.within(context()))
    }

    fn at(self, pointer: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.at(pointer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_outermost_first() {
        let error = Error::os("fsconfig size=lots", libc::EINVAL)
            .cause("tmpfs: Bad value for 'size'")
            .within("mount tmpfs on /dev")
            .within("create web")
            .at("/mounts/1/options/0");
        assert_eq!(
            error.to_string(),
            "create web: mount tmpfs on /dev: fsconfig size=lots: tmpfs: Bad value for 'size' (config.json /mounts/1/options/0)"
        );
        assert_eq!(error.errno(), Some(libc::EINVAL));
    }

    #[test]
    fn words_are_those_that_callers_match() {
        assert_eq!(errno_words(libc::ENOENT), "no such file or directory");
        assert_eq!(errno_words(libc::EACCES), "permission denied");
        assert_eq!(errno_words(libc::EISDIR), "is a directory");
        assert_eq!(errno_words(libc::EPERM), "operation not permitted");
    }

    #[test]
    fn hostile_text_stays_one_line() {
        assert_eq!(Error::new("a\nb\u{1b}c").to_string(), "a\\nb\\u{1b}c");
        let told = r#"{"cause": "a\nb", "contexts": ["c\rd"], "call": "e\u001bf", "hint": "g\nh", "pointer": "/\n"}"#;
        let told: Error = serde_json::from_str(told).expect("an error");
        assert_eq!(told.to_string(), "c\\rd: e\\u{1b}f: a\\nb (config.json /\\n); g\\nh");
    }
}
