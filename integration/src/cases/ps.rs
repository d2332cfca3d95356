//! ps: which processes, in which forms, and that the table is runc's.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case, skip};
use crate::cgroup;
use crate::cx::{Container, Cx};
use crate::peer::Peer;
use crate::run::eventually;
use crate::{ensure, same};
use serde_json::json;
use std::fs;

pub fn cases() -> Vec<Case> {
    let only = |case: Case| case.only(&["ferrun", "runc"], "crun shows pids only, and takes no options for ps");
    vec![
        case("ps::json_has_all_processes", json),
        case("ps::processes_in_sub_cgroups_are_its_own", sub_cgroups).differs("crun", "it does not look below"),
        case("ps::of_a_created_one", created),
        case("ps::of_a_stopped_one_is_empty", stopped).differs("crun", "it fails: there is no cgroup any more"),
        case("ps::of_an_unknown_one_is_refused", absent),
        only(case("ps::table_is_the_hosts_ps", table)),
        only(case("ps::options_go_to_the_hosts_ps", options)),
        only(case("ps::without_a_pid_column_is_refused", no_pid)),
        only(case("ps::bad_options_are_refused", bad_options)),
        only(case("ps::what_runc_prints", like_runc)),
    ]
}

fn family(cx: &Cx) -> Res<(Bundle, Container)> {
    let mut b = cx.bundle()?;
    b.sh("sh -c 'sleep 100 & wait' & sleep 200 & echo up; wait");
    let c = cx.up(&b)?;
    cx.hears(&c, "up")?;
    eventually("four processes", || Ok(pids(cx, &c.id)?.len() == 4))?;
    Ok((b, c))
}

fn pids(cx: &Cx, id: &str) -> Res<Vec<i64>> {
    let out = cx.runtime("ps").args(["--format", "json", id]).out()?.ok()?.stdout;
    let pids: Option<Vec<i64>> = serde_json::from_str(&out).context(format!("ps: {out:?}"))?;
    Ok(pids.unwrap_or_default())
}

fn json(cx: &Cx) -> Res {
    let (_, c) = family(cx)?;
    let pids = pids(cx, &c.id)?;
    ensure!(pids.contains(&cx.pid(&c.id)?.into()), "the init is not in {pids:?}");
    for pid in pids {
        // busybox runs an applet as /proc/self/exe and names itself afterwards
        eventually(&format!("process {pid} is one of ours"), || {
            Ok(["sh\n", "sleep\n"].contains(&fs::read_to_string(format!("/proc/{pid}/comm"))?.as_str()))
        })?;
    }
    let short = cx.runtime("ps").args(["-f", "json", &c.id]).out()?.ok()?.stdout;
    ensure!(short.starts_with('[') && short.ends_with("]\n"), "{short:?}");
    Ok(())
}

fn sub_cgroups(cx: &Cx) -> Res {
    let (b, c) = family(cx)?;
    let last = pids(cx, &c.id)?.into_iter().max().unwrap_or(0);
    let path = b.cgroup();
    for directory in cgroup::directories(&path) {
        cgroup::make_below(&directory, "sub/deeper")?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read(directory.join(file)) {
                let _ = fs::write(directory.join("sub").join(file), &value);
                let _ = fs::write(directory.join("sub/deeper").join(file), &value);
            }
        }
        fs::write(directory.join("sub/deeper/cgroup.procs"), last.to_string())?;
    }
    same!(pids(cx, &c.id)?.len(), 4, "processes");
    cx.delete_force(&c.id).map(drop)
}

fn created(cx: &Cx) -> Res {
    let c = cx.create(&cx.bundle()?)?;
    same!(pids(cx, &c.id)?, [i64::from(cx.pid(&c.id)?)], "pids");
    Ok(())
}

fn stopped(cx: &Cx) -> Res {
    let c = cx.up(&cx.bundle()?)?;
    cx.stopped(&c.id)?;
    ensure!(pids(cx, &c.id)?.is_empty(), "pids: {:?}", pids(cx, &c.id)?);
    Ok(())
}

fn absent(cx: &Cx) -> Res {
    cx.runtime("ps").arg("nobody").out()?.fails(&["not exist", "no such file"])?;
    Ok(())
}

fn ps(cx: &Cx, args: &[&str]) -> Res<String> {
    Ok(cx.runtime("ps").args(args).out()?.ok()?.stdout)
}

fn table(cx: &Cx) -> Res {
    let (_, c) = family(cx)?;
    for args in [vec![c.id.as_str()], vec!["--format", "table", &c.id], vec!["-f=table", &c.id, "-ef"]] {
        let text = ps(cx, &args)?;
        same!(text.lines().count(), 5, "lines of the table");
        let heading: Vec<&str> = text.lines().next().unwrap_or_default().split_whitespace().collect();
        same!(heading, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"], "columns");
        same!(text.lines().filter(|line| line.ends_with("sleep 100")).count(), 1, "lines of the grandchild");
    }
    Ok(())
}

/// As docker top gives them.
fn options(cx: &Cx) -> Res {
    let (_, c) = family(cx)?;
    let text = ps(cx, &[&c.id, "-e", "-o", "pid,cmd"])?;
    let pid = cx.pid(&c.id)?.to_string();
    same!(text.lines().count(), 5, "lines");
    ensure!(text.lines().any(|line| line.trim_start().starts_with(&pid)), "{text}");
    let text = ps(cx, &[&c.id, "aux"])?;
    ensure!(text.starts_with("USER ") && text.lines().count() == 5, "{text}");
    // an option of the verb's own name belongs to ps when it comes after the id
    ensure!(ps(cx, &[&c.id, "-f", "-e"])?.starts_with("UID "), "ps -f -e");
    Ok(())
}

fn no_pid(cx: &Cx) -> Res {
    let (_, c) = family(cx)?;
    cx.runtime("ps").args([&c.id, "-e", "-o", "user"]).out()?.fails(&["couldn't find PID field in ps output"])?;
    Ok(())
}

fn bad_options(cx: &Cx) -> Res {
    let (_, c) = family(cx)?;
    cx.runtime("ps").args([&c.id, "--nonsense"]).out()?.fails(&["exit status 1", "unknown gnu long option"])?;
    cx.runtime("ps").args(["--format", "xml", &c.id]).out()?.fails(&["format"])?;
    cx.runtime("ps").args(["-x", &c.id]).out()?.fails(&["-x"])?;
    Ok(())
}

fn like_runc(cx: &Cx) -> Res {
    let Some(peer) = Peer::runc(cx) else { return skip("runc is not installed") };
    let (mut b, c) = family(cx)?;
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    let other = peer.up(cx, &b)?;
    eventually("four processes of runc's", || {
        let out = peer.run(cx, "ps").args(["--format", "json", &other]).out()?.ok()?.stdout;
        Ok(serde_json::from_str::<Vec<i64>>(&out).is_ok_and(|pids| pids.len() == 4))
    })?;
    let mut pairs = Vec::new();
    for args in
        [&[][..], &["-e", "-o", "pid,comm,args"], &["aux"], &["-e", "-o", "args,pid"], &["-e", "-o", "user"], &["-Z9"]]
    {
        let ours = cx.runtime("ps").arg(&c.id).args(args).out()?;
        pairs.push((args, ours, peer.run(cx, "ps").arg(&other).args(args).out()?));
    }
    peer.delete(cx, &other)?;
    // pids and times differ by nature
    let letters = |text: &str| -> Vec<String> {
        text.lines().map(|l| l.chars().filter(|c| !c.is_ascii_digit() && *c != ' ').collect()).collect()
    };
    for (args, ours, theirs) in pairs {
        same!(ours.code, theirs.code, format!("exit status of ps {args:?}"));
        if theirs.code != Some(0) {
            // it has printed the heading when it finds out
            continue;
        }
        same!(ours.stdout.lines().next(), theirs.stdout.lines().next(), format!("heading of ps {args:?}"));
        same!(letters(&ours.stdout), letters(&theirs.stdout), format!("ps {args:?}"));
    }
    Ok(())
}
