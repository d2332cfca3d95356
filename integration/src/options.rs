//! What the command line says, handed down the chain of processes as JSON in one
//! environment variable.

use crate::systemd;
use crate::user;
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const VARIABLE: &str = "FERRUN_INTEGRATION";

pub const USAGE: &str = "\
usage: ferrun-integration [--runtime PATH] [--filter SUBSTR]... [--list] [--jobs N]
                          [--driver D] [--cycles N] [--parallel M] [--limit SECONDS]
                          [--long] [--deny RULES] [--userns] [--as-user] [--table FILE]
                          [--verbose] [--strict]

  --runtime PATH    the runtime to test (default: the repository's release ferrun)
  --filter SUBSTR   only cases whose name contains it (may be repeated: any of them);
                    with a ! before it: none whose name contains it
  --driver D        cgroupfs (default), or systemd: the runtime gets --systemd-cgroup and asks
                    the systemd of this machine for scopes
  --list            print the names of the cases
  --jobs N          that many sandboxes beside each other (default 1)
  --cycles N        rounds of stress::cycles (default 20)
  --parallel M      containers of stress::parallel (default 10)
  --limit SECONDS   time for one case (default 120)
  --long            the races of security:: last a minute each, or 10,000 containers
  --userns          every bundle has a user namespace of its own, unless the case says otherwise
  --as-user         the same, and an ordinary user runs the runtime
  --deny RULES      the runtime runs under a filter: `openat2=ENOSYS,clone3=EPERM`
  --table FILE      write the results into a table: a line for each case, a column for each runtime
  --verbose         print the time of each case and the log of the failed ones
  --strict          no case is left out for what is known of a peer, and none is tried again

A case that fails is tried again alone, twice; if it passes then it is listed as `unsteady`, and more than five of
these fail the run. Exit status: 0 all passed, 1 some did not, 2 the run itself broke.";

#[derive(Clone, Default)]
pub struct Options {
    pub runtime: PathBuf,
    /// Its file. With `--as-user` what is called is a script before it.
    pub program: PathBuf,
    /// First word of `--version`: runc, crun, ferrun, youki.
    pub kind: String,
    /// The version, for cases about things that came later.
    pub version: String,
    pub filters: Vec<String>,
    /// Who makes the cgroups: the runtime itself, or systemd at its bidding.
    pub driver: Driver,
    pub list: bool,
    pub jobs: usize,
    pub job: usize,
    pub cycles: u64,
    pub parallel: u64,
    pub limit: u64,
    pub long: bool,
    /// Every bundle has a user namespace.
    pub userns: bool,
    /// An ordinary user runs the runtime; `userns` is set too.
    pub as_user: bool,
    /// The ids of this user namespace: all of them on a host, a single one below `unshare -Ur`.
    pub ids: u64,
    /// Nobody here may make a cgroup.
    pub no_cgroups: bool,
    /// Rules for `deny`; empty: none.
    pub deny: String,
    /// Of the outermost process only.
    pub table: Option<PathBuf>,
    pub verbose: bool,
    pub strict: bool,
    /// A directory of this run's own; the sandbox mounts a tmpfs on it.
    pub base: PathBuf,
    /// Part of every container id and cgroup name of this run.
    pub tag: String,
    /// The cgroup (of each hierarchy) in which every case gets a parent of its own:
    /// empty for the root.
    pub cgroups: String,
    /// The cgroup of the manager of the user of `--as-user`: empty where the user has none.
    pub session: String,
    /// The slice of all scopes of this run.
    pub slice: String,
    /// The pid of the sandbox's init: all that the cases start descends from it.
    pub init: i32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Driver {
    #[default]
    Cgroupfs,
    Systemd,
}

impl Driver {
    fn parse(word: &str) -> Result<Self, String> {
        match word {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            _ => Err(format!("--driver {word}: cgroupfs or systemd")),
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }
}

impl Options {
    pub fn parse(args: &[String]) -> Result<Self, String> {
        let mut o = Self { jobs: 1, cycles: 20, parallel: 10, limit: 120, ..Self::default() };
        let mut it = args.iter();
        while let Some(arg) = it.next() {
            // --name=value and --name value are the same.
            let (name, mut inline) = match arg.split_once('=') {
                Some((n, v)) => (n, Some(v.to_owned())),
                None => (arg.as_str(), None),
            };
            let mut value = || inline.take().or_else(|| it.next().cloned()).ok_or(format!("{name} needs a value"));
            match name {
                "--runtime" => o.runtime = PathBuf::from(value()?),
                "--filter" => o.filters.push(value()?),
                "--driver" => o.driver = Driver::parse(&value()?)?,
                "--list" => o.list = true,
                "--long" => o.long = true,
                "--userns" => o.userns = true,
                "--as-user" => (o.userns, o.as_user) = (true, true),
                "--deny" => o.deny = value()?,
                "--table" => o.table = Some(PathBuf::from(value()?)),
                "--verbose" => o.verbose = true,
                "--strict" => o.strict = true,
                "--jobs" => o.jobs = number(&value()?)?.max(1) as usize,
                "--cycles" => o.cycles = number(&value()?)?,
                "--parallel" => o.parallel = number(&value()?)?,
                "--limit" => o.limit = number(&value()?)?,
                _ => return Err(format!("{arg}?\n{USAGE}")),
            }
        }
        Ok(o)
    }

    pub fn hand_to(&self, command: &mut Command) {
        let v = json!({
            "runtime": self.runtime, "program": self.program, "kind": self.kind, "version": self.version,
            "filters": self.filters, "jobs": self.jobs, "job": self.job, "cycles": self.cycles, "parallel": self.parallel,
            "limit": self.limit, "long": self.long, "userns": self.userns, "as_user": self.as_user,
            "ids": self.ids, "no_cgroups": self.no_cgroups, "deny": self.deny, "verbose": self.verbose,
            "strict": self.strict, "base": self.base, "tag": self.tag,
            "driver": self.driver.name(), "cgroups": self.cgroups, "session": self.session,
            "slice": self.slice, "init": self.init,
        });
        command.env(VARIABLE, v.to_string());
    }

    pub fn inherited() -> Result<Self, String> {
        let text = std::env::var(VARIABLE).map_err(|_| format!("{VARIABLE} is not set"))?;
        let v: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        let s = |k: &str| v[k].as_str().unwrap_or_default().to_owned();
        let n = |k: &str| v[k].as_u64().unwrap_or_default();
        if !s("session").is_empty() {
            systemd::ask_the_users(s("session"));
        }
        Ok(Self {
            runtime: s("runtime").into(),
            program: s("program").into(),
            kind: s("kind"),
            version: s("version"),
            filters: v["filters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|f| f.as_str().map(str::to_owned))
                .collect(),
            list: false,
            jobs: n("jobs") as usize,
            job: n("job") as usize,
            cycles: n("cycles"),
            parallel: n("parallel"),
            limit: n("limit"),
            long: v["long"] == true,
            userns: v["userns"] == true,
            as_user: v["as_user"] == true,
            ids: n("ids"),
            no_cgroups: v["no_cgroups"] == true,
            deny: s("deny"),
            table: None,
            verbose: v["verbose"] == true,
            strict: v["strict"] == true,
            base: s("base").into(),
            tag: s("tag"),
            driver: Driver::parse(&s("driver"))?,
            cgroups: s("cgroups"),
            session: s("session"),
            slice: s("slice"),
            init: n("init") as i32,
        })
    }

    /// All of it runs in a user namespace.
    pub fn is_nested(&self) -> bool {
        self.ids < user::ALL_IDS
    }

    pub fn systemd(&self) -> bool {
        self.driver == Driver::Systemd
    }

    /// What stands before every verb of the runtime.
    pub fn globals(&self, root: &Path) -> Vec<OsString> {
        let mut all = vec!["--root".into(), root.into()];
        if self.systemd() {
            all.push("--systemd-cgroup".into());
        }
        all
    }

    /// A case's own parent: cgroups that it makes or names itself go there.
    pub fn cgroup_parent(&self) -> String {
        format!("{}/{}", self.cgroups, self.tag)
    }

    pub fn wants(&self, name: &str) -> bool {
        let (without, with): (Vec<_>, Vec<_>) = self.filters.iter().partition(|filter| filter.starts_with('!'));
        let any = |filters: &[&String]| filters.iter().any(|filter| name.contains(filter.trim_start_matches('!')));
        (with.is_empty() || any(&with)) && !any(&without)
    }
}

fn number(s: &str) -> Result<u64, String> {
    s.parse().map_err(|_| format!("{s}: not a number"))
}
