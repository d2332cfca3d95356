//! A terminal where the image has links for /dev/console and its like.

use super::oracle::Guard;
use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::Cx;
use crate::ensure;
use crate::sockets;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t21_console_is_a_link", |cx| linked(cx, "console"))
            .differs("crun", "opens what it leads to on the host (CVE-2026-88264)"),
        case("security::t21_ptmx_and_pts_are_links", |cx| linked(cx, "ptmx").and_then(|()| linked(cx, "pts"))),
    ]
}

/// Creates a container with a terminal; it runs or is refused.
fn attempt(cx: &Cx, b: &mut Bundle) -> Res<bool> {
    b.set("/process/terminal", json!(true)).sh("echo there; cat /proc/sys/kernel/domainname; sleep 0.1").save()?;
    let path = cx.fresh("console.sock");
    let listener = sockets::listen(&path)?;
    let id = cx.id();
    let create = cx.runtime("create").arg("--console-socket").arg(&path).arg("--bundle").arg(&b.dir).arg(&id);
    let out = create.out()?;
    if out.code != Some(0) {
        out.fails(&[])?;
        return Ok(false);
    }
    cx.adopt(&id);
    // kept: a terminal whose other end is gone hangs up
    let _master = sockets::receive(&listener)?;
    let start = cx.runtime("start").arg(&id).out()?;
    let started = start.code == Some(0);
    if !started {
        start.fails(&[])?;
    }
    cx.delete_force(&id)?;
    Ok(started)
}

/// CVE-2025-52565 and CVE-2026-88264, with a /dev of the image's own and of the config's.
fn linked(cx: &Cx, name: &str) -> Res {
    let guard = Guard::new(cx)?;
    let targets: [PathBuf; 6] = [
        guard.path("console"),
        guard.climbing("console"),
        guard.path("missing"),
        guard.path("empty"),
        "/proc/sys/kernel/domainname".into(),
        "/proc/self/fd/0".into(),
    ];
    let mut ran = 0;
    for volume in [false, true] {
        for target in &targets {
            let mut b = cx.bundle()?;
            for d in ["/dev/shm", "/dev/mqueue", "/dev"] {
                b.unmount(d);
            }
            let dev = if volume { cx.fresh("dev") } else { b.rootfs().join("dev") };
            place(&dev, name, target)?;
            if volume {
                // before the devpts
                let mount = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]});
                if let Some(list) = b.config["mounts"].as_array_mut() {
                    list.insert(1, mount);
                }
            }
            ran += u32::from(attempt(cx, &mut b)?);
            guard.untouched().context(format!("/dev/{name} leads to {}", target.display()))?;
        }
    }
    // without any link there is a terminal: else the case could not fail
    let mut b = cx.bundle()?;
    ensure!(attempt(cx, &mut b)?, "no terminal at all ({ran} with links)");
    guard.untouched()
}

fn place(dev: &Path, name: &str, target: &Path) -> Res {
    fs::create_dir_all(dev)?;
    if name != "pts" {
        fs::create_dir_all(dev.join("pts"))?;
    }
    symlink(target, dev.join(name))?;
    Ok(())
}
