//! One thread of the load, between turns of its reactor: sends what is due over its connections, takes in what came,
//! and says when to look again. Time is an argument. Not the sockets' reading side, which `thread` has.
//!
//! Invariants:
//! 1. In an open loop the schedule never waits: what cannot be sent when it is due is sent later, and its latency
//!    counts from when it was due.
//! 2. A connection has at most `in_flight_max` commands without an answer, or a few more when one operation has
//!    several, and at most [`UNSENT_BYTES_MAX`] that were not taken by the kernel, and one operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ashlar_io::{Monotonic, SocketSender};

use super::author::Author;
use super::feed::{Feed, Pace};
use super::pipeline::{Pipeline, Step};
use super::reader::Reader;
use super::schedule::Schedule;
use super::tally::Tally;

/// Bytes of commands on a connection above which it takes no more.
const UNSENT_BYTES_MAX: usize = 4 << 20;
/// Operations sent between two looks at what came.
const BURST_MAX: u32 = 512;
/// Operations that a connection takes at once when so many are due; fewer, larger packets cost less.
const STRIDE: u32 = 64;
/// An operation that is sent so much later than it was due has missed its schedule.
const LATE: Duration = Duration::from_millis(1);
/// How long answers are waited for at the end.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Longest silence of the server before the run gives up.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Distance of the seconds that are told of.
const SECOND: Duration = Duration::from_secs(1);
/// How often it looks whether it was stopped.
const LOOK: Duration = Duration::from_millis(20);
/// Operations due but not sent that are counted one by one at the end.
const UNSENT_MAX: u64 = 100_000_000;

/// A connection's sending side and what it waits for.
#[derive(Debug)]
struct Lane {
    sender: SocketSender,
    pipeline: Pipeline,
    is_open: bool,
    is_touched: bool,
}

/// Which part of a phase some time belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Not measured.
    WarmUp,
    /// Measured.
    Measured,
    /// Nothing is sent any more; what comes was due before.
    Drain,
}

/// What happened in a second, or in the rest of one.
#[derive(Clone, Debug)]
pub(crate) struct Second {
    /// Which one, from the start of the phase.
    pub(crate) number: u64,
    pub(crate) part: Part,
    /// From the start of the phase to its end.
    pub(crate) until: Duration,
    pub(crate) length: Duration,
    pub(crate) tally: Tally,
    /// Operations without an answer at its end.
    pub(crate) in_flight: u64,
}

/// How a thread has ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// Operations that were due and never sent.
    pub(crate) unsent: u64,
    /// Operations that were never answered.
    pub(crate) unanswered: u64,
    /// Connections that were lost, and why the first was.
    pub(crate) lost: u64,
    pub(crate) first_loss: Option<String>,
}

/// What is to be done next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Look again when something came, or at this time.
    Until(Monotonic),
    /// Nothing.
    Done,
}

/// When a phase begins and how long it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) warm_up: Duration,
    /// Behind the warm-up; until all operations are done when there is none.
    pub(crate) measured: Option<Duration>,
}

/// The engine of one thread.
#[derive(Debug)]
pub(crate) struct Engine {
    lanes: Vec<Lane>,
    author: Author,
    reader: Reader,
    feed: Arc<Feed>,
    stop: Arc<AtomicBool>,
    pace: Pace,
    schedule: Option<Schedule>,
    in_flight_max: usize,
    start: Monotonic,
    measured_from: Monotonic,
    end: Option<Monotonic>,
    tally: Tally,
    /// Seconds that are over, for whoever drives the engine.
    pub(crate) seconds: Vec<Second>,
    second_from: Monotonic,
    seconds_count: u64,
    in_flight: u64,
    next_lane: usize,
    /// When there was no room for an operation that was due.
    blocked: Option<Monotonic>,
    last_reply: Monotonic,
    ending: Ending,
    /// Why no connection is of use any more.
    failure: Option<String>,
}

/// What an engine works with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) author: Author,
    pub(crate) reader: Reader,
    pub(crate) feed: Arc<Feed>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) pace: Pace,
    pub(crate) in_flight_max: usize,
}

impl Engine {
    /// Makes the engine of some connections.
    pub(crate) fn new(senders: Vec<SocketSender>, parts: Parts) -> Self {
        let lane = |sender| Lane {
            sender,
            pipeline: Pipeline::default(),
            is_open: true,
            is_touched: false,
        };
        let zero = Monotonic::default();
        Self {
            lanes: senders.into_iter().map(lane).collect(),
            author: parts.author,
            reader: parts.reader,
            feed: parts.feed,
            stop: parts.stop,
            pace: parts.pace,
            schedule: parts.schedule,
            in_flight_max: parts.in_flight_max,
            start: zero,
            measured_from: zero,
            end: None,
            tally: Tally::default(),
            seconds: Vec::new(),
            second_from: zero,
            seconds_count: 0,
            in_flight: 0,
            next_lane: 0,
            blocked: None,
            last_reply: zero,
            ending: Ending::default(),
            failure: None,
        }
    }

    /// Begins the phase.
    pub(crate) fn begin(&mut self, now: Monotonic, times: Times) {
        self.start = now;
        self.second_from = now;
        self.last_reply = now;
        self.measured_from = now + times.warm_up;
        self.reader.records_from = self.measured_from;
        self.end = times.measured.map(|time| self.measured_from + time);
    }

    /// Sends what is due, and says when to look again.
    ///
    /// # Errors
    /// One line: the server is silent, or every connection was lost.
    pub(crate) fn step(&mut self, now: Monotonic) -> Result<Next, String> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if self.stop.load(Ordering::Relaxed) {
            self.end = Some(self.end.map_or(now, |end| end.min(now)));
        }
        let is_over = self.end.is_some_and(|end| end <= now) || self.is_fed();
        let due = match is_over {
            true => None,
            false => self.send(now),
        };
        self.turn_second(now);
        if is_over && (self.in_flight == 0 || self.drain_end() <= now) {
            self.finish(now);
            return Ok(Next::Done);
        }
        if self.in_flight > 0 && now.since(self.last_reply) > SILENCE_MAX {
            let (open, seconds) = (self.open_lanes(), SILENCE_MAX.as_secs());
            return Err(format!(
                "the server has not answered for {seconds} s; {open} connections wait for {} replies",
                self.in_flight
            ));
        }
        let wake = [
            due,
            Some(now + LOOK),
            self.end.filter(|end| now < *end),
            Some(self.second_end()),
        ];
        Ok(Next::Until(wake.into_iter().flatten().min().unwrap_or(now)))
    }

    fn is_fed(&self) -> bool {
        self.schedule.is_none() && self.feed.is_empty()
    }

    /// Returns until when answers are waited for. Without an end, silence ends the run.
    fn drain_end(&self) -> Monotonic {
        self.end.map_or(Monotonic(u64::MAX), |end| end + DRAIN_MAX)
    }

    fn open_lanes(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.is_open).count()
    }

    /// Sends what may be sent; returns when the next operation is due, if that is known.
    fn send(&mut self, now: Monotonic) -> Option<Monotonic> {
        let next = match self.pace {
            Pace::Open(..) => self.send_due(now),
            Pace::Closed(pipeline) => {
                self.send_anew(now, pipeline);
                None
            }
        };
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_touched) {
            lane.flush(&mut self.tally);
        }
        next
    }

    fn send_due(&mut self, now: Monotonic) -> Option<Monotonic> {
        let mut schedule = self.schedule.take()?;
        let (mut next, mut lane) = (None, None);
        for n in 0..BURST_MAX {
            let due = self.start + Duration::from_nanos(schedule.due_ns());
            next = Some(due);
            if now < due || self.end.is_some_and(|end| end <= due) {
                break;
            }
            let has_room = |lane: &usize| self.lanes[*lane].has_room(self.in_flight_max);
            lane = lane
                .filter(|lane| n % STRIDE != 0 && has_room(lane))
                .or_else(|| self.roomy_lane());
            let Some(lane) = lane else {
                self.blocked = Some(now);
                // An answer makes room, and wakes.
                next = None;
                break;
            };
            self.note_lateness(due, now);
            self.append(lane, self.feed.task(0), (due, now));
            schedule.advance();
        }
        self.schedule = Some(schedule);
        next
    }

    fn note_lateness(&mut self, due: Monotonic, now: Monotonic) {
        if now.since(due) > LATE {
            match self.blocked.is_some_and(|blocked| due <= blocked) {
                true => self.tally.late.for_server += 1,
                false => self.tally.late.for_client += 1,
            }
        }
    }

    /// Returns the next lane that takes an operation, in turn.
    fn roomy_lane(&mut self) -> Option<usize> {
        for _ in 0..self.lanes.len() {
            let lane = self.next_lane;
            self.next_lane = (lane + 1) % self.lanes.len();
            if self.lanes[lane].has_room(self.in_flight_max) {
                return Some(lane);
            }
        }
        None
    }

    fn send_anew(&mut self, now: Monotonic, pipeline: u64) {
        for lane in 0..self.lanes.len() {
            let it = &self.lanes[lane];
            if !it.is_open || !it.pipeline.pending.is_empty() {
                continue;
            }
            for number in self.feed.take(pipeline) {
                self.append(lane, self.feed.task(number), (now, now));
            }
        }
    }

    fn append(&mut self, lane: usize, task: super::author::Task, times: (Monotonic, Monotonic)) {
        let lane = &mut self.lanes[lane];
        self.author.append(task, times, &mut lane.pipeline);
        lane.is_touched = true;
        self.in_flight += 1;
        self.tally.sent += 1;
    }

    /// Takes in what came on a lane.
    pub(crate) fn take_in(
        &mut self,
        lane: usize,
        bytes: &[u8],
        now: Monotonic,
    ) -> Result<(), String> {
        self.last_reply = now;
        let it = &mut self.lanes[lane];
        let with = (&mut self.author, &mut self.tally);
        let ended = self.reader.take_in(bytes, now, &mut it.pipeline, with)?;
        self.in_flight = self.in_flight.saturating_sub(ended);
        // Operations of several steps may have gone on.
        it.flush(&mut self.tally);
        Ok(())
    }

    /// Counts a lane as lost.
    pub(crate) fn lose(&mut self, lane: usize, why: String) {
        let lane = &mut self.lanes[lane];
        lane.is_open = false;
        for pending in lane.pipeline.pending.drain(..) {
            self.reader.give_up(pending);
            let is_last = !matches!(pending.step, Step::Name | Step::Part(_));
            self.in_flight = self.in_flight.saturating_sub(u64::from(is_last));
            self.ending.unanswered += u64::from(is_last);
        }
        self.ending.lost += 1;
        let why = self.ending.first_loss.get_or_insert(why).clone();
        if self.open_lanes() == 0 {
            self.failure = Some(format!(
                "every connection was lost, the first because {why}"
            ));
        }
    }

    fn second_end(&self) -> Monotonic {
        let end = self.second_from + SECOND;
        let parts = [Some(self.measured_from), self.end];
        let parts = parts
            .into_iter()
            .flatten()
            .filter(|part| self.second_from < *part);
        parts.fold(end, Monotonic::min)
    }

    fn part(&self) -> Part {
        if self.second_from < self.measured_from {
            return Part::WarmUp;
        }
        match self.end.is_some_and(|end| end <= self.second_from) {
            true => Part::Drain,
            false => Part::Measured,
        }
    }

    fn turn_second(&mut self, now: Monotonic) {
        let end = self.second_end();
        if end <= now {
            self.close_second(end);
        }
    }

    fn close_second(&mut self, end: Monotonic) {
        self.seconds.push(Second {
            number: self.seconds_count,
            part: self.part(),
            until: end.since(self.start),
            length: end.since(self.second_from),
            tally: std::mem::take(&mut self.tally),
            in_flight: self.in_flight,
        });
        self.seconds_count += 1;
        self.second_from = end;
    }

    fn finish(&mut self, now: Monotonic) {
        while self.second_end() <= now {
            self.close_second(self.second_end());
        }
        // Without an end, the last answer is where measuring ends.
        let last = match self.end {
            None => self.last_reply.max(self.second_from),
            Some(_) => now,
        };
        self.close_second(last);
        if let (Some(schedule), Some(end)) = (&mut self.schedule, self.end) {
            let end_ns = end.since(self.start).as_nanos();
            while u128::from(schedule.due_ns()) < end_ns && self.ending.unsent < UNSENT_MAX {
                self.ending.unsent += 1;
                schedule.advance();
            }
        }
        for lane in &mut self.lanes {
            lane.pipeline
                .pending
                .drain(..)
                .for_each(|pending| self.reader.give_up(pending));
        }
        self.ending.unanswered += self.in_flight;
    }

    /// Returns how the phase has ended.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

impl Lane {
    fn has_room(&self, in_flight_max: usize) -> bool {
        let unsent = self.sender.unsent_bytes() + self.pipeline.out.len();
        self.is_open && self.pipeline.pending.len() < in_flight_max && unsent <= UNSENT_BYTES_MAX
    }

    fn flush(&mut self, tally: &mut Tally) {
        self.is_touched = false;
        tally.sent_bytes += self.pipeline.out.len() as u64;
        self.sender.send_vec(&mut self.pipeline.out);
    }
}
