//! What a process is before it is the program: the part of a plan that a container's init and an exec share.

use crate::config::seccomp::Seccomp;
use crate::config::{Capabilities, Config};
use crate::error::Result;
use crate::host::Host;
use crate::seccomp;

use super::step::{self, Asset, Event, HookKind, OomScoreAdj, Setgroups, Step, Tune, TuneEntry};
use super::{Console, Draft, Request, Start, identity, labels};

/// Where the container finds the socket for its notifications.
pub(super) const NOTIFY_DIRECTORY: &str = "/run/ferrun-notify";

/// With `bind` it is the container's /dev/console.
pub(super) fn terminal(draft: &mut Draft, config: &Config, request: &Request, bind: bool) {
    if !config.process.terminal {
        return;
    }
    let socket = match &request.console {
        Console::Socket(path) => Some(draft.asset(Asset::ConsoleSocket { path: path.clone() }, None)),
        _ => None,
    };
    let (size, owner) = (config.process.console_size, config.process.user.uid);
    draft.step_at("/process/terminal", Step::Console(step::Console { socket, size, owner, bind }));
}

/// What the process is before it is the program. The final capabilities are given back when those of the steps
/// still have more.
pub(super) fn attributes(
    draft: &mut Draft,
    config: &Config,
    host: &Host,
    request: &Request,
    setgroups: Setgroups,
) -> Option<Capabilities> {
    let process = &config.process;
    labels::keyring(draft, config, host, request);
    if let Some(policy) = &config.memory_policy {
        draft.step_at("/linux/memoryPolicy", Step::MemoryPolicy(policy.clone()));
    }
    if let Some(domain) = config.personality {
        draft.step_at("/linux/personality", Step::Personality { domain });
    }
    draft.step_at("/process/user/umask", Step::Umask { mask: process.user.umask.unwrap_or(0o022) });
    labels::process(draft, config, host);
    if process.no_new_privileges {
        draft.step_at("/process/noNewPrivileges", Step::NoNewPrivileges);
    }
    let privileged = filter(config).is_some() && !process.no_new_privileges;
    let widened = identity::plan(draft, config, host, setgroups, privileged);
    if !process.env.iter().any(|variable| variable.starts_with("HOME=")) {
        draft.step_at("/process/user/uid", Step::Home { uid: process.user.uid });
    }
    widened
}

pub(super) fn filter(config: &Config) -> Option<&Seccomp> {
    config.seccomp.as_ref().filter(|profile| profile.restricts())
}

/// As late as can be, so that as few calls of our own as possible pass the container's filter: it may refuse
/// them. Without no_new_privs loading needs CAP_SYS_ADMIN, which only the capset after it takes away.
pub(super) fn seccomp(draft: &mut Draft, config: &Config, widened: Option<Capabilities>) -> Result<()> {
    if let Some(profile) = filter(config) {
        let program = seccomp::compile(profile)?;
        if !program.unknown.is_empty() {
            draft.notes.push(format!("seccomp: no such system call: {}", program.unknown.join(", ")));
        }
        let step = step::Seccomp { program: program.instructions, flags: profile.flags };
        draft.step_at("/linux/seccomp", Step::Seccomp(step));
    }
    if let Some(capabilities) = widened {
        draft.step_at("/process/capabilities", Step::DropCapabilities(capabilities));
    }
    Ok(())
}

pub(super) fn last_steps(
    draft: &mut Draft,
    config: &Config,
    request: &Request,
    widened: Option<Capabilities>,
) -> Result<()> {
    let process = &config.process;
    let name = process.args.first().cloned().unwrap_or_default();
    let path = process.env.iter().find_map(|variable| variable.strip_prefix("PATH=")).map(str::to_owned);
    draft.step_at("/process/args/0", Step::FindProgram { name, path });
    let fifo = (request.start == Start::Later).then(|| {
        draft.asset(Asset::FaultFile, None);
        draft.asset(Asset::StartFifo, None)
    });
    draft.step(Step::CloseFds { preserve: request.preserve_fds });
    // the parent, which hands the listener over, is there until we are ready
    let listens = filter(config).is_some_and(|profile| profile.listener.is_some());
    if listens {
        seccomp(draft, config, widened)?;
    }
    draft.step(Step::Barrier { event: Event::Ready });
    if let Some(fifo) = fifo {
        draft.step(Step::AwaitStart { fifo });
    }
    let hooks = &config.hooks.start_container;
    if !hooks.is_empty() {
        draft.step_at("/hooks/startContainer", Step::Hooks { kind: HookKind::StartContainer, hooks: hooks.clone() });
    }
    if let Some(rules) = &config.landlock {
        draft.step_at("/annotations", Step::Landlock(rules.clone()));
    }
    if !listens {
        seccomp(draft, config, widened)?;
    }
    let mut added = request.env.clone();
    if request.notify.is_some() && !config.namespaces.mount.is_host() {
        added.push(format!("NOTIFY_SOCKET={NOTIFY_DIRECTORY}/notify.sock"));
    }
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let replaced = |variable: &&String| added.iter().any(|new| name(new) == name(variable));
    let mut env: Vec<String> = process.env.iter().filter(|variable| !replaced(variable)).cloned().collect();
    env.extend(added.iter().cloned());
    draft.step_at("/process/args", Step::Exec { args: process.args.clone(), env });
    Ok(())
}

/// What a parent without privileges cannot do: its child's files of /proc are root's as soon as it is not dumpable.
pub(super) fn own_tunes(draft: &mut Draft, config: &Config, host: &Host, request: &Request) {
    if let Some(value) = config.process.oom_score_adj.filter(|_| !host.is_privileged()) {
        let score = OomScoreAdj { value, or_warn: request.rootless };
        draft.step_at("/process/oomScoreAdj", Step::OomScoreAdj(score));
    }
}

/// By pid: the score at once, the scheduler last (a deadline task can neither fork nor be moved).
pub(super) fn tunes(config: &Config, host: &Host, request: &Request) -> (Vec<TuneEntry>, Vec<TuneEntry>) {
    let process = &config.process;
    let entry = |tune, pointer: &str| TuneEntry { tune, pointer: pointer.to_owned() };
    let score = process.oom_score_adj.filter(|_| host.is_privileged());
    let tune = |value| Tune::OomScoreAdj(OomScoreAdj { value, or_warn: request.rootless });
    let score = score.map(|value| entry(tune(value), "/process/oomScoreAdj"));
    let io = process.io_priority.map(|priority| entry(Tune::IoPriority(priority), "/process/ioPriority"));
    let scheduler = process.scheduler.map(|scheduler| entry(Tune::Scheduler(scheduler), "/process/scheduler"));
    (score.into_iter().collect(), io.into_iter().chain(scheduler).collect())
}
