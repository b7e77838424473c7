//! Keys and values of the workloads: those of db_bench, so that all engines are given the same.

/// Bytes of a key: a number of eight bytes, the most significant first, and eight zeros in ASCII.
pub(crate) const KEY_BYTES: usize = 16;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 100;
/// Bytes that values are cut from.
const POOL_BYTES: usize = 1 << 20;

/// How well values compress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Texture {
    /// To about a half, as those of db_bench.
    Half,
    /// Not at all.
    Random,
}

/// A stream of numbers. Source: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

/// Values, one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    pool: Vec<u8>,
    at: usize,
}

/// Spreads a number over all bits; no two numbers become the same.
pub(crate) fn mix(number: u64) -> u64 {
    let x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Returns the key of a number.
pub(crate) fn key(number: u64) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    // The order of the keys has to be that of the numbers, as it is in db_bench.
    for (at, byte) in key[..8].iter_mut().enumerate() {
        *byte = number.to_le_bytes()[7 - at];
    }
    key
}

impl Numbers {
    /// Begins a stream.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Returns the next number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns the next number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }
}

impl Values {
    /// Makes the pool that values are cut from.
    pub(crate) fn new(seed: u64, texture: Texture) -> Self {
        let mut numbers = Numbers::new(seed);
        let mut pool = Vec::with_capacity(POOL_BYTES);
        while pool.len() < POOL_BYTES {
            let piece: Vec<u8> = (0..VALUE_BYTES)
                .map(|_| 32 + numbers.draw().to_le_bytes()[0] % 95)
                .collect();
            match texture {
                Texture::Random => pool.extend((0..16).flat_map(|_| numbers.draw().to_le_bytes())),
                Texture::Half => {
                    let half = &piece[..VALUE_BYTES / 2];
                    pool.extend(half.iter().chain(half));
                }
            }
        }
        Self { pool, at: 0 }
    }

    /// Returns the next value.
    pub(crate) fn draw(&mut self) -> &[u8] {
        self.at = match self.at + VALUE_BYTES > self.pool.len() {
            true => 0,
            false => self.at,
        };
        let value = &self.pool[self.at..self.at + VALUE_BYTES];
        self.at += VALUE_BYTES;
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        assert!(key(255) < key(256) && key(1 << 40) < key(u64::MAX));
        assert_eq!(&key(258)[..], b"\0\0\0\0\0\0\x01\x0200000000");
    }

    #[test]
    fn values_go_on_for_ever() {
        let mut values = Values::new(1, Texture::Half);
        for _ in 0..2 * POOL_BYTES / VALUE_BYTES {
            let value = values.draw();
            assert_eq!(value[..50], value[50..]);
        }
    }
}
