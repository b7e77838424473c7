//! The commands at the front of what a connection received, found before the first of them runs, so that the memory
//! their keys lie in is waited for together ([`Core::warm`]). Not a queue: what has not run when a command stops the
//! connection is forgotten, and found again.
//!
//! Invariant: nothing is found behind a command that may change what the next bytes mean; a client that has not
//! authenticated gets a batch of one.
//!
//! [`Core::warm`]: crate::core::Core::warm

use crate::command::{Command, table};
use crate::resp::decode::{Decoded, Decoder, ProtocolError};
use crate::resp::{Spans, Words};

/// Commands of a batch at most: about as many reads of memory as a core keeps in flight.
pub(crate) const BATCH_COMMANDS: usize = 16;

/// A command that was found, or bytes without one.
#[derive(Debug, Default)]
pub(super) struct Found {
    spans: Spans,
    /// Bytes that it takes of the input.
    pub(super) bytes: usize,
    /// What its first words name.
    pub(super) command: Option<&'static Command>,
}

impl Found {
    /// Returns its words, given the bytes that begin where it does; none for bytes without a command.
    pub(super) fn words<'a>(&'a self, input: &'a [u8]) -> Words<'a> {
        self.spans.words(&input[..self.bytes])
    }
}

/// Why no more commands were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The batch is full.
    Full,
    /// The rest is not whole.
    Partial,
    /// The rest is no command.
    Wrong(ProtocolError),
}

/// Commands in the order in which they arrived; its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    found: Vec<Found>,
    len: usize,
}

impl Batch {
    /// Finds the commands at the front of `input`, `max` at most. `spans` is the decoder's from call to call: words of
    /// a command that has not wholly arrived.
    pub(super) fn find(
        &mut self,
        (decoder, spans): (&mut Decoder, &mut Spans),
        mut input: &[u8],
        max: usize,
    ) -> End {
        self.len = 0;
        while self.len < max {
            let bytes = match decoder.decode(input, spans) {
                Ok(Decoded::Command { consumed } | Decoded::Empty { consumed }) => consumed,
                Ok(Decoded::Partial { .. }) => return End::Partial,
                Err(error) => return End::Wrong(error),
            };
            if self.found.len() == self.len {
                self.found.push(Found::default());
            }
            let found = &mut self.found[self.len];
            std::mem::swap(&mut found.spans, spans);
            found.bytes = bytes;
            let words = found.words(input);
            let name = words.get(0);
            found.command = name.and_then(|name| table::resolve(name, words.get(1)));
            self.len += 1;
            input = &input[bytes..];
        }
        End::Full
    }

    /// Returns what was found, in order.
    pub(super) fn found(&self) -> &[Found] {
        &self.found[..self.len]
    }

    /// Says whether it is likely that several keys are named.
    pub(super) fn names_several(&self) -> bool {
        const FEW: usize = 4;
        match self.found() {
            [] => false,
            [found] => found.spans.len() > FEW,
            _ => true,
        }
    }

    /// Returns the commands that were found in `input`, with their words.
    pub(super) fn commands<'a>(
        &'a self,
        input: &'a [u8],
    ) -> impl Iterator<Item = (&'static Command, Words<'a>)> + Clone {
        let mut at = 0;
        let each = self.found().iter().map(move |found| {
            let words = found.words(&input[at..]);
            at += found.bytes;
            found.command.map(|command| (command, words))
        });
        each.flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::decode::Limits;

    /// Finds batches in `input`, cut into pieces of `cut` bytes as a socket may; returns the words of each command.
    fn found_in(input: &[u8], cut: usize, max: usize) -> (Vec<Vec<Vec<u8>>>, End) {
        let (mut decoder, mut spans) = (Decoder::new(Limits::authenticated(100)), Spans::new());
        let (mut batch, mut all, mut at, mut end) = (Batch::default(), Vec::new(), 0, End::Full);
        for until in (cut..input.len() + cut).step_by(cut) {
            loop {
                let rest = &input[at..until.min(input.len())];
                end = batch.find((&mut decoder, &mut spans), rest, max);
                assert!(batch.found().len() <= max);
                all.extend(batch.commands(rest).map(|(command, words)| {
                    assert_eq!(command.name.as_bytes(), words[0].to_ascii_lowercase());
                    words.iter().map(<[u8]>::to_vec).collect()
                }));
                at += batch.found().iter().map(|found| found.bytes).sum::<usize>();
                if end != End::Full {
                    break;
                }
            }
        }
        (all, end)
    }

    #[test]
    fn the_same_commands_are_found_however_they_are_cut() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n\r\nGET 'b c'\r\n*0\r\n*3\r\n$3\r\nset\r\n$1\r\na\r\n$2\r\nxy\r\n*2\r\n$3";
        let expected = (
            vec![
                vec![b"GET".to_vec(), b"a".to_vec()],
                vec![b"GET".to_vec(), b"b c".to_vec()],
                vec![b"set".to_vec(), b"a".to_vec(), b"xy".to_vec()],
            ],
            End::Partial,
        );
        for cut in 1..=input.len() {
            for max in [1, 2, BATCH_COMMANDS] {
                assert_eq!(found_in(input, cut, max), expected, "cut {cut}, max {max}");
            }
        }
    }

    #[test]
    fn what_comes_before_bytes_that_are_no_command_is_found() {
        let (all, end) = found_in(b"*1\r\n$4\r\nPING\r\n*x\r\n", 1000, BATCH_COMMANDS);
        assert_eq!(all, [[b"PING".to_vec()]]);
        assert_eq!(end, End::Wrong(ProtocolError::InvalidCount));
    }
}
