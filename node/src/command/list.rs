//! Lists: elements in an order, each at a place, a number; the first one's is in the root, and the others follow
//! without gaps. Both ends grow, so places may be negative. What pops is in [`super::list_pop`], and what
//! changes the middle in [`super::list_middle`].

use std::ops::{Bound, ControlFlow};

use ashlar_partition::collection::{ELEMENT, Family, place_bytes};
use ashlar_partition::{Order, Refusal};

use super::collection::Opened;
use super::{Command, DataCall, Derived, Run, not_an_integer};
use crate::number::parse_i64;
use crate::pubsub::notice::Class;

/// What lists are.
pub(super) const FAMILY: Family = Family::List;

/// What reads of a list have in common.
pub(super) const READ: Command = Command {
    name: "",
    arity: 3,
    flags: &["readonly"],
    first_key: 1,
    last_key: 1,
    key_step: 1,
    group: "list",
    summary: "",
    since: "1.0.0",
    syntax: "key",
    run: Run::Data(|call| call.attempt(llen)),
    derived: Derived::LATER,
    is_blind: false,
};

/// What pushes have in common.
const PUSH: Command = Command {
    arity: -3,
    flags: &["write", "denyoom", "fast"],
    syntax: "key element [element ...]",
    ..READ
};

/// The commands of this part of the family.
pub const LIST: &[Command] = &[
    Command {
        name: "lpush",
        summary: "Adds elements at the front of a list.",
        run: Run::Data(|call| call.attempt(|call| push(call, End::Front, Missing::IsMade))),
        ..PUSH
    },
    Command {
        name: "rpush",
        summary: "Adds elements at the back of a list.",
        run: Run::Data(|call| call.attempt(|call| push(call, End::Back, Missing::IsMade))),
        ..PUSH
    },
    Command {
        name: "lpushx",
        summary: "Adds elements at the front of a list that is there.",
        since: "2.2.0",
        run: Run::Data(|call| call.attempt(|call| push(call, End::Front, Missing::IsLeft))),
        ..PUSH
    },
    Command {
        name: "rpushx",
        summary: "Adds elements at the back of a list that is there.",
        since: "2.2.0",
        run: Run::Data(|call| call.attempt(|call| push(call, End::Back, Missing::IsLeft))),
        ..PUSH
    },
    Command {
        name: "llen",
        arity: 2,
        flags: &["readonly", "fast"],
        summary: "Returns the length of a list.",
        ..READ
    },
    Command {
        name: "lindex",
        summary: "Returns the element at an index; negative ones count from the back.",
        syntax: "key index",
        run: Run::Data(|call| call.attempt(lindex)),
        ..READ
    },
    Command {
        name: "lrange",
        arity: 4,
        summary: "Returns the elements from one index to another, both included.",
        syntax: "key start stop",
        run: Run::Data(|call| call.attempt(lrange)),
        ..READ
    },
];

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where `LPUSH` pushes.
    Front,
    /// Where `RPUSH` does.
    Back,
}

impl End {
    /// Reads `LEFT` or `RIGHT`.
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"left" => Some(Self::Front),
            b"right" => Some(Self::Back),
            _ => None,
        }
    }

    /// Returns the event of an element that came at this end.
    pub(super) const fn pushed(self) -> &'static str {
        match self {
            Self::Front => "lpush",
            Self::Back => "rpush",
        }
    }

    /// Returns the event of an element that went at this end.
    pub(super) const fn popped(self) -> &'static str {
        match self {
            Self::Front => "lpop",
            Self::Back => "rpop",
        }
    }
}

/// What becomes of a list that is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    IsMade,
    IsLeft,
}

fn push(call: &mut DataCall<'_>, end: End, missing: Missing) -> Result<(), Refusal> {
    let key = call.word(1);
    if missing == Missing::IsLeft && call.open(key, FAMILY)?.is_none() {
        call.reply().integer(0);
        return Ok(());
    }
    let mut opened = call.open_to_add(key, FAMILY)?;
    for element in call.words.tail(2).iter() {
        add(call, &mut opened, end, element)?;
    }
    call.notify(Class::List, end.pushed(), key);
    call.close(&opened);
    call.reply().integer(length(&opened));
    Ok(())
}

/// Adds an element at an end of a list that is closed later.
///
/// # Errors
/// [`Refusal`]: it is too long, or there are too many.
pub(super) fn add(
    call: &mut DataCall<'_>,
    opened: &mut Opened<'_>,
    end: End,
    element: &[u8],
) -> Result<(), Refusal> {
    let root = &mut opened.rooted.root;
    let place = match end {
        End::Front => root.first.checked_sub(1),
        End::Back => root.first.checked_add_unsigned(root.count),
    };
    let place = place.ok_or(Refusal::TooWide)?;
    if end == End::Front {
        root.first = place;
    }
    opened.add(1);
    call.put(opened, (ELEMENT, &place_bytes(place)), element)
}

/// Returns elements from a place on, counted from the end that the order begins at: so many of them.
///
/// # Errors
/// [`Refusal`]: they must be brought into memory, are too much, or are not all there.
pub(super) fn some(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    (skipped, count): (u64, u64),
    order: Order,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let root = opened.rooted.root;
    let count = count.min(root.count.saturating_sub(skipped));
    if count == 0 {
        return Ok(Vec::new());
    }
    let (first, last) = places_of(opened, (skipped, count), order);
    let sub_keys = (Bound::Included(&first[..]), Bound::Included(&last[..]));
    let mut found = Vec::new();
    call.walk(opened, (ELEMENT, sub_keys), order, |_, element| {
        found.push(element.to_vec());
        ControlFlow::Continue(())
    })?;
    match found.len() as u64 == count {
        true => Ok(found),
        false => Err(Refusal::Damaged(call.partition.id().0)),
    }
}

/// Answers elements.
pub(super) fn show(call: &mut DataCall<'_>, elements: &[Vec<u8>]) {
    let mut reply = call.reply();
    reply.array(elements.len());
    elements.iter().for_each(|element| reply.bulk(element));
}

fn llen(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let opened = call.open_to_read(call.word(1), FAMILY)?;
    let length = opened.map_or(0, |opened| length(&opened));
    call.reply().integer(length);
    Ok(())
}

fn lindex(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let Some(opened) = call.open_to_read(call.word(1), FAMILY)? else {
        call.reply().null();
        return Ok(());
    };
    let Some(index) = parse_i64(call.word(2)) else {
        not_an_integer(&mut call.reply());
        return Ok(());
    };
    let Some(place) = place_at(&opened, index) else {
        call.reply().null();
        return Ok(());
    };
    let element = (ELEMENT, &place_bytes(place)[..]);
    call.answer_element(&opened, element, |element, reply| {
        reply.optional_bulk(element);
    })
}

/// Returns the first and the last place of elements that are there, at least one, counted from the end that the order
/// begins at.
fn places_of(
    opened: &Opened<'_>,
    (skipped, count): (u64, u64),
    order: Order,
) -> ([u8; 8], [u8; 8]) {
    let root = opened.rooted.root;
    let (first, last) = match order {
        Order::Ascending => (skipped, skipped + count - 1),
        Order::Descending => (root.count - skipped - count, root.count - skipped - 1),
    };
    let bytes = |index: u64| place_bytes(root.first.saturating_add_unsigned(index));
    (bytes(first), bytes(last))
}

/// Returns the place of an index; nothing when there is no such element.
pub(super) fn place_at(opened: &Opened<'_>, index: i64) -> Option<i64> {
    let root = opened.rooted.root;
    let index = match index {
        0.. => index.unsigned_abs(),
        _ => root.count.checked_sub(index.unsigned_abs())?,
    };
    (index < root.count).then(|| root.first.saturating_add_unsigned(index))
}

fn lrange(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let (Some(start), Some(stop)) = (parse_i64(call.word(2)), parse_i64(call.word(3))) else {
        not_an_integer(&mut call.reply());
        return Ok(());
    };
    let Some(opened) = call.open_to_read(call.word(1), FAMILY)? else {
        call.reply().array(0);
        return Ok(());
    };
    let (skipped, count) = range_of(&opened, start, stop);
    call.reply()
        .array(usize::try_from(count).map_err(|_| Refusal::TooMuch)?);
    if count == 0 {
        return Ok(());
    }
    let (first, last) = places_of(&opened, (skipped, count), Order::Ascending);
    let places = (Bound::Included(&first[..]), Bound::Included(&last[..]));
    call.show_some(&opened, (ELEMENT, places), count, |_, element, reply| {
        reply.bulk(element);
    })
}

/// Returns how many elements lie before the range from one index to another, and how many in it.
pub(super) fn range_of(opened: &Opened<'_>, start: i64, stop: i64) -> (u64, u64) {
    let length = length(opened);
    let from_front = |index: i64| match index {
        0.. => index,
        _ => index.saturating_add(length),
    };
    let (start, stop) = (from_front(start).max(0), from_front(stop).min(length - 1));
    match start <= stop {
        true => (start.unsigned_abs(), (stop - start + 1).unsigned_abs()),
        false => (0, 0),
    }
}

/// Returns the length of a list as replies have it.
pub(super) fn length(opened: &Opened<'_>) -> i64 {
    i64::try_from(opened.count()).unwrap_or(i64::MAX)
}
