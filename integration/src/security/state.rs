//! The directory of the containers' state: what is written there is done, so nobody else may have written it.

use super::oracle::Guard;
use crate::case::{Case, Res, broken, case};
use crate::cx::Cx;
use crate::ensure;
use crate::run::Run;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who is neither the caller nor root.
const STRANGER: Option<u32> = Some(1234);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Somebody else owns the root.
    Owned,
    /// Everybody may rename and remove what is in it.
    Open,
    /// Somebody else has put a link in its place.
    Linked,
    /// As /tmp: everybody may make something, and somebody else has made this container.
    Shared,
}

pub fn cases() -> Vec<Case> {
    [
        ("owned", Place::Owned),
        ("open_to_all", Place::Open),
        ("behind_a_link", Place::Linked),
        ("in_a_shared_directory", Place::Shared),
    ]
    .map(|(name, place)| {
        case(format!("security::t47_a_state_of_somebody_elses_{name}"), move |cx| state(cx, place))
            .differs("runc", "runs the hooks that the state names")
            .differs("crun", "runs the hooks that the state names")
    })
    .into()
}

/// The state of a container that has ended, with a hook that its deletion would run.
fn planted(cx: &Cx, place: Place, state: &Path) -> Res<PathBuf> {
    let root = cx.fresh("root-of-others");
    fs::create_dir(&root)?;
    let name = state.file_name().unwrap_or_default();
    let copied = Command::new("/bin/cp").arg("-a").arg(state).arg(root.join(name)).status()?;
    ensure!(copied.success(), "cp: {copied}");
    match place {
        Place::Owned => chown(&root, STRANGER, STRANGER)?,
        Place::Open => fs::set_permissions(&root, fs::Permissions::from_mode(0o777))?,
        Place::Shared => {
            fs::set_permissions(&root, fs::Permissions::from_mode(0o1777))?;
            chown(root.join(name), STRANGER, STRANGER)?;
        }
        Place::Linked => {
            let link = cx.fresh("link-of-others");
            symlink(&root, &link)?;
            lchown(&link, STRANGER, STRANGER)?;
            return Ok(link);
        }
    }
    Ok(root)
}

fn state(cx: &Cx, place: Place) -> Res {
    let ran = cx.path("ran");
    let mut b = cx.bundle()?;
    b.push("/hooks/poststop", json!({"path": "/bin/touch", "args": ["touch", ran]})).args(&["/bin/true"]);
    let c = cx.up(&b)?;
    cx.stopped(&c.id)?;
    let root = planted(cx, place, &cx.root().join(&c.id))?;
    let entries = fs::read_dir(root.join(&c.id))?.count();
    let guard = Guard::new(cx)?;
    let run = |verb: &str| Run::new(&cx.options, &root, cx.fresh("run")).arg(verb);
    run("delete").args(["--force", &c.id]).out()?;
    ensure!(!ran.exists(), "the hook of somebody else's state has run");
    run("delete").arg(&c.id).out()?.fails(&[])?;
    run("state").arg(&c.id).out()?.fails(&[])?;
    run("kill").args([&c.id, "KILL"]).out()?.fails(&[])?;
    ensure!(fs::read_dir(root.join(&c.id))?.count() == entries, "something was made or removed there");
    // a container of our own beside it
    let id = cx.id();
    b.set("/linux/cgroupsPath", json!(cx.cgroup())).save()?;
    let out = run("create").arg("--bundle").arg(&b.dir).arg(&id).out()?;
    if out.code == Some(0) {
        run("delete").args(["--force", &id]).out()?.ok()?;
        fs::remove_file(&ran)?;
        ensure!(place == Place::Shared, "a container was made there");
    } else if place == Place::Shared {
        return broken(format!("its own containers are safe there: {}", out.stderr.trim()));
    } else {
        out.fails(&["cannot be trusted"])?;
    }
    ensure!(!ran.exists(), "the hook has run");
    guard.untouched()
}
