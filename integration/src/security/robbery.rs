//! What the container's root gets hold of while the runtime is in its namespaces: programs, descriptors, memory.

use super::oracle::Guard;
use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cases::exec::exec;
use crate::cx::{Container, Cx};
use crate::run::eventually;
use crate::user;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub fn cases() -> Vec<Case> {
    vec![
        case("security::t02_an_exec_cannot_be_robbed", |cx| robbed(cx, false)).patience(3),
        case("security::t02_an_exec_cannot_be_robbed_with_ptrace", |cx| robbed(cx, true)).patience(3),
        case("security::t02_a_birth_in_a_shared_pid_namespace", neighbour).patience(3),
        case("security::t03_the_program_is_proc_self_exe", itself),
    ]
}

/// The runtime as a copy that an attack may overwrite.
pub fn with_copy(cx: &Cx) -> Res<Cx> {
    let copy = cx.fresh("runtime");
    fs::copy(&cx.options.program, &copy)?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    let mut options = cx.options.clone();
    options.runtime.clone_from(&copy);
    if options.as_user {
        cx.give(&copy)?;
        options.runtime = cx.fresh("script");
        user::write_script(&options, &options.runtime, &copy)?;
    }
    options.program = copy;
    Ok(Cx::new(options, cx.dir.clone()))
}

/// A container whose init robs, and the file that ends it.
fn robber(cx: &Cx, guard: &Guard<'_>, ptrace: bool) -> Res<(Container, Bundle)> {
    let mut b = cx.bundle()?;
    if ptrace {
        for set in ["bounding", "effective", "permitted"] {
            b.push(&format!("/process/capabilities/{set}"), json!("CAP_SYS_PTRACE"));
        }
    }
    b.args(&["/probe", "rob", &guard.path("marker").to_string_lossy(), "/tmp/stop"]);
    let c = cx.up(&b)?;
    cx.hears(&c, "ready")?;
    Ok((c, b))
}

fn loot(cx: &Cx, c: &Container, b: &Bundle) -> Res<Value> {
    fs::write(b.rootfs().join("tmp/stop"), "")?;
    eventually("the robber says what it got", || Ok(c.said().contains("rounds")))?;
    let said = c.said();
    let line = said.lines().find(|line| line.contains("rounds")).unwrap_or_default().to_owned();
    cx.stopped(&c.id)?;
    serde_json::from_str(&line).context(said)
}

fn nothing(loot: &Value) -> Res {
    ensure!(loot["rounds"].as_u64() > Some(10), "the robber had no time: {loot}");
    ensure!(loot["seen"].as_u64() > Some(3), "the robber never met the runtime: {loot}");
    for what in ["programs", "written", "attached", "memory", "host"] {
        ensure!(loot[what] == 0, "got hold of {what}: {loot}");
    }
    same!(loot["descriptors"], json!([]), "descriptors that it got hold of");
    Ok(())
}

fn rounds(cx: &Cx) -> u64 {
    if cx.options.long { 1000 } else { cx.options.cycles.clamp(60, 300) }
}

/// CVE-2016-9962, CVE-2019-5736.
fn robbed(cx: &Cx, ptrace: bool) -> Res {
    let cx = with_copy(cx)?;
    let guard = Guard::new(&cx)?;
    let (c, b) = robber(&cx, &guard, ptrace)?;
    for _ in 0..rounds(&cx) {
        let out = exec(&cx, &c, &[], &["/bin/true"]).out()?;
        // a traced process may be held up, not harmed
        ensure!(out.code == Some(0), "the exec ended with {:?}: {}", out.code, out.stderr);
    }
    let loot = loot(&cx, &c, &b)?;
    cx.sweep()?;
    guard.untouched()?;
    // with a user namespace nobody in it can trace what has not yet become the container's program
    if ptrace && !cx.is_mapped() { nothing_of_the_host(&cx, &loot) } else { nothing(&loot) }
}

/// Who may trace all in its pid namespace may trace the newcomer: what that has then is the container's.
fn nothing_of_the_host(cx: &Cx, loot: &Value) -> Res {
    ensure!(loot["attached"].as_u64() > Some(3), "the robber never met the runtime: {loot}");
    for what in ["written", "host"] {
        ensure!(loot[what] == 0, "got hold of {what}: {loot}");
    }
    let ours = |target: &str| target.starts_with(&*cx.dir.to_string_lossy()) || target.starts_with("/sys/fs/cgroup");
    let found: Vec<&str> =
        loot["descriptors"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(|t| ours(t)).collect();
    ensure!(found.is_empty(), "got hold of descriptors: {found:?}");
    Ok(())
}

/// A container that joins the robber's pid namespace: create and start.
fn neighbour(cx: &Cx) -> Res {
    let cx = with_copy(cx)?;
    let guard = Guard::new(&cx)?;
    let (c, b) = robber(&cx, &guard, false)?;
    let pid = cx.pid(&c.id)?;
    for _ in 0..rounds(&cx) / 3 {
        let mut other = cx.bundle()?;
        other.namespace("pid", Some(&format!("/proc/{pid}/ns/pid"))).args(&["/bin/true"]);
        if cx.is_mapped() {
            other.namespace("user", Some(&format!("/proc/{pid}/ns/user")));
        }
        cx.run(&other)?.ok()?;
        fs::remove_dir_all(&other.dir)?;
    }
    let loot = loot(&cx, &c, &b)?;
    cx.sweep()?;
    guard.untouched()?;
    nothing(&loot)
}

/// CVE-2019-5736: the image's program is the runtime itself, by a script or a link; it must end, and the binary
/// must be what it was.
pub fn itself(cx: &Cx) -> Res {
    let cx = with_copy(cx)?;
    let guard = Guard::new(&cx)?;
    for script in [true, false] {
        let mut b = cx.bundle()?;
        let evil = b.rootfs().join("evil");
        if script {
            fs::write(&evil, "#!/proc/self/exe --version\n")?;
            fs::set_permissions(&evil, fs::Permissions::from_mode(0o755))?;
        } else {
            std::os::unix::fs::symlink("/proc/self/exe", &evil)?;
        }
        b.args(&["/evil", "--version"]);
        cx.run(&b)?;
        guard.untouched()?;
        let c = cx.sleeping(&mut b)?;
        exec(&cx, &c, &[], &["/evil", "--version"]).out()?;
        exec(&cx, &c, &[], &["/proc/self/exe", "--version"]).out()?;
        guard.untouched()?;
    }
    cx.sweep()
}
