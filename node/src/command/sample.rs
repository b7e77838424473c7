//! Elements of a collection at random. Elements have an order and no numbers, so the n-th one is found by counting; in
//! a large collection a single one is found by drawing a place between the first and the last instead.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use ashlar_partition::collection::{ELEMENT, Family};
use ashlar_partition::{Order, Refusal};

use super::DataCall;
use super::collection::{ALL, ANSWER_BYTES_MAX, Element, Opened};
use crate::number::parse_i64;
use crate::resp::Words;

/// Elements up to which a random one is found by counting, each as likely as any other.
const COUNTED_MAX: u64 = 16_384;
/// Most elements that are answered with repetitions.
const REPEATED_MAX: u64 = 1 << 20;

/// Reads the words behind the key of `HRANDFIELD` and its like: a count, and whether `with` is asked for.
///
/// # Errors
/// The line to answer.
pub fn sample_options(words: Words<'_>, with: &str) -> Result<(i64, bool), &'static str> {
    let count = words.get(0).and_then(parse_i64);
    let count = count.ok_or("ERR value is not an integer or out of range")?;
    if count == i64::MIN {
        return Err(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        );
    }
    let is_with = match words.get(1) {
        None => false,
        Some(word) if words.len() == 2 && word.eq_ignore_ascii_case(with.as_bytes()) => true,
        Some(_) => return Err("ERR syntax error"),
    };
    match is_with && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        true => Err("ERR value is out of range"),
        false => Ok((count, is_with)),
    }
}

impl DataCall<'_> {
    /// Answers an element of the collection that the command names, or null: `HRANDFIELD` and its like without a count.
    ///
    /// # Errors
    /// As [`DataCall::open`] and [`DataCall::walk`].
    pub fn answer_one_at_random(&mut self, family: Family) -> Result<(), Refusal> {
        let found = self.sample(family, 1)?;
        let sub_key = found.first().map(|(sub_key, _)| sub_key.as_slice());
        self.reply().optional_bulk(sub_key);
        Ok(())
    }

    /// Returns elements of the collection that the command names, as the count of `HRANDFIELD` and its like asks for:
    /// so many different ones; or, when it is negative, as many as it says, each drawn from all, but at most
    /// [`REPEATED_MAX`].
    ///
    /// # Errors
    /// As [`DataCall::open`] and [`DataCall::walk`]; or they are too many.
    pub fn sample(&mut self, family: Family, count: i64) -> Result<Vec<Element>, Refusal> {
        let Some(opened) = self.open_to_read(self.word(1), family)? else {
            return Ok(Vec::new());
        };
        if count >= 0 {
            return self.some_at_random(&opened, ELEMENT, count.unsigned_abs());
        }
        let count = count.unsigned_abs();
        if count > REPEATED_MAX {
            return Err(Refusal::TooMuch);
        }
        // Drawn from a pool: all elements, or as many of a large collection as are counted through.
        let pool = self.some_at_random(&opened, ELEMENT, COUNTED_MAX)?;
        let mut bytes = 0;
        let mut drawn = Vec::new();
        for _ in 0..count {
            let at = (self.chance.0)() % pool.len() as u64;
            let at = usize::try_from(at).unwrap_or_default();
            bytes += pool[at].0.len() + pool[at].1.len();
            if bytes > ANSWER_BYTES_MAX {
                return Err(Refusal::TooMuch);
            }
            drawn.push(pool[at].clone());
        }
        Ok(drawn)
    }

    /// Returns sub-keys and values of `count` elements at random, different ones, as long as there are so many.
    ///
    /// # Errors
    /// As [`DataCall::walk`].
    pub fn some_at_random(
        &mut self,
        opened: &Opened<'_>,
        part: u8,
        count: u64,
    ) -> Result<Vec<Element>, Refusal> {
        let total = opened.count();
        if total > COUNTED_MAX && count == 1 {
            return self.one_somewhere(opened, part);
        }
        let chosen = self.places_at_random(total, count);
        let (mut place, mut found) = (0, Vec::with_capacity(chosen.len()));
        self.walk(opened, (part, ALL), Order::Ascending, |sub_key, value| {
            if chosen.get(found.len()) == Some(&place) {
                found.push((sub_key.to_vec(), value.to_vec()));
            }
            place += 1;
            match found.len() < chosen.len() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })?;
        Ok(found)
    }

    /// Returns `count` different places below `total`, ascending; all when there are not so many.
    fn places_at_random(&self, total: u64, count: u64) -> Vec<u64> {
        // Floyd's choice of a sample: as many draws as places.
        let mut chosen = BTreeSet::new();
        for bound in total.saturating_sub(count)..total {
            let place = (self.chance.0)() % (bound + 1);
            if !chosen.insert(place) {
                chosen.insert(bound);
            }
        }
        chosen.into_iter().collect()
    }

    /// Returns an element of a large collection: the one behind a place that is drawn between the first and the last,
    /// so those behind gaps are likelier than others.
    fn one_somewhere(&mut self, opened: &Opened<'_>, part: u8) -> Result<Vec<Element>, Refusal> {
        let mut first_of = |order, from: Bound<&[u8]>| {
            let mut found = None;
            let sub_keys = (from, Bound::Unbounded);
            self.walk(opened, (part, sub_keys), order, |sub_key, value| {
                found = Some((sub_key.to_vec(), value.to_vec()));
                ControlFlow::Break(())
            })?;
            Ok::<_, Refusal>(found)
        };
        let first = first_of(Order::Ascending, Bound::Unbounded)?;
        let last = first_of(Order::Descending, Bound::Unbounded)?;
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(Vec::new());
        };
        let place = between(&first.0, &last.0, (self.chance.0)());
        let mut found = None;
        let sub_keys = (Bound::Included(place.as_slice()), Bound::Unbounded);
        self.walk(opened, (part, sub_keys), Order::Ascending, |key, value| {
            found = Some((key.to_vec(), value.to_vec()));
            ControlFlow::Break(())
        })?;
        Ok(vec![found.unwrap_or(last)])
    }
}

/// Returns bytes between two others: behind what both begin with, a number drawn between theirs.
fn between(first: &[u8], last: &[u8], chance: u64) -> Vec<u8> {
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    let number = |bytes: &[u8]| {
        let mut eight = [0; 8];
        let rest = &bytes[shared..];
        let length = rest.len().min(8);
        eight[..length].copy_from_slice(&rest[..length]);
        u64::from_le_bytes(eight).swap_bytes()
    };
    let (low, high) = (number(first), number(last));
    let drawn = match (high - low).checked_add(1) {
        Some(width) => low + chance % width,
        None => chance,
    };
    [&last[..shared], &drawn.swap_bytes().to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_drawn_place_lies_between(mut ends in any::<[Vec<u8>; 2]>(), chance in any::<u64>()) {
            ends.sort();
            let [first, last] = &ends;
            let place = between(first, last, chance);
            let cut = |bytes: &[u8]| {
                let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
                bytes.iter().copied().chain([0; 8]).take(shared + 8).collect::<Vec<u8>>()
            };
            prop_assert!(cut(first) <= place && place <= cut(last));
        }
    }
}
