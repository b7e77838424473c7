//! What a program that measures does around its measurements: it takes its words, prints its report, and says with its
//! exit code whether all of it ran. Not what is measured.

use std::fmt::{Display, Write as _};
use std::process::ExitCode;
use std::str::FromStr;

/// Why something did not run, in one line.
pub type Failure = String;

/// What came of all measurements.
#[derive(Debug)]
pub struct Told {
    /// The report in Markdown.
    pub report: String,
    /// Every part ran.
    pub is_whole: bool,
}

/// Runs a program with what its words were read as: nothing when they ask for help. Its exit code is 2 when they are
/// wrong, and 1 when a part did not run.
pub fn run<O>(
    name: &str,
    usage: &str,
    words: Result<Option<O>, String>,
    measure: impl FnOnce(&O) -> Result<Told, Failure>,
) -> ExitCode {
    let options = match words {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{usage}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(Told { report, is_whole }) => {
            println!("{report}");
            match is_whole {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the number that `value` means, when it is between `min` and `max`.
///
/// # Errors
/// One line: the option, the value, and what is allowed.
pub fn parse_number<N>(option: &str, value: &str, min: N, max: N) -> Result<N, String>
where
    N: FromStr + PartialOrd + Display,
{
    let number = value.parse().ok();
    let number = number.filter(|number| min <= *number && *number <= max);
    number.ok_or_else(|| format!("{option} {value}: allowed is an integer from {min} to {max}"))
}

/// The parts that did not run, in one line each.
#[derive(Debug, Default)]
pub struct Failures(Vec<String>);

impl Failures {
    /// Notes and tells that a part did not run; one that fails in every round is noted once.
    pub fn note(&mut self, part: &str, failure: &str) {
        let line = format!("{part}: {failure}");
        eprintln!("did not run: {line}");
        if !self.0.contains(&line) {
            self.0.push(line);
        }
    }

    /// Tells whether every part ran.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns what a report ends with.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        for failure in &self.0 {
            write!(text, "\nDid not run: {failure}\n").expect("a string takes all");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once() {
        let mut failures = Failures::default();
        assert!(failures.is_empty());
        failures.note("fio", "gone");
        failures.note("fio", "gone");
        assert_eq!(failures.markdown(), "\nDid not run: fio: gone\n");
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(parse_number("--rounds", "3", 1, 5), Ok(3));
        for wrong in ["0", "6", "few", ""] {
            let told = parse_number("--rounds", wrong, 1, 5).unwrap_err();
            assert_eq!(
                told,
                format!("--rounds {wrong}: allowed is an integer from 1 to 5")
            );
        }
    }
}
