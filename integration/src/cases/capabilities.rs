//! The five capability sets.

use crate::case::{Case, Res, case};
use crate::cx::{Cx, string};
use crate::{ensure, same};
use serde_json::{Value, json};

pub fn cases() -> Vec<Case> {
    vec![
        case("capabilities::the_sets_are_exact", sets),
        case("capabilities::none_means_none", none),
        case("capabilities::absent_means_none", absent),
        case("capabilities::inheritable_is_empty_unless_asked_for", inheritable_empty),
        case("capabilities::ambient_reach_a_user", ambient),
        case("capabilities::of_a_user_are_permitted_after_setuid", user),
        case("capabilities::securebits_are_untouched", securebits),
        case("capabilities::unknown_are_only_warned_of", unknown),
        case("capabilities::unavailable_are_only_warned_of", unavailable)
            .without_userns("there is none that its root has not")
            .differs("runc", "fails: the caller lacks CAP_SYS_RESOURCE and runc 1.1 insists on it")
            .differs("crun", "fails: capset refuses what the caller has not"),
        case("capabilities::dropped_ones_cannot_be_used", dropped),
        case("capabilities::granted_ones_can_be_used", granted),
    ]
}

const CHOWN: u64 = 1;
const KILL: u64 = 1 << 5;
const NET_BIND: u64 = 1 << 10;
const NET_RAW: u64 = 1 << 13;
const AUDIT_WRITE: u64 = 1 << 29;

fn set_of(v: &Value, name: &str) -> Res<u64> {
    let hex = string(v, &format!("/caps/{name}"))?;
    Ok(u64::from_str_radix(hex, 16)?)
}

fn expect(v: &Value, want: [(&str, u64); 5]) -> Res {
    for (name, bits) in want {
        let got = set_of(v, name)?;
        ensure!(got == bits, "{name}: got {got:#x}, want {bits:#x}");
    }
    Ok(())
}

fn sets(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_NET_RAW"],
            "permitted": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
            "effective": ["CAP_CHOWN", "CAP_NET_RAW"],
            "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
            "ambient": ["CAP_NET_RAW"]
        }),
    );
    // Root's execve would raise permitted and effective to the bounding set: a
    // user's does not.
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let v = cx.probe(&mut b)?;
    expect(
        &v,
        [
            ("bounding", CHOWN | KILL | NET_BIND | NET_RAW),
            ("inheritable", KILL | NET_RAW),
            ("permitted", NET_RAW),
            ("effective", NET_RAW),
            ("ambient", NET_RAW),
        ],
    )
}

fn none(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set(
        "/process/capabilities",
        json!({"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []}),
    );
    expect(
        &cx.probe(&mut b)?,
        [("bounding", 0), ("inheritable", 0), ("permitted", 0), ("effective", 0), ("ambient", 0)],
    )
}

fn absent(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.unset("/process/capabilities");
    expect(
        &cx.probe(&mut b)?,
        [("bounding", 0), ("inheritable", 0), ("permitted", 0), ("effective", 0), ("ambient", 0)],
    )
}

fn inheritable_empty(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let three = KILL | NET_BIND | AUDIT_WRITE;
    expect(
        &cx.probe(&mut b)?,
        [("bounding", three), ("inheritable", 0), ("permitted", three), ("effective", three), ("ambient", 0)],
    )
}

fn ambient(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let list = json!(["CAP_NET_BIND_SERVICE"]);
    b.set(
        "/process/capabilities",
        json!({"bounding": list, "effective": list, "permitted": list, "inheritable": list, "ambient": list}),
    );
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let all = ["bounding", "inheritable", "permitted", "effective", "ambient"].map(|n| (n, NET_BIND));
    expect(&cx.probe(&mut b)?, all)
}

/// Without ambient ones a user's execve has none.
fn user(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let three = KILL | NET_BIND | AUDIT_WRITE;
    expect(
        &cx.probe(&mut b)?,
        [("bounding", three), ("inheritable", 0), ("permitted", 0), ("effective", 0), ("ambient", 0)],
    )
}

fn securebits(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    same!(cx.probe(&mut b)?["securebits"], json!(0), "securebits");
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    same!(cx.probe(&mut b)?["securebits"], json!(0), "securebits of a user");
    Ok(())
}

fn unknown(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for set in ["bounding", "effective", "permitted"] {
        b.set(&format!("/process/capabilities/{set}"), json!(["CAP_KILL", "CAP_OF_TOMORROW"]));
    }
    expect(
        &cx.probe(&mut b)?,
        [("bounding", KILL), ("inheritable", 0), ("permitted", KILL), ("effective", KILL), ("ambient", 0)],
    )
}

fn unavailable(cx: &Cx) -> Res {
    let status = crate::cx::text("/proc/self/status")?;
    let bounding = status.lines().find_map(|l| l.strip_prefix("CapBnd:")).unwrap_or("0").trim();
    if u64::from_str_radix(bounding, 16)? & 1 << 24 != 0 {
        return crate::case::skip("this caller has CAP_SYS_RESOURCE and with it all");
    }
    let mut b = cx.bundle()?;
    for set in ["bounding", "effective", "permitted"] {
        b.set(&format!("/process/capabilities/{set}"), json!(["CAP_KILL", "CAP_SYS_RESOURCE"]));
    }
    expect(
        &cx.probe(&mut b)?,
        [("bounding", KILL), ("inheritable", 0), ("permitted", KILL), ("effective", KILL), ("ambient", 0)],
    )
}

fn dropped(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    cx.sh(&mut b, "touch /tmp/f && ! chown 7:7 /tmp/f && ! hostname x && ! mount -t tmpfs none /mnt")?;
    Ok(())
}

fn granted(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for set in ["bounding", "effective", "permitted"] {
        b.set(&format!("/process/capabilities/{set}"), json!(["CAP_CHOWN", "CAP_SYS_ADMIN"]));
    }
    cx.sh(&mut b, "touch /tmp/f && chown 7:7 /tmp/f && hostname x && mount -t tmpfs none /mnt")?;
    Ok(())
}
