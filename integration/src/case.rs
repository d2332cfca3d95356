//! A case: a name, a body, and what is known about the peers.

use crate::cases;
use crate::cx::Cx;
use crate::options::Options;
use std::process::ExitCode;

pub enum Fail {
    /// The runtime (or the case) is wrong.
    Broken(String),
    /// Cannot be tried here.
    Skip(String),
}

pub type Res<T = ()> = Result<T, Fail>;

impl<E: std::error::Error> From<E> for Fail {
    fn from(e: E) -> Self {
        Self::Broken(e.to_string())
    }
}

pub fn broken<T>(why: impl Into<String>) -> Res<T> {
    Err(Fail::Broken(why.into()))
}

pub fn skip<T>(why: impl Into<String>) -> Res<T> {
    Err(Fail::Skip(why.into()))
}

/// Fails the case with a sentence when the condition does not hold.
#[macro_export]
macro_rules! ensure {
    ($cond:expr, $($why:tt)+) => {{
        let holds: bool = $cond;
        if !holds {
            return $crate::case::broken(format!($($why)+));
        }
    }};
}

/// Fails the case when two things differ; says which and both values.
#[macro_export]
macro_rules! same {
    ($got:expr, $want:expr, $what:expr) => {{
        let (got, want) = (&$got, &$want);
        if got != want {
            return $crate::case::broken(format!("{}: got {got:?}, want {want:?}", $what));
        }
    }};
}

/// A known difference of more than one area.
pub const CRUN_LEAVES: &str = "1.21 on v2 leaves the cgroup of a create that fails";

/// Adds a sentence in front of an error.
pub trait Context<T> {
    fn context(self, what: impl std::fmt::Display) -> Res<T>;
}

impl<T, E: Into<Fail>> Context<T> for Result<T, E> {
    fn context(self, what: impl std::fmt::Display) -> Res<T> {
        self.map_err(|e| match e.into() {
            Fail::Broken(why) => Fail::Broken(format!("{what}: {why}")),
            skip => skip,
        })
    }
}

pub struct Case {
    pub name: String,
    pub body: Box<dyn Fn(&Cx) -> Res>,
    /// Runtimes that are known to differ, and why: a failure there is a skip.
    pub differs: Vec<(&'static str, &'static str)>,
    /// Runtimes that it is for (all when empty), and why.
    pub only: Vec<&'static str>,
    pub only_why: &'static str,
    /// Why it cannot be tried in a user namespace.
    pub without_userns: Option<&'static str>,
    /// A multiple of the usual time limit.
    pub patience: u64,
}

pub fn case(name: impl Into<String>, body: impl Fn(&Cx) -> Res + 'static) -> Case {
    let (name, body) = (name.into(), Box::new(body));
    Case { name, body, differs: Vec::new(), only: Vec::new(), only_why: "", without_userns: None, patience: 1 }
}

impl Case {
    pub fn differs(mut self, kind: &'static str, why: &'static str) -> Self {
        self.differs.push((kind, why));
        self
    }

    pub fn only(mut self, kinds: &[&'static str], why: &'static str) -> Self {
        self.only = kinds.to_vec();
        self.only_why = why;
        self
    }

    /// Left out with `--userns`, and why.
    pub fn without_userns(mut self, why: &'static str) -> Self {
        self.without_userns = Some(why);
        self
    }

    pub fn patience(mut self, times: u64) -> Self {
        self.patience = times;
        self
    }

    pub fn known_difference(&self, kind: &str) -> Option<&'static str> {
        self.differs.iter().find(|(k, _)| *k == kind).map(|(_, why)| *why)
    }
}

/// Exit statuses by which a case process tells the worker how it went; the
/// reason is the last line of its stdout.
pub const OK: u8 = 0;
pub const BROKEN: u8 = 3;
pub const SKIPPED: u8 = 4;

/// `__case NAME DIR`: one case in its own process.
pub fn main(args: &[String]) -> ExitCode {
    let (Some(name), Some(dir)) = (args.first(), args.get(1)) else { return ExitCode::from(2) };
    let options = match Options::inherited() {
        Ok(o) => o,
        Err(e) => {
            println!("{e}");
            return ExitCode::from(2);
        }
    };
    let Some(case) = cases::all().into_iter().find(|c| c.name == *name) else { return ExitCode::from(2) };
    let cx = Cx::new(options, dir.into());
    let fds = open_fds();
    let mut result = (case.body)(&cx);
    let swept = cx.sweep();
    if result.is_ok() {
        result = swept;
    }
    let left = open_fds();
    if result.is_ok() && left > fds {
        result = broken(format!("the case leaks descriptors: {fds} before, {left} after"));
    }
    match result {
        Ok(()) => ExitCode::from(OK),
        Err(Fail::Broken(why)) => {
            println!("{}", why.trim_end());
            ExitCode::from(BROKEN)
        }
        Err(Fail::Skip(why)) => {
            println!("{}", why.trim_end());
            ExitCode::from(SKIPPED)
        }
    }
}

pub fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
