//! The same under a filter that answers a syscall with ENOSYS, as an older kernel, or with EPERM, as a strict host:
//! all works and is as safe, or it stops at once with one clear error and has touched nothing.

use super::oracle::Guard;
use super::{masks, paths, robbery};
use crate::case::{Case, Context, Res, case, skip};
use crate::cx::Cx;
use crate::ensure;
use crate::options::Options;
use crate::run::{Out, Run};

const CALLS: [&str; 6] = ["openat2", "clone3", "mount_api", "mount_setattr", "pidfd_open", "close_range"];

type Body = fn(&Cx) -> Res;

pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for call in CALLS {
        for errno in ["ENOSYS", "EPERM"] {
            let name = format!("security::variants::{call}_{}", errno.to_lowercase());
            let under = case(name, move |cx| under(cx, &format!("{call}={errno}"))).patience(3);
            all.push(match call {
                "clone3" => under.differs("runc", "its Go aborts, and t19"),
                "pidfd_open" => under.differs("runc", "t19").differs("crun", "creates what it can then not delete"),
                _ => under.differs("runc", "t19"),
            });
        }
    }
    let in_userns: [(&str, Body); 5] = [
        ("t05_mount_target_behind_a_link", paths::target_behind_link),
        ("t06_proc_and_sys_are_links", paths::proc_sys_links),
        ("t18_what_is_written_into_the_rootfs", paths::written_files),
        ("t19_dev_null_is_a_link", masks::null_link),
        ("t26_dev_is_a_link", paths::dev_link),
    ];
    for (name, body) in in_userns {
        all.push(case(format!("security::variants::userns_{name}"), move |cx| mapped(cx, body)).patience(3));
    }
    all
}

/// The filter does what the case says: the launcher itself can be refused a call.
fn filtered(cx: &Cx, rules: &str) -> Res<Cx> {
    Ok(Cx::new(Options { deny: rules.to_owned(), ..cx.options.clone() }, cx.path("denied")))
}

/// A refusal: one line, at once; otherwise it went well.
fn well(out: Out) -> Res<bool> {
    if out.code == Some(0) {
        return Ok(true);
    }
    let lines = out.error_lines();
    let out = out.fails(&[])?;
    ensure!(lines == 1, "{lines} lines of error: {}", out.stderr.trim());
    Ok(false)
}

fn under(cx: &Cx, rules: &str) -> Res {
    std::fs::create_dir(cx.path("denied"))?;
    cx.give(&cx.path("denied"))?;
    let denied = filtered(cx, rules)?;
    let guard = Guard::new(cx)?;
    let lived = life(&denied, cx)?;
    guard.untouched()?;
    let mut attacks = vec![("t06", paths::proc_behind_link as Body)];
    // nobody makes the devices of its image in a user namespace
    if !cx.options.is_nested() {
        attacks.push(("t19", masks::null_link));
    }
    for (name, hostile) in attacks {
        hostile(&denied).context(format!("{name} under {rules}"))?;
    }
    if lived {
        robbery::itself(&denied).context(format!("t03 under {rules}"))?;
    }
    denied.sweep()?;
    guard.untouched()
}

/// Create, start, exec, delete. When the create is refused nothing is there; what was created without the filter
/// must do with an exec that has it.
fn life(denied: &Cx, plain: &Cx) -> Res<bool> {
    let mut b = denied.bundle()?;
    b.sleeps();
    let id = denied.id();
    let created = well(denied.with_bundle("create", &b, &id)?.out()?)?;
    if created {
        denied.adopt(&id);
        for run in [denied.runtime("start").arg(&id), denied.runtime("state").arg(&id)] {
            well(run.out()?)?;
        }
        well(true_in(denied, &id).out()?)?;
        ended(denied, plain, &id)?;
    } else {
        ensure!(!denied.exists(&id), "the refused container left its state");
    }
    let c = plain.sleeping(&mut plain.bundle()?)?;
    // the other one's state root
    let out =
        Run::new(&denied.options, &plain.root(), plain.fresh("run")).arg("exec").arg(&c.id).arg("/bin/true").out()?;
    well(out)?;
    plain.delete_force(&c.id)?;
    Ok(created)
}

fn true_in(cx: &Cx, id: &str) -> Run {
    cx.runtime("exec").arg(id).arg("/bin/true")
}

/// Deleted under the filter, or by a runtime without it.
fn ended(denied: &Cx, plain: &Cx, id: &str) -> Res {
    if !well(denied.runtime("delete").args(["--force", id]).out()?)? {
        Run::new(&plain.options, &denied.root(), plain.fresh("run")).args(["delete", "--force", id]).out()?.ok()?;
    }
    Ok(())
}

/// A hostile case with every bundle in a new user namespace.
fn mapped(cx: &Cx, body: Body) -> Res {
    let mut b = cx.bundle()?;
    b.map_ids();
    let out = cx.run(b.args(&["/bin/true"]))?;
    if out.code != Some(0) {
        return skip(format!("no new user namespaces: {}", out.stderr.trim()));
    }
    cx.map_all();
    body(cx)
}
