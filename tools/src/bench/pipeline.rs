//! One connection's commands and answers, without the connection: bytes to be sent, what is waited for in order, and
//! the bytes of an answer that has not come whole. Not what commands and answers mean.
//!
//! Invariant: commands are answered in the order in which they were appended, each by one reply.

use std::collections::VecDeque;

use ashlar_io::Monotonic;

use super::ledger::Floor;
use super::mix::Kind;

/// What the reply to a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A value that was read.
    Read(Floor),
    /// The fields of a hash that were read.
    ReadFields(Floor),
    /// A write; a value or all fields.
    Write,
    /// A removal.
    Delete,
    /// An increase, from a number that it must exceed.
    Count(i64),
    /// Keys and values in order.
    Scan,
    /// A command of the user's own.
    Custom,
    /// A name for the index; the operation goes on behind it.
    Name,
    /// Names of keys in order, whose values are to be read.
    Names,
    /// A value of a scan; more are to come.
    Part(Floor),
    /// A value, or fields, that are to be written anew.
    ReadFirst(Floor),
}

/// A command without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) kind: Kind,
    pub(crate) step: Step,
    pub(crate) key: u64,
    /// When the operation was due, and when its first command was sent.
    pub(crate) due: Monotonic,
    pub(crate) sent: Monotonic,
}

/// Commands to be sent and answers to come.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    /// Bytes that were not given to the connection yet.
    pub(crate) out: Vec<u8>,
    /// Commands without an answer, the oldest first.
    pub(crate) pending: VecDeque<Pending>,
    /// The front of an answer that has not come whole.
    pub(crate) partial: Vec<u8>,
    /// Bytes that it must have before another look is worthwhile.
    pub(crate) wanted: usize,
}

impl Pipeline {
    /// Begins a command of `words` words.
    pub(crate) fn words(&mut self, words: usize) {
        self.head(b'*', words);
    }

    /// Appends a word.
    pub(crate) fn word(&mut self, word: &[u8]) {
        self.head(b'$', word.len());
        self.out.extend_from_slice(word);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Appends a word of known size, which `fill` appends.
    pub(crate) fn filled(&mut self, bytes: usize, fill: impl FnOnce(&mut Vec<u8>)) {
        self.head(b'$', bytes);
        let from = self.out.len();
        fill(&mut self.out);
        debug_assert_eq!(
            self.out.len() - from,
            bytes,
            "a word has the size that it was said to have"
        );
        self.out.extend_from_slice(b"\r\n");
    }

    fn head(&mut self, kind: u8, number: usize) {
        self.out.push(kind);
        append_number(number, &mut self.out);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Appends a number in decimal digits.
pub(crate) fn append_number(mut number: usize, out: &mut Vec<u8>) {
    if number < 10 {
        out.push(b'0' + u8::try_from(number).expect("a digit"));
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    while number > 0 {
        at -= 1;
        digits[at] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_resp() {
        let mut pipeline = Pipeline::default();
        pipeline.words(3);
        pipeline.word(b"SET");
        pipeline.word(b"");
        pipeline.filled(12, |out| out.extend_from_slice(b"twelve bytes"));
        assert_eq!(
            pipeline.out,
            b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$12\r\ntwelve bytes\r\n"
        );
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 99, 100, usize::MAX] {
            let mut out = Vec::new();
            append_number(number, &mut out);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
