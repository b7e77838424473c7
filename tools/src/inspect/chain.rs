//! The log that segments make up: where it starts, where it ends, and whether its end is a torn tail or damage. Decides
//! as recovery does (`ashlar_io::wal::recover`), but changes nothing and goes on to say all it can.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ashlar_io::wal::Position;
use ashlar_io::wal::format::Header;

use super::segment::{Flaw, Link, Segment};

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

    /// Returns where the walk begins, and the link that the first batch must carry.
    fn start(&self) -> Link {
        let first = self.numbered.values().next().map(|(first, _)| *first);
        let (position, previous) = match (self.scope, first) {
            (Scope::OneSegment, Some(first)) => (first.position, first.previous),
            _ => {
                let start = self
                    .numbered
                    .values()
                    .map(|(first, _)| first.start)
                    .max()
                    .unwrap_or_default();
                (start, start)
            }
        };
        Link {
            log_id: self.log_id,
            generation: 0,
            position,
            previous,
        }
    }

    /// Walks from start to end, and hands each batch to `take`: its segment, its header, its payload. Ends early, with
    /// `Err`, when `take` does.
    pub(crate) fn walk<E>(
        &self,
        mut take: impl FnMut(&Segment, &Header, &[u8]) -> Result<(), E>,
    ) -> Result<Verdict, E> {
        let mut link = self.start();
        let (start, mut batches, mut durable) = (link.position, 0, Position::default());
        let flaw = loop {
            let number = link.position.0 / self.segment_bytes;
            let Some((_, segment)) = self.numbered.get(&number) else {
                break (PathBuf::new(), 0, Flaw::Missing);
            };
            let base = number * self.segment_bytes;
            let flaw = loop {
                let (header, payload) = match segment.batch(link.position.0 - base, &link) {
                    Ok(batch) => batch,
                    Err(flaw) => break flaw,
                };
                take(segment, &header, payload)?;
                (batches, durable) = (batches + 1, durable.max(header.durable));
                let end = header.end();
                (link.generation, link.position, link.previous) = (header.generation, end, end);
            };
            match self.continued_in(number + 1, &link) {
                Some(position) => link.position = position,
                None => break (segment.path().to_owned(), link.position.0 - base, flaw),
            }
        };
        let (later, later_durable) = self.later(link.previous);
        let durable = durable.max(later_durable);
        Ok(Verdict {
            start,
            end: link.previous,
            batches,
            durable,
            flaw,
            later,
        })
    }

    /// Returns where the chain goes on when the rest of a segment was skipped: the next one tells, by its link.
    fn continued_in(&self, number: u64, link: &Link) -> Option<Position> {
        let (first, _) = self.numbered.get(&number)?;
        let continues = first.generation >= link.generation && first.previous == link.previous;
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
