//! Takes the answers of a connection in: finds whose they are, checks them against the ledger, counts them, and has the
//! author go on with operations of several steps. Not how the bytes came.
//!
//! Values shorter than the head of a sealed one are only counted as there or not.

use std::sync::Arc;

use ashlar_io::Monotonic;

use super::author::Author;
use super::ledger::{Fate, Floor, Wrong};
use super::pipeline::{Pending, Pipeline, Step};
use super::reply::{self, Elements, Front, Reply};
use super::sealed::{self, HEAD_BYTES, Seal};
use super::tally::Tally;
use super::workload::{Form, Workload, World};

/// The reader of one thread's answers.
#[derive(Debug)]
pub(crate) struct Reader {
    workload: Arc<Workload>,
    world: Arc<World>,
    /// Operations that were sent earlier are not recorded. One that was due earlier and could not be sent is: under a
    /// load that the server does not take, those are all there are.
    pub(crate) records_from: Monotonic,
}

impl Reader {
    /// Makes a reader.
    pub(crate) fn new(workload: &Arc<Workload>, world: &Arc<World>) -> Self {
        Self {
            workload: Arc::clone(workload),
            world: Arc::clone(world),
            records_from: Monotonic::default(),
        }
    }

    /// Takes received bytes in; returns how many operations have ended.
    ///
    /// # Errors
    /// The server does not speak RESP2, or answers what it was not asked.
    pub(crate) fn take_in(
        &mut self,
        bytes: &[u8],
        now: Monotonic,
        pipeline: &mut Pipeline,
        (author, tally): (&mut Author, &mut Tally),
    ) -> Result<u64, String> {
        tally.received_bytes += bytes.len() as u64;
        if pipeline.partial.is_empty() {
            let (used, ended) = self.take_whole(bytes, now, pipeline, (author, tally))?;
            pipeline.partial.extend_from_slice(&bytes[used..]);
            return Ok(ended);
        }
        pipeline.partial.extend_from_slice(bytes);
        if pipeline.partial.len() < pipeline.wanted {
            return Ok(0);
        }
        let mut whole = std::mem::take(&mut pipeline.partial);
        let (used, ended) = self.take_whole(&whole, now, pipeline, (author, tally))?;
        whole.drain(..used);
        pipeline.partial = whole;
        Ok(ended)
    }

    /// Takes in as many replies as are whole; returns their bytes, and how many operations have ended.
    fn take_whole(
        &mut self,
        bytes: &[u8],
        now: Monotonic,
        pipeline: &mut Pipeline,
        (author, tally): (&mut Author, &mut Tally),
    ) -> Result<(usize, u64), String> {
        let (mut used, mut ended) = (0, 0);
        while used < bytes.len() {
            match reply::read(&bytes[used..])? {
                Front::Whole(reply, count) => {
                    used += count;
                    let pending = pipeline.pending.pop_front();
                    let pending = pending.ok_or("the server sent a reply that nobody asked for")?;
                    if self.answer(pending, reply, pipeline, (author, tally)) {
                        self.record(pending, now, tally);
                        ended += 1;
                    }
                }
                Front::Partial(least) => {
                    pipeline.wanted = least;
                    break;
                }
            }
        }
        Ok((used, ended))
    }

    fn record(&self, pending: Pending, now: Monotonic, tally: &mut Tally) {
        tally.of_mut(pending.kind).done += 1;
        if self.records_from <= pending.sent {
            tally.record(
                pending.kind,
                now.since(pending.due),
                now.since(pending.sent),
            );
        }
    }

    /// Looks at the answer of a command; says whether its operation has ended.
    fn answer(
        &self,
        at: Pending,
        reply: Reply<'_>,
        pipeline: &mut Pipeline,
        (author, tally): (&mut Author, &mut Tally),
    ) -> bool {
        if let Reply::Error(text) = reply {
            return self.note_error(at, text, tally);
        }
        match (at.step, reply) {
            (Step::Read(floor) | Step::Part(floor), _) if self.workload.form == Form::String => {
                self.check_value(at, floor, reply, tally);
                matches!(at.step, Step::Read(_))
            }
            (Step::ReadFields(floor) | Step::Part(floor), _) => {
                self.check_fields(at, floor, reply, tally);
                matches!(at.step, Step::ReadFields(_))
            }
            (Step::ReadFirst(floor), _) => {
                match self.workload.form {
                    Form::String => self.check_value(at, floor, reply, tally),
                    Form::Hash => self.check_fields(at, floor, reply, tally),
                }
                author.append_write(at, false, pipeline);
                false
            }
            (Step::Write, Reply::Status | Reply::Integer(_))
            | (Step::Delete, Reply::Integer(_)) => {
                self.end_write(at.key, Fate::Done);
                true
            }
            (Step::Count(before), Reply::Integer(number)) => {
                if self.workload.verifies {
                    let verdict = self.world.ledger.count(at.key, before, number);
                    tally.verdict(verdict, || {
                        format!("counter {} is {number}, and was more than {before}", at.key)
                    });
                }
                true
            }
            (Step::Scan, Reply::Array(elements)) => {
                self.check_scan(at, elements, tally);
                true
            }
            (Step::Names, Reply::Array(named)) => !author.append_parts(at, named, pipeline),
            (Step::Name, Reply::Integer(_)) => false,
            (Step::Custom, _) => true,
            (_, other) => {
                tally.error(at.kind, || {
                    format!("unexpected reply to {}: {other:?}", at.kind.name())
                });
                !matches!(at.step, Step::Name)
            }
        }
    }

    fn note_error(&self, at: Pending, text: &[u8], tally: &mut Tally) -> bool {
        tally.error(at.kind, || String::from_utf8_lossy(text).into_owned());
        let fate = match text.starts_with(b"UNKNOWN") {
            true => Fate::Unknown,
            false => Fate::Refused,
        };
        if matches!(at.step, Step::Write | Step::Delete) {
            self.end_write(at.key, fate);
        }
        !matches!(at.step, Step::Name | Step::Part(_))
    }

    fn end_write(&self, key: u64, fate: Fate) {
        if self.workload.verifies {
            self.world.ledger.end(key, fate);
        }
    }

    /// Notes that the answer to a command will never come.
    pub(crate) fn give_up(&self, at: Pending) {
        if matches!(at.step, Step::Write | Step::Delete) {
            self.end_write(at.key, Fate::Unknown);
        }
    }

    fn check_value(&self, at: Pending, floor: Floor, reply: Reply<'_>, tally: &mut Tally) {
        let found = match reply {
            Reply::Null => None,
            Reply::Bulk(value) => Some(value),
            other => {
                return tally.error(at.kind, || format!("unexpected reply to a read: {other:?}"));
            }
        };
        tally.misses += u64::from(found.is_none());
        let is_short = found.is_some_and(|value| value.len() < HEAD_BYTES);
        if !self.workload.verifies || is_short && self.workload.sizes.smallest() < HEAD_BYTES {
            return;
        }
        let opened = found.map(sealed::open);
        let verdict = self
            .world
            .ledger
            .judge(at.key, sealed::owner(at.key, 0), floor, opened);
        tally.verdict(verdict, || self.found(at.key, floor, opened));
    }

    /// Checks each field by itself, and the newest of them against the ledger.
    fn check_fields(&self, at: Pending, floor: Floor, reply: Reply<'_>, tally: &mut Tally) {
        let Reply::Array(mut elements) = reply else {
            return tally.error(at.kind, || format!("unexpected reply to a read: {reply:?}"));
        };
        let is_there = elements.left() > 0;
        tally.misses += u64::from(!is_there);
        if !self.workload.verifies || self.workload.sizes.smallest() < HEAD_BYTES {
            return;
        }
        let (mut newest, mut verdict) = (None, Ok(()));
        while let (Some(Reply::Bulk(name)), Some(Reply::Bulk(value))) =
            (elements.next(), elements.next())
        {
            match open_field(at.key, name, value) {
                Ok(seal) => newest = newer(newest, self.world.ledger.own(seal)),
                Err(wrong) => verdict = verdict.and(Err(wrong)),
            }
        }
        let owner = sealed::owner(at.key, 0);
        let newest = is_there.then(|| newest.map(|seal| Seal { owner, ..seal }));
        let verdict = verdict.and_then(|()| self.world.ledger.judge(at.key, owner, floor, newest));
        tally.verdict(verdict, || self.found(at.key, floor, newest));
    }

    /// Checks that the keys of a scan are in order, and each value by itself.
    fn check_scan(&self, at: Pending, mut elements: Elements<'_>, tally: &mut Tally) {
        let (Some(_), Some(Reply::Array(mut found))) = (elements.next(), elements.next()) else {
            return tally.error(at.kind, || "unexpected reply to a scan".to_owned());
        };
        if !self.workload.verifies || self.workload.sizes.smallest() < HEAD_BYTES {
            return;
        }
        let mut least = at.key;
        while let (Some(Reply::Bulk(name)), Some(Reply::Bulk(value))) = (found.next(), found.next())
        {
            // Behind the last key there may be others' keys.
            let Some(key) = self.workload.names.number(name) else {
                break;
            };
            let verdict = match sealed::open(value) {
                _ if key < least => Err(Wrong::Misplaced),
                None => Err(Wrong::Damaged),
                Some(seal) if seal.owner != sealed::owner(key, 0) => Err(Wrong::Misplaced),
                Some(_) => Ok(()),
            };
            tally.verdict(verdict, || format!("key {key} in a scan from {}", at.key));
            least = key + 1;
        }
    }

    fn found(&self, key: u64, floor: Floor, found: Option<Option<Seal>>) -> String {
        let mut name = Vec::new();
        self.workload.names.append(key, &mut name);
        let name = String::from_utf8_lossy(&name).into_owned();
        let found = match found {
            None => "nothing".to_owned(),
            Some(None) => "bytes that nobody wrote".to_owned(),
            Some(Some(seal)) => format!("version {} of run {:08x}", seal.version, seal.run),
        };
        format!("{name} holds {found}; at least {floor} of this run was acknowledged")
    }
}

fn open_field(key: u64, name: &[u8], value: &[u8]) -> Result<Seal, Wrong> {
    let field = std::str::from_utf8(name).ok();
    let field = field.and_then(|name| name.strip_prefix("field")?.parse().ok());
    let field = field.ok_or(Wrong::Misplaced)?;
    let seal = sealed::open(value).ok_or(Wrong::Damaged)?;
    match seal.owner == sealed::owner(key, field) {
        true => Ok(seal),
        false => Err(Wrong::Misplaced),
    }
}

/// Returns the newer of two: one of this run before one of another, else the higher version.
fn newer(one: Option<Seal>, (own, seal): (bool, Seal)) -> Option<Seal> {
    match one {
        Some(one) if own && one.run == seal.run && seal.version <= one.version => Some(one),
        Some(one) if !own => Some(one),
        _ => Some(seal),
    }
}

#[cfg(test)]
mod tests;
