//! sd_notify(3): what a container says to the service manager of its runtime, and what it cannot say.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::Cx;
use crate::probe::send_signal;
use crate::run::{Job, Run, eventually, lossy};
use crate::{ensure, same, sockets};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    vec![
        case("notify::run_says_ready_when_the_program_does", in_run)
            .differs("crun", "says READY and BARRIER, not MAINPID"),
        case("notify::run_detached_waits_for_ready", in_detached)
            .differs("crun", "says READY and BARRIER, not MAINPID"),
        case("notify::start_waits_for_ready", in_start).differs("crun", "says READY and BARRIER, not MAINPID"),
        case("notify::an_abstract_address", abstract_address),
        case("notify::a_long_id_below_a_long_root", long_path)
            .differs("runc", "the address of its socket would be too long")
            .differs("crun", "the address of its socket would be too long"),
        case("notify::ready_among_other_lines", among_lines).differs("runc", "wants READY in the first line"),
        case("notify::nothing_else_goes_on", nothing_else)
            .differs("runc", "takes READY=0 for it")
            .differs("crun", "takes any READY=1 in the text, each time"),
        case("notify::the_programs_barrier_falls", barrier),
        case("notify::noise_of_64_kib", noise),
        case("notify::ready_only_once", once)
            .differs("runc", "says it again, with MAINPID=0")
            .differs("crun", "says it each time"),
        case("notify::the_runtime_goes_on_in_a_flood", flood).differs("runc", "passes no signal on before READY"),
        case("notify::the_container_cannot_touch_the_socket", untouchable)
            .differs("crun", "the container can remove it"),
        case("notify::a_manager_that_is_gone", manager_gone).differs("crun", "ends the container"),
        case("notify::a_manager_that_does_not_read", manager_deaf),
        case("notify::a_container_that_ends_unready", never_ready)
            .differs("runc", "may wait for ever in the foreground")
            .differs("crun", "run --detach ends with the container's status"),
    ]
}

/// The service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(cx: &Cx) -> Res<Self> {
        let path = cx.path("manager.sock");
        Ok(Self { socket: sockets::hear(&path)?, path })
    }

    /// All the lines that come until there is READY, and what comes with it.
    fn hears_ready(&self) -> Res<Vec<String>> {
        let mut lines: Vec<String> = Vec::new();
        while !lines.iter().any(|line| line == "READY=1") {
            let said = sockets::datagram(&self.socket).context(format!("after {lines:?}"))?;
            lines.extend(said.lines().map(str::to_owned));
        }
        lines.extend(self.hears_more(Duration::from_millis(50))?);
        Ok(lines)
    }

    /// What waits to be read.
    fn hears_more(&self, wait: Duration) -> Res<Vec<String>> {
        let (mut lines, end) = (Vec::new(), Instant::now() + wait);
        self.socket.set_nonblocking(true)?;
        while Instant::now() < end {
            let mut bytes = [0; 4096];
            match self.socket.recv(&mut bytes) {
                Ok(n) => lines.extend(String::from_utf8_lossy(&bytes[..n]).lines().map(str::to_owned)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
                Err(e) => return Err(e.into()),
            }
        }
        self.socket.set_nonblocking(false)?;
        Ok(lines)
    }
}

fn main_pid(lines: &[String]) -> &str {
    lines.iter().find_map(|line| line.strip_prefix("MAINPID=")).unwrap_or_default()
}

/// The barrier is the runtime's own: it leaves when the manager has read what it said.
fn only_ours(lines: &[String], pid: i32) -> Res {
    let main_pid = format!("MAINPID={pid}");
    let ours = |line: &&String| line.is_empty() || ["READY=1", "BARRIER=1", &main_pid].contains(&line.as_str());
    let others: Vec<&String> = lines.iter().filter(|line| !ours(line)).collect();
    ensure!(others.is_empty(), "other lines: {others:?}");
    same!(lines.iter().filter(|line| **line == "READY=1").count(), 1, "how often READY=1 came");
    Ok(())
}

/// busybox has no client for datagram sockets: the probe sends.
fn script(b: &mut Bundle, says: &str) {
    b.sh(&format!("trap 'exit 3' TERM; echo $NOTIFY_SOCKET up; {says}; echo said; while :; do sleep 0.05; done"));
}

const READY: &str = "while [ ! -e /tmp/go ]; do sleep 0.01; done; /probe notify READY=1";

fn foreground(cx: &Cx, b: &Bundle, manager: impl Into<OsString>) -> Res<Run> {
    Ok(cx.with_bundle("run", b, &cx.id())?.env("NOTIFY_SOCKET", manager.into()))
}

fn says(job: &Job, word: &str) -> Res {
    eventually(&format!("the program says {word:?}"), || Ok(job.stdout_now().contains(word)))
}

fn ends(job: Job) -> Res {
    send_signal(job.pid(), libc::SIGTERM)?;
    job.wait()?.exits(3).map(drop)
}

fn let_go(b: &Bundle) -> Res {
    Ok(std::fs::write(b.rootfs().join("tmp/go"), "")?)
}

fn in_run(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, READY);
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    says(&job, " up")?;
    let inside = job.stdout_now();
    ensure!(inside.starts_with('/') && !inside.contains("manager"), "NOTIFY_SOCKET inside: {inside:?}");
    same!(manager.hears_more(Duration::from_millis(100))?, Vec::<String>::new(), "what came before READY");
    let_go(&b)?;
    let lines = manager.hears_ready()?;
    // systemd's child is the runtime, which ends with the program's status
    same!(main_pid(&lines), job.pid().to_string(), "MAINPID");
    only_ours(&lines, job.pid())?;
    ends(job)
}

/// The word of a container whose runtime leaves: its own pid.
fn waits(cx: &Cx, b: &Bundle, manager: &Manager, id: &str, said: &std::path::Path, job: Job) -> Res {
    eventually("the program is up", || Ok(lossy(said).contains(" up")))?;
    same!(manager.hears_more(Duration::from_millis(100))?, Vec::<String>::new(), "what came before READY");
    let stat = crate::cx::text(format!("/proc/{}/stat", job.pid()))?;
    ensure!(!stat.contains(") Z"), "the runtime does not wait for READY");
    let_go(b)?;
    let lines = manager.hears_ready()?;
    let init = cx.pid(id)?;
    same!(main_pid(&lines), init.to_string(), "MAINPID");
    only_ours(&lines, init)?;
    job.wait()?.ok()?;
    same!(cx.status(id)?, "running", "status");
    Ok(())
}

fn in_detached(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, READY);
    b.save()?;
    let (manager, id) = (Manager::new(cx)?, cx.id());
    cx.adopt(&id);
    let run = cx.runtime("run").arg("--detach").arg("--bundle").arg(&b.dir).arg(&id);
    let job = run.env("NOTIFY_SOCKET", &manager.path).spawn()?;
    let said = job.stdout.clone();
    waits(cx, &b, &manager, &id, &said, job)
}

fn in_start(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, READY);
    let (manager, id) = (Manager::new(cx)?, cx.id());
    cx.adopt(&id);
    let created = cx.with_bundle("create", &b, &id)?.env("NOTIFY_SOCKET", &manager.path).out()?.ok()?;
    let job = cx.runtime("start").arg(&id).env("NOTIFY_SOCKET", &manager.path).spawn()?;
    waits(cx, &b, &manager, &id, &created.stdout_path, job)
}

fn abstract_address(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify READY=1");
    let name = cx.id();
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    let manager = Manager { socket, path: PathBuf::new() };
    let job = foreground(cx, &b, format!("@{name}"))?.spawn()?;
    only_ours(&manager.hears_ready()?, job.pid())?;
    ends(job)
}

/// As those of Kubernetes are: an address of a socket has 108 bytes.
fn long_path(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify READY=1");
    let (manager, id) = (Manager::new(cx)?, format!("{}-{}", cx.id(), "x".repeat(100)));
    let job = cx.with_bundle("run", &b, &id)?.env("NOTIFY_SOCKET", &manager.path).spawn()?;
    only_ours(&manager.hears_ready()?, job.pid())?;
    ends(job)
}

fn among_lines(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify STATUS=up READY=1 WATCHDOG=1");
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    only_ours(&manager.hears_ready()?, job.pid())?;
    ends(job)
}

/// A pid of its namespace, descriptors to be kept, other times to wait: all of that is the host's.
fn nothing_else(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let words = [
        "STATUS=words",
        "MAINPID=1",
        "MAINPIDFD=1",
        "WATCHDOG=1",
        "WATCHDOG_USEC=1",
        "EXTEND_TIMEOUT_USEC=1",
        "FDSTORE=1",
        "STOPPING=1",
        "RELOADING=1",
        "ERRNO=2",
        "READY=0",
        "NOTREADY=1",
        "words",
    ];
    let each: Vec<String> = words.iter().map(|word| format!("/probe notify {word}")).collect();
    script(&mut b, &format!("{}; /probe notify MAINPID=1 READY=1 MAINPID=2", each.join("; ")));
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    let mut lines = manager.hears_ready()?;
    says(&job, "said")?;
    lines.extend(manager.hears_more(Duration::from_millis(100))?);
    only_ours(&lines, job.pid())?;
    ends(job)
}

fn barrier(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify-barrier; echo barrier-$?; /probe notify READY=1");
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    only_ours(&manager.hears_ready()?, job.pid())?;
    says(&job, "barrier-0")?;
    ends(job)
}

fn noise(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let long = "x".repeat(60_000);
    script(
        &mut b,
        &format!(
            "/probe notify-noise 65536; /probe notify-noise 5; /probe notify-noise 1; /probe notify READY=1 {long}"
        ),
    );
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    only_ours(&manager.hears_ready()?, job.pid())?;
    ends(job)
}

fn once(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify READY=1; /probe notify-many 1000 READY=1");
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    let mut lines = manager.hears_ready()?;
    lines.extend(manager.hears_more(Duration::from_millis(200))?);
    only_ours(&lines, job.pid())?;
    says(&job, "said")?;
    ends(job)
}

/// It relays signals and ends with the program's status all the same.
fn flood(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify-many 1000000000 STATUS=x & /probe notify-many 1000000000 y & sleep 0.2");
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    says(&job, "said")?;
    let begin = Instant::now();
    ends(job)?;
    ensure!(begin.elapsed() < Duration::from_secs(30), "it took {:?}", begin.elapsed());
    same!(manager.hears_more(Duration::from_millis(20))?, Vec::<String>::new(), "what came");
    Ok(())
}

/// Neither can it be replaced, nor can its directory, which is the host's, be filled.
fn untouchable(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let tries = "d=${NOTIFY_SOCKET%/*}; rm -f $NOTIFY_SOCKET; mv $NOTIFY_SOCKET $d/x; ln -s /etc $d/link; \
                 mkdir $d/dir; echo x > $d/file; mknod $d/null c 1 3; ls $d; /probe notify READY=1";
    script(&mut b, tries);
    let powers = serde_json::json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE", "CAP_FOWNER"]);
    for set in ["bounding", "effective", "permitted"] {
        b.set(&format!("/process/capabilities/{set}"), powers.clone());
    }
    let manager = Manager::new(cx)?;
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    only_ours(&manager.hears_ready()?, job.pid())?;
    says(&job, "said")?;
    let listed: Vec<String> = job.stdout_now().lines().map(str::to_owned).collect();
    same!(listed[1..], ["notify.sock", "said"], "what is in the directory");
    ends(job)
}

fn manager_gone(cx: &Cx) -> Res {
    for path in ["/nowhere/notify", "@nobody-listens", "relative", "@", "vsock:2:1"] {
        let mut b = cx.bundle()?;
        script(&mut b, "/probe notify READY=1; sleep 0.2");
        let job = foreground(cx, &b, path)?.spawn()?;
        says(&job, "said").context(path)?;
        ends(job).context(path)?;
        let id = cx.id();
        cx.adopt(&id);
        let run = cx.runtime("run").arg("--detach").arg("--bundle").arg(&b.dir).arg(&id);
        run.env("NOTIFY_SOCKET", path).out()?.ok().context(path)?;
        same!(cx.status(&id)?, "running", "status");
        cx.delete_force(&id)?;
    }
    Ok(())
}

/// Its queue is full: the runtime does not wait for it for ever, nor the program.
fn manager_deaf(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    script(&mut b, "/probe notify READY=1");
    let manager = Manager::new(cx)?;
    let other = UnixDatagram::unbound()?;
    other.set_nonblocking(true)?;
    while other.send_to(b"FULL=1", &manager.path).is_ok() {}
    let job = foreground(cx, &b, &manager.path)?.spawn()?;
    says(&job, "said")?;
    std::thread::sleep(Duration::from_millis(100));
    let lines = manager.hears_ready()?;
    ensure!(lines.iter().any(|line| line == "FULL=1"), "the queue was not full: {lines:?}");
    ends(job)
}

fn never_ready(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.sh("sleep 0.2; exit 4");
    let manager = Manager::new(cx)?;
    foreground(cx, &b, &manager.path)?.out()?.exits(4)?;
    let id = cx.id();
    cx.adopt(&id);
    let run = cx.runtime("run").arg("--detach").arg("--bundle").arg(&b.dir).arg(&id);
    run.env("NOTIFY_SOCKET", &manager.path).out()?.ok()?;
    same!(cx.status(&id)?, "stopped", "status");
    same!(manager.hears_more(Duration::from_millis(50))?, Vec::<String>::new(), "what came");
    Ok(())
}
