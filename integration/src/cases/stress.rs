//! Many of everything. The counts are `--cycles` and `--parallel`.

use super::resources::has;
use crate::case::{Case, Res, case};
use crate::cx::Cx;
use crate::run::Job;
use crate::{ensure, same};
use serde_json::json;

pub fn cases() -> Vec<Case> {
    vec![
        case("stress::cycles_of_create_start_kill_delete", cycles).patience(20),
        case("stress::parallel_runs", parallel).patience(20),
        case("stress::one_id_raced_has_one_winner", raced)
            .differs("runc", "1.1 looks and makes without a lock: now and then two win"),
        case("stress::instant_exits", instant),
    ]
}

fn cycles(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.args(&["/bin/sleep", "1000"]);
    for n in 0..cx.options.cycles {
        let c = cx.create(&b)?;
        cx.start(&c.id)?;
        cx.kill(&c.id, "KILL")?;
        cx.stopped(&c.id)?;
        cx.delete(&c.id)?;
        ensure!(!cx.exists(&c.id), "round {n}: the state is left");
    }
    Ok(())
}

/// All at once, from one bundle's rootfs but with a cgroup each.
fn parallel(cx: &Cx) -> Res {
    // where the machine has the controllers
    let limited = ["memory", "pids", "cpu"].iter().all(|name| has(name).is_ok());
    let mut jobs: Vec<Job> = Vec::new();
    for n in 0..cx.options.parallel {
        let mut b = cx.bundle()?;
        b.sh(&format!("echo {n}"));
        if limited {
            b.set("/linux/resources/memory", json!({"limit": 64 << 20}))
                .set("/linux/resources/pids", json!({"limit": 50}));
            b.set("/linux/resources/cpu", json!({"shares": 512}));
        }
        let id = cx.id();
        jobs.push(cx.with_bundle("run", &b, &id)?.limit(std::time::Duration::from_secs(300)).spawn()?);
    }
    let mut failed = Vec::new();
    for (n, job) in jobs.into_iter().enumerate() {
        let out = job.wait()?;
        if out.code != Some(0) || out.stdout != format!("{n}\n") {
            failed.push(format!("{n}: {:?} {}", out.code, out.stderr.trim()));
        }
    }
    same!(failed, Vec::<String>::new(), "runs that failed");
    Ok(())
}

fn raced(cx: &Cx) -> Res {
    for _ in 0..5 {
        let id = cx.id();
        let mut jobs = Vec::new();
        for _ in 0..8 {
            let b = cx.bundle()?;
            jobs.push(cx.with_bundle("create", &b, &id)?.spawn()?);
        }
        cx.adopt(&id);
        let mut won = 0;
        for job in jobs {
            if job.wait()?.code == Some(0) {
                won += 1;
            }
        }
        same!(won, 1, "creates of one id that succeeded");
        cx.delete_force(&id)?;
    }
    Ok(())
}

/// A program that is gone before anybody looks: exit statuses must not be lost.
fn instant(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    for n in 0..20 {
        b.set("/linux/cgroupsPath", json!(cx.cgroup())).args(&["/probe", "exit", &n.to_string()]);
        cx.run(&b)?.exits(n)?;
    }
    Ok(())
}
