//! From a bundle directory and options to a plan: what create, run and plan share.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cgroup;
use crate::config::{Config, IdMapping, IdMaps, parse_map};
use crate::error::{Call, Context, Error, Result};
use crate::host::subids::{self, Range};
use crate::host::{Cgroups, Host, Identity};
use crate::launch::spawn::HandOver;
use crate::plan::{self, Console, Manager, Plan, Request, Start};
use crate::sys::exec;

use super::Options;

/// The options of create and run: runc-create(8).
#[derive(Debug, Args)]
pub(super) struct BundleOptions {
    /// The bundle directory
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Socket that gets the master of the container's terminal
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Socket that gets a pidfd of the container's process
    #[arg(long, value_name = "SOCKET")]
    pub pidfd_socket: Option<PathBuf>,
    /// Write the pid of the container's process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting to it (for an initramfs)
    #[arg(long)]
    pub no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass this many more fds, from 3 on, to the container
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub preserve_fds: u32,
}

impl BundleOptions {
    pub(super) fn hand_over(&self) -> HandOver {
        HandOver { pid_file: self.pid_file.clone(), pidfd_socket: self.pidfd_socket.clone() }
    }
}

/// A bundle, read once.
pub(super) struct Bundle {
    pub config: Config,
    pub config_json: Vec<u8>,
    pub request: Request,
    pub plan: Plan,
}

const COUNTED: &str = "--preserve-fds and LISTEN_FDS count fds that the caller opened, from 3 on";

/// More fds than a process may have cannot be passed.
const MAX_PRESERVED: u32 = 1 << 20;

/// Reads and plans. Nothing is touched.
pub(super) fn read(
    id: &str,
    arguments: &BundleOptions,
    options: &Options,
    start: Start,
    relay: bool,
) -> Result<Bundle> {
    crate::state::id::check(id)?;
    let bundle = std::path::absolute(&arguments.bundle).call(|| "getcwd".to_owned())?;
    let config_json = read_config(&bundle)?;
    let mut config = Config::parse(&config_json)?;
    let wants_lsm = config.process.apparmor_profile.is_some()
        || config.process.selinux_label.is_some()
        || config.mount_label.is_some();
    let host = Host::probe(wants_lsm)?;
    let rootless = options.rootless(&host);
    let mapped = rootless && !host.is_privileged() && config.namespaces.user.is_host();
    if host.identity.nested && config.namespaces.user.is_host() {
        config = config
            .within(&maps_of_this_process()?)
            .map_err(|error| error.hint("config.json has no user namespace, and the caller's own has no such id"))?;
    }
    if mapped {
        config = config.mapped(own_ids(&host)).map_err(|error| {
            error.hint("config.json has no user namespace, and an unprivileged caller gets one of their own ids")
        })?;
    }
    resolve_sources(&mut config, &bundle);
    let rootfs = bundle.join(&config.root.path);
    let rootfs = real_directory(&rootfs)
        .map_err(|error| error.path(&rootfs).at("/root/path"))
        .context(|| format!("find the root file system {}", rootfs.display()))?;
    let (env, listen) = listen_fds();
    let preserve_fds = preserved(arguments.preserve_fds, listen)?;
    let console = match (&arguments.console_socket, config.process.terminal) {
        (Some(socket), _) => Console::Socket(socket.clone()),
        (None, true) if relay => Console::Relay,
        _ => Console::None,
    };
    tracing::debug!("bundle {}: root {}", bundle.display(), rootfs.display());
    let notify = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
    let store = options.store();
    let request = Request {
        id: id.to_owned(),
        bundle,
        rootfs,
        start,
        console,
        no_pivot: arguments.no_pivot,
        no_new_keyring: arguments.no_new_keyring,
        preserve_fds,
        env,
        notify: notify.map(|_| store.root().join(id).join(crate::state::store::NOTIFY)),
        manager: manager(&config, &host, options, id, rootless),
        rootless,
        mapped,
        traced: false,
    };
    let plan = plan::create::create(&config, &host, &request)?;
    Ok(Bundle { config, config_json, request, plan })
}

fn maps_of_this_process() -> Result<IdMaps> {
    let read = |path: &str| -> Result<Vec<IdMapping>> {
        let text = crate::sys::proc::read(Path::new(path)).call(|| format!("read {path}"))?;
        Ok(parse_map(&text))
    };
    Ok(IdMaps { uids: read("/proc/self/uid_map")?, gids: read("/proc/self/gid_map")? })
}

/// An unprivileged caller's own id is the container's root; the rest is what /etc/subuid and /etc/subgid give.
fn own_ids(host: &Host) -> IdMaps {
    let Identity { uid, gid, .. } = host.identity;
    let list = |own: u32, more: &[Range]| {
        let mut list = vec![IdMapping { container_id: 0, host_id: own, size: 1 }];
        for range in more {
            let next = list.last().map_or(0, |last| last.container_id.saturating_add(last.size));
            let size = range.size.min(u32::MAX - next);
            list.push(IdMapping { container_id: next, host_id: range.first, size });
        }
        list
    };
    let [uids, gids] = subids::of(uid).unwrap_or_default();
    IdMaps { uids: list(uid, &uids), gids: list(gid, &gids) }
}

/// Who may not make a cgroup goes without, and so does who is in a user namespace to which nobody gave any.
fn manager(config: &Config, host: &Host, options: &Options, id: &str, rootless: bool) -> Manager {
    let asked = options.manager();
    if !rootless || asked != Manager::Cgroupfs {
        return asked;
    }
    if matches!(host.cgroups, Cgroups::None) {
        // the machine's root relies on device rules, whatever --rootless says
        return if host.identity.nested || !host.is_privileged() { Manager::Refused } else { asked };
    }
    let placement = plan::cgroupfs::place(config.cgroups_path.as_deref(), id, host);
    match cgroup::refusal(&placement, &host.cgroups) {
        Some(directory) => {
            tracing::debug!("no cgroup can be made: {} is not this user's to write to", directory.display());
            Manager::Refused
        }
        None => asked,
    }
}

/// Its path without links, as the kernel has it.
fn real_directory(path: &Path) -> Result<PathBuf> {
    use rustix::fs::{CWD, Mode, OFlags, open, readlinkat};
    use std::os::unix::ffi::OsStringExt;
    let fd =
        open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).call(|| "open".to_owned())?;
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let real = readlinkat(CWD, link, Vec::new()).call(|| "readlink".to_owned())?;
    Ok(std::ffi::OsString::from_vec(real.into_bytes()).into())
}

fn read_config(bundle: &Path) -> Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags, open};
    use std::io::Read;
    let path = bundle.join("config.json");
    let read = || {
        let file = open(&path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .call(|| "open".to_owned())?;
        let mut bytes = Vec::with_capacity(32 * 1024);
        // one byte more than is allowed shows that there is more
        let mut limited = std::fs::File::from(file).take(crate::config::load::LIMIT as u64 + 1);
        limited.read_to_end(&mut bytes).call(|| "read".to_owned())?;
        Ok(bytes)
    };
    read().map_err(|error: Error| error.path(&path)).context(|| format!("read {}", path.display()))
}

/// Sources of binds count from the bundle.
fn resolve_sources(config: &mut Config, bundle: &Path) {
    for mount in &mut config.mounts {
        if let crate::config::MountSource::Bind { path, .. } = &mut mount.source
            && path.is_relative()
        {
            *path = bundle.join(&*path);
        }
    }
}

/// LISTEN_FDS (sd_listen_fds(3)), when it is for this process and not for one that left it to us by mistake: the
/// container's environment for it, and how many fds it passes.
fn listen_fds() -> (Vec<String>, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    if number("LISTEN_PID") != Some(std::process::id().into()) {
        return (Vec::new(), 0);
    }
    let listen = number("LISTEN_FDS").unwrap_or(0);
    if listen == 0 {
        return (Vec::new(), 0);
    }
    let names = std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}"));
    let env = [format!("LISTEN_FDS={listen}"), "LISTEN_PID=1".to_owned()].into_iter().chain(names);
    (env.collect(), listen)
}

/// How many fds are passed, from 3 on: those of LISTEN_FDS and then those of `--preserve-fds`.
///
/// # Errors
/// They are too many; the caller has not opened one.
pub(super) fn preserved(asked: u32, listen: u64) -> Result<u32> {
    let count = u64::from(asked).saturating_add(listen);
    let Some(count) = u32::try_from(count).ok().filter(|count| *count <= MAX_PRESERVED) else {
        return Err(Error::new(format!("cannot pass {count} fds: more than {MAX_PRESERVED}")).hint(COUNTED));
    };
    for fd in 3..3 + count as i32 {
        if !exec::is_inherited(fd) {
            return Err(Error::new(format!("fd {fd} is not open, of {count} to be preserved")).hint(COUNTED));
        }
    }
    Ok(count)
}

pub(super) fn warn(plan: &Plan) {
    for warning in &plan.warnings {
        tracing::warn!("{warning}");
    }
    for note in &plan.notes {
        tracing::debug!("{note}");
    }
}

/// What an error is about. An absurd id is cut.
pub(super) fn name(verb: &str, id: &str) -> String {
    let short: String = id.chars().take(80).collect();
    if short.is_empty() { verb.to_owned() } else { format!("{verb} {short}") }
}
