//! Results side by side: a file of Markdown with a line for each case and a column for each runtime. A run writes its
//! own column and leaves those of others as they are.

use crate::options::Options;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// In front of what is the harness's: the rest of the file is left alone.
const HEAD: &str = "| case | ";

/// The name of the last line.
const SUM: &str = "**passed**";

/// Columns in their order, and the cells of each case by column.
#[derive(Default)]
struct Table {
    columns: Vec<String>,
    rows: BTreeMap<String, BTreeMap<String, String>>,
}

/// Takes the lines that a run printed into the file.
pub fn write(file: &Path, options: &Options, lines: &[String]) -> std::io::Result<()> {
    let old = match fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        old => old?,
    };
    let (text, table) = old.split_once(HEAD).unwrap_or((&old, ""));
    let mut table = Table::parse(table);
    table.take(&format!("{} {}", options.kind, options.version), lines);
    fs::write(file, format!("{text}{}", table.text()))
}

impl Table {
    /// What follows the first `HEAD`.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let cells = |line: &str| line.trim_matches('|').split(" | ").map(|c| c.trim().to_owned()).collect::<Vec<_>>();
        let columns = cells(lines.next().unwrap_or_default());
        let columns: Vec<String> = columns.into_iter().filter(|column| !column.is_empty()).collect();
        let mut table = Self { columns, rows: BTreeMap::new() };
        for line in lines.skip(1) {
            let mut cells = cells(line).into_iter();
            let Some(case) = cells.next().filter(|case| !case.is_empty() && case != SUM) else { continue };
            table.rows.insert(case, table.columns.iter().cloned().zip(cells).collect());
        }
        table
    }

    /// A column anew: of another version of the runtime nothing is kept.
    fn take(&mut self, column: &str, lines: &[String]) {
        let kind = column.split(' ').next().unwrap_or_default();
        let place = self.columns.iter().position(|c| c.split(' ').next() == Some(kind));
        match place {
            Some(n) => {
                let old = std::mem::replace(&mut self.columns[n], column.to_owned());
                self.rows.values_mut().for_each(|cells| drop(cells.remove(&old)));
            }
            None => self.columns.push(column.to_owned()),
        }
        for (case, cell) in lines.iter().filter_map(|line| cell(line)) {
            self.rows.entry(case).or_default().insert(column.to_owned(), cell);
        }
        self.rows.retain(|_, cells| !cells.is_empty());
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}{} |\n|---|{}\n", self.columns.join(" | "), "---|".repeat(self.columns.len()));
        for (case, cells) in &self.rows {
            let cells: Vec<&str> =
                self.columns.iter().map(|column| cells.get(column).map_or("–", String::as_str)).collect();
            text.push_str(&format!("| {case} | {} |\n", cells.join(" | ")));
        }
        let sums: Vec<String> = self.columns.iter().map(|column| self.sum(column)).collect();
        format!("{text}| {SUM} | {} |\n", sums.join(" | "))
    }

    fn sum(&self, column: &str) -> String {
        let cells = || self.rows.values().filter_map(|cells| cells.get(column));
        format!("**{} of {}**", cells().filter(|cell| cell.starts_with("pass")).count(), cells().count())
    }
}

/// A case and what the runtime made of it, of the line that was printed.
fn cell(line: &str) -> Option<(String, String)> {
    let (verdict, rest) = line.split_once(' ')?;
    let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
    let name = name.split_whitespace().next()?;
    let why = shorten(why);
    let cell = match verdict {
        "ok" => "pass".to_owned(),
        "unsteady" => format!("pass, unsteady: {why}"),
        "FAIL" => format!("**fails**: {why}"),
        "skip" => format!("skipped: {why}"),
        _ => return None,
    };
    Some((name.to_owned(), cell))
}

/// Without what a case saw beside the known difference, and without what would end the cell.
fn shorten(why: &str) -> String {
    let why = why.split(" (seen: ").next().unwrap_or_default();
    let mut short: String = why.chars().take(160).collect();
    if short.len() < why.len() {
        short.push('…');
    }
    short.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, column: &str, lines: &[&str]) -> String {
        let mut table = Table::parse(text.split_once(HEAD).map_or("", |(_, table)| table));
        table.take(column, &lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        table.text()
    }

    #[test]
    fn each_run_writes_its_own_column() {
        let one = taken("", "a 1", &["ok x::y", "FAIL x::z: bad | worse (seen: 7)", "    | a note"]);
        let two = taken(&one, "b 1", &["skip x::y: no", "unsteady x::z: late"]);
        assert_eq!(
            two,
            "| case | a 1 | b 1 |\n|---|---|---|\n| x::y | pass | skipped: no |\n\
             | x::z | **fails**: bad \\| worse | pass, unsteady: late |\n| **passed** | **1 of 2** | **1 of 2** |\n"
        );
        let newer = taken(&two, "a 2", &["ok x::z"]);
        assert_eq!(
            newer,
            "| case | a 2 | b 1 |\n|---|---|---|\n| x::y | – | skipped: no |\n\
             | x::z | pass | pass, unsteady: late |\n| **passed** | **1 of 1** | **1 of 2** |\n"
        );
    }
}
