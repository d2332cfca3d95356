//! What is masked, read-only or a file system of the kernel's stays so, whatever the image has at that name.

use super::oracle::Guard;
use super::paths::tried;
use super::race::race;
use crate::bundle::Bundle;
use crate::case::{Case, Res, case};
use crate::cx::Cx;
use crate::ensure;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t07_proc_in_a_race", proc_race)
            .patience(3)
            .differs("runc", "passes over a mask whose name is away")
            .differs("crun", "passes over a mask whose name is away"),
        case("security::t19_dev_null_is_a_link", null_link).differs("runc", "CVE-2025-31133, fixed in 1.2.8"),
        case("security::t19_dev_null_in_a_race", null_race)
            .patience(3)
            .differs("runc", "CVE-2025-31133, fixed in 1.2.8"),
        case("security::t20_masked_path_in_a_race", masked_race)
            .patience(3)
            .differs("runc", "passes over a mask whose name is away")
            .differs("crun", "passes over a mask whose name is away"),
    ]
}

const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A /dev as an image can bring it along.
pub fn image_dev(dir: &Path) -> Res {
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dir.join(name))?;
    }
    for (name, major, minor) in DEFAULT {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, dir.join(name), FileType::CharacterDevice, mode, makedev(major, minor))?;
    }
    Ok(())
}

pub fn without_dev(b: &mut Bundle) {
    for d in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        b.unmount(d);
    }
}

/// Tries to set the domain name through what is masked; /proc/sys itself is read-only. The name belongs to the
/// container's own UTS namespace: nobody else is harmed.
const THROUGH_A_MASK: &str =
    "echo attacked > /proc/timer_list; cat /proc/sys/kernel/domainname; head -c 99 /proc/timer_list | wc -c";

/// CVE-2025-31133: the source of a mask is a link of the image, and a file of the kernel's becomes writable.
pub fn null_link(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let targets = [
        guard.path("marker"),
        guard.climbing("core_pattern"),
        "/proc/sys/kernel/domainname".into(),
        "/proc/self/fd/0".into(),
        guard.path("missing"),
        "zero".into(),
    ];
    for target in targets {
        let mut b = cx.bundle()?;
        without_dev(&mut b);
        image_dev(&b.rootfs().join("dev"))?;
        fs::remove_file(b.rootfs().join("dev/null"))?;
        symlink(&target, b.rootfs().join("dev/null"))?;
        b.set("/linux/maskedPaths", json!(["/proc/timer_list"])).set("/linux/readonlyPaths", json!(["/proc/sys"]));
        let out = tried(cx, b.sh(THROUGH_A_MASK))?;
        guard.untouched()?;
        if out.code == Some(0) {
            masked(&out.stdout)?;
        }
    }
    Ok(())
}

fn masked(said: &str) -> Res {
    let lines: Vec<&str> = said.lines().collect();
    // nothing: the image's /dev/null became its stdout
    let [name, bytes] = lines[..] else { return Ok(()) };
    ensure!(!name.contains("attacked"), "written through a mask: {said:?}");
    ensure!(bytes == "0", "what is masked reads {bytes} bytes");
    Ok(())
}

/// The same with the node there now and then.
fn null_race(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let volume = cx.path("volume");
    image_dev(&volume)?;
    symlink("/proc/sys/kernel/domainname", volume.join("link"))?;
    let mut b = cx.bundle()?;
    without_dev(&mut b);
    b.bind(&volume, "/dev", &["rbind", "dev"]);
    b.set("/linux/maskedPaths", json!(["/proc/timer_list"])).set("/linux/readonlyPaths", json!(["/proc/sys"]));
    b.sh(THROUGH_A_MASK);
    race(cx, (&volume.join("null"), &volume.join("link")), |_| cx.run(&b), |out| masked(&out.stdout))?;
    guard.untouched()
}

/// Looks through /proc, wherever it has gone: it is masked and read-only, or no proc at all. The domain name is that
/// of the container's own UTS namespace.
const LOOK_AT_PROC: &str = "for dir in /proc /other; do \
     if cd $dir && test -e 1/status; then \
       if test -c timer_list; then echo masked; else echo timer_list is bare; fi; \
       if echo attacked > sys/kernel/domainname; then echo sys is writable; fi; \
     fi; done";

/// A neighbour with the same rootfs exchanges /proc for another directory while it is mounted on, masked and
/// made read-only.
fn proc_race(cx: &Cx) -> Res {
    for link in [true, false] {
        let guard = Guard::new(cx)?;
        let mut b = cx.bundle()?;
        let (proc, other) = (b.rootfs().join("proc"), b.rootfs().join("other"));
        if link {
            symlink(guard.dir(), &other)?;
        } else {
            fs::create_dir(&other)?;
        }
        b.set("/linux/maskedPaths", json!(["/proc/timer_list", "/proc/kcore"]));
        b.set("/linux/readonlyPaths", json!(["/proc/sys"]));
        b.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).sh(LOOK_AT_PROC).save()?;
        race(cx, (&proc, &other), |_| cx.run(&b), |out| covered(&out.stdout))?;
        guard.untouched()?;
    }
    Ok(())
}

fn covered(said: &str) -> Res {
    // nothing said: a name was on its way just then
    ensure!(said.lines().all(|line| line == "masked"), "{}", said.trim());
    Ok(())
}

/// A mask below a directory that is exchanged is there for the mount that it was meant for, or it is an error:
/// never is it left out because the name was away.
fn masked_race(cx: &Cx) -> Res {
    let guard = Guard::new(cx)?;
    let volume = cx.path("volume");
    fs::create_dir_all(volume.join("d/proc"))?;
    fs::create_dir_all(volume.join("e/proc"))?;
    let mut b = cx.bundle()?;
    b.bind(&volume, "/vol", &["rbind"]);
    b.mount("/vol/d/proc", "proc", "proc", &[]);
    b.set("/linux/maskedPaths", json!(["/vol/d/proc/timer_list"]));
    b.set("/linux/readonlyPaths", json!(["/vol/d/proc/sys"]));
    b.sh(&LOOK_AT_PROC.replace("/proc /other", "/vol/d/proc /vol/e/proc"));
    race(cx, (&volume.join("d"), &volume.join("e")), |_| cx.run(&b), |out| covered(&out.stdout))?;
    guard.untouched()
}
