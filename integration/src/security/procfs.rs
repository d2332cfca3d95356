//! Writes that the runtime does through /proc: to a real one, of its own, whatever is mounted in the container.

use super::oracle::Guard;
use super::paths::tried;
use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::{Cx, text};
use crate::ensure;
use serde_json::json;
use std::fmt::Write;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t04_proc_is_a_volume", proc_volume),
        case("security::t09_a_very_long_id_map", long_map),
        case("security::t11_sysctl_that_names_another", sysctl_names)
            .differs("runc", "writes a value of two lines")
            .differs("crun", "writes a value of two lines"),
        case("security::t22_something_over_proc", over_proc).differs("runc", "CVE-2025-52881, fixed in 1.2.8"),
    ]
}

/// A tree that looks like /proc; what would be written to it is seen by the guard.
fn fake(guard: &Guard<'_>, b: &mut Bundle, destination: &str, kind: &str) {
    match kind {
        "tmpfs" => b.mount(destination, "tmpfs", "tmpfs", &[]),
        _ => b.bind(guard.dir(), destination, &["rbind"]),
    };
}

/// CVE-2019-16884: an image with a volume on /proc; labels and sysctls go to plain files there.
fn proc_volume(cx: &Cx) -> Res {
    for kind in ["tmpfs", "bind"] {
        for label in [false, true] {
            let guard = Guard::with(
                cx,
                &["self/attr/exec", "self/attr/apparmor/exec", "1/attr/exec", "sys/net/ipv4/ip_forward"],
            )?;
            let mut b = cx.bundle()?;
            b.unmount("/proc").unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
            fake(&guard, &mut b, "/proc", kind);
            b.mount("/real", "proc", "proc", &[]);
            b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
            if label {
                b.set("/process/apparmorProfile", json!("ferrun-no-such-profile"));
            }
            let out = tried(cx, b.sh("cat /real/sys/net/ipv4/ip_forward"))?;
            guard.untouched()?;
            ensure!(out.code != Some(0) || out.stdout == "1\n", "the sysctl is {:?}", out.stdout);
        }
    }
    Ok(())
}

/// CVE-2025-52881: over a part of /proc, where a sysctl or a label is written.
fn over_proc(cx: &Cx) -> Res {
    let places = [
        "/proc/self",
        "/proc/thread-self",
        "/proc/1",
        "/proc/self/attr",
        "/proc/self/attr/exec",
        "/proc/sys",
        "/proc/sys/net",
        "/proc/sys/net/ipv4",
        "/proc/sys/net/ipv4/ip_forward",
    ];
    for place in places {
        for kind in ["tmpfs", "bind"] {
            let names = ["attr/exec", "self/attr/exec", "ipv4/ip_forward", "net/ipv4/ip_forward", "ip_forward"];
            let guard = Guard::with(cx, &names)?;
            let mut b = cx.bundle()?;
            b.unset("/linux/maskedPaths").unset("/linux/readonlyPaths");
            if place.ends_with("exec") || place.ends_with("ip_forward") {
                b.bind(guard.path("ip_forward"), place, &["bind"]);
            } else {
                fake(&guard, &mut b, place, kind);
            }
            b.mount("/real", "proc", "proc", &[]);
            b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
            let out = tried(cx, b.sh("cat /real/sys/net/ipv4/ip_forward")).context(place)?;
            guard.untouched().context(format!("{kind} over {place}"))?;
            ensure!(out.code != Some(0) || out.stdout == "1\n", "{place}: the sysctl is {:?}", out.stdout);
        }
    }
    Ok(())
}

/// CVE-2021-43784: the length of a message from one process of the runtime to the next overflows.
fn long_map(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    for count in [341_u32, 5000, 70_000] {
        let mut b = cx.bundle()?;
        b.namespace("user", Some(""));
        let map: Vec<_> = (0..count).map(|n| json!({"containerID": n, "hostID": 100_000 + n, "size": 1})).collect();
        b.set("/linux/uidMappings", json!(map)).set("/linux/gidMappings", json!(map));
        cx.run(b.sh("id -u"))?.fails(&[]).context(format!("{count} lines of a map"))?;
        guard.untouched()?;
    }
    Ok(())
}

/// A name that leads elsewhere, and a value of more than one line. What they name holds the very value that is
/// written: who writes it does no harm.
fn sysctl_names(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let value = text("/proc/sys/kernel/printk_ratelimit")?.trim().to_owned();
    let names = [
        "kernel/printk_ratelimit",
        "net/../kernel/printk_ratelimit",
        "net.ipv4/../../kernel/printk_ratelimit",
        "fs.mqueue.//.//kernel.printk_ratelimit",
        "fs/mqueue/../../kernel/printk_ratelimit",
        "net/./../kernel/printk_ratelimit",
        "/kernel/printk_ratelimit",
        "net/ipv4/../../../../proc/sys/kernel/printk_ratelimit",
    ];
    for name in names {
        let mut b = cx.bundle()?;
        b.set("/linux/sysctl", json!({name: value}));
        cx.run(&b)?.fails(&[]).context(name)?;
    }
    for value in ["1\n2", "1+kernel.core_pattern=|/bin/sh", "\u{0}1"] {
        let mut b = cx.bundle()?;
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": value}));
        cx.run(&b)?.fails(&[]).context(format!("the value {value:?}"))?;
    }
    // longer than any buffer on the way
    let mut long = String::new();
    for n in 0..20_000 {
        write!(long, "{n} ").unwrap_or_default();
    }
    let mut b = cx.bundle()?;
    b.set("/linux/sysctl", json!({"net.ipv4.ip_local_reserved_ports": long.trim()}));
    tried(cx, &b)?;
    guard.untouched()
}
