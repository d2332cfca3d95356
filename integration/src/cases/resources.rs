//! linux.resources: each limit is in the kernel's file before the program starts, and does what it is for.

use crate::bundle::Bundle;
use crate::case::{Case, Res, broken, case, skip};
use crate::cgroup;
use crate::cx::{Container, Cx, text};
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// v1's "no limit", in pages of 4 KiB.
const NONE_V1: &str = "9223372036854771712";

const OLD_WEIGHT: &str = "before 1.4 runc, and before 1.24 crun, had another curve";
const OLD_RUNC: &str = "runc 1.1 does not know it";

pub fn cases() -> Vec<Case> {
    let mut cases = readback();
    cases.extend([
        case("resources::cpu_shares_become_weight", weight).differs("runc", OLD_WEIGHT).differs("crun", OLD_WEIGHT),
        case("resources::hugepage_limits", hugepages),
        case("resources::io_throttle", throttle),
        case("resources::io_weight", io_weight).differs("crun", "on v1 it knows CFQ's file only"),
        case("resources::network", network),
        case("resources::rdma_or_a_word", rdma).only(&["ferrun"], "crun does not know it, runc says less"),
        case("resources::unified", unified),
        case("resources::unified_is_refused_on_v1", unified_on_v1).differs("crun", "it ignores them there"),
        case("resources::all_parents_hand_controllers_down", handed_down),
        case("resources::unlimited_ones_have_statistics", statistics),
        case("resources::an_out_of_memory_kill", out_of_memory),
        case("resources::too_little_memory_for_the_init", tiny_memory)
            .only(&["ferrun"], "Debian's runc and crun move the init in later, and say something else"),
        case("resources::true_runs_in_256_kib_and_alone", smallest)
            .differs("runc", "its own init needs megabytes")
            .without_userns("what is mounted there is charged to it, and takes more"),
        case("resources::forks_are_refused_at_the_limit", forks),
        case("resources::a_loop_is_throttled", throttled),
        case("resources::the_program_sees_its_cpus", affinity),
        case("resources::mistakes_touch_nothing", mistakes).only(&["ferrun"], "others leave them to the kernel"),
        case("resources::what_the_kernel_refuses_is_named", refused).only(&["ferrun"], "others name no pointer"),
        case("resources::a_missing_controller_is_named", missing_controller)
            .only(&["ferrun"], "others name no pointer"),
    ]);
    cases
}

/// `(file, value)`; None: v1 or v2 has nothing of the kind.
type Files = Option<&'static [(&'static str, &'static str)]>;

/// What is asked for, and what the files say afterwards on v1 and on v2.
fn reads_back(name: &str, asked: Value, v1: Files, v2: Files) -> Case {
    case(format!("resources::{name}"), move |cx| {
        let Some(files) = (if is_v2() { v2 } else { v1 }) else { return skip("not in this version of cgroups") };
        let c = limited(cx, &asked, files)?;
        for (file, value) in files {
            same!(c.read(file)?, *value, *file);
        }
        Ok(())
    })
}

/// systemd limits the tasks of every scope, and removes an empty one with all that it counted.
pub(super) fn where_we_limit(case: Case) -> Case {
    let body = case.body;
    let body = move |cx: &Cx| if cx.options.systemd() { skip("systemd has a say in it") } else { body(cx) };
    Case { body: Box::new(body), ..case }
}

fn readback() -> Vec<Case> {
    let memory = |value: Value| json!({"memory": value});
    let cpu = |value: Value| json!({"cpu": value});
    let pids = |value: Value| json!({"pids": value});
    let (m64, m128) = (64 * MIB, 128 * MIB);
    vec![
        reads_back(
            "memory_limit",
            memory(json!({"limit": m64})),
            Some(&[("memory.limit_in_bytes", "67108864")]),
            Some(&[("memory.max", "67108864")]),
        ),
        reads_back(
            "memory_reservation",
            memory(json!({"limit": m128, "reservation": m64})),
            Some(&[("memory.soft_limit_in_bytes", "67108864")]),
            Some(&[("memory.low", "67108864")]),
        ),
        reads_back(
            "memory_and_swap",
            memory(json!({"limit": m64, "swap": m128})),
            Some(&[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "134217728")]),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "67108864")]),
        ),
        reads_back(
            "memory_without_swap",
            memory(json!({"limit": m64, "swap": m64})),
            Some(&[("memory.memsw.limit_in_bytes", "67108864")]),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "0")]),
        ),
        reads_back(
            "memory_with_all_swap",
            memory(json!({"limit": m64, "swap": -1})),
            Some(&[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", NONE_V1)]),
            Some(&[("memory.max", "67108864"), ("memory.swap.max", "max")]),
        ),
        reads_back(
            "memory_without_limit",
            memory(json!({"limit": -1})),
            Some(&[("memory.limit_in_bytes", NONE_V1)]),
            Some(&[("memory.max", "max")]),
        ),
        reads_back("memory_swappiness", memory(json!({"swappiness": 17})), Some(&[("memory.swappiness", "17")]), None),
        reads_back(
            "memory_oom_killer",
            memory(json!({"disableOOMKiller": true})),
            Some(&[("memory.oom_control", "oom_kill_disable 1\nunder_oom 0\noom_kill 0")]),
            None,
        ),
        reads_back(
            "cpu_quota_and_period",
            cpu(json!({"quota": 20000, "period": 50000})),
            Some(&[("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "50000")]),
            Some(&[("cpu.max", "20000 50000")]),
        ),
        reads_back(
            "cpu_quota",
            cpu(json!({"quota": 20000})),
            Some(&[("cpu.cfs_quota_us", "20000"), ("cpu.cfs_period_us", "100000")]),
            Some(&[("cpu.max", "20000 100000")]),
        ),
        reads_back(
            "cpu_period",
            cpu(json!({"period": 50000})),
            Some(&[("cpu.cfs_quota_us", "-1"), ("cpu.cfs_period_us", "50000")]),
            Some(&[("cpu.max", "max 50000")]),
        ),
        reads_back(
            "cpu_burst",
            cpu(json!({"quota": 20000, "burst": 10000})),
            Some(&[("cpu.cfs_burst_us", "10000")]),
            Some(&[("cpu.max.burst", "10000")]),
        )
        .differs("runc", OLD_RUNC)
        .differs("crun", "1.8.1 writes the burst first, and to v1's files only"),
        reads_back(
            "cpu_idle",
            cpu(json!({"idle": 1, "shares": 512})),
            Some(&[("cpu.idle", "1")]),
            Some(&[("cpu.idle", "1")]),
        )
        .differs("runc", OLD_RUNC)
        .differs("crun", "it writes a weight too, which the kernel refuses"),
        reads_back("cpu_shares", cpu(json!({"shares": 512})), Some(&[("cpu.shares", "512")]), None),
        reads_back(
            "cpuset",
            cpu(json!({"cpus": "0", "mems": "0"})),
            Some(&[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
            Some(&[("cpuset.cpus", "0"), ("cpuset.mems", "0")]),
        ),
        reads_back("pids_limit", pids(json!({"limit": 7})), Some(&[("pids.max", "7")]), Some(&[("pids.max", "7")])),
        reads_back(
            "pids_without_limit",
            pids(json!({"limit": -1})),
            Some(&[("pids.max", "max")]),
            Some(&[("pids.max", "max")]),
        )
        .differs("crun", "1.8.1 writes -1, which the kernel refuses"),
        where_we_limit(reads_back(
            "pids_none",
            pids(json!({})),
            Some(&[("pids.max", "max")]),
            Some(&[("pids.max", "max")]),
        )),
        reads_back("pids_zero", pids(json!({"limit": 0})), Some(&[("pids.max", "1")]), Some(&[("pids.max", "1")]))
            .only(&["ferrun"], "before runtime-spec 1.3 a limit of 0 was none"),
        reads_back(
            "zeros_are_nothing_asked",
            json!({"memory": {"limit": 0, "swap": 0, "reservation": 0}, "cpu": {"shares": 0, "quota": 0, "period": 0}}),
            Some(&[("memory.limit_in_bytes", NONE_V1), ("cpu.cfs_quota_us", "-1"), ("cpu.shares", "1024")]),
            Some(&[("memory.max", "max"), ("cpu.max", "max 100000"), ("cpu.weight", "100")]),
        )
        .differs("crun", "it writes them"),
    ]
}

pub(super) fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Whether this machine can limit what `file` is about.
pub(super) fn has(file: &str) -> Res {
    let controller = file.split('.').next().unwrap_or_default();
    let mounted = if is_v2() {
        let known = text("/sys/fs/cgroup/cgroup.controllers")?;
        controller == "cgroup" || known.split_whitespace().any(|name| name == controller)
    } else {
        let named = |h: &PathBuf| {
            h.file_name().is_some_and(|name| name.to_string_lossy().split(',').any(|name| name == controller))
        };
        cgroup::hierarchies().iter().any(named)
    };
    if mounted { Ok(()) } else { skip(format!("no {controller} controller here")) }
}

/// A container that was created, and its cgroups.
pub(super) struct Limited {
    pub(super) container: Container,
    pub(super) directories: Vec<PathBuf>,
}

impl Limited {
    pub(super) fn file(&self, file: &str) -> Option<PathBuf> {
        self.directories.iter().map(|d| d.join(file)).find(|f| f.exists())
    }

    pub(super) fn read(&self, file: &str) -> Res<String> {
        match self.file(file) {
            Some(path) => Ok(text(path)?.trim_end().to_owned()),
            None => broken(format!("there is no {file} in {:?}", self.directories)),
        }
    }
}

fn path_of(b: &Bundle) -> String {
    b.cgroup()
}

/// v2 beside v1 limits nothing.
pub(super) fn directories(path: &str) -> Vec<PathBuf> {
    cgroup::directories(path).into_iter().filter(|d| !d.starts_with("/sys/fs/cgroup/unified")).collect()
}

/// Created with these limits; skips where the machine has no such files.
pub(super) fn limited(cx: &Cx, asked: &Value, files: &[(&str, &str)]) -> Res<Limited> {
    for (file, _) in files {
        has(file)?;
        probe(cx, file)?;
    }
    let mut b = cx.bundle()?;
    b.set("/linux/resources", asked.clone()).sleeps();
    let container = cx.create(&b)?;
    Ok(Limited { container, directories: directories(&path_of(&b)) })
}

/// Some files are there on some kernels only: a cgroup of our own tells.
fn probe(cx: &Cx, file: &str) -> Res {
    let path = format!("{}/probe", cx.options.cgroup_parent());
    let parents = cgroup::directories(&cx.options.cgroup_parent()).is_empty();
    cgroup::make(&path)?;
    if is_v2() {
        let mut level = PathBuf::from("/sys/fs/cgroup");
        let controller = file.split('.').next().unwrap_or_default();
        for part in path.trim_start_matches('/').split('/') {
            let _ = fs::write(level.join("cgroup.subtree_control"), format!("+{controller}"));
            level.push(part);
        }
    }
    let made = directories(&path);
    let found = made.iter().any(|d| d.join(file).exists());
    let made = if parents { cx.options.cgroup_parent() } else { path };
    for dir in cgroup::directories(&made) {
        cgroup::remove_tree(&dir);
    }
    if found { Ok(()) } else { skip(format!("this kernel has no {file}")) }
}

fn weight(cx: &Cx) -> Res {
    if !is_v2() {
        return skip("v1 has shares");
    }
    for (shares, weight) in [(2, "1"), (512, "59"), (1024, "100"), (2048, "174"), (262_144, "10000")] {
        let c = limited(cx, &json!({"cpu": {"shares": shares}}), &[("cpu.weight", "")])?;
        same!(c.read("cpu.weight")?, weight, format!("cpu.weight of {shares} shares"));
    }
    Ok(())
}

fn hugepages(cx: &Cx) -> Res {
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages").map(|dir| dir.flatten().count()).unwrap_or_default();
    if sizes == 0 {
        return skip("no huge pages here");
    }
    let file = if is_v2() { "hugetlb.2MB.max" } else { "hugetlb.2MB.limit_in_bytes" };
    let asked = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]});
    let c = limited(cx, &asked, &[(file, "")])?;
    same!(c.read(file)?, "4194304", file);
    let reserved = file.replace("2MB", "2MB.rsvd");
    if c.file(&reserved).is_some() && !cx.is("crun") {
        same!(c.read(&reserved)?, "4194304", reserved);
    }
    Ok(())
}

/// A whole disk of this machine.
fn disk() -> Res<(u32, u32)> {
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let numbers = text(entry.path().join("dev"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some((major, minor)) = numbers.trim().split_once(':')
            && !name.starts_with("loop")
            && !name.starts_with("ram")
        {
            return Ok((major.parse()?, minor.parse()?));
        }
    }
    skip("no disk here")
}

fn throttle(cx: &Cx) -> Res {
    let (major, minor) = disk()?;
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let asked = json!({"blockIO": {
        "throttleReadBpsDevice": rate(MIB), "throttleWriteBpsDevice": rate(2 * MIB),
        "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400),
    }});
    if is_v2() {
        let c = limited(cx, &asked, &[("io.max", "")])?;
        let want = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=300 wiops=400");
        same!(c.read("io.max")?, want, "io.max");
        return Ok(());
    }
    let c = limited(cx, &asked, &[("blkio.throttle.read_bps_device", "")])?;
    for (file, rate) in [("read_bps", "1048576"), ("write_bps", "2097152"), ("read_iops", "300"), ("write_iops", "400")]
    {
        let file = format!("blkio.throttle.{file}_device");
        same!(c.read(&file)?, format!("{major}:{minor} {rate}"), file);
    }
    Ok(())
}

fn io_weight(cx: &Cx) -> Res {
    let files: &[(&str, &str)] = if is_v2() {
        &[("io.bfq.weight", "default 500"), ("io.weight", "default 4950")]
    } else {
        &[("blkio.weight", "500"), ("blkio.bfq.weight", "500")]
    };
    for (file, value) in files {
        if probe(cx, file).is_ok() {
            let c = limited(cx, &json!({"blockIO": {"weight": 500}}), &[(file, "")])?;
            let found = c.read(file)?;
            let first = found.lines().next().unwrap_or_default();
            ensure!(first == *value || first == value.trim_start_matches("default "), "{file}: {found}");
            return Ok(());
        }
    }
    skip("this kernel weighs no I/O")
}

fn network(cx: &Cx) -> Res {
    if is_v2() {
        return skip("v2 has no such controllers");
    }
    let asked = json!({"network": {"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 5}]}});
    let c = limited(cx, &asked, &[("net_cls.classid", ""), ("net_prio.ifpriomap", "")])?;
    same!(c.read("net_cls.classid")?, "1048577", "net_cls.classid");
    ensure!(c.read("net_prio.ifpriomap")?.lines().any(|l| l == "lo 5"), "{}", c.read("net_prio.ifpriomap")?);
    Ok(())
}

/// RDMA devices are rare: the error for one that is not there shows that it was tried.
fn rdma(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/linux/resources/rdma", json!({"mlx5_none": {"hcaHandles": 3}}));
    let out = cx.run(&b)?.fails(&["/linux/resources/rdma/mlx5_none"])?;
    ensure!(out.stderr.contains("rdma"), "{}", out.stderr);
    Ok(())
}

fn unified(cx: &Cx) -> Res {
    if !is_v2() {
        return skip("v1 has none");
    }
    let asked = json!({
        "memory": {"limit": 64 * MIB},
        "unified": {"memory.max": "33554432", "memory.high": "16777216", "pids.max": "9"}
    });
    let files = [("memory.max", "33554432"), ("memory.high", "16777216"), ("pids.max", "9")];
    let c = limited(cx, &asked, &files)?;
    for (file, value) in files {
        same!(c.read(file)?, value, file);
    }
    Ok(())
}

fn unified_on_v1(cx: &Cx) -> Res {
    if is_v2() {
        return skip("v2 has it");
    }
    let mut b = cx.bundle()?;
    b.set("/linux/resources/unified", json!({"memory.high": "16777216"}));
    cx.run(&b)?.fails(&["cannot use unified on cgroup v1"])?;
    Ok(())
}

fn handed_down(cx: &Cx) -> Res {
    if !is_v2() {
        return skip("v1 has hierarchies");
    }
    if cx.options.systemd() {
        return skip("systemd hands controllers down itself");
    }
    has("memory.max")?;
    let mut b = cx.bundle()?;
    let path = format!("{}/a/b/c", path_of(&b));
    b.set("/linux/cgroupsPath", json!(path)).set("/linux/resources/memory", json!({"limit": 64 * MIB}));
    b.sleeps();
    let c = cx.create(&b)?;
    let directory = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    same!(text(directory.join("memory.max"))?, "67108864\n", "memory.max");
    cx.delete_force(&c.id)?;
    for above in directory.ancestors().skip(1).take(3) {
        cgroup::remove_tree(above);
    }
    Ok(())
}

/// Nothing is asked for, and yet what is used is counted.
fn statistics(cx: &Cx) -> Res {
    let files = if is_v2() {
        [("memory.current", ""), ("pids.current", ""), ("cpu.stat", "")]
    } else {
        [("memory.usage_in_bytes", ""), ("pids.current", ""), ("cpuacct.usage", "")]
    };
    let c = limited(cx, &json!({}), &files)?;
    for (file, _) in files {
        c.read(file)?;
    }
    Ok(())
}

fn started(cx: &Cx, asked: Value, script: &str, files: &[(&str, &str)]) -> Res<Limited> {
    for (file, _) in files {
        has(file)?;
    }
    let mut b = cx.bundle()?;
    b.set("/linux/resources", asked).sh(script);
    let container = cx.up(&b)?;
    Ok(Limited { container, directories: directories(&path_of(&b)) })
}

fn out_of_memory(cx: &Cx) -> Res {
    let limit = 32 * MIB;
    let (file, events) =
        if is_v2() { ("memory.max", "memory.events") } else { ("memory.limit_in_bytes", "memory.oom_control") };
    // a buffer as large as the block; the shell says how it ended
    let script = "dd if=/dev/zero of=/dev/null bs=100M count=1; echo \"status $?\"; sleep 100";
    let c = started(cx, json!({"memory": {"limit": limit, "swap": limit}}), script, &[(file, "")])?;
    cx.hears(&c.container, "status")?;
    ensure!(c.container.said().contains("status 137"), "{}", c.container.said());
    let killed = c.read(events)?.lines().any(|l| l.strip_prefix("oom_kill ").is_some_and(|n| n != "0"));
    ensure!(killed, "{events}: {}", c.read(events)?);
    Ok(())
}

fn tiny_memory(cx: &Cx) -> Res {
    has(if is_v2() { "memory.max" } else { "memory.limit_in_bytes" })?;
    let mut b = cx.bundle()?;
    b.set("/linux/resources/memory", json!({"limit": 4096}));
    let path = path_of(&b);
    cx.with_bundle("create", &b, &cx.id())?
        .out()?
        .fails(&["OOM-killed (memory limit too low?) (config.json /linux/resources/memory/limit)"])?;
    ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    Ok(())
}

/// The runtime's own memory is not charged to the container, nor are its processes. One page less than 256 KiB: that is
/// what the kernel charges for one CPU in advance (MEMCG_CHARGE_BATCH, 64 pages), and a process that has moved to
/// another CPU would be killed for the want of it, about once in 400 runs. Where it does not fit, the kernel charges
/// page by page.
fn smallest(cx: &Cx) -> Res {
    has(if is_v2() { "memory.max" } else { "memory.limit_in_bytes" })?;
    has("pids.max")?;
    let mut b = cx.bundle()?;
    b.set("/linux/resources", json!({"memory": {"limit": 252 * 1024}, "pids": {"limit": 1}})).args(&["true"]);
    for _ in 0..4 {
        cx.run(&b)?.ok()?;
    }
    Ok(())
}

fn forks(cx: &Cx) -> Res {
    if cx.options.systemd() {
        return skip("a shell that cannot fork ends, and with it its scope");
    }
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done 2>&1; echo done; sleep 100";
    let c = started(cx, json!({"pids": {"limit": 6}}), script, &[("pids.max", "")])?;
    cx.hears(&c.container, "fork")?;
    let current = c.read("pids.current")?;
    ensure!(current.parse::<u32>().is_ok_and(|n| n <= 6), "{current}");
    Ok(())
}

fn throttled(cx: &Cx) -> Res {
    let asked = json!({"cpu": {"quota": 5000, "period": 50000}});
    let file = if is_v2() { "cpu.max" } else { "cpu.cfs_quota_us" };
    let c = started(cx, asked, "echo up; while :; do :; done", &[(file, "")])?;
    eventually("the loop is throttled", || {
        let count = c.read("cpu.stat")?.lines().find_map(|l| l.strip_prefix("nr_throttled ")?.parse::<u32>().ok());
        Ok(count.is_some_and(|n| n > 3))
    })
}

fn affinity(cx: &Cx) -> Res {
    has("cpuset.cpus")?;
    let mut b = cx.bundle()?;
    b.set("/linux/resources/cpu", json!({"cpus": "1"}));
    if !text("/proc/self/status")?.lines().any(|l| l.starts_with("Cpus_allowed_list:") && l.ends_with("-1")) {
        return skip("there is no second CPU to choose");
    }
    let seen = cx.sh(&mut b, "grep Cpus_allowed_list /proc/self/status")?;
    ensure!(seen.trim_end().ends_with("\t1"), "{seen}");
    Ok(())
}

/// Refused from the document alone: no cgroup is made, no state is left.
fn mistakes(cx: &Cx) -> Res {
    for (asked, pointer) in [
        (json!({"memory": {"limit": -5}}), "/memory/limit"),
        (json!({"memory": {"limit": 10 * MIB, "swap": MIB}}), "/memory/swap"),
        (json!({"memory": {"swap": MIB}}), "/memory/swap"),
        (json!({"memory": {"swappiness": 101}}), "/memory/swappiness"),
        (json!({"cpu": {"quota": 999}}), "/cpu/quota"),
        (json!({"cpu": {"period": 5}}), "/cpu/period"),
        (json!({"cpu": {"cpus": "0-"}}), "/cpu/cpus"),
        (json!({"pids": {"limit": -2}}), "/pids/limit"),
        (json!({"blockIO": {"weight": 9}}), "/blockIO/weight"),
        (json!({"hugepageLimits": [{"pageSize": "2", "limit": 1}]}), "/hugepageLimits/0/pageSize"),
        (json!({"unified": {"../memory.max": "1"}}), "/unified/..~1memory.max"),
        (json!({"unified": {"cgroup.procs": "1"}}), "/unified/cgroup.procs"),
        (json!({"devices": [{"allow": true, "access": "x"}]}), "/devices/0/access"),
    ] {
        let mut b = cx.bundle()?;
        b.set("/linux/resources", asked);
        let id = cx.id();
        cx.with_bundle("create", &b, &id)?.out()?.fails(&[&format!("(config.json /linux/resources{pointer})")])?;
        ensure!(!cx.exists(&id), "{pointer}: state is left");
        ensure!(cgroup::directories(&path_of(&b)).is_empty(), "{pointer}: a cgroup is left");
    }
    Ok(())
}

fn refused(cx: &Cx) -> Res {
    for (file, asked, words) in [
        ("cpuset.cpus", json!({"cpu": {"cpus": "0-999"}}), "/linux/resources/cpu/cpus); the parent cgroup has"),
        (
            if is_v2() { "io.max" } else { "blkio.throttle.read_bps_device" },
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 5}]}}),
            "no such device (config.json /linux/resources/blockIO/throttleReadBpsDevice/0/rate)",
        ),
        (
            if is_v2() { "memory.max" } else { "cpu.rt_runtime_us" },
            if is_v2() {
                json!({"unified": {"memory.max": "lots"}})
            } else {
                json!({"cpu": {"realtimeRuntime": 900_000}})
            },
            "invalid argument (config.json /linux/resources/",
        ),
    ] {
        if has(file).is_err() || probe(cx, file).is_err() {
            continue;
        }
        let mut b = cx.bundle()?;
        b.set("/linux/resources", asked);
        let path = path_of(&b);
        cx.run(&b)?.fails(&[words])?;
        ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    }
    Ok(())
}

fn missing_controller(cx: &Cx) -> Res {
    let all = [
        ("hugetlb", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}), "/hugepageLimits/0/limit"),
        ("rdma", json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), "/rdma/mlx5_1"),
        ("cpuset", json!({"cpu": {"cpus": "0"}}), "/cpu/cpus"),
        ("net_cls", json!({"network": {"classID": 5}}), "/network/classID"),
    ];
    let mut tried = 0;
    for (controller, asked, pointer) in all {
        if has(controller).is_ok() || is_v2() && controller == "net_cls" {
            continue;
        }
        tried += 1;
        let mut b = cx.bundle()?;
        b.set("/linux/resources", asked);
        let path = path_of(&b);
        let out = cx.run(&b)?.fails(&[&format!("limit {controller}: ")])?;
        for words in [format!("{controller} controller"), format!("(config.json /linux/resources{pointer})")] {
            ensure!(out.stderr.contains(&words), "{words:?} is not in {}", out.stderr);
        }
        ensure!(cgroup::directories(&path).is_empty(), "left: {:?}", cgroup::directories(&path));
    }
    if tried == 0 { skip("this machine has every controller") } else { Ok(()) }
}
