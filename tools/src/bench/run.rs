//! One phase against one server: starts its threads, and gathers what they tell, second by second, to an outcome.
//! Not what is shown or kept of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::author::Author;
use super::engine::{Ending, Part, Parts, Second, Times};
use super::feed::{Feed, Pace, Work};
use super::reader::Reader;
use super::schedule::Schedule;
use super::tally::{Tally, percentile_us};
use super::thread::{self as load_thread, News, Orders};
use super::workload::{Workload, World};

/// News that wait to be read; a thread that has more waits.
const NEWS_MAX: usize = 64;

/// How a phase is run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) addr: SocketAddr,
    /// Over all threads; at least one each.
    pub(crate) connections: u32,
    /// The CPU of each thread; anywhere when there is none.
    pub(crate) threads: Vec<Option<usize>>,
    pub(crate) greeting: (Vec<u8>, usize),
    pub(crate) work: Work,
    pub(crate) pace: Pace,
    pub(crate) times: Times,
    /// Operations, when not time ends it.
    pub(crate) count: u64,
    /// Commands without an answer on one connection.
    pub(crate) in_flight_max: usize,
    pub(crate) seed: u64,
}

/// One second of the course of a phase.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Point {
    /// Seconds since measuring began.
    pub(crate) at_s: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
    pub(crate) errors: u64,
    pub(crate) in_flight: u64,
}

/// What came of a phase.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// All operations that were due while it was measured.
    pub(crate) tally: Tally,
    /// Operations that have ended while it was measured.
    pub(crate) done: u64,
    /// How long it was measured.
    pub(crate) elapsed: Duration,
    pub(crate) course: Vec<Point>,
    pub(crate) ending: Ending,
    /// The share of its time in which each thread used a CPU.
    pub(crate) busy: Vec<f64>,
}

/// A phase under way.
#[derive(Debug)]
pub(crate) struct Run {
    news: Receiver<News>,
    threads: Vec<thread::JoinHandle<()>>,
    left: usize,
    /// Seconds that not all threads have told of.
    open: BTreeMap<u64, (usize, Second)>,
    outcome: Outcome,
    failure: Option<String>,
    /// How far it is.
    pub(crate) feed: Arc<Feed>,
    stop: Arc<AtomicBool>,
    warm_up: Duration,
}

impl Run {
    /// Starts a phase; `stop` ends it early.
    pub(crate) fn start(
        plan: &Plan,
        workload: &Arc<Workload>,
        world: &Arc<World>,
        stop: &Arc<AtomicBool>,
    ) -> Self {
        let (tell, news) = mpsc::sync_channel(NEWS_MAX);
        let feed = Arc::new(Feed::new(plan.work, plan.count));
        let count = u32::try_from(plan.threads.len()).expect("there are fewer threads");
        let barrier = Arc::new(Barrier::new(plan.threads.len()));
        let mut threads = Vec::new();
        for (index, cpu) in (0..count).zip(&plan.threads) {
            let seed = plan.seed.wrapping_add(u64::from(index) << 32);
            let schedule = match plan.pace {
                Pace::Open(rate, arrivals) => {
                    Some(Schedule::new(rate, arrivals, (index, count), seed))
                }
                Pace::Closed(_) => None,
            };
            let parts = Parts {
                author: Author::new(workload, world, (index.into(), count.into()), seed),
                reader: Reader::new(workload, world),
                feed: Arc::clone(&feed),
                stop: Arc::clone(stop),
                schedule,
                pace: plan.pace,
                in_flight_max: plan.in_flight_max,
            };
            let orders = Orders {
                addr: plan.addr,
                connections: plan.connections / count + u32::from(index < plan.connections % count),
                greeting: plan.greeting.clone(),
                cpu: *cpu,
                times: plan.times,
                barrier: Arc::clone(&barrier),
            };
            let tell = tell.clone();
            threads.push(thread::spawn(move || {
                load_thread::run(&orders, parts, &tell)
            }));
        }
        Self {
            news,
            left: threads.len(),
            threads,
            open: BTreeMap::new(),
            outcome: Outcome::default(),
            failure: None,
            feed,
            stop: Arc::clone(stop),
            warm_up: plan.times.warm_up,
        }
    }

    /// Waits for the next second that is over; `None` when the phase is, or when `wait` has passed.
    pub(crate) fn next(&mut self, wait: Duration) -> Option<Second> {
        loop {
            if self.left == 0 {
                let number = *self.open.keys().next()?;
                return self.close(number);
            }
            let number = match self.news.recv_timeout(wait) {
                Ok(News::Second(second)) => self.gather(second),
                Ok(News::Ended(ended)) => {
                    self.end(ended);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => {
                    self.left = 0;
                    continue;
                }
            };
            if self.open[&number].0 == self.threads.len() {
                return self.close(number);
            }
        }
    }

    /// Says whether all of it was told.
    pub(crate) fn is_over(&self) -> bool {
        self.left == 0 && self.open.is_empty()
    }

    fn gather(&mut self, second: Second) -> u64 {
        let number = second.number;
        match self.open.entry(number) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert((1, second));
            }
            std::collections::btree_map::Entry::Occupied(place) => {
                let (count, sum) = place.into_mut();
                *count += 1;
                sum.tally.add(&second.tally);
                sum.in_flight += second.in_flight;
                sum.length = sum.length.max(second.length);
                sum.until = sum.until.max(second.until);
            }
        }
        number
    }

    fn close(&mut self, number: u64) -> Option<Second> {
        let (_, second) = self.open.remove(&number)?;
        if second.part != Part::WarmUp {
            self.outcome.take_in(&second, self.warm_up);
        }
        Some(second)
    }

    fn end(&mut self, ended: Result<(Ending, f64), String>) {
        self.left -= 1;
        match ended {
            Ok((ending, busy)) => {
                self.outcome.ending.add(ending);
                self.outcome.busy.push(busy);
            }
            Err(why) => {
                self.failure.get_or_insert(why);
                self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
    }

    /// Returns what came of it, once it is over.
    ///
    /// # Errors
    /// One line: a thread has failed.
    pub(crate) fn finish(self) -> Result<Outcome, String> {
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| "a thread of the load has panicked")?;
        }
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.outcome),
        }
    }
}

impl Ending {
    fn add(&mut self, other: Self) {
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.lost += other.lost;
        self.first_loss = self.first_loss.take().or(other.first_loss);
    }
}

impl Outcome {
    fn take_in(&mut self, second: &Second, warm_up: Duration) {
        let mut tally = second.tally.clone();
        if second.part == Part::Drain {
            tally.note_drained();
        }
        self.tally.add(&tally);
        if second.part == Part::Measured {
            self.done += second.tally.done();
            self.elapsed += second.length;
            let at = second.until.saturating_sub(warm_up);
            self.course.push(Point::new(second, at));
        }
    }

    /// Returns the operations that have ended in a second.
    pub(crate) fn per_second(&self) -> f64 {
        per_second(self.done, self.elapsed)
    }

    /// Adds another phase of the same work, as of a later round.
    pub(crate) fn add(&mut self, other: Self) {
        let at = self.elapsed.as_secs_f64();
        self.tally.add(&other.tally);
        self.done += other.done;
        self.elapsed += other.elapsed;
        let later = other.course.into_iter().map(|point| Point {
            at_s: point.at_s + at,
            ..point
        });
        self.course.extend(later);
        self.ending.add(other.ending);
        self.busy.extend(other.busy);
    }
}

impl Point {
    fn new(second: &Second, at: Duration) -> Self {
        let response = second.tally.response();
        Self {
            at_s: at.as_secs_f64(),
            per_second: per_second(second.tally.done(), second.length),
            p50_us: percentile_us(&response, 50.0),
            p99_us: percentile_us(&response, 99.0),
            max_us: percentile_us(&response, 100.0),
            errors: second.tally.errors(),
            in_flight: second.in_flight,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::mix::Kind;
    use crate::bench::report::Phase;

    fn second(part: Part, done: u64) -> Second {
        let mut tally = Tally::default();
        tally.of_mut(Kind::Get).done = done;
        Second {
            number: 0,
            part,
            until: Duration::from_secs(1),
            length: Duration::from_secs(1),
            tally,
            in_flight: 0,
        }
    }

    /// A server that fell behind answered for seconds behind the measured time, and its kinds of operations were told
    /// twice the rate of all.
    #[test]
    fn what_ends_behind_the_measured_time_is_in_no_rate() {
        let mut outcome = Outcome::default();
        outcome.take_in(&second(Part::Measured, 3), Duration::ZERO);
        outcome.take_in(&second(Part::Drain, 2), Duration::ZERO);
        let mut rounds = Outcome::default();
        rounds.add(outcome.clone());
        rounds.add(outcome);
        let phase = Phase::new("run", &rounds, Pace::Closed(1));
        assert_eq!((phase.operations, phase.kinds[0].operations), (6, 6));
        assert!((phase.kinds[0].per_second - 3.0).abs() < 1e-9);
    }
}
