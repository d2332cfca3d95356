//! The conversions give what runc's functions give: for every share, every weight and 10,000 generated pairs of
//! limits. `tests/data/cgroup-conversions.txt` has sums of runc's answers; hack/limits-oracle makes it.

use ferrun::cgroup::limits::convert::{cpu_weight, io_weight, swap};

/// Lines in one sum.
const BLOCK: usize = 1024;

/// FNV-1a, 64 bits.
fn sum(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[track_caller]
fn same_sums(name: &str, lines: &[String]) {
    let known = include_str!("../data/cgroup-conversions.txt");
    let known: Vec<&str> = known.lines().filter(|line| line.split(' ').next() == Some(name)).collect();
    assert_eq!(known.len(), lines.len().div_ceil(BLOCK), "{name}");
    for (index, (block, known)) in lines.chunks(BLOCK).zip(known).enumerate() {
        let text: String = block.iter().map(|line| format!("{name} {line}\n")).collect();
        let found = format!("{name} {index} {:016x}", sum(&text));
        assert_eq!(found, known, "one of {:?} to {:?}", block.first(), block.last());
    }
}

#[test]
fn every_share() {
    let lines: Vec<String> = (0..262_144 + 1025).map(|shares| format!("{shares} {}", cpu_weight(shares))).collect();
    same_sums("shares", &lines);
}

#[test]
fn every_io_weight() {
    let line = |weight: u16| match weight {
        1..10 => format!("{weight} none"),
        _ => format!("{weight} {}", io_weight(weight)),
    };
    same_sums("weight", &(0..=1000).map(line).collect::<Vec<_>>());
}

/// As the oracle generates them.
fn limit(next: &mut impl FnMut() -> u64) -> i64 {
    let random = next();
    match random % 8 {
        0 => -1,
        1 => 0,
        2 => ((next() % 4096) << 20).cast_signed(),
        _ => (next() >> (2 + (random >> 32) % 50)).cast_signed(),
    }
}

#[test]
fn ten_thousand_generated_swap_limits() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let lines: Vec<String> = (0..10_000)
        .map(|_| {
            let (together, memory) = (limit(&mut next), limit(&mut next));
            match swap(together, memory) {
                Ok(alone) => format!("{together} {memory} {alone}"),
                Err(_) => format!("{together} {memory} error"),
            }
        })
        .collect();
    same_sums("swap", &lines);
}

#[test]
fn the_ends_and_the_defaults() {
    for (shares, weight) in [(0, 0), (1, 1), (2, 1), (3, 1), (1024, 100), (262_143, 10_000), (u64::MAX, 10_000)] {
        assert!(cpu_weight(shares) >= weight && cpu_weight(shares) <= weight.max(2), "{shares}");
    }
    assert_eq!((io_weight(0), io_weight(10), io_weight(100), io_weight(1000)), (0, 1, 910, 10_000));
}
