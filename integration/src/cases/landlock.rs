//! Landlock by annotations.

use crate::bundle::Bundle;
use crate::case::{Case, Res, case, skip};
use crate::cx::Cx;
use crate::probe::raw::syscall;
use crate::{ensure, same};
use serde_json::json;

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("landlock::what_is_not_named_is_refused", paths),
        case("landlock::exec_is_confined_too", exec),
        case("landlock::tcp_ports", ports),
        case("landlock::signals_stay_inside", signals),
        case("landlock::beside_a_seccomp_filter_that_refuses_landlock", beside_seccomp),
        case("landlock::a_link_of_the_image_is_not_followed", link),
        case("landlock::mistakes_are_named", mistakes),
    ];
    cases = cases.into_iter().map(|case| case.only(&["ferrun"], "nobody else has it")).collect();
    cases
}

fn confined(cx: &Cx, rules: &[(&str, &str)]) -> Res<Bundle> {
    // landlock_create_ruleset(2) tells its version: 6 has all that is asked for here
    let version = syscall(libc::SYS_landlock_create_ruleset, &[0, 0, 1]);
    if version < 6 {
        return skip(format!("no Landlock here, or an old one: {version}"));
    }
    let mut b = cx.bundle()?;
    b.set("/process/noNewPrivileges", json!(true));
    for (name, value) in rules {
        b.set(&format!("/annotations/dev.ferrun.landlock.{name}"), json!(value));
    }
    Ok(b)
}

const LOOK: &str = "cat /etc/group > /tmp/copy && echo reads; mv /tmp/copy /tmp/moved && echo moves
    echo 2> /tmp/err > /etc/new || echo no-write; cat /secret 2> /tmp/err || echo no-read
    ls / 2> /tmp/err || echo no-list; cp /bin/busybox /tmp/sh; /tmp/sh 2> /tmp/err || echo no-execute";
const REFUSED: &str = "reads\nmoves\nno-write\nno-read\nno-list\nno-execute\n";

fn four_places(cx: &Cx) -> Res<Bundle> {
    let b = confined(cx, &[("execute", "/bin:/probe"), ("read", "/etc"), ("write", "/tmp")])?;
    std::fs::write(b.rootfs().join("secret"), "the oracle")?;
    std::fs::write(b.rootfs().join("etc/group"), "root:x:0:\n")?;
    Ok(b)
}

fn paths(cx: &Cx) -> Res {
    let mut b = four_places(cx)?;
    same!(cx.sh(&mut b, LOOK)?, REFUSED, "what was done and refused");
    ensure!(!b.rootfs().join("etc/new").exists(), "/etc was written to");
    // without the rules all of it can be done
    for name in ["execute", "read", "write"] {
        b.unset(&format!("/annotations/dev.ferrun.landlock.{name}"));
    }
    let said = cx.sh(&mut b, LOOK)?;
    ensure!(said.contains("the oracle") && !said.contains("no-"), "{said}");
    Ok(())
}

fn exec(cx: &Cx) -> Res {
    let mut b = four_places(cx)?;
    let c = cx.sleeping(&mut b)?;
    let out = cx.runtime("exec").arg(&c.id).args(["sh", "-c", LOOK]).out()?.ok()?;
    same!(out.stdout, REFUSED, "what was done and refused");
    let process = json!({"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "noNewPrivileges": false});
    let file = cx.path("process.json");
    std::fs::write(&file, process.to_string())?;
    let out = cx.runtime("exec").arg("--process").arg(&file).arg(&c.id).out()?;
    out.fails(&["noNewPrivileges must be true"])?;
    Ok(())
}

fn ports(cx: &Cx) -> Res {
    let mut b = confined(cx, &[("bind-tcp", "8080"), ("connect-tcp", "")])?;
    let script = "nc -l -p 8080 & sleep 0.3; kill $! && echo listens; nc -l -p 8081 2>&1 || echo no-listen
        nc 127.0.0.1 8080 2>&1 || echo no-connect";
    let said = cx.sh(&mut b, script)?;
    ensure!(said.starts_with("listens\n"), "{said}");
    ensure!(said.contains("no-listen") && said.contains("no-connect"), "{said}");
    same!(said.matches("Permission denied").count(), 2, said);
    Ok(())
}

fn signals(cx: &Cx) -> Res {
    for (scope, words) in [("signal", "not permitted\n"), ("abstract-unix-socket", "sent\n")] {
        let mut b = confined(cx, &[("scope", scope)])?;
        let c = cx.sleeping(&mut b)?;
        let script = "kill -0 1 2>&1 && echo sent";
        let said = cx.runtime("exec").arg(&c.id).args(["sh", "-c", script]).out()?.stdout;
        ensure!(said.ends_with(words), "scope {scope}: {said}");
    }
    Ok(())
}

/// The filter comes after the rules.
fn beside_seccomp(cx: &Cx) -> Res {
    let mut b = four_places(cx)?;
    let calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
    let refused = json!([{"names": calls, "action": "SCMP_ACT_KILL_PROCESS"}]);
    b.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": refused}));
    same!(cx.sh(&mut b, LOOK)?, REFUSED, "what was done and refused");
    Ok(())
}

/// It would choose what is allowed.
fn link(cx: &Cx) -> Res {
    let mut b = confined(cx, &[("execute", "/bin"), ("write", "/data/x")])?;
    std::os::unix::fs::symlink("/", b.rootfs().join("data"))?;
    b.sh("true");
    let words = ["dev.ferrun.landlock.write: allow /data/x", "symbolic link", "/annotations/dev.ferrun.landlock.write"];
    cx.run(&b)?.fails(&words)?;
    Ok(())
}

fn mistakes(cx: &Cx) -> Res {
    let mut b = confined(cx, &[("read", "/nowhere")])?;
    b.sh("true");
    cx.run(&b)?.fails(&["dev.ferrun.landlock.read: allow /nowhere", "no such file"])?;
    b.set("/annotations/dev.ferrun.landlock.read", json!("/bin"));
    cx.run(&b)?.fails(&["permission denied", "must allow its execution"])?;
    Ok(())
}
