//! The command `start`: the shim of a container's pod, running when it returns.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ferrun::error::{Call, Error, Result};
use serde::Deserialize;

use crate::bootstrap::{Asked, answer};
use crate::flags::Flags;
use crate::options::Options;
use crate::socket::{self, Socket};

/// Who shares a shim: those with the same value of the first of these annotations that there is.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// The environment by which the daemon learns where events go.
pub(crate) const EVENTS: &str = "TTRPC_ADDRESS";

#[derive(Deserialize)]
struct Spec {
    /// None: there are none, or null, as Go reads it.
    annotations: Option<BTreeMap<String, String>>,
}

/// The answer for containerd. The bundle is the working directory.
pub(crate) fn start(flags: &Flags) -> Result<Vec<u8>> {
    let limit = std::env::var("MAX_SHIM_VERSION").ok();
    let asked = Asked::parse(&crate::stdin()?, flags, limit.as_deref())?;
    let options = Options::parse(asked.options.as_ref())?;
    let directory = asked.socket_dir.as_deref().unwrap_or(socket::DIRECTORY);
    let path = socket::path(Path::new(directory), &flags.address, &flags.namespace, &group(&flags.id)?);
    let address = format!("{}{}", socket::SCHEME, path.display());
    if let Socket::New(listener) = socket::claim(&path)? {
        let mut daemon = launch(flags, &asked, &path, listener).inspect_err(|_| socket::remove(&path))?;
        if let Err(error) = settle(&daemon, &options, &address) {
            let _ = daemon.kill();
            let _ = daemon.wait();
            socket::remove(&path);
            return Err(error);
        }
    } else {
        write_address(&address)?;
    }
    Ok(answer(asked.dialect, &address))
}

fn group(id: &str) -> Result<String> {
    let text = std::fs::read("config.json").call(|| "read config.json".to_owned())?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|error| Error::new(format!("config.json: {error}")))?;
    let annotations = spec.annotations.unwrap_or_default();
    let named = GROUPS.iter().find_map(|group| annotations.get(*group));
    Ok(named.map_or(id, String::as_str).to_owned())
}

fn launch(flags: &Flags, asked: &Asked, path: &Path, listener: OwnedFd) -> Result<Child> {
    if std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()) {
        crate::sys::own_core_group().call(|| "prctl PR_SCHED_CORE".to_owned())?;
    }
    let program = std::env::current_exe().call(|| "read /proc/self/exe".to_owned())?;
    #[expect(clippy::disallowed_methods, reason = "this program itself")]
    let mut command = Command::new(program);
    command.args(["-namespace", &flags.namespace, "-id", &flags.id, "-address", &flags.address]);
    command.arg("-socket").arg(path);
    if asked.debug || flags.debug {
        command.arg("-debug");
    }
    if let Some(events) = &asked.events {
        command.env(EVENTS, events);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    crate::sys::pass(&mut command, vec![listener]);
    command.spawn().call(|| "start the shim".to_owned())
}

/// What the daemon needs and cannot do itself as well: it must not answer before.
fn settle(daemon: &Child, options: &Options, address: &str) -> Result<()> {
    write_address(address)?;
    let pid = daemon.id();
    if !options.shim_cgroup.is_empty() {
        enter_cgroup(pid, &options.shim_cgroup)?;
    }
    // rather the shim than containerd, and rather a container than the shim
    let read = |path: String| std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<i32>().ok());
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let score = read(format!("/proc/{parent}/oom_score_adj")).unwrap_or(0).saturating_add(1).min(1000);
    #[expect(clippy::disallowed_methods, reason = "the host's /proc")]
    let written = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
    match written {
        // one that has been lowered is not ours to lower: without CAP_SYS_RESOURCE the shim keeps what it has
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        written => written.call(|| format!("write /proc/{pid}/oom_score_adj")),
    }
}

/// For containerd 1.x when it restarts.
fn write_address(address: &str) -> Result<()> {
    crate::files::replace(Path::new("address"), address.as_bytes())
}

/// Every hierarchy that has the cgroup.
fn enter_cgroup(pid: u32, path: &str) -> Result<()> {
    let path = path.trim_start_matches('/');
    let mut entered = false;
    for hierarchy in hierarchies()? {
        let procs = hierarchy.join(path).join("cgroup.procs");
        #[expect(clippy::disallowed_methods, reason = "the host's cgroups")]
        match std::fs::write(&procs, pid.to_string()) {
            Ok(()) => entered = true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::os(format!("write {}", procs.display()), error)),
        }
    }
    if entered { Ok(()) } else { Err(Error::new(format!("ShimCgroup {path}: there is no such cgroup"))) }
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    use ferrun::host::Cgroups;
    Ok(match ferrun::host::Host::probe(false)?.cgroups {
        Cgroups::V1 { hierarchies } => hierarchies.into_iter().map(|hierarchy| hierarchy.mount).collect(),
        _ => vec![PathBuf::from(ferrun::host::CGROUP_ROOT)],
    })
}
