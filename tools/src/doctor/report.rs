//! What was found, and how it is said: a table for people, an array of objects for programs. Not how anything is
//! found out.

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// A node runs, but slower, or with less room or safety than it could.
    Warn,
    /// A node does not start, or does not keep what it promises.
    Fail,
}

impl Verdict {
    /// Returns its word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// A setting of the kernel that can be changed at once, and what it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Write {
    /// Absolute path below `/proc` or `/sys`.
    pub(crate) path: String,
    /// What is written to it.
    pub(crate) value: String,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was looked at: one or two words.
    pub(crate) check: &'static str,
    /// How much it matters.
    pub(crate) verdict: Verdict,
    /// What there should be.
    pub(crate) required: String,
    /// What there is.
    pub(crate) found: String,
    /// What to type or to change; nothing when it is as it should be.
    pub(crate) cure: Option<String>,
    /// What `--fix` writes.
    pub(crate) writes: Vec<Write>,
}

impl Finding {
    /// Makes one of something that is as it should be.
    pub(crate) fn ok(check: &'static str, required: &str, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict: Verdict::Ok,
            required: required.to_owned(),
            found: found.into(),
            cure: None,
            writes: Vec::new(),
        }
    }

    /// Makes the same finding matter, and says what to do about it.
    pub(crate) fn but(mut self, verdict: Verdict, cure: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.cure = Some(cure.into());
        self
    }

    /// Adds a setting that cures it, or a part of it; the command that writes it is the cure.
    pub(crate) fn fixed_by(mut self, path: &str, value: &str) -> Self {
        let command = format!("echo {value} > {path}");
        self.cure = Some(match self.cure {
            Some(cure) => format!("{cure}; {command}"),
            None => command,
        });
        self.verdict = self.verdict.max(Verdict::Warn);
        self.writes.push(Write {
            path: path.to_owned(),
            value: value.to_owned(),
        });
        self
    }
}

/// Returns the report for people: a line for each finding, and its cure below it.
pub(crate) fn table(findings: &[Finding]) -> String {
    let width = findings.iter().map(|f| f.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let Finding {
            check,
            verdict,
            required,
            found,
            cure,
            ..
        } = finding;
        let word = verdict.word();
        text += &format!("{word:<5} {check:<width$}  {found} (wanted: {required})\n");
        if let Some(cure) = cure {
            text += &format!("      {:width$}  cure: {cure}\n", "");
        }
    }
    let count = |verdict| findings.iter().filter(|f| f.verdict == verdict).count();
    let (ok, warn, fail) = (
        count(Verdict::Ok),
        count(Verdict::Warn),
        count(Verdict::Fail),
    );
    text + &format!("{ok} ok, {warn} warn, {fail} fail\n")
}

/// Returns the report for programs: an array of objects, one on each line.
pub(crate) fn json(findings: &[Finding]) -> String {
    let objects: Vec<String> = findings.iter().map(object).collect();
    format!("[\n{}\n]\n", objects.join(",\n"))
}

fn object(finding: &Finding) -> String {
    let Finding {
        check,
        verdict,
        required,
        found,
        cure,
        writes,
    } = finding;
    let cure = cure.as_ref().map_or("null".to_owned(), |cure| quoted(cure));
    format!(
        "  {{\"check\": {}, \"status\": {}, \"required\": {}, \"found\": {}, \"cure\": {cure}, \"fixable\": {}}}",
        quoted(check),
        quoted(verdict.word()),
        quoted(required),
        quoted(found),
        !writes.is_empty()
    )
}

/// Returns `text` as a string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_json_are_escaped() {
        assert_eq!(quoted("a \"b\" \\ \n"), r#""a \"b\" \\ \u000a""#);
    }

    #[test]
    fn a_setting_that_cures_is_a_warning_with_its_command() {
        let finding = Finding::ok("swap", "none", "one").fixed_by("/proc/sys/vm/swappiness", "1");
        assert_eq!(finding.verdict, Verdict::Warn);
        let finding = finding.fixed_by("/proc/x", "2");
        assert_eq!(
            finding.cure.as_deref(),
            Some("echo 1 > /proc/sys/vm/swappiness; echo 2 > /proc/x")
        );
        let text = table(std::slice::from_ref(&finding));
        assert!(
            text.starts_with("warn  swap  one (wanted: none)\n            cure: echo 1"),
            "{text}"
        );
        assert!(text.ends_with("0 ok, 1 warn, 0 fail\n"), "{text}");
        let json = json(&[finding]);
        assert!(json.contains("\"status\": \"warn\"") && json.contains("\"fixable\": true"));
    }

    #[test]
    fn a_report_without_cure_has_null() {
        let json = json(&[Finding::ok("kernel", "6.1", "6.18")]);
        assert_eq!(
            json,
            "[\n  {\"check\": \"kernel\", \"status\": \"ok\", \"required\": \"6.1\", \"found\": \"6.18\", \
             \"cure\": null, \"fixable\": false}\n]\n"
        );
    }
}
