//! Profiles of the shards' threads, one at a time. A thread of its own takes them, because reading the samples takes
//! the processor for a while: the admin port asks for one, and looks whether it is there.
//!
//! Invariant: whoever began a profile takes it; until then, nobody begins another one.

use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use ashlar_io::profile;

use crate::flame;
use crate::shared::lock;

/// What the threads of shards are called, before their number.
pub const SHARD_THREADS: &str = "shard-";
/// The longest profile, in seconds.
const SECONDS_MAX: u32 = 60;
/// Most samples in a second of processor time.
const HZ_MAX: u32 = 999;

/// How long a profile is, and how often it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    seconds: u32,
    hz: u32,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            seconds: 10,
            hz: 199,
        }
    }
}

impl Span {
    /// Reads the words behind the `?` of an address: `seconds=` from 1 to 60, and `hz=` from 1 to 999.
    ///
    /// # Errors
    /// One line that names the word and what is allowed.
    pub fn parse(query: &str) -> Result<Self, String> {
        let mut span = Self::default();
        for word in query.split('&').filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let (field, most) = match name {
                "seconds" => (&mut span.seconds, SECONDS_MAX),
                "hz" => (&mut span.hz, HZ_MAX),
                _ => {
                    return Err(format!(
                        "'{name}' is not known; there are seconds=1..{SECONDS_MAX} and hz=1..{HZ_MAX}\n"
                    ));
                }
            };
            let number = value.parse().ok().filter(|n| (1..=most).contains(n));
            *field = number.ok_or_else(|| {
                format!("{name}='{value}' is not allowed; it takes 1 to {most}\n")
            })?;
        }
        Ok(span)
    }
}

#[derive(Debug, Default)]
enum State {
    /// No thread takes profiles.
    #[default]
    Absent,
    Idle,
    Asked(Span),
    Sampling,
    Done(Result<String, String>),
}

/// Why a profile is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Another one is being taken.
    Busy,
    /// Nobody takes profiles.
    Absent,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "a profile is being taken; ask again when it is done\n",
            Self::Absent => "this node takes no profiles\n",
        })
    }
}

/// Where a profile is asked for, and where it comes.
#[derive(Debug, Default)]
pub struct Profiler {
    state: Mutex<State>,
    asked: Condvar,
}

impl Profiler {
    /// Begins a profile.
    ///
    /// # Errors
    /// [`Refused`]: nothing was begun.
    pub fn begin(&self, span: Span) -> Result<(), Refused> {
        let mut state = lock(&self.state);
        match *state {
            State::Idle => *state = State::Asked(span),
            State::Absent => return Err(Refused::Absent),
            _ => return Err(Refused::Busy),
        }
        self.asked.notify_one();
        Ok(())
    }

    /// Returns the profile that was begun, or why there is none, once it is done.
    pub fn take(&self) -> Option<Result<String, String>> {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Done(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Idle) {
            State::Done(done) => Some(done),
            _ => unreachable!("it was looked at under the same lock"),
        }
    }

    /// Takes the profiles that are asked for, and does not return: the thread ends with its process.
    pub fn run(&self) {
        *lock(&self.state) = State::Idle;
        loop {
            let Span { seconds, hz } = self.next();
            let time = Duration::from_secs(u64::from(seconds));
            let stacks = profile::sample(SHARD_THREADS, time, hz);
            let title = format!("ashlar, {seconds} s at {hz} Hz of processor time");
            let done = stacks.map(|stacks| flame::svg(&title, &stacks));
            *lock(&self.state) = State::Done(done);
        }
    }

    /// Waits until a profile is asked for.
    fn next(&self) -> Span {
        let mut state = lock(&self.state);
        loop {
            if let State::Asked(span) = *state {
                *state = State::Sampling;
                return span;
            }
            let woken = self.asked.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_bounded() {
        assert_eq!(Span::parse(""), Ok(Span::default()));
        let given = Span { seconds: 60, hz: 1 };
        assert_eq!(Span::parse("seconds=60&hz=1"), Ok(given));
        for (query, part) in [
            ("seconds=0", "1 to 60"),
            ("seconds=61", "1 to 60"),
            ("seconds=x", "'x'"),
            ("hz=1000", "1 to 999"),
            ("hz=-1", "1 to 999"),
            ("second=1", "'second' is not known"),
        ] {
            let error = Span::parse(query).unwrap_err();
            assert!(error.contains(part), "{query}: {error}");
        }
    }

    #[test]
    fn one_profile_is_taken_at_a_time() {
        let profiler = Profiler::default();
        assert_eq!(profiler.begin(Span::default()), Err(Refused::Absent));
        *lock(&profiler.state) = State::Idle;
        assert_eq!(profiler.begin(Span::default()), Ok(()));
        assert_eq!(profiler.begin(Span::default()), Err(Refused::Busy));
        assert_eq!((profiler.next(), profiler.take()), (Span::default(), None));
        assert_eq!(profiler.begin(Span::default()), Err(Refused::Busy));
        *lock(&profiler.state) = State::Done(Ok("picture".to_owned()));
        assert_eq!(profiler.begin(Span::default()), Err(Refused::Busy));
        assert_eq!(profiler.take(), Some(Ok("picture".to_owned())));
        assert_eq!(profiler.begin(Span::default()), Ok(()));
    }
}
