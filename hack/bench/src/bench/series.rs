//! The measured series: all cases of a regime, shuffled anew in every round.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Res;
use crate::args::Options;
use crate::bundle::{Bundle, Payload};
use crate::runtime::{Ground, Op, Runtime, bare};
use crate::spawn::Sample;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Regime {
    /// Idle before every process, so that the kernel's RCU is quiescent: a container start in real life.
    Isolated,
    BackToBack,
}

impl Regime {
    pub(crate) const ALL: [Regime; 2] = [Regime::Isolated, Regime::BackToBack];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Regime::Isolated => "isolated",
            Regime::BackToBack => "b2b",
        }
    }
}

/// Which figure: the bundle is `None` for the bare process start.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) regime: Regime,
    /// Index into `Bundle::ALL`.
    pub(crate) bundle: Option<usize>,
    pub(crate) op: Op,
    /// Index into the runtimes.
    pub(crate) runtime: usize,
}

pub(crate) type Table = BTreeMap<Key, Vec<Sample>>;

enum Case {
    Hello,
    Run(usize, usize),
    Cycle(usize, usize),
}

pub(crate) fn run(
    options: &Options,
    regime: Regime,
    runtimes: &[Runtime],
    ground: &mut Ground,
    table: &mut Table,
) -> Res<()> {
    let mut cases = cases(options, regime.name(), runtimes);
    if cases.is_empty() {
        return Ok(());
    }
    let mut random = Random(options.seed | 1);
    let idle = Duration::from_millis(if regime == Regime::Isolated { options.idle_ms } else { 0 });
    let pause = || {
        if !idle.is_zero() {
            std::thread::sleep(idle);
        }
    };
    for round in 0..options.warmup + options.rounds {
        random.shuffle(&mut cases);
        for case in &cases {
            let mut keep = |bundle: Option<usize>, op: Op, runtime: usize, sample: Sample| {
                let wanted = bundle.is_none_or(|b| options.wants(regime.name(), Bundle::ALL[b].name(), op.name()));
                if round >= options.warmup && wanted {
                    table.entry(Key { regime, bundle, op, runtime }).or_default().push(sample);
                }
            };
            match *case {
                Case::Hello => {
                    pause();
                    keep(None, Op::Hello, 0, ground.hello(&runtimes[0], &bare)?);
                }
                Case::Run(bundle, runtime) => {
                    pause();
                    let sample = ground.run(&runtimes[runtime], Bundle::ALL[bundle], Payload::True, &bare)?;
                    keep(Some(bundle), Op::Run, runtime, sample);
                }
                Case::Cycle(bundle, runtime) => {
                    let mut after = |op, sample| {
                        keep(Some(bundle), op, runtime, sample);
                        Ok(())
                    };
                    ground.cycle(&runtimes[runtime], Bundle::ALL[bundle], &bare, &pause, &mut after)?;
                }
            }
        }
    }
    Ok(())
}

fn cases(options: &Options, regime: &str, runtimes: &[Runtime]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, bundle) in Bundle::ALL.iter().enumerate() {
        let wants = |op: Op| options.wants(regime, bundle.name(), op.name());
        let cycle = Op::CYCLE.iter().any(|&op| wants(op));
        for (r, runtime) in runtimes.iter().enumerate() {
            // A create has the floor's whole run to be compared with.
            if wants(Op::Run) || (runtime.is_floor() && wants(Op::Create)) {
                cases.push(Case::Run(b, r));
            }
            if cycle && !runtime.is_floor() {
                cases.push(Case::Cycle(b, r));
            }
        }
    }
    if !cases.is_empty() {
        cases.push(Case::Hello);
    }
    cases
}

/// xorshift64: the order must differ from round to round, and nothing more.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }
}
