//! From v1's units, which the specification has, to v2's.

/// `cpu.shares` (2 to 262144, default 1024) as `cpu.weight` (1 to 10000, default 100): a curve through both ends
/// and both defaults, runc's since 1.4. 0 is "unset".
///
/// No result depends on the last bits of the floating point: but for 1024, which is taken out, none of the curve's
/// values is nearer to a whole number than 4·10⁻¹⁰ of itself.
pub fn cpu_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1 | 2 => 1,
        1024 => 100,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000), linear. 0 is "unset".
pub fn io_weight(weight: u16) -> u64 {
    if weight == 0 { 0 } else { 1 + u64::from(weight.saturating_sub(10)) * 9999 / 990 }
}

/// What `swap`, the limit of memory and swap together, leaves for swap alone, in bytes. -1 is "no limit" and 0
/// "unset", in all three.
///
/// # Errors
/// In words: what is left cannot be told, or is less than nothing.
pub fn swap(swap: i64, memory: i64) -> Result<i64, &'static str> {
    match (memory, swap) {
        // v1 has no memory without limit below a limit of memory and swap
        (-1, 0) => Ok(-1),
        (_, -1 | 0) | (-1, _) => Ok(swap),
        (0, _) => Err("unable to set swap limit without memory limit"),
        (..0, _) => Err("invalid memory value"),
        _ if swap < memory => Err("memory+swap limit should be >= memory limit"),
        _ => Ok(swap - memory),
    }
}
