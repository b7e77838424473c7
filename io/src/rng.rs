//! Seeded random numbers: xoshiro256** seeded by splitmix64. The simulator and the load tools draw
//! from it. Not for secrets: whoever sees a few outputs knows the rest.
//!
//! Invariants:
//! 1. The same seed gives the same numbers on every machine, for all but [`Rng::exponential`],
//!    which depends on the platform's logarithm.
//! 2. A fork depends on the state of its origin and on its name alone, and forking changes nothing
//!    in the origin.

use std::ops::Range;

/// A stream of pseudo-random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rng {
    state: [u64; 4],
}

/// Advances `state` and returns the next number of the splitmix64 sequence.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Rng {
    /// Makes the stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self {
            state: std::array::from_fn(|_| splitmix(&mut state)),
        }
    }

    /// Returns the next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Returns a number in `0..n`. The bias is below `n / 2^64`.
    ///
    /// # Panics
    /// When `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "no number is below zero");
        let wide = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(wide >> 64).expect("the high half of a 128-bit number has 64 bits")
    }

    /// Returns a number in `range`.
    ///
    /// # Panics
    /// When `range` is empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        assert!(range.start < range.end, "range {range:?} is empty");
        range.start + self.below(range.end - range.start)
    }

    /// Returns an index into something of `len` elements.
    ///
    /// # Panics
    /// When `len` is zero.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("it is below a usize")
    }

    /// Returns a number in `0.0..1.0`.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Says yes with probability `p`. At 0 or below it draws nothing, so that a switched-off choice
    /// is free.
    pub fn chance(&mut self, p: f64) -> bool {
        p > 0.0 && self.unit() < p
    }

    /// Says yes half of the time.
    pub fn coin(&mut self) -> bool {
        self.next_u64() >> 63 == 1
    }

    /// Returns an exponentially distributed number of the given mean, at most 37 times the mean.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float-to-integer cast saturates, and -ln(1 - u) is not negative"
    )]
    pub fn exponential(&mut self, mean: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean as f64) as u64
    }

    /// Fills `bytes` with random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let random = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&random[..chunk.len()]);
        }
    }

    /// Makes an independent stream, told apart by `name`.
    #[must_use]
    pub fn fork(&self, name: &str) -> Self {
        let origin = self
            .state
            .iter()
            .fold(0, |hash: u64, word| (hash ^ word).rotate_left(23));
        let hash = name
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325 ^ origin, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
            });
        Self::new(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_numbers_of_splitmix_are_those_of_the_reference() {
        let mut state = 1_234_567;
        assert_eq!(splitmix(&mut state), 6_457_827_717_110_365_317);
        assert_eq!(splitmix(&mut state), 3_203_168_211_198_807_973);
    }

    #[test]
    fn xoshiro_follows_the_reference_from_a_known_state() {
        let mut rng = Rng {
            state: [1, 2, 3, 4],
        };
        let first: Vec<u64> = (0..4).map(|_| rng.next_u64()).collect();
        assert_eq!(first, [11_520, 0, 1_509_978_240, 1_215_971_899_390_074_240]);
    }

    #[test]
    fn forks_differ_by_name_and_do_not_disturb_their_origin() {
        let rng = Rng::new(7);
        let before = rng.clone();
        let (mut disk, mut net) = (rng.fork("disk"), rng.fork("net"));
        assert_eq!(rng, before);
        assert_eq!(disk, rng.fork("disk"));
        assert_ne!(disk.next_u64(), net.next_u64());
    }

    #[test]
    fn numbers_stay_in_range_and_reach_every_value() {
        let mut rng = Rng::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..10_000 {
            seen[rng.index(10)] += 1;
            assert!((5..8).contains(&rng.range(5..8)));
        }
        assert!(seen.iter().all(|&n| (800..1_200).contains(&n)), "{seen:?}");
    }

    #[test]
    fn chance_and_exponential_keep_their_mean() {
        let mut rng = Rng::new(2);
        let hits = (0..100_000).filter(|_| rng.chance(0.25)).count();
        assert!((24_000..26_000).contains(&hits), "{hits}");
        let sum: u64 = (0..100_000).map(|_| rng.exponential(1_000)).sum();
        assert!((97_000_000..103_000_000).contains(&sum), "{sum}");
        assert!(!rng.chance(0.0));
    }

    #[test]
    fn fill_reaches_the_last_byte() {
        let mut bytes = [0_u8; 1_001];
        Rng::new(3).fill(&mut bytes);
        assert!(bytes[993..].iter().any(|&b| b != 0));
    }
}
