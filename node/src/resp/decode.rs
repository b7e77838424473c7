//! The request decoder: finds the words of one request at the start of a byte slice.
//!
//! It reads what clients send, so only two forms; the typed values of RESP3 never come as requests.
//!
//! ```text
//! multibulk   *<count>\r\n  then count times  $<bytes>\r\n<bytes>\r\n
//! inline      <word> <word> ...\n      with an optional \r before the \n; words may be quoted
//! ```
//!
//! The caller offers all bytes from the start of the request. If they do not suffice it offers them
//! again, followed by newer ones, and decoding goes on where it stopped: the work is linear in the
//! bytes received, however they were cut.
//!
//! Invariants: (1) the outcome does not depend on how the bytes were cut; (2) nothing is allocated
//! from a declared length; (3) no input makes it panic; (4) after an error the stream is lost and
//! the connection must be closed.
//!
//! Error texts and limits are those of Redis 7.2, with these differences, all of them stricter so
//! that two readers of the same bytes cannot disagree about where a request ends:
//! - the line end after a count, a length or a bulk must be `\r\n`; Redis skips any two bytes;
//! - a line limit counts the line's bytes; Redis counts what the last read happened to bring;
//! - a word that does not begin with `$` is refused at its first byte, not at the end of its line;
//! - a NUL byte in an inline request is an ordinary byte; Redis waits for ever for the line's end;
//! - a TLS greeting is recognised by its first byte instead of waiting for a line end.

use std::fmt;

use super::inline::{is_cross_protocol, split_line};
use super::{Spans, span_at};
use crate::number::parse_i64;

/// A count above this is never accepted; Redis' `proto-max-bulk-len` plays that part for lengths.
const ARGS_CEILING: u32 = 1_048_576;
/// A length above this is invalid even where a lower limit has its own error text.
const BULK_BYTES_CEILING: u32 = 512 << 20;
/// First byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// Decimal digits that the fast path reads; longer numbers are still read, but slower.
const FAST_DIGITS: usize = 9;

/// Whether the client has proved who it is; strangers get less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Authentication is required and has not happened.
    Unauthenticated,
    /// Authenticated, or no authentication is required.
    Authenticated,
}

/// What one request may cost. All limits are inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an inline request, and of the line that holds a count or a length.
    pub inline_bytes: u32,
    /// Words of a multibulk request, the command's name included.
    pub args_max: u32,
    /// Bytes of one word of a multibulk request.
    pub bulk_bytes_max: u32,
    /// Bytes of a whole multibulk request as received, counts, lengths and line ends included.
    pub command_bytes_max: u32,
    /// Chooses the error text for a count or a length above its limit.
    pub trust: Trust,
}

impl Limits {
    /// Limits until the client has authenticated: enough for `HELLO` and `AUTH`.
    pub const UNAUTHENTICATED: Self = Self {
        inline_bytes: 64 << 10,
        args_max: 10,
        bulk_bytes_max: 16 << 10,
        command_bytes_max: 64 << 10,
        trust: Trust::Unauthenticated,
    };

    /// Returns the limits of an authenticated client whose words may have `bulk_bytes_max` bytes.
    #[must_use]
    pub const fn authenticated(bulk_bytes_max: u32) -> Self {
        Self {
            inline_bytes: 64 << 10,
            args_max: ARGS_CEILING,
            bulk_bytes_max,
            command_bytes_max: 128 << 20,
            trust: Trust::Authenticated,
        }
    }
}

/// What was found at the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// A whole request of at least one word in the first `consumed` bytes.
    Command {
        /// Bytes of the input to drop once the words are no longer needed.
        consumed: usize,
    },
    /// A request without words in the first `consumed` bytes: it is skipped and gets no reply.
    Empty {
        /// Bytes of the input to drop.
        consumed: usize,
    },
    /// The request goes on beyond the input; nothing may be dropped.
    Partial {
        /// Length of input, from the start of the request, below which no progress is possible. It
        /// comes from the peer: grow buffers with the bytes received, not to this size.
        need: usize,
    },
}

/// Why a byte stream is not a sequence of requests; the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The count after `*` is not an integer, or above every limit.
    InvalidCount,
    /// The length after `$` is not an integer, negative, or above its limit.
    InvalidLength,
    /// A word does not begin with `$` but with this byte.
    ExpectedBulk(u8),
    /// A word is not followed by `\r\n`: its declared length is wrong.
    UnterminatedBulk,
    /// The line of a count does not end within the limit.
    CountLineTooBig,
    /// The line of a length does not end within the limit.
    LengthLineTooBig,
    /// An inline request does not end within the limit.
    InlineTooBig,
    /// The whole request is above its limit.
    CommandTooBig,
    /// An inline request ends inside quotes, or goes on right after a closing quote.
    UnbalancedQuotes,
    /// More words than a stranger may send.
    UnauthenticatedCount,
    /// A longer word, or request, than a stranger may send.
    UnauthenticatedLength,
    /// A browser or a TLS client is talking. Log it, and close without any reply.
    CrossProtocol,
}

impl ProtocolError {
    /// Appends the error reply for the client; appends nothing for [`Self::CrossProtocol`].
    pub fn write_reply(self, out: &mut Vec<u8>) {
        if self == Self::CrossProtocol {
            return;
        }
        out.extend_from_slice(b"-ERR Protocol error: ");
        out.extend_from_slice(self.text().as_bytes());
        if let Self::ExpectedBulk(byte) = self {
            // The byte goes out unchanged, which a `str` could not carry, unless it ends the line.
            let shown = if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                byte
            };
            out.extend_from_slice(b", got '");
            out.extend_from_slice(&[shown, b'\'']);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn text(self) -> &'static str {
        match self {
            Self::InvalidCount => "invalid multibulk length",
            Self::InvalidLength => "invalid bulk length",
            Self::ExpectedBulk(_) => "expected '$'",
            Self::UnterminatedBulk => "expected CRLF after bulk",
            Self::CountLineTooBig => "too big mbulk count string",
            Self::LengthLineTooBig => "too big bulk count string",
            Self::InlineTooBig => "too big inline request",
            Self::CommandTooBig => "too big request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::UnauthenticatedCount => "unauthenticated multibulk length",
            Self::UnauthenticatedLength => "unauthenticated bulk length",
            Self::CrossProtocol => "not a Redis client",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.text())?;
        if let Self::ExpectedBulk(byte) = self {
            write!(f, ", got '{}'", byte.escape_ascii())?;
        }
        Ok(())
    }
}

impl std::error::Error for ProtocolError {}

/// The two lines that hold a number.
#[derive(Debug, Clone, Copy)]
enum Header {
    Count,
    Length,
}

impl Header {
    fn invalid(self) -> ProtocolError {
        match self {
            Self::Count => ProtocolError::InvalidCount,
            Self::Length => ProtocolError::InvalidLength,
        }
    }

    fn too_big(self) -> ProtocolError {
        match self {
            Self::Count => ProtocolError::CountLineTooBig,
            Self::Length => ProtocolError::LengthLineTooBig,
        }
    }
}

/// Decodes the requests of one connection, one at a time, across any number of reads.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// Words the current request announced; 0 until its count is known.
    declared: u32,
    /// Bytes of the current request that are done: `input[at]` begins a word's length line.
    at: usize,
    /// Bytes of the current request known to hold no end of the line begun at `at`.
    scanned: usize,
    /// Length of input below which decoding cannot go on.
    need: usize,
}

impl Decoder {
    /// Creates a decoder that awaits the start of a request.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            declared: 0,
            at: 0,
            scanned: 0,
            need: 1,
        }
    }

    /// Replaces the limits, for what has not been decoded yet.
    ///
    /// Requests behind an `AUTH` in the same read must be decoded after its answer is known.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Forgets a request that was decoded in part; a complete one is forgotten by itself.
    pub fn reset(&mut self) {
        *self = Self::new(self.limits);
    }

    /// Decodes the request at the start of `input` into `words`.
    ///
    /// After [`Decoded::Partial`] the next call must offer the same bytes again, more of them
    /// behind, and the same `words`. Otherwise the next call is about another request, `words` is
    /// overwritten by it, and `input` must begin behind the bytes consumed.
    ///
    /// # Errors
    /// The input is no request or goes beyond the limits: send the error's reply and close.
    pub fn decode(&mut self, input: &[u8], words: &mut Spans) -> Result<Decoded, ProtocolError> {
        if input.len() < self.need {
            return Ok(Decoded::Partial { need: self.need });
        }
        if self.declared > 0 {
            return self.decode_bulks(input, words);
        }
        words.clear();
        match input[0] {
            b'*' => self.decode_count(input, words),
            TLS_HANDSHAKE => Err(ProtocolError::CrossProtocol),
            _ => self.decode_inline(input, words),
        }
    }

    fn decode_count(&mut self, input: &[u8], words: &mut Spans) -> Result<Decoded, ProtocolError> {
        let Some((count, next)) = self.number(input, Header::Count)? else {
            return Ok(self.partial(input.len() + 1));
        };
        if count <= 0 {
            self.reset();
            return Ok(Decoded::Empty { consumed: next });
        }
        self.declared = self.checked_count(count)?;
        self.at = next;
        self.decode_bulks(input, words)
    }

    fn decode_bulks(&mut self, input: &[u8], words: &mut Spans) -> Result<Decoded, ProtocolError> {
        while words.len() < self.declared as usize {
            match input.get(self.at) {
                Some(b'$') => {}
                Some(&byte) => return Err(ProtocolError::ExpectedBulk(byte)),
                None => return Ok(self.partial(self.at + 1)),
            }
            let Some((length, start)) = self.number(input, Header::Length)? else {
                return Ok(self.partial(input.len() + 1));
            };
            let end = start + self.checked_length(length, start)?;
            match input.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::UnterminatedBulk),
                None => return Ok(self.partial(end + 2)),
            }
            words.spans.push(span_at(start, end - start));
            self.at = end + 2;
        }
        let consumed = self.at;
        self.reset();
        Ok(Decoded::Command { consumed })
    }

    fn decode_inline(&mut self, input: &[u8], words: &mut Spans) -> Result<Decoded, ProtocolError> {
        let Some(end) = self.find_in_line(input, b'\n', ProtocolError::InlineTooBig)? else {
            return Ok(self.partial(input.len() + 1));
        };
        let line = &input[..end];
        split_line(line.strip_suffix(b"\r").unwrap_or(line), words)?;
        if !words.is_empty() && is_cross_protocol(words.word(input, 0)) {
            return Err(ProtocolError::CrossProtocol);
        }
        self.reset();
        let consumed = end + 1;
        if words.is_empty() {
            return Ok(Decoded::Empty { consumed });
        }
        Ok(Decoded::Command { consumed })
    }

    fn partial(&mut self, need: usize) -> Decoded {
        self.need = need;
        Decoded::Partial { need }
    }

    /// Reads the number of the line at `self.at`, behind its type byte; also returns where the next
    /// line begins. `None`: the line is not complete.
    #[inline]
    fn number(
        &mut self,
        input: &[u8],
        header: Header,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        let digits = self.at + 1;
        match small_number(&input[digits..]) {
            Some((value, bytes)) => Ok(Some((i64::from(value), digits + bytes))),
            None => self.any_number(input, header),
        }
    }

    #[cold]
    fn any_number(
        &mut self,
        input: &[u8],
        header: Header,
    ) -> Result<Option<(i64, usize)>, ProtocolError> {
        let Some(end) = self.find_in_line(input, b'\r', header.too_big())? else {
            return Ok(None);
        };
        match input.get(end + 1) {
            Some(b'\n') => {}
            Some(_) => return Err(header.invalid()),
            None => return Ok(None),
        }
        let value = parse_i64(&input[self.at + 1..end]).ok_or(header.invalid())?;
        Ok(Some((value, end + 2)))
    }

    /// Returns where `wanted` is in the line that begins at `self.at`; `None` if not received yet.
    /// Bytes searched before are not searched again.
    fn find_in_line(
        &mut self,
        input: &[u8],
        wanted: u8,
        too_big: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let limit = self.at + self.limits.inline_bytes as usize + 1;
        let until = input.len().min(limit);
        let from = self.scanned.clamp(self.at, until);
        if let Some(offset) = input[from..until].iter().position(|&byte| byte == wanted) {
            self.scanned = from + offset;
            return Ok(Some(from + offset));
        }
        self.scanned = until;
        if until == limit {
            Err(too_big)
        } else {
            Ok(None)
        }
    }

    fn checked_count(&self, count: i64) -> Result<u32, ProtocolError> {
        let count = u32::try_from(count).map_err(|_| ProtocolError::InvalidCount)?;
        if count <= self.limits.args_max {
            return Ok(count);
        }
        Err(match self.limits.trust {
            _ if count > ARGS_CEILING => ProtocolError::InvalidCount,
            Trust::Unauthenticated => ProtocolError::UnauthenticatedCount,
            Trust::Authenticated => ProtocolError::InvalidCount,
        })
    }

    /// Checks the length of a word that begins at `start` before any of its bytes is waited for.
    #[inline]
    fn checked_length(&self, length: i64, start: usize) -> Result<usize, ProtocolError> {
        let length = u32::try_from(length).map_err(|_| ProtocolError::InvalidLength)?;
        let bytes = length as usize;
        let fits = start + bytes + 2 <= self.limits.command_bytes_max as usize;
        if length <= self.limits.bulk_bytes_max && fits {
            return Ok(bytes);
        }
        Err(match self.limits.trust {
            _ if length > BULK_BYTES_CEILING => ProtocolError::InvalidLength,
            Trust::Unauthenticated => ProtocolError::UnauthenticatedLength,
            Trust::Authenticated if length > self.limits.bulk_bytes_max => {
                ProtocolError::InvalidLength
            }
            Trust::Authenticated => ProtocolError::CommandTooBig,
        })
    }
}

/// Reads a number of one to nine digits and its `\r\n`; also returns the bytes of both. `None` for
/// whatever else it meets: the slow path decides whether that is wrong or merely incomplete.
#[inline]
fn small_number(line: &[u8]) -> Option<(u32, usize)> {
    let mut value = 0;
    let mut len = 0;
    while let Some(digit) = line.get(len).map(|byte| u32::from(byte.wrapping_sub(b'0')))
        && digit <= 9
    {
        if len == FAST_DIGITS {
            return None;
        }
        value = value * 10 + digit;
        len += 1;
    }
    let plain = len == 1 || (len > 1 && line[0] != b'0');
    (plain && line.get(len..len + 2)? == b"\r\n").then_some((value, len + 2))
}
