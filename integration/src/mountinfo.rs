//! /proc/PID/mountinfo, read.

use std::collections::BTreeSet;

#[derive(Debug, Clone)]
pub struct Mount {
    pub id: u32,
    pub root: String,
    pub point: String,
    /// Per-mount options.
    pub options: Vec<String>,
    /// `shared:N`, `master:N`, `unbindable`…
    pub propagation: Vec<String>,
    pub kind: String,
    pub source: String,
    /// Options of the file system.
    pub data: Vec<String>,
}

impl Mount {
    pub fn has(&self, word: &str) -> bool {
        self.options.iter().any(|o| o == word) || self.data.iter().any(|o| o == word)
    }

    pub fn propagates(&self, word: &str) -> bool {
        self.propagation.iter().any(|o| o.split(':').next() == Some(word))
    }
}

pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(line).collect()
}

fn line(l: &str) -> Option<Mount> {
    let (left, right) = l.split_once(" - ")?;
    let w: Vec<&str> = left.split(' ').collect();
    let r: Vec<&str> = right.split(' ').collect();
    let list = |s: &str| s.split(',').map(str::to_owned).collect();
    Some(Mount {
        id: w.first()?.parse().ok()?,
        root: (*w.get(3)?).to_owned(),
        point: w.get(4)?.replace("\\040", " "),
        options: list(w.get(5)?),
        propagation: w[6..].iter().map(|s| (*s).to_owned()).collect(),
        kind: (*r.first()?).to_owned(),
        source: (*r.get(1)?).to_owned(),
        data: list(r.get(2)?),
    })
}

/// The topmost mount at a point.
pub fn at<'a>(mounts: &'a [Mount], point: &str) -> Option<&'a Mount> {
    mounts.iter().rev().find(|m| m.point == point)
}

/// The lines that went and came, with their sign.
pub fn difference(before: &str, after: &str) -> String {
    let b: BTreeSet<&str> = before.lines().collect();
    let a: BTreeSet<&str> = after.lines().collect();
    let gone = b.difference(&a).map(|l| format!("-{l}"));
    let new = a.difference(&b).map(|l| format!("+{l}"));
    gone.chain(new).collect::<Vec<_>>().join(", ")
}
