//! A container's program in the foreground of a terminal: started by `run`, or by `exec` in a
//! container that is up.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, broken, case};
use crate::cx::Cx;
use crate::run::eventually;
use crate::tmux::Screen;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Run,
    Exec,
}

/// One body, two cases: `AREA::run_…` and `AREA::exec_…`.
pub struct Both([Case; 2]);

pub fn both(area: &str, what: &str, body: fn(&Cx, Way) -> Res) -> Both {
    let of = |verb: &str, way| case(format!("{area}::{verb}_{what}"), move |cx| body(cx, way));
    Both([of("run", Way::Run), of("exec", Way::Exec)])
}

impl Both {
    pub fn differs(self, kind: &'static str, why: &'static str) -> Self {
        Self(self.0.map(|case| case.differs(kind, why)))
    }

    pub fn patience(self, times: u64) -> Self {
        Self(self.0.map(|case| case.patience(times)))
    }
}

impl IntoIterator for Both {
    type Item = Case;
    type IntoIter = std::array::IntoIter<Case, 2>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// What the shell in the container says when it waits for a command.
pub const INSIDE: &str = "in> ";

/// The runtime, its options and a container, ready to be started on a terminal.
pub struct Stage<'a> {
    pub cx: &'a Cx,
    way: Way,
    pub id: String,
    pub dir: PathBuf,
    rootfs: PathBuf,
    line: Vec<String>,
}

impl<'a> Stage<'a> {
    pub fn new(cx: &'a Cx, way: Way, program: &[&str]) -> Res<Self> {
        Self::with(cx, way, program, |bundle| bundle)
    }

    pub fn shell(cx: &'a Cx, way: Way) -> Res<Self> {
        Self::new(cx, way, &["/bin/sh", "-i"])
    }

    pub fn script(cx: &'a Cx, way: Way, script: &str) -> Res<Self> {
        Self::new(cx, way, &["/bin/sh", "-c", script])
    }

    /// With something changed in the container's configuration.
    pub fn with(cx: &'a Cx, way: Way, program: &[&str], change: fn(&mut Bundle) -> &mut Bundle) -> Res<Self> {
        Self::build(cx, way, true, program, change)
    }

    /// Without a terminal.
    pub fn plain(cx: &'a Cx, way: Way, program: &[&str]) -> Res<Self> {
        Self::build(cx, way, false, program, |bundle| bundle)
    }

    fn build(
        cx: &'a Cx,
        way: Way,
        terminal: bool,
        program: &[&str],
        change: fn(&mut Bundle) -> &mut Bundle,
    ) -> Res<Self> {
        let mut bundle = cx.bundle()?;
        bundle.push("/process/env", json!(format!("PS1={INSIDE}"))).push("/process/env", json!("TERM=screen"));
        change(&mut bundle);
        let mut line = vec![cx.options.runtime.to_string_lossy().into_owned()];
        line.extend(cx.options.globals(&cx.root()).iter().map(|arg| arg.to_string_lossy().into_owned()));
        let (id, verb) = match way {
            Way::Run => {
                bundle.set("/process/terminal", json!(terminal)).args(program).save()?;
                let id = cx.id();
                (id.clone(), vec!["run".to_owned(), "--bundle".into(), bundle.dir.to_string_lossy().into_owned(), id])
            }
            Way::Exec => {
                let id = cx.sleeping(&mut bundle)?.id;
                let mut verb = vec!["exec".to_owned()];
                if terminal {
                    verb.push("-t".into());
                }
                verb.push(id.clone());
                verb.extend(program.iter().map(|word| (*word).to_owned()));
                (id, verb)
            }
        };
        line.extend(verb);
        let dir = cx.path("stage");
        fs::create_dir_all(&dir)?;
        Ok(Self { cx, way, id, dir, rootfs: bundle.rootfs(), line })
    }

    /// The runtime, for whoever gives it descriptors of his own.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.line[0]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(&self.line[1..]).current_dir(&self.dir);
        command
    }

    /// The same by way of the shell: `exec "$@" <&-`, say.
    pub fn command_by(&self, script: &str) -> Command {
        let direct = self.command();
        let mut command = Command::new("/bin/dash");
        command.env_clear().envs(direct.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.args(["-c", script, "dash"]).args(&self.line).current_dir(&self.dir);
        command
    }

    /// As if the container (its bundle, with `run`) had never been there.
    pub fn spoil(&mut self) -> Res {
        match self.way {
            Way::Run => fs::remove_file(self.rootfs.with_file_name("config.json"))?,
            Way::Exec => {
                let none = format!("{}-none", self.id);
                self.line.iter_mut().filter(|word| **word == self.id).for_each(|word| word.clone_from(&none));
            }
        }
        Ok(())
    }

    /// A file of the container's.
    pub fn inside(&self, name: &str) -> PathBuf {
        self.rootfs.join(name)
    }

    /// Waits for a file in the container that says something.
    pub fn wrote(&self, name: &str) -> Res<String> {
        let path = self.inside(name);
        let mut text = String::new();
        eventually(&format!("the program writes {name}"), || {
            text = fs::read_to_string(&path).unwrap_or_default();
            Ok(text.ends_with('\n'))
        })?;
        Ok(text.trim_end().to_owned())
    }

    /// A terminal whose shell has a script `./go` for the command: the pid of the runtime is in `pid`.
    pub fn screen(&self) -> Res<Screen> {
        use std::os::unix::fs::PermissionsExt;
        let quoted: Vec<String> = self.line.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        let go = self.dir.join("go");
        fs::write(&go, format!("#!/bin/dash\necho $$ > pid\nexec {}\n", quoted.join(" ")))?;
        fs::set_permissions(&go, fs::Permissions::from_mode(0o755))?;
        Screen::open(self.cx, &self.dir)
    }

    /// The terminal, the runtime started on it and its program in the foreground: it has said a word.
    pub fn play(&self, word: &str) -> Res<Screen> {
        let screen = self.screen()?;
        screen.enters(GO)?;
        screen.shows(word)?;
        Ok(screen)
    }

    /// The runtime that `./go` became.
    pub fn pid(&self) -> Res<i32> {
        let text = fs::read_to_string(self.dir.join("pid")).context("the pid of the runtime")?;
        text.trim().parse().context("the pid of the runtime")
    }

    /// Waits until the runtime has ended, by itself.
    pub fn ends(&self) -> Res {
        let pid = self.pid()?;
        eventually("the runtime ends", || Ok(!is_there(pid)))
    }

    pub fn runs(&self) -> Res {
        match is_there(self.pid()?) {
            true => Ok(()),
            false => broken("the runtime has ended"),
        }
    }
}

/// What is typed in the outer shell: the status comes as `status=N.`, which the line itself does not say.
pub const GO: &str = "./go; echo status=$?.";

/// Not a zombie either.
pub fn is_there(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Processor time of a process so far, in clock ticks of 10 ms.
pub fn ticks(pid: i32) -> Res<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context(format!("stat of {pid}"))?;
    let rest: Vec<&str> = stat.rsplit_once(')').unwrap_or_default().1.split_whitespace().collect();
    let number = |n: usize| rest.get(n).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    Ok(number(11) + number(12))
}
