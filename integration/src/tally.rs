//! The sums of a run, from the worker to the outermost process.

/// So many unsteady cases are put up with; more, and the run fails: something is wrong with the machine or the cases.
const UNSTEADY: u64 = 5;

#[derive(Clone, Copy, Default)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
    /// Of those that passed: failed at first, and not when they were tried again alone.
    pub unsteady: u64,
}

impl Tally {
    /// As one line, for `parse`.
    pub fn line(&self) -> String {
        format!("{} {} {} {}", self.passed, self.failed, self.skipped, self.unsteady)
    }

    pub fn parse(line: &str) -> Option<Self> {
        let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [passed, failed, skipped, unsteady] = numbers[..] else { return None };
        Some(Self { passed, failed, skipped, unsteady })
    }

    pub fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
            unsteady: self.unsteady + other.unsteady,
        }
    }

    pub fn good(&self) -> bool {
        self.failed == 0 && self.unsteady <= UNSTEADY
    }

    /// The last words of a run.
    pub fn closing(&self) -> String {
        let unsteady = match self.unsteady {
            0 => String::new(),
            n if n > UNSTEADY => format!("{n} unsteady, more than {UNSTEADY}: the run has failed\n"),
            n => format!("{n} unsteady: failed at first, passed when tried again alone\n"),
        };
        format!("{unsteady}{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_unsteady_cases_are_put_up_with() {
        let tally = |unsteady, failed| Tally { passed: 9, failed, skipped: 1, unsteady };
        assert!(tally(5, 0).good());
        assert!(!tally(6, 0).good());
        assert!(!tally(0, 1).good());
        assert!(tally(5, 0).closing().ends_with("\n9 passed, 0 failed, 1 skipped"));
        let sum = Tally::parse(&tally(2, 3).line()).unwrap().plus(tally(1, 1));
        assert_eq!((sum.passed, sum.failed, sum.skipped, sum.unsteady), (18, 4, 2, 3));
        assert!(Tally::parse("1 2 3").is_none());
    }
}
