//! The command line, by running the program: what it prints, its exit status, and that what fails leaves nothing.
//! Needs no privileges; `create` and `run` are called only for what they refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "cli/log.rs"]
mod log;
#[path = "cli/plan.rs"]
mod plan;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const VERBS: [&str; 10] = ["create", "start", "state", "kill", "delete", "run", "list", "spec", "features", "plan"];

/// What a command did.
#[derive(Debug, PartialEq)]
struct Done {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A directory of our own: `root` for the state, `bundle` with a rootfs.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let directory = TempDir::new().unwrap();
        // another user must get in
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(directory.path().join("bundle/rootfs")).unwrap();
        Self { directory }
    }

    /// With a config.json.
    fn with(config: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        fs::write(place.bundle().join("config.json"), config).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bundle(&self) -> PathBuf {
        self.path("bundle")
    }

    /// `ferrun --root ROOT …`
    fn ferrun<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Done {
        done(self.command().args(arguments))
    }

    fn command(&self) -> Command {
        let mut command = bare();
        command.arg("--root").arg(self.path("root"));
        command
    }

    /// All files, sorted.
    fn files(&self) -> Vec<PathBuf> {
        fn below(directory: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                files.push(path.clone());
                if path.is_dir() {
                    below(&path, files);
                }
            }
        }
        let mut files = Vec::new();
        below(self.directory.path(), &mut files);
        files.sort();
        files
    }
}

/// The program with nothing of our own environment that it looks at.
fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ferrun"));
    for variable in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "XDG_RUNTIME_DIR"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn done(command: &mut Command) -> Done {
    let output = command.output().unwrap();
    Done {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// It failed with status 1, nothing on stdout and one line on stderr that holds `words`; gives the line.
fn refused(done: &Done, words: &str) -> String {
    assert_eq!(done.status, Some(1), "{done:?}");
    assert_eq!(done.stdout, "", "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert!(done.stderr.ends_with('\n'), "{done:?}");
    assert!(done.stderr.contains(words), "{words:?} is not in {done:?}");
    done.stderr.trim_end().to_owned()
}

fn succeeded(done: &Done) -> &str {
    assert_eq!(done.status, Some(0), "{done:?}");
    assert_eq!(done.stderr, "", "{done:?}");
    &done.stdout
}

/// Callers parse these three lines: contracts.md.
#[test]
fn version_is_three_lines() {
    for flag in ["--version", "-v"] {
        let done = done(bare().arg(flag));
        let lines: Vec<&str> = succeeded(&done).lines().collect();
        let [version, commit, spec] = lines[..] else { panic!("{lines:?}") };
        assert_eq!(version, format!("ferrun version {}", env!("CARGO_PKG_VERSION")));
        assert!(commit.starts_with("commit: "), "{commit}");
        assert_eq!(spec, "spec: 1.3.0");
    }
}

#[test]
fn help_names_every_verb_and_every_verb_has_help() {
    for flag in ["--help", "-h"] {
        let done = done(bare().arg(flag));
        for verb in VERBS {
            assert!(succeeded(&done).contains(&format!("\n  {verb} ")), "{verb}");
        }
    }
    for verb in VERBS {
        for flag in ["--help", "-h"] {
            let done = done(bare().args([verb, flag]));
            assert!(succeeded(&done).contains(&format!("Usage: {verb}")), "{done:?}");
        }
    }
}

/// What containerd, Podman and CRI-O pass: each flag is known to its verb.
#[test]
fn flags_of_the_callers_are_known() {
    let known = [
        ("create", "--bundle --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds"),
        ("run", "--bundle --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds"),
        ("run", "--detach --keep --no-subreaper"),
        ("delete", "--force"),
        ("kill", "--all"),
        ("list", "--format --quiet"),
        ("spec", "--bundle --rootless"),
        ("plan", "--bundle --format"),
    ];
    for (verb, flags) in known {
        let done = done(bare().args([verb, "--help"]));
        for flag in flags.split(' ') {
            assert!(succeeded(&done).contains(flag), "{verb} {flag}: {done:?}");
        }
    }
    let help = done(bare().arg("--help"));
    for flag in ["--root", "--log", "--log-format", "--log-level", "--debug", "--systemd-cgroup", "--rootless"] {
        assert!(succeeded(&help).contains(&format!("{flag} ")) || help.stdout.contains(&format!("{flag}\n")), "{flag}");
    }
}

#[test]
fn what_is_not_known_is_refused_in_one_line() {
    let place = Place::new();
    let before = place.files();
    refused(&place.ferrun(["bogus"]), "unknown command");
    refused(&place.ferrun(["--bogus", "list"]), "--bogus");
    refused(&place.ferrun(["--rootless=perhaps", "list"]), "perhaps");
    refused(&place.ferrun(["--log-level", "loud", "list"]), "unknown log-level");
    for verb in VERBS.iter().filter(|verb| !["create", "run"].contains(verb)) {
        refused(&place.ferrun([verb, "--bogus"]), "--bogus");
    }
    refused(&place.ferrun(["list", "--format", "xml"]), "xml");
    refused(&place.ferrun(["plan", "--format", "xml"]), "xml");
    assert_eq!(place.files(), before);
}

#[test]
fn a_missing_id_is_named() {
    for verb in ["start", "state", "kill", "delete"] {
        let line = refused(&Place::new().ferrun([verb]), "required arguments");
        assert!(line.to_uppercase().contains("<ID>"), "the line does not say which: {line}");
    }
}

#[test]
fn no_verb_is_a_question_for_help() {
    let done = done(&mut bare());
    assert!(done.stdout.contains("Usage: ferrun"), "{done:?}");
}

/// An id becomes a directory's name. Refused before anything is read or made, in a line of bounded length.
#[test]
fn bad_ids_are_refused_by_every_verb() {
    let place = Place::with("{");
    let before = place.files();
    let bundle = place.bundle();
    let bundle = bundle.to_str().unwrap();
    let long = "x".repeat(2000);
    for (id, words) in [
        ("../x", "invalid container ID format"),
        ("..", "invalid container ID format"),
        ("a/b", "invalid container ID format"),
        ("a b", "invalid container ID format"),
        ("é", "invalid container ID format"),
        ("", "empty"),
        (&long, "too long"),
    ] {
        for verb in ["start", "state", "kill", "delete"] {
            let line = refused(&place.ferrun([verb, id]), words);
            assert!(line.len() < 500, "{line}");
        }
        for verb in ["create", "run", "plan"] {
            let line = refused(&place.ferrun([verb, "--bundle", bundle, id]), words);
            assert!(line.len() < 500, "{line}");
        }
    }
    assert_eq!(place.files(), before);
}

/// The words that containerd takes for success of a delete: contracts.md.
#[test]
fn a_container_that_is_not_there() {
    let place = Place::new();
    let before = place.files();
    for verb in ["start", "state", "kill", "delete"] {
        refused(&place.ferrun([verb, "web"]), "does not exist");
    }
    assert_eq!(place.ferrun(["delete", "--force", "web"]).status, Some(0), "force asks for its absence only");
    assert_eq!(place.files(), before);
}

#[test]
fn a_list_of_nothing() {
    let place = Place::new();
    let header = place.ferrun(["list"]);
    let columns: Vec<&str> = succeeded(&header).split_whitespace().collect();
    assert_eq!(columns, ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    let json = place.ferrun(["list", "--format", "json"]);
    let list: Value = serde_json::from_str(succeeded(&json)).unwrap();
    assert!(list.is_null() || list.as_array().is_some_and(Vec::is_empty), "{list}");
    assert_eq!(succeeded(&place.ferrun(["list", "--quiet"])), "");
    assert!(!place.path("root").exists(), "a question makes no directory");
}

#[test]
fn spec_is_written_once() {
    let place = Place::new();
    let path = place.bundle().join("config.json");
    let write = || done(bare().arg("spec").arg("--bundle").arg(place.bundle()));
    assert_eq!(succeeded(&write()), "");
    let text = fs::read_to_string(&path).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["process"]["args"], serde_json::json!(["sh"]));
    fs::write(&path, "mine").unwrap();
    refused(&write(), "exists");
    refused(&write(), "exists");
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    let in_current_directory = Place::new();
    let done = done(bare().arg("spec").arg("--rootless").current_dir(in_current_directory.bundle()));
    succeeded(&done);
    let text = fs::read_to_string(in_current_directory.bundle().join("config.json")).unwrap();
    assert!(text.contains("uidMappings"), "{text}");
}

#[test]
fn spec_says_where_it_cannot_write() {
    let place = Place::new();
    let missing = place.path("missing");
    let line = refused(&done(bare().arg("spec").arg("--bundle").arg(&missing)), "no such file or directory");
    assert!(line.contains(missing.to_str().unwrap()), "{line}");
}

#[test]
fn features_are_those_of_the_program_not_of_the_host() {
    let features = done(bare().arg("features"));
    let document: Value = serde_json::from_str(succeeded(&features)).unwrap();
    for required in [
        "/ociVersionMin",
        "/ociVersionMax",
        "/hooks/0",
        "/mountOptions/0",
        "/linux/namespaces/0",
        "/linux/capabilities/0",
        "/linux/cgroup/v1",
        "/linux/cgroup/v2",
        "/linux/cgroup/systemd",
        "/linux/seccomp/enabled",
        "/linux/seccomp/actions/0",
        "/linux/seccomp/operators/0",
        "/linux/seccomp/archs/0",
        "/linux/seccomp/knownFlags/0",
        "/linux/apparmor/enabled",
        "/linux/selinux/enabled",
        "/linux/intelRdt/enabled",
        "/linux/mountExtensions/idmap/enabled",
        "/potentiallyUnsafeConfigAnnotations",
    ] {
        assert!(document.pointer(required).is_some(), "{required}");
    }
    // with nothing of an environment, somewhere else, by another user: the same bytes
    assert_eq!(done(bare().arg("features").env_clear().current_dir("/")), features);
    if let Some(other) = as_nobody(bare().arg("features")) {
        assert_eq!(other, features);
    }
    let debug = done(bare().args(["--debug", "features"]));
    assert_eq!(debug.stdout, features.stdout);
}

/// By a user without privileges; None where we are none who could become one, or that user cannot run it.
fn as_nobody(command: &mut Command) -> Option<Done> {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    if !is_root() {
        return Some(done(command));
    }
    match command.uid(NOBODY).gid(NOBODY).output() {
        Err(error) => {
            eprintln!("nobody cannot run {}: {error}", env!("CARGO_BIN_EXE_ferrun"));
            None
        }
        Ok(_) => Some(done(command)),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Output that is lost is a failure, not a success.
#[test]
fn a_full_stdout_is_an_error() {
    for verb in ["features", "--version", "--help"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bare().arg(verb).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{verb}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("no space left on device"), "{verb}");
    }
}

/// What create and run refuse before they make anything.
#[test]
fn bundles_that_are_none() {
    let missing = Place::new();
    let no_root = Place::with(
        r#"{"ociVersion":"1.3.0","root":{"path":"absent"},"process":{"args":["x"],"cwd":"/","user":{"uid":0,"gid":0}},"linux":{"namespaces":[{"type":"mount"}]}}"#,
    );
    let old = Place::with(
        r#"{"ociVersion":"2.0.0","root":{"path":"rootfs"},"process":{"args":["x"],"cwd":"/","user":{"uid":0,"gid":0}},"linux":{}}"#,
    );
    for (place, words) in [
        (&missing, "no such file or directory"),
        (&Place::with(""), "config.json is empty"),
        (&Place::with("{"), "ends too early"),
        (&Place::with("[]"), "must be a JSON object"),
        (&Place::with("{\"ociVersion\":\"1.3.0\"\0}"), "NUL byte"),
        (&Place::with(vec![b'['; 1 << 20]), "config.json"),
        (&Place::with(vec![b'{'; (16 << 20) + 1]), "larger than 16 MiB"),
        (&no_root, "absent"),
        (&old, "1.x"),
    ] {
        let before = place.files();
        for verb in ["create", "run", "plan"] {
            let done = done(place.command().arg(verb).arg("--bundle").arg(place.bundle()).arg("web"));
            let line = refused(&done, words);
            assert!(line.contains(verb), "{line}");
            assert!(line.len() < 1000, "{line}");
        }
        assert_eq!(place.files(), before);
    }
    let nowhere = missing.path("nowhere");
    let done = done(missing.command().arg("create").arg("--bundle").arg(&nowhere).arg("web"));
    assert!(refused(&done, "no such file or directory").contains(nowhere.to_str().unwrap()));
}

/// A config.json that is a FIFO or a directory must not stop the caller.
#[test]
fn a_config_that_is_no_file() {
    let fifo = Place::new();
    let path = fifo.bundle().join("config.json");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused(&fifo.ferrun([OsStr::new("plan"), OsStr::new("-b"), fifo.bundle().as_os_str()]), "config.json");
    let directory = Place::new();
    fs::create_dir(directory.bundle().join("config.json")).unwrap();
    let bundle = directory.bundle();
    refused(&directory.ferrun([OsStr::new("plan"), OsStr::new("-b"), bundle.as_os_str()]), "is a directory");
}

#[test]
fn fds_to_preserve_must_be_open() {
    let place = Place::with(plan::CONFIG);
    for (count, words) in [("3", "is not open"), ("4294967295", "more than"), ("-1", "-1"), ("x", "invalid value")] {
        let asked = format!("--preserve-fds={count}");
        let done = done(place.command().args(["plan", &asked, "--bundle"]).arg(place.bundle()));
        refused(&done, words);
    }
}

#[test]
fn systemds_cgroups_are_refused_where_it_does_not_run() {
    if Path::new("/run/systemd/system").exists() {
        return;
    }
    let place = Place::with(plan::CONFIG);
    let bundle = place.bundle();
    for flag in ["--systemd-cgroup", "--cgroup-manager=systemd"] {
        let done = done(place.command().arg(flag).args(["plan", "--bundle"]).arg(&bundle));
        refused(&done, "systemd is not running");
    }
    let done = done(place.command().args(["--cgroup-manager=disabled", "plan", "--bundle"]).arg(&bundle));
    assert!(!succeeded(&done).contains("cgroup /"), "{done:?}");
}
