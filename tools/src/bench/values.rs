//! What values are made of: their sizes and their bodies. Not their heads, which verify them.

use std::str::FromStr;

use ashlar_io::rng::Rng;

/// Largest value in bytes.
pub(crate) const BYTES_MAX: u32 = 64 << 20;
/// Bytes that bodies are cut from. Larger bodies repeat them, at a distance that LZ4 does not see.
const POOL_BYTES: usize = 1 << 20;
/// Within so many bytes a body is as compressible as it was asked to be.
const UNIT_BYTES: usize = 64;
/// Most sizes in a list.
const SIZES_MAX: usize = 64;
const ALLOWED: &str = "N, MIN-MAX, N:WEIGHT,N:WEIGHT,... or lognormal:MEDIAN:SIGMA[:MAX]";

/// How large values are, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sizes {
    /// All of one size.
    Fixed(u32),
    /// Every size from one to another, both among them, as often as every other.
    Uniform(u32, u32),
    /// Sizes, each with the sum of its weight and those before.
    Weighted(Vec<(u32, u64)>),
    /// Many small ones and a few large ones: the logarithm is normally distributed.
    LogNormal {
        /// Half of the values are smaller.
        median: u32,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
        /// No value is larger.
        max: u32,
    },
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("lognormal:") {
            return log_normal(rest);
        }
        if text.contains(':') {
            return weighted(text);
        }
        match text.split_once('-') {
            None => Ok(Self::Fixed(size(text)?)),
            Some((min, max)) => match (size(min)?, size(max)?) {
                (min, max) if min <= max => Ok(Self::Uniform(min, max)),
                _ => Err(format!("{text}: the smallest size is above the largest")),
            },
        }
    }
}

fn size(text: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| *size <= BYTES_MAX);
    size.ok_or_else(|| {
        format!("{text} is no size; allowed is {ALLOWED}, each size 0 to {BYTES_MAX}")
    })
}

fn weighted(text: &str) -> Result<Sizes, String> {
    let mut sum = 0;
    let mut sizes = Vec::new();
    for part in text.split(',') {
        let (bytes, weight) = part.split_once(':').unwrap_or((part, "1"));
        let weight: u32 = weight
            .parse()
            .ok()
            .filter(|weight| *weight > 0)
            .ok_or_else(|| {
                format!(
                    "{part}: the weight is {weight}; allowed is 1 to {}",
                    u32::MAX
                )
            })?;
        sum += u64::from(weight);
        sizes.push((size(bytes)?, sum));
    }
    match sizes.len() <= SIZES_MAX {
        true => Ok(Sizes::Weighted(sizes)),
        false => Err(format!("{} sizes; allowed are {SIZES_MAX}", sizes.len())),
    }
}

fn log_normal(text: &str) -> Result<Sizes, String> {
    let words: Vec<&str> = text.split(':').collect();
    let (median, sigma, max) = match words[..] {
        [median, sigma] => (median, sigma, "1048576"),
        [median, sigma, max] => (median, sigma, max),
        _ => return Err(format!("lognormal:{text}; allowed is {ALLOWED}")),
    };
    let deviation = sigma
        .parse()
        .ok()
        .filter(|sigma| (0.01..=5.0).contains(sigma));
    Ok(Sizes::LogNormal {
        median: size(median)?,
        sigma: deviation.ok_or_else(|| format!("SIGMA is {sigma}; allowed is 0.01 to 5"))?,
        max: size(max)?,
    })
}

impl Sizes {
    /// Draws a size.
    pub(crate) fn draw(&self, rng: &mut Rng) -> usize {
        let bytes = match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform(min, max) => {
                let span = u64::from(max - min) + 1;
                min + u32::try_from(rng.below(span)).expect("at most the largest size")
            }
            Self::Weighted(sizes) => {
                let sum = sizes.last().map_or(1, |(_, sum)| *sum);
                let at = rng.below(sum);
                sizes[sizes.partition_point(|(_, sum)| *sum <= at)].0
            }
            Self::LogNormal { median, sigma, max } => {
                log_normal_size(*median, *sigma, rng).min(*max)
            }
        };
        bytes as usize
    }

    /// Returns the largest size that is drawn.
    pub(crate) fn largest(&self) -> usize {
        let bytes = match self {
            Self::Fixed(bytes) | Self::Uniform(_, bytes) => *bytes,
            Self::Weighted(sizes) => sizes.iter().map(|(bytes, _)| *bytes).max().unwrap_or(0),
            Self::LogNormal { max, .. } => *max,
        };
        bytes as usize
    }

    /// Returns the smallest size that is drawn.
    pub(crate) fn smallest(&self) -> usize {
        let bytes = match self {
            Self::Fixed(bytes) | Self::Uniform(bytes, _) => *bytes,
            Self::Weighted(sizes) => sizes.iter().map(|(bytes, _)| *bytes).min().unwrap_or(0),
            Self::LogNormal { .. } => 0,
        };
        bytes as usize
    }

    /// Returns them in words.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Fixed(bytes) => format!("{bytes} bytes"),
            Self::Uniform(min, max) => format!("{min} to {max} bytes"),
            Self::Weighted(sizes) => {
                format!("{} sizes up to {} bytes", sizes.len(), self.largest())
            }
            Self::LogNormal { median, sigma, max } => {
                format!("lognormal around {median} bytes, sigma {sigma}, at most {max}")
            }
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float-to-integer cast saturates, and a size is not negative"
)]
fn log_normal_size(median: u32, sigma: f64, rng: &mut Rng) -> u32 {
    // Box and Muller's transformation; `1 - unit` is never zero.
    let radius = (-2.0 * (1.0 - rng.unit()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.unit()).cos();
    (f64::from(median) * (sigma * normal).exp()) as u32
}

/// Bodies of values, all cut from the same bytes.
#[derive(Debug)]
pub(crate) struct Bodies {
    pool: Vec<u8>,
}

impl Bodies {
    /// Makes bodies of which a compressor can remove `compressible` (0 to 1).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of 64"
    )]
    pub(crate) fn new(compressible: f64, seed: u64) -> Self {
        let mut pool = vec![b'.'; POOL_BYTES];
        let mut rng = Rng::new(seed);
        let random =
            UNIT_BYTES - ((UNIT_BYTES as f64 * compressible).round() as usize).min(UNIT_BYTES);
        for unit in pool.chunks_mut(UNIT_BYTES) {
            rng.fill(&mut unit[..random]);
        }
        Self { pool }
    }

    /// Appends a body of `bytes` bytes.
    pub(crate) fn append(&self, mut bytes: usize, rng: &mut Rng, out: &mut Vec<u8>) {
        let mut from = rng.index(POOL_BYTES / UNIT_BYTES) * UNIT_BYTES;
        while bytes > 0 {
            let piece = bytes.min(POOL_BYTES - from);
            out.extend_from_slice(&self.pool[from..from + piece]);
            (bytes, from) = (bytes - piece, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(sizes: &str, count: u32) -> Vec<usize> {
        let sizes: Sizes = sizes.parse().unwrap();
        let mut rng = Rng::new(11);
        (0..count).map(|_| sizes.draw(&mut rng)).collect()
    }

    #[test]
    fn sizes_are_drawn_as_they_were_asked_for() {
        assert!(draw("7", 10).iter().all(|bytes| *bytes == 7));
        let uniform = draw("10-19", 10_000);
        for bytes in 10..20 {
            let count = uniform.iter().filter(|found| **found == bytes).count();
            assert!((850..1_150).contains(&count), "{bytes}: {count}");
        }
        let list = draw("100:9,1000:1", 10_000);
        let large = list.iter().filter(|bytes| **bytes == 1_000).count();
        assert!((900..1_100).contains(&large), "{large}");
        assert!(list.iter().all(|bytes| [100, 1_000].contains(bytes)));
    }

    #[test]
    fn the_logarithm_of_lognormal_sizes_is_normal() {
        let sizes = draw("lognormal:1000:0.5:1000000", 20_000);
        let logs: Vec<f64> = sizes.iter().map(|bytes| (*bytes as f64).ln()).collect();
        let mean = logs.iter().sum::<f64>() / logs.len() as f64;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / logs.len() as f64;
        assert!((mean - 1_000_f64.ln()).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() - 0.5).abs() < 0.02, "{variance}");
        assert!(
            draw("lognormal:1000:5:2000", 1_000)
                .iter()
                .all(|bytes| *bytes <= 2_000)
        );
    }

    #[test]
    fn wrong_sizes_are_told_what_is_allowed() {
        for text in [
            "",
            "x",
            "-1",
            "9-1",
            "1:0",
            "1:x",
            "67108865",
            "lognormal:1",
            "lognormal:1:9",
        ] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
        assert!("x".parse::<Sizes>().unwrap_err().contains("MIN-MAX"));
    }

    #[test]
    fn bodies_have_their_size_and_share_of_repetition() {
        let mut rng = Rng::new(2);
        for share in [0.0, 0.25, 0.5, 1.0] {
            let (bodies, mut out) = (Bodies::new(share, 1), Vec::new());
            bodies.append(3 * POOL_BYTES + 5, &mut rng, &mut out);
            assert_eq!(out.len(), 3 * POOL_BYTES + 5);
            let same = out.windows(2).filter(|pair| pair[0] == pair[1]).count();
            let found = same as f64 / out.len() as f64;
            assert!((found - share).abs() < 0.03, "{share}: {found}");
        }
    }
}
