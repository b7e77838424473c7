//! What is done how often: kinds of operations and their weights, the presets of YCSB, and commands of the user's own.
//! Not with which keys and values.

use std::str::FromStr;

use ashlar_io::rng::Rng;

use super::keys::Distribution;

/// Largest weight.
const WEIGHT_MAX: u32 = 1_000_000;
/// Most words of a command of the user's own.
const WORDS_MAX: usize = 1_000;

/// What an operation is, as a caller sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads a key.
    Get,
    /// Writes a key that is there.
    Set,
    /// Writes a key that is not there.
    Insert,
    /// Increases a counter.
    Incr,
    /// Removes a key.
    Del,
    /// Reads some keys in order.
    Scan,
    /// Reads a key, then writes it.
    Rmw,
    /// A command of the user's own.
    Custom,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub(crate) const EVERY: [Self; 8] = [
        Self::Get,
        Self::Set,
        Self::Insert,
        Self::Incr,
        Self::Del,
        Self::Scan,
        Self::Rmw,
        Self::Custom,
    ];
    const NAMES: [&str; 8] = [
        "get", "set", "insert", "incr", "del", "scan", "rmw", "custom",
    ];

    /// Returns the name in mixes and reports.
    pub(crate) fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// Returns the place among [`Kind::EVERY`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How often each kind is done, relative to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mix {
    weights: [u32; Kind::EVERY.len()],
    sum: u64,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut weights = [0; Kind::EVERY.len()];
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = Kind::EVERY.into_iter().find(|kind| kind.name() == name);
            let kind = kind.filter(|kind| *kind != Kind::Custom).ok_or_else(|| {
                format!("{part} is no part of a mix; allowed is KIND=WEIGHT,... of get, set, insert, incr, del, scan, rmw")
            })?;
            let weight = weight.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
            weights[kind.index()] = weight
                .ok_or_else(|| format!("{part}: allowed are weights of 0 to {WEIGHT_MAX}"))?;
        }
        let mix = Self::of(weights);
        match mix.sum {
            0 => Err(format!("{text}: at least one weight must be above 0")),
            _ => Ok(mix),
        }
    }
}

impl Mix {
    fn of(weights: [u32; Kind::EVERY.len()]) -> Self {
        let sum = weights.iter().map(|weight| u64::from(*weight)).sum();
        Self { weights, sum }
    }

    /// Makes a mix of one kind.
    pub(crate) fn only(kind: Kind) -> Self {
        let mut weights = [0; Kind::EVERY.len()];
        weights[kind.index()] = 1;
        Self::of(weights)
    }

    /// Tells whether a kind is in it.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.weights[kind.index()] > 0
    }

    /// Draws a kind.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Kind {
        let mut at = rng.below(self.sum);
        for (kind, weight) in Kind::EVERY.into_iter().zip(self.weights) {
            match at.checked_sub(u64::from(weight)) {
                None => return kind,
                Some(rest) => at = rest,
            }
        }
        unreachable!("what is drawn is below the sum of the weights")
    }

    /// Returns it in words.
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    pub(crate) fn name(&self) -> String {
        let parts = Kind::EVERY.into_iter().filter(|kind| self.has(*kind));
        let percent = |kind: Kind| 100.0 * f64::from(self.weights[kind.index()]) / self.sum as f64;
        let name =
            |kind: Kind| format!("{} {:.4} %", kind.name(), percent(kind)).replace(".0000", "");
        parts.map(name).collect::<Vec<_>>().join(", ")
    }
}

/// A workload of YCSB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Preset {
    /// Updates often: 50 % reads, 50 % writes
    A,
    /// Reads mostly: 95 % reads, 5 % writes
    B,
    /// Reads only
    C,
    /// Reads the latest: 95 % reads, 5 % inserts
    D,
    /// Short ranges: 95 % scans of 1 to 100 keys, 5 % inserts
    E,
    /// Read, modify, write: 50 % reads, 50 % of those
    F,
}

impl Preset {
    /// Returns its mix and its distribution of keys.
    pub(crate) fn workload(self) -> (Mix, Distribution) {
        let zipfian = Distribution::Zipfian(0.99);
        let (mix, distribution) = match self {
            Self::A => ("get=50,set=50", zipfian),
            Self::B => ("get=95,set=5", zipfian),
            Self::C => ("get=100", zipfian),
            Self::D => ("get=95,insert=5", Distribution::Latest(0.99)),
            Self::E => ("scan=95,insert=5", zipfian),
            Self::F => ("get=50,rmw=50", zipfian),
        };
        (mix.parse().expect("the presets are mixes"), distribution)
    }
}

/// A command of the user's own, with places for a key and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    words: Vec<Vec<Piece>>,
}

/// A piece of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes as they are.
    Text(Vec<u8>),
    /// The name of a key.
    Key,
    /// A value.
    Value,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<Vec<Piece>> = text.split_whitespace().map(pieces).collect();
        match words.len() {
            1..=WORDS_MAX => Ok(Self { words }),
            count => Err(format!(
                "a command of {count} words; allowed are 1 to {WORDS_MAX}, with __key__ and __value__ in them"
            )),
        }
    }
}

fn pieces(word: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while !rest.is_empty() {
        let places = [("__key__", Piece::Key), ("__value__", Piece::Value)];
        let found = places
            .into_iter()
            .filter_map(|(mark, piece)| rest.find(mark).map(|at| (at, mark.len(), piece)))
            .min_by_key(|(at, ..)| *at);
        let (at, length, piece) = match found {
            Some((at, length, piece)) => (at, length, Some(piece)),
            None => (rest.len(), 0, None),
        };
        if at > 0 {
            pieces.push(Piece::Text(rest.as_bytes()[..at].to_vec()));
        }
        pieces.extend(piece);
        rest = &rest[at + length..];
    }
    pieces
}

impl Template {
    /// Returns the words, each as its pieces.
    pub(crate) fn words(&self) -> &[Vec<Piece>] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_drawn_by_their_weights() {
        let mix: Mix = "get=70,set=20,scan=10,del=0".parse().unwrap();
        let (mut rng, mut counts) = (Rng::new(4), [0_u32; Kind::EVERY.len()]);
        (0..100_000).for_each(|_| counts[mix.draw(&mut rng).index()] += 1);
        let of = |kind: Kind| counts[kind.index()];
        assert!((69_400..70_600).contains(&of(Kind::Get)), "{counts:?}");
        assert!((19_500..20_500).contains(&of(Kind::Set)), "{counts:?}");
        assert_eq!(of(Kind::Del) + of(Kind::Custom) + of(Kind::Rmw), 0);
        assert_eq!(mix.name(), "get 70 %, set 20 %, scan 10 %");
    }

    #[test]
    fn wrong_mixes_are_told_what_is_allowed() {
        for text in [
            "",
            "put",
            "get=x",
            "get=-1",
            "get=0",
            "custom=1",
            "get=1000001",
        ] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
        assert!("put".parse::<Mix>().unwrap_err().contains("get, set"));
    }

    #[test]
    fn presets_are_those_of_ycsb() {
        let (mix, keys) = Preset::D.workload();
        assert_eq!(mix.name(), "get 95 %, insert 5 %");
        assert_eq!(keys, Distribution::Latest(0.99));
        assert!(Preset::F.workload().0.has(Kind::Rmw));
    }

    #[test]
    fn places_are_found_anywhere_in_a_word() {
        let template: Template = "SET a:__key__:b __value____key__ EX 10".parse().unwrap();
        let text = |text: &str| Piece::Text(text.as_bytes().to_vec());
        assert_eq!(template.words()[1], [text("a:"), Piece::Key, text(":b")]);
        assert_eq!(template.words()[2], [Piece::Value, Piece::Key]);
        assert_eq!(template.words()[4], [text("10")]);
        assert!("  ".parse::<Template>().is_err());
    }
}
