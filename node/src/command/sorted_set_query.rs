//! Ranges of sorted sets: by rank, by score, by member; how they are asked for, and which members they have.
//!
//! Members have no numbers. What is asked for by rank is found by counting, from the end that is nearer.

use std::ops::{Bound, ControlFlow};

use ashlar_partition::{Order, Refusal};

use super::DataCall;
use super::collection::{ALL, Opened, SubKeys, integer};
use super::sorted_set::Scored;
use crate::number::parse_i64;
use crate::resp::Words;
use crate::score::{Members, Scores};

const SYNTAX: &str = "ERR syntax error";
const NOT_AN_INTEGER: &str = "ERR value is not an integer or out of range";
const NO_SCORES: &str = "ERR min or max is not a float";
const NO_MEMBERS: &str = "ERR min or max not valid string range item";

/// What the ends of a range are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Member,
}

/// A range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Range<'a> {
    Ranks(i64, i64),
    Scores(Scores),
    Members(Members<'a>),
}

impl<'a> Range<'a> {
    /// Reads the ends of a range, the lesser one first.
    pub(super) fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Self, &'static str> {
        match by {
            By::Rank => {
                let start = parse_i64(min).ok_or(NOT_AN_INTEGER)?;
                let end = parse_i64(max).ok_or(NOT_AN_INTEGER)?;
                Ok(Self::Ranks(start, end))
            }
            By::Score => Scores::parse(min, max).map(Self::Scores).ok_or(NO_SCORES),
            By::Member => Members::parse(min, max)
                .map(Self::Members)
                .ok_or(NO_MEMBERS),
        }
    }
}

/// What `ZRANGE` and its like ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Query<'a> {
    pub(super) range: Range<'a>,
    pub(super) order: Order,
    /// Members passed over, and members taken at most; negative is all of them.
    pub(super) limit: (i64, i64),
    pub(super) with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads the words from the ends of the range on. What and in which order is said by words when it is not given.
    pub(super) fn parse(
        words: Words<'a>,
        (mut by, mut order): (Option<By>, Option<Order>),
        stores: bool,
    ) -> Result<Self, &'static str> {
        let (asks_by, asks_order) = (by.is_none(), order.is_none());
        let (mut limit, mut with_scores) = ((0, -1), false);
        let mut options = words.tail(2);
        while let Some(option) = options.get(0) {
            let mut taken = 1;
            match option.to_ascii_lowercase().as_slice() {
                b"withscores" if !stores => with_scores = true,
                b"limit" if options.len() > 2 => {
                    let number = |at| options.get(at).and_then(parse_i64).ok_or(NOT_AN_INTEGER);
                    (limit, taken) = ((number(1)?, number(2)?), 3);
                }
                b"rev" if asks_order && order.is_none() => {
                    order = Some(Order::Descending);
                }
                b"bylex" if asks_by && by.is_none() => by = Some(By::Member),
                b"byscore" if asks_by && by.is_none() => by = Some(By::Score),
                _ => return Err(SYNTAX),
            }
            options = options.tail(taken);
        }
        let (by, order) = (by.unwrap_or(By::Rank), order.unwrap_or(Order::Ascending));
        if limit.1 != -1 && by == By::Rank {
            return Err(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            );
        }
        if with_scores && by == By::Member {
            return Err("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        }
        let word = |at| words.get(at).unwrap_or_default();
        let (start, end) = (word(0), word(1));
        let range = match by != By::Rank && order == Order::Descending {
            true => Range::parse(by, end, start)?,
            false => Range::parse(by, start, end)?,
        };
        Ok(Self {
            range,
            order,
            limit,
            with_scores,
        })
    }

    /// Returns the members that are asked for, in order.
    pub(super) fn select(
        &self,
        call: &mut DataCall<'_>,
        opened: &Opened<'_>,
    ) -> Result<Vec<Scored>, Refusal> {
        if let Range::Ranks(start, end) = self.range {
            return by_rank(call, opened, (start, end), self.order);
        }
        let Ok(skipped) = u64::try_from(self.limit.0) else {
            return Ok(Vec::new());
        };
        let taken = u64::try_from(self.limit.1).unwrap_or(u64::MAX);
        let mut slice = Slice::new(skipped, taken);
        if taken > 0 {
            let way = (self.order, skipped);
            walk(call, opened, &self.range, way, |score, member| {
                slice.take(score, member)
            })?;
        }
        Ok(slice.found)
    }
}

/// Members that are taken while walking over them.
struct Slice {
    skipped: u64,
    taken: u64,
    found: Vec<Scored>,
}

impl Slice {
    fn new(skipped: u64, taken: u64) -> Self {
        Self {
            skipped,
            taken,
            found: Vec::new(),
        }
    }

    fn take(&mut self, score: f64, member: &[u8]) -> ControlFlow<()> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return ControlFlow::Continue(());
        }
        let member = member.to_vec();
        self.found.push(Scored { member, score });
        match self.found.len() as u64 == self.taken {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Returns members from one place to another, `taken` of them.
pub(super) fn some_in_order(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    order: Order,
    (skipped, taken): (u64, u64),
) -> Result<Vec<Scored>, Refusal> {
    let mut slice = Slice::new(skipped, taken);
    if taken > 0 {
        call.walk_scores(opened, ALL, order, |score, member| {
            slice.take(score, member)
        })?;
    }
    Ok(slice.found)
}

/// Returns members by rank, counted from the nearer end.
fn by_rank(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    (start, end): (i64, i64),
    order: Order,
) -> Result<Vec<Scored>, Refusal> {
    let Some((before, taken)) = places(start, end, opened.count()) else {
        return Ok(Vec::new());
    };
    let behind = opened.count() - before - taken;
    if before <= behind {
        return some_in_order(call, opened, order, (before, taken));
    }
    let mut found = some_in_order(call, opened, opposite(order), (behind, taken))?;
    found.reverse();
    Ok(found)
}

/// Returns how many of `count` members come before those of a range, and how many it has; nothing when it is empty.
fn places(start: i64, end: i64, count: u64) -> Option<(u64, u64)> {
    let count = integer(count);
    let from_front = |place: i64| if place < 0 { count + place } else { place };
    let start = from_front(start).max(0);
    let end = from_front(end).min(count - 1);
    let taken = (start <= end).then(|| end - start + 1)?;
    Some((start.unsigned_abs(), taken.unsigned_abs()))
}

pub(super) fn opposite(order: Order) -> Order {
    match order {
        Order::Ascending => Order::Descending,
        Order::Descending => Order::Ascending,
    }
}

/// Walks over the members of a range, which is none of ranks; says in which order, and how many the caller skips.
pub(super) fn walk(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    range: &Range<'_>,
    (order, skipped): (Order, u64),
    take: impl FnMut(f64, &[u8]) -> ControlFlow<()>,
) -> Result<(), Refusal> {
    match range {
        Range::Ranks(..) => unreachable!("ranks are counted"),
        Range::Scores(scores) if scores.is_empty() => Ok(()),
        Range::Scores(scores) => {
            let sub_keys = (
                Bound::Included(&scores.from[..]),
                Bound::Excluded(&scores.until[..]),
            );
            call.walk_scores(opened, sub_keys, order, take)
        }
        Range::Members(members) => walk_members(call, opened, members, (order, skipped), take),
    }
}

/// Walks over members from one to another. Their order is that of scores, so this makes sense if all have the same one;
/// then the range is gone to. If not, it begins and ends where a walk over all would find it to, which looks at the
/// first one, but not at others that are skipped.
fn walk_members(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    members: &Members<'_>,
    (order, mut skipped): (Order, u64),
    mut take: impl FnMut(f64, &[u8]) -> ControlFlow<()>,
) -> Result<(), Refusal> {
    let first = some_in_order(call, opened, Order::Ascending, (0, 1))?.pop();
    let last = some_in_order(call, opened, Order::Descending, (0, 1))?.pop();
    let (Some(first), Some(last)) = (first, last) else {
        return Err(call.damaged());
    };
    let is_met = members.is_reached_by(&last.member, Order::Ascending)
        && !members.is_left_by(&first.member, Order::Ascending);
    if members.is_empty() || !is_met {
        return Ok(());
    }
    let (start, end) = match first.score == last.score {
        true => members.with_score(first.score),
        false => (Bound::Unbounded, Bound::Unbounded),
    };
    let sub_keys: SubKeys<'_> = (
        start.as_ref().map(Vec::as_slice),
        end.as_ref().map(Vec::as_slice),
    );
    let mut is_reached = false;
    call.walk_scores(opened, sub_keys, order, |score, member| {
        let is_first = !is_reached;
        is_reached |= members.is_reached_by(member, order);
        if !is_reached {
            return ControlFlow::Continue(());
        }
        let is_looked_at = is_first || skipped == 0;
        if is_looked_at && members.is_left_by(member, order) {
            return ControlFlow::Break(());
        }
        skipped = skipped.saturating_sub(1);
        take(score, member)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_from_either_end_name_places() {
        for (start, end, places_of) in [
            (0, -1, Some((0, 5))),
            (1, 2, Some((1, 2))),
            (-2, -1, Some((3, 2))),
            (-100, 100, Some((0, 5))),
            (4, 4, Some((4, 1))),
            (5, 9, None),
            (3, 2, None),
            (0, -6, None),
            (i64::MIN, i64::MAX, Some((0, 5))),
            (i64::MAX, i64::MIN, None),
        ] {
            assert_eq!(places(start, end, 5), places_of, "{start} {end}");
        }
    }
}
