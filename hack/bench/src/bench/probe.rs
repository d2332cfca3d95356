//! Peak RSS and number of system calls: extra runs after the series, because both disturb the time.

use std::collections::BTreeMap;
use std::fs;

use crate::Res;
use crate::args::Options;
use crate::bundle::{Bundle, Payload};
use crate::runtime::{Ground, Op, Runtime};
use crate::series::Regime;

#[derive(Clone, Copy, Default)]
pub(crate) struct Probe {
    /// KiB: the highest of the runtime process and of those that it waited for.
    pub(crate) peak_rss: Option<u64>,
    pub(crate) syscalls: Option<u64>,
}

/// By bundle, verb and runtime, as in `series::Key`.
pub(crate) type Probes = BTreeMap<(Option<usize>, Op, usize), Probe>;

/// The highest of so many: the peak depends a little on where the kernel faults pages in around.
const RSS_TRIALS: usize = 3;

pub(crate) fn run(options: &Options, runtimes: &[Runtime], ground: &mut Ground) -> Res<Probes> {
    let mut probes = Probes::new();
    if !options.probes {
        return Ok(probes);
    }
    let floor = &runtimes[0];
    let rss_file = ground.scratch("rss");
    let rss = |_: Op| [&floor.path, "rss", &rss_file].map(str::to_owned).to_vec();
    for _ in 0..RSS_TRIALS {
        each(options, runtimes, ground, Payload::Small, &rss, &mut |key| {
            let peak = number(&rss_file, |text| text.trim().parse().ok())?;
            let probe: &mut Probe = probes.entry(key).or_default();
            probe.peak_rss = probe.peak_rss.max(Some(peak));
            Ok(())
        })?;
    }
    let Some(strace) = ["/usr/bin/strace", "/bin/strace"].iter().find(|path| fs::exists(path).unwrap_or(false)) else {
        eprintln!("bench: no strace here: no syscall counts");
        return Ok(probes);
    };
    let calls_file = ground.scratch("calls");
    let calls = |op: Op| match op {
        // strace ends only with the last process that it follows: after `create` that would be the container.
        Op::Create => Vec::new(),
        _ => [strace, "-f", "-c", "-o", &calls_file].iter().map(|w| (*w).to_owned()).collect(),
    };
    each(options, runtimes, ground, Payload::True, &calls, &mut |key| {
        if key.1 != Op::Create {
            probes.entry(key).or_default().syscalls = Some(number(&calls_file, total)?);
        }
        Ok(())
    })?;
    Ok(probes)
}

/// Once through everything that the filter lets through, in order.
fn each(
    options: &Options,
    runtimes: &[Runtime],
    ground: &mut Ground,
    payload: Payload,
    wrap: &dyn Fn(Op) -> Vec<String>,
    done: &mut dyn FnMut((Option<usize>, Op, usize)) -> Res<()>,
) -> Res<()> {
    let wants = |b: usize, op: Op| {
        Regime::ALL.iter().any(|regime| options.wants(regime.name(), Bundle::ALL[b].name(), op.name()))
    };
    ground.hello(&runtimes[0], wrap)?;
    done((None, Op::Hello, 0))?;
    for (b, &bundle) in Bundle::ALL.iter().enumerate() {
        for (r, runtime) in runtimes.iter().enumerate() {
            if wants(b, Op::Run) {
                ground.run(runtime, bundle, payload, wrap)?;
                done((Some(b), Op::Run, r))?;
            }
            if !runtime.is_floor() && Op::CYCLE.iter().any(|&op| wants(b, op)) {
                ground.cycle(runtime, bundle, wrap, &|| (), &mut |op, _| done((Some(b), op, r)))?;
            }
        }
    }
    Ok(())
}

fn number(file: &str, parse: impl Fn(&str) -> Option<u64>) -> Res<u64> {
    let text = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    parse(&text).ok_or_else(|| format!("{file}: no figure in it: {text:?}"))
}

/// `100.00    0.001    3    1040    52 total`: the fourth column of strace's last line.
fn total(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.ends_with(" total"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
