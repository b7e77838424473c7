//! The rules, each a function from one file to what it finds there. STYLE.md says why they are
//! rules.

use crate::source::{File, Finding, words};

/// Most lines of a file, and of one whose header gives a reason in a line `//! Length:`.
const FILE_LINES_MAX: usize = 500;
const FILE_LINES_WITH_REASON_MAX: usize = 800;

/// Most lines of code in a function, from its signature to its last brace; comments and blank lines
/// are free.
const FUNCTION_LINES_MAX: usize = 70;

/// Most characters of a line; code is formatted to 100, comments may use the rest.
const LINE_CHARACTERS_MAX: usize = 120;

/// How far above an `unsafe` its argument may begin.
const SAFETY_LINES_MAX: usize = 10;

/// Files that may contain `unsafe`: they touch the kernel or give it memory.
const UNSAFE_FILES: [&str; 5] = [
    "io/src/buffer.rs",
    "io/src/sys.rs",
    "io/src/mapped.rs",
    "io/src/uring/",
    "io/tests/uring.rs",
];

/// Files that decide and apply: IO happens before them, never in them.
const PURE_FILES: [&str; 7] = [
    "consensus/",
    "partition/src/replica",
    "partition/src/evaluate",
    "partition/src/apply",
    "partition/src/log",
    "partition/src/command",
    "partition/src/memtable",
];

/// Words that say nothing when they are part of the name of a file or a type.
const EMPTY_NAMES: [&str; 6] = ["manager", "managers", "helper", "helpers", "util", "utils"];

/// Text that must not be left behind. Split, so that this file does not find itself.
const LEFT_BEHIND: [&str; 4] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
];

/// Files are at most 500 lines long, 800 with a reason.
pub(crate) fn file_length(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().count();
    let header = file.text.lines().take_while(|line| line.starts_with("//!"));
    let reason = header.filter_map(|line| line.strip_prefix("//! Length:"));
    let explained = reason.map(str::trim).any(|reason| !reason.is_empty());
    let max = if explained {
        FILE_LINES_WITH_REASON_MAX
    } else {
        FILE_LINES_MAX
    };
    match file.is_rust() && lines > max {
        true => vec![Finding::at(
            0,
            format!("{lines} lines, at most {max} are allowed"),
        )],
        false => Vec::new(),
    }
}

/// Functions are at most 70 lines long.
pub(crate) fn function_length(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (offset, word) in words(&file.code) {
        let rest = &file.code[offset..];
        // A pointer type `fn(...)` has no name and no body.
        let named = rest[word.len()..]
            .trim_start()
            .starts_with(crate::source::is_word);
        if word != "fn" || !named {
            continue;
        }
        let body = &rest[..function_end(rest)];
        let lines = body.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > FUNCTION_LINES_MAX {
            let index = file.code[..offset].matches('\n').count();
            let what = format!("function of {lines} lines, at most {FUNCTION_LINES_MAX}");
            findings.push(Finding::at(index, what));
        }
    }
    findings
}

/// Returns where the function that begins `code` ends: past its last brace, or at the semicolon of
/// one without body.
fn function_end(code: &str) -> usize {
    let (mut brackets, mut braces) = (0_i32, 0_i32);
    for (offset, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            '{' => braces += 1,
            '}' => braces -= 1,
            ';' if brackets == 0 && braces == 0 => return offset,
            _ => continue,
        }
        if c == '}' && brackets == 0 && braces <= 0 {
            return offset + 1;
        }
    }
    code.len()
}

/// Lines are at most 120 characters wide; what cannot be broken is exempt.
pub(crate) fn line_width(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    lines
        .map(|(index, line)| (index, line, line.chars().count()))
        .filter(|(_, line, width)| *width > LINE_CHARACTERS_MAX && !is_whole(&file.path, line))
        .map(|(index, _, width)| {
            Finding::at(
                index,
                format!("{width} characters, at most {LINE_CHARACTERS_MAX}"),
            )
        })
        .collect()
}

/// Tells whether a line must stay whole: it is a row of a table, or holds an address, or a message
/// that somebody will search for.
fn is_whole(path: &str, line: &str) -> bool {
    let start = line.trim_start();
    let message = match path.rsplit('.').next() {
        Some("rs") => !start.starts_with("//") && line.contains('"'),
        Some("toml") => !start.starts_with('#') && line.contains('"'),
        _ => false,
    };
    message || line.contains("://") || path.ends_with(".md") && start.starts_with('|')
}

/// Every Rust file opens with what it is.
pub(crate) fn module_docs(file: &File) -> Vec<Finding> {
    let first = file
        .text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    let said = first
        .and_then(|line| line.strip_prefix("//!"))
        .map(str::trim);
    match file.is_rust() && said.is_none_or(str::is_empty) {
        true => vec![Finding::at(
            0,
            "the file does not open with `//!` and what it is",
        )],
        false => Vec::new(),
    }
}

/// `unsafe` stays in the files that touch the kernel, and each use argues why it is sound.
pub(crate) fn unsafe_code(file: &File) -> Vec<Finding> {
    let allowed = UNSAFE_FILES
        .iter()
        .any(|prefix| file.path.starts_with(prefix));
    let text: Vec<&str> = file.text.lines().collect();
    let mut findings = Vec::new();
    for (index, line) in file.code.lines().enumerate() {
        if !words(line).iter().any(|(_, word)| *word == "unsafe") {
            continue;
        }
        let above = &text[index.saturating_sub(SAFETY_LINES_MAX)..=index];
        let argued = above
            .iter()
            .any(|line| line.contains("SAFETY:") || line.contains("# Safety"));
        if !allowed {
            findings.push(Finding::at(
                index,
                "`unsafe` outside the files that touch the kernel",
            ));
        } else if !argued {
            findings.push(Finding::at(
                index,
                "`unsafe` without `// SAFETY:` or `# Safety` above",
            ));
        }
    }
    findings
}

/// The root of every crate but `io` forbids `unsafe`.
pub(crate) fn unsafe_forbidden(file: &File) -> Vec<Finding> {
    let parts: Vec<&str> = file.path.split('/').collect();
    let is_root = matches!(parts[..], [name, "src", "lib.rs" | "main.rs"] if name != "io");
    match is_root && !file.code.contains("#![forbid(unsafe_code)]") {
        true => vec![Finding::at(
            0,
            "the crate root lacks `#![forbid(unsafe_code)]`",
        )],
        false => Vec::new(),
    }
}

/// Files that decide and apply never wait.
pub(crate) fn pure_files(file: &File) -> Vec<Finding> {
    if !PURE_FILES
        .iter()
        .any(|prefix| file.path.starts_with(prefix))
    {
        return Vec::new();
    }
    let waits = |line: &str| {
        let mut words = words(line).into_iter();
        words.any(|(offset, word)| word == "await" && line[..offset].trim_end().ends_with('.'))
    };
    let lines = file.code.lines().enumerate();
    // The dot and the word may stand on two lines only when rustfmt is not used.
    lines
        .filter(|(_, line)| waits(line))
        .map(|(index, _)| Finding::at(index, "`.await` in a file that decides or applies"))
        .collect()
}

/// Names of files, types and modules hold no empty word.
pub(crate) fn names(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(word) = empty_word(file.stem()) {
        findings.push(Finding::at(0, format!("\"{word}\" in the name of a file")));
    }
    for (index, line) in file.code.lines().enumerate() {
        let words = words(line);
        for pair in words.windows(2) {
            let [(_, keyword), (_, name)] = pair else {
                unreachable!("windows of two")
            };
            let declares = ["struct", "enum", "trait", "type", "union", "mod"].contains(keyword);
            if let Some(word) = empty_word(name).filter(|_| declares) {
                findings.push(Finding::at(index, format!("\"{word}\" in the name {name}")));
            }
        }
    }
    findings
}

/// Returns the empty word in `name`, which is in snake or camel case.
fn empty_word(name: &str) -> Option<&'static str> {
    let mut split = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            split.push('_');
        }
        split.extend(c.to_lowercase());
    }
    let parts: Vec<&str> = split.split(['_', '-']).collect();
    EMPTY_NAMES.into_iter().find(|word| parts.contains(word))
}

/// Returns what is left behind in `line`.
fn left_in(line: &str) -> Option<&'static str> {
    LEFT_BEHIND.into_iter().find(|left| {
        line.match_indices(left).any(|(offset, _)| {
            let before = line[..offset].chars().next_back();
            let after = line[offset + left.len()..].chars().next();
            let joined = |c: Option<char>| c.is_some_and(|c| crate::source::is_word(c) || c == '.');
            // A path goes on behind its last slash, a word does not.
            !joined(before) && (left.ends_with('/') || !after.is_some_and(crate::source::is_word))
        })
    })
}

/// No unfinished business and no path of somebody's machine is left in a text.
pub(crate) fn left_behind(file: &File) -> Vec<Finding> {
    let lines = file.text.lines().enumerate();
    lines
        .filter_map(|(index, line)| {
            left_in(line).map(|left| Finding::at(index, format!("\"{left}\" left behind")))
        })
        .collect()
}

/// Relative links of Markdown files lead to something; `exists` is asked with the path from the
/// file's folder.
pub(crate) fn links(file: &File, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let (mut findings, mut fenced) = (Vec::new(), false);
    for (index, line) in file.text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let targets = if fenced { Vec::new() } else { targets(line) };
        for target in targets.into_iter().filter(|target| !exists(target)) {
            findings.push(Finding::at(index, format!("dead link to {target}")));
        }
    }
    findings
}

/// Returns the relative files that a line of Markdown links to, inline or as a reference, outside
/// of code spans.
fn targets(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("code");
    let inline = prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    let reference = match prose.starts_with('[') {
        true => prose.split_once("]: ").map(|(_, target)| target),
        false => None,
    };
    inline
        .chain(reference)
        .filter_map(|target| target.split_whitespace().next())
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect()
}
