//! Numbers as the options of runc take them: Go's strconv, time.ParseDuration, and units.RAMInBytes of docker.

use std::time::Duration;

use serde_json::Value;

use crate::error::{Error, Result};

/// A whole number without a sign.
///
/// # Errors
/// It is none, or too large.
pub fn unsigned(text: &str) -> Result<Value> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse::<u64>().ok().filter(|_| digits);
    number.map(Value::from).ok_or_else(|| Error::new(format!("{text:?} is no whole number from 0 on")))
}

/// A whole number.
///
/// # Errors
/// It is none, or too large.
pub fn signed(text: &str) -> Result<Value> {
    text.parse::<i64>().map(Value::from).map_err(|_| Error::new(format!("{text:?} is no whole number")))
}

/// A number of bytes with or without a unit (`1.5g`, `100 MB`, `64KiB`: always powers of 1024), or -1.
///
/// # Errors
/// It is none.
pub fn bytes(text: &str) -> Result<Value> {
    const UNITS: &str = "kmgtp";
    let invalid = || Error::new(format!("invalid size: '{text}'")).hint("a number and k, m, g, t or p is wanted");
    if text == "-1" {
        return Ok(Value::from(-1));
    }
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)? + 1;
    let (number, unit) = text.split_at(end);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let unit = unit.to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or(unit.strip_suffix('b')).unwrap_or(&unit);
    let power = match unit {
        "" => 0,
        unit if unit.len() == 1 => UNITS.find(unit).ok_or_else(invalid)? + 1,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(invalid)?;
    // (powi may be off by a bit, differently on each machine)
    let size = number * (1_u64 << (10 * power)) as f64;
    // 2^63 is the first that does not fit
    if size < 9_223_372_036_854_775_808.0 { Ok(Value::from(size as i64)) } else { Err(invalid()) }
}

/// A duration as Go writes it: `5s`, `1m30s`, `1.5h`, `200ms`, `0`.
///
/// # Errors
/// It is none; a negative one.
pub fn duration(text: &str) -> Result<Duration> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let invalid = || Error::new(format!("{text:?} is no duration")).hint("such as 5s, 1m30s or 200ms");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    match rest {
        "" => return Err(invalid()),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
        seconds += number * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_reads_them() {
        for (text, size) in [
            ("0", 0),
            ("1024", 1024),
            ("-1", -1),
            ("100M", 100 << 20),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("64KiB", 64 << 10),
            ("100 MB", 100 << 20),
            ("5b", 5),
            ("2tb", 2_i64 << 40),
            ("32.3kb", 33075),
        ] {
            assert_eq!(bytes(text).expect(text), Value::from(size), "{text}");
        }
        for text in ["", "x", "100X", "-2", "1..5g", "m", " m", "1 000", "1kk", "1e9g5", "10000000000g", "inf", "1ibb"]
        {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn whole_numbers() {
        assert_eq!(unsigned("18446744073709551615").expect("u64"), Value::from(u64::MAX));
        assert_eq!(signed("-1").expect("i64"), Value::from(-1));
        for text in ["", "x", "-5", "+5", "1.0", "18446744073709551616"] {
            assert!(unsigned(text).is_err(), "{text}");
        }
        assert!(signed("9223372036854775808").is_err());
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in
            [("5s", 5000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("200ms", 200), ("0", 0), ("0s", 0)]
        {
            assert_eq!(duration(text).expect(text), Duration::from_millis(millis), "{text}");
        }
        for text in ["", "+", "5", "s", "-5s", "1x", "1s ", "5 s", ".s", "1e3s", "99999999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
