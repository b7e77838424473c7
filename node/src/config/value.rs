//! Values that a knob can have, from text and back: sizes, CPU lists, durability. Bounds are not
//! known here.
//!
//! Invariant: what `show_*` or `Display` prints, the parser of the same kind reads back to the same
//! value.

use std::fmt;

use ashlar_io::clock::{Choice, Source};

/// Largest CPU number that the kernel's affinity mask can hold here.
const CPU_MAX: u32 = 1023;

/// CPUs that shards are pinned to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpus {
    /// Every CPU that the process may run on.
    All,
    /// These CPUs, ascending and without repetition.
    List(Vec<u32>),
}

/// How a write to the log is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The faster of the next two, measured on the device at start.
    Auto,
    /// Each write carries `RWF_DSYNC`.
    Dsync,
    /// Each write is followed by `fdatasync`.
    Fdatasync,
    /// Nothing is forced to the device; a power cut loses acknowledged writes.
    None,
}

/// How runs of tables are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// Several runs per level above one bottom run: least writing.
    LazyLeveled,
    /// One run per level: fewer runs to scan, twice the writing.
    Leveled,
}

impl Compaction {
    /// Every way, in the order of the documentation.
    pub const EVERY: [Self; 2] = [Self::LazyLeveled, Self::Leveled];

    /// Returns the word for this way in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::LazyLeveled => "lazy",
            Self::Leveled => "leveled",
        }
    }

    /// Returns the way that `word` names.
    pub(crate) fn parse(word: &str) -> Result<Self, Unreadable> {
        let mut every = Self::EVERY.into_iter();
        every.find(|way| way.word() == word).ok_or(Unreadable)
    }
}

/// Whether replies of writes wait for the clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitWait {
    /// No.
    #[default]
    Off,
    /// Where a bound of the clock's error is known.
    On,
    /// Always: without a bound writes are refused.
    Strict,
}

impl CommitWait {
    /// Every way, in the order of the documentation.
    pub const EVERY: [Self; 3] = [Self::Off, Self::On, Self::Strict];

    /// Returns the word for this way in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Strict => "strict",
        }
    }

    /// Returns the way that `word` names.
    pub(crate) fn parse(word: &str) -> Result<Self, Unreadable> {
        let mut every = Self::EVERY.into_iter();
        every.find(|way| way.word() == word).ok_or(Unreadable)
    }
}

/// Who is asked how far the clock may be off, in the order of the documentation.
pub(super) const CLOCK_CHOICES: [Choice; 7] = [
    Choice::Auto,
    Choice::Only(Source::ClockBound),
    Choice::Only(Source::Chrony),
    Choice::Only(Source::Ptp),
    Choice::Only(Source::Kernel),
    Choice::Only(Source::Static),
    Choice::None,
];

/// Returns the word for a choice in the configuration file.
pub(super) fn clock_word(choice: Choice) -> &'static str {
    match choice {
        Choice::Auto => "auto",
        Choice::Only(source) => source.word(),
        Choice::None => "none",
    }
}

/// Returns the choice that `word` names.
pub(super) fn parse_clock(word: &str) -> Result<Choice, Unreadable> {
    let mut every = CLOCK_CHOICES.into_iter();
    every
        .find(|choice| clock_word(*choice) == word)
        .ok_or(Unreadable)
}

/// A value that cannot be read; the caller knows the key and says what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be read")]
pub struct Unreadable;

impl Durability {
    /// Every method, in the order of the documentation.
    pub const EVERY: [Self; 4] = [Self::Auto, Self::Dsync, Self::Fdatasync, Self::None];

    /// Returns the word for this method in the configuration file.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Dsync => "dsync",
            Self::Fdatasync => "fdatasync",
            Self::None => "none",
        }
    }

    /// Returns the method that `word` names.
    pub(crate) fn parse(word: &str) -> Result<Self, Unreadable> {
        Self::EVERY
            .into_iter()
            .find(|method| method.word() == word)
            .ok_or(Unreadable)
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::List(list) = self else {
            return out.write_str("all");
        };
        let mut rest = list.as_slice();
        let mut separator = "";
        while let [first, ..] = rest {
            let run = rest
                .iter()
                .zip(*first..)
                .take_while(|(cpu, expected)| *cpu == expected);
            let length = run.count();
            let last = rest[length - 1];
            match length {
                1 => write!(out, "{separator}{first}")?,
                _ => write!(out, "{separator}{first}-{last}")?,
            }
            separator = ",";
            rest = &rest[length..];
        }
        Ok(())
    }
}

/// Units of sizes; the longest suffix comes first, so that "B" does not shadow "KiB".
const UNITS: [(&str, u64); 9] = [
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// Returns the number of bytes that `text` means: an integer alone, or with B, KB, MB, GB, TB
/// (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024), in any case.
///
/// # Errors
/// The text is no such size, or larger than 64 bits. A bare `k` or `m` is refused, because programs
/// disagree on it.
pub fn parse_size(text: &str) -> Result<u64, Unreadable> {
    let text = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find(|(suffix, _)| text.ends_with(suffix));
    let (digits, factor) = match unit {
        Some((suffix, factor)) => (&text[..text.len() - suffix.len()], *factor),
        None => (text.as_str(), 1),
    };
    let count = parse_digits(digits.trim_end())?;
    count.checked_mul(factor).ok_or(Unreadable)
}

/// Returns `bytes` in the largest binary unit that divides it.
pub(crate) fn show_size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let fitting = units
        .iter()
        .find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    match fitting {
        Some((unit, shift)) => format!("{} {unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Returns the CPUs that `text` names: `all`, or numbers and ranges as in `0-3,6`.
///
/// # Errors
/// An empty list, a range that runs backwards, a CPU named twice, or a number above 1023.
pub fn parse_cpus(text: &str) -> Result<Cpus, Unreadable> {
    if text.trim() == "all" {
        return Ok(Cpus::All);
    }
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first)?, parse_cpu(last)?);
        if first > last {
            return Err(Unreadable);
        }
        list.extend(first..=last);
    }
    list.sort_unstable();
    match list.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(Unreadable),
        false => Ok(Cpus::List(list)),
    }
}

/// Returns one CPU number.
fn parse_cpu(text: &str) -> Result<u32, Unreadable> {
    let cpu = u32::try_from(parse_digits(text.trim())?).map_err(|_| Unreadable)?;
    if cpu <= CPU_MAX {
        Ok(cpu)
    } else {
        Err(Unreadable)
    }
}

/// Returns an integer written in decimal digits alone; `str::parse` would accept a plus sign too.
pub(crate) fn parse_digits(text: &str) -> Result<u64, Unreadable> {
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().map_err(|_| Unreadable),
        false => Err(Unreadable),
    }
}

/// Returns `text` fit for one line of an error message: escaped, and cut after 80 characters.
pub(crate) fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 80;
    let mut line: String = text.escape_debug().take(CHARACTERS_MAX).collect();
    if text.escape_debug().nth(CHARACTERS_MAX).is_some() {
        line.push_str("...");
    }
    line
}
