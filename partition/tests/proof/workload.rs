//! Random keys and requests, from a seed. Every kind of request with every condition comes up.

use ashlar_io::rng::Rng;
use ashlar_partition::{Condition, ExpireCondition, Expiry, Put, Request, Return};

/// What keys and values look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) databases: u64,
    pub(crate) keys_per_database: u64,
    /// Most bytes of a new value.
    pub(crate) value_bytes_max: u64,
}

impl Shape {
    /// Returns an internal key. A quarter of the choices fall on one hot key.
    pub(crate) fn key(&self, rng: &mut Rng) -> Vec<u8> {
        let database = u8::try_from(rng.below(self.databases)).unwrap();
        let number = if rng.chance(0.25) {
            0
        } else {
            rng.below(self.keys_per_database)
        };
        let mut key = vec![database];
        // Some keys are prefixes of others.
        key.extend_from_slice(&b"abcdefgh"[..usize::try_from(number % 9).unwrap()]);
        key.extend_from_slice(number.to_string().as_bytes());
        // The least key behind another one.
        if rng.chance(0.1) {
            key.push(0);
        }
        key
    }

    /// Returns bytes for a value: often a number, now and then none.
    pub(crate) fn value(&self, rng: &mut Rng) -> Vec<u8> {
        match rng.below(8) {
            0 => Vec::new(),
            1 | 2 => rng.below(1_000).to_string().into_bytes(),
            3 => i64::MAX.to_string().into_bytes(),
            _ => {
                let mut value = vec![0; usize::try_from(rng.below(self.value_bytes_max)).unwrap()];
                rng.fill(&mut value);
                value
            }
        }
    }
}

/// Returns a request; `value` is what it carries if it carries any.
pub(crate) fn request<'a>(rng: &mut Rng, now_ms: u64, value: &'a [u8]) -> Request<'a> {
    match rng.below(16) {
        0..=2 => Request::Get,
        3..=8 => Request::Put(put(rng, now_ms, value)),
        9 => Request::Delete,
        10 => Request::Take,
        11 => Request::Add([1, -1, 1_000_000, i64::MAX, i64::MIN][rng.index(5)]),
        12 => Request::Append(value),
        13 | 14 => Request::Expire {
            at_ms: some_time(rng, now_ms),
            condition: expire_condition(rng),
        },
        _ => Request::Persist,
    }
}

fn put<'a>(rng: &mut Rng, now_ms: u64, value: &'a [u8]) -> Put<'a> {
    Put {
        value,
        condition: [
            Condition::Always,
            Condition::Always,
            Condition::Absent,
            Condition::Present,
        ][rng.index(4)],
        expiry: match rng.below(4) {
            0 | 1 => Expiry::Never,
            2 => Expiry::Keep,
            _ => Expiry::At(some_time(rng, now_ms)),
        },
        returns: if rng.coin() {
            Return::Outcome
        } else {
            Return::Old
        },
    }
}

/// A moment: passed, now, or soon.
fn some_time(rng: &mut Rng, now_ms: u64) -> u64 {
    match rng.below(8) {
        0 => now_ms - rng.below(20),
        1 => rng.below(2),
        2 => now_ms + 1,
        _ => now_ms + rng.below(200),
    }
}

fn expire_condition(rng: &mut Rng) -> ExpireCondition {
    use ExpireCondition as C;
    [
        C::Always,
        C::Always,
        C::None,
        C::Some,
        C::Later,
        C::Earlier,
        C::SomeLater,
        C::SomeEarlier,
    ][rng.index(8)]
}
