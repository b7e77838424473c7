//! Ranks that follow Zipf's law: rank `k` of `1..=n` is drawn with a probability proportional to `k^-theta`. Not which
//! key has which rank.
//!
//! Source: W. Hörmann and G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", ACM TOMACS 6(3), 1996. It draws exactly, for every exponent, without a table or a sum over all
//! ranks, so the number of ranks may grow while it is used.

use ashlar_io::rng::Rng;

/// Ranks of a law with a fixed exponent; the number of ranks may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Zipf {
    theta: f64,
    /// Ranks.
    n: u64,
    /// The integral of the density up to half before the first rank, less the first rank's share.
    low: f64,
    /// The integral up to half behind the last rank.
    high: f64,
    /// Below this distance a candidate is taken without another look.
    near: f64,
}

impl Zipf {
    /// Makes the law for `n` ranks, at least one, with an exponent above zero.
    #[expect(
        clippy::cast_precision_loss,
        reason = "ranks beyond 2^53 are drawn with a grain of two"
    )]
    pub(crate) fn new(theta: f64, n: u64) -> Self {
        assert!(n > 0, "there is a first rank");
        assert!(theta > 0.0, "without an exponent it is not Zipf's law");
        Self {
            theta,
            n,
            low: integral(theta, 1.5) - 1.0,
            high: integral(theta, n as f64 + 0.5),
            near: 2.0 - inverse(theta, integral(theta, 2.5) - density(theta, 2.0)),
        }
    }

    /// Makes it a law of `n` ranks, when it is not one already.
    pub(crate) fn grow(&mut self, n: u64) {
        if n != self.n {
            *self = Self::new(self.theta, n);
        }
    }

    /// Draws a rank, counted from zero.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank lies between one and n"
    )]
    pub(crate) fn draw(&self, rng: &mut Rng) -> u64 {
        loop {
            let u = self.high + rng.unit() * (self.low - self.high);
            let x = inverse(self.theta, u);
            let rank = ((x + 0.5) as u64).clamp(1, self.n);
            let k = rank as f64;
            if k - x <= self.near || u >= integral(self.theta, k + 0.5) - density(self.theta, k) {
                return rank - 1;
            }
        }
    }
}

fn density(theta: f64, x: f64) -> f64 {
    (-theta * x.ln()).exp()
}

/// The integral of the density from 1 to `x`.
fn integral(theta: f64, x: f64) -> f64 {
    let log = x.ln();
    expm1_over((1.0 - theta) * log) * log
}

/// The `x` whose integral is `u`.
fn inverse(theta: f64, u: f64) -> f64 {
    let t = (u * (1.0 - theta)).max(-1.0);
    (log1p_over(t) * u).exp()
}

/// `(e^x - 1) / x`, also near zero.
fn expm1_over(x: f64) -> f64 {
    match x.abs() > 1e-8 {
        true => x.exp_m1() / x,
        false => 1.0 + x / 2.0 * (1.0 + x / 3.0),
    }
}

/// `ln(1 + x) / x`, also near zero.
fn log1p_over(x: f64) -> f64 {
    match x.abs() > 1e-8 {
        true => x.ln_1p() / x,
        false => 1.0 - x * (0.5 - x / 3.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often each of the ranks is drawn, and compares with the law by chi-square.
    fn chi_square(theta: f64, n: u64, draws: u32) -> f64 {
        let (zipf, mut rng) = (Zipf::new(theta, n), Rng::new(7));
        let mut counts = vec![0_u32; usize::try_from(n).unwrap()];
        for _ in 0..draws {
            counts[usize::try_from(zipf.draw(&mut rng)).unwrap()] += 1;
        }
        let weight = |rank: usize| (rank as f64 + 1.0).powf(-theta);
        let sum: f64 = (0..counts.len()).map(weight).sum();
        let term = |(rank, count): (usize, &u32)| {
            let expected = f64::from(draws) * weight(rank) / sum;
            (f64::from(*count) - expected).powi(2) / expected
        };
        counts.iter().enumerate().map(term).sum()
    }

    #[test]
    fn ranks_follow_the_law_for_every_kind_of_exponent() {
        // 99 degrees of freedom: one in ten thousand is above 161.
        for theta in [0.2, 0.5, 0.99, 1.0, 1.3, 2.0] {
            let found = chi_square(theta, 100, 200_000);
            assert!(found < 161.0, "theta {theta}: {found}");
        }
    }

    #[test]
    fn the_first_of_a_million_has_the_share_that_theory_says() {
        let (zipf, mut rng) = (Zipf::new(0.99, 1_000_000), Rng::new(1));
        let draws = 400_000;
        let firsts = (0..draws).filter(|_| zipf.draw(&mut rng) == 0).count();
        let zeta: f64 = (1..=1_000_000).map(|k| f64::from(k).powf(-0.99)).sum();
        let ratio = firsts as f64 / f64::from(draws) * zeta;
        assert!((0.98..1.02).contains(&ratio), "{ratio}");
    }

    #[test]
    fn one_rank_is_drawn_always_and_more_as_it_grows() {
        let (mut zipf, mut rng) = (Zipf::new(0.99, 1), Rng::new(1));
        assert!((0..100).all(|_| zipf.draw(&mut rng) == 0));
        zipf.grow(3);
        let mut seen = [false; 3];
        for _ in 0..200 {
            let rank = usize::try_from(zipf.draw(&mut rng)).unwrap();
            seen[rank] = true;
        }
        assert_eq!(seen, [true; 3]);
    }
}
