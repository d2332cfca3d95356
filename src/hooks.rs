//! Runs the hooks of config.json: one program after the other, the container's state on its stdin.
//!
//! Used by the runtime itself and by the container's init, which is a forked process with a single thread:
//! so there are no threads here, only one poll loop, and nothing of ours is named but the error and
//! `sys`. SIGPIPE is ignored while a hook runs; SIGCHLD is expected not to be.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use serde::{Deserialize, Serialize};

use crate::error::{Call, Error, Result};
use crate::sys::clone::Child;
use crate::sys::program;
use crate::sys::signal::BrokenPipesIgnored;

/// How much of the end of a hook's output is kept for the error.
const TAIL: usize = 4096;

/// How much is read at once of an output before the clock is looked at again: a full pipe.
const ROUND: usize = 64 * 1024;

/// One hook of config.json.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// argv, its first word included; empty: the path alone.
    #[serde(default)]
    pub args: Vec<String>,
    /// The whole environment: nothing of ours is added.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// Runs `hooks` in order and stops at the first that fails. `kind` is the property's name in config.json
/// (`createRuntime`), `state` the container's state as JSON.
pub fn run(kind: &str, hooks: &[Hook], state: &str) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state.as_bytes()).map_err(|error| named(error, kind, index, hook))?;
    }
    Ok(())
}

/// Runs all of `hooks` in order; one that fails is a warning in the log.
pub fn run_all_logging(kind: &str, hooks: &[Hook], state: &str) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(error) = run_one(hook, state.as_bytes()) {
            tracing::warn!("{}", named(error, kind, index, hook));
        }
    }
}

fn named(error: Error, kind: &str, index: usize, hook: &Hook) -> Error {
    error
        .within(format!("{kind} hook {index} ({})", hook.path.display()))
        .path(&hook.path)
        .at(format!("/hooks/{kind}/{index}"))
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<()> {
    let _ignored = BrokenPipesIgnored::begin();
    let mut running = Running::spawn(hook, state)?;
    // a timeout beyond the clock's range is none
    let deadline = hook.timeout.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let end = running.supervise(deadline);
    let words = match end {
        Ok(Some(status)) if status.exit_status() == Some(0) => return Ok(()),
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => format!("ended with wait status {:#x}", status.as_raw()),
        },
        Ok(None) => {
            running.kill();
            format!("timed out after {} s", hook.timeout.unwrap_or_default())
        }
        Err(error) => {
            running.kill();
            return Err(error);
        }
    };
    running.stderr.drain();
    running.stdout.drain();
    // many a hook explains itself on stdout
    let said = Some(running.stderr.line()).filter(|line| !line.is_empty()).unwrap_or_else(|| running.stdout.line());
    Err(Error::new(if said.is_empty() { words } else { format!("{words}: {said}") }))
}

/// A hook under way.
struct Running<'a> {
    pid: Pid,
    pidfd: OwnedFd,
    stdin: Input<'a>,
    stdout: Output,
    stderr: Output,
}

impl<'a> Running<'a> {
    fn spawn(hook: &Hook, state: &'a [u8]) -> Result<Self> {
        let (stdin, to_stdin) = pipe()?;
        let (from_stdout, stdout) = pipe()?;
        let (from_stderr, stderr) = pipe()?;
        for ours in [&to_stdin, &from_stdout, &from_stderr] {
            rustix::io::ioctl_fionbio(ours, true).call(|| "ioctl FIONBIO".to_owned())?;
        }
        let mut input = Input { pipe: Some(to_stdin), rest: state };
        // A state that fits into the pipe is in it before the hook exists: then a hook that never reads
        // cannot get a SIGPIPE or a wait in our way.
        input.feed();
        let child = start(hook, [&stdin, &stdout, &stderr])?;
        Ok(Self {
            pid: Pid::from_raw(child.pid).ok_or_else(|| Error::new("clone gave no process"))?,
            pidfd: child.pidfd,
            stdin: input,
            stdout: Output::new(from_stdout),
            stderr: Output::new(from_stderr),
        })
    }

    /// Until the hook itself ends (Some) or the deadline is over (None). Grandchildren that keep its pipes open
    /// are not waited for.
    fn supervise(&mut self, deadline: Option<Instant>) -> Result<Option<WaitStatus>> {
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.wait(left)?;
            self.stdin.feed();
            self.stdout.drain();
            self.stderr.drain();
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&self, left: Option<Duration>) -> Result<()> {
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(4);
        fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        fds.extend(self.stdin.pipe.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
        fds.extend(self.stdout.pipe.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        fds.extend(self.stderr.pipe.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        // what does not fit a timespec is longer than anybody waits
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::os("poll", errno)),
        }
    }

    fn ended(&self) -> Result<Option<WaitStatus>> {
        rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG)
            .map(|ended| ended.map(|(_, status)| status))
            .call(|| "waitpid".to_owned())
    }

    /// Kills the hook with its process group, and reaps it.
    fn kill(&self) {
        // Only what is still ours: if another reaped it, its number may be somebody else's by now.
        if matches!(self.ended(), Ok(None)) {
            // It leads its group and is not reaped yet: the group's number is still its own. That both may
            // have gone in between is no error, and neither is anything else at this point.
            let _ = rustix::process::kill_process_group(self.pid, rustix::process::Signal::KILL);
            let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::empty());
        }
    }
}

/// What the hook is still to read.
struct Input<'a> {
    pipe: Option<OwnedFd>,
    rest: &'a [u8],
}

impl Input<'_> {
    /// Writes what the pipe takes; closes it when all is written or nobody reads.
    fn feed(&mut self) {
        while let Some(pipe) = &self.pipe {
            if self.rest.is_empty() {
                self.pipe = None;
                return;
            }
            match rustix::io::write(pipe, self.rest) {
                Ok(written) => self.rest = self.rest.get(written..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // EPIPE: a hook need not read what it does not care for
                Err(_) => self.pipe = None,
            }
        }
    }
}

/// What the hook says: only the end is kept.
struct Output {
    pipe: Option<OwnedFd>,
    tail: Vec<u8>,
    cut: bool,
}

impl Output {
    fn new(pipe: OwnedFd) -> Self {
        Self { pipe: Some(pipe), tail: Vec::new(), cut: false }
    }

    /// Reads what is there, but no more than [`ROUND`]: a hook that never stops talking cannot keep us from
    /// looking at the clock.
    fn drain(&mut self) {
        let mut buffer = [0; TAIL];
        let mut read = 0;
        while read < ROUND
            && let Some(pipe) = &self.pipe
        {
            match rustix::io::read(pipe, &mut buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    read += count;
                    self.keep(buffer.get(..count).unwrap_or_default());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        if let Some(excess) = self.tail.len().checked_sub(TAIL + 1) {
            self.tail.drain(..=excess);
            self.cut = true;
        }
    }

    /// The tail as one line: its lines joined by `; `.
    fn line(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        format!("{}{}", if self.cut { "…" } else { "" }, lines.join("; "))
    }
}

/// Starts the program with `stdio` as its fds 0 to 2.
fn start(hook: &Hook, stdio: [&OwnedFd; 3]) -> Result<Child> {
    let path = c_string("path", hook.path.as_os_str().as_bytes())?;
    let mut args = c_strings("args", &hook.args)?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = c_strings("env", &hook.env)?;
    program::spawn(&path, &args, &env, stdio).call(|| format!("fork/exec {}", hook.path.display()))
}

/// A pipe for the hook's stdio.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    program::pipe().call(|| "pipe2".to_owned())
}

fn c_strings(property: &str, words: &[String]) -> Result<Vec<CString>> {
    words.iter().map(|word| c_string(property, word.as_bytes())).collect()
}

fn c_string(property: &str, bytes: &[u8]) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::new(format!("{property} holds a NUL byte")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigSet, Signal};
    use std::fs;

    fn shell(script: &str) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: vec!["PATH=/usr/bin:/bin".into()],
            timeout: Some(20),
        }
    }

    /// The file's content after `script`, in which `$OUT` names the file, has run.
    fn output_of(mut hook: Hook, state: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        if let Some(script) = hook.args.get_mut(2) {
            *script = script.replace("$OUT", out.to_str().unwrap());
        }
        run("createRuntime", &[hook], state).unwrap();
        fs::read_to_string(out).unwrap()
    }

    fn failure(hook: Hook) -> String {
        run("createRuntime", &[shell("true"), hook], "{}").unwrap_err().to_string()
    }

    #[test]
    fn args_and_env_are_exact() {
        let mut hook = shell("tr '\\0' '\\n' < /proc/self/environ > $OUT; tr '\\0' '|' < /proc/$$/cmdline >> $OUT");
        hook.args[0] = "a name of its own".into();
        hook.args.extend(["one two".into(), String::new(), "ä".into()]);
        hook.env = vec!["PATH=/usr/bin:/bin".into(), "A=1".into(), "B=".into()];
        let out = output_of(hook, "{}");
        let (env, args) = out.rsplit_once('\n').unwrap();
        // the shell itself adds PWD to what its own children see
        let env: Vec<_> = env.lines().filter(|line| !line.starts_with("PWD=")).collect();
        assert_eq!(env, ["PATH=/usr/bin:/bin", "A=1", "B="]);
        assert!(args.starts_with("a name of its own|-c|"), "{args}");
        assert!(args.ends_with("|one two||ä|"), "{args}");
    }

    #[test]
    fn no_env_is_an_empty_one_and_no_args_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let (script, out) = (dir.path().join("hook"), dir.path().join("out"));
        fs::write(
            &script,
            format!(
                "#!/bin/sh\n/usr/bin/tr '\\0' '|' < /proc/$$/environ > {0}\necho \"$0 $#\" >> {0}\n",
                out.display()
            ),
        )
        .unwrap();
        fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let hook: Hook = serde_json::from_value(serde_json::json!({"path": script})).unwrap();
        run("poststop", &[hook], "{}").unwrap();
        assert_eq!(fs::read_to_string(out).unwrap(), format!("{} 0\n", script.display()));
    }

    #[test]
    fn state_on_stdin_whatever_its_size() {
        assert_eq!(output_of(shell("cat > $OUT"), r#"{"id":"web"}"#), r#"{"id":"web"}"#);
        assert_eq!(output_of(shell("cat > $OUT"), ""), "");
        let large = "x".repeat(1 << 20);
        assert_eq!(output_of(shell("sleep 0.1; cat > $OUT"), &large), large);
    }

    #[test]
    fn a_hook_need_not_read() {
        let large = "x".repeat(1 << 20);
        run("prestart", &[shell("true"), shell("exec <&-; sleep 0.1"), shell("head -c 10 >/dev/null")], &large)
            .unwrap();
    }

    #[test]
    fn failures_name_hook_end_and_stderr() {
        assert_eq!(
            failure(shell("echo nothing; echo one >&2; echo ' two ' >&2; exit 3")),
            "createRuntime hook 1 (/bin/sh): exit status 3: one; two (config.json /hooks/createRuntime/1)"
        );
        assert_eq!(
            failure(shell("echo on stdout; exit 1")),
            "createRuntime hook 1 (/bin/sh): exit status 1: on stdout (config.json /hooks/createRuntime/1)"
        );
        assert_eq!(
            failure(shell("kill -9 $$")),
            "createRuntime hook 1 (/bin/sh): killed by signal 9 (config.json /hooks/createRuntime/1)"
        );
        let absent = Hook { path: "/no/such".into(), ..Hook::default() };
        let error = run("poststart", &[absent], "{}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "poststart hook 0 (/no/such): fork/exec /no/such: no such file or directory (config.json /hooks/poststart/0)"
        );
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let nul = Hook { path: "/bin/true".into(), args: vec!["a\0b".into()], ..Hook::default() };
        assert!(failure(nul).contains("args holds a NUL byte"));
    }

    #[test]
    fn the_end_of_a_large_stderr_is_kept() {
        let error = failure(shell("head -c 3000000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 1"));
        assert!(error.contains("exit status 1: …xxx") && error.contains("xlast words (config"), "{error}");
        assert!(error.len() < TAIL + 200);
    }

    #[test]
    fn a_timeout_ends_the_whole_group() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let mut hook = shell(&format!("sleep 100 & echo $! $$ > {}; echo slow >&2; wait", pids.display()));
        // time for the shell to say it, on a machine that has other work
        hook.timeout = Some(4);
        let begin = Instant::now();
        assert_eq!(
            failure(hook),
            "createRuntime hook 1 (/bin/sh): timed out after 4 s: slow (config.json /hooks/createRuntime/1)"
        );
        assert!(begin.elapsed() < Duration::from_secs(60));
        for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
            let gone = (0..1000).any(|_| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                // an orphan that is killed waits as a zombie for this machine's init
                let gone = stat.is_empty() || stat.contains(") Z ");
                if !gone {
                    std::thread::sleep(Duration::from_millis(20));
                }
                gone
            });
            assert!(gone, "{pid} is alive");
        }
    }

    #[test]
    fn grandchildren_with_our_pipes_are_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pids = dir.path().join("pids");
        let sleeper = format!("sleep 300 & echo $! >> {};", pids.display());
        let begin = Instant::now();
        run("prestart", &[shell(&format!("{sleeper} exit 0"))], "{}").unwrap();
        assert!(failure(shell(&format!("echo why >&2; {sleeper} exit 4"))).contains("exit status 4: why"));
        assert!(begin.elapsed() < Duration::from_secs(200));
        for pid in fs::read_to_string(pids).unwrap().split_whitespace() {
            let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }

    #[test]
    fn an_endless_talker_meets_its_timeout() {
        let mut hook = shell("exec yes");
        hook.timeout = Some(4);
        assert!(failure(hook).contains("timed out after 4 s: …y; y"));
    }

    #[test]
    fn signals_and_group_are_the_hooks_own() {
        // only this thread's mask, so that other tests keep theirs
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGUSR1);
        blocked.add(Signal::SIGTERM);
        blocked.thread_block().unwrap();
        // exec: a shell blocks signals for itself while it starts a program
        let script = "cut -d' ' -f1,5 /proc/$$/stat > $OUT; exec grep -E '^Sig(Blk|Ign)' /proc/self/status >> $OUT";
        let out = output_of(shell(script), "");
        blocked.thread_unblock().unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[1], "SigBlk:\t0000000000000000");
        let ignored = u64::from_str_radix(lines[2].rsplit_once('\t').unwrap().1, 16).unwrap();
        assert_eq!(ignored & 1 << (libc::SIGPIPE - 1), 0);
        let (pid, group) = lines[0].split_once(' ').unwrap();
        assert_eq!(pid, group);
    }

    #[test]
    fn no_fd_of_ours_goes_along() {
        // what whoever started this test left open for everybody
        let inherited = fs::read_dir("/proc/self/fdinfo")
            .unwrap()
            .filter_map(|entry| fs::read_to_string(entry.unwrap().path()).ok())
            .filter_map(|info| u32::from_str_radix(info.split_whitespace().nth(3)?, 8).ok())
            .filter(|flags| flags & libc::O_CLOEXEC as u32 == 0)
            .count();
        let out = output_of(shell("ls /proc/self/fd | wc -l > $OUT"), "");
        assert_eq!(out.trim().parse(), Ok(inherited + 1)); // ls reads the directory
    }
}
