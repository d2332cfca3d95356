//! The runtime: its command line, as containerd's go-runc writes it, and what it says when it fails.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;

use ferrun::error::{Call, Error, Result};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::io::Files;
use crate::options::Options;
use crate::reaper::Reaper;

/// Where it keeps its state unless the options say otherwise; below it, a directory for each namespace.
const ROOT: &str = "/run/containerd/ferrun";

/// The last words that we read of a log; more is no error message.
const MAX_LOG: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Runtime {
    program: PathBuf,
    root: PathBuf,
    options: Options,
    /// Where its logs go.
    bundle: PathBuf,
    reaper: Rc<Reaper>,
    logs: Cell<u32>,
}

impl Runtime {
    pub(crate) fn new(options: Options, namespace: &str, bundle: &Path, reaper: Rc<Reaper>) -> Self {
        Self {
            program: program(&options.binary_name),
            root: root(&options, namespace),
            options,
            bundle: bundle.to_owned(),
            reaper,
            logs: Cell::new(0),
        }
    }

    /// `--root`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// # Errors
    /// The last error that it logs.
    pub(crate) async fn run<A: AsRef<OsStr>>(&self, verb: &str, arguments: &[A], files: Files) -> Result<()> {
        self.logs.set(self.logs.get().wrapping_add(1));
        let log = self.bundle.join(format!("log-{verb}-{}.json", self.logs.get()));
        let result = self.run_logging_to(&log, verb, arguments, files).await;
        let _ = std::fs::remove_file(&log); // it may have written none
        result
    }

    async fn run_logging_to<A: AsRef<OsStr>>(
        &self,
        log: &Path,
        verb: &str,
        arguments: &[A],
        files: Files,
    ) -> Result<()> {
        let mut command = self.command(log);
        command.arg(verb).args(arguments);
        let stdio = |file: Option<OwnedFd>| file.map_or_else(Stdio::null, Stdio::from);
        command.stdin(stdio(files.stdin)).stdout(stdio(files.stdout)).stderr(stdio(files.stderr));
        crate::sys::die_with_us(&mut command);
        let child = spawn(command, &self.program)?;
        let ended = self.reaper.watch(child)?.wait().await;
        if ended.status == 0 {
            return Ok(());
        }
        Err(last_error(log).unwrap_or_else(|| {
            let how = match ended.status {
                status @ ..=128 => format!("exit status {status}"),
                status => format!("signal {}", status - 128),
            };
            Error::new(format!("{} {verb} ended with {how}", self.program.display()))
        }))
    }

    /// `update --resources=-`: the document goes to its stdin.
    pub(crate) async fn run_with_input<A: AsRef<OsStr>>(
        &self,
        verb: &str,
        arguments: &[A],
        input: &[u8],
    ) -> Result<()> {
        use std::io::{Seek, Write};
        let file = memfd_create("input", MemfdFlags::CLOEXEC).call(|| "memfd_create".to_owned())?;
        let mut file = std::fs::File::from(file);
        file.write_all(input).and_then(|()| file.rewind()).call(|| "write to a memfd".to_owned())?;
        let files = Files { stdin: Some(file.into()), ..Files::default() };
        self.run(verb, arguments, files).await
    }

    /// The program with its global options.
    fn command(&self, log: &Path) -> Command {
        let mut command = new_command(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(log).args(["--log-format", "json"]);
        if self.options.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        if crate::log::is_debug() {
            command.arg("--debug");
        }
        command
    }

    /// Deletes a container that is to be no more, and waits for it: for the command `delete`, which has no loop.
    pub(crate) fn delete_now(&self, id: &str) -> Result<()> {
        let log = self.bundle.join("log-delete.json");
        let mut command = self.command(&log);
        command.args(["delete", "--force", id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        crate::sys::die_with_us(&mut command);
        let status = command.status().call(|| format!("exec {}", self.program.display()))?;
        let result = if status.success() {
            Ok(())
        } else {
            Err(last_error(&log).unwrap_or_else(|| Error::new(format!("{} delete: {status}", self.program.display()))))
        };
        let _ = std::fs::remove_file(&log);
        result
    }
}

/// What it prints, for the command `-info`.
pub(crate) fn ask(options: &Options, verb: &str) -> Result<Vec<u8>> {
    let program = program(&options.binary_name);
    let output = new_command(&program).arg(verb).output().call(|| format!("exec {} {verb}", program.display()))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{} {verb}: {}: {}", program.display(), output.status, said.trim())))
}

fn new_command(program: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the host's own program, found as containerd would find it")]
    Command::new(program)
}

/// The pid of the program; whoever asked for it collects it.
fn spawn(mut command: Command, program: &Path) -> Result<i32> {
    let child = command.spawn().call(|| format!("exec {}", program.display()))?;
    i32::try_from(child.id()).map_err(|_| Error::new("a pid beyond all pids"))
}

/// `BinaryName`; without one `ferrun`, beside us or in PATH.
fn program(name: &str) -> PathBuf {
    if !name.is_empty() {
        return name.into();
    }
    let beside = std::env::current_exe().ok().and_then(|path| path.parent().map(|parent| parent.join("ferrun")));
    beside.filter(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()).unwrap_or("ferrun".into())
}

fn root(options: &Options, namespace: &str) -> PathBuf {
    let root = if options.root.as_os_str().is_empty() { Path::new(ROOT) } else { &options.root };
    root.join(namespace)
}

/// The last line of level error.
fn last_error(log: &Path) -> Option<Error> {
    use std::io::{Read, Seek, SeekFrom};
    #[derive(serde::Deserialize)]
    struct Line {
        level: String,
        msg: String,
    }
    let mut text = Vec::new();
    let mut log = std::fs::File::open(log).ok()?;
    // with --debug there may be much before it
    let length = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG))).ok()?;
    log.take(MAX_LOG).read_to_end(&mut text).ok()?;
    let lines = text.split(|&byte| byte == b'\n').rev();
    let mut lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    lines.find(|line| matches!(line.level.as_str(), "error" | "fatal" | "panic")).map(|line| Error::new(line.msg))
}

/// `--no-pivot --no-new-keyring`, as the options say.
pub(crate) fn create_arguments(
    options: &Options,
    bundle: &Path,
    pid_file: &Path,
    console: Option<&Path>,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["--bundle".into(), bundle.into(), "--pid-file".into(), pid_file.into()];
    if let Some(socket) = console {
        arguments.extend(["--console-socket".into(), socket.into()]);
    }
    for (wanted, option) in [(options.no_pivot_root, "--no-pivot"), (options.no_new_keyring, "--no-new-keyring")] {
        if wanted {
            arguments.push(option.into());
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told() {
        let directory = tempfile::tempdir().expect("directory");
        let log = directory.path().join("log.json");
        assert!(last_error(&log).is_none());
        let lines = r#"{"level":"error","msg":"first","time":"t"}
not JSON
{"level":"error","msg":"create web: exec: \"x\": executable file not found in $PATH","time":"t"}
{"level":"warning","msg":"later","time":"t"}
"#;
        let before = "{\"level\":\"debug\",\"msg\":\"x\"}\n".repeat(60_000);
        assert!(before.len() as u64 > MAX_LOG);
        std::fs::write(&log, before + lines).expect("file");
        let error = last_error(&log).expect("error").to_string();
        assert_eq!(error, "create web: exec: \"x\": executable file not found in $PATH");
    }

    #[test]
    fn names_and_roots() {
        assert_eq!(program("/opt/ferrun"), Path::new("/opt/ferrun"));
        assert_eq!(root(&Options::default(), "k8s.io"), Path::new("/run/containerd/ferrun/k8s.io"));
        let options = Options { root: "/r".into(), ..Options::default() };
        assert_eq!(root(&options, "moby"), Path::new("/r/moby"));
    }
}
