//! Who a process is: never root unless it was asked for, and no capability that nobody gave.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, broken, case};
use crate::cases::exec::{exec, probe, sh};
use crate::cx::{Container, Cx, string, text};
use crate::{cgroup, ensure};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t01_a_number_is_not_a_name_of_the_image", number_is_no_name),
        case("security::t10_nothing_is_inheritable", inheritable),
        case("security::t10_a_file_regains_no_capability", file_capability)
            .without_userns("what the host's root gave a file counts for nothing there"),
        case("security::t16_ids_out_of_range_are_refused", ids_out_of_range)
            .differs("crun", "1.8 takes 4294967295 for 0"),
        case("security::t16_ids_of_the_image_out_of_range", ids_of_the_image),
        case("security::t27_a_huge_group_file", huge_group).patience(2),
        case("security::t25_every_form_of_user", every_form)
            .differs("runc", "1.1 takes 4294967296 for 0")
            .differs("crun", "takes any word for uid 0 (CVE-2026-30892)"),
        case("security::t12_the_hosts_cgroups_below_a_read_only_sys", read_only_sys)
            .differs("runc", "1.1.5 hides them only where it knows of cgroup v2 alone"),
        case("security::t45_setgroups_stays_denied", setgroups),
    ]
}

/// Of a name: -1 leaves root what it is, and 2^32 is 0 for who looks at 32 bits.
fn ids_of_the_image(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let ids = ["4294967295", "-1", "4294967296", "18446744073709551616", "0x0", ""];
    let lines = |form: &dyn Fn(usize, &str) -> String| -> String {
        ids.iter().enumerate().map(|(n, id)| form(n, id)).collect()
    };
    let users = lines(&|n, id| format!("user{n}:x:{id}:{id}::/:/bin/sh\n"));
    let groups = lines(&|n, id| format!("group{n}:x:{id}:\n"));
    for (file, text) in [("etc/passwd", users), ("etc/group", groups)] {
        fs::remove_file(b.rootfs().join(file))?;
        fs::write(b.rootfs().join(file), text)?;
    }
    let c = cx.sleeping(&mut b)?;
    for (n, id) in ids.iter().enumerate() {
        for user in [format!("user{n}"), format!("1000:group{n}")] {
            let out = exec(cx, &c, &["-u", &user], &["/bin/sh", "-c", IDS]).out()?;
            ensure!(out.code != Some(0), "-u {user}, an id of {id:?}, is {:?}", out.stdout);
        }
    }
    Ok(())
}

/// The most memory that a process of this case has had so far, in KiB.
fn peak() -> Res<i64> {
    Ok(nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?.max_rss())
}

/// CVE-2026-47262 of containerd: a group with very many members costs whoever reads it time and memory.
fn huge_group(cx: &Cx) -> Res {
    use std::io::Write;
    let mut b = cx.bundle()?;
    let path = b.rootfs().join("etc/group");
    fs::remove_file(&path)?;
    let mut file = std::io::BufWriter::new(fs::File::create(&path)?);
    file.write_all(b"web:x:55:")?;
    for _ in 0..10_000_000 {
        file.write_all(b"m,")?;
    }
    let mut file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.write_all(b"\nlast:x:56:\n")?;
    file.set_len(1 << 30)?;
    let c = cx.sleeping(&mut b)?;
    let before = peak()?;
    for group in ["web", "last", "none"] {
        // by the kernel: `id` would read the file itself, at the same cost
        let ids = ["grep", "-E", "^(Uid|Gid):", "/proc/self/status"];
        let out = exec(cx, &c, &["-u", &format!("1000:{group}")], &ids).out()?;
        let known = out.stdout.starts_with("Uid:\t1000\t") && out.stdout.contains("\nGid:\t5");
        ensure!(out.code != Some(0) || known, "{group} is {:?}", out.stdout);
    }
    let more = peak()? - before;
    ensure!(more < 8 << 10, "it took {more} KiB more than other commands");
    Ok(())
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

/// CVE-2023-25809: /sys of the host with all below, as managers give it to who has the host's network, and the host's
/// cgroups in it. Their modes keep nobody out.
fn read_only_sys(cx: &Cx) -> Res {
    let own = format!("{}/guarded", cx.options.cgroup_parent());
    cgroup::make(&own)?;
    let files: Vec<PathBuf> = cgroup::directories(&own)
        .into_iter()
        .flat_map(|dir| ["notify_on_release", "cgroup.max.depth"].map(|file| dir.join(file)))
        .filter(|file| file.exists())
        .collect();
    ensure!(!files.is_empty(), "no cgroups");
    let read = || files.iter().map(text).collect::<Res<Vec<String>>>();
    for file in &files {
        fs::set_permissions(file, fs::Permissions::from_mode(0o666))?;
    }
    let before = read()?;
    let mut b = cx.bundle()?;
    b.map_ids().namespace("network", None).unmount("/sys");
    b.mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]);
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    b.sh(&format!("for file in {}; do echo 1 > $file && echo written to $file; done; true", names.join(" ")));
    let out = cx.run(&b);
    let after = read();
    cgroup::directories(&own).iter().for_each(|dir| cgroup::remove_tree(dir));
    let out = out?.ok()?;
    ensure!(out.stdout.is_empty() && before == after?, "{}", out.stdout);
    Ok(())
}

/// Who could not leave a group before a user namespace was made must not be able to in one below it.
fn setgroups(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let own = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    b.namespace("user", Some("")).set("/linux/uidMappings", own.clone()).set("/linux/gidMappings", own);
    b.set("/mounts/2/options", json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]));
    b.sh("cat /proc/self/setgroups; grep Groups /proc/self/status").save()?;
    let dir = b.dir.clone();
    let run = || {
        let id = cx.id();
        let mut unshare = Command::new("unshare");
        unshare.args(["-Ur", "--mount", "--pid", "--fork", "--mount-proc"]).arg(&cx.options.runtime);
        unshare.arg("--root").arg(cx.root());
        if cx.is("ferrun") {
            unshare.args(["--cgroup-manager", "disabled"]);
        }
        unshare.args(["run", "--bundle"]).arg(&dir).arg(id).output()
    };
    let out = run()?;
    let said = String::from_utf8_lossy(&out.stdout);
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr).trim());
    ensure!(said.starts_with("deny\n"), "setgroups(2) is allowed: {said:?}");
    b.set("/process/user/additionalGids", json!([0])).save()?;
    let out = run()?;
    ensure!(!out.status.success() || String::from_utf8_lossy(&out.stdout).starts_with("deny\n"), "it is allowed");
    Ok(())
}
