//! The log: the shapes that callers read. containerd shows the last line of level error.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::{Place, done, refused};

/// All lines of a JSON log.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.ends_with('\n'), "{text:?}");
    text.lines()
        .map(|line| {
            assert!(line.starts_with("{\"level\":\""), "{line}");
            serde_json::from_str(line).unwrap()
        })
        .collect()
}

/// `2026-11-21T05:22:43Z`
fn is_time(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00Z"
}

#[test]
fn the_last_line_of_a_json_log_is_the_error() {
    let place = Place::with("{");
    let log = place.path("log.json");
    for verb in ["plan", "create", "run"] {
        for debug in [&[][..], &["--debug"], &["--log-level", "error"]] {
            let _ = fs::remove_file(&log);
            let mut command = place.command();
            command.arg("--log").arg(&log).args(["--log-format", "json"]).args(debug);
            let done = done(command.args([verb, "--bundle"]).arg(place.bundle()).arg("web"));
            let stderr = refused(&done, "ends too early");
            let lines = lines(&log);
            let last = lines.last().unwrap();
            assert_eq!(last["level"], "error");
            assert_eq!(last["msg"], stderr, "stderr has the message alone");
            assert!(is_time(last["time"].as_str().unwrap()), "{last}");
            let errors = lines.iter().filter(|line| line["level"] == "error").count();
            assert_eq!(errors, 1, "an error is returned or logged, never both");
        }
    }
}

#[test]
fn what_a_json_error_is_made_of() {
    let place = Place::new();
    let log = place.path("log.json");
    let mut command = place.command();
    command.arg("--log").arg(&log).arg("--log-format=json").args(["plan", "--bundle"]).arg(place.bundle());
    refused(&done(&mut command), "no such file or directory");
    let config = place.bundle().join("config.json");
    let line = &lines(&log)[0];
    assert_eq!(line["errno"], 2);
    assert_eq!(line["call"], "open");
    assert_eq!(line["path"], config.to_str().unwrap());
    assert!(line["op"].as_str().unwrap().starts_with("plan: read "), "{line}");
    fs::write(config, "{\"ociVersion\":\"x\",\"process\":{},\"linux\":{}}").unwrap();
    refused(&done(&mut command), "config.json /");
    let lines = lines(&log);
    assert_eq!(lines.len(), 2, "a log is appended to");
    assert!(lines[1]["pointer"].as_str().unwrap().starts_with('/'), "{}", lines[1]);
}

#[test]
fn text_is_logfmt() {
    let place = Place::new();
    let line = refused(&place.ferrun(["state", "web"]), "does not exist");
    let rest = line.strip_prefix("time=\"").unwrap();
    let (time, rest) = rest.split_at(20);
    assert!(is_time(time), "{line}");
    assert!(rest.starts_with("\" level=error msg=\""), "{line}");
    // in a file too; stderr then has the message alone
    let log = place.path("log");
    let done = done(place.command().arg("--log").arg(&log).args(["state", "web"]));
    let message = refused(&done, "does not exist");
    assert!(!message.contains("level="), "{message}");
    let text = fs::read_to_string(log).unwrap();
    let message = message.replace('"', "\\\"");
    assert!(text.ends_with(&format!("level=error msg=\"{message}\"\n")), "{text}");
}

#[test]
fn warnings_are_logged_before_the_error_and_by_level() {
    // a config with a warning that is refused later: its root is absent
    let config = crate::plan::CONFIG.replace("\"rootfs\"", "\"absent\"");
    let place = Place::with(config);
    for level in ["debug", "info", "warning", "error"] {
        let log = place.path(level);
        let mut command = place.command();
        command.arg("--log").arg(&log).args(["--log-format", "json", "--log-level", level]);
        refused(&done(command.args(["plan", "--bundle"]).arg(place.bundle())), "absent");
        let lines = lines(&log);
        let wanted = ["error", "warning", "info", "debug"];
        let most = wanted.iter().position(|known| *known == level).unwrap();
        for line in &lines {
            assert!(wanted[..=most].contains(&line["level"].as_str().unwrap()), "{level}: {line}");
        }
        assert_eq!(lines.last().unwrap()["level"], "error");
    }
}

#[test]
fn a_log_that_cannot_be_opened() {
    let place = Place::new();
    let path = place.path("missing/log");
    let line = refused(&done(place.command().arg("--log").arg(&path).arg("list")), "no such file or directory");
    assert!(line.contains(path.to_str().unwrap()), "{line}");
    refused(&done(place.command().args(["--log-format", "xml", "list"])), "unknown log-format");
}

/// Names with control characters must not forge lines.
#[test]
fn hostile_names_stay_in_their_line() {
    let place = Place::new();
    let bundle = place.path("a\nlevel=error msg=forged\u{1b}[31m");
    let line = refused(&done(place.command().args(["plan", "--bundle"]).arg(&bundle)), "no such file or directory");
    assert!(!line.contains('\u{1b}'), "{line:?}");
    let log = place.path("log");
    let mut command = place.command();
    command.arg("--log").arg(&log).arg("--log-format=json").args(["plan", "--bundle"]).arg(&bundle);
    refused(&done(&mut command), "no such file or directory");
    assert_eq!(lines(&log).len(), 1);
}
