//! Scopes as systemd knows them: limits and annotations, reloads, leftovers, and a bus that does not answer.

use super::exec::exec;
use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, broken, case, skip};
use crate::cgroup;
use crate::cx::{Cx, text};
use crate::run::eventually;
use crate::systemd::{self, program, property, units};
use crate::user;
use crate::{ensure, same};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const OWN: &[&str] = &["ferrun"];

pub fn cases() -> Vec<Case> {
    vec![
        of("systemd::limits_are_in_the_files_and_the_properties", limits),
        of("systemd::unified_limits_are_properties_too", unified),
        of("systemd::update_changes_files_and_properties", update),
        of("systemd::annotations_are_properties", annotations),
        of("systemd::annotations_that_are_no_values_are_refused", wrong_values),
        of("systemd::annotations_that_reach_beyond_the_scope_are_refused", unsafe_annotations)
            .only(OWN, "the others take any property (CVE-2024-3154)"),
        of("systemd::a_failed_unit_of_that_name_is_replaced", leftover),
        of("systemd::reloads_leave_limits_and_device_rules", |cx| reloads(cx, false)).patience(3),
        of("systemd::reloads_leave_rules_that_systemd_cannot_express", |cx| reloads(cx, true))
            .patience(3)
            .differs("runc", "refuses such a list")
            .differs("crun", "refuses such a list"),
        of("systemd::a_restarted_systemd_loses_no_container", reexec)
            .patience(2)
            .differs("runc", "gives up when systemd is away")
            .differs("crun", "gives up when systemd is away"),
        of("systemd::many_at_once", many).patience(3),
        of("systemd::a_bus_that_stops_is_named_in_time", stopped_bus)
            .only(OWN, "a deadline on every wait is ferrun's own promise")
            .patience(3),
        of("systemd::a_bus_that_is_not_there_is_named", no_bus).only(OWN, "its own words"),
        of("systemd::of_a_user_from_a_user_namespace", from_user_namespace).only(OWN, "how it is called is Podman's"),
        of("systemd::a_user_has_a_place_below_his_own_systemd", user).only(OWN, "only ferrun can show its plan"),
        case("systemd::without_systemd_it_is_said", without).only(OWN, "its own words"),
    ]
}

fn of(name: &'static str, body: impl Fn(&Cx) -> Res + 'static) -> Case {
    case(name, move |cx| if cx.options.systemd() { body(cx) } else { skip("for --driver systemd") })
}

fn unit(b: &Bundle) -> String {
    b.cgroup().rsplit('/').next().unwrap_or_default().to_owned()
}

/// A file of the container's cgroup, on v2.
fn file(b: &Bundle, name: &str) -> Res<String> {
    let Some(dir) = cgroup::directories(&b.cgroup()).into_iter().next() else { return broken("no cgroup") };
    Ok(text(scope_or_below(dir, name).join(name))?.trim().to_owned())
}

/// crun limits the scope, and has the container in `container` below.
fn scope_or_below(dir: PathBuf, name: &str) -> PathBuf {
    if dir.join(name).exists() { dir } else { dir.join("container") }
}

fn limited(b: &mut Bundle) {
    b.set("/linux/resources/memory", json!({"limit": 64 << 20, "reservation": 32 << 20}))
        .set("/linux/resources/cpu", json!({"shares": 512, "quota": 12_345, "period": 50_000}))
        .set("/linux/resources/pids", json!({"limit": 50}));
}

fn limits(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    limited(&mut b);
    let _c = cx.sleeping(&mut b)?;
    let unit = unit(&b);
    same!(property(&unit, "MemoryMax"), (64 << 20).to_string(), "MemoryMax");
    same!(property(&unit, "MemoryLow"), (32 << 20).to_string(), "MemoryLow");
    same!(property(&unit, "TasksMax"), "50", "TasksMax");
    // 24.69 % is 25 % to systemd
    same!(property(&unit, "CPUQuotaPerSecUSec"), "250ms", "CPUQuotaPerSecUSec");
    same!(property(&unit, "CPUWeight"), file(&b, "cpu.weight")?, "CPUWeight");
    same!(file(&b, "memory.max")?, (64 << 20).to_string(), "memory.max");
    same!(file(&b, "pids.max")?, "50", "pids.max");
    if !cx.is("crun") {
        same!(file(&b, "cpu.max")?, "12345 50000", "cpu.max is exact");
    }
    Ok(())
}

fn unified(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/resources/unified", json!({"memory.high": "33554432", "memory.swap.max": "0", "pids.max": "max"}));
    let _c = cx.sleeping(&mut b)?;
    let unit = unit(&b);
    same!(property(&unit, "MemoryHigh"), "33554432", "MemoryHigh");
    same!(property(&unit, "MemorySwapMax"), "0", "MemorySwapMax");
    same!(property(&unit, "TasksMax"), "infinity", "TasksMax");
    same!(file(&b, "memory.high")?, "33554432", "memory.high");
    Ok(())
}

fn update(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    limited(&mut b);
    let c = cx.sleeping(&mut b)?;
    let unit = unit(&b);
    cx.runtime("update").args(["--memory", "134217728", "--cpu-quota", "30001", &c.id]).out()?.ok()?;
    same!(property(&unit, "MemoryMax"), (128 << 20).to_string(), "MemoryMax");
    same!(file(&b, "memory.max")?, (128 << 20).to_string(), "memory.max");
    same!(property(&unit, "TasksMax"), "50", "TasksMax");
    same!(file(&b, "pids.max")?, "50", "pids.max");
    if cx.is("ferrun") {
        same!(property(&unit, "CPUQuotaPerSecUSec"), "610ms", "CPUQuotaPerSecUSec");
        same!(file(&b, "cpu.max")?, "30001 50000", "cpu.max");
    }
    Ok(())
}

fn annotations(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set(
        "/annotations",
        json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.RuntimeMaxSec": "uint64 500",
            "org.systemd.property.KillSignal": "12",
            "org.systemd.property.Before": "['frit-none.service']",
            "org.example": "of no meaning",
        }),
    );
    let _c = cx.sleeping(&mut b)?;
    let unit = unit(&b);
    same!(property(&unit, "TimeoutStopUSec"), "2min 3.456789s", "TimeoutStopUSec");
    same!(property(&unit, "CollectMode"), "inactive-or-failed", "CollectMode");
    same!(property(&unit, "RuntimeMaxUSec"), "8min 20s", "RuntimeMaxUSec");
    same!(property(&unit, "KillSignal"), "12", "KillSignal");
    ensure!(property(&unit, "Before").contains("frit-none.service"), "Before={}", property(&unit, "Before"));
    Ok(())
}

fn refused(cx: &Cx, name: &str, value: &str, words: &[&str]) -> Res {
    let mut b = cx.bundle()?;
    b.set("/annotations", json!({ format!("org.systemd.property.{name}"): value }));
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(words).context(format!("{name}={value}"))?;
    ensure!(units(&unit(&b)).is_empty(), "{name}: a unit is left");
    Ok(())
}

fn wrong_values(cx: &Cx) -> Res {
    for (name, value) in
        [("TimeoutStopUSec", "uint64 x"), ("CollectMode", "'inactive"), ("CollectMode", "'no-such-mode'")]
    {
        refused(cx, name, value, &[])?;
    }
    Ok(())
}

fn unsafe_annotations(cx: &Cx) -> Res {
    for (name, value) in [
        ("ExecStartPre", "[('/bin/sh', ['sh', '-c', 'id'], false)]"),
        ("SuccessAction", "'poweroff-force'"),
        ("OnFailure", "['emergency.target']"),
        ("Slice", "'-.slice'"),
        ("DeviceAllow", "[('/dev/mem', 'rwm')]"),
    ] {
        refused(cx, name, value, &[&format!("/annotations/org.systemd.property.{name}")])?;
        refused(cx, name, value, &["accepted are"])?;
    }
    Ok(())
}

fn leftover(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let unit = unit(&b);
    let mut other = program("systemd-run")
        .args(["--quiet", "--scope", "--property", "RuntimeMaxSec=1", "--slice", &cx.options.slice])
        .args(["--unit", &unit, "sleep", "100"])
        .spawn()?;
    other.wait()?;
    eventually("the other scope has failed", || Ok(property(&unit, "ActiveState") == "failed"))?;
    let c = cx.sleeping(&mut b)?;
    same!(property(&unit, "ActiveState"), "active", unit);
    cx.delete_force(&c.id)?;
    Ok(())
}

/// Says on and on, into a file, which of two devices it can open.
const LOOKS: &str = "
    n=0; echo up
    while :; do
        say=''
        for d in tun fuse; do if (: <> /dev/$d) 2> /dev/null; then say=$say$d; fi; done
        n=$((n + 1)); echo \"$n ($say)\" > /tmp/new; mv /tmp/new /tmp/sees; sleep 0.02
    done";

/// What the container sees from now on.
fn sees(b: &Bundle) -> Res<String> {
    let path = b.rootfs().join("tmp/sees");
    let look = || {
        let said = text(&path)?;
        let (number, devices) = said.trim().split_once(' ').unwrap_or_default();
        Ok::<_, crate::case::Fail>((number.parse::<u64>().unwrap_or(0), devices.to_owned()))
    };
    let (then, _) = look()?;
    let mut now = (0, String::new());
    eventually("the container looks again", || {
        now = look()?;
        Ok(now.0 > then + 1)
    })?;
    Ok(now.1)
}

fn reloads(cx: &Cx, exotic: bool) -> Res {
    for device in ["/dev/net/tun", "/dev/fuse"] {
        if fs::File::options().read(true).write(true).open(device).is_err() {
            return skip(format!("no {device} here"));
        }
    }
    let mut b = cx.bundle()?;
    limited(&mut b);
    for (name, minor) in [("tun", 200), ("fuse", 229)] {
        b.push("/linux/devices", json!({"path": format!("/dev/{name}"), "type": "c", "major": 10, "minor": minor}));
    }
    b.push("/linux/resources/devices", json!({"allow": false, "access": "rwm"}));
    if exotic {
        // systemd cannot take away a part of what it allows
        b.push("/linux/resources/devices", json!({"allow": true, "type": "c", "major": 10, "access": "rwm"}));
        b.push(
            "/linux/resources/devices",
            json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}),
        );
    } else {
        b.push(
            "/linux/resources/devices",
            json!({"allow": true, "type": "c", "major": 10, "minor": 200, "access": "rwm"}),
        );
    }
    b.sh(LOOKS);
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    eventually("the container has looked", || Ok(b.rootfs().join("tmp/sees").exists()))?;
    same!(sees(&b)?, "(tun)", "devices before a reload");
    // each takes a second in a machine without hardware to help
    let rounds = if cx.options.cycles >= 200 { 100 } else { 10 };
    for round in 1..=rounds {
        ensure!(systemd::control("daemon-reload"), "reload {round} fails");
        if round % 20 == 1 {
            same!(sees(&b)?, "(tun)", format!("devices after {round} reloads"));
        }
    }
    same!(sees(&b)?, "(tun)", "devices after the reloads");
    same!(file(&b, "memory.max")?, (64 << 20).to_string(), "memory.max after the reloads");
    if !cx.is("crun") {
        same!(file(&b, "cpu.max")?, "12345 50000", "cpu.max after the reloads");
    }
    Ok(())
}

fn reexec(cx: &Cx) -> Res {
    for round in 0..if cx.options.cycles >= 200 { 40 } else { 5 } {
        let mut b = cx.bundle()?;
        b.sleeps();
        let mut restart = program("systemctl").arg("daemon-reexec").spawn()?;
        let made = cx.create(&b).context(format!("create while systemd restarts, round {round}"));
        restart.wait()?;
        let c = made?;
        let mut restart = program("systemctl").arg("daemon-reexec").spawn()?;
        let deleted = cx.delete_force(&c.id).context(format!("delete while systemd restarts, round {round}"));
        restart.wait()?;
        deleted?;
    }
    Ok(())
}

fn many(cx: &Cx) -> Res {
    const COUNT: usize = 50;
    let mut made = Vec::new();
    for _ in 0..COUNT {
        let mut b = cx.bundle()?;
        b.sleeps();
        let id = cx.id();
        cx.adopt(&id);
        made.push((cx.with_bundle("create", &b, &id)?.limit(Duration::from_secs(60)).spawn()?, b, id));
    }
    let mut waiting = Vec::new();
    for (job, b, id) in made {
        job.wait()?.ok()?;
        waiting.push((b, id));
    }
    for (b, id) in &waiting {
        same!(property(&unit(b), "ActiveState"), "active", id);
    }
    let mut gone = Vec::new();
    for (_, id) in &waiting {
        gone.push(cx.runtime("delete").args(["--force", id]).limit(Duration::from_secs(60)).spawn()?);
    }
    for job in gone {
        job.wait()?.ok()?;
    }
    Ok(())
}

/// Stops a process until it is dropped.
struct Stopped(Pid);

impl Stopped {
    fn bus() -> Res<Self> {
        let units = ["dbus.service", "dbus-broker.service"];
        let Some(pid) = units.iter().find_map(|u| property(u, "MainPID").parse().ok().filter(|p| *p > 1)) else {
            return skip("no message bus that could be stopped");
        };
        kill(Pid::from_raw(pid), Signal::SIGSTOP)?;
        Ok(Self(Pid::from_raw(pid)))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn stopped_bus(cx: &Cx) -> Res {
    const LIMIT: Duration = Duration::from_secs(80);
    let mut running = cx.bundle()?;
    let one = cx.sleeping(&mut running)?;
    let mut running = cx.bundle()?;
    let other = cx.sleeping(&mut running)?;
    let stopped = Stopped::bus()?;
    let begin = Instant::now();
    let mut b = cx.bundle()?;
    b.sleeps();
    let id = cx.id();
    let commands = [
        ("create", cx.with_bundle("create", &b, &id)?),
        ("run", cx.with_bundle("run", &b, &cx.id())?),
        ("delete", cx.runtime("delete").args(["--force", &one.id])),
        ("update", cx.runtime("update").args(["--memory", "134217728", &other.id])),
    ];
    let mut jobs = Vec::new();
    for (verb, command) in commands {
        jobs.push((verb, command.limit(LIMIT).spawn()?));
    }
    for (verb, job) in jobs {
        let out = job.wait().context(format!("{verb}, the bus stopped"))?;
        let out = out.fails(&["no answer of systemd"]).context(verb)?;
        ensure!(out.stderr.contains("within 30 s"), "{verb}: {}", out.stderr);
    }
    ensure!(begin.elapsed() < Duration::from_secs(75), "it took {:?}", begin.elapsed());
    // What does not need systemd goes on.
    cx.kill(&other.id, "KILL")?;
    cx.stopped(&other.id)?;
    drop(stopped);
    // What could not be taken back is taken back now.
    cx.delete_force(&one.id)?;
    cx.delete_force(&other.id)?;
    for name in fs::read_dir(cx.root())?.flatten() {
        cx.delete_force(&name.file_name().to_string_lossy())?;
    }
    eventually("no unit is left", || Ok(units(&cx.options.tag).is_empty()))
}

fn no_bus(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    for (address, words) in [
        ("unix:path=/no/such/socket", "/no/such/socket: no such file or directory"),
        ("tcp:host=localhost", "only unix:path= and unix:abstract= are supported"),
    ] {
        let bus = if cx.options.as_user { "DBUS_SESSION_BUS_ADDRESS" } else { "DBUS_SYSTEM_BUS_ADDRESS" };
        let create = cx.with_bundle("create", &b, &cx.id())?.env(bus, address);
        create.out()?.fails(&[words])?;
        ensure!(fs::read_dir(cx.root())?.next().is_none(), "state is left, and nobody was asked");
    }
    Ok(())
}

fn user(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.unset("/linux/cgroupsPath").save()?;
    for path in ["/", "/bundle"] {
        let dir = cx.dir.join(path.trim_start_matches('/'));
        let _ = fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755));
    }
    let out = Command::new("setpriv")
        .args(["--reuid", "1000", "--regid", "1000", "--clear-groups"])
        .arg(&cx.options.runtime)
        .args(["--systemd-cgroup", "plan", "--bundle"])
        .arg(&b.dir)
        .arg("web")
        .env("XDG_RUNTIME_DIR", "/run/user/1000")
        .stdin(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let want = "make-cgroup /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/ferrun-web.scope";
    ensure!(text.contains(want), "{text}");
    Ok(())
}

/// As Podman calls it that an ordinary user runs: by root of a user namespace.
fn from_user_namespace(cx: &Cx) -> Res {
    if !cx.options.as_user {
        return skip("for --as-user");
    }
    let mut options = cx.options.clone();
    options.runtime = cx.path("podman");
    let mut keeper = user::command("/usr/bin/unshare");
    let keeper = Keeper(keeper.args(["--user", "--map-root-user", "--map-auto", "--mount", "sleep", "1000"]).spawn()?);
    let pid = keeper.0.id();
    eventually("the user namespace is made", || Ok(text(format!("/proc/{pid}/comm"))?.trim() == "sleep"))?;
    let inside = format!("/usr/bin/nsenter --target {pid} --user --mount");
    let podman = cx.path("podman-inside");
    fs::write(&podman, format!("#!/bin/dash\nexec {inside} '{}' \"$@\"\n", options.program.display()))?;
    fs::set_permissions(&podman, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    user::write_script(&options, &options.runtime, &podman)?;
    let cx = Cx::new(options, cx.dir.clone());
    let mut b = cx.bundle()?;
    b.host_ids();
    limited(&mut b);
    let c = cx.sleeping(&mut b)?;
    let scope = unit(&b);
    same!(property(&scope, "ActiveState"), "active", scope);
    same!(property(&scope, "ControlGroup"), b.cgroup(), "ControlGroup");
    same!(file(&b, "memory.max")?, (64 << 20).to_string(), "memory.max");
    let seen = exec(&cx, &c, &[], &["/bin/cat", "/proc/self/cgroup", "/proc/self/uid_map"]).out()?.ok()?.stdout;
    ensure!(seen.contains(&b.cgroup()) && seen.contains(" 100001 "), "{seen}");
    cx.runtime("update").args(["--memory", "134217728", &c.id]).out()?.ok()?;
    same!(property(&scope, "MemoryMax"), (128 << 20).to_string(), "MemoryMax");
    cx.delete_force(&c.id)?;
    eventually(&format!("{scope} is gone"), || Ok(units(&scope).is_empty()))
}

/// Keeps a user namespace until it is dropped, as Podman's pause process does.
struct Keeper(std::process::Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn without(cx: &Cx) -> Res {
    if systemd::is_here() {
        return skip("systemd is here");
    }
    let mut b = cx.bundle()?;
    b.unset("/linux/cgroupsPath");
    let create = cx.with_bundle("create", &b, &cx.id())?.global("--systemd-cgroup");
    create.out()?.fails(&["systemd is not running"])?;
    ensure!(fs::read_dir(cx.root()).into_iter().flatten().next().is_none(), "state is left");
    Ok(())
}
