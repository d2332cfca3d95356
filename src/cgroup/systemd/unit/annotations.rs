//! `org.systemd.property.NAME`: what an annotation may say of the scope.
//!
//! Annotations are often those of whoever wrote the pod, who must not get more than a container by them
//! (CVE-2024-3154): only properties that act on this scope alone, and at most limit it, are taken.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

use super::{INFINITY, Property, Value};

const PREFIX: &str = "org.systemd.property.";

/// The type of a property's value on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    I32,
    U64,
    Text,
    Texts,
}

/// What is taken. Not among them, for what they would allow: units of others (`Wants`, `Conflicts`, `OnFailure`),
/// actions on the host (`SuccessAction`), another place (`Slice`, `PIDs`), devices (`DeviceAllow`), a share taken
/// from others (`MemoryMin`).
const ACCEPTED: [(&str, Kind); 24] = [
    ("After", Kind::Texts),
    ("Before", Kind::Texts),
    ("CPUQuotaPerSecUSec", Kind::U64),
    ("CPUQuotaPeriodUSec", Kind::U64),
    ("CPUWeight", Kind::U64),
    ("CollectMode", Kind::Text),
    ("DefaultDependencies", Kind::Bool),
    ("Delegate", Kind::Bool),
    ("Description", Kind::Text),
    ("Documentation", Kind::Texts),
    ("FinalKillSignal", Kind::I32),
    ("IOWeight", Kind::U64),
    ("KillMode", Kind::Text),
    ("KillSignal", Kind::I32),
    ("MemoryHigh", Kind::U64),
    ("MemoryMax", Kind::U64),
    ("MemorySwapMax", Kind::U64),
    ("MemoryZSwapMax", Kind::U64),
    ("OOMPolicy", Kind::Text),
    ("RuntimeMaxUSec", Kind::U64),
    ("SendSIGHUP", Kind::Bool),
    ("SendSIGKILL", Kind::Bool),
    ("TasksMax", Kind::U64),
    ("TimeoutStopUSec", Kind::U64),
];

/// Those that the annotations ask for.
pub(super) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let ours = annotations.iter().filter_map(|(key, value)| key.strip_prefix(PREFIX).map(|name| (key, name, value)));
    ours.map(|(key, name, value)| {
        let pointer = format!("/annotations/{}", key.replace('~', "~0").replace('/', "~1"));
        let mut property = property(name, value).map_err(|error| error.at(&pointer))?;
        property.pointer = Some(pointer);
        Ok(property)
    })
    .collect()
}

fn property(name: &str, text: &str) -> Result<Property> {
    // as on systemd's own command line: seconds there, microseconds on the bus
    let seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let full = seconds.map_or_else(|| name.to_owned(), |stem| format!("{stem}USec"));
    let Some((_, kind)) = ACCEPTED.iter().find(|(accepted, _)| *accepted == full) else {
        let names: Vec<&str> = ACCEPTED.iter().map(|(name, _)| *name).collect();
        return Err(Error::new(format!("the systemd property {name:?} is not accepted from an annotation"))
            .hint(format!("accepted are {}", names.join(", "))));
    };
    let wrong = || {
        let example = match kind {
            Kind::Bool => "true",
            Kind::I32 => "15",
            Kind::U64 if seconds.is_some() => "90",
            Kind::U64 => "uint64 90000000",
            Kind::Text => "'text'",
            Kind::Texts => "['one', 'other']",
        };
        Error::new(format!("{text:?} is no value of the systemd property {name}"))
            .hint(format!("it is a GVariant such as {example}"))
    };
    let parsed = Parser { rest: text }.whole().ok_or_else(wrong)?;
    let value = match (parsed, kind) {
        (Parsed::Number(number), Kind::U64) if seconds.is_some() => microseconds(number),
        (parsed, kind) => typed(parsed, *kind),
    };
    let property = Property::new(full, value.ok_or_else(wrong)?);
    if property.name == "Delegate" && property.value == Value::Bool(false) {
        return Err(Error::new("a container's scope is always delegated").hint("leave the annotation out"));
    }
    Ok(property)
}

/// A number without a type of its own takes the property's.
fn typed(parsed: Parsed, kind: Kind) -> Option<Value> {
    match (parsed, kind) {
        (Parsed::Bool(value), Kind::Bool) => Some(Value::Bool(value)),
        (Parsed::Number(number), Kind::I32) => number.parse().ok().map(Value::I32),
        (Parsed::Number(number), Kind::U64) => number.parse().ok().map(Value::U64),
        (Parsed::Text(text), Kind::Text) => Some(Value::Text(text)),
        (Parsed::Texts(texts), Kind::Texts) => Some(Value::Texts(texts)),
        _ => None,
    }
}

fn microseconds(number: &str) -> Option<Value> {
    if let Ok(seconds) = number.parse::<u64>() {
        return seconds.checked_mul(1_000_000).map(Value::U64);
    }
    let microseconds = number.parse::<f64>().ok()? * 1e6;
    (microseconds >= 0.0 && microseconds < INFINITY as f64).then_some(Value::U64(microseconds as u64))
}

/// A value in GVariant's text format.
#[derive(Debug, PartialEq)]
enum Parsed<'a> {
    Bool(bool),
    /// Digits, perhaps with a sign and a point.
    Number(&'a str),
    Text(String),
    Texts(Vec<String>),
}

/// The names of number types, and their signatures after an `@`.
const NUMBERS: [&str; 15] = [
    "byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double", "@i", "@u", "@x", "@t", "@d", "@n", "@q",
];

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// All of the text must be one value.
    fn whole(mut self) -> Option<Parsed<'a>> {
        let value = self.value()?;
        self.rest.trim().is_empty().then_some(value)
    }

    fn value(&mut self) -> Option<Parsed<'a>> {
        self.rest = self.rest.trim_start();
        if self.rest.starts_with(['\'', '"']) {
            return self.string().map(Parsed::Text);
        }
        if self.rest.starts_with('[') {
            return self.strings().map(Parsed::Texts);
        }
        match self.word() {
            "true" => Some(Parsed::Bool(true)),
            "false" => Some(Parsed::Bool(false)),
            "@b" | "boolean" => self.value().filter(|value| matches!(value, Parsed::Bool(_))),
            "@s" | "string" => self.value().filter(|value| matches!(value, Parsed::Text(_))),
            "@as" => self.value().filter(|value| matches!(value, Parsed::Texts(_))),
            kind if NUMBERS.contains(&kind) => self.value().filter(|value| matches!(value, Parsed::Number(_))),
            number if number.starts_with(|c: char| c.is_ascii_digit() || "-+.".contains(c)) => {
                Some(Parsed::Number(number))
            }
            _ => None,
        }
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || "'\"[],".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// `[]` or `['a', "b"]`.
    fn strings(&mut self) -> Option<Vec<String>> {
        self.rest = self.rest.strip_prefix('[')?.trim_start();
        let mut strings = Vec::new();
        while !self.rest.starts_with(']') {
            strings.push(self.string()?);
            self.rest = self.rest.trim_start();
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest.trim_start(),
                None if self.rest.starts_with(']') => {}
                None => return None,
            }
        }
        self.rest = self.rest.strip_prefix(']')?;
        Some(strings)
    }

    /// Between quotes of one kind; a backslash takes the next character as it is, but for `\n` and `\t`.
    fn string(&mut self) -> Option<String> {
        let mut chars = self.rest.char_indices();
        let (_, quote) = chars.next().filter(|(_, c)| "'\"".contains(*c))?;
        let mut string = String::new();
        while let Some((place, c)) = chars.next() {
            match c {
                '\\' => match chars.next()?.1 {
                    'n' => string.push('\n'),
                    't' => string.push('\t'),
                    // by number: nobody needs it here
                    'u' | 'U' => return None,
                    c => string.push(c),
                },
                c if c == quote => {
                    self.rest = self.rest.get(place + 1..)?;
                    return Some(string);
                }
                c => string.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<Property> {
        let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), value.to_owned())]);
        properties(&annotations).map(|mut properties| properties.remove(0))
    }

    fn value(name: &str, value: &str) -> Value {
        one(name, value).expect(value).value
    }

    #[test]
    fn values_as_runc_reads_them() {
        assert_eq!(value("TimeoutStopUSec", "uint64 123456789"), Value::U64(123_456_789));
        assert_eq!(value("CollectMode", "'inactive-or-failed'"), Value::Text("inactive-or-failed".to_owned()));
        assert_eq!(value("KillSignal", "15"), Value::I32(15));
        assert_eq!(value("KillSignal", "int32 9"), Value::I32(9));
        assert_eq!(value("SendSIGHUP", "true"), Value::Bool(true));
        assert_eq!(value("Delegate", "true"), Value::Bool(true));
        assert_eq!(
            value("After", "['a.service', \"b.service\"]"),
            Value::Texts(vec!["a.service".into(), "b.service".into()])
        );
        assert_eq!(value("After", "@as []"), Value::Texts(Vec::new()));
        assert_eq!(value("Description", r#""it's \"mine\"""#), Value::Text("it's \"mine\"".to_owned()));
        assert_eq!(value("MemorySwapMax", "uint64 0"), Value::U64(0));
    }

    #[test]
    fn seconds_become_microseconds() {
        assert_eq!(one("TimeoutStopSec", "2").expect("property").name, "TimeoutStopUSec");
        assert_eq!(value("RuntimeMaxSec", "2"), Value::U64(2_000_000));
        assert_eq!(value("RuntimeMaxSec", "uint64 2"), Value::U64(2_000_000));
        assert_eq!(value("RuntimeMaxSec", "1.5"), Value::U64(1_500_000));
        assert!(one("RuntimeMaxSec", "-1").is_err());
        assert!(one("RuntimeMaxSec", "uint64 18446744073709551615").is_err());
    }

    #[test]
    fn what_reaches_beyond_the_scope_is_refused() {
        for name in [
            "ExecStartPre",
            "Slice",
            "PIDs",
            "SuccessAction",
            "Wants",
            "OnFailure",
            "DeviceAllow",
            "BPFProgram",
            "",
            "Sec",
        ] {
            let error = one(name, "'x'").expect_err(name);
            assert!(error.to_string().contains("accepted are After, "), "{error}");
            assert_eq!(error.parts().pointer, Some(format!("/annotations/{PREFIX}{name}")));
        }
        assert!(one("Delegate", "false").is_err());
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for (name, text) in [
            ("TimeoutStopUSec", ""),
            ("TimeoutStopUSec", "uint64"),
            ("TimeoutStopUSec", "uint64 x"),
            ("TimeoutStopUSec", "uint64 -1"),
            ("TimeoutStopUSec", "uint64 1 2"),
            ("TimeoutStopUSec", "'1'"),
            ("CollectMode", "inactive"),
            ("CollectMode", "'inactive"),
            ("After", "['a'"),
            ("After", "['a' 'b']"),
            ("After", "[5]"),
            ("After", "'a'"),
            ("SendSIGHUP", "1"),
            ("KillSignal", "99999999999"),
        ] {
            let error = one(name, text).expect_err(text);
            assert!(error.to_string().contains("it is a GVariant such as"), "{error}");
        }
    }

    #[test]
    fn other_annotations_are_none_of_ours() {
        let annotations = BTreeMap::from([("org.systemd.propertyX".to_owned(), "?".to_owned())]);
        assert!(properties(&annotations).expect("properties").is_empty());
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(ACCEPTED.is_sorted_by_key(|(name, _)| *name));
    }
}
