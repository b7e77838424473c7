//! Which key an operation is for: the distributions over the keys that there are, and the names of keys. Not what is
//! done with it.
//!
//! Keys are numbers from zero. Their names are a prefix and the number in decimal digits, filled up with zeros, so that
//! their order is that of the numbers; with the defaults they are those of redis-benchmark, and either tool reads what
//! the other wrote.

use std::str::FromStr;

use ashlar_io::rng::Rng;

use super::zipf::Zipf;

/// Most keys: as many as fit into the twelve digits of the shortest names.
pub(crate) const KEYS_MAX: u64 = 10_u64.pow(12);
/// Exponent of Zipf's law when none is given, that of YCSB.
const THETA: f64 = 0.99;
/// What a distribution may be, for messages.
const ALLOWED: &str = "uniform, zipfian[:THETA], latest[:THETA], hotspot[:KEYS%:OPS%], sequential";

/// How keys are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// Each as often as every other.
    Uniform,
    /// By Zipf's law, the frequent ones scattered over all keys.
    Zipfian(f64),
    /// By Zipf's law, the newest most often.
    Latest(f64),
    /// The first share of the keys gets a share of the operations; both of one.
    Hotspot(f64, f64),
    /// One after the other, from the first again after the last.
    Sequential,
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let (name, rest) = (words.next().unwrap_or(""), words.collect::<Vec<_>>());
        let wrong = || format!("{text} is not one of {ALLOWED}");
        match (name, rest.as_slice()) {
            ("uniform", []) => Ok(Self::Uniform),
            ("sequential", []) => Ok(Self::Sequential),
            ("zipfian", []) => Ok(Self::Zipfian(THETA)),
            ("latest", []) => Ok(Self::Latest(THETA)),
            ("hotspot", []) => Ok(Self::Hotspot(0.2, 0.8)),
            ("zipfian", [theta]) => Ok(Self::Zipfian(exponent(theta)?)),
            ("latest", [theta]) => Ok(Self::Latest(exponent(theta)?)),
            ("hotspot", [keys, ops]) => Ok(Self::Hotspot(percent(keys)?, percent(ops)?)),
            _ => Err(wrong()),
        }
    }
}

impl Distribution {
    /// Returns it in words.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Uniform => "uniform".to_owned(),
            Self::Zipfian(theta) => format!("zipfian {theta}"),
            Self::Latest(theta) => format!("latest {theta}"),
            Self::Hotspot(keys, ops) => {
                format!(
                    "hotspot {:.0} % of keys, {:.0} % of operations",
                    keys * 100.0,
                    ops * 100.0
                )
            }
            Self::Sequential => "sequential".to_owned(),
        }
    }
}

fn exponent(text: &str) -> Result<f64, String> {
    let theta = text
        .parse()
        .ok()
        .filter(|theta| (0.01..=10.0).contains(theta));
    theta.ok_or_else(|| format!("THETA is {text}; allowed is 0.01 to 10"))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let number = number.filter(|percent| (0.0..=100.0).contains(percent) && *percent > 0.0);
    number
        .map(|percent: f64| percent / 100.0)
        .ok_or_else(|| format!("a share of {text} %; allowed is above 0 to 100"))
}

/// Chooses keys of a growing set.
#[derive(Clone, Debug)]
pub(crate) struct Chooser {
    distribution: Distribution,
    zipf: Zipf,
    scatter: Scatter,
    next: u64,
    /// How far the sequential order steps, so that several choosers share it.
    step: u64,
}

impl Chooser {
    /// Makes the chooser number `index` of `of`, over `keys` keys at first.
    pub(crate) fn new(distribution: Distribution, keys: u64, (index, of): (u64, u64)) -> Self {
        let theta = match distribution {
            Distribution::Zipfian(theta) | Distribution::Latest(theta) => theta,
            _ => THETA,
        };
        Self {
            distribution,
            zipf: Zipf::new(theta, keys),
            scatter: Scatter::new(keys),
            next: index % keys,
            step: of,
        }
    }

    /// Chooses one of the keys below `keys`, which only grows.
    pub(crate) fn choose(&mut self, keys: u64, rng: &mut Rng) -> u64 {
        match self.distribution {
            Distribution::Uniform => rng.below(keys),
            // Frequent keys stay where they are while others come.
            Distribution::Zipfian(_) => self.scatter.place(self.zipf.draw(rng)),
            Distribution::Latest(_) => {
                self.zipf.grow(keys);
                keys - 1 - self.zipf.draw(rng)
            }
            Distribution::Hotspot(hot_keys, hot_ops) => hotspot(keys, (hot_keys, hot_ops), rng),
            Distribution::Sequential => {
                let key = self.next % keys;
                self.next = (self.next + self.step) % keys;
                key
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of the keys, kept within them"
)]
fn hotspot(keys: u64, (hot_keys, hot_ops): (f64, f64), rng: &mut Rng) -> u64 {
    let hot = ((keys as f64 * hot_keys) as u64).clamp(1, keys);
    match hot == keys || rng.chance(hot_ops) {
        true => rng.below(hot),
        false => rng.range(hot..keys),
    }
}

/// Scatters ranks over keys, each to a key of its own: multiplication by a number that has no factor in common with the
/// number of keys, near its golden section.
#[derive(Clone, Copy, Debug)]
struct Scatter {
    keys: u64,
    factor: u64,
}

impl Scatter {
    fn new(keys: u64) -> Self {
        let golden = (u128::from(keys) * 0x9E37_79B9_7F4A_7C15) >> 64;
        let mut factor = u64::try_from(golden)
            .expect("it is below the number of keys")
            .max(1);
        while common_factor(factor, keys) > 1 {
            factor += 1;
        }
        Self { keys, factor }
    }

    fn place(self, rank: u64) -> u64 {
        let wide = (u128::from(rank) + 1) * u128::from(self.factor) % u128::from(self.keys);
        u64::try_from(wide).expect("it is below the number of keys")
    }
}

fn common_factor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        _ => common_factor(b, a % b),
    }
}

/// How keys are called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: Vec<u8>,
    digits: usize,
}

impl Names {
    /// Makes names of `bytes` bytes in all with a prefix.
    ///
    /// # Errors
    /// One line: the name has no room for the digits of `keys` keys.
    pub(crate) fn new(prefix: &str, bytes: usize, keys: u64) -> Result<Self, String> {
        let digits_min = keys.saturating_sub(1).max(1).to_string().len();
        match bytes.checked_sub(prefix.len()) {
            Some(digits) if digits >= digits_min => Ok(Self {
                prefix: prefix.as_bytes().to_vec(),
                digits,
            }),
            _ => Err(format!(
                "--key-bytes {bytes} leaves no room for the digits of {keys} keys behind the prefix {prefix:?}; \
                 at least {} are needed",
                prefix.len() + digits_min
            )),
        }
    }

    /// Returns the size of a name in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.prefix.len() + self.digits
    }

    /// Returns the number of the key that has a name, if one of these names it is.
    pub(crate) fn number(&self, name: &[u8]) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix.as_slice())?;
        let digits = std::str::from_utf8(digits).ok()?;
        digits.parse().ok().filter(|_| digits.len() == self.digits)
    }

    /// Appends the name of a key.
    pub(crate) fn append(&self, mut key: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        let from = out.len();
        out.resize(from + self.digits, b'0');
        for digit in out[from..].iter_mut().rev() {
            if key == 0 {
                break;
            }
            *digit = b'0' + u8::try_from(key % 10).expect("a digit");
            key /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(distribution: &str, keys: u64, draws: u32) -> Vec<u32> {
        let mut chooser = Chooser::new(distribution.parse().unwrap(), keys, (0, 1));
        let mut rng = Rng::new(3);
        let mut counts = vec![0; usize::try_from(keys).unwrap()];
        for _ in 0..draws {
            let key = usize::try_from(chooser.choose(keys, &mut rng)).unwrap();
            counts[key] += 1;
        }
        counts
    }

    #[test]
    fn uniform_keys_are_chosen_evenly() {
        let expected = 2_000.0;
        let chi: f64 = counts("uniform", 100, 200_000)
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        assert!(chi < 161.0, "{chi}");
    }

    #[test]
    fn scattered_ranks_keep_their_shares_and_reach_every_key() {
        for keys in [1, 2, 97, 1_000, 4_096] {
            let scatter = Scatter::new(keys);
            let mut places: Vec<u64> = (0..keys).map(|rank| scatter.place(rank)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..keys), "{keys} keys");
        }
        let counts = counts("zipfian:0.99", 1_000, 200_000);
        let mut sorted = counts.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let zeta: f64 = (1..=1_000).map(|k| f64::from(k).powf(-0.99)).sum();
        let first = f64::from(sorted[0]) / 200_000.0 * zeta;
        assert!((0.97..1.03).contains(&first), "{first}");
        // The two most frequent keys are no neighbours.
        let place = |count| counts.iter().position(|found| *found == count).unwrap();
        assert!(place(sorted[0]).abs_diff(place(sorted[1])) > 100);
    }

    #[test]
    fn the_latest_keys_move_as_keys_are_added() {
        let mut chooser = Chooser::new(Distribution::Latest(0.99), 10, (0, 1));
        let mut rng = Rng::new(5);
        let mut newest = |keys| {
            let chosen = (0..1_000).filter(|_| chooser.choose(keys, &mut rng) == keys - 1);
            chosen.count()
        };
        // A share of 1 / (1 + 2^-0.99 + ... + n^-0.99): 34 % of 10, 19 % of 100.
        assert!((280..400).contains(&newest(10)));
        assert!((140..250).contains(&newest(100)));
    }

    #[test]
    fn a_hotspot_gets_its_share() {
        let counts = counts("hotspot:10%:90%", 1_000, 100_000);
        let hot: u32 = counts[..100].iter().sum();
        assert!((89_400..90_600).contains(&hot), "{hot}");
    }

    #[test]
    fn sequential_choosers_share_the_keys() {
        let mut rng = Rng::new(1);
        let mut seen = Vec::new();
        for index in 0..2 {
            let mut chooser = Chooser::new(Distribution::Sequential, 6, (index, 2));
            seen.extend((0..3).map(|_| chooser.choose(6, &mut rng)));
        }
        assert_eq!(seen, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn wrong_distributions_are_told_what_is_allowed() {
        for text in [
            "",
            "zipf",
            "zipfian:0",
            "zipfian:x",
            "zipfian:1:2",
            "hotspot:1",
            "uniform:1",
        ] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
        let line = "zipf".parse::<Distribution>().unwrap_err();
        assert!(line.contains("zipfian[:THETA]"), "{line}");
        assert!(
            "hotspot:0:50"
                .parse::<Distribution>()
                .unwrap_err()
                .contains("above 0 to 100")
        );
    }

    #[test]
    fn names_have_the_size_that_was_asked_for() {
        let names = Names::new("key:", 16, KEYS_MAX).unwrap();
        let mut out = Vec::new();
        names.append(42, &mut out);
        names.append(KEYS_MAX - 1, &mut out);
        assert_eq!(out, b"key:000000000042key:999999999999");
        assert_eq!(names.number(&out[..16]), Some(42));
        assert_eq!(names.number(b"key:42"), None);
        assert_eq!(names.number(b"kez:000000000042"), None);
        assert!(
            Names::new("key:", 6, 101)
                .unwrap_err()
                .contains("at least 7")
        );
        assert_eq!(Names::new("", 1, 10).unwrap().bytes(), 1);
    }
}
