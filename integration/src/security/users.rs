//! Who a process is: never root unless it was asked for, and no capability that nobody gave.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, broken, case};
use crate::cases::exec::{exec, probe, sh};
use crate::cx::{Container, Cx, string};
use crate::ensure;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t01_a_number_is_not_a_name_of_the_image", number_is_no_name),
        case("security::t10_nothing_is_inheritable", inheritable),
        case("security::t10_a_file_regains_no_capability", file_capability),
        case("security::t16_ids_out_of_range_are_refused", ids_out_of_range)
            .differs("crun", "1.8 takes 4294967295 for 0"),
        case("security::t25_every_form_of_user", every_form)
            .differs("runc", "1.1 takes 4294967296 for 0")
            .differs("crun", "takes any word for uid 0 (CVE-2026-30892)"),
    ]
}

const IDS: &str = "id -u; id -g; id -G";

/// Of the attacker's image: numbers for names, roots by other names.
fn hostile_users(b: &Bundle) -> Res {
    let users = "root:x:0:0::/root:/bin/sh\n1000:x:0:0::/:/bin/sh\n1:x:0:0::/:/bin/sh\n0x1:x:0:0::/:/bin/sh\n\
                 +1:x:0:0::/:/bin/sh\n:x:0:0::/:/bin/sh\n 1:x:0:0::/:/bin/sh\nname:x:77:78::/:/bin/sh\n";
    let groups = "root:x:0:\n1000:x:0:1000,1,name\n1:x:0:1\n:x:0:\n";
    for (file, text) in [("etc/passwd", users), ("etc/group", groups)] {
        // a link to what all bundles share
        fs::remove_file(b.rootfs().join(file))?;
        fs::write(b.rootfs().join(file), text)?;
    }
    Ok(())
}

/// Up, as user 1000 of a hostile image.
fn up(cx: &Cx) -> Res<Container> {
    let mut b = cx.bundle()?;
    hostile_users(&b)?;
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    cx.sleeping(&mut b)
}

/// CVE-2016-3697.
fn number_is_no_name(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    hostile_users(&b)?;
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    ensure!(cx.sh(&mut b, IDS)? == "1000\n1000\n1000\n", "the program is somebody else");
    let c = up(cx)?;
    for (form, want) in [("1000", "1000\n"), ("1000:1000", "1000\n1000\n"), ("1:1", "1\n1\n")] {
        let said = sh(cx, &c, &["-u", form], IDS)?.ok()?.stdout;
        ensure!(said.starts_with(want), "-u {form} is {said:?}");
    }
    Ok(())
}

/// CVE-2026-30892 and all its relatives: each form is what it says, or an error. The container's own user is 1000:
/// nobody here is ever root.
fn every_form(cx: &Cx) -> Res {
    let c = up(cx)?;
    let forms = [
        ("1", &["1"][..]),
        ("1:", &["1"]),
        ("1:2", &["1"]),
        ("01", &["1"]),
        (":1", &["1000"]),
        ("", &["1000"]),
        (":", &["1000"]),
        ("name", &["77"]),
        ("name:", &["77"]),
        ("name:name", &[]),
        ("1:name", &[]),
        ("nobody-here", &[]),
        ("+1", &["1"]),
        ("-1", &[]),
        ("0x1", &["1"]),
        ("0x0", &[]),
        (" 1", &["1"]),
        ("1 ", &["1"]),
        ("1\n", &["1"]),
        ("1.0", &[]),
        ("1:1:1", &[]),
        ("1,0", &[]),
        ("1/0", &[]),
        ("2147483648", &["2147483648"]),
        ("4294967294", &["4294967294"]),
        ("4294967295", &[]),
        ("4294967296", &[]),
        ("4294967297", &[]),
        ("18446744073709551616", &[]),
        ("\u{661}", &[]),
        ("root\u{0301}", &[]),
    ];
    for (form, fine) in forms {
        let out = sh(cx, &c, &["-u", form], "id -u")?;
        if out.code == Some(0) {
            let uid = out.stdout.trim();
            ensure!(fine.contains(&uid), "-u {form:?} is uid {uid}");
        } else {
            out.fails(&[]).context(format!("-u {form:?}"))?;
        }
    }
    Ok(())
}

/// CVE-2022-24769, CVE-2022-27650, CVE-2022-29162, CVE-2025-27612.
fn inheritable(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    none(&cx.probe(&mut b)?).context("run")?;
    b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    none(&cx.probe(&mut b)?).context("run as 1000")?;
    let c = cx.sleeping(&mut cx.bundle()?)?;
    for options in [&[][..], &["--cap", "CAP_NET_ADMIN"], &["-u", "1000"], &["-u", "1000", "--cap", "CAP_NET_ADMIN"]] {
        none(&probe(cx, &c, options)?).context(format!("exec {options:?}"))?;
    }
    let mut b = cx.bundle()?;
    b.set("/process/capabilities/inheritable", json!(["CAP_KILL"]));
    let set = mask(&cx.probe(&mut b)?, "inheritable")?;
    ensure!(set == 1 << 5, "the one that was asked for gives {set:x}");
    Ok(())
}

fn mask(v: &Value, set: &str) -> Res<u64> {
    u64::from_str_radix(string(v, &format!("/caps/{set}"))?, 16).context(set)
}

fn none(v: &Value) -> Res {
    for set in ["inheritable", "ambient"] {
        let got = mask(v, set)?;
        ensure!(got == 0, "the {set} set is {got:x}");
    }
    Ok(())
}

const NET_BIND_SERVICE: u32 = 1 << 10;

/// A program whose file says that it takes what is inheritable (`setcap cap_net_bind_service+ei`).
fn greedy(path: &Path) -> Res {
    let mut value = Vec::new();
    // vfs_cap_data: revision 2 with the effective bit, then permitted and inheritable, twice
    for word in [0x0200_0001_u32, 0, NET_BIND_SERVICE, 0, 0] {
        value.extend(word.to_le_bytes());
    }
    rustix::fs::setxattr(path, "security.capability", &value, rustix::fs::XattrFlags::empty())
        .context("setxattr security.capability")
}

/// The same by its effect: a user with no capability runs such a program.
fn file_capability(cx: &Cx) -> Res {
    let run = |asked: bool, by_exec: bool| -> Res<u64> {
        let mut b = cx.bundle()?;
        fs::copy("/proc/self/exe", b.rootfs().join("bin/probe"))?;
        greedy(&b.rootfs().join("bin/probe"))?;
        b.set("/process/noNewPrivileges", json!(false));
        if asked {
            b.set("/process/capabilities/inheritable", json!(["CAP_NET_BIND_SERVICE"]));
        }
        let v = if by_exec {
            let c = cx.sleeping(&mut b)?;
            let out = exec(cx, &c, &["-u", "1000"], &["/bin/probe", "all"]).out()?.ok()?;
            serde_json::from_str(&out.stdout)?
        } else {
            b.set("/process/user", json!({"uid": 1000, "gid": 1000})).args(&["/bin/probe", "all"]);
            serde_json::from_str::<Value>(&cx.run(&b)?.ok()?.stdout)?
        };
        mask(&v, "permitted")
    };
    // what is asked for is had: else the case could not fail
    ensure!(run(true, false)? == u64::from(NET_BIND_SERVICE), "the file's capability does not work here at all");
    for by_exec in [false, true] {
        let got = run(false, by_exec)?;
        ensure!(got == 0, "gained {got:x} (by exec: {by_exec})");
    }
    Ok(())
}

/// CVE-2024-40635: a uid that wraps around is root.
fn ids_out_of_range(cx: &Cx) -> Res {
    let wrong = ["-1", "4294967295", "4294967296", "18446744073709551616", "-4294967296", "1.5", "1e3", "\"0\""];
    for field in ["uid", "gid"] {
        for value in wrong {
            let mut b = cx.bundle()?;
            b.set("/process/user", json!({"uid": 1000, "gid": 1000})).sh("id -u; id -g");
            b.set(&format!("/process/user/{field}"), json!(987_654_321));
            b.save()?;
            let file = b.dir.join("config.json");
            // as text: no JSON library would write such a number
            let text = fs::read_to_string(&file)?;
            ensure!(text.contains("987654321"), "the config has no place for {value}");
            fs::write(&file, text.replace("987654321", value))?;
            let out = cx.runtime("run").arg("--bundle").arg(&b.dir).arg(cx.id()).out()?;
            if out.code == Some(0) {
                return broken(format!("{field} {value} is taken: it ran as {:?}", out.stdout));
            }
            out.fails(&[]).context(format!("{field} {value}"))?;
        }
        let mut b = cx.bundle()?;
        b.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        b.set(&format!("/process/user/{field}"), json!(2_147_483_648_u64));
        let out = cx.run(b.sh("id -u; id -g"))?;
        ensure!(out.code != Some(0) || out.stdout.contains("2147483648\n"), "{field} 2147483648 is {:?}", out.stdout);
    }
    Ok(())
}
