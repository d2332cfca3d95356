//! `exec`: one more process in a container.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Parser;

use crate::config::Process;
use crate::config::exec::Overrides;
use crate::config::{Config, IdMaps};
use crate::container::exec::{self, Target, User};
use crate::error::{Call, Context, Error, Result};
use crate::host::Host;
use crate::launch::exec::{Order, Running};
use crate::launch::foreground::{Signals, supervise};
use crate::launch::spawn::HandOver;
use crate::plan::{self, Console, Request, Start};
use crate::state::record::Record;

use super::Options;
use super::bundle;

/// Run another program in a container.
#[derive(Debug, Parser)]
#[command(name = "exec")]
pub(super) struct Arguments {
    /// The process as JSON, in place of the other options
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// Return when the program runs
    #[arg(long, short)]
    detach: bool,
    /// Write the pid of the process to this file
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Socket that gets the master of the process's terminal
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Set an environment variable: NAME=value
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// User and group: by number, or by name in the container
    #[arg(long, short, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// One more group, by number
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// The program can gain no privileges
    #[arg(long)]
    no_new_privs: bool,
    /// One more capability
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// Pass this many more fds, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Cgroup below the container's, for all controllers or (CONTROLLER[,CONTROLLER]:PATH) some
    #[arg(long, value_name = "PATH")]
    cgroup: Vec<String>,
    /// Run in a paused container too
    #[arg(long)]
    ignore_paused: bool,
    /// The container's name
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// runc's own failures end with this; others are the program's.
const FAILED: i32 = 255;

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let id = arguments.id.clone();
    match exec(&arguments, options).context(|| bundle::name("exec", &id)) {
        Ok(status) => Ok(status),
        Err(error) => {
            crate::log::error(&crate::host::cause::explain(error));
            Ok(FAILED)
        }
    }
}

fn exec(arguments: &Arguments, options: &Options) -> Result<i32> {
    let (target, init) = exec::enter(&options.store(), &arguments.id, arguments.ignore_paused)?;
    // with the init end its namespaces, its cgroup and the state: whatever was missed then, this is why
    let why = |error| if target.init.runs() { error } else { Error::new("container not running") };
    run(arguments, options, &target, init).map_err(why)
}

fn run(arguments: &Arguments, options: &Options, target: &Target, init: OwnedFd) -> Result<i32> {
    let record = &target.record;
    let mut config = Config::parse(&target.entry.config()?)?;
    if record.mapped {
        config = config.mapped(IdMaps::default())?;
    }
    let traced = config.process.may_trace();
    let process = process(arguments, config.process.clone(), record)?;
    let config = config.for_exec(process)?;
    let placement = exec::placement(record, &arguments.cgroup)?;
    let wants_lsm = config.process.apparmor_profile.is_some() || config.process.selinux_label.is_some();
    let host = Host::probe_for_exec(wants_lsm)?;
    let request = Request { traced, rootless: options.rootless(&host), ..request(arguments, record, &config)? };
    let plan = plan::exec::exec(&config, &host, &request, placement)?;
    bundle::warn(&plan);
    let signals = if arguments.detach { None } else { Some(Signals::block()?) };
    let hand_over = HandOver { pid_file: arguments.pid_file.clone(), pidfd_socket: arguments.pidfd_socket.clone() };
    let order = Order { target, config: &config, plan: &plan, hand_over };
    let Running { child, console } = crate::launch::exec::exec(&order, init)?;
    match signals {
        Some(signals) => supervise(&child, &signals, console, None),
        None => Ok(0),
    }
}

/// `--process`, or the container's own with what the options change.
fn process(arguments: &Arguments, of_container: Process, record: &Record) -> Result<Process> {
    if let Some(path) = &arguments.process {
        let mut warnings = Vec::new();
        let mut parse = || Process::parse(&std::fs::read(path).call(|| "read".to_owned())?, &mut warnings);
        let process = parse().map_err(|error| error.path(path)).context(|| format!("read {}", path.display()))?;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        return Ok(process);
    }
    if arguments.command.is_empty() {
        return Err(Error::new("a program to run is wanted, or --process").hint("see --help"));
    }
    let user = arguments.user.as_deref().map(|user| User::find(user, record)).transpose()?.unwrap_or_default();
    of_container.with(&Overrides {
        args: arguments.command.clone(),
        cwd: arguments.cwd.clone(),
        env: arguments.env.clone(),
        uid: user.uid,
        gid: user.gid,
        additional_gids: arguments.additional_gids.clone(),
        terminal: arguments.tty,
        no_new_privileges: arguments.no_new_privs,
        apparmor_profile: arguments.apparmor.clone(),
        selinux_label: arguments.process_label.clone(),
        capabilities: arguments.cap.clone(),
    })
}

fn request(arguments: &Arguments, record: &Record, config: &Config) -> Result<Request> {
    let console = match (&arguments.console_socket, config.process.terminal) {
        (Some(socket), _) => Console::Socket(socket.clone()),
        (None, true) if !arguments.detach => Console::Relay,
        _ => Console::None,
    };
    Ok(Request {
        id: record.id.clone(),
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        start: Start::Now,
        console,
        no_new_keyring: record.no_new_keyring,
        preserve_fds: bundle::preserved(arguments.preserve_fds, 0)?,
        ..Request::default()
    })
}
