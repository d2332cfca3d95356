//! Starting the runtime and reading what it says.
//!
//! stdout and stderr go to files, not pipes: a created container keeps them, and
//! a pipe would never end.

use crate::case::{Res, broken};
use crate::options::Options;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A runtime that needs longer than this for one command hangs.
pub const LIMIT: Duration = Duration::from_secs(40);

/// One command of the runtime, not started yet.
pub struct Run {
    command: Command,
    /// Before all other arguments: how a filter is put around the runtime.
    prefix: Vec<OsString>,
    globals: Vec<OsString>,
    verb: Vec<OsString>,
    stdin: Option<Vec<u8>>,
    base: PathBuf,
    limit: Duration,
}

impl Run {
    pub fn new(options: &Options, root: &Path, base: PathBuf) -> Self {
        let mut command = Command::new(&options.runtime);
        let mut prefix = Vec::new();
        if !options.deny.is_empty() {
            // not by its name, at which another build may lie meanwhile
            command = Command::new(format!("/proc/{}/exe", std::process::id()));
            prefix = vec!["__deny".into(), options.deny.clone().into(), options.runtime.clone().into()];
        }
        // Nothing of whoever runs the tests: neither sockets nor secrets.
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Self { command, prefix, globals: options.globals(root), verb: Vec::new(), stdin: None, base, limit: LIMIT }
    }

    /// An option before the verb.
    pub fn global(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.globals.push(arg.as_ref().into());
        self
    }

    pub fn no_globals(mut self) -> Self {
        self.globals.clear();
        self
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.verb.push(arg.as_ref().into());
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.verb.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn cwd(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// With LISTEN_PID set to the runtime's own pid, as systemd does it.
    pub fn with_listen_pid(self) -> Self {
        self.after("export LISTEN_PID=$$")
    }

    /// Under an AppArmor profile: what the shell writes itself is about itself.
    pub fn confined(self, profile: &str) -> Self {
        self.after(&format!("echo 'exec {profile}' > /proc/self/attr/apparmor/exec || exit 96"))
    }

    /// By an ordinary user, of whom the files `passwd`, `subuid` and `subgid` in `dir` say who they are and what they may
    /// map, and whose state is in `dir/run`.
    pub fn by_user(mut self, user: u32, dir: &Path) -> Self {
        let dir = dir.display();
        let script = format!(
            "for file in passwd subuid subgid; do /usr/bin/mount --bind {dir}/$file /etc/$file || exit 96; done; \
             exec /usr/bin/setpriv --reuid {user} --regid {user} --clear-groups \"$0\" \"$@\""
        );
        let program = self.command.get_program().to_owned();
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--mount", "/bin/sh", "-c", &script]).arg(program);
        command.env_clear().env("XDG_RUNTIME_DIR", format!("{dir}/run"));
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self.globals.clear();
        self
    }

    /// By a caller with these groups.
    pub fn with_groups(self, groups: &[u32]) -> Self {
        let list: Vec<String> = groups.iter().map(u32::to_string).collect();
        self.inside(&["/usr/bin/setpriv", "--groups", &list.join(",")])
    }

    /// Started by this program, which the caller starts.
    pub fn inside(mut self, program: &[&str]) -> Self {
        let mut words = vec![self.command.get_program().to_owned()];
        words.extend(self.command.get_args().map(OsStr::to_owned));
        // the runtime is the last word of whatever leads to it
        let before = words.len() - 1;
        words.splice(before..before, program.iter().map(OsString::from));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    /// By the same process, after a shell did something.
    fn after(mut self, script: &str) -> Self {
        let program = self.command.get_program().to_owned();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]).arg(program);
        command.env_clear();
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self.command = command;
        self
    }

    /// In a process group of its own, as shells start their jobs.
    pub fn own_group(mut self) -> Self {
        use std::os::unix::process::CommandExt;
        self.command.process_group(0);
        self
    }

    /// Feeds bytes through a pipe.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    pub fn spawn(mut self) -> Res<Job> {
        let stdout = self.base.with_extension("out");
        let stderr = self.base.with_extension("err");
        self.command.args(&self.prefix).args(&self.globals).args(&self.verb);
        self.command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        self.command.stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let said = self.verb.iter().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut child = self.command.spawn()?;
        if let (Some(bytes), Some(mut pipe)) = (self.stdin.take(), child.stdin.take()) {
            let _ = pipe.write_all(&bytes);
        }
        Ok(Job { child, said: shorten(&said), stdout, stderr, end: Instant::now() + self.limit })
    }

    /// Runs it to its end.
    pub fn out(self) -> Res<Out> {
        self.spawn()?.wait()
    }
}

/// A command that is running.
pub struct Job {
    child: Child,
    said: String,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    end: Instant,
}

impl Job {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What the command (or its container) has written so far.
    pub fn stdout_now(&self) -> String {
        lossy(&self.stdout)
    }

    pub fn wait(mut self) -> Res<Out> {
        let status = wait_until(&mut self.child, self.end)?;
        let Some(status) = status else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let said = self.result(None);
            said.log();
            return broken(format!("`{}` hangs; stderr: {}", self.said, said.stderr.trim()));
        };
        let out = self.result(Some(status));
        out.log();
        Ok(out)
    }

    fn result(&self, status: Option<ExitStatus>) -> Out {
        use std::os::unix::process::ExitStatusExt;
        Out {
            said: self.said.clone(),
            code: status.and_then(|s| s.code()),
            signal: status.and_then(|s| s.signal()),
            stdout: lossy(&self.stdout),
            stderr: lossy(&self.stderr),
            stdout_path: self.stdout.clone(),
        }
    }
}

/// How a command ended and what it wrote.
#[derive(Debug)]
pub struct Out {
    pub said: String,
    /// None: ended by a signal.
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub stdout_path: PathBuf,
}

impl Out {
    pub fn ok(self) -> Res<Self> {
        self.exits(0)
    }

    pub fn exits(self, code: i32) -> Res<Self> {
        if self.code == Some(code) {
            return Ok(self);
        }
        broken(format!("`{}`: exit {}, want {code}: {}", self.said, self.how(), self.stderr.trim()))
    }

    /// An error that says one of these words (any when none are given).
    pub fn fails(self, words: &[&str]) -> Res<Self> {
        if self.code.is_none_or(|c| c == 0) {
            return broken(format!("`{}` should fail; exit {}", self.said, self.how()));
        }
        let text = self.stderr.to_lowercase();
        if !words.is_empty() && !words.iter().any(|w| text.contains(&w.to_lowercase())) {
            return broken(format!("`{}` fails without saying {words:?}: {}", self.said, self.stderr.trim()));
        }
        if text.contains("panicked at") || text.contains("goroutine 1 [") || self.stderr.trim().is_empty() {
            return broken(format!("`{}` fails without a proper word: {}", self.said, self.stderr.trim()));
        }
        Ok(self)
    }

    /// Lines of stderr that are errors (runc's text log may warn first).
    pub fn error_lines(&self) -> usize {
        self.stderr.lines().filter(|l| !l.trim().is_empty() && !l.contains("level=warn")).count()
    }

    fn how(&self) -> String {
        match (self.code, self.signal) {
            (Some(c), _) => c.to_string(),
            (None, Some(s)) => format!("by signal {s}"),
            _ => "never".into(),
        }
    }

    /// Keeps a record for `--verbose`.
    fn log(&self) {
        let Some(dir) = self.stdout_path.parent() else { return };
        if let Ok(mut f) = File::options().create(true).append(true).open(dir.join("commands.log")) {
            let _ =
                writeln!(f, "$ {} -> {}\n{}{}", self.said, self.how(), shorten(&self.stdout), shorten(&self.stderr));
        }
    }
}

pub fn lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn shorten(s: &str) -> String {
    if s.len() <= 2000 {
        return s.to_owned();
    }
    let end = s.char_indices().map(|(i, _)| i).take_while(|i| *i <= 2000).last().unwrap_or(0);
    format!("{}…", &s[..end])
}

/// Waits for a child without burning the processor: a pidfd becomes readable.
pub fn wait_until(child: &mut Child, end: Instant) -> std::io::Result<Option<ExitStatus>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    if let Some(s) = child.try_wait()? {
        return Ok(Some(s));
    }
    let pid = Pid::from_raw(child.id() as i32).ok_or(std::io::ErrorKind::InvalidInput)?;
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)) {
            Ok(0) => return Ok(None),
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Waits for something to become true.
pub fn eventually(what: &str, mut test: impl FnMut() -> Res<bool>) -> Res {
    let end = Instant::now() + Duration::from_secs(30);
    while !test()? {
        if Instant::now() > end {
            return broken(format!("never happened: {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
