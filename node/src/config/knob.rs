//! One knob: its key, kind, bounds, default and sentence, and the field of [`Config`] that it
//! moves.
//!
//! Invariant: [`Knob::assign`] is the only way to a field, and it assigns nothing that
//! [`Knob::allowed`] excludes.

use std::net::SocketAddr;
use std::path::PathBuf;

use ashlar_io::clock::Choice;

use super::Config;
use super::cluster::{
    Listed, NAME_BYTES_MAX, SECRET_BYTES_MAX, parse_listen, parse_name, parse_peers, parse_secret,
    show_peers,
};
use super::knobs::KNOBS;
use super::value::{
    CLOCK_CHOICES, CommitWait, Compaction, Cpus, Durability, Unreadable, clock_word, parse_clock,
    parse_cpus, parse_digits, parse_size, show_size,
};
use crate::pubsub::notice::Classes;

/// When a change of a knob takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// At once, by `CONFIG SET`.
    Running,
    /// After a restart.
    Restart,
}

/// What kind of TOML value a knob takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string.
    Text,
    /// An array of strings, or one string with commas.
    List,
    /// An integer of bytes, or a string with a unit.
    Size,
    /// An integer.
    Count,
    /// A number with a fraction.
    Ratio,
}

/// What a number must satisfy besides its bounds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Nothing.
    Any,
    /// It is a power of two.
    PowerOfTwo,
    /// It is a multiple of this.
    MultipleOf(u64),
    /// It is within the bounds, or 0, which means what is said here.
    OrZero(&'static str),
}

/// The field that a knob moves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field {
    /// A directory.
    Path(fn(&mut Config) -> &mut PathBuf),
    /// An address and port.
    Address(fn(&mut Config) -> &mut SocketAddr),
    /// An address and port, or nothing.
    Listen(fn(&mut Config) -> &mut Option<SocketAddr>),
    /// A name, or nothing.
    Name(fn(&mut Config) -> &mut String),
    /// A password, or nothing.
    Secret(fn(&mut Config) -> &mut String),
    /// Members of a cluster.
    Peers(fn(&mut Config) -> &mut Vec<Listed>),
    /// A set of CPUs.
    Cpus(fn(&mut Config) -> &mut Cpus),
    /// A way of compaction.
    Compaction(fn(&mut Config) -> &mut Compaction),
    /// Letters that name what subscribers are told.
    Events(fn(&mut Config) -> &mut Classes),
    /// A method of durability.
    Durability(fn(&mut Config) -> &mut Durability),
    /// Who is asked about the clock.
    Clock(fn(&mut Config) -> &mut Choice),
    /// Whether replies wait for the clock.
    Wait(fn(&mut Config) -> &mut CommitWait),
    /// Bytes.
    Size(fn(&mut Config) -> &mut u64),
    /// Bytes, always below 4 GiB.
    Size32(fn(&mut Config) -> &mut u32),
    /// Yes or no.
    Switch(fn(&mut Config) -> &mut bool),
    /// A count or a duration.
    Count(fn(&mut Config) -> &mut u32),
    /// A ratio.
    Ratio(fn(&mut Config) -> &mut f64),
}

/// One thing that an operator can choose.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    pub(super) key: &'static str,
    pub(super) default: &'static str,
    pub(super) about: &'static str,
    pub(super) field: Field,
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) step: Step,
    pub(super) change: Change,
}

impl Knob {
    /// Returns the knob called `key`.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        KNOBS.iter().find(|knob| knob.key == key)
    }

    /// Returns the full key: `table.name`, or the name alone at the top level.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// Returns the table of the key, empty at the top level.
    #[must_use]
    pub fn table(&self) -> &'static str {
        self.key.split_once('.').map_or("", |(table, _)| table)
    }

    /// Returns the key without its table.
    #[must_use]
    pub fn leaf(&self) -> &'static str {
        self.key.split_once('.').map_or(self.key, |(_, leaf)| leaf)
    }

    /// Returns the default as text.
    #[must_use]
    pub fn default(&self) -> &'static str {
        self.default
    }

    /// Returns when a change takes effect.
    #[must_use]
    pub fn change(&self) -> Change {
        self.change
    }

    /// Returns what the knob measures: the unit, or the kind of a text.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        match self.field {
            Field::Path(_) => "path",
            Field::Address(_) | Field::Listen(_) => "address",
            Field::Name(_) => "name",
            Field::Secret(_) => "text",
            Field::Peers(_) => "list of addresses",
            Field::Cpus(_) => "CPU list",
            Field::Compaction(_)
            | Field::Durability(_)
            | Field::Switch(_)
            | Field::Clock(_)
            | Field::Wait(_) => "word",
            Field::Events(_) => "letters",
            Field::Size(_) | Field::Size32(_) => "bytes",
            Field::Ratio(_) => "ratio",
            Field::Count(_) if self.key.ends_with("_s") => "seconds",
            Field::Count(_) if self.key.ends_with("_ms") => "milliseconds",
            Field::Count(_) if self.key.ends_with("_us_max") => "microseconds",
            Field::Count(_) if self.key.ends_with("_days") => "days",
            Field::Count(_) if self.key.ends_with("_percent") => "percent",
            Field::Count(_) => "count",
        }
    }

    /// Returns what the knob takes, as the end of a sentence that begins with "it takes".
    #[must_use]
    pub fn allowed(&self) -> String {
        match self.field {
            Field::Path(_) => "a path, as a string".to_owned(),
            Field::Address(_) => {
                "an IP address and a port, for example \"127.0.0.1:6379\" or \"[::]:6379\""
                    .to_owned()
            }
            Field::Listen(_) => {
                "an IP address and a port such as \"10.0.0.1:7379\", or \"\" (no cluster)".to_owned()
            }
            Field::Name(_) => format!(
                "up to {NAME_BYTES_MAX} letters, digits, dots, dashes and underscores, or \"\" (no cluster)"
            ),
            Field::Secret(_) => format!(
                "up to {SECRET_BYTES_MAX} characters without line ends, or \"\" (no password)"
            ),
            Field::Peers(_) => {
                "NAME=ADDR:PORT of each, as in [\"n1=10.0.0.1:7379\", \"n2=10.0.0.2:7379\"], or with commas in one string".to_owned()
            }
            Field::Cpus(_) => "\"all\", or CPU numbers up to 1023 such as \"0-3,6\"".to_owned(),
            Field::Durability(_) => one_of(&Durability::EVERY.map(Durability::word)),
            Field::Compaction(_) => one_of(&Compaction::EVERY.map(Compaction::word)),
            Field::Events(_) => "letters of Ag$lshzxeKEtdmn, or \"\" (nothing)".to_owned(),
            Field::Switch(_) => "\"yes\" or \"no\"".to_owned(),
            Field::Clock(_) => one_of(&CLOCK_CHOICES.map(clock_word)),
            Field::Wait(_) => one_of(&CommitWait::EVERY.map(CommitWait::word)),
            Field::Size(_) | Field::Size32(_) => {
                self.range("a size", &show_size(self.min), &show_size(self.max))
            }
            Field::Count(_) => {
                self.range("an integer", &self.min.to_string(), &self.max.to_string())
            }
            Field::Ratio(_) => {
                format!("a number from {} to {}", self.ratio_min(), self.ratio_max())
            }
        }
    }

    /// Returns the reference entry of the knob.
    #[must_use]
    pub fn explain(&self) -> String {
        let when = match self.change {
            Change::Running => "may change while running",
            Change::Restart => "needs a restart",
        };
        format!(
            "{} ({}, default {})\n    {}\n    Takes {}; {when}.\n",
            self.key,
            self.unit(),
            self.default,
            self.about,
            self.allowed()
        )
    }

    /// Returns the lines of the knob in the annotated file: two comments, and the default.
    pub(super) fn annotated(&self) -> String {
        let value = match self.shape() {
            Shape::Count | Shape::Ratio => self.default.to_owned(),
            Shape::List => "[]".to_owned(),
            Shape::Size if self.default == "0" => self.default.to_owned(),
            Shape::Text | Shape::Size => format!("\"{}\"", self.default),
        };
        let sentences = format!("{} Takes {}.", self.about, self.allowed());
        format!("{}{} = {value}\n", comment(&sentences), self.leaf())
    }

    /// Returns the kind of TOML value that the knob takes.
    pub(super) fn shape(&self) -> Shape {
        match self.field {
            Field::Path(_)
            | Field::Address(_)
            | Field::Cpus(_)
            | Field::Compaction(_)
            | Field::Durability(_)
            | Field::Events(_)
            | Field::Clock(_)
            | Field::Wait(_)
            | Field::Listen(_)
            | Field::Switch(_)
            | Field::Name(_)
            | Field::Secret(_) => Shape::Text,
            Field::Peers(_) => Shape::List,
            Field::Size(_) | Field::Size32(_) => Shape::Size,
            Field::Count(_) => Shape::Count,
            Field::Ratio(_) => Shape::Ratio,
        }
    }

    /// Assigns `given` to the field, or nothing.
    pub(super) fn assign(&self, config: &mut Config, given: &str) -> Result<(), Unreadable> {
        match self.field {
            Field::Path(at) => *at(config) = parse_path(given)?,
            Field::Address(at) => *at(config) = given.parse().map_err(|_| Unreadable)?,
            Field::Listen(at) => *at(config) = parse_listen(given)?,
            Field::Name(at) => *at(config) = parse_name(given)?,
            Field::Secret(at) => *at(config) = parse_secret(given)?,
            Field::Peers(at) => *at(config) = parse_peers(given)?,
            Field::Cpus(at) => *at(config) = parse_cpus(given)?,
            Field::Compaction(at) => *at(config) = Compaction::parse(given)?,
            Field::Durability(at) => *at(config) = Durability::parse(given)?,
            Field::Events(at) => {
                *at(config) = Classes::parse(given.as_bytes()).ok_or(Unreadable)?;
            }
            Field::Switch(at) => *at(config) = parse_switch(given)?,
            Field::Clock(at) => *at(config) = parse_clock(given)?,
            Field::Wait(at) => *at(config) = CommitWait::parse(given)?,
            Field::Size(at) => *at(config) = self.within(parse_size(given)?)?,
            Field::Size32(at) => *at(config) = self.within_32(parse_size(given)?)?,
            Field::Count(at) => *at(config) = self.within_32(parse_digits(given)?)?,
            Field::Ratio(at) => *at(config) = self.within_ratio(given)?,
        }
        Ok(())
    }

    /// Returns the present value as `CONFIG GET` shows it.
    pub(super) fn show(&self, config: &Config) -> String {
        // The fields are reached through one accessor for writing, and a copy is cheap where this
        // is called.
        let mut config = config.clone();
        match self.field {
            Field::Path(at) => at(&mut config).display().to_string(),
            Field::Address(at) => at(&mut config).to_string(),
            Field::Listen(at) => at(&mut config).map_or_else(String::new, |addr| addr.to_string()),
            Field::Name(at) | Field::Secret(at) => at(&mut config).clone(),
            Field::Peers(at) => show_peers(at(&mut config)),
            Field::Cpus(at) => at(&mut config).to_string(),
            Field::Compaction(at) => at(&mut config).word().to_owned(),
            Field::Durability(at) => at(&mut config).word().to_owned(),
            Field::Events(at) => at(&mut config).to_string(),
            Field::Switch(at) => if *at(&mut config) { "yes" } else { "no" }.to_owned(),
            Field::Clock(at) => clock_word(*at(&mut config)).to_owned(),
            Field::Wait(at) => at(&mut config).word().to_owned(),
            Field::Size(at) => at(&mut config).to_string(),
            Field::Size32(at) | Field::Count(at) => at(&mut config).to_string(),
            Field::Ratio(at) => at(&mut config).to_string(),
        }
    }

    /// Returns the sentence part for a number between `min` and `max`.
    fn range(&self, kind: &str, min: &str, max: &str) -> String {
        match self.step {
            Step::Any if self.min == self.max => format!("{min} only"),
            Step::Any => format!("{kind} from {min} to {max}"),
            Step::PowerOfTwo => format!("a power of two from {min} to {max}"),
            Step::MultipleOf(unit) => {
                format!("a multiple of {} from {min} to {max}", show_size(unit))
            }
            Step::OrZero(meaning) => format!("{kind} from {min} to {max}, or 0 ({meaning})"),
        }
    }

    /// Returns `number` when it is allowed.
    fn within(&self, number: u64) -> Result<u64, Unreadable> {
        let bounded = self.min <= number && number <= self.max;
        let allowed = match self.step {
            Step::Any => bounded,
            Step::PowerOfTwo => bounded && number.is_power_of_two(),
            Step::MultipleOf(unit) => bounded && number.is_multiple_of(unit),
            Step::OrZero(_) => bounded || number == 0,
        };
        if allowed { Ok(number) } else { Err(Unreadable) }
    }

    /// Returns `number` when it is allowed and fits a field of 32 bits.
    fn within_32(&self, number: u64) -> Result<u32, Unreadable> {
        u32::try_from(self.within(number)?).map_err(|_| Unreadable)
    }

    /// Returns the ratio that `given` means, when it is allowed.
    fn within_ratio(&self, given: &str) -> Result<f64, Unreadable> {
        let ratio: f64 = given.parse().map_err(|_| Unreadable)?;
        let allowed = self.ratio_min() <= ratio && ratio <= self.ratio_max();
        if allowed { Ok(ratio) } else { Err(Unreadable) }
    }

    /// Returns the least ratio; the table keeps it in hundredths.
    fn ratio_min(&self) -> f64 {
        self.min as f64 / 100.0
    }

    /// Returns the greatest ratio; the table keeps it in hundredths.
    fn ratio_max(&self) -> f64 {
        self.max as f64 / 100.0
    }
}

/// Returns what a word of a switch means.
fn parse_switch(given: &str) -> Result<bool, Unreadable> {
    match given {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(Unreadable),
    }
}

/// Returns the sentence part for words of which one is taken.
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!("one of {}", quoted.join(", "))
}

/// Returns a path that is not empty; the kernel would refuse a zero byte only when the directory is
/// opened.
fn parse_path(given: &str) -> Result<PathBuf, Unreadable> {
    match given.is_empty() || given.contains('\0') {
        true => Err(Unreadable),
        false => Ok(PathBuf::from(given)),
    }
}

/// Returns `sentences` as comment lines of at most 100 columns.
fn comment(sentences: &str) -> String {
    const COLUMNS_MAX: usize = 100;
    let mut lines = String::new();
    let mut line = String::from("#");
    for word in sentences.split(' ') {
        if line.len() + 1 + word.len() > COLUMNS_MAX {
            lines += &line;
            lines += "\n";
            line = String::from("#");
        }
        line += " ";
        line += word;
    }
    lines + &line + "\n"
}
