//! The rules as `DevicePolicy` and `DeviceAllow` of systemd.resource-control(5). Pure.

use crate::config::resources::DeviceRule;
use crate::error::Result;

use super::emulate::{Numbers, Table, letters};

/// What systemd is to do about devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// `auto`, with no list: nothing.
    Auto,
    /// `strict`: this list, and nothing else.
    Strict(Vec<DeviceAllow>),
}

/// One entry of `DeviceAllow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAllow {
    pub node: String,
    /// `rwm`
    pub access: String,
}

/// systemd knows what is allowed, and nothing that is taken from it; and no `*:MINOR`. Where that is not
/// enough, the list is too wide when another program says the rest (`backed`: a `BPFProgram`, as both have to
/// allow), else too narrow.
///
/// # Errors
/// Too many rules.
pub fn policy(rules: &[DeviceRule], backed: bool) -> Result<Policy> {
    let table = Table::of(rules)?;
    if table.allows_everything() {
        return Ok(Policy::Auto);
    }
    let kinds = table.numbers().into_iter().zip(["char", "block"]);
    Ok(Policy::Strict(kinds.flat_map(|(numbers, kind)| list(numbers, kind, backed)).collect()))
}

fn list(numbers: &Numbers, kind: &str, backed: bool) -> Vec<DeviceAllow> {
    let row = |major: u32| numbers.exact.range((major, 0)..=(major, u32::MAX)).map(|(_, bits)| *bits);
    let bits = |bits: u8, narrower: &mut dyn Iterator<Item = u8>| {
        if backed { bits } else { narrower.fold(bits, |all, one| all & one) }
    };
    let minors = numbers.minors.values().copied();
    let all = if backed {
        minors.clone().fold(numbers.rest, |all, one| all | one)
    } else {
        let narrower = numbers.majors.values().chain(numbers.exact.values()).copied();
        bits(numbers.rest, &mut narrower.chain(minors.clone()))
    };
    let majors = numbers.majors.iter().map(|(major, own)| {
        // a `*:MINOR` that takes something away may meet it
        let crossing = numbers.minors.keys().map(|minor| numbers.get(*major, *minor));
        (format!("{kind}-{major}"), bits(*own, &mut row(*major).chain(crossing)))
    });
    let exact = numbers.exact.iter().map(|((major, minor), bits)| (format!("/dev/{kind}/{major}:{minor}"), *bits));
    // one entry has to cover a request whole
    let entries = majors.chain(exact).filter(|(_, bits)| bits & !all != 0).map(|(node, bits)| (node, bits | all));
    let all = (format!("{kind}-*"), all);
    std::iter::once(all)
        .chain(entries)
        .filter(|(_, bits)| *bits != 0)
        .map(|(node, bits)| DeviceAllow { node, access: letters(bits) })
        .collect()
}
