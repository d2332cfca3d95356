//! A race: two names are exchanged all the time while containers are made.

use crate::case::Res;
use crate::cx::Cx;
use crate::ensure;
use crate::run::Out;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Exchanges two names with renameat2(2) until it is dropped. It stands for another container with the same
/// volume, which does the same by the same inodes.
pub struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Swapper {
    pub fn new(a: &Path, b: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (a, b, stopped) = (a.to_owned(), b.to_owned(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || swap(&a, &b, &stopped));
        Self { stop, thread: Some(thread) }
    }

    /// How often it exchanged them.
    fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.end();
    }
}

/// With pauses of 0 to 127 µs, never the same twice: any window of the runtime is met sooner or later.
fn swap(a: &PathBuf, b: &PathBuf, stop: &AtomicBool) -> u64 {
    let (mut count, mut pause) = (0_u64, 1_u32);
    while !stop.load(Ordering::Relaxed) {
        if renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).is_ok() {
            count += 1;
        }
        pause = pause.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let end = Instant::now() + Duration::from_micros(u64::from(pause >> 25));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    }
    count
}

/// How long a race lasts, and the most containers that it makes: 3 s, with `--cycles 1000` 20 s, with `--long`
/// a minute.
fn measure(cx: &Cx) -> (Duration, u64) {
    let seconds = match (cx.options.long, cx.options.cycles) {
        (true, _) => 60,
        (false, 1000..) => 20,
        (false, _) => 3,
    };
    (Duration::from_secs(seconds), 10_000)
}

/// What came of a race: how many containers were refused and how many ran.
#[derive(Debug, Default)]
pub struct Score {
    pub ran: u64,
    pub refused: u64,
}

/// Makes containers, each with its number, while the names are exchanged. Each runs or is refused with a
/// proper error; `look` says whether one that ran is as it should be.
pub fn race(
    cx: &Cx,
    names: (&Path, &Path),
    mut attempt: impl FnMut(u64) -> Res<Out>,
    mut look: impl FnMut(&Out) -> Res,
) -> Res<Score> {
    let (time, most) = measure(cx);
    let mut swapper = Swapper::new(names.0, names.1);
    let end = Instant::now() + time;
    let mut score = Score::default();
    // a few in any case, on whatever machine
    while (Instant::now() < end || score.ran + score.refused < 5) && score.ran + score.refused < most {
        let out = attempt(score.ran + score.refused)?;
        if out.code == Some(0) {
            score.ran += 1;
            look(&out)?;
        } else {
            score.refused += 1;
            out.fails(&[])?;
        }
    }
    let swaps = swapper.end();
    ensure!(swaps > score.ran + score.refused, "the swapper exchanged the names {swaps} times only: {score:?}");
    Ok(score)
}
