//! Inline requests: a line typed by a person, split into words like Redis' `sdssplitargs`.
//!
//! Double quotes know the escapes `\n \r \t \b \a \xHH` and drop the backslash before anything else;
//! single quotes know only `\'`. This is not a shell: nothing is expanded, and `\` outside quotes is
//! an ordinary byte.
//!
//! Invariant: all words of an inline request are copied, quoted or not. People type slowly.

use super::decode::ProtocolError;
use super::{Origin, Spans, span_at};

/// Tells whether an inline request is the first line, or a header line, of an HTTP request: a web
/// page can make a browser send those to this port.
pub(super) fn is_cross_protocol(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:")
}

/// Splits an inline request into `words`, which keep an unquoted copy of it.
///
/// # Errors
/// [`ProtocolError::UnbalancedQuotes`].
pub(super) fn split_line(line: &[u8], words: &mut Spans) -> Result<(), ProtocolError> {
    words.origin = Origin::Unquoted;
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = words.unquoted.len();
        rest = skip_blanks(take_word(rest, &mut words.unquoted)?);
        words
            .spans
            .push(span_at(start, words.unquoted.len() - start));
    }
    Ok(())
}

fn skip_blanks(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&byte| is_blank(byte)).count();
    &line[blanks..]
}

/// Tells what C's `isspace` tells; unlike Rust's test it knows the vertical tab.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the word at the start of `rest` to `word`; returns what follows it.
///
/// Quotes may open inside a word, but must close at its end.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    while let Some((&byte, tail)) = rest.split_first() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => break,
            b'"' => return take_double_quoted(tail, word),
            b'\'' => return take_single_quoted(tail, word),
            _ => word.push(byte),
        }
        rest = tail;
    }
    Ok(rest)
}

fn take_double_quoted<'a>(
    mut rest: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', tail @ ..] => return after_quote(tail),
            [b'\\', b'x', high, low, tail @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(*high) * 16 + hex_digit(*low), tail)
            }
            [b'\\', escaped, tail @ ..] => (unescape(*escaped), tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

fn take_single_quoted<'a>(
    mut rest: &'a [u8],
    word: &mut Vec<u8>,
) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, tail) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', tail @ ..] => return after_quote(tail),
            [b'\\', b'\'', tail @ ..] => (b'\'', tail),
            [byte, tail @ ..] => (*byte, tail),
        };
        word.push(byte);
        rest = tail;
    }
}

/// Checks that a closing quote is followed by a blank or by nothing.
fn after_quote(rest: &[u8]) -> Result<&[u8], ProtocolError> {
    match rest.first() {
        Some(&byte) if !is_blank(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

/// Returns the value of an ASCII hexadecimal digit.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}
