//! The log that segments make up: where it starts, where it ends, and whether its end is a torn tail or damage. Decides
//! as recovery does (`ashlar_io::wal::recover`), but changes nothing and goes on to say all it can.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ashlar_io::wal::Position;
use ashlar_io::wal::format::Header;

use super::segment::{Flaw, Link, Segment};

/// A walk that nobody ends early.
type Never = std::convert::Infallible;

/// How far a walk along a chain has come.
#[derive(Debug)]
struct Walk {
    /// What the next batch must say.
    link: Link,
    batches: u64,
    durable: Position,
    /// The largest `start` of the batches so far.
    newest_start: Position,
    /// Why it ended: in which file, at which offset.
    flaw: (PathBuf, u64, Flaw),
    used: Vec<Used>,
}

impl Walk {
    fn new(position: u64, log_id: u64) -> Self {
        Self {
            link: Link {
                log_id,
                generation: 0,
                position: Position(position),
                previous: None,
            },
            batches: 0,
            durable: Position(0),
            newest_start: Position(0),
            flaw: (PathBuf::new(), 0, Flaw::Missing),
            used: Vec::new(),
        }
    }

    /// Goes behind a batch, in a segment that begins at position `base`.
    fn step(&mut self, header: &Header, base: u64) {
        let end = header.end();
        if let Some(used) = self.used.last_mut() {
            used.bytes = end.0 - base;
        }
        self.link = Link {
            log_id: header.log_id,
            generation: header.generation,
            position: end,
            previous: Some(end),
        };
        self.durable = self.durable.max(header.durable);
        self.newest_start = self.newest_start.max(header.start);
    }
}

/// How much of a log the segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of it.
    Log,
    /// One segment: what lies before and behind it is not known.
    OneSegment,
}

/// The segments of a log in order.
#[derive(Debug)]
pub(crate) struct Chain<'a> {
    scope: Scope,
    /// Size of a segment, in bytes.
    pub(crate) segment_bytes: u64,
    /// Which log it is: what the newest first block says.
    pub(crate) log_id: u64,
    numbered: BTreeMap<u64, (Header, &'a Segment)>,
    spares: Vec<&'a Segment>,
}

/// What the walk along a chain found.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// First position that the log needs, or the first of the only segment.
    pub(crate) start: Position,
    /// Where the last whole batch ends.
    pub(crate) end: Position,
    /// Whole batches from start to end.
    pub(crate) batches: u64,
    /// Highest position that any batch says was durable.
    pub(crate) durable: Position,
    /// What is at the end instead of a batch: in which file, at which offset, and why it is none.
    pub(crate) flaw: (PathBuf, u64, Flaw),
    /// Whole headers of this log at the end or behind it.
    pub(crate) later: u64,
    /// The segments from the one that has the start, in order.
    pub(crate) used: Vec<Used>,
}

/// How much of a segment the log uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Used {
    /// The segment.
    pub(crate) path: PathBuf,
    /// Bytes from its beginning to where its last batch ends.
    pub(crate) bytes: u64,
}

impl Verdict {
    /// Says whether bytes that were acknowledged are not whole.
    pub(crate) fn is_damaged(&self) -> bool {
        // A checksum that holds over frames that do not add up is no torn write, wherever it is.
        self.durable > self.end || matches!(self.flaw.2, Flaw::BadFrames { .. })
    }

    /// Says whether something unacknowledged is behind the end, which recovery cuts.
    pub(crate) fn is_torn(&self) -> bool {
        use Flaw::{BadHeader, BadPayload, NoHeader, TooLong};
        let unfinished = matches!(self.flaw.2, BadHeader | BadPayload | TooLong(_) | NoHeader);
        unfinished || self.later > 0
    }
}

impl<'a> Chain<'a> {
    /// Sorts segments of one size by their number; `None` when none of them has a whole first block.
    pub(crate) fn of(segments: &'a [Segment], scope: Scope) -> Option<Self> {
        let segment_bytes = segments.iter().map(Segment::len).max()?;
        let newest = segments
            .iter()
            .filter_map(Segment::first)
            .max_by_key(|first| (first.generation, first.position))?;
        let numbered = BTreeMap::new();
        let mut chain = Self {
            scope,
            segment_bytes,
            log_id: newest.log_id,
            numbered,
            spares: Vec::new(),
        };
        for segment in segments
            .iter()
            .filter(|segment| segment.len() == segment_bytes)
        {
            chain.place(segment);
        }
        Some(chain)
    }

    /// Puts a segment in its place; of two with one number the newer generation counts.
    fn place(&mut self, segment: &'a Segment) {
        let Some(first) = segment.first().filter(|first| first.log_id == self.log_id) else {
            return self.spares.push(segment);
        };
        let number = first.position.0 / self.segment_bytes;
        let other = self.numbered.insert(number, (first, segment));
        match other {
            Some(other) if other.0.generation > first.generation => {
                self.spares.push(segment);
                self.numbered.insert(number, other);
            }
            Some((_, other)) => self.spares.push(other),
            None => {}
        }
    }

    /// Says whether a segment takes part, and not as one that holds nothing needed.
    pub(crate) fn holds(&self, segment: &Segment) -> bool {
        self.numbered
            .values()
            .any(|(_, numbered)| std::ptr::eq(*numbered, segment))
    }

    /// Returns what the log needs first: what its newest batch says. The last part of the chain tells, from the last
    /// segment that certainly belongs to it, because a batch in it says that all before was durable.
    fn start(&self) -> Position {
        if let (Scope::OneSegment, Some((first, _))) = (self.scope, self.numbered.values().next()) {
            return first.position;
        }
        for (number, (first, _)) in self.numbered.iter().rev() {
            let mut walk = Walk::new(number * self.segment_bytes, self.log_id);
            let never = self.run(&mut walk, Position(u64::MAX), &mut |_, _, _| {
                Ok::<_, Never>(())
            });
            let Ok(()) = never;
            if walk.batches > 0 && walk.durable >= first.previous {
                return walk.newest_start;
            }
        }
        let starts = self.numbered.values().map(|(first, _)| first.start);
        starts.max().unwrap_or_default()
    }

    /// Walks from start to end, and hands each batch that the log needs to `take`: its segment, its header, its
    /// payload. Ends early, with `Err`, when `take` does.
    pub(crate) fn walk<E>(
        &self,
        mut take: impl FnMut(&Segment, &Header, &[u8]) -> Result<(), E>,
    ) -> Result<Verdict, E> {
        let start = self.start();
        // From the beginning of its segment, so that what lies at the start itself has a link to keep to.
        let first = start.0 - start.0 % self.segment_bytes.max(1);
        let mut walk = Walk::new(first, self.log_id);
        self.run(&mut walk, start, &mut take)?;
        let end = walk.link.previous.unwrap_or(walk.link.position).max(start);
        let (later, later_durable) = self.later(end);
        let durable = walk.durable.max(later_durable).max(start);
        Ok(Verdict {
            start,
            end,
            batches: walk.batches,
            durable,
            flaw: walk.flaw,
            later,
            used: walk.used,
        })
    }

    /// Returns what the walk finds.
    pub(crate) fn verdict(&self) -> Verdict {
        let Ok(verdict) = self.walk(|_, _, _| Ok::<_, Never>(()));
        verdict
    }

    /// Walks to the first batch that is not whole. Only batches that end behind `start` are handed on and counted.
    fn run<E>(
        &self,
        walk: &mut Walk,
        start: Position,
        take: &mut impl FnMut(&Segment, &Header, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let number = walk.link.position.0 / self.segment_bytes.max(1);
            let Some((_, segment)) = self.numbered.get(&number) else {
                return Ok(());
            };
            let base = number * self.segment_bytes;
            walk.used.push(Used {
                path: segment.path().to_owned(),
                bytes: 0,
            });
            let flaw = loop {
                let (header, payload) = match segment.batch(walk.link.position.0 - base, &walk.link)
                {
                    Ok(batch) => batch,
                    Err(flaw) => break flaw,
                };
                if header.end() > start || start == Position(u64::MAX) {
                    walk.batches += 1;
                    take(segment, &header, payload)?;
                }
                walk.step(&header, base);
            };
            match self.continued_in(number + 1, &walk.link) {
                Some(position) => walk.link.position = position,
                None => {
                    walk.flaw = (segment.path().to_owned(), walk.link.position.0 - base, flaw);
                    return Ok(());
                }
            }
        }
    }

    /// Returns where the chain goes on when the rest of a segment was skipped: the next one tells, by its link.
    fn continued_in(&self, number: u64, link: &Link) -> Option<Position> {
        let (first, _) = self.numbered.get(&number)?;
        let end = link.previous?;
        let continues = first.generation >= link.generation && first.previous == end;
        continues.then_some(first.position)
    }

    /// Counts the whole headers at `end` or behind it, and returns the highest position that they say was durable.
    fn later(&self, end: Position) -> (u64, Position) {
        let numbered = self.numbered.values().map(|(_, segment)| *segment);
        let segments = numbered.chain(self.spares.iter().copied());
        let headers = segments.flat_map(|segment| segment.headers(0));
        let behind =
            headers.filter(|header| header.log_id == self.log_id && header.position >= end);
        behind.fold((0, Position::default()), |(count, durable), header| {
            (count + 1, durable.max(header.durable))
        })
    }
}
