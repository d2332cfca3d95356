//! A terminal with somebody in front of it: a tmux server of the case's own, one window with a
//! job-control shell in it. What is typed goes the way of a keyboard's, what comes is read off the screen.

use crate::case::{Context, Res, broken};
use crate::cx::Cx;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the outer shell says when it waits for a command.
pub const PROMPT: &str = "outer> ";

pub const COLUMNS: u16 = 91;
pub const ROWS: u16 = 29;

/// dash edits no lines and never touches the terminal's settings: whatever changed them was the runtime.
const SHELL: &str = "/bin/dash";

/// Patience with the screen: what does not come in this time never comes.
const LIMIT: Duration = Duration::from_secs(30);

pub struct Screen {
    socket: PathBuf,
    /// The outer terminal, as /dev/pts/N.
    pub tty: String,
}

impl Screen {
    /// The server lives in the namespaces of the case; nobody else knows its socket.
    pub fn open(cx: &Cx, dir: &Path) -> Res<Self> {
        let mut screen = Self { socket: cx.path("tmux"), tty: String::new() };
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let size = ["-x", columns.as_str(), "-y", rows.as_str()];
        let dir = dir.to_string_lossy();
        screen.tmux(&[&["new-session", "-d", "-c", &dir], &size[..], &[SHELL, "-i"]].concat())?;
        screen.tty = screen.tmux(&["display-message", "-p", "#{pane_tty}"])?.trim().to_owned();
        screen.shows(PROMPT)?;
        Ok(screen)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("PS1", PROMPT).env("LC_ALL", "C.UTF-8");
        command.args(["-f", "/dev/null", "-S"]).arg(&self.socket).args(args);
        command.stdin(Stdio::null());
        command
    }

    fn tmux(&self, args: &[&str]) -> Res<String> {
        let out = self.command(args).output().context("tmux (hack/setup installs it)")?;
        if !out.status.success() {
            return broken(format!("tmux {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Types text as it is.
    pub fn types(&self, text: &str) -> Res {
        self.tmux(&["send-keys", "-l", "--", text]).map(drop)
    }

    /// Types a line and Enter.
    pub fn enters(&self, line: &str) -> Res {
        self.types(line)?;
        self.press("Enter")
    }

    /// A key by tmux's name: `C-c`, `BSpace`, `Enter`.
    pub fn press(&self, key: &str) -> Res {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Bytes that no key need stand for.
    pub fn bytes(&self, bytes: &[u8]) -> Res {
        for few in bytes.chunks(32) {
            let hex: Vec<String> = few.iter().map(|byte| format!("{byte:02x}")).collect();
            let words: Vec<&str> = ["send-keys", "-H"].into_iter().chain(hex.iter().map(String::as_str)).collect();
            self.tmux(&words)?;
        }
        Ok(())
    }

    pub fn resize(&self, columns: u16, rows: u16) -> Res {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]).map(drop)
    }

    /// The terminal goes away, as when its window is closed.
    pub fn close(&self) -> Res {
        self.tmux(&["kill-window"]).map(drop)
    }

    /// All lines so far, those that were wrapped joined.
    pub fn text(&self) -> Res<String> {
        Ok(self.tmux(&["capture-pane", "-p", "-J", "-S", "-"])?.trim_end().to_owned())
    }

    /// Waits for what the screen must become.
    pub fn until(&self, what: &str, test: impl Fn(&str) -> bool) -> Res {
        let end = Instant::now() + LIMIT;
        loop {
            let text = self.text()?;
            if test(&text) {
                return Ok(());
            }
            if Instant::now() > end {
                return broken(format!("the screen never {what}; it shows:\n{text}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn shows(&self, word: &str) -> Res {
        // the blanks at the end of the last line are not seen
        self.until(&format!("shows {word:?}"), |text| text.contains(word.trim_end()))
    }

    /// Waits until the last line is this, without the blanks at its end.
    pub fn ends_with(&self, line: &str) -> Res {
        self.until(&format!("ends with {line:?}"), |text| text.lines().last().unwrap_or_default() == line.trim_end())
    }

    /// How the outer terminal is set.
    pub fn settings(&self) -> Res<String> {
        let out = Command::new("stty").args(["-a", "-F", &self.tty]).output().context("stty")?;
        if !out.status.success() {
            return broken(format!("stty of {}: {}", self.tty, String::from_utf8_lossy(&out.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// The outer terminal is as it was.
    pub fn unchanged(&self, before: &str) -> Res {
        let now = self.settings()?;
        let words = |text: &str| text.split([' ', '\n']).map(str::to_owned).collect::<Vec<_>>();
        let new: Vec<String> = words(&now).into_iter().filter(|word| !words(before).contains(word)).collect();
        if now == before { Ok(()) } else { broken(format!("the outer terminal is changed: {}", new.join(" "))) }
    }

    /// As far as what is typed goes: runc leaves the output to be processed.
    pub fn is_raw(&self) -> Res<bool> {
        let settings = self.settings()?;
        let has = |word: &str| settings.split([' ', ';', '\n']).any(|w| w == word);
        Ok(["-icanon", "-echo", "-isig", "-icrnl", "-ixon"].iter().all(|w| has(w)))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // fails when its window was closed: then the server has ended
        let _ = self.command(&["kill-server"]).output();
    }
}
