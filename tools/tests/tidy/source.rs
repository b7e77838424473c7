//! One file as the rules see it: its text, and its code with comments and literals blanked.
//!
//! Invariant: `code` has the lines of `text`, so that a line number means the same in both.

/// One file of the repository.
#[derive(Debug)]
pub(crate) struct File {
    /// Path from the root of the repository.
    pub(crate) path: String,
    /// Contents.
    pub(crate) text: String,
    /// Contents of a Rust file without comments and literals; empty for other files.
    pub(crate) code: String,
}

/// Something that a rule does not allow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Line, counted from 1.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) what: String,
}

impl File {
    /// Makes a file from its contents.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code = if path.ends_with(".rs") {
            blanked(text)
        } else {
            String::new()
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    /// Tells whether the file is Rust.
    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Returns the name without folders and without what follows the first dot.
    pub(crate) fn stem(&self) -> &str {
        let name = self
            .path
            .rsplit('/')
            .next()
            .expect("a split has at least one part");
        name.split('.')
            .next()
            .expect("a split has at least one part")
    }
}

impl Finding {
    /// Makes a finding at the line with this index, counted from 0.
    pub(crate) fn at(index: usize, what: impl Into<String>) -> Self {
        Self {
            line: index + 1,
            what: what.into(),
        }
    }

    /// Returns the finding as an editor can jump to it.
    pub(crate) fn show(&self, file: &File) -> String {
        format!("{}:{}: {}", file.path, self.line, self.what)
    }
}

/// Tells whether a file of this name is text that the rules may look at.
pub(crate) fn is_text(name: &str) -> bool {
    let endings = [
        ".rs", ".md", ".toml", ".sh", ".yml", ".yaml", ".service", ".conf", ".txt",
    ];
    endings.iter().any(|ending| name.ends_with(ending))
}

/// Tells whether `c` can be part of a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the words of `line` with the offset at which each begins.
pub(crate) fn words(line: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    for (offset, c) in line.char_indices().chain([(line.len(), ' ')]) {
        match (start, is_word(c)) {
            (None, true) => start = Some(offset),
            (Some(begin), false) => {
                words.push((begin, &line[begin..offset]));
                start = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
    words
}

/// Returns `text` with every comment and literal replaced by spaces; newlines stay.
pub(crate) fn blanked(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    code
}

/// Returns the end of the comment or literal that begins at `at`, or `at` when none does.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => skip_until(chars, at, |rest| rest[0] == '\n'),
        '/' if next == Some('*') => block_comment_end(chars, at),
        '"' => quoted_end(chars, at, '"'),
        '\'' if next == Some('\\') || chars.get(at + 2) == Some(&'\'') => {
            quoted_end(chars, at, '\'')
        }
        'r' if !continues_name(chars, at) => raw_string_end(chars, at),
        _ => at,
    }
}

/// Tells whether the character at `at` is inside a name; the `b` and `c` before a raw string are no
/// name.
fn continues_name(chars: &[char], at: usize) -> bool {
    let before = |distance: usize| at.checked_sub(distance).map(|index| chars[index]);
    match before(1) {
        Some('b' | 'c') => before(2).is_some_and(is_word),
        Some(c) => is_word(c),
        None => false,
    }
}

/// Returns the first index from `at` where `stop` holds for the rest, or the end.
fn skip_until(chars: &[char], at: usize, stop: impl Fn(&[char]) -> bool) -> usize {
    (at..chars.len())
        .find(|index| stop(&chars[*index..]))
        .unwrap_or(chars.len())
}

/// Returns the end of the comment at `at`; these nest.
fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut index) = (0_usize, at);
    while index < chars.len() {
        match chars[index..] {
            ['/', '*', ..] => (depth, index) = (depth + 1, index + 2),
            ['*', '/', ..] => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    chars.len()
}

/// Returns the end of the string or character at `at`.
fn quoted_end(chars: &[char], at: usize, quote: char) -> usize {
    let mut index = at + 1;
    while index < chars.len() && chars[index] != quote {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

/// Returns the end of the raw string at `at`, or `at` when it is a name that begins with `r`.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let body = at + 2 + hashes;
    let closes = |rest: &[char]| {
        rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#')
    };
    (skip_until(chars, body, closes) + 1 + hashes).min(chars.len())
}
