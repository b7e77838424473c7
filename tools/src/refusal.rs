//! What a command that comes to nothing says, and its exit code: 2 for a mistake in what was asked for, a word, a flag
//! or a value of the configuration, 1 for what could not be done, and 130 for what was ended early. It is one line that
//! names the thing, the value and what is allowed. Help and version are no mistakes, and are told as they are; who
//! leaves out a command is told all there are.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// Exit code of a mistake.
const MISTAKE: u8 = 2;
/// Exit code of what was ended early: that of a program that Ctrl-C has ended.
const ENDED: u8 = 130;

/// What the parser says that does not tell what is allowed, and what is said instead.
const ALLOWED: [(&str, &str); 4] = [
    ("invalid digit found in string", WHOLE),
    ("cannot parse integer from empty string", WHOLE),
    (
        "number too large to fit in target type",
        "it is larger than any that is allowed",
    ),
    (
        "invalid socket address syntax",
        "allowed is an IP address and a port, such as 127.0.0.1:6379 or [::1]:6379",
    ),
];
const WHOLE: &str = "allowed is a whole number";

/// Why a command came to nothing: one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A flag or a value of the configuration is wrong.
    Mistake(String),
    /// Something went wrong, or was found to be wrong.
    Run(String),
    /// The user had enough, and was told what there was until then.
    Ended,
}

impl From<String> for Failure {
    fn from(line: String) -> Self {
        Self::Run(line)
    }
}

impl Failure {
    /// Tells it; returns the exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        let (line, code) = match self {
            Self::Mistake(line) => (line.as_str(), ExitCode::from(MISTAKE)),
            Self::Run(line) => (line.as_str(), ExitCode::FAILURE),
            Self::Ended => (
                "ended early; what was told is of the time until then",
                ExitCode::from(ENDED),
            ),
        };
        eprintln!("ashlar: {line}");
        code
    }
}

/// Tells what is wrong with a command line; returns the exit code.
pub(crate) fn tell(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Who closes the pipe does not want to read on.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
    } else {
        eprintln!("ashlar: {}", one_line(&error.to_string()));
    }
    ExitCode::from(MISTAKE)
}

/// Returns a message of several lines as one, without the usage and the hint to the help behind it.
fn one_line(message: &str) -> String {
    let is_part =
        |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
    let parts = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let line = parts.take_while(is_part).collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let said = |line: String, (what, instead): &(&str, &str)| line.replace(what, instead);
    ALLOWED.iter().fold(line.replace(" tip: ", "; "), said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_with_what_is_allowed() {
        let message = "error: invalid value 'x' for '--form <FORM>'\n  [possible values: string, hash]\n\n\
                       For more information, try '--help'.\n";
        assert_eq!(
            one_line(message),
            "invalid value 'x' for '--form <FORM>' [possible values: string, hash]"
        );
        let message = "error: unexpected argument '--x' found\n\n  tip: a similar argument exists: '--y'\n\nUsage: a\n\nFor";
        assert_eq!(
            one_line(message),
            "unexpected argument '--x' found; a similar argument exists: '--y'"
        );
    }
}
