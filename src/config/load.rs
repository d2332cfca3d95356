//! The text of a config.json → oci-spec's [`Spec`]; that of an update → its [`LinuxResources`].
//!
//! A good file is parsed once, straight into the structs. Only when that fails is it looked at again: what
//! oci-spec refuses and the specification allows is [mended](super::mend), and what is still wrong is said with
//! its JSON pointer, the value found and what would be right. Nothing here may panic, whatever the bytes.

use oci_spec::runtime::{LinuxResources, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::at;
use super::locate::{Place, locate, offset_of};
use super::mend;
use crate::error::{Error, Result};

/// No config.json is larger; the file is not read beyond it. (The largest in the wild are some 100 KB.)
pub const LIMIT: usize = 16 << 20;

/// A file that parsed, and what had to be left out of it.
#[derive(Debug)]
pub struct Parsed {
    pub spec: Spec,
    pub warnings: Vec<String>,
}

/// Parses a config.json.
pub fn parse(bytes: &[u8]) -> Result<Parsed> {
    let mut warnings = Vec::new();
    let ambiguous = |spec: &Spec| {
        let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        resources.is_some_and(no_tasks)
    };
    let spec = read(bytes, "config.json", ambiguous, |value| mend::config(value, &mut warnings))?;
    Ok(Parsed { spec, warnings })
}

/// Parses what `update` is given: a document with the properties of `/linux/resources`.
pub(super) fn parse_resources(bytes: &[u8]) -> Result<LinuxResources> {
    let mend = |value: &mut Value| {
        mend::resources(value);
        Ok(())
    };
    read(bytes, "the document of resources", no_tasks, mend)
}

/// oci-spec reads `"pids": {}` as a limit of 0, which means something else.
fn no_tasks(resources: &LinuxResources) -> bool {
    resources.pids().is_some_and(|pids| pids.limit() == 0)
}

/// `what` is the name of the whole in errors.
fn read<T: DeserializeOwned>(
    bytes: &[u8],
    what: &str,
    ambiguous: impl FnOnce(&T) -> bool,
    mend: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<T> {
    if bytes.len() > LIMIT {
        return Err(Error::new(format!("{what} is larger than {} MiB", LIMIT >> 20)));
    }
    // serde would take an array for an object, field by field
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(Error::new(format!("{what} is empty"))),
        Some(b'{') => {}
        Some(_) => return Err(not_an_object(bytes, what)),
    }
    match serde_json::from_slice(bytes) {
        Ok(parsed) if !ambiguous(&parsed) => Ok(parsed),
        _ => again(bytes, what, mend),
    }
}

/// The second look: slow, and only for what oci-spec refused or did not understand.
fn again<T: DeserializeOwned>(bytes: &[u8], what: &str, mend: impl FnOnce(&mut Value) -> Result<()>) -> Result<T> {
    let mut value: Value = serde_json::from_slice(bytes).map_err(|error| not_json(bytes, what, &error))?;
    mend(&mut value)?;
    // as text again, because only errors in text have a position to make a pointer of
    let text = serde_json::to_vec(&value).map_err(|error| Error::new(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| explain(&text, &error))
}

fn not_an_object(bytes: &[u8], what: &str) -> Error {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => Error::new(format!("{what} must be a JSON object, not {}", kind(&value))),
        Err(error) => not_json(bytes, what, &error),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// What is not JSON at all has a line and a column instead of a pointer.
fn not_json(bytes: &[u8], what: &str, error: &serde_json::Error) -> Error {
    let place = format!("line {} column {}", error.line(), error.column());
    let words = error.to_string();
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Error::new(format!("{what} is not valid JSON: NUL byte at offset {offset}"));
    }
    if words.starts_with("recursion limit exceeded") {
        return Error::new(format!("{what} is nested deeper than 128 levels at {place}"));
    }
    if error.is_eof() {
        return Error::new(format!("{what} ends too early: {words}"));
    }
    Error::new(format!("{what} is not valid JSON: {words}"))
}

/// Turns serde's words and position into ours.
fn explain(text: &[u8], error: &serde_json::Error) -> Error {
    let words = error.to_string();
    let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
    let mut offset = offset_of(text, error.line(), error.column());
    if words == "expected value" {
        // what is not even a string where an enumeration stands: serde_json points one further here
        offset = offset.saturating_sub(1);
    }
    let Place { mut steps, found } = locate(text, offset);
    if let Some(field) = words.strip_prefix("missing field `") {
        steps.push(field.trim_end_matches('`').to_owned());
        return at::missing(&steps);
    }
    let found = at::shown(&String::from_utf8_lossy(found));
    match words.rsplit_once(", expected ") {
        Some((_, right)) => at::must(&steps, &right_words(right), &found),
        None if words == "expected value" => at::must(&steps, "one of the words that the specification lists", &found),
        None => at::must(&steps, &format!("valid ({})", at::shown(words)), &found),
    }
}

/// serde names Rust's types; people who write JSON do not.
fn right_words(right: &str) -> String {
    let words = match right {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 to 18446744073709551615",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i64" => "a whole number from -9223372036854775808 to 9223372036854775807",
        "a boolean" => "true or false",
        "a sequence" => "an array",
        "a map" => "an object",
        "path string" => "a string",
        "string or map" => "a string",
        other if other.starts_with("struct ") => "an object",
        other => return other.replace('`', ""),
    };
    words.to_owned()
}
