//! Bits of byte strings: counting, searching, combining, and integers of any width at any bit. Bit 0 is the
//! highest of the first byte, as in Redis. Pure; what lies behind the end of a string is 0.
//!
//! Invariant: places are in bits unless a name says bytes.

use std::ops::RangeInclusive;

/// Returns a bit.
#[must_use]
pub fn get(bytes: &[u8], at: u64) -> bool {
    let byte = usize::try_from(at / 8)
        .ok()
        .and_then(|byte| bytes.get(byte));
    byte.is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
}

/// Sets a bit, and returns what it was.
///
/// # Panics
/// When it lies behind the end.
pub fn set(bytes: &mut [u8], at: u64, bit: bool) -> bool {
    let before = get(bytes, at);
    let byte = &mut bytes[usize::try_from(at / 8).expect("strings are in memory")];
    let mask = 1 << (7 - at % 8);
    *byte = if bit { *byte | mask } else { *byte & !mask };
    before
}

/// Returns the bytes that bits lie in, and which bits of the first and of the last.
fn within(bits: &RangeInclusive<u64>) -> (RangeInclusive<usize>, u8, u8) {
    let byte = |bit: u64| usize::try_from(bit / 8).expect("strings are in memory");
    let (first, last) = (*bits.start(), *bits.end());
    (
        byte(first)..=byte(last),
        0xff >> (first % 8),
        0xff << (7 - last % 8),
    )
}

/// Counts the bits in a range that are 1.
///
/// # Panics
/// When the range goes beyond the end.
#[must_use]
pub fn count(bytes: &[u8], bits: RangeInclusive<u64>) -> u64 {
    if bits.is_empty() {
        return 0;
    }
    let (range, first, last) = within(&bits);
    let bytes = &bytes[range];
    let ones = |byte: u8| u64::from(byte.count_ones());
    let (words, rest) = bytes.as_chunks::<8>();
    let all: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_le_bytes(*word).count_ones()))
        .chain(rest.iter().map(|byte| ones(*byte)))
        .sum();
    let (head, tail) = (bytes[0] & !first, bytes[bytes.len() - 1] & !last);
    all - ones(head) - ones(tail)
}

/// Finds the first bit in a range that is `bit`.
///
/// # Panics
/// When the range goes beyond the end.
#[must_use]
pub fn find(bytes: &[u8], bits: RangeInclusive<u64>, bit: bool) -> Option<u64> {
    if bits.is_empty() {
        return None;
    }
    let (range, ..) = within(&bits);
    let from = *range.start() as u64 * 8;
    let dull = if bit { 0 } else { 0xff };
    let skipped = bytes[range]
        .iter()
        .skip(1)
        .take_while(|byte| **byte == dull)
        .count() as u64;
    // The first byte may lie in the range in part, so it is looked at bit by bit.
    let head = *bits.start()..=(from + 7).min(*bits.end());
    let behind = from + 8 + skipped * 8;
    let tail = behind..=(behind + 7).min(*bits.end());
    head.chain(tail).find(|at| get(bytes, *at) == bit)
}

/// How `BITOP` combines strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Bits that are 1 in all.
    And,
    /// Bits that are 1 in any.
    Or,
    /// Bits that are 1 in an odd number.
    Xor,
    /// Bits that are 0 in the only one.
    Not,
}

/// Combines strings; the result is as long as the longest.
#[must_use]
pub fn combine(operation: Operation, strings: &[Vec<u8>]) -> Vec<u8> {
    let longest = strings.iter().map(Vec::len).max().unwrap_or(0);
    let Some((first, others)) = strings.split_first() else {
        return Vec::new();
    };
    let mut result = first.clone();
    result.resize(longest, 0);
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for other in others {
        let (common, beyond) = result.split_at_mut(other.len());
        let pairs = common.iter_mut().zip(other);
        match operation {
            Operation::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                beyond.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Operation::Not => {}
        }
    }
    result
}

/// An integer in a string, as `BITFIELD` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Whether the highest bit is a sign.
    pub sign: Sign,
    /// Bits: 1 to 64, to 63 without a sign.
    pub width: u8,
    /// Place of its highest bit.
    pub at: u64,
}

/// Whether an integer has a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It has.
    Signed,
    /// It has not.
    Unsigned,
}

/// What becomes of a number that does not fit its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Its lowest bits are taken.
    Wrap,
    /// The nearest that fits is taken.
    Saturate,
    /// Nothing is done.
    Fail,
}

impl Field {
    /// Returns its last byte plus one.
    #[must_use]
    pub fn end_bytes(&self) -> u64 {
        (self.at + u64::from(self.width) - 1) / 8 + 1
    }

    /// Reads it.
    #[must_use]
    pub fn read(&self, bytes: &[u8]) -> i64 {
        let bits = self.at..self.at + u64::from(self.width);
        let raw = bits.fold(0_u64, |raw, at| raw << 1 | u64::from(get(bytes, at)));
        self.of_raw(raw)
    }

    /// Writes the lowest bits of a number.
    ///
    /// # Panics
    /// When it goes beyond the end.
    pub fn write(&self, bytes: &mut [u8], number: i64) {
        for n in 0..self.width {
            let bit = number >> (self.width - 1 - n) & 1 == 1;
            set(bytes, self.at + u64::from(n), bit);
        }
    }

    /// Returns the number that the lowest bits spell.
    fn of_raw(&self, raw: u64) -> i64 {
        let unused = 64 - u32::from(self.width);
        match self.sign {
            Sign::Signed => (raw << unused).cast_signed() >> unused,
            Sign::Unsigned => (raw << unused >> unused).cast_signed(),
        }
    }

    /// Returns what is written of a number, given as the field's own kind widened; nothing when it does not fit
    /// and that is a failure.
    fn fit(&self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = match self.sign {
            Sign::Signed => (
                -(1_i128 << (self.width - 1)),
                (1_i128 << (self.width - 1)) - 1,
            ),
            Sign::Unsigned => (0, (1_i128 << self.width) - 1),
        };
        if let Ok(fits) = i64::try_from(number)
            && (least..=most).contains(&number)
        {
            return Some(fits);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => i64::try_from(number.clamp(least, most)).ok(),
            Overflow::Wrap => {
                let low = u64::try_from(number & i128::from(u64::MAX)).expect("masked to 64 bits");
                Some(self.of_raw(low))
            }
        }
    }

    /// Sets it; returns what it was, or nothing when that failed.
    ///
    /// # Panics
    /// When it goes beyond the end.
    pub fn set(&self, bytes: &mut [u8], number: i64, overflow: Overflow) -> Option<i64> {
        let before = self.read(bytes);
        // Without a sign a negative number is the large one of the same bits.
        let widened = match self.sign {
            Sign::Signed => i128::from(number),
            Sign::Unsigned => i128::from(number.cast_unsigned()),
        };
        self.write(bytes, self.fit(widened, overflow)?);
        Some(before)
    }

    /// Adds to it; returns the sum, or nothing when that failed.
    ///
    /// # Panics
    /// When it goes beyond the end.
    pub fn add(&self, bytes: &mut [u8], number: i64, overflow: Overflow) -> Option<i64> {
        let sum = i128::from(self.read(bytes)) + i128::from(number);
        let fitting = self.fit(sum, overflow)?;
        self.write(bytes, fitting);
        Some(fitting)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn naive(bytes: &[u8]) -> Vec<bool> {
        let bits = |byte: &u8| (0..8).map(|n| byte & (0x80 >> n) != 0).collect::<Vec<_>>();
        bytes.iter().flat_map(bits).collect()
    }

    proptest! {
        #[test]
        fn counting_and_finding_do_what_looking_at_each_bit_does(
            bytes in vec(prop_oneof![Just(0_u8), Just(0xff), any::<u8>()], 1..40),
            one: u64,
            other: u64,
        ) {
            let bits = naive(&bytes);
            let (one, other) = (one % bits.len() as u64, other % bits.len() as u64);
            let range = one.min(other)..=one.max(other);
            let is = |at: u64, bit: bool| bits[usize::try_from(at).unwrap()] == bit;
            let of = |bit: bool| range.clone().filter(|at| is(*at, bit)).collect::<Vec<_>>();
            prop_assert_eq!(count(&bytes, range.clone()), of(true).len() as u64);
            for bit in [false, true] {
                prop_assert_eq!(find(&bytes, range.clone(), bit), of(bit).first().copied());
            }
        }

        #[test]
        fn a_field_reads_what_was_written(
            mut bytes in vec(any::<u8>(), 32..40),
            at in 0_u64..190,
            width in 1_u8..=63,
            number: i64,
        ) {
            for sign in [Sign::Signed, Sign::Unsigned] {
                let (field, before) = (Field { sign, width, at }, naive(&bytes));
                field.set(&mut bytes, number, Overflow::Wrap);
                let (least, most) = match sign {
                    Sign::Signed => (-(1_i64 << (width - 1)), (1 << (width - 1)) - 1),
                    Sign::Unsigned => (0, i64::MAX >> (63 - width)),
                };
                let read = field.read(&bytes);
                prop_assert!(least <= read && read <= most);
                prop_assert_eq!((read ^ number) << (64 - width), 0, "the lowest bits");
                let after = naive(&bytes);
                let inside = |n: &usize| (at..at + u64::from(width)).contains(&(*n as u64));
                prop_assert!((0..after.len()).filter(|n| !inside(n)).all(|n| after[n] == before[n]));
                let added = field.add(&mut bytes, 1, Overflow::Saturate);
                prop_assert_eq!(added, Some(read.saturating_add(1).min(most)));
                let failed = field.add(&mut bytes, i64::MAX, Overflow::Fail);
                let sum = i128::from(added.unwrap()) + i128::from(i64::MAX);
                prop_assert_eq!(failed.is_some(), sum <= i128::from(most));
            }
        }
    }

    #[test]
    fn strings_are_combined_as_if_they_were_equally_long() {
        let strings = [b"\xf0\x0f".to_vec(), b"\xff".to_vec()];
        assert_eq!(combine(Operation::And, &strings), b"\xf0\x00");
        assert_eq!(combine(Operation::Or, &strings), b"\xff\x0f");
        assert_eq!(combine(Operation::Xor, &strings), b"\x0f\x0f");
        assert_eq!(combine(Operation::Not, &strings[..1]), b"\x0f\xf0");
        assert!(combine(Operation::Or, &[Vec::new()]).is_empty());
    }
}
