//! The reply encoder: values in, bytes of either protocol version out.
//!
//! Where RESP2 lacks a type it gets the one Redis sends in its stead. Aggregates are written as a
//! header followed by their elements, which the caller writes; nothing counts them.
//!
//! ```text
//! simple +text    error -text    integer :1    bulk $3 abc    array *2 ..
//!              null     null array    map    set    push   double   boolean   verbatim
//! RESP2        $-1      *-1           *2n    *n     *n     bulk     :1 :0     bulk
//! RESP3        _        _             %n     ~n     >n     ,1.5     #t #f     =7 txt:abc
//! ```
//!
//! Invariant: no user data can end a line early. Simple strings and errors have their line ends
//! replaced by blanks.

use super::{Version, Words};
use crate::number::{DIGITS_MAX, digits_before, format_i64};

/// Bytes of user data shown in an error line.
pub const EXCERPT_BYTES_MAX: usize = 128;

/// A type byte, the longest number, and a line end.
const HEADER_BYTES_MAX: usize = 1 + DIGITS_MAX + 2;

/// Doubles below this that are whole are written as integers are.
const WHOLE_MAX: f64 = 1e15;

/// Appends replies to a connection's output buffer, in the client's protocol version.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
}

impl<'a> Encoder<'a> {
    /// Creates an encoder that appends to `out`.
    #[must_use]
    pub const fn new(out: &'a mut Vec<u8>, version: Version) -> Self {
        Self { out, version }
    }

    /// Returns the protocol version in use.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Appends bytes that are already encoded.
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    /// Appends `+OK`.
    pub fn ok(&mut self) {
        self.raw(b"+OK\r\n");
    }

    /// Appends a simple string.
    pub fn simple(&mut self, text: &[u8]) {
        self.line(b'+', text);
    }

    /// Appends an error; `text` begins with its code, such as `ERR` or `WRONGTYPE`.
    pub fn error(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    /// Appends the error for a command that does not exist, quoting up to 128 bytes of its name and
    /// of its arguments, as Redis does.
    pub fn unknown_command(&mut self, words: Words<'_>) {
        let mut text = b"ERR unknown command '".to_vec();
        append_excerpt(
            &mut text,
            words.get(0).unwrap_or_default(),
            EXCERPT_BYTES_MAX,
        );
        text.extend_from_slice(b"', with args beginning with: ");
        let start = text.len();
        for word in words.tail(1) {
            let shown = text.len() - start;
            if shown >= EXCERPT_BYTES_MAX {
                break;
            }
            text.push(b'\'');
            append_excerpt(&mut text, word, EXCERPT_BYTES_MAX - shown);
            text.extend_from_slice(b"' ");
        }
        self.error(&text);
    }

    /// Appends an integer.
    pub fn integer(&mut self, value: i64) {
        let mut digits = [0; DIGITS_MAX];
        self.line_unchecked(b':', format_i64(value, &mut digits));
    }

    /// Appends a byte string.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(HEADER_BYTES_MAX + bytes.len() + 2);
        self.header(b'$', bytes.len());
        self.raw(bytes);
        self.raw(b"\r\n");
    }

    /// Appends a byte string, or null.
    pub fn optional_bulk(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// Appends an integer as a byte string.
    pub fn bulk_integer(&mut self, value: i64) {
        self.bulk(format_i64(value, &mut [0; DIGITS_MAX]));
    }

    /// Appends null, where a byte string or any other single value was asked for.
    pub fn null(&mut self) {
        self.by_version(b"$-1\r\n", b"_\r\n");
    }

    /// Appends null, where an array was asked for.
    pub fn null_array(&mut self) {
        self.by_version(b"*-1\r\n", b"_\r\n");
    }

    /// Appends a truth value.
    pub fn boolean(&mut self, value: bool) {
        match value {
            true => self.by_version(b":1\r\n", b"#t\r\n"),
            false => self.by_version(b":0\r\n", b"#f\r\n"),
        }
    }

    /// Appends a floating point number in its shortest decimal form, as Redis 7.2 writes it.
    pub fn double(&mut self, value: f64) {
        // Most scores are whole numbers; larger ones are not all told apart.
        if self.version == Version::Resp2
            && value.abs() < WHOLE_MAX
            && value.fract() == 0.0
            && (value != 0.0 || value.is_sign_positive())
        {
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and small")]
            return self.bulk_integer(value as i64);
        }
        let text = format_double(value);
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.line_unchecked(b',', text.as_bytes()),
        }
    }

    /// Appends text meant to be read by people.
    pub fn verbatim(&mut self, text: &[u8]) {
        match self.version {
            Version::Resp2 => self.bulk(text),
            Version::Resp3 => {
                self.header(b'=', text.len() + 4);
                self.raw(b"txt:");
                self.raw(text);
                self.raw(b"\r\n");
            }
        }
    }

    /// Begins an array of `len` values.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// Begins a map of `pairs` keys, each followed by its value.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.header(b'*', pairs * 2),
            Version::Resp3 => self.header(b'%', pairs),
        }
    }

    /// Begins a set of `len` values.
    pub fn set(&mut self, len: usize) {
        self.aggregate(b'~', len);
    }

    /// Begins a message of `len` values that answers no request.
    pub fn push(&mut self, len: usize) {
        self.aggregate(b'>', len);
    }

    fn aggregate(&mut self, kind: u8, len: usize) {
        match self.version {
            Version::Resp2 => self.header(b'*', len),
            Version::Resp3 => self.header(kind, len),
        }
    }

    fn by_version(&mut self, resp2: &[u8], resp3: &[u8]) {
        match self.version {
            Version::Resp2 => self.raw(resp2),
            Version::Resp3 => self.raw(resp3),
        }
    }

    /// Appends a type byte, a number and a line end, in one copy; of a length that is known if the number is small.
    #[inline]
    fn header(&mut self, kind: u8, number: usize) {
        let digit = |number: usize| b"0123456789"[number % 10];
        match number {
            0..10 => self.raw(&[kind, digit(number), b'\r', b'\n']),
            10..100 => self.raw(&[kind, digit(number / 10), digit(number), b'\r', b'\n']),
            100..1000 => {
                let (hundreds, tens) = (digit(number / 100), digit(number / 10));
                self.raw(&[kind, hundreds, tens, digit(number), b'\r', b'\n']);
            }
            _ => self.long_header(kind, number),
        }
    }

    fn long_header(&mut self, kind: u8, number: usize) {
        const DIGITS_END: usize = HEADER_BYTES_MAX - 2;
        let mut line = [0; HEADER_BYTES_MAX];
        line[DIGITS_END..].copy_from_slice(b"\r\n");
        let start = digits_before(number as u64, &mut line, DIGITS_END) - 1;
        line[start] = kind;
        self.raw(&line[start..]);
    }

    /// Appends a line whose text may come from a user.
    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(kind);
        append_excerpt(self.out, text, usize::MAX);
        self.raw(b"\r\n");
    }

    /// Appends a line whose text is known to hold no line end.
    fn line_unchecked(&mut self, kind: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(kind);
        self.raw(text);
        self.raw(b"\r\n");
    }
}

/// Appends up to `bytes_max` bytes of `data` to a line of text, line ends replaced by blanks.
pub fn append_excerpt(line: &mut Vec<u8>, data: &[u8], bytes_max: usize) {
    let shown = &data[..data.len().min(bytes_max)];
    let in_line = |&byte: &u8| {
        if matches!(byte, b'\r' | b'\n') {
            b' '
        } else {
            byte
        }
    };
    line.extend(shown.iter().map(in_line));
}

/// Writes the fewest digits that read back as `value`; exponents only for very large and very small
/// numbers, by the rule of Redis 7.2's `fpconv_dtoa`.
///
/// # Panics
/// Never: the standard library writes exponents.
#[must_use]
pub fn format_double(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes an integer exponent");
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let digits: String = mantissa.chars().filter(|&c| c != '.').collect();
    format!("{sign}{}", place_point(&digits, exponent))
}

/// Writes `d.ddd * 10^exponent`, given the digits without their point.
fn place_point(digits: &str, exponent: i32) -> String {
    // A double has at most 17 significant digits, and exponents of at most three.
    let len = i32::try_from(digits.len()).expect("a double has few digits");
    let last_digit_exponent = exponent - (len - 1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    if last_digit_exponent >= 0 && exponent < len + 7 {
        return format!("{digits}{}", zeros(last_digit_exponent));
    }
    if last_digit_exponent < 0 && (last_digit_exponent > -7 || exponent.abs() < 4) {
        if exponent < 0 {
            return format!("0.{}{digits}", zeros(-exponent - 1));
        }
        let (whole, fraction) = digits.split_at(usize::try_from(exponent + 1).unwrap_or(0));
        return format!("{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{first}{point}{rest}e{exponent:+}")
}
