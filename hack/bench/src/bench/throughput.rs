//! Containers per second: workers, each a process of its own, that run `true` back to back until enough are done.
//!
//! Every container has a bundle (for its cgroup path) and an id of its own; the state root is one for each runtime, as
//! in life. The bundles are written before the clock starts.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Error, PipeReader, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Res;
use crate::args::Options;
use crate::bundle::{self, Bundle};
use crate::report::{middle, ratio};
use crate::runtime::{BASELINE, Ground, Runtime};
use crate::sandbox::Place;
use crate::series::Random;

/// What a turn left to the kernel's workers (dead cgroups, network namespaces) is not the next one's load.
const SETTLE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    /// Index into `Bundle::ALL`.
    bundle: usize,
    workers: usize,
    /// Index into the runtimes.
    runtime: usize,
}

/// One turn of a case.
#[derive(Clone, Copy)]
pub(crate) struct Turn {
    per_second: f64,
    /// User + system time of the runtime's processes and of what they waited for, for each container.
    cpu_ms: f64,
}

pub(crate) type Turns = BTreeMap<Case, Vec<Turn>>;

pub(crate) fn run(options: &Options, place: &Place, runtimes: &[Runtime]) -> Res<Turns> {
    let mut turns = Turns::new();
    let mut cases = cases(options, runtimes);
    if cases.is_empty() {
        return Ok(turns);
    }
    bundle::write_numbered(place, runtimes, options)?;
    let mut random = Random(options.seed | 1);
    for _ in 0..options.repeats {
        random.shuffle(&mut cases);
        for case in &cases {
            std::thread::sleep(SETTLE);
            turns.entry(*case).or_default().push(turn(options, place, runtimes, *case)?);
        }
    }
    Ok(turns)
}

fn cases(options: &Options, runtimes: &[Runtime]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, bundle) in Bundle::ALL.iter().enumerate() {
        for &workers in &options.workers {
            if options.wants("throughput", bundle.name(), &format!("run-w{workers}")) {
                cases.extend((0..runtimes.len()).map(|runtime| Case { bundle: b, workers, runtime }));
            }
        }
    }
    cases
}

fn turn(options: &Options, place: &Place, runtimes: &[Runtime], case: Case) -> Res<Turn> {
    let runtime = &runtimes[case.runtime];
    // A worker takes a number, makes that container, and ends when there are no more numbers.
    let (numbers, mut numbers_in) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let (mut times, times_in) = std::io::pipe().map_err(|e| format!("pipe: {e}"))?;
    let mut workers = Vec::new();
    for worker in 0..case.workers {
        // SAFETY: this process has one thread, so the child may go on as a normal program.
        match unsafe { libc::fork() } {
            -1 => return Err(format!("fork: {}", Error::last_os_error())),
            0 => {
                drop(numbers_in);
                let done = work(options, place, runtime, case, worker, &numbers)
                    .and_then(|cpu_us| (&times_in).write_all(&cpu_us.to_ne_bytes()).map_err(|e| e.to_string()));
                if let Err(message) = &done {
                    eprintln!("bench: {} worker {worker} of {}: {message}", runtime.name, case.workers);
                }
                // SAFETY: no pointers. Nothing that the parent has buffered may be written twice.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            pid => workers.push(pid),
        }
    }
    drop((numbers, times_in));
    let all: Vec<u8> = (0..options.containers as u32).flat_map(u32::to_ne_bytes).collect();
    let begin = Instant::now();
    numbers_in.write_all(&all).map_err(|e| format!("start the workers: {e}"))?;
    drop(numbers_in);
    wait_for(workers)?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut cpu = Vec::new();
    times.read_to_end(&mut cpu).map_err(|e| format!("times of the workers: {e}"))?;
    let cpu_us: u64 = cpu.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).sum();
    let count = options.containers as f64;
    Ok(Turn { per_second: count / seconds, cpu_ms: cpu_us as f64 / 1e3 / count })
}

/// In the worker: its CPU time in microseconds.
fn work(
    options: &Options,
    place: &Place,
    runtime: &Runtime,
    case: Case,
    worker: usize,
    mut numbers: &PipeReader,
) -> Res<u64> {
    let mut ground = Ground::new(place, options, &format!("-{worker}"))?;
    let mut cpu_us = 0;
    let mut number = [0; 4];
    // The kernel gives a reader of a pipe all four bytes of a number or none.
    while numbers.read(&mut number).map_err(|e| format!("next number: {e}"))? == number.len() {
        cpu_us += ground.run_numbered(runtime, Bundle::ALL[case.bundle], u32::from_ne_bytes(number))?.cpu_us;
    }
    Ok(cpu_us)
}

/// Until all have ended, or one has failed. Whatever else ends meanwhile is what runtimes left to PID 1.
fn wait_for(mut workers: Vec<libc::pid_t>) -> Res<()> {
    while !workers.is_empty() {
        let mut status = 0;
        // SAFETY: the status is a live variable.
        let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
        if pid < 0 {
            return Err(format!("wait for the workers: {}", Error::last_os_error()));
        }
        if workers.contains(&pid) && status != 0 {
            return Err("a worker failed, see above".to_owned());
        }
        workers.retain(|worker| *worker != pid);
    }
    Ok(())
}

struct Row<'a> {
    case: Case,
    runtime: &'a str,
    rates: Vec<f64>,
    cpu_ms: f64,
    floor_ratio: Option<f64>,
    crun_ratio: Option<f64>,
}

impl Row<'_> {
    fn rate(&self) -> f64 {
        middle(&self.rates)
    }
}

fn rows<'a>(turns: &Turns, runtimes: &'a [Runtime]) -> Vec<Row<'a>> {
    let rates = |turns: &[Turn]| turns.iter().map(|turn| turn.per_second).collect::<Vec<_>>();
    let rate_of = |case: Case| turns.get(&case).map(|turns| middle(&rates(turns)));
    let crun = runtimes.iter().position(|runtime| runtime.name == BASELINE);
    let row = |(&case, turns): (&Case, &Vec<Turn>)| {
        let rate = middle(&rates(turns));
        Row {
            case,
            runtime: &runtimes[case.runtime].name,
            rates: rates(turns),
            cpu_ms: middle(&turns.iter().map(|turn| turn.cpu_ms).collect::<Vec<_>>()),
            floor_ratio: rate_of(Case { runtime: 0, ..case }).map(|floor| rate / floor),
            crun_ratio: crun.and_then(|crun| rate_of(Case { runtime: crun, ..case })).map(|base| rate / base),
        }
    };
    turns.iter().map(row).collect()
}

pub(crate) fn table(options: &Options, turns: &Turns, runtimes: &[Runtime]) -> String {
    let mut text = String::new();
    let mut section = None;
    for row in rows(turns, runtimes) {
        if section.is_none() {
            let _ = writeln!(
                text,
                "\nthroughput: containers per second over {} containers, median of {}; CPU ms for each container",
                options.containers, options.repeats
            );
        }
        if section != Some((row.case.bundle, row.case.workers)) {
            section = Some((row.case.bundle, row.case.workers));
            let group = format!("{} w={}", Bundle::ALL[row.case.bundle].name(), row.case.workers);
            let _ = writeln!(
                text,
                "\n{group:<14} {:<9} {:>8} {:>8} {:>8} {:>7} {:>7} {:>7}",
                "", "median", "lowest", "highest", "x floor", "x crun", "CPU"
            );
        }
        let lowest = row.rates.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = row.rates.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "{:>14} {:<9} {:>8.1} {lowest:>8.1} {highest:>8.1} {:>7} {:>7} {:>7.2}",
            "run",
            row.runtime,
            row.rate(),
            ratio(row.floor_ratio),
            ratio(row.crun_ratio),
            row.cpu_ms
        );
    }
    text
}

pub(crate) fn json(turns: &Turns, runtimes: &[Runtime]) -> Vec<Value> {
    let row = |row: &Row| {
        json!({
            "bundle": Bundle::ALL[row.case.bundle].name(),
            "workers": row.case.workers,
            "runtime": row.runtime,
            "per_second": row.rate(),
            "cpu_ms": row.cpu_ms,
            "ratio_floor": row.floor_ratio,
            "ratio_crun": row.crun_ratio,
            "all_per_second": row.rates,
        })
    };
    rows(turns, runtimes).iter().map(row).collect()
}
