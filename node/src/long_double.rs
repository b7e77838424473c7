//! Floating point numbers of 64 significant bits, as `INCRBYFLOAT` adds them: Redis computes with the `long
//! double` of x86-64, and programs see its digits. Reading, adding and writing with one rounding each, to the
//! nearest, ties to even. Not a number type: there is no product, no infinity and no number too small for a
//! normalized form.
//!
//! Invariant: `magnitude` is 0, or its highest bit is set; the number is `magnitude * 2^exponent`.

use std::cmp::Ordering;

/// Most characters of a number that is read.
const TEXT_BYTES_MAX: usize = 5119;
/// Digits behind the point that are written.
const PLACES: u32 = 17;
/// Highest exponent of a number, and the lowest.
const EXPONENT_MAX: i64 = 16_383 - 63;
const EXPONENT_MIN: i64 = -16_445;
/// Decimal exponents beyond which a number is surely out of range.
const DECIMAL_MAX: i64 = 5_000;

/// A number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    is_negative: bool,
    magnitude: u64,
    exponent: i64,
}

/// What a text spells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelled {
    /// A number.
    Finite(LongDouble),
    /// Infinity, of either sign.
    Infinite,
}

/// Reads a number as Redis does: decimal, with an exponent or without, or `inf`. Nothing when it is none, or
/// does not fit.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Spelled> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let (is_negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
        return Some(Spelled::Infinite);
    }
    let (digits, exponent) = decimal(unsigned)?;
    let number = LongDouble::nearest(is_negative, &digits, exponent)?;
    Some(Spelled::Finite(number))
}

/// Returns the digits of a decimal number without leading zeros, and the power of ten that they count.
fn decimal(text: &[u8]) -> Option<(Vec<u8>, i64)> {
    let at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, power) = match at {
        None => (text, 0),
        Some(at) => (&text[..at], power_of(&text[at + 1..])?),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        None => (mantissa, &[][..]),
        Some(at) => (&mantissa[..at], &mantissa[at + 1..]),
    };
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    let places = i64::try_from(fraction.len()).ok()?;
    Some((digits[zeros..].to_vec(), power - places))
}

/// Reads the power of ten behind an `e`; one that is out of any range becomes one that is, too.
fn power_of(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+"));
    let digits = digits.unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |power: i64, digit: &u8| (power * 10 + i64::from(digit - b'0')).min(1 << 40);
    let power = digits.iter().fold(0, add);
    Some(if text[0] == b'-' { -power } else { power })
}

impl LongDouble {
    /// The number 0.
    pub const ZERO: Self = Self {
        is_negative: false,
        magnitude: 0,
        exponent: 0,
    };

    /// Returns the number nearest to `digits * 10^power`; nothing when it is too large or too small.
    fn nearest(is_negative: bool, digits: &[u8], power: i64) -> Option<Self> {
        if digits.is_empty() {
            return Some(Self::ZERO);
        }
        let size = i64::try_from(digits.len()).ok()? + power;
        if !(-DECIMAL_MAX..=DECIMAL_MAX).contains(&size) {
            return None;
        }
        let mut dividend = Natural::of_digits(digits);
        let mut divisor = Natural::one();
        let tens = usize::try_from(power.unsigned_abs()).ok()?;
        match power.cmp(&0) {
            Ordering::Less => divisor.times_ten_to(tens),
            Ordering::Equal | Ordering::Greater => dividend.times_ten_to(tens),
        }
        // A quotient of 66 or 67 bits: 64, and what rounding looks at.
        let shift = 66 - (dividend.bits() - divisor.bits());
        match shift.cmp(&0) {
            Ordering::Less => divisor.shift_left(shift.unsigned_abs()),
            Ordering::Equal | Ordering::Greater => dividend.shift_left(shift.unsigned_abs()),
        }
        let (quotient, is_exact) = dividend.divide(&divisor);
        Self::round(
            is_negative,
            quotient << 1 | u128::from(!is_exact),
            -shift - 1,
        )
    }

    /// Returns the number nearest to `value * 2^exponent`; nothing when it is out of range.
    fn round(is_negative: bool, value: u128, exponent: i64) -> Option<Self> {
        if value == 0 {
            return Some(Self::ZERO);
        }
        let surplus = 64 - i64::from(value.leading_zeros());
        let (mut magnitude, mut exponent) = match surplus.cmp(&0) {
            Ordering::Greater => (
                shift_to_nearest(value, surplus.unsigned_abs()),
                exponent + surplus,
            ),
            Ordering::Equal | Ordering::Less => {
                (value << surplus.unsigned_abs(), exponent + surplus)
            }
        };
        if magnitude >> 64 != 0 {
            (magnitude, exponent) = (magnitude >> 1, exponent + 1);
        }
        let fits = (EXPONENT_MIN..=EXPONENT_MAX).contains(&exponent);
        fits.then(|| Self {
            is_negative,
            magnitude: u64::try_from(magnitude).expect("shifted to 64 bits"),
            exponent,
        })
    }

    /// Returns the sum; nothing when it is out of range.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let (large, small) = match self.exponent.cmp(&other.exponent) {
            _ if self.magnitude == 0 => return Some(other),
            _ if other.magnitude == 0 => return Some(self),
            Ordering::Less => (other, self),
            Ordering::Equal | Ordering::Greater => (self, other),
        };
        let distance = (large.exponent - small.exponent).unsigned_abs();
        // Of the smaller one, bits below what 62 more bits hold matter only in that there are some.
        let one = u128::from(large.magnitude) << 62;
        let two = u128::from(small.magnitude) << 62;
        let kept = two.checked_shr(u32::try_from(distance).unwrap_or(u32::MAX));
        let kept = kept.unwrap_or(0);
        let is_exact = distance <= 62 || kept << distance.min(127) == two && distance < 128;
        let two = kept | u128::from(!is_exact);
        let exponent = large.exponent - 62;
        if large.is_negative == small.is_negative {
            return Self::round(large.is_negative, one + two, exponent);
        }
        let is_negative = if one >= two {
            large.is_negative
        } else {
            small.is_negative
        };
        Self::round(is_negative, one.abs_diff(two), exponent)
    }

    /// Writes the number with at most 17 digits behind the point, and no exponent.
    #[must_use]
    pub fn show(self) -> String {
        let sign = if self.is_negative { "-" } else { "" };
        if self.exponent >= 0 {
            let mut whole = Natural::of_u64(self.magnitude);
            whole.shift_left(self.exponent.unsigned_abs());
            return match self.magnitude {
                0 => "0".to_owned(),
                _ => format!("{sign}{}", whole.show()),
            };
        }
        let scaled = u128::from(self.magnitude) * 10_u128.pow(PLACES);
        let scaled = shift_to_nearest(scaled, self.exponent.unsigned_abs());
        let (whole, fraction) = (scaled / 10_u128.pow(PLACES), scaled % 10_u128.pow(PLACES));
        let text = format!("{sign}{whole}.{fraction:017}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" {
            "0".to_owned()
        } else {
            text.to_owned()
        }
    }
}

/// Returns `value / 2^bits`, rounded to the nearest, ties to even.
fn shift_to_nearest(value: u128, bits: u64) -> u128 {
    if bits == 0 {
        return value;
    }
    if bits > 127 {
        return 0;
    }
    let (kept, rest) = (value >> bits, value & ((1 << bits) - 1));
    match rest.cmp(&(1 << (bits - 1))) {
        Ordering::Less => kept,
        Ordering::Equal => kept + (kept & 1),
        Ordering::Greater => kept + 1,
    }
}

/// A whole number of any size: limbs of 32 bits, lowest first, without zeros at the end.
#[derive(Clone, Debug)]
struct Natural(Vec<u32>);

impl Natural {
    fn one() -> Self {
        Self(vec![1])
    }

    fn of_u64(number: u64) -> Self {
        let mut natural = Self(vec![low(number), low(number >> 32)]);
        natural.trim();
        natural
    }

    fn of_digits(digits: &[u8]) -> Self {
        let mut natural = Self(Vec::new());
        for digit in digits {
            natural.multiply(10, u32::from(digit - b'0'));
        }
        natural
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }

    fn bits(&self) -> i64 {
        let limbs = i64::try_from(self.0.len()).expect("numbers are short");
        limbs * 32
            - self
                .0
                .last()
                .map_or(0, |limb| i64::from(limb.leading_zeros()))
    }

    /// Multiplies by a number and adds another.
    fn multiply(&mut self, factor: u32, carry: u32) {
        let mut carry = u64::from(carry);
        for limb in &mut self.0 {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = low(product);
            carry = product >> 32;
        }
        if carry > 0 {
            self.0.push(low(carry));
        }
    }

    fn times_ten_to(&mut self, power: usize) {
        const TEN_TO_NINE: u32 = 1_000_000_000;
        (0..power / 9).for_each(|_| self.multiply(TEN_TO_NINE, 0));
        (0..power % 9).for_each(|_| self.multiply(10, 0));
    }

    fn shift_left(&mut self, bits: u64) {
        (0..bits % 32).for_each(|_| self.multiply(2, 0));
        let limbs = usize::try_from(bits / 32).expect("numbers are short");
        self.0.splice(..0, std::iter::repeat_n(0, limbs));
        self.trim();
    }

    fn compare(&self, other: &Self) -> Ordering {
        let longer = self.0.len().cmp(&other.0.len());
        longer.then_with(|| self.0.iter().rev().cmp(other.0.iter().rev()))
    }

    /// Subtracts a number that is not larger.
    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (at, limb) in self.0.iter_mut().enumerate() {
            let taken = other.0.get(at).copied().unwrap_or(0);
            let (rest, under) = limb.overflowing_sub(taken);
            let (rest, under_too) = rest.overflowing_sub(u32::from(borrow));
            (*limb, borrow) = (rest, under || under_too);
        }
        self.trim();
    }

    /// Returns a quotient that is known to be below 2^100, and whether nothing is left.
    fn divide(mut self, divisor: &Self) -> (u128, bool) {
        let steps = (self.bits() - divisor.bits()).max(0).unsigned_abs();
        let mut divisor = divisor.clone();
        divisor.shift_left(steps);
        let mut quotient = 0;
        for _ in 0..=steps {
            quotient <<= 1;
            if self.compare(&divisor) != Ordering::Less {
                self.subtract(&divisor);
                quotient |= 1;
            }
            self.multiply(2, 0);
        }
        (quotient, self.0.is_empty())
    }

    fn show(mut self) -> String {
        let mut groups = Vec::new();
        while !self.0.is_empty() {
            let mut rest = 0;
            for limb in self.0.iter_mut().rev() {
                let part = rest << 32 | u64::from(*limb);
                *limb = low(part / 1_000_000_000);
                rest = part % 1_000_000_000;
            }
            self.trim();
            groups.push(rest);
        }
        let mut text = groups.pop().unwrap_or(0).to_string();
        groups
            .iter()
            .rev()
            .for_each(|group| text.push_str(&format!("{group:09}")));
        text
    }
}

/// Returns the lower half of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).expect("masked to 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(one: &str, two: &str) -> String {
        let finite = |text: &str| match parse(text.as_bytes()) {
            Some(Spelled::Finite(number)) => number,
            other => panic!("{text} is {other:?}"),
        };
        finite(one).plus(finite(two)).expect("in range").show()
    }

    #[test]
    fn sums_have_the_digits_of_a_long_double() {
        // As redis-server 7.0 on x86-64 answers.
        for (one, two, expected) in [
            ("10.5", "0.1", "10.6"),
            ("3", "-3", "0"),
            ("5.0e3", "2.0e2", "5200"),
            ("0", "1e-5", "0.00001"),
            ("0.1", "0.2", "0.3"),
            ("1e17", "0.1", "100000000000000000.1015625"),
            ("-1.5", "1.25", "-0.25"),
            ("0", "1e-18", "0"),
            ("0", "-1e-18", "0"),
            ("123456789.123456789", "0", "123456789.12345678899873747"),
            ("0", "1e25", "10000000000000000000000000"),
            ("18446744073709551615", "1", "18446744073709551616"),
            (".5", "1.", "1.5"),
        ] {
            assert_eq!(sum(one, two), expected, "{one} + {two}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in [
            "",
            ".",
            "e5",
            "5e",
            "1 ",
            " 1",
            "nan",
            "1e5000",
            "1e-9999",
            "0x10",
            "--1",
            "1.2.3",
            "1e99999999999",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"-Infinity"), Some(Spelled::Infinite));
        let zero = Some(Spelled::Finite(LongDouble::ZERO));
        assert_eq!((parse(b"0e99999"), parse(b"-0")), (zero, zero));
    }

    #[test]
    fn a_sum_out_of_range_is_none() {
        let Some(Spelled::Finite(most)) = parse(b"1.18e4932") else {
            panic!("it is the largest but a little");
        };
        assert_eq!(most.plus(most), None);
    }
}
