//! What an update does to limits in force: what is given changes, the rest stays; what fails changes nothing.

use super::resources::{Limited, is_v2, limited};
use crate::case::{Case, Res, case, skip};
use crate::cx::Cx;
use crate::{ensure, same};
use serde_json::{Value, json};

const MIB: u64 = 1 << 20;

pub fn cases() -> Vec<Case> {
    vec![
        case("change::memory_up_and_down", memory),
        case("change::memory_beyond_memory_and_swap", beyond).differs("crun", "it writes the two in one order only"),
        case("change::memory_to_no_limit", no_limit).differs("crun", "on v1 it leaves memory and swap together"),
        case("change::swap_alone", swap_alone)
            .differs("crun", "it wants both")
            .differs("runc", "on v2 1.1 does not know the limit in force"),
        case("change::quota_keeps_the_period", quota).differs("crun", "on v2 it sets the period back to 100000"),
        case("change::period_keeps_the_quota", period).differs("crun", "on v2 it sets no quota"),
        case("change::a_smaller_period_with_a_smaller_quota", smaller)
            .differs("crun", "it writes the two in one order only"),
        case("change::pids_and_shares", pids_and_shares).differs("crun", "1.8.1 writes -1, which the kernel refuses"),
        case("change::no_limit_of_cpu", no_quota)
            .differs("crun", "it leaves the quota (v2) or writes it unsigned (v1)"),
        case("change::a_failure_leaves_all_as_it_was", half_way)
            .only(&["ferrun"], "others leave what was written before"),
        case("change::memory_below_usage_is_refused_when_asked", below_usage)
            .only(&["ferrun"], "the others here are older than that"),
        case("change::on_v1_memory_below_usage_names_the_usage", busy).only(&["ferrun", "runc"], "crun does not"),
        case("change::mistakes_name_the_place", mistakes).only(&["ferrun"], "others name no pointer"),
        case("change::unified", unified).differs("runc", "1.1 does not update them"),
    ]
}

/// The file on v1 or on v2.
fn of<'a>(v1: &'a str, v2: &'a str) -> &'a str {
    if is_v2() { v2 } else { v1 }
}

fn update(cx: &Cx, c: &Limited, asked: &Value) -> Res<crate::run::Out> {
    cx.runtime("update").args(["--resources", "-", &c.container.id]).stdin(asked.to_string()).out()
}

fn limit() -> &'static str {
    of("memory.limit_in_bytes", "memory.max")
}

fn memory(cx: &Cx) -> Res {
    let c = limited(cx, &json!({"memory": {"limit": 64 * MIB}}), &[(limit(), "")])?;
    for size in [128 * MIB, 32 * MIB, 48 * MIB] {
        update(cx, &c, &json!({"memory": {"limit": size}}))?.ok()?;
        same!(c.read(limit())?, size.to_string(), limit());
    }
    Ok(())
}

/// v1 refuses a limit of memory above that of both, and one of both below that of memory.
fn beyond(cx: &Cx) -> Res {
    let both = of("memory.memsw.limit_in_bytes", "memory.swap.max");
    let start = json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}});
    let c = limited(cx, &start, &[(limit(), ""), (both, "")])?;
    for (size, together) in [(128, 256), (32, 48), (300, 300)] {
        update(cx, &c, &json!({"memory": {"limit": size * MIB, "swap": together * MIB}}))?.ok()?;
        same!(c.read(limit())?, (size * MIB).to_string(), limit());
        let want = if is_v2() { together - size } else { together };
        same!(c.read(both)?, (want * MIB).to_string(), both);
    }
    Ok(())
}

fn no_limit(cx: &Cx) -> Res {
    let both = of("memory.memsw.limit_in_bytes", "memory.swap.max");
    let start = json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}});
    let c = limited(cx, &start, &[(limit(), ""), (both, "")])?;
    update(cx, &c, &json!({"memory": {"limit": -1, "swap": -1}}))?.ok()?;
    let none = of("9223372036854771712", "max");
    same!(c.read(limit())?, none, limit());
    same!(c.read(both)?, none, both);
    Ok(())
}

fn swap_alone(cx: &Cx) -> Res {
    let both = of("memory.memsw.limit_in_bytes", "memory.swap.max");
    let start = json!({"memory": {"limit": 64 * MIB, "swap": 64 * MIB}});
    let c = limited(cx, &start, &[(limit(), ""), (both, "")])?;
    update(cx, &c, &json!({"memory": {"swap": 96 * MIB}}))?.ok()?;
    let want = if is_v2() { 32 * MIB } else { 96 * MIB };
    same!(c.read(both)?, want.to_string(), both);
    same!(c.read(limit())?, (64 * MIB).to_string(), limit());
    Ok(())
}

fn bandwidth(c: &Limited) -> Res<String> {
    if is_v2() {
        return c.read("cpu.max");
    }
    Ok(format!("{} {}", c.read("cpu.cfs_quota_us")?, c.read("cpu.cfs_period_us")?))
}

fn quota(cx: &Cx) -> Res {
    let start = json!({"cpu": {"quota": 20000, "period": 40000}});
    let c = limited(cx, &start, &[(of("cpu.cfs_quota_us", "cpu.max"), "")])?;
    update(cx, &c, &json!({"cpu": {"quota": 10000}}))?.ok()?;
    same!(bandwidth(&c)?, "10000 40000", "quota and period");
    Ok(())
}

fn period(cx: &Cx) -> Res {
    let start = json!({"cpu": {"quota": 20000, "period": 40000}});
    let c = limited(cx, &start, &[(of("cpu.cfs_quota_us", "cpu.max"), "")])?;
    update(cx, &c, &json!({"cpu": {"period": 80000}}))?.ok()?;
    same!(bandwidth(&c)?, "20000 80000", "quota and period");
    Ok(())
}

/// Below a parent with a limit, v1 refuses the new period with the old quota.
fn smaller(cx: &Cx) -> Res {
    let start = json!({"cpu": {"quota": 50000, "period": 100_000}});
    let c = limited(cx, &start, &[(of("cpu.cfs_quota_us", "cpu.max"), "")])?;
    let above = c.file(of("cpu.cfs_quota_us", "cpu.max")).and_then(|f| Some(f.parent()?.parent()?.to_owned()));
    let above = above.unwrap_or_default();
    if is_v2() {
        std::fs::write(above.join("cpu.max"), "60000 100000")?;
    } else {
        std::fs::write(above.join("cpu.cfs_quota_us"), "60000")?;
    }
    update(cx, &c, &json!({"cpu": {"quota": 5000, "period": 10000}}))?.ok()?;
    same!(bandwidth(&c)?, "5000 10000", "quota and period");
    Ok(())
}

fn pids_and_shares(cx: &Cx) -> Res {
    let shares = of("cpu.shares", "cpu.weight");
    let c = limited(cx, &json!({"pids": {"limit": 20}}), &[("pids.max", ""), (shares, "")])?;
    update(cx, &c, &json!({"pids": {"limit": 30}, "cpu": {"shares": 2}}))?.ok()?;
    same!(c.read("pids.max")?, "30", "pids.max");
    same!(c.read(shares)?, of("2", "1"), shares);
    update(cx, &c, &json!({"pids": {"limit": -1}}))?.ok()?;
    same!(c.read("pids.max")?, "max", "pids.max");
    same!(c.read(shares)?, of("2", "1"), shares);
    Ok(())
}

fn no_quota(cx: &Cx) -> Res {
    let start = json!({"cpu": {"quota": 20000, "period": 40000}});
    let c = limited(cx, &start, &[(of("cpu.cfs_quota_us", "cpu.max"), "")])?;
    update(cx, &c, &json!({"cpu": {"quota": -1}}))?.ok()?;
    let found = bandwidth(&c)?;
    ensure!(found == of("-1 40000", "max 40000"), "{found}");
    Ok(())
}

fn half_way(cx: &Cx) -> Res {
    let shares = of("cpu.shares", "cpu.weight");
    let start = json!({
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB}, "cpu": {"shares": 512, "quota": 20000, "period": 40000},
        "pids": {"limit": 20}
    });
    let both = of("memory.memsw.limit_in_bytes", "memory.swap.max");
    let files = [limit(), both, shares, "pids.max"];
    let c = limited(cx, &start, &files.map(|file| (file, "")))?;
    let before = |c: &Limited| -> Res<Vec<String>> {
        let mut values = vec![bandwidth(c)?];
        for file in files {
            values.push(c.read(file)?);
        }
        Ok(values)
    };
    let old = before(&c)?;
    let mut asked = json!({
        "memory": {"limit": 128 * MIB, "swap": 256 * MIB}, "cpu": {"shares": 1024, "quota": 10000, "period": 20000},
        "pids": {"limit": 30}
    });
    if is_v2() {
        asked["unified"] = json!({"memory.high": "lots"});
    } else {
        asked["blockIO"] = json!({"throttleReadBpsDevice": [{"major": 4000, "minor": 0, "rate": 5}]});
    }
    let out = update(cx, &c, &asked)?.fails(&["invalid argument", "no such device"])?;
    ensure!(!out.stderr.contains("put back"), "{}", out.stderr);
    same!(before(&c)?, old, "the files after an update that failed");
    Ok(())
}

fn below_usage(cx: &Cx) -> Res {
    let c = limited(cx, &json!({"memory": {"limit": 64 * MIB}}), &[(limit(), "")])?;
    let asked = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
    update(cx, &c, &asked)?.fails(&["rejecting memory limit 4096 <= usage"])?;
    same!(c.read(limit())?, (64 * MIB).to_string(), limit());
    same!(cx.status(&c.container.id)?, "created", "status");
    Ok(())
}

fn busy(cx: &Cx) -> Res {
    if is_v2() {
        return skip("v2 kills instead");
    }
    let c = limited(cx, &json!({"memory": {"limit": 64 * MIB}}), &[(limit(), "")])?;
    let asked = json!({"memory": {"limit": 4096}});
    update(cx, &c, &asked)?.fails(&["unable to set memory limit to 4096 (current usage: "])?;
    same!(c.read(limit())?, (64 * MIB).to_string(), limit());
    Ok(())
}

fn mistakes(cx: &Cx) -> Res {
    let c = limited(cx, &json!({"memory": {"limit": 64 * MIB}}), &[(limit(), "")])?;
    for (asked, pointer) in [
        (json!({"memory": {"limit": "x"}}), "/memory/limit"),
        (json!({"memory": {"limit": 128 * MIB, "swappiness": 500}}), "/memory/swappiness"),
        (json!({"memory": {"limit": 128 * MIB}, "cpu": {"cpus": "x"}}), "/cpu/cpus"),
    ] {
        update(cx, &c, &asked)?.fails(&[&format!(" {pointer})")])?;
        same!(c.read(limit())?, (64 * MIB).to_string(), limit());
    }
    Ok(())
}

fn unified(cx: &Cx) -> Res {
    if !is_v2() {
        return skip("v1 has none");
    }
    let c = limited(cx, &json!({"memory": {"limit": 64 * MIB}}), &[("memory.high", "")])?;
    update(cx, &c, &json!({"unified": {"memory.high": "33554432", "memory.low": "1048576"}}))?.ok()?;
    same!(c.read("memory.high")?, "33554432", "memory.high");
    same!(c.read("memory.low")?, "1048576", "memory.low");
    same!(c.read("memory.max")?, "67108864", "memory.max");
    Ok(())
}
