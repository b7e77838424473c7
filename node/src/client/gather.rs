//! Commands over several partitions: the questions that a connection asks, one partition after the
//! other, and the one reply that their answers become. The connection waits for its earlier replies
//! first, so the order of its commands is kept.

use std::ops::Bound;

use ashlar_partition::collection::Family;
use ashlar_partition::{Order, Part, Scan as Walk};

use super::Client;
use crate::cluster::Roster;
use crate::cluster::roster::Change;
use crate::command::member::Wish;
use crate::command::spread::{Answer, Found, Plan, Question, Range, Scan};
use crate::glob;
use crate::message::Once;
use crate::resp::encode::Encoder;

/// Bytes of keys and values that one partition answers at once.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Keys that `KEYS` asks for at once.
const KEYS_AT_ONCE: usize = 1000;

/// Why there is no answer: the error to reply with.
pub(super) struct NoAnswer(pub(super) Vec<u8>);

impl Client {
    /// Asks all partitions that a command goes over, and writes its reply.
    pub(super) async fn gather(
        &self,
        plan: Plan,
        once: Option<&Once>,
        reply: &mut Vec<u8>,
    ) -> Result<(), NoAnswer> {
        let mut encoder = Encoder::new(reply, self.session.version);
        let encoder = &mut encoder;
        match plan {
            Plan::Count { database } => self.count(database, encoder).await,
            Plan::Clear { database } => {
                let question = |_| Question::Clear { database };
                self.change_all(0, once, question, encoder).await
            }
            Plan::DeleteRange { start, end } => {
                let first = self.core.routes.partition_of(&start);
                let question = |partition: usize| {
                    let range = self.core.routes.range(partition);
                    let (start, end) = range.clamp(&start, &end);
                    Question::DeleteRange { start, end }
                };
                self.change_all(first, once, question, encoder).await
            }
            Plan::Scan(scan) => self.scan(scan, encoder).await,
            Plan::Walk(range) => self.walk(range, encoder).await,
            Plan::Random { database } => self.random(database, encoder).await,
            Plan::HandOver { partition, to } => {
                self.ask(partition, Question::HandOver { to }).await?;
                encoder.ok();
                Ok(())
            }
            Plan::Timestamp => self.timestamp(encoder).await,
            Plan::Member(wish) => self.change_members(wish, encoder).await,
            Plan::Watch(_) => unreachable!("watching changes the session: the connection does it"),
            Plan::Keys { database, pattern } => self.keys(database, &pattern, encoder).await,
        }
    }

    /// Asks a partition; refusals and failures become the error of the whole command.
    pub(super) async fn ask(
        &self,
        partition: usize,
        question: Question,
    ) -> Result<Answer, NoAnswer> {
        let answer = self.core.ask(partition, question).await;
        let mut error = Vec::new();
        let mut encoder = Encoder::new(&mut error, self.session.version);
        match answer {
            Answer::Refused(refusal) => crate::command::refuse(&mut encoder, refusal),
            Answer::Failed(what) => encoder.error(what.as_bytes()),
            answer => return Ok(answer),
        }
        Err(NoAnswer(error))
    }

    /// Changes the members of the cluster; answers who they are then.
    async fn change_members(&self, wish: Wish, encoder: &mut Encoder<'_>) -> Result<(), NoAnswer> {
        match self.try_change_members(wish).await {
            Ok(roster) => {
                let text = format!("roster {}: {}", roster.version, roster.names());
                encoder.simple(text.as_bytes());
                Ok(())
            }
            Err(text) => {
                let mut error = Vec::new();
                Encoder::new(&mut error, self.session.version).error(text.as_bytes());
                Err(NoAnswer(error))
            }
        }
    }

    async fn try_change_members(&self, wish: Wish) -> Result<Roster, String> {
        let change = match wish {
            Wish::Add(invited) => Change::Add(self.core.invite(invited).await?),
            Wish::Remove(name) => Change::Remove(name),
            Wish::Replace(name, invited) => Change::Replace(name, self.core.invite(invited).await?),
        };
        self.core.change_members(&change).await
    }

    /// Answers the last of all leaders' timestamps.
    async fn timestamp(&self, encoder: &mut Encoder<'_>) -> Result<(), NoAnswer> {
        let mut last = 0;
        for partition in 0..self.core.routes.partitions() {
            if let Answer::Timestamp(at) = self.ask(partition, Question::Timestamp).await? {
                last = last.max(at.0);
            }
        }
        encoder.integer(i64::try_from(last).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn count(&self, database: u8, encoder: &mut Encoder<'_>) -> Result<(), NoAnswer> {
        let mut keys = 0;
        for partition in 0..self.core.routes.partitions() {
            if let Answer::Count(n) = self.ask(partition, Question::Count { database }).await? {
                keys += n;
            }
        }
        encoder.integer(i64::try_from(keys).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Asks every partition from `first` on for a change. When one refuses, those before it have
    /// done it.
    async fn change_all(
        &self,
        first: usize,
        once: Option<&Once>,
        question: impl Fn(usize) -> Question,
        encoder: &mut Encoder<'_>,
    ) -> Result<(), NoAnswer> {
        for partition in first..self.core.routes.partitions() {
            let question = match once {
                Some(once) => Question::Once(once.clone(), Box::new(question(partition))),
                None => question(partition),
            };
            self.ask(partition, question).await?;
        }
        encoder.ok();
        Ok(())
    }

    async fn random(&self, database: u8, encoder: &mut Encoder<'_>) -> Result<(), NoAnswer> {
        let partitions = self.core.routes.partitions() as u64;
        let seed = self.core.reactor.random();
        let mut found = None;
        for n in 0..partitions {
            let partition =
                usize::try_from((seed % partitions + n) % partitions).expect("below a usize");
            let question = Question::Random { database, seed };
            if let Answer::Key(Some(key)) = self.ask(partition, question).await? {
                found = Some(key);
                break;
            }
        }
        encoder.optional_bulk(found.as_deref());
        Ok(())
    }

    /// One step of a scan: asks partition after partition until enough keys were found, or none is
    /// left.
    async fn scan(&self, scan: Scan, encoder: &mut Encoder<'_>) -> Result<(), NoAnswer> {
        let Scan {
            database,
            after,
            count,
            pattern,
            only_type,
        } = scan;
        let walk = all_keys(database, after, count);
        let (entries, next) = self.entries(walk).await?;
        let is_wanted = |found: &&Found| {
            let type_name = found.family.map_or("string", Family::name);
            pattern.as_ref().is_none_or(|pattern| {
                glob::matches(pattern, &found.key[1..], glob::Case::Sensitive)
            }) && only_type
                .as_ref()
                .is_none_or(|name| name.eq_ignore_ascii_case(type_name.as_bytes()))
        };
        let wanted = entries.iter().filter(is_wanted);
        let keys: Vec<&[u8]> = wanted.map(|found| &found.key[1..]).collect();
        let after = next.and_then(|walk| match walk.keys.0 {
            Bound::Excluded(after) => Some(after),
            Bound::Included(_) | Bound::Unbounded => None,
        });
        let cursor = after.map_or(0, |after| self.core.shared.keep_cursor(after));
        encoder.array(2);
        encoder.bulk(cursor.to_string().as_bytes());
        encoder.array(keys.len());
        keys.into_iter().for_each(|key| encoder.bulk(key));
        Ok(())
    }

    /// Answers a range: where to go on (null at the end), and what was found.
    async fn walk(&self, range: Range, encoder: &mut Encoder<'_>) -> Result<(), NoAnswer> {
        let part = range.part;
        let (entries, next) = self.entries(range.walk).await?;
        // The next call begins with this key: behind the last one looked at.
        let next = next.and_then(|walk| match (walk.order, walk.keys.0, walk.keys.1) {
            (Order::Ascending, Bound::Excluded(after), _) => Some([&after[1..], &[0]].concat()),
            (Order::Descending, _, Bound::Excluded(before)) => Some(before[1..].to_vec()),
            _ => None,
        });
        encoder.array(2);
        encoder.optional_bulk(next.as_deref());
        encoder.array(entries.len() * if part == Part::Value { 2 } else { 1 });
        for found in &entries {
            encoder.bulk(&found.key[1..]);
            if part == Part::Value {
                // A collection has elements, and no value.
                let value = found.family.is_none().then_some(&found.value);
                encoder.optional_bulk(value.map(Vec::as_slice));
            }
        }
        Ok(())
    }

    /// Walks over partitions until enough was found; answers where to go on, if not at the end.
    async fn entries(&self, mut walk: Walk) -> Result<(Vec<Found>, Option<Walk>), NoAnswer> {
        let routes = &self.core.routes;
        let mut partitions: Vec<usize> = routes.partitions_between(&walk.keys).collect();
        if walk.order == Order::Descending {
            partitions.reverse();
        }
        let mut found: Vec<Found> = Vec::new();
        for partition in partitions {
            if walk.keys_max == 0 || walk.bytes_max == 0 {
                // The partition before has given all that was wanted, and had no more.
                let last = found.last().expect("something was wanted and given");
                walk.resume(&last.key);
                return Ok((found, Some(walk)));
            }
            let Answer::Entries(more, next) =
                self.ask(partition, Question::Scan(walk.clone())).await?
            else {
                break;
            };
            let bytes = more.iter().map(|found| found.key.len() + found.value.len());
            let bytes: usize = bytes.sum();
            walk.keys_max = walk.keys_max.saturating_sub(more.len());
            walk.bytes_max = walk.bytes_max.saturating_sub(bytes);
            found.extend(more);
            if next.is_some() {
                return Ok((found, next));
            }
        }
        Ok((found, None))
    }

    async fn keys(
        &self,
        database: u8,
        pattern: &[u8],
        encoder: &mut Encoder<'_>,
    ) -> Result<(), NoAnswer> {
        let mut found = Vec::new();
        let mut walk = Some(all_keys(database, None, KEYS_AT_ONCE));
        while let Some(some) = walk {
            let (entries, next) = self.entries(some).await?;
            let keys = entries.into_iter().map(|found| found.key[1..].to_vec());
            found.extend(keys.filter(|key| glob::matches(pattern, key, glob::Case::Sensitive)));
            self.core.next_turn(true).await;
            walk = next.map(|next| Walk {
                keys_max: KEYS_AT_ONCE,
                bytes_max: ANSWER_BYTES_MAX,
                ..next
            });
        }
        encoder.array(found.len());
        found.iter().for_each(|key| encoder.bulk(key));
        Ok(())
    }
}

/// A walk over the keys of a database behind `after`.
fn all_keys(database: u8, after: Option<Vec<u8>>, keys_max: usize) -> Walk {
    let start = after.map_or(Bound::Included(vec![database]), Bound::Excluded);
    Walk {
        keys: (start, Bound::Excluded(vec![database + 1])),
        order: Order::Ascending,
        part: Part::Key,
        at: None,
        keys_max,
        bytes_max: ANSWER_BYTES_MAX,
    }
}
