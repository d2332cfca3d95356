//! Runs cases against any OCI runtime binary (`--runtime PATH`): each looks from
//! inside a container or at the host, and after each nothing may be left behind.
//!
//! The processes, from the outside in:
//!
//! ```text
//! main      parses argv, starts one sandbox per job, sums up, removes the cgroups
//!   launcher  unshares mount, pid, net and ipc
//!     init      pid 1 of the sandbox: private mounts, fresh /proc, reaps orphans
//!               (--driver systemd: a subreaper, in the pid namespace of systemd)
//!       worker    runs the cases one after the other, looks for what they left
//!         case      one process per case, so that a limit can end it
//!           the runtime, its container
//! ```
//!
//! The same binary is the probe that the containers run (`/probe`, see `probe`).

mod bundle;
mod case;
mod cases;
mod cgroup;
mod cx;
mod deny;
mod fuse;
mod leaks;
mod mountinfo;
mod options;
mod peer;
mod probe;
mod pty;
mod run;
mod sandbox;
mod security;
mod selinux;
mod sockets;
mod stage;
mod systemd;
mod table;
mod tally;
mod tmux;
mod user;
mod worker;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    // In the container the binary is called /probe: nothing else has that name.
    let name = Path::new(args.first().map_or("", String::as_str)).file_name();
    if name.is_some_and(|n| n == "probe") {
        return probe::main(&args[1..]);
    }
    probe::raw::default_signals();
    let rest: Vec<String> = args.iter().skip(2).cloned().collect();
    match args.get(1).map(String::as_str) {
        Some("__launcher") => sandbox::launcher(),
        Some("__init") => sandbox::init(),
        Some("__worker") => worker::main(),
        Some("__case") => case::main(&rest),
        Some("__deny") => deny::main(&rest),
        Some("__probe") => probe::main(&rest),
        _ => sandbox::main(&args[1..]),
    }
}
