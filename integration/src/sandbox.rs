//! The outer processes: main, launcher and init (see `main.rs`).
//!
//! Nothing is ever mounted in the machine's own mount namespace, and no process
//! in the sandbox can see or signal one outside.

use crate::cgroup;
use crate::options::Options;
use crate::tally::Tally;
use crate::{cases, mountinfo, systemd, table, user, worker};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};
use rustix::process::{Signal, WaitOptions, getpid, set_child_subreaper, set_parent_process_death_signal, wait};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// `ferrun-integration …`: starts the sandboxes and sums up.
pub fn main(args: &[String]) -> ExitCode {
    if args.iter().any(|a| a == "--help" || a == "-h") {
        println!("{}", crate::options::USAGE);
        return ExitCode::SUCCESS;
    }
    match outer(args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("ferrun-integration: {e}");
            ExitCode::from(2)
        }
    }
}

fn outer(args: &[String]) -> Result<ExitCode, String> {
    let mut options = Options::parse(args)?;
    if options.list {
        for case in cases::all().iter().filter(|c| options.wants(&c.name)) {
            println!("{}", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !rustix::process::geteuid().is_root() {
        return Err("needs root: it makes namespaces, mounts and cgroups".into());
    }
    find_runtime(&mut options)?;
    options.tag = format!("frit{}", std::process::id());
    options.base = std::env::temp_dir().join(&options.tag);
    options.cgroups = cgroup::delegated();
    options.ids = user::ids();
    options.no_cgroups = !cgroup::can_be_made();
    options.slice = format!("{}-cases.slice", options.tag);
    if options.systemd() && !systemd::is_here() {
        return Err("--driver systemd: this machine does not run systemd".into());
    }
    if options.as_user {
        user::open_session(&mut options)?;
    }
    std::fs::create_dir(&options.base).map_err(|e| format!("mkdir {}: {e}", options.base.display()))?;
    let sum = run_jobs(&options);
    if options.systemd() || !options.session.is_empty() {
        systemd::stop(&systemd::units(&options.tag));
    }
    // Whatever way the sandboxes ended: by now every process in them is dead.
    for hierarchy in cgroup::hierarchies() {
        cgroup::remove_tagged(&hierarchy, &options.tag);
    }
    // Only the mount point: the tmpfs went with the namespace.
    std::fs::remove_dir(&options.base).map_err(|e| format!("rmdir {}: {e}", options.base.display()))?;
    let (tally, lines) = sum?;
    println!("{}", tally.closing());
    if let Some(file) = &options.table {
        table::write(file, &options, &lines).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(if tally.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the sandboxes said: the sums, and each case's line.
type Sum = (Tally, Vec<String>);

/// One launcher per job; their lines are passed on, their sums added up.
fn run_jobs(options: &Options) -> Result<Sum, String> {
    let mut children: Vec<Child> = Vec::new();
    for job in 0..options.jobs {
        let mut o = options.clone();
        o.job = job;
        let mut command = myself("__launcher");
        o.hand_to(&mut command);
        children.push(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?);
    }
    let readers: Vec<_> = children
        .iter_mut()
        .filter_map(|c| c.stdout.take())
        .map(|out| {
            std::thread::spawn(move || {
                let (mut sum, mut lines) = (None, Vec::new());
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    match line.strip_prefix(worker::SUM) {
                        Some(s) => sum = Tally::parse(s),
                        None => {
                            println!("{line}");
                            lines.push(line);
                        }
                    }
                }
                sum.map(|sum| (sum, lines))
            })
        })
        .collect();
    let mut total = Some((Tally::default(), Vec::new()));
    for r in readers {
        let sum = r.join().ok().flatten();
        total = total.zip(sum).map(|((a, lines), (b, more))| (a.plus(b), lines.into_iter().chain(more).collect()));
    }
    for mut c in children {
        let _ = c.wait();
    }
    total.ok_or("a sandbox ended before its cases did".to_owned())
}

/// The path of the runtime, and what it says of itself.
fn find_runtime(options: &mut Options) -> Result<(), String> {
    if options.runtime.as_os_str().is_empty() {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
        options.runtime = ["x86_64-unknown-linux-musl/release/ferrun", "release/ferrun"]
            .iter()
            .map(|p| target.join(p))
            .find(|p| p.exists())
            .ok_or("no release build of ferrun found: give --runtime PATH")?;
    } else if options.runtime.components().count() == 1 {
        // A bare name, as in `--runtime runc`.
        let path = std::env::var("PATH").unwrap_or_default();
        let dirs = path.split(':').chain(["/usr/sbin", "/sbin"]);
        let found = dirs.map(|d| Path::new(d).join(&options.runtime)).find(|p| p.exists());
        options.runtime = found.ok_or(format!("{}: not in PATH", options.runtime.display()))?;
    }
    options.runtime = options.runtime.canonicalize().map_err(|e| format!("{}: {e}", options.runtime.display()))?;
    options.program.clone_from(&options.runtime);
    let out = Command::new(&options.runtime)
        .arg("--version")
        .output()
        .map_err(|e| format!("{}: {e}", options.runtime.display()))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut words = text.split_whitespace();
    options.kind = words.next().unwrap_or_default().to_owned();
    options.version = words.nth(1).unwrap_or_default().to_owned();
    if options.kind.is_empty() {
        return Err(format!("{} --version says nothing", options.runtime.display()));
    }
    Ok(())
}

fn myself(role: &str) -> Command {
    let mut c = Command::new("/proc/self/exe");
    c.arg(role);
    c
}

/// `__launcher`: the children of a process that unshared its pid namespace are
/// in the new one; itself it stays outside and only waits.
pub fn launcher() -> ExitCode {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    // Whoever started us may have left descriptors open (flock does): the cases
    // count theirs from 3.
    crate::probe::close_on_exec_from(3);
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    // A runtime tells systemd the pid of a container's init: both must mean the same by it.
    if !Options::inherited().is_ok_and(|o| o.systemd()) {
        flags |= CloneFlags::CLONE_NEWPID;
    }
    if let Err(e) = nix::sched::unshare(flags) {
        eprintln!("unshare: {e}");
        return ExitCode::from(2);
    }
    let _ = rustix::process::umask(Mode::from_raw_mode(0o022));
    match myself("__init").status() {
        Ok(s) => ExitCode::from(s.code().unwrap_or(2) as u8),
        Err(e) => {
            eprintln!("init: {e}");
            ExitCode::from(2)
        }
    }
}

/// `__init`: pid 1, or like it. Prepares the mounts, starts the worker, reaps what is
/// orphaned, as containerd's shim or systemd would.
pub fn init() -> ExitCode {
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let options = match Options::inherited().and_then(|mut o| prepare(&mut o).map(|()| o)) {
        Ok(o) => Options { init: std::process::id() as i32, ..o },
        Err(e) => {
            eprintln!("sandbox: {e}");
            return ExitCode::from(2);
        }
    };
    let mut command = myself("__worker");
    options.hand_to(&mut command);
    let worker = match command.stdin(Stdio::null()).spawn() {
        Ok(c) => c,
        Err(e) => {
            eprintln!("worker: {e}");
            return ExitCode::from(2);
        }
    };
    let pid = worker.id() as i32;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((p, status))) if p.as_raw_nonzero().get() == pid => {
                return ExitCode::from(status.exit_status().unwrap_or(2) as u8);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return ExitCode::from(2),
        }
    }
}

fn prepare(options: &mut Options) -> Result<(), String> {
    let _ = set_child_subreaper(Some(getpid()));
    let text = |what: &'static str| move |e: rustix::io::Errno| format!("{what}: {e}");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).map_err(text("make / private"))?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None).map_err(text("mount /proc"))?;
    leave_out_foreign_mounts(options).map_err(|e| format!("leave out mounts: {e}"))?;
    mount("tmpfs", &options.base, "tmpfs", MountFlags::empty(), Some(c"mode=0755")).map_err(text("mount tmpfs"))?;
    // crun gives the container's root what is its stdin
    let null = options.base.join("null");
    let mode = Mode::from_raw_mode(0o666);
    if mknodat(CWD, &null, FileType::CharacterDevice, mode, makedev(1, 3)).is_ok() {
        chmod(&null, mode).map_err(text("chmod"))?;
        mount_bind(&null, "/dev/null").map_err(text("bind /dev/null"))?;
    }
    if options.as_user {
        user::prepare(options).map_err(|e| format!("an ordinary user: {e}"))?;
    }
    if options.kind == "crun" {
        // crun refuses a hybrid layout: it is shown cgroup v1 alone.
        let _ = unmount("/sys/fs/cgroup/unified", UnmountFlags::DETACH);
    }
    Ok(())
}

/// Takes out of this copy of the machine's mounts what others mount and unmount while they work (images, root file
/// systems being built): a directory that is renamed or removed there changes our mounts too, and would be blamed on
/// the runtime.
fn leave_out_foreign_mounts(options: &Options) -> std::io::Result<()> {
    let theirs = |point: &Path| {
        let places = ["/root", "/home", "/var", "/tmp", "/srv", "/mnt", "/media"];
        let below = places.iter().any(|place| point.starts_with(place) && point != Path::new(place));
        below && !options.base.starts_with(point) && !options.runtime.starts_with(point)
    };
    for mount in mountinfo::parse(&std::fs::read_to_string("/proc/self/mountinfo")?).iter().rev() {
        if theirs(Path::new(&mount.point)) {
            // what is below another one of them has gone with it
            let _ = unmount(&mount.point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
    Ok(())
}
