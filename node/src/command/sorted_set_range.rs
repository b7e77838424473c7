//! Commands on ranges of sorted sets: they are answered, counted, stored and removed. What a range is and how its
//! members are found is in `sorted_set_query`.

use std::ops::ControlFlow;

use ashlar_partition::{Order, Refusal};

use super::collection::integer;
use super::sorted_set::{FAMILY, READ, Scored, WRITE, show};
use super::sorted_set_query::{By, Query, Range, walk};
use super::{Command, DataCall, Run};
use crate::pubsub::notice::Class;

/// What answers of ranges have in common.
const RANGE: Command = Command {
    arity: -4,
    flags: &["readonly"],
    ..READ
};

/// What removals of ranges have in common.
const REMOVE: Command = Command {
    flags: &["write"],
    ..WRITE
};

/// The commands of this part of the family.
pub const SORTED_SET_RANGE: &[Command] = &[
    Command {
        name: "zrange",
        summary: "Returns members of a sorted set by rank, score or member.",
        syntax: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        run: Run::Data(|call| call.attempt(|call| range(call, None, None))),
        ..RANGE
    },
    Command {
        name: "zrangestore",
        arity: -5,
        flags: &["write", "denyoom"],
        last_key: 2,
        summary: "Stores members of a sorted set by rank, score or member; returns how many.",
        since: "6.2.0",
        syntax: "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        run: Run::Data(|call| call.attempt(zrangestore)),
        ..RANGE
    },
    Command {
        name: "zrevrange",
        summary: "Returns members of a sorted set by rank, the greatest score first.",
        syntax: "key start stop [WITHSCORES]",
        run: Run::Data(|call| call.attempt(|call| range(call, Some(By::Rank), DOWN))),
        ..RANGE
    },
    Command {
        name: "zrangebyscore",
        summary: "Returns members of a sorted set by score.",
        since: "1.0.5",
        syntax: "key min max [WITHSCORES] [LIMIT offset count]",
        run: Run::Data(|call| call.attempt(|call| range(call, Some(By::Score), UP))),
        ..RANGE
    },
    Command {
        name: "zrevrangebyscore",
        summary: "Returns members of a sorted set by score, the greatest first.",
        since: "2.2.0",
        syntax: "key max min [WITHSCORES] [LIMIT offset count]",
        run: Run::Data(|call| call.attempt(|call| range(call, Some(By::Score), DOWN))),
        ..RANGE
    },
    Command {
        name: "zrangebylex",
        summary: "Returns members of a sorted set whose scores are all the same, by member.",
        since: "2.8.9",
        syntax: "key min max [LIMIT offset count]",
        run: Run::Data(|call| call.attempt(|call| range(call, Some(By::Member), UP))),
        ..RANGE
    },
    Command {
        name: "zrevrangebylex",
        summary: "Returns members of a sorted set whose scores are all the same, by member, the greatest first.",
        since: "2.8.9",
        syntax: "key max min [LIMIT offset count]",
        run: Run::Data(|call| call.attempt(|call| range(call, Some(By::Member), DOWN))),
        ..RANGE
    },
    Command {
        name: "zcount",
        arity: 4,
        summary: "Counts the members of a sorted set within scores.",
        since: "2.0.0",
        syntax: "key min max",
        run: Run::Data(|call| call.attempt(|call| count(call, By::Score))),
        ..READ
    },
    Command {
        name: "zlexcount",
        arity: 4,
        summary: "Counts the members of a sorted set from one to another.",
        since: "2.8.9",
        syntax: "key min max",
        run: Run::Data(|call| call.attempt(|call| count(call, By::Member))),
        ..READ
    },
    Command {
        name: "zremrangebyrank",
        summary: "Removes members of a sorted set by rank.",
        since: "2.0.0",
        syntax: "key start stop",
        run: Run::Data(|call| call.attempt(|call| remove(call, By::Rank))),
        ..REMOVE
    },
    Command {
        name: "zremrangebyscore",
        summary: "Removes members of a sorted set by score.",
        syntax: "key min max",
        run: Run::Data(|call| call.attempt(|call| remove(call, By::Score))),
        ..REMOVE
    },
    Command {
        name: "zremrangebylex",
        summary: "Removes members of a sorted set whose scores are all the same, by member.",
        since: "2.8.9",
        syntax: "key min max",
        run: Run::Data(|call| call.attempt(|call| remove(call, By::Member))),
        ..REMOVE
    },
];

const UP: Option<Order> = Some(Order::Ascending);
const DOWN: Option<Order> = Some(Order::Descending);

fn range(call: &mut DataCall<'_>, by: Option<By>, order: Option<Order>) -> Result<(), Refusal> {
    let query = match Query::parse(call.words.tail(2), (by, order), false) {
        Ok(query) => query,
        Err(error) => return call.tell(error),
    };
    let found = match call.open_to_read(call.word(1), FAMILY)? {
        None => Vec::new(),
        Some(opened) => query.select(call, &opened)?,
    };
    show(call, &found, query.with_scores);
    Ok(())
}

fn zrangestore(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let query = match Query::parse(call.words.tail(3), (None, None), true) {
        Ok(query) => query,
        Err(error) => return call.tell(error),
    };
    let found = match call.open_to_read(call.word(2), FAMILY)? {
        None => Vec::new(),
        Some(opened) => query.select(call, &opened)?,
    };
    store(call, &found, "zrangestore")
}

/// Stores members under the first key of the command, in the place of whatever was there; answers how many.
pub(super) fn store(
    call: &mut DataCall<'_>,
    found: &[Scored],
    event: &'static str,
) -> Result<(), Refusal> {
    call.store_all(
        FAMILY,
        found,
        (Class::SortedSet, event),
        |call, opened, found| call.put_score(opened, &found.member, None, found.score),
    )
}

fn count(call: &mut DataCall<'_>, by: By) -> Result<(), Refusal> {
    let range = match Range::parse(by, call.word(2), call.word(3)) {
        Ok(range) => range,
        Err(error) => return call.tell(error),
    };
    let mut count = 0;
    if let Some(opened) = call.open_to_read(call.word(1), FAMILY)? {
        walk(call, &opened, &range, (Order::Ascending, 0), |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })?;
    }
    call.reply().integer(count);
    Ok(())
}

fn remove(call: &mut DataCall<'_>, by: By) -> Result<(), Refusal> {
    let range = match Range::parse(by, call.word(2), call.word(3)) {
        Ok(range) => range,
        Err(error) => return call.tell(error),
    };
    let Some(opened) = call.open_to_remove(call.word(1), FAMILY)? else {
        call.reply().integer(0);
        return Ok(());
    };
    let query = Query {
        range,
        order: Order::Ascending,
        limit: (0, -1),
        with_scores: false,
    };
    let found = query.select(call, &opened)?;
    let event = match by {
        By::Rank => "zremrangebyrank",
        By::Score => "zremrangebyscore",
        By::Member => "zremrangebylex",
    };
    call.delete_all_scored(opened, &found, event)?;
    call.reply().integer(integer(found.len() as u64));
    Ok(())
}
