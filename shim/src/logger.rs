//! Where output goes that containerd wants logged by somebody else: `file://`, `binary://` and `binary-v2://`.

use std::fs::{DirBuilder, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::process::{Command, Stdio};
use std::time::Duration;

use ferrun::error::{Call, Context, Error};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::failure::{Failure, Result};
use crate::sys;

/// A program that is not ready by then will not be: whoever waits for the container wants to know.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// A program that reads the output of one process from pipes.
#[derive(Debug)]
pub(crate) struct Program {
    /// A child of ours. It ends by itself once the last writing end is closed; the caller reaps it.
    pub(crate) pid: i32,
    /// The writing ends, for the process.
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Opens the file of `file:///PATH`, to append to it. It is made if need be, with the directories above it.
///
/// # Errors
/// `INVALID_ARGUMENT`: no such URI. The file system refuses.
pub(crate) fn file(uri: &str) -> Result<OwnedFd> {
    let Uri { scheme, path, .. } = Uri::parse(uri)?;
    if scheme != "file" {
        return Err(invalid(uri, "not a file"));
    }
    let open = || {
        if let Some((directory, _)) = path.rsplit_once('/') {
            DirBuilder::new().recursive(true).mode(0o755).create(format!("{directory}/"))?;
        }
        // a FIFO that nobody reads would hold up everything
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(&path)
    };
    Ok(open().call(|| format!("open {path}"))?.into())
}

/// Starts the program of `binary:///PATH?KEY=VALUE&…` or `binary-v2://…` and waits until it says that it is ready.
/// It has the output to read as fds 3 and 4, and says so by closing fd 5; of version 2 it must write to it before.
///
/// # Errors
/// `INVALID_ARGUMENT`: no such URI. It cannot be started, or does not get ready.
pub(crate) async fn program(uri: &str, namespace: &str, id: &str) -> Result<Program> {
    let parsed = Uri::parse(uri)?;
    if !matches!(parsed.scheme, "binary" | "binary-v2") {
        return Err(invalid(uri, "not a program"));
    }
    let started = start(&parsed, namespace, id).and_then(|(program, ready)| {
        // not its number: once we have given way it may have been collected, and the number be another's
        let pid = Pid::from_raw(program.pid).ok_or_else(|| Error::new("no pid"))?;
        let itself = pidfd_open(pid, PidfdFlags::empty()).call(|| "pidfd_open".to_owned())?;
        Ok((program, itself, ready))
    });
    let (program, itself, ready) = started.context(|| format!("start {}", parsed.path))?;
    let ready = wait_ready(ready, parsed.scheme == "binary-v2");
    let outcome = tokio::time::timeout(READY_DEADLINE, ready).await.unwrap_or_else(|_| {
        let seconds = READY_DEADLINE.as_secs();
        Err(Error::new(format!("it is not ready after {seconds} s")))
    });
    if let Err(error) = outcome {
        // it may have ended
        let _ = pidfd_send_signal(&itself, Signal::KILL);
        return Err(error.within(format!("logging program {}", parsed.path)).into());
    }
    Ok(program)
}

fn start(uri: &Uri, namespace: &str, id: &str) -> Result<(Program, OwnedFd), Error> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).call(|| "pipe".to_owned());
    let ((out, stdout), (err, stderr), (wait, ready)) = (pipe()?, pipe()?, pipe()?);
    let (arguments, environment) = uri.command();
    #[expect(clippy::disallowed_methods, reason = "the program is the caller's to name")]
    let mut command = Command::new(&uri.path);
    command.args(arguments).env_clear().envs(environment);
    command.env("CONTAINER_ID", id).env("CONTAINER_NAMESPACE", namespace);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::pass(&mut command, vec![out, err, ready]);
    let child = command.spawn().call(|| "execve".to_owned())?;
    Ok((Program { pid: child.id().cast_signed(), stdout, stderr }, wait))
}

/// `strict`: a program that just ends is not ready.
async fn wait_ready(wait: OwnedFd, strict: bool) -> Result<(), Error> {
    let mut read = Receiver::from_owned_fd(wait).call(|| "epoll_ctl".to_owned())?;
    match read.read(&mut [0]).await.call(|| "read".to_owned())? {
        0 if strict => Err(Error::new("it ended before it was ready")),
        _ => Ok(()),
    }
}

/// A log URI: RFC 3986 without an authority.
#[derive(Debug, PartialEq, Eq)]
struct Uri<'a> {
    scheme: &'a str,
    path: String,
    query: Vec<(String, String)>,
}

type Pairs = Vec<(String, String)>;

impl<'a> Uri<'a> {
    fn parse(uri: &'a str) -> Result<Self> {
        let bare = uri.split_once('#').map_or(uri, |(bare, _)| bare);
        let (scheme, rest) = bare.split_once("://").ok_or_else(|| invalid(uri, "no scheme"))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let text = |text: &str| decode(text).ok_or_else(|| invalid(uri, "a percent sign without two digits after it"));
        if !path.starts_with('/') {
            return Err(invalid(uri, "the path is not absolute"));
        }
        let mut pairs = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((text(&key.replace('+', " "))?, text(&value.replace('+', " "))?));
        }
        Ok(Self { scheme, path: text(path)?, query: pairs })
    }

    /// The arguments and the environment of a program: `KEY=VALUE` are two arguments, `env.KEY=VALUE` a variable.
    /// Of a key that is there several times the first one counts.
    fn command(&self) -> (Vec<&str>, Pairs) {
        let (mut arguments, mut environment) = (Vec::new(), Pairs::new());
        for (index, (key, value)) in self.query.iter().enumerate() {
            if self.query[..index].iter().any(|(before, _)| before == key) {
                continue;
            }
            match key.strip_prefix("env.") {
                Some(name) => environment.push((name.to_owned(), value.clone())),
                None => arguments.extend([key.as_str(), value.as_str()]),
            }
        }
        (arguments, environment)
    }
}

fn invalid(uri: &str, why: &str) -> Failure {
    Failure::invalid(format!("log URI {uri}: {why}"))
}

/// `%2F` is a slash. None: not two digits, a NUL, or not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend(parts.next()?.bytes());
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::path::Path;

    use super::*;
    use crate::reaper::children;

    #[test]
    fn uris() {
        let uri = Uri::parse("binary:///usr/bin/log%20it?--tag=a%2Fb&-v&env.A=1+2&--tag=c#x").expect("uri");
        assert_eq!((uri.scheme, uri.path.as_str()), ("binary", "/usr/bin/log it"));
        let (arguments, environment) = uri.command();
        assert_eq!(arguments, ["--tag", "a/b", "-v", ""]);
        assert_eq!(environment, [("A".to_owned(), "1 2".to_owned())]);
        for (bad, words) in [
            ("/run/fifo", "no scheme"),
            ("binary://relative", "not absolute"),
            ("binary:///a?b=%4", "percent"),
            ("file:///a%zz", "percent"),
            ("file:///a%+1", "percent"),
            ("file:///a%00", "percent"),
        ] {
            let failure = Uri::parse(bad).expect_err(bad);
            assert!(failure.words.contains(words), "{}", failure.words);
        }
    }

    #[test]
    fn files_are_appended_to() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("a/b c");
        let uri = format!("file://{}/a/b%20c", directory.path().display());
        for text in ["one\n", "two\n"] {
            std::fs::File::from(file(&uri).expect("file")).write_all(text.as_bytes()).expect("write");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "one\ntwo\n");
        assert!(file("binary:///bin/true").is_err() && file("file:///").is_err());
    }

    fn run(directory: &Path, scheme: &str, script: &str) -> Result<Program> {
        let path = directory.join("log");
        std::fs::write(&path, script).expect("script");
        let uri = format!("{scheme}:///bin/sh?{}={}&env.NAME=x", path.display(), directory.display());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(program(&uri, "n", "c"))
    }

    fn wait(program: Program) {
        let Program { pid, stdout, stderr } = program;
        std::fs::File::from(stdout).write_all(b"out").expect("write");
        std::fs::File::from(stderr).write_all(b"err").expect("write");
        let status = rustix::process::waitpid(Pid::from_raw(pid), rustix::process::WaitOptions::empty());
        assert_eq!(status.expect("wait").expect("status").1.exit_status(), Some(0));
    }

    #[test]
    fn a_program_reads_what_is_written() {
        let _children = children();
        let directory = tempfile::tempdir().expect("directory");
        let script = "printf ready >&5; exec 5>&-\n\
                      { cat <&3; cat <&4; echo \" $CONTAINER_NAMESPACE $CONTAINER_ID $NAME $#\"; } > \"$1/seen\"\n";
        wait(run(directory.path(), "binary-v2", script).expect("program"));
        let mut text = String::new();
        std::fs::File::open(directory.path().join("seen")).expect("seen").read_to_string(&mut text).expect("read");
        assert_eq!(text, "outerr n c x 1\n");
    }

    #[test]
    fn one_that_ends_is_ready_in_version_1_only() {
        let _children = children();
        let directory = tempfile::tempdir().expect("directory");
        let program = run(directory.path(), "binary", "exec 5>&-; cat <&3 >/dev/null; cat <&4 >/dev/null").expect("v1");
        wait(program);
        let failure = run(directory.path(), "binary-v2", "exit 3").expect_err("v2");
        assert!(failure.words.ends_with("it ended before it was ready"), "{}", failure.words);
    }

    #[test]
    fn a_program_that_is_not_there() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let failure = runtime.block_on(program("binary:///nonexistent", "n", "c")).expect_err("none");
        assert_eq!(failure.words, "start /nonexistent: execve: no such file or directory");
    }
}
