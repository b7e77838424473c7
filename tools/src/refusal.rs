//! What a wrong command line is answered: one line that names the word and what is allowed. Help and version are no
//! mistakes, and are told as they are.

use std::process::ExitCode;

/// Tells what is wrong with a command line; returns the exit code.
pub(crate) fn tell(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Who closes the pipe does not want to read on.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    eprintln!("{}", one_line(&error.to_string()));
    ExitCode::from(2)
}

/// Returns a message of several lines as one, without the usage and the hint to the help behind it.
fn one_line(message: &str) -> String {
    let is_part =
        |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
    let parts = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    parts.take_while(is_part).collect::<Vec<_>>().join(" ")
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
            "error: invalid value 'x' for '--form <FORM>' [possible values: string, hash]"
        );
        let message = "error: unexpected argument '--x' found\n\n  tip: a similar argument exists: '--y'\n\nUsage: a\n\nFor";
        assert_eq!(
            one_line(message),
            "error: unexpected argument '--x' found tip: a similar argument exists: '--y'"
        );
    }
}
