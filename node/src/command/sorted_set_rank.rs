//! The rank of a member of a sorted set: how many come before it. They are counted, from the member towards both ends.

use std::ops::{Bound, ControlFlow};

use ashlar_partition::collection::score_bytes;
use ashlar_partition::{Order, Refusal};

use super::collection::{Opened, integer};
use super::sorted_set::{FAMILY, READ};
use super::sorted_set_query::opposite;
use super::{Command, DataCall, Run};

/// The commands of this part of the family.
pub const SORTED_SET_RANK: &[Command] = &[
    Command {
        name: "zrank",
        arity: -3,
        summary: "Returns how many members come before one; they are counted.",
        since: "2.0.0",
        syntax: "key member [WITHSCORE]",
        run: Run::Data(|call| call.attempt(|call| rank(call, Order::Ascending))),
        ..READ
    },
    Command {
        name: "zrevrank",
        arity: -3,
        summary: "Returns how many members come behind one; they are counted.",
        since: "2.0.0",
        syntax: "key member [WITHSCORE]",
        run: Run::Data(|call| call.attempt(|call| rank(call, Order::Descending))),
        ..READ
    },
];

fn rank(call: &mut DataCall<'_>, order: Order) -> Result<(), Refusal> {
    let option = call.words.tail(3);
    if option.len() > 1 {
        let name = String::from_utf8_lossy(call.word(0)).to_ascii_lowercase();
        super::wrong_arity(&mut call.reply(), &name);
        return Ok(());
    }
    let with_score = option.get(0).is_some();
    if option
        .iter()
        .any(|word| !word.eq_ignore_ascii_case(b"withscore"))
    {
        return call.tell("ERR syntax error");
    }
    let found = match call.open_to_read(call.word(1), FAMILY)? {
        None => None,
        Some(opened) => rank_of(call, &opened, call.word(2), order)?,
    };
    let mut reply = call.reply();
    match found {
        None if with_score => reply.null_array(),
        None => reply.null(),
        Some((rank, score)) => {
            if with_score {
                reply.array(2);
            }
            reply.integer(integer(rank));
            if with_score {
                reply.double(score);
            }
        }
    }
    Ok(())
}

/// Members that are counted in one direction before the other one is tried.
const COUNTED_FIRST: u64 = 64;

/// Returns how many members come before one, and its score; nothing when it is missing. They are counted from the
/// member towards both ends, further each time, until one end is reached.
fn rank_of(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    member: &[u8],
    order: Order,
) -> Result<Option<(u64, f64)>, Refusal> {
    let Some(score) = call.score(opened, member)? else {
        return Ok(None);
    };
    let place = [&score_bytes(score), member].concat();
    let mut most = COUNTED_FIRST;
    loop {
        for towards in [opposite(order), order] {
            let Some(counted) = count_towards(call, opened, &place, towards, most)? else {
                continue;
            };
            let rank = match towards == order {
                true => opened.count().checked_sub(counted + 1),
                false => Some(counted),
            };
            let rank = rank.ok_or(call.damaged())?;
            return Ok(Some((rank, score)));
        }
        most = most.saturating_mul(4);
    }
}

/// Counts the members behind a place; nothing when they are more than `most`.
fn count_towards(
    call: &mut DataCall<'_>,
    opened: &Opened<'_>,
    place: &[u8],
    towards: Order,
    most: u64,
) -> Result<Option<u64>, Refusal> {
    let sub_keys = match towards {
        Order::Ascending => (Bound::Excluded(place), Bound::Unbounded),
        Order::Descending => (Bound::Unbounded, Bound::Excluded(place)),
    };
    let mut counted = 0;
    call.walk_scores(opened, sub_keys, towards, |_, _| {
        counted += 1;
        match counted > most {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })?;
    Ok((counted <= most).then_some(counted))
}
