//! Decimal integers as Redis reads and writes them.
//!
//! Reading is strict: one text per value, so a key that holds `007` or `+7` is not an integer. This
//! is not the place for floating point, nor for numbers in configuration files.
//!
//! Invariant: `parse_i64(format_i64(v)) == Some(v)`, and no other text parses to `v`.

/// Bytes of the longest decimal `i64`: a sign and 19 digits; also of the longest `u64`.
pub const DIGITS_MAX: usize = 20;

/// Every two-digit number, so that formatting divides once per two digits.
const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Returns the integer `text` spells, or `None` if Redis would not call it an integer.
///
/// Refused are the empty text, `+`, blanks, leading zeros (except `0` itself), `-0`, and anything
/// outside the range of `i64`.
#[must_use]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'0'] => Some(0),
        [b'-', digits @ ..] => {
            let magnitude = parse_magnitude(digits)?;
            0_i64.checked_sub_unsigned(magnitude)
        }
        digits => i64::try_from(parse_magnitude(digits)?).ok(),
    }
}

/// Reads `1..=u64::MAX` without a leading zero.
fn parse_magnitude(digits: &[u8]) -> Option<u64> {
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() > DIGITS_MAX {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Writes `value` at the end of `buffer` and returns the bytes written, sign included.
pub fn format_i64(value: i64, buffer: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut start = digits_before(value.unsigned_abs(), buffer, DIGITS_MAX);
    if value < 0 {
        // The magnitude of an i64 has at most 19 digits, which leaves one byte for the sign.
        start -= 1;
        buffer[start] = b'-';
    }
    &buffer[start..]
}

/// Writes the digits of `value` so that they end just before `buffer[end]`; returns their start.
///
/// # Panics
/// If there are more digits than `end`.
pub fn digits_before(mut value: u64, buffer: &mut [u8], end: usize) -> usize {
    let mut start = end;
    while value >= 100 {
        start -= 2;
        write_pair(&mut buffer[start..start + 2], value % 100);
        value /= 100;
    }
    if value >= 10 {
        start -= 2;
        write_pair(&mut buffer[start..start + 2], value);
    } else {
        start -= 1;
        buffer[start] = b'0' + low_byte(value);
    }
    start
}

fn write_pair(target: &mut [u8], below_hundred: u64) {
    let at = usize::from(low_byte(below_hundred)) * 2;
    target.copy_from_slice(&PAIRS[at..at + 2]);
}

/// Narrows a number that the callers know to be below 100.
fn low_byte(value: u64) -> u8 {
    (value & 0xff) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn format(value: i64) -> Vec<u8> {
        format_i64(value, &mut [0; DIGITS_MAX]).to_vec()
    }

    #[test]
    fn only_the_shortest_spelling_is_an_integer() {
        let refused: [&[u8]; 22] = [
            b"",
            b"+1",
            b"01",
            b"-01",
            b"1x",
            b"x1",
            b" 1",
            b"1 ",
            b"-",
            b"--1",
            b"-0",
            b"00",
            b"1.0",
            b"0x1",
            b"1\0",
            b"\0",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"18446744073709551616",
            b"99999999999999999999999999",
            b"20000000000000000000",
            b"36893488147419103233",
        ];
        for text in refused {
            assert_eq!(parse_i64(text), None, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn the_ends_of_the_range_are_read_and_written() {
        for value in [0, 1, -1, 9, 10, 99, 100, 101, 999, 1000, i64::MAX, i64::MIN] {
            assert_eq!(format(value), value.to_string().into_bytes());
            assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
        }
    }

    proptest! {
        #[test]
        fn formatting_agrees_with_the_standard_library(value: i64, shift in 0_u32..63) {
            let value = value >> shift;
            prop_assert_eq!(format(value), value.to_string().into_bytes());
            prop_assert_eq!(parse_i64(&format(value)), Some(value));
        }

        #[test]
        fn parsing_inverts_formatting_and_nothing_else(text in "[-+0-9 ]{0,21}") {
            let expected = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
            prop_assert_eq!(parse_i64(text.as_bytes()), expected);
        }
    }
}
