//! The Redis protocol on the wire: requests in, replies out.
//!
//! [`decode`] finds the words of one request in the bytes received, without copying them;
//! [`encode`] writes replies of either protocol version. What a command means is not known here,
//! and no socket is touched.
//!
//! A request is a list of byte strings. Three views of it exist:
//!
//! ```text
//! Spans        where the words are      reused from request to request, knows no bytes
//! Words<'a>    bytes + spans            what commands read; cheap to copy
//! OwnedWords   one copy of both         a request on its way to another core
//! ```
//!
//! Invariants: (1) a span lies inside the bytes it was made for; (2) memory grows with words
//! received, never with a length that a peer merely declared.

mod count;
pub mod decode;
pub mod encode;
mod inline;

use std::fmt;
use std::ops::Index;

pub use count::count_replies;

/// Spans kept allocated between requests; one larger request does not pin its memory for ever.
const SPANS_KEPT_MAX: usize = 1024;

/// Bytes of unquoted inline words kept allocated between requests.
const UNQUOTED_KEPT_BYTES_MAX: usize = 4096;

/// The protocol a client chose with `HELLO`; connections start with [`Version::Resp2`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Version {
    /// Redis 1.2 to 5: strings, errors, integers, arrays.
    #[default]
    Resp2,
    /// Redis 6 and later: adds null, double, boolean, map, set, push and verbatim string.
    Resp3,
}

/// The place of one word: offset and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u32,
    len: u32,
}

impl Span {
    fn of(self, bytes: &[u8]) -> &[u8] {
        // The widening is exact: usize has 64 bits on every supported target.
        let start = self.start as usize;
        &bytes[start..start + self.len as usize]
    }
}

/// Which bytes the spans of a request point into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Origin {
    /// The bytes received, counted from the first byte of the request.
    #[default]
    Input,
    /// The unquoted copy of an inline request's words.
    Unquoted,
}

/// The places of a request's words; one per connection, reused for every request.
#[derive(Debug, Default)]
pub struct Spans {
    spans: Vec<Span>,
    unquoted: Vec<u8>,
    origin: Origin,
}

impl Spans {
    /// Creates an empty list that owns no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many words have been found.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Tells whether no word has been found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the word at `index`, given the bytes that were decoded.
    ///
    /// # Panics
    /// If there is no such word, or `input` is shorter than what was decoded.
    #[must_use]
    pub fn word<'a>(&'a self, input: &'a [u8], index: usize) -> &'a [u8] {
        self.spans[index].of(self.bytes(input))
    }

    /// Returns all words, given the bytes that were decoded: `input` begins where the request does.
    #[must_use]
    pub fn words<'a>(&'a self, input: &'a [u8]) -> Words<'a> {
        Words {
            bytes: self.bytes(input),
            spans: &self.spans,
        }
    }

    /// Forgets all words and gives back memory that only an unusual request needed.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.unquoted.clear();
        self.origin = Origin::Input;
        if self.spans.capacity() > SPANS_KEPT_MAX {
            self.spans.shrink_to(SPANS_KEPT_MAX);
        }
        if self.unquoted.capacity() > UNQUOTED_KEPT_BYTES_MAX {
            self.unquoted.shrink_to(UNQUOTED_KEPT_BYTES_MAX);
        }
    }

    fn bytes<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match self.origin {
            Origin::Input => input,
            Origin::Unquoted => &self.unquoted,
        }
    }
}

/// The words of one request, borrowed.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Words<'a> {
    /// Returns the number of words, the command's name included.
    #[must_use]
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Tells whether there are no words; never so for a decoded command.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the word at `index`, if there is one.
    #[must_use]
    pub fn get(self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| span.of(self.bytes))
    }

    /// Returns the words from `index` on; none if there are not so many.
    #[must_use]
    pub fn tail(self, index: usize) -> Self {
        Words {
            spans: self.spans.get(index..).unwrap_or_default(),
            ..self
        }
    }

    /// Returns the first `count` words; nothing if there are not so many.
    #[must_use]
    pub fn head(self, count: usize) -> Option<Self> {
        let spans = self.spans.get(..count)?;
        Some(Words { spans, ..self })
    }

    /// Returns the words in order.
    #[must_use]
    pub fn iter(self) -> Iter<'a> {
        Iter {
            bytes: self.bytes,
            spans: self.spans.iter(),
        }
    }

    /// Copies the words, and nothing else of the input, into a value that can leave this thread.
    ///
    /// # Panics
    /// If the words hold 4 GiB or more together; the decoder's limits are far below.
    #[must_use]
    pub fn to_owned(self) -> OwnedWords {
        let total: usize = self.iter().map(<[u8]>::len).sum();
        let mut bytes = Vec::with_capacity(total);
        let mut spans = Vec::with_capacity(self.len());
        for word in self.iter() {
            spans.push(span_at(bytes.len(), word.len()));
            bytes.extend_from_slice(word);
        }
        OwnedWords {
            bytes: bytes.into_boxed_slice(),
            spans: spans.into_boxed_slice(),
        }
    }
}

impl Index<usize> for Words<'_> {
    type Output = [u8];

    fn index(&self, index: usize) -> &[u8] {
        self.spans[index].of(self.bytes)
    }
}

impl<'a> IntoIterator for Words<'a> {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Words<'_> {
    /// Shows the number of words only: values are the user's and may be secret or huge.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({})", self.spans.len())
    }
}

/// The words of a request, one after the other.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    spans: std::slice::Iter<'a, Span>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.spans.next().map(|span| span.of(self.bytes))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// The words of one request with their bytes, in two allocations: what travels to another core.
#[derive(Clone)]
pub struct OwnedWords {
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
}

impl OwnedWords {
    /// Copies words.
    ///
    /// # Panics
    /// If they hold 4 GiB or more together.
    #[must_use]
    pub fn of(words: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        let mut spans = Vec::with_capacity(words.len());
        for word in words {
            spans.push(span_at(bytes.len(), word.len()));
            bytes.extend_from_slice(word);
        }
        Self {
            bytes: bytes.into_boxed_slice(),
            spans: spans.into_boxed_slice(),
        }
    }

    /// Returns the words, borrowed.
    #[must_use]
    pub fn as_words(&self) -> Words<'_> {
        Words {
            bytes: &self.bytes,
            spans: &self.spans,
        }
    }

    /// Returns the bytes this value owns on the heap, for accounting.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.spans)
    }
}

impl fmt::Debug for OwnedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnedWords({})", self.spans.len())
    }
}

/// Makes a span; `start + len` is below 4 GiB because a command's bytes are limited far below.
fn span_at(start: usize, len: usize) -> Span {
    let start = u32::try_from(start).expect("a command is limited to less than 4 GiB");
    let len = u32::try_from(len).expect("a command is limited to less than 4 GiB");
    Span { start, len }
}

#[cfg(test)]
mod tests;
