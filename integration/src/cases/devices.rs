//! Which devices a container may use. The ones that are tried have no driver (60 to 63 are for local use): who
//! may open one is told that there is none, who may not is told so first.

use crate::bundle::Bundle;
use crate::case::{Case, Res, case, skip};
use crate::cgroup;
use crate::cx::{Cx, text};
use crate::probe::{attached_device_programs, loaded_device_programs};
use crate::run::{Job, eventually};
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

const HOLE_V1: &str = "runc refuses a hole in a wildcard; crun 1.8.1 asks the kernel for one, which v1 ignores";

pub fn cases() -> Vec<Case> {
    let all = vec![
        case("devices::nothing_but_the_defaults", nothing),
        case("devices::nothing_but_the_defaults_without_rules", nothing_without)
            .differs("crun", "without rules it allows everything"),
        case("devices::the_defaults_work", defaults),
        case("devices::the_defaults_work_after_deny_all", defaults_after_deny),
        case("devices::nodes_can_be_made_of_all", nodes),
        case("devices::allowed_by_a_rule", allowed),
        case("devices::read_only", read_only),
        case("devices::write_only", write_only),
        case("devices::all_minors", all_minors),
        case("devices::all_of_a_kind", all_of_a_kind),
        case("devices::allow_all", allow_all),
        case("devices::deny_one_after_allow_all", deny_one),
        case("devices::deny_writing_after_allow_all", deny_writing)
            .differs("runc", "1.1 on v2: who asks for both is not refused")
            .differs("crun", "on v2: who asks for both is not refused"),
        case("devices::deny_a_kind_after_allow_all", deny_kind),
        case("devices::deny_all_forgets_what_was_allowed", forget),
        case("devices::a_later_rule_takes_away", take_away),
        case("devices::rules_add_up", add_up).differs("crun", "1.8.1 on v2: each rule by itself"),
        case("devices::a_hole_in_a_wildcard", hole).only(&["ferrun"], HOLE_V1),
        case("devices::a_parent_that_forbids", parent_forbids)
            .only(&["ferrun"], "the others fail for want of their own defaults"),
        case("devices::one_program_in_the_cgroup", one_program),
        case("devices::no_program_is_left_by_many", none_left).patience(10),
        case("devices::no_program_is_left_by_a_failure", none_left_by_failure),
        case("devices::an_update_is_in_force", update).only(&["ferrun"], "runc and crun take no devices there"),
        case("devices::a_thousand_updates", updates)
            .only(&["ferrun"], "runc and crun take no devices there")
            .patience(10),
        case("devices::an_update_replaces_what_others_attached", update_stack)
            .only(&["ferrun"], "runc and crun take no devices there"),
    ];
    let for_all = ["devices::the_defaults_work", "devices::one_program", "devices::no_program"];
    let nodes = |case: Case| {
        let any = for_all.iter().any(|name| case.name.starts_with(name));
        if any { case } else { case.without_userns("nobody there can make the nodes that the rules are about") }
    };
    all.into_iter().map(nodes).collect()
}

/// For each `c 60 1`: whether a node can be made, read, written, and both: `yyyn`.
const TRY: &str = r#"
say() { case "$1" in *permitted*) printf n;; *"No such device"*) printf y;; *) printf "?%s" "$1";; esac; }
try() {
  f=/dev/n-$1-$2-$3
  mknod $f $1 $2 $3 2>/dev/null || { printf "n---\n"; return; }
  printf y
  say "$( { : <$f; } 2>&1 )"; say "$( { : >$f; } 2>&1 )"; say "$( { : <>$f; } 2>&1 )"
  echo
}
"#;

fn with_rules(cx: &Cx, rules: &Value) -> Res<Bundle> {
    if cx.is("crun") && is_v2() && !can_raise_limits()? {
        return skip("crun raises RLIMIT_MEMLOCK for a program, which takes CAP_SYS_RESOURCE");
    }
    let mut b = cx.bundle()?;
    for set in ["bounding", "effective", "permitted"] {
        b.push(&format!("/process/capabilities/{set}"), json!("CAP_MKNOD"));
    }
    if !rules.is_null() {
        b.set("/linux/resources/devices", rules.clone());
    }
    Ok(b)
}

fn can_raise_limits() -> Res<bool> {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let status = text("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    Ok(u64::from_str_radix(effective.trim(), 16).is_ok_and(|mask| mask & CAP_SYS_RESOURCE != 0))
}

fn script(devices: &[&str]) -> String {
    let tries: Vec<String> = devices.iter().map(|device| format!("try {device}")).collect();
    format!("{TRY}\n{}", tries.join("\n"))
}

fn tried(cx: &Cx, rules: &Value, devices: &[&str]) -> Res<Vec<String>> {
    let mut b = with_rules(cx, rules)?;
    Ok(cx.sh(&mut b, &script(devices))?.lines().map(str::to_owned).collect())
}

fn nothing(cx: &Cx) -> Res {
    let rules = json!([{"allow": false, "access": "rwm"}]);
    same!(tried(cx, &rules, &["c 60 1", "b 60 1", "c 61 0"])?, ["ynnn", "ynnn", "ynnn"], rules);
    Ok(())
}

fn nothing_without(cx: &Cx) -> Res {
    for rules in [Value::Null, json!([])] {
        same!(tried(cx, &rules, &["c 60 1", "b 60 1", "c 61 0"])?, ["ynnn", "ynnn", "ynnn"], rules);
    }
    Ok(())
}

const DEFAULTS: &str = "echo x >/dev/null && echo x >/dev/zero && : >/dev/urandom && : >/dev/random \
    && : </dev/full && : <>/dev/ptmx && head -c 4 /dev/urandom | wc -c && ls /dev/pts/ptmx";

fn defaults(cx: &Cx) -> Res {
    let mut b = with_rules(cx, &Value::Null)?;
    same!(cx.sh(&mut b, DEFAULTS)?, "4\n/dev/pts/ptmx\n", "the script's output");
    Ok(())
}

fn defaults_after_deny(cx: &Cx) -> Res {
    let mut b =
        with_rules(cx, &json!([{"allow": false, "access": "rwm"}, {"allow": false, "type": "c", "access": "rwm"}]))?;
    same!(cx.sh(&mut b, DEFAULTS)?, "4\n/dev/pts/ptmx\n", "the script's output");
    Ok(())
}

fn nodes(cx: &Cx) -> Res {
    let mut b = with_rules(cx, &Value::Null)?;
    let made =
        cx.sh(&mut b, "for k in b c; do for m in 1 8 60 4095; do mknod /dev/$k$m $k $m 77 && echo $k$m; done; done")?;
    same!(made.lines().count(), 8, "nodes");
    Ok(())
}

fn rule(allow: bool, kind: &str, major: i64, minor: i64, access: &str) -> Value {
    let mut rule = json!({"allow": allow, "type": kind, "access": access});
    for (key, number) in [("major", major), ("minor", minor)] {
        if number >= 0 {
            rule[key] = json!(number);
        }
    }
    rule
}

/// No number.
const ANY: i64 = -1;

fn deny_all() -> Value {
    rule(false, "a", ANY, ANY, "rwm")
}

fn allow_everything() -> Value {
    rule(true, "a", ANY, ANY, "rwm")
}

fn allowed(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "c", 60, 1, "rwm"), rule(true, "b", 61, 2, "rw")]);
    let devices = ["c 60 1", "c 60 2", "b 60 1", "b 61 2", "c 61 2"];
    same!(tried(cx, &rules, &devices)?, ["yyyy", "ynnn", "ynnn", "yyyy", "ynnn"], "what is allowed");
    Ok(())
}

fn read_only(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "c", 60, 1, "r")]);
    same!(tried(cx, &rules, &["c 60 1"])?, ["yynn"], "c 60:1");
    Ok(())
}

fn write_only(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "b", 60, 1, "w")]);
    same!(tried(cx, &rules, &["b 60 1"])?, ["ynyn"], "b 60:1");
    Ok(())
}

fn all_minors(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "c", 60, ANY, "rw")]);
    same!(tried(cx, &rules, &["c 60 0", "c 60 99999", "c 61 0", "b 60 0"])?, ["yyyy", "yyyy", "ynnn", "ynnn"], "all");
    Ok(())
}

fn all_of_a_kind(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "b", ANY, ANY, "rw")]);
    same!(tried(cx, &rules, &["b 60 0", "b 61 7", "c 60 0"])?, ["yyyy", "yyyy", "ynnn"], "all");
    Ok(())
}

fn allow_all(cx: &Cx) -> Res {
    same!(tried(cx, &json!([allow_everything()]), &["c 60 1", "b 60 1"])?, ["yyyy", "yyyy"], "allow a");
    Ok(())
}

fn deny_one(cx: &Cx) -> Res {
    let rules = json!([allow_everything(), rule(false, "c", 60, 1, "rw"), rule(false, "b", 61, ANY, "rw")]);
    let devices = ["c 60 1", "c 60 2", "b 60 1", "b 61 9"];
    same!(tried(cx, &rules, &devices)?, ["ynnn", "yyyy", "yyyy", "ynnn"], "all but two");
    Ok(())
}

fn deny_writing(cx: &Cx) -> Res {
    let rules = json!([allow_everything(), rule(false, "b", 61, ANY, "w")]);
    same!(tried(cx, &rules, &["b 61 9", "b 60 9"])?, ["yynn", "yyyy"], "b 61:*");
    Ok(())
}

fn deny_kind(cx: &Cx) -> Res {
    let rules = json!([allow_everything(), rule(false, "b", ANY, ANY, "rw")]);
    same!(tried(cx, &rules, &["b 60 1", "c 60 1"])?, ["ynnn", "yyyy"], "b *:*");
    Ok(())
}

fn forget(cx: &Cx) -> Res {
    let rules = json!([rule(true, "c", 60, 1, "rw"), deny_all(), rule(true, "c", 60, 2, "rw")]);
    same!(tried(cx, &rules, &["c 60 1", "c 60 2"])?, ["ynnn", "yyyy"], "after deny a");
    Ok(())
}

fn take_away(cx: &Cx) -> Res {
    let rules =
        json!([deny_all(), rule(true, "c", 60, 1, "rw"), rule(true, "c", 60, 2, "rw"), rule(false, "c", 60, 1, "rw")]);
    same!(tried(cx, &rules, &["c 60 1", "c 60 2"])?, ["ynnn", "yyyy"], "after deny c 60:1");
    Ok(())
}

fn add_up(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "c", 60, 1, "r"), rule(true, "c", 60, 1, "w")]);
    same!(tried(cx, &rules, &["c 60 1"])?, ["yyyy"], "r and w");
    Ok(())
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn hole(cx: &Cx) -> Res {
    let rules = json!([deny_all(), rule(true, "c", 60, ANY, "rw"), rule(false, "c", 60, 1, "rw")]);
    if is_v2() {
        same!(tried(cx, &rules, &["c 60 1", "c 60 2"])?, ["ynnn", "yyyy"], "60:1 out of 60:*");
        return Ok(());
    }
    let mut b = with_rules(cx, &rules)?;
    b.sh("echo ran");
    let out = cx.run(&b)?.fails(&["cgroup v1", "c 60:1", "/linux/resources/devices/2"])?;
    ensure!(!out.stdout.contains("ran"), "it ran");
    Ok(())
}

/// A parent cgroup with rules of its own (v1 only): what the runtime adds may be refused, what the config asks
/// for may not.
fn parent_forbids(cx: &Cx) -> Res {
    if is_v2() {
        return skip("on v2 the parent's program is asked as well");
    }
    let parent = cx.cgroup();
    cgroup::make(&parent)?;
    let result = below_parent(cx, &parent);
    for dir in cgroup::directories(&parent) {
        cgroup::remove_tree(&dir);
    }
    result
}

fn below_parent(cx: &Cx, parent: &str) -> Res {
    let Some(dir) = cgroup::directories(parent).into_iter().find(|dir| dir.join("devices.list").exists()) else {
        return skip("no devices hierarchy");
    };
    fs::write(dir.join("devices.deny"), "a")?;
    for rule in ["c *:* m", "c 1:3 rw", "c 60:1 r", "c 5:* rwm", "c 136:* rwm"] {
        fs::write(dir.join("devices.allow"), rule)?;
    }
    let child = |b: &mut Bundle| {
        b.set("/linux/cgroupsPath", json!(format!("{parent}/{}", cx.id())));
    };
    let mut b = with_rules(cx, &json!([deny_all(), rule(true, "c", 60, 1, "r")]))?;
    child(&mut b);
    let said = cx.sh(&mut b, &format!("{}\necho x >/dev/null && echo null", script(&["c 60 1"])))?;
    same!(said, "yynn\nnull\n", "with what the parent has");
    let mut b = with_rules(cx, &json!([deny_all(), rule(true, "c", 60, 1, "rw")]))?;
    child(&mut b);
    cx.run(&b)?.fails(&["c 60:1", "/linux/resources/devices/1", "the parent cgroup forbids it"])?;
    let mut b = with_rules(cx, &json!([allow_everything()]))?;
    child(&mut b);
    cx.run(&b)?.fails(&["/linux/resources/devices/0", "the parent cgroup forbids it"])?;
    Ok(())
}

fn v2_directory(b: &Bundle) -> Res<PathBuf> {
    if !is_v2() {
        return skip("programs are for cgroup v2");
    }
    let path = b.cgroup();
    Ok(Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

fn one_program(cx: &Cx) -> Res {
    let mut b = with_rules(cx, &json!([deny_all()]))?;
    let dir = v2_directory(&b)?;
    let c = cx.sleeping(&mut b)?;
    same!(attached_device_programs(&dir)?.len(), 1, "programs in the cgroup");
    cx.delete_force(&c.id)?;
    Ok(())
}

fn back_to(before: usize) -> Res {
    // the kernel unloads them by and by
    eventually(&format!("{before} device programs are loaded"), || Ok(loaded_device_programs()? <= before))
}

fn none_left(cx: &Cx) -> Res {
    v2_directory(&with_rules(cx, &Value::Null)?)?;
    let before = loaded_device_programs()?;
    for _ in 0..10 {
        let mut jobs: Vec<(Job, String)> = Vec::new();
        for _ in 0..20 {
            let b = with_rules(cx, &json!([deny_all(), rule(true, "c", 60, 1, "r")]))?;
            let id = cx.id();
            cx.adopt(&id);
            jobs.push((cx.with_bundle("create", &b, &id)?.spawn()?, id));
        }
        let mut ids = Vec::new();
        for (job, id) in jobs {
            job.wait()?.ok()?;
            ids.push(id);
        }
        for id in ids {
            cx.delete_force(&id)?;
        }
    }
    back_to(before)
}

fn none_left_by_failure(cx: &Cx) -> Res {
    let mut b = with_rules(cx, &json!([deny_all()]))?;
    v2_directory(&b)?;
    let before = loaded_device_programs()?;
    b.args(&["no-such-program"]);
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    back_to(before)
}

/// `update --resources -`.
fn updated(cx: &Cx, id: &str, rules: &Value) -> Res {
    let document = json!({"devices": rules}).to_string();
    let out = cx.runtime("update").args(["--resources", "-", id]).stdin(document).out()?;
    if out.stderr.contains("unknown command") {
        return skip("there is no update yet");
    }
    out.ok()?;
    Ok(())
}

/// Tries its devices at each SIGUSR1.
fn trying(cx: &Cx, rules: &Value, devices: &[&str]) -> Res<(Bundle, crate::cx::Container)> {
    let mut b = with_rules(cx, rules)?;
    let nodes: Vec<String> = devices.iter().map(|d| format!("rm -f /dev/n-*; try {d}")).collect();
    b.sh(&format!("{TRY}\ntrap '{}; echo done' USR1\necho up; while :; do sleep 0.02; done", nodes.join("; ")));
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    Ok((b, c))
}

fn tries(cx: &Cx, c: &crate::cx::Container) -> Res<Vec<String>> {
    let from = c.said().len();
    cx.kill(&c.id, "USR1")?;
    eventually("the tries are done", || Ok(c.said()[from..].contains("done")))?;
    Ok(c.said()[from..].lines().filter(|line| *line != "done").map(str::to_owned).collect())
}

fn update(cx: &Cx) -> Res {
    let first = json!([deny_all(), rule(true, "c", 60, 1, "rw")]);
    let (_, c) = trying(cx, &first, &["c 60 1", "c 60 2", "b 60 1"])?;
    same!(tries(cx, &c)?, ["yyyy", "ynnn", "ynnn"], "before");
    updated(cx, &c.id, &json!([deny_all(), rule(true, "c", 60, 1, "r"), rule(true, "c", 60, 2, "rw")]))?;
    same!(tries(cx, &c)?, ["yynn", "yyyy", "ynnn"], "one more, one less");
    updated(cx, &c.id, &json!([allow_everything(), rule(false, "c", 60, 2, "rw")]))?;
    same!(tries(cx, &c)?, ["yyyy", "ynnn", "yyyy"], "all but one");
    updated(cx, &c.id, &json!([allow_everything()]))?;
    same!(tries(cx, &c)?, ["yyyy", "yyyy", "yyyy"], "all");
    updated(cx, &c.id, &json!([deny_all(), rule(true, "c", 60, 1, "w")]))?;
    same!(tries(cx, &c)?, ["ynyn", "ynnn", "ynnn"], "one");
    cx.delete_force(&c.id)?;
    Ok(())
}

/// What stays allowed is never refused, and what never was is never allowed.
fn updates(cx: &Cx) -> Res {
    let rules = [
        json!([deny_all(), rule(true, "c", 60, 1, "rw"), rule(true, "c", 61, ANY, "r")]),
        json!([deny_all(), rule(true, "c", 60, ANY, "rw"), rule(true, "c", 61, 1, "w")]),
    ];
    let mut b = with_rules(cx, &rules[0])?;
    // one of them is always allowed, one never, and /dev/null is everybody's
    b.sh("mknod /dev/always c 60 1; mknod /dev/never b 60 1; echo up; while :; do
            : </dev/null || echo lost; e=$( { : <>/dev/always; } 2>&1 ); case $e in *permitted*) echo refused;; esac
            e=$( { : </dev/never; } 2>&1 ); case $e in *permitted*) ;; *) echo open;; esac
          done");
    let directory = if is_v2() { Some(v2_directory(&b)?) } else { None };
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    // systemd takes its time, and keeps programs of its own to attach when it reloads
    let (rounds, settled) = if cx.options.systemd() { (100, 10) } else { (1000, 0) };
    let mut before = if is_v2() { loaded_device_programs()? } else { 0 };
    for round in 1..=rounds {
        if round == settled && is_v2() {
            before = loaded_device_programs()?;
        }
        updated(cx, &c.id, &rules[round % 2])?;
    }
    same!(c.said(), "up\n", "what the container says");
    if let Some(directory) = directory {
        same!(attached_device_programs(&directory)?.len(), 1, "programs in the cgroup");
        // systemd keeps the one that it was told of first
        back_to(before + usize::from(cx.options.systemd()))?;
    } else {
        let pid = cx.pid(&c.id)?;
        let own = text(format!("/proc/{pid}/cgroup"))?;
        ensure!(own.contains("devices"), "{own}");
    }
    cx.delete_force(&c.id)?;
    Ok(())
}

/// Whoever stacked programs there, an update leaves one.
fn update_stack(cx: &Cx) -> Res {
    let mut b = with_rules(cx, &json!([deny_all()]))?;
    let directory = v2_directory(&b)?;
    let c = cx.sleeping(&mut b)?;
    for _ in 0..5 {
        crate::probe::attach_device_program(&directory)?;
    }
    same!(attached_device_programs(&directory)?.len(), 6, "programs in the cgroup");
    updated(cx, &c.id, &json!([deny_all(), rule(true, "c", 60, 1, "r")]))?;
    same!(attached_device_programs(&directory)?.len(), 1, "programs after an update");
    cx.delete_force(&c.id)?;
    Ok(())
}
