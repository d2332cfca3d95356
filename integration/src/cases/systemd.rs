//! The systemd driver: scopes in slices, as `systemctl` sees them.

use crate::case::{Case, Res, case, skip};
use crate::cgroup;
use crate::cx::Cx;
use crate::run::eventually;
use crate::systemd::{program, property, stop, top, units};
use crate::{ensure, same};
use serde_json::json;

pub fn cases() -> Vec<Case> {
    vec![
        of("systemd::a_scope_in_its_slice", scope),
        of("systemd::the_slice_may_be_deep", deep),
        of("systemd::without_a_path_it_is_named_after_the_id", default_path),
        of("systemd::the_scope_goes_with_the_last_process", goes),
        of("systemd::nothing_is_left_when_create_fails", failure),
        of("systemd::a_program_that_fails_leaves_no_failed_unit", failed_unit),
        of("systemd::a_unit_of_that_name_is_left_alone", taken),
        of("systemd::malformed_paths_are_refused", malformed),
    ]
}

fn of(name: &'static str, body: fn(&Cx) -> Res) -> Case {
    case(name, move |cx| if cx.options.systemd() { body(cx) } else { skip("for --driver systemd") })
}

/// Of the path `/a.slice/b.scope`: `b.scope`.
fn unit(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn scope(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    let unit = unit(&b.cgroup());
    same!(property(&unit, "ActiveState"), "active", unit);
    same!(property(&unit, "Slice"), cx.options.slice, "Slice");
    same!(property(&unit, "ControlGroup"), b.cgroup(), "ControlGroup");
    same!(property(&unit, "Delegate"), "yes", "Delegate: its cgroup is the runtime's");
    let pid = cx.pid(&c.id)?;
    let dirs = cgroup::directories(&b.cgroup());
    ensure!(dirs.iter().any(|d| cgroup::members(d).contains(&pid)), "{pid} is not in {dirs:?}");
    Ok(())
}

fn deep(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let slice = format!("{}-a-b.slice", cx.options.tag);
    b.set("/linux/cgroupsPath", json!(format!("{slice}:{}:deep", cx.options.tag)));
    let tag = &cx.options.tag;
    let seen = cx.sh(&mut b, "cat /proc/self/cgroup")?;
    let want = format!("{}/{tag}.slice/{tag}-a.slice/{tag}-a-b.slice/{tag}-deep.scope", top());
    let found = cgroup::paths(&seen).iter().all(|p| p.starts_with(&want));
    // Slices that systemd made for a unit stay: they are this case's own to end.
    stop(&units(&format!("{tag}*.slice")));
    ensure!(found, "{seen}, want {want}");
    Ok(())
}

fn default_path(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.unset("/linux/cgroupsPath");
    let c = cx.sleeping(&mut b)?;
    let found = units(&c.id);
    ensure!(found.len() == 1 && found[0].ends_with(&format!("-{}.scope", c.id)), "{found:?}");
    let slice = if cx.options.as_user { "user.slice" } else { "system.slice" };
    same!(property(&found[0], "Slice"), slice, "Slice");
    Ok(())
}

fn goes(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let c = cx.sleeping(&mut b)?;
    let unit = unit(&b.cgroup());
    cx.kill(&c.id, "KILL")?;
    cx.stopped(&c.id)?;
    eventually(&format!("{unit} is gone"), || Ok(units(&unit).is_empty()))?;
    cx.delete(&c.id)?;
    Ok(())
}

fn failure(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["no-such-program"]);
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    // The harness waits for what goes by itself; a moment is enough here as well.
    let unit = unit(&b.cgroup());
    eventually(&format!("{unit} is gone"), || Ok(units(&unit).is_empty()))
}

fn failed_unit(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for script in ["exit 3", "kill -9 $$"] {
        b.set("/linux/cgroupsPath", json!(cx.cgroup())).sh(script);
        cx.run(&b)?;
        let unit = unit(&b.cgroup());
        eventually(&format!("{unit} is gone after {script}"), || Ok(units(&unit).is_empty()))?;
    }
    Ok(())
}

/// Somebody else's scope of the same name: its processes live on.
fn taken(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let unit = unit(&b.cgroup());
    let mut other = program("systemd-run")
        .args(["--quiet", "--scope", "--slice", &cx.options.slice, "--unit", &unit, "sleep", "100"])
        .spawn()?;
    eventually("the other scope is up", || Ok(property(&unit, "ActiveState") == "active"))?;
    let out = cx.run(&b)?;
    let alive = other.try_wait()?.is_none();
    other.kill()?;
    other.wait()?;
    ensure!(alive, "the foreign process was killed");
    out.fails(&["unit", "exist", "not empty"])?;
    Ok(())
}

fn malformed(cx: &Cx) -> Res {
    for path in ["a:b", "a:b:c:d", "no-slice:x:y", "-bad.slice:x:y", "/absolute/path"] {
        let mut b = cx.bundle()?;
        b.set("/linux/cgroupsPath", json!(path));
        cx.run(&b)?.fails(&[])?;
    }
    Ok(())
}
