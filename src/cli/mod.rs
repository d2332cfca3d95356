//! The command line: global options, then one verb, each in a file of its own.
//!
//! It is parsed in two stages, so that a command pays only for its own parser.

mod bundle;
mod create;
mod delete;
mod events;
mod exec;
pub mod features;
mod kill;
mod list;
pub mod numbers;
mod pause;
mod plan;
mod ps;
mod resume;
mod run;
pub mod spec;
mod start;
mod state;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

use crate::error::{Error, Result};
use crate::host::{Host, cause, is_nested};
use crate::launch::seal;
use crate::log;
use crate::plan::Manager;
use crate::state::store::Store;
use crate::sys::signal;

const COMMANDS: &str = "Commands:
  create    create a container: its process waits for start
  start     start the user's program in a created container
  run       create and start a container
  exec      run another program in a container
  state     show the state of a container as JSON
  list      list the containers
  kill      send a signal to a container
  delete    delete a stopped container
  pause     suspend all processes of a container
  resume    let them go on
  update    change the limits of a container
  ps        show the processes of a container
  events    show what a container uses, and when it runs out of memory
  spec      write a config.json to begin with
  features  show what this program can do, as JSON
  plan      show what create would do, without doing it";

/// An OCI container runtime.
#[derive(Debug, Parser)]
#[command(name = "ferrun", disable_version_flag = true, after_help = COMMANDS)]
struct Global {
    #[command(flatten)]
    options: Options,
    /// The command, and its own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The global options: runc(8).
#[derive(Debug, Args)]
struct Options {
    /// Directory for the state of containers [default: /run/ferrun, or $XDG_RUNTIME_DIR/ferrun]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Write the log to this file instead of stderr
    #[arg(long, value_name = "FILE")]
    log: Option<OsString>,
    /// Format of the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// Least level that is logged: error, warning, info or debug
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<log::Level>,
    /// Log at level debug
    #[arg(long)]
    debug: bool,
    /// Use systemd to make cgroups
    #[arg(long, short = 's')]
    systemd_cgroup: bool,
    /// Who makes cgroups
    #[arg(long, value_name = "MANAGER", value_enum)]
    cgroup_manager: Option<CgroupManager>,
    /// Whether the caller is unprivileged: true, false or auto
    #[arg(long, value_name = "BOOL", default_value = "auto", value_parser = ["true", "false", "auto"])]
    rootless: String,
    /// Print the version
    #[arg(long, short = 'v')]
    version: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CgroupManager {
    Cgroupfs,
    Systemd,
    Disabled,
}

impl Options {
    fn store(&self) -> Store {
        let runtime_dir = || std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
        // root of a user namespace is no root of /run, unless it is a whole system of its own
        let ordinary = || {
            let root = rustix::process::geteuid().is_root();
            !root || std::env::var_os("USER").is_none_or(|user| user != "root") && is_nested()
        };
        let default = || runtime_dir().filter(|_| ordinary()).unwrap_or_else(|| "/run".into()).join("ferrun");
        Store::new(self.root.clone().unwrap_or_else(default))
    }

    fn log(&self) -> log::Options {
        let level = if self.debug { log::Level::Debug } else { self.log_level.unwrap_or_default() };
        log::Options { destination: self.log.clone().map(PathBuf::from), format: self.log_format, level }
    }

    /// Whether to do without what only the machine's root may do.
    fn rootless(&self, host: &Host) -> bool {
        match self.rootless.as_str() {
            "true" => true,
            "false" => false,
            _ => host.identity.nested || !host.is_privileged(),
        }
    }

    /// `--cgroup-manager` counts before `--systemd-cgroup`.
    fn manager(&self) -> Manager {
        match self.cgroup_manager {
            Some(CgroupManager::Disabled) => Manager::Disabled,
            Some(CgroupManager::Cgroupfs) => Manager::Cgroupfs,
            Some(CgroupManager::Systemd) => Manager::Systemd,
            None if self.systemd_cgroup => Manager::Systemd,
            None => Manager::Cgroupfs,
        }
    }
}

/// The whole program: its exit status.
pub fn main(arguments: Vec<OsString>) -> i32 {
    guard_stdio();
    match execute(&arguments) {
        Ok(status) => status,
        Err(error) => {
            log::error(&cause::explain(error));
            1
        }
    }
}

/// A standard fd that the caller closed would be taken by the next file opened, and the container would get
/// that one.
fn guard_stdio() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::fs::{Mode, OFlags, open};
    use rustix::stdio::{stderr, stdin, stdout};
    let mut fds = [stdin(), stdout(), stderr()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    for _ in fds.iter().filter(|fd| fd.revents().contains(PollFlags::NVAL)) {
        // takes the lowest number that is free
        if let Ok(null) = open("/dev/null", OFlags::RDWR, Mode::empty()) {
            std::mem::forget(null);
        }
    }
}

fn execute(arguments: &[OsString]) -> Result<i32> {
    // looked for in all arguments: sealing once too often does no harm
    if arguments.iter().any(|argument| argument == "create" || argument == "run" || argument == "exec") {
        seal::seal(arguments)?;
    }
    signal::wait_for_children();
    let global = match Global::try_parse_from(arguments) {
        Ok(global) => global,
        Err(error) => return usage(error),
    };
    let options = global.options;
    if options.version {
        print(&version())?;
        return Ok(0);
    }
    log::init(&options.log())?;
    let (name, rest) = match global.command.split_first() {
        Some((name, _)) => (name.to_string_lossy().into_owned(), global.command.clone()),
        None => return usage(Global::try_parse_from(["ferrun", "--help"]).err().unwrap_or_else(no_command)),
    };
    match name.as_str() {
        "create" => verb(rest, &options, create::execute),
        "start" => verb(rest, &options, start::execute),
        "run" => verb(rest, &options, run::execute),
        "exec" => verb(rest, &options, exec::execute),
        "state" => verb(rest, &options, state::execute),
        "list" => verb(rest, &options, list::execute),
        "kill" => verb(rest, &options, kill::execute),
        "delete" => verb(rest, &options, delete::execute),
        "pause" => verb(rest, &options, pause::execute),
        "resume" => verb(rest, &options, resume::execute),
        "update" => verb(rest, &options, update::execute),
        "ps" => verb(ps::fence(rest), &options, ps::execute),
        "events" => verb(rest, &options, events::execute),
        "spec" => verb(rest, &options, spec_command),
        "features" => verb(rest, &options, features_command),
        "plan" => verb(rest, &options, plan::execute),
        other if other.starts_with('-') => Err(Error::new(format!("unknown option {other:?}")).hint("see --help")),
        other => Err(Error::new(format!("unknown command {other:?}")).hint("ferrun --help lists the commands")),
    }
}

fn no_command() -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::MissingSubcommand, "a command is wanted\n")
}

/// Parses the rest of the command line for one verb.
fn verb<A: Parser>(rest: Vec<OsString>, options: &Options, execute: fn(A, &Options) -> Result<i32>) -> Result<i32> {
    match A::try_parse_from(rest) {
        Ok(arguments) => execute(arguments, options),
        Err(error) => usage(error),
    }
}

/// Help that was asked for is printed; the rest is one line.
fn usage(error: clap::Error) -> Result<i32> {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    let text = error.render().to_string();
    if matches!(error.kind(), DisplayHelp | DisplayVersion) {
        print(&text)?;
        return Ok(0);
    }
    // the names of what is missing stand on lines of their own, up to an empty one
    let words: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    Err(Error::new(words.join(" ").trim_start_matches("error: ")).hint("see --help"))
}

fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    // nobody flushes at the end of a program without the standard library's start-up
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Error::os("write to stdout", error))
}

/// The three lines that callers parse: contracts.md, runc's.
fn version() -> String {
    format!("ferrun version {}\ncommit: {}\nspec: {}\n", features::VERSION, features::COMMIT, features::OCI_VERSION_MAX)
}

/// Write a config.json to begin with.
#[derive(Debug, Parser)]
#[command(name = "spec")]
struct SpecArguments {
    /// Directory to write it to
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// For a caller without privileges
    #[arg(long)]
    rootless: bool,
}

fn spec_command(arguments: SpecArguments, _: &Options) -> Result<i32> {
    spec::write(&arguments.bundle, arguments.rootless)?;
    Ok(0)
}

/// Show what this program can do, as JSON.
#[derive(Debug, Parser)]
#[command(name = "features")]
struct FeaturesArguments {}

fn features_command(_: FeaturesArguments, _: &Options) -> Result<i32> {
    print(&features::text()?)?;
    Ok(0)
}
