//! The figures as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::args::Options;
use crate::bundle::Bundle;
use crate::probe::{Probe, Probes};
use crate::runtime::{BASELINE, Op, Runtime};
use crate::sandbox::Place;
use crate::series::{Key, Regime, Table};
use crate::spawn::Sample;

pub(crate) struct Row {
    key: Key,
    runtime: String,
    count: usize,
    median: f64,
    min: f64,
    p90: f64,
    cpu: f64,
    floor_ratio: Option<f64>,
    crun_ratio: Option<f64>,
    probe: Probe,
}

pub(crate) fn heading(options: &Options, place: &Place, runtimes: &[Runtime], priority: &str) -> String {
    let mut text = format!(
        "{} rounds of each regime, shuffled (seed {}); isolated = {} ms idle before each process; linux.resources: {}\n",
        options.rounds,
        options.seed,
        options.idle_ms,
        limits(options)
    );
    let _ =
        writeln!(text, "{}{}; {priority}", place.layout.describe(), if place.systemd { ", by systemd" } else { "" });
    let _ = writeln!(text, "load average before: {}", load());
    for runtime in runtimes {
        let _ = writeln!(text, "{:>8} = {}", runtime.name, runtime.path);
    }
    text.push_str(
        "times in ms (spawn to reap); x floor: run and create to the floor's run, exec to the floor's in that container, the others to the floor's hello;\n\
         CPU = median user+sys (mean, where the kernel counts in ticks); RSS = peak KiB, waited-for children included; calls = strace -f",
    );
    text
}

/// Other work on the machine moves medians by factors: to be read beside every table.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn limits(options: &Options) -> &'static str {
    if options.limits { "in both bundles" } else { "left out of both bundles, for everybody" }
}

pub(crate) fn rows(table: &Table, probes: &Probes, runtimes: &[Runtime]) -> Vec<Row> {
    let median_of = |key: Key| table.get(&key).map(|samples| median(samples, wall));
    let crun = runtimes.iter().position(|runtime| runtime.name == BASELINE);
    let row = |(key, samples): (&Key, &Vec<Sample>)| {
        let middle = median(samples, wall);
        let floor = match key.op {
            Op::Hello | Op::ExecFloor => None,
            Op::Exec => median_of(Key { op: Op::ExecFloor, ..key.clone() }),
            Op::Run | Op::Create => median_of(Key { op: Op::Run, runtime: 0, ..key.clone() }),
            _ => median_of(Key { op: Op::Hello, bundle: None, runtime: 0, ..key.clone() }),
        };
        let base = crun.and_then(|crun| median_of(Key { runtime: crun, ..key.clone() }));
        Row {
            key: key.clone(),
            runtime: runtimes[key.runtime].name.clone(),
            count: samples.len(),
            median: middle,
            min: quantile(samples, wall, 0.0),
            p90: quantile(samples, wall, 0.9),
            cpu: cpu_time(samples),
            floor_ratio: floor.map(|floor| middle / floor),
            crun_ratio: base.map(|base| middle / base),
            probe: probes.get(&(key.bundle, key.op, key.runtime)).copied().unwrap_or_default(),
        }
    };
    table.iter().map(row).collect()
}

fn wall(sample: &Sample) -> f64 {
    sample.wall_ns as f64 / 1e6
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu_us as f64 / 1e3
}

/// A kernel that counts whole ticks gives every short process 0 or one: only their mean says anything.
pub(crate) fn cpu_time(samples: &[Sample]) -> f64 {
    if samples.iter().all(|sample| sample.cpu_us % 1000 == 0) {
        samples.iter().map(cpu).sum::<f64>() / samples.len().max(1) as f64
    } else {
        median(samples, cpu)
    }
}

fn median(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    middle(&samples.iter().map(of).collect::<Vec<_>>())
}

/// The median: of an even number, between the two middle ones.
pub(crate) fn middle(values: &[f64]) -> f64 {
    let values = sorted(values.to_vec());
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2) + at(values.len().saturating_sub(1) / 2)) / 2.0
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn quantile(samples: &[Sample], of: fn(&Sample) -> f64, q: f64) -> f64 {
    let values = sorted(samples.iter().map(of).collect());
    let at = (q * values.len() as f64) as usize;
    values.get(at.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

fn bundle_name(key: &Key) -> &'static str {
    key.bundle.map_or("-", |bundle| Bundle::ALL[bundle].name())
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut section = String::new();
    for row in rows {
        let group = format!("{} {}", row.key.regime.name(), bundle_name(&row.key));
        if group != section {
            let _ = writeln!(
                text,
                "\n{group:<14} {:<9} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>7}",
                "", "median", "min", "p90", "x floor", "x crun", "CPU", "RSS", "calls"
            );
            section = group;
        }
        let _ = writeln!(
            text,
            "{:>14} {:<9} {:>8.2} {:>8.2} {:>8.2} {:>7} {:>7} {:>7.2} {:>7} {:>7}",
            row.key.op.name(),
            row.runtime,
            row.median,
            row.min,
            row.p90,
            ratio(row.floor_ratio),
            ratio(row.crun_ratio),
            row.cpu,
            figure(row.probe.peak_rss),
            figure(row.probe.syscalls),
        );
    }
    text
}

pub(crate) fn ratio(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn figure(value: Option<u64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub(crate) fn json(
    options: &Options,
    place: &Place,
    runtimes: &[Runtime],
    priority: &str,
    rows: &[Row],
    table: &Table,
    throughput: Vec<Value>,
) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let results: Vec<Value> = rows
        .iter()
        .map(|row| {
            let samples = table.get(&row.key).map(Vec::as_slice).unwrap_or_default();
            json!({
                "regime": row.key.regime.name(),
                "bundle": bundle_name(&row.key),
                "op": row.key.op.name(),
                "runtime": row.runtime,
                "n": row.count,
                "median_ms": row.median,
                "min_ms": row.min,
                "p90_ms": row.p90,
                "cpu_ms": row.cpu,
                "ratio_floor": row.floor_ratio,
                "ratio_crun": row.crun_ratio,
                "peak_rss_kib": row.probe.peak_rss,
                "syscalls": row.probe.syscalls,
                "wall_ms": samples.iter().map(wall).collect::<Vec<_>>(),
            })
        })
        .collect();
    let runtimes: Vec<Value> = runtimes.iter().map(|r| json!({ "name": r.name, "path": r.path })).collect();
    let mut text = json!({
        "kernel": kernel.trim(),
        "cpus": std::thread::available_parallelism().map(usize::from).unwrap_or(0),
        "cgroup": place.layout.describe(),
        "systemd": place.systemd,
        "priority": priority,
        "load_average_after": load(),
        "rounds": options.rounds,
        "idle_ms": options.idle_ms,
        "seed": options.seed,
        "limits": options.limits,
        "regimes": Regime::ALL.map(Regime::name),
        "runtimes": runtimes,
        "results": results,
        "throughput": throughput,
    })
    .to_string();
    text.push('\n');
    text
}
