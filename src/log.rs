//! The log: writes `tracing` events and the final error in runc's two shapes, JSON and text.
//!
//! containerd shows its user the last JSON line with `"level":"error"`, so `level`, `msg` and `time` come first
//! and are spelled as logrus spells them. A record is one write(2) to a file in append mode: records of
//! several processes do not mix. Spans are not recorded.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::error::{Context, Error, RawErrno, Result};

/// Where the log goes and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// A file, `file:` in front of it or not. None: stderr.
    pub destination: Option<PathBuf>,
    pub format: Format,
    pub level: Level,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Error::new(format!("unknown log-format {text:?}: text or json"))),
        }
    }
}

/// `--log-level`; `--debug` is [`Level::Debug`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warning,
    #[default]
    Info,
    Debug,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warning => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "error" => Ok(Self::Error),
            "warning" | "warn" => Ok(Self::Warning),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            _ => Err(Error::new(format!("unknown log-level {text:?}: error, warning, info or debug"))),
        }
    }
}

impl From<&tracing::Level> for Level {
    fn from(level: &tracing::Level) -> Self {
        match *level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

static SINK: OnceLock<Sink> = OnceLock::new();
static GONE: AtomicBool = AtomicBool::new(false);

/// In a process that closes what it has of the host: the number of the log's descriptor may soon be another file's.
pub fn leave() {
    GONE.store(true, Ordering::Relaxed);
}

/// Opens the log and makes it the process's. Before, and if this fails, [`error`] writes text to stderr.
pub fn init(options: &Options) -> Result<()> {
    let file = match options.destination.as_deref().filter(|path| !path.as_os_str().is_empty()) {
        Some(destination) => Some(open(destination)?),
        None => None,
    };
    let sink = Sink { file, format: options.format, level: options.level };
    SINK.set(sink).map_err(|_| Error::new("the log is open already"))?;
    tracing::subscriber::set_global_default(Log).map_err(|_| Error::new("the log is open already"))
}

/// Writes the record of the error that ends the process. As runc does, its message also goes to stderr when the log
/// is a file: whoever started the process may read either.
pub fn error(error: &Error) {
    let fallback = Sink { file: None, format: Format::Text, level: Level::Info };
    let sink = SINK.get().unwrap_or(&fallback);
    let message = error.to_string();
    // for a reader of text, all of the fields are in the message
    let fields = if sink.format == Format::Json { error_fields(error) } else { Vec::new() };
    sink.write(Level::Error, &message, &fields);
    if sink.file.is_some() {
        write_once(&std::io::stderr(), format!("{message}\n").as_bytes());
    }
}

fn error_fields(error: &Error) -> Vec<Entry> {
    let parts = error.parts();
    let outermost_first: Vec<&str> = parts.contexts.iter().rev().map(String::as_str).collect();
    let op = Some(outermost_first.join(": ")).filter(|op| !op.is_empty());
    let text = |name, value: Option<String>| value.map(|value| Entry { name, value: Value::Text(value) });
    [
        text("op", op),
        text("step", parts.step.clone()),
        text("call", parts.call.clone()),
        parts.errno.map(|errno| Entry { name: "errno", value: Value::Bare(errno.to_string()) }),
        text("path", parts.path.clone()),
        text("pointer", parts.pointer.clone()),
        text("hint", parts.hint.clone()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn open(destination: &Path) -> Result<File> {
    let bytes = destination.as_os_str().as_bytes();
    if let Some(scheme) = ["journald:", "syslog:"].iter().find(|scheme| bytes.starts_with(scheme.as_bytes())) {
        return Err(Error::new(format!("no log to {scheme} yet")).hint("name a file"));
    }
    let path = Path::new(OsStr::from_bytes(bytes.strip_prefix(b"file:").unwrap_or(bytes)));
    // std opens close-on-exec
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(path)
        .map_err(|error| Error::os(format!("open {}", path.display()), RawErrno::from(&error)).path(path))
        .context(|| "open the log".to_owned())
}

/// Where records go.
struct Sink {
    /// None: stderr.
    file: Option<File>,
    format: Format,
    level: Level,
}

impl Sink {
    fn write(&self, level: Level, message: &str, fields: &[Entry]) {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = rfc3339(i64::try_from(time.as_secs()).unwrap_or_default(), 0);
        let line = match self.format {
            Format::Json => json(level, message, &time, fields),
            Format::Text => text(level, message, &time, fields),
        };
        match &self.file {
            Some(_) if GONE.load(Ordering::Relaxed) => {}
            Some(file) => write_once(file, line.as_bytes()),
            None => write_once(&std::io::stderr(), line.as_bytes()),
        }
    }
}

/// One write(2) for the record. What cannot be written is lost: a log that fails must not fail a container.
fn write_once<W>(mut to: W, bytes: &[u8])
where
    W: Write,
{
    while matches!(to.write(bytes), Err(error) if error.kind() == ErrorKind::Interrupted) {}
}

/// One `key=value` of a record.
#[derive(Debug, PartialEq)]
struct Entry {
    name: &'static str,
    value: Value,
}

#[derive(Debug, PartialEq)]
enum Value {
    Text(String),
    /// A number or a boolean: no quotes in JSON.
    Bare(String),
}

impl Entry {
    /// logrus's rule for a field that is named like one of its own.
    fn key(&self) -> String {
        match self.name {
            "level" | "msg" | "time" => format!("fields.{}", self.name),
            name => name.to_owned(),
        }
    }
}

fn json(level: Level, message: &str, time: &str, fields: &[Entry]) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut line = format!("{{\"level\":\"{}\",\"msg\":{},\"time\":\"{time}\"", level.as_str(), quote(message));
    for field in fields {
        let value = match &field.value {
            Value::Text(text) => quote(text),
            Value::Bare(text) => text.clone(),
        };
        line.push_str(&format!(",{}:{value}", quote(&field.key())));
    }
    line.push_str("}\n");
    line
}

fn text(level: Level, message: &str, time: &str, fields: &[Entry]) -> String {
    let mut line = format!("time=\"{time}\" level={} msg={}", level.as_str(), logfmt(message));
    for field in fields {
        let (Value::Text(value) | Value::Bare(value)) = &field.value;
        line.push_str(&format!(" {}={}", field.key(), logfmt(value)));
    }
    line.push('\n');
    line
}

/// logrus's text formatter: quoted, in Go's way, unless it is of harmless characters only.
fn logfmt(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(harmless) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A time since 1970 as RFC 3339 in UTC. As in Go's RFC3339Nano, the fraction has no zeros at its end and is
/// absent when it is zero.
pub fn rfc3339(seconds: i64, nanos: u32) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years are counted from March, so that the leap day is the last of its year; day 0 is 0000-03-01, and an
    // era is the 400 years after which the calendar repeats.
    let day = days + 719_468;
    let (era, day_of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = format!(".{nanos:09}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// The `tracing` side of [`SINK`].
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        SINK.get().is_some_and(|sink| Level::from(metadata.level()) <= sink.level)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        SINK.get().map(|sink| sink.level.filter())
    }

    fn event(&self, event: &Event<'_>) {
        let mut entries = Entries::default();
        event.record(&mut entries);
        if let Some(sink) = SINK.get() {
            sink.write(Level::from(event.metadata().level()), &entries.message, &entries.fields);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// What an event holds.
#[derive(Default)]
struct Entries {
    message: String,
    fields: Vec<Entry>,
}

impl Entries {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Bare(text)) => self.message = text,
            (name, value) => self.fields.push(Entry { name, value }),
        }
    }
}

impl Visit for Entries {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bare(value.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const TIME: &str = "2026-11-21T03:31:00Z";

    fn os_error() -> Error {
        Error::os("fsconfig size=lots", libc::EINVAL)
            .cause("tmpfs: Bad value for 'size'")
            .within("mount tmpfs on /dev")
            .within("create web")
            .path("/dev")
            .at("/mounts/1/options/0")
    }

    #[test]
    fn json_has_what_containerd_reads_in_front() {
        assert_eq!(
            json(Level::Error, "a \"b\"\n", TIME, &[]),
            "{\"level\":\"error\",\"msg\":\"a \\\"b\\\"\\n\",\"time\":\"2026-11-21T03:31:00Z\"}\n"
        );
        let line = json(Level::Error, &os_error().to_string(), TIME, &error_fields(&os_error()));
        assert_eq!(
            line,
            concat!(
                r#"{"level":"error","msg":"create web: mount tmpfs on /dev: fsconfig size=lots: tmpfs: Bad value for 'size' "#,
                r#"(config.json /mounts/1/options/0)","time":"2026-11-21T03:31:00Z","op":"create web: mount tmpfs on /dev","#,
                r#""call":"fsconfig size=lots","errno":22,"path":"/dev","pointer":"/mounts/1/options/0"}"#,
                "\n"
            )
        );
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn text_is_quoted_as_logrus_does() {
        let fields = [
            Entry { name: "errno", value: Value::Bare("22".into()) },
            Entry { name: "path", value: Value::Text("/dev/a-b_c".into()) },
            Entry { name: "time", value: Value::Text("x=y".into()) },
            Entry { name: "none", value: Value::Text(String::new()) },
        ];
        assert_eq!(
            text(Level::Warning, "a \"b\"\t\\\u{1b}\u{85}ä", TIME, &fields),
            "time=\"2026-11-21T03:31:00Z\" level=warning msg=\"a \\\"b\\\"\\t\\\\\\x1b\\u0085ä\" errno=22 \
             path=/dev/a-b_c fields.time=\"x=y\" none=\n"
        );
        assert_eq!(text(Level::Info, "one", TIME, &[]), "time=\"2026-11-21T03:31:00Z\" level=info msg=one\n");
    }

    #[test]
    fn times() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_231_860, 0), "2026-11-21T03:31:00Z");
        assert_eq!(rfc3339(951_782_400, 120_000_000), "2000-02-29T00:00:00.12Z");
        assert_eq!(rfc3339(4_107_542_399, 999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(rfc3339(4_107_542_400, 1), "2100-03-01T00:00:00.000000001Z");
        assert_eq!(rfc3339(1_735_689_599, 0), "2024-12-31T23:59:59Z");
        assert_eq!(rfc3339(-1, 0), "1969-12-31T23:59:59Z");
    }

    #[test]
    fn words_of_the_command_line() {
        assert_eq!("json".parse(), Ok(Format::Json));
        assert_eq!("warn".parse(), Ok(Level::Warning));
        assert_eq!("warning".parse(), Ok(Level::Warning));
        assert!("JSON".parse::<Format>().is_err());
        assert!("trace".parse::<Level>().is_err());
        assert!(Level::Error < Level::Debug);
    }

    /// The only test of the process-wide state.
    #[test]
    fn events_and_the_error_go_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.json");
        fs::write(&path, "before\n").unwrap();
        let destination = PathBuf::from(format!("file:{}", path.display()));
        let options = Options { destination: Some(destination), format: Format::Json, level: Level::Info };
        init(&options).unwrap();
        tracing::debug!("not shown");
        tracing::warn!(count = 3, name = "x", ok = true, "{} things", 3);
        error(&Error::new("it ends"));
        assert!(init(&options).is_err());
        // other tests may have logged as well
        let content = fs::read_to_string(&path).unwrap();
        assert!(content.starts_with("before\n") && !content.contains("not shown"), "{content}");
        let warning = content.lines().find(|line| line.contains("3 things")).unwrap();
        assert!(warning.starts_with(r#"{"level":"warning","msg":"3 things","time":"2"#), "{warning}");
        assert!(warning.ends_with(r#"Z","count":3,"name":"x","ok":true}"#), "{warning}");
        assert!(content.contains(r#"{"level":"error","msg":"it ends","time":"#), "{content}");
    }

    #[test]
    fn destinations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert!(open(Path::new("syslog:ferrun")).is_err());
        let error = open(&dir.path().join("no/log")).unwrap_err().to_string();
        assert!(error.starts_with("open the log: open /") && error.ends_with("no such file or directory"), "{error}");
    }
}
