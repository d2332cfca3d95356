//! `bench`: whole-process times of an OCI runtime's verbs, side by side in one shuffled series.
//!
//! Outer process: private namespaces, cgroup parents, and the removal of all that it made, whatever happens inside.
//! Inner process: bundles, series, probes, report. It is PID 1 of a pid namespace, so that nothing can outlive it; with
//! systemd, which has to know the processes, it is a subreaper.
//! It asserts nothing about speed; it fails only when a run fails, because such a time means nothing.
//!
//! Names are resolved here by a privileged process, but only below directories that it made itself.
#![allow(clippy::disallowed_methods)]

mod args;
mod bundle;
mod cgroups;
mod probe;
mod report;
mod runtime;
mod sandbox;
mod series;
mod spawn;
mod throughput;

use std::process::ExitCode;

pub(crate) type Res<T> = Result<T, String>;

fn main() -> ExitCode {
    match work() {
        Ok(code) => code,
        Err(message) => {
            eprintln!("bench: FAILED: {message}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Res<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(options) = args::parse(&words)? else {
        print!("{}", args::USAGE);
        return Ok(ExitCode::SUCCESS);
    };
    let place = match std::env::var(sandbox::INNER) {
        Ok(text) => sandbox::Place::from_text(&text)?,
        Err(_) => return sandbox::supervise(&options, &words),
    };
    inner(&options, &place)?;
    Ok(ExitCode::SUCCESS)
}

fn inner(options: &args::Options, place: &sandbox::Place) -> Res<()> {
    sandbox::become_init(place)?;
    let priority = spawn::raise_priority();
    let runtimes = runtime::find(options)?;
    bundle::write_all(place, &runtimes, options)?;
    println!("{}", report::heading(options, place, &runtimes, &priority));
    let mut ground = runtime::Ground::new(place, options, "")?;
    for runtime in runtimes.iter().filter(|runtime| !runtime.is_floor()) {
        ground.prove(runtime)?;
        if let Some(missing) = ground.missing_limits(runtime)? {
            println!("NOT COMPARABLE: {}: {missing}", runtime.name);
        }
    }
    let mut table = series::Table::default();
    for regime in series::Regime::ALL {
        series::run(options, regime, &runtimes, &mut ground, &mut table)?;
    }
    let turns = throughput::run(options, place, &runtimes)?;
    let probes = probe::run(options, &runtimes, &mut ground)?;
    let rows = report::rows(&table, &probes, &runtimes);
    print!("{}{}", report::table(&rows), throughput::table(options, &turns, &runtimes));
    println!("\nload average after: {}", report::load());
    if let Some(file) = &options.json {
        let text =
            report::json(options, place, &runtimes, &priority, &rows, &table, throughput::json(&turns, &runtimes));
        std::fs::write(file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    Ok(())
}
