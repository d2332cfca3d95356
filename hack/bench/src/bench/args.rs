//! The command line.

use std::path::PathBuf;

use crate::Res;

pub(crate) const USAGE: &str = "\
usage: bench [OPTIONS] [RUNTIME…]

RUNTIME is PATH or NAME=PATH of a further runtime with runc's argv. Always there, when installed: ferrun (beside this
binary, or in target/…/release), crun, runc, and the floor.

  --rounds N       rounds of each regime (default 30)
  --warmup N       rounds before them that are not counted (default 2)
  --idle MS        idle time before each process in the isolated regime (default 40)
  --filter TEXT    only regime/bundle/op that contain TEXT, e.g. isolated/full/run or /state; a,b = a or b;
                   given twice, both must match; regimes: isolated, b2b, throughput (its ops: run-w2, run-w8)
  --workers A,B    throughput: numbers of processes that run containers at the same time (default 2,8)
  --containers N   throughput: containers of each runtime in one turn (default 100)
  --repeats N      throughput: turns, of which the median counts (default 3)
  --runtimes A,B   only these runtimes (the floor is always there)
  --no-limits      leave linux.resources (memory, cpu, pids, devices) out of both bundles, for everybody
  --systemd-cgroup systemd makes the cgroups of the runtimes (cgroup v2; the floor makes its own as ever). Then there is
                   no private pid namespace: systemd has to know the processes
  --json FILE      everything, with all samples
  --seed N         seed of the shuffle (default: the time)
  --no-probes      no peak RSS, no syscall counts (these come from extra runs after the series)
";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) warmup: usize,
    pub(crate) idle_ms: u64,
    pub(crate) workers: Vec<usize>,
    pub(crate) containers: usize,
    pub(crate) repeats: usize,
    pub(crate) filters: Vec<Vec<String>>,
    pub(crate) only: Option<Vec<String>>,
    pub(crate) limits: bool,
    pub(crate) systemd: bool,
    pub(crate) json: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) probes: bool,
    pub(crate) extra: Vec<String>,
}

impl Options {
    pub(crate) fn wants(&self, regime: &str, bundle: &str, op: &str) -> bool {
        let label = format!("{regime}/{bundle}/{op}");
        self.filters.iter().all(|any| any.iter().any(|text| label.contains(text.as_str())))
    }
}

/// `None`: the caller asked for help.
pub(crate) fn parse(words: &[String]) -> Res<Option<Options>> {
    let mut options = Options {
        rounds: 30,
        warmup: 2,
        idle_ms: 40,
        workers: vec![2, 8],
        containers: 100,
        repeats: 3,
        filters: Vec::new(),
        only: None,
        limits: true,
        systemd: false,
        json: None,
        seed: std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_nanos() as u64),
        probes: true,
        extra: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "-h" | "--help" => return Ok(None),
            "--rounds" => options.rounds = number(value()?)? as usize,
            "--warmup" => options.warmup = number(value()?)? as usize,
            "--idle" => options.idle_ms = number(value()?)?,
            "--workers" => options.workers = numbers(value()?)?,
            "--containers" => options.containers = number(value()?)? as usize,
            "--repeats" => options.repeats = number(value()?)? as usize,
            "--filter" => options.filters.push(list(value()?)),
            "--runtimes" => options.only = Some(list(value()?)),
            "--no-limits" => options.limits = false,
            "--systemd-cgroup" => options.systemd = true,
            "--json" => options.json = Some(value()?.into()),
            "--seed" => options.seed = number(value()?)?,
            "--no-probes" => options.probes = false,
            flag if flag.starts_with('-') => return Err(format!("unknown option {flag}\n{USAGE}")),
            runtime => options.extra.push(runtime.to_owned()),
        }
    }
    let counts = [("rounds", options.rounds), ("containers", options.containers), ("repeats", options.repeats)];
    if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
        return Err(format!("--{name} must be at least 1"));
    }
    Ok(Some(options))
}

fn number(text: &str) -> Res<u64> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

fn numbers(text: &str) -> Res<Vec<usize>> {
    let all: Vec<usize> = text.split(',').map(|word| number(word).map(|n| n as usize)).collect::<Res<_>>()?;
    if all.contains(&0) { Err(format!("no workers: {text}")) } else { Ok(all) }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
