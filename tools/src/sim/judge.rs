//! Whether a reply is one that the model allows, and what the model learns from it.

use std::collections::{BTreeMap, BTreeSet};

use super::ask::{Asked, SharedMoment, Walk};
use super::client::Crowd;
use super::model::{Clocks, Counter, Model, Write};
use super::wire::{Reply, number_of};

/// Notes that a command was never answered.
pub(super) fn unknown(model: &mut Model, asked: Asked) {
    model.unknown += 1;
    match asked {
        Asked::Increment(key) => model.counters.entry(key).or_default().unknown(),
        Asked::Counted(_, inner) => unknown(model, *inner),
        Asked::Exec(exec) => exec.lose(model),
        // A write stays among those that float.
        _ => {}
    }
}

/// Checks that an error is one that `what` may be answered with.
pub(super) fn refused(crowd: &Crowd, what: &str, text: &str) {
    let code = text.split(' ').next().unwrap_or_default();
    let mark = match code {
        "BUSY" => "refused: busy",
        "DISKFULL" => "refused: disk full",
        "CROSSRANGE" => "refused: several partitions",
        "IOERR" => "refused: file cannot be read",
        "DAMAGED" => "refused: damaged",
        "TOOOLD" => "refused: too old",
        "UNKNOWN" => "outcome not known",
        "CLUSTERDOWN" => "refused: no leader",
        "TRYAGAIN" => "refused: try again",
        "EXECABORT" => "refused: transaction",
        "CLOCK" => "refused: the clock cannot be believed",
        _ => "refused: in the future",
    };
    let jumping = crowd.model.borrow().clocks == Clocks::Jumping;
    let allowed = match code {
        "BUSY" | "DISKFULL" | "CROSSRANGE" | "TOOOLD" | "EXECABORT" => true,
        "CLOCK" => crowd.waits,
        "UNKNOWN" | "CLUSTERDOWN" | "TRYAGAIN" => crowd.is_cluster(),
        "IOERR" => !crowd.healed.get(),
        "DAMAGED" => crowd.damaged.get(),
        "ERR" => text.contains("lies in the future") && jumping,
        _ => false,
    };
    let mut model = crowd.model.borrow_mut();
    model.refused += 1;
    model.leaderless += u64::from(matches!(code, "UNKNOWN" | "CLUSTERDOWN" | "TRYAGAIN"));
    model.mark(mark);
    if !allowed {
        model.check(what, Err(format!("unexpected error {text:?}")));
    }
}

/// Takes in the reply to what was asked.
pub(super) fn judge(crowd: &Crowd, asked: Asked, reply: Reply) {
    if let Reply::Error(text) = &reply {
        return judge_refusal(crowd, asked, text);
    }
    crowd.model.borrow_mut().acknowledged += 1;
    let now_ns = crowd.reactor.now().0;
    match (asked, reply) {
        (Asked::Done, Reply::Ok) => {}
        (Asked::Write(writes), Reply::Integer(0)) => deleted_nothing(crowd, writes),
        (Asked::Write(writes) | Asked::WriteRange(writes), Reply::Ok | Reply::Integer(_)) => {
            let mut model = crowd.model.borrow_mut();
            for (key, write) in writes {
                let known = model.keys.entry(key).or_default();
                known.acknowledged(write, now_ns);
            }
        }
        (Asked::Read(key, last, asked_ns), Reply::Bulk(found)) => {
            read(crowd, &key, last, asked_ns, found.as_deref());
        }
        (Asked::ReadMany(keys, asked_ns), Reply::Array(found)) => {
            for ((key, last), found) in keys.iter().zip(found) {
                match found {
                    Reply::Bulk(found) => read(crowd, key, *last, asked_ns, found.as_deref()),
                    other => strange(crowd, &other),
                }
            }
        }
        (Asked::Swap(key, write, asked_ns), Reply::Bulk(found)) => {
            read(crowd, &key, write.number - 1, asked_ns, found.as_deref());
            let mut model = crowd.model.borrow_mut();
            let known = model.keys.entry(key).or_default();
            known.acknowledged(write, now_ns);
        }
        (Asked::ReadOther(key, horizon), Reply::Bulk(found)) => {
            let mut model = crowd.model.borrow_mut();
            let known = model.keys.entry(key.clone()).or_default();
            let result = parsed(&key, found.as_deref())
                .and_then(|found| known.read_by_other(&horizon, found, now_ns));
            model.check(&key, result);
        }
        (Asked::ReadAt(key, moment), Reply::Bulk(found)) => {
            crowd.model.borrow_mut().mark("reads of the past");
            read_at(crowd, &moment, &key, found.as_deref());
        }
        (Asked::Timestamp(moment), Reply::Integer(at)) => {
            let model = crowd.model.borrow();
            moment.borrow_mut().told(at.unsigned_abs(), &model.keys);
        }
        (Asked::Counted(done, inner), reply) => {
            done.set(done.get() + 1);
            judge(crowd, *inner, reply);
        }
        (Asked::Exec(exec), reply) => exec.judge(crowd, reply),
        (Asked::Walk(walk), Reply::Array(reply)) => judge_walk(crowd, &walk, &reply),
        (Asked::Names(last, asked_ns), Reply::Array(names)) => {
            crowd.model.borrow_mut().mark("lists with KEYS");
            judge_names(crowd, &last, asked_ns, &names);
        }
        (Asked::Increment(key), Reply::Integer(sum)) => {
            let sum = sum.unsigned_abs();
            count(crowd, &key, |counter| counter.increased(sum));
        }
        (Asked::ReadCounter(key), Reply::Bulk(found)) => {
            let sum = found.map(|sum| String::from_utf8_lossy(&sum).parse());
            let sum = sum.unwrap_or(Ok(0)).unwrap_or(u64::MAX);
            count(crowd, &key, |counter| counter.read(sum));
        }
        (_, reply) => strange(crowd, &reply),
    }
}

/// Checks what a counter was said to be.
fn count(crowd: &Crowd, key: &str, judge: impl FnOnce(&mut Counter) -> Result<(), String>) {
    let mut model = crowd.model.borrow_mut();
    let result = judge(model.counters.entry(key.to_owned()).or_default());
    model.check(key, result);
}

/// There was nothing to be deleted. When that is because it had expired, and the clock is set back
/// while the node is down, it may be there again.
fn deleted_nothing(crowd: &Crowd, writes: Vec<(String, Write)>) {
    let now_ns = crowd.reactor.now().0;
    let mut model = crowd.model.borrow_mut();
    let clocks = model.clocks;
    for (key, write) in writes {
        let known = model.keys.entry(key).or_default();
        let expires = known.open().any(|write| write.expiry.is_some());
        match clocks {
            Clocks::Jumping if expires => known.undecided(write),
            Clocks::Jumping | Clocks::Steady => known.acknowledged(write, now_ns),
        }
    }
}

fn strange(crowd: &Crowd, reply: &Reply) {
    if let Reply::Error(text) = reply {
        return refused(crowd, "part of a reply", text);
    }
    let what = Err(format!("unexpected reply {reply:?}"));
    crowd.model.borrow_mut().check("reply", what);
}

/// An error certainly means that nothing was done, unless it says that nobody knows; but of several
/// partitions, some may have.
fn judge_refusal(crowd: &Crowd, asked: Asked, text: &str) {
    let what = match &asked {
        Asked::Write(writes) | Asked::WriteRange(writes) => match writes.first() {
            Some((key, _)) => format!("write of {key}"),
            None => "write".to_owned(),
        },
        Asked::Read(key, ..) | Asked::ReadOther(key, _) => format!("read of {key}"),
        _ => "command".to_owned(),
    };
    refused(crowd, &what, text);
    if text.starts_with("TOOOLD") {
        judge_age(crowd, &asked);
    }
    let mut model = crowd.model.borrow_mut();
    if text.starts_with("UNKNOWN") {
        return unknown(&mut model, asked);
    }
    refuse(&mut model, asked);
}

/// Nothing was done of what was asked; but of several partitions, some may have.
pub(super) fn refuse(model: &mut Model, asked: Asked) {
    match asked {
        Asked::Write(writes) => {
            for (key, write) in writes {
                let result = model.keys.entry(key.clone()).or_default().refused(write);
                model.check(&key, result);
            }
        }
        Asked::Swap(key, write, _) => {
            let result = model.keys.entry(key.clone()).or_default().refused(write);
            model.check(&key, result);
        }
        Asked::WriteRange(writes) => {
            for (key, write) in writes {
                model.keys.entry(key).or_default().undecided(write);
            }
        }
        Asked::Counted(_, inner) => refuse(model, *inner),
        Asked::Exec(exec) => exec.refuse(model),
        _ => {}
    }
}

/// Checks that only what is older than the history is called so.
fn judge_age(crowd: &Crowd, asked: &Asked) {
    let moment = match asked {
        Asked::ReadAt(_, moment) => Some(moment),
        Asked::Walk(walk) => walk.at.as_ref(),
        _ => None,
    };
    let asked_ns = moment.map_or(u64::MAX, |moment| moment.borrow().asked_ns);
    let mut model = crowd.model.borrow_mut();
    let age_ns = crowd.reactor.now().0.saturating_sub(asked_ns);
    let is_young = age_ns < crowd.history_ns / 10 * 9;
    let steady = model.clocks == Clocks::Steady && !crowd.clears;
    if moment.is_none() || (is_young && steady) {
        let what = format!("refused as too old after {age_ns} ns");
        model.check("a read of the past", Err(what));
    }
}

fn parsed(key: &str, found: Option<&[u8]>) -> Result<Option<u64>, String> {
    found.map(|value| number_of(key, value)).transpose()
}

/// Takes in what the owner of a key has read.
fn read(crowd: &Crowd, key: &str, last: u64, asked_ns: u64, found: Option<&[u8]>) {
    let span = crowd.span(asked_ns);
    let mut model = crowd.model.borrow_mut();
    let result = parsed(key, found).and_then(|found| {
        let known = model.keys.entry(key.to_owned()).or_default();
        known.read_by_owner(last, found, span)
    });
    model.check(key, result);
}

fn read_at(crowd: &Crowd, moment: &SharedMoment, key: &str, found: Option<&[u8]>) {
    let mut model = crowd.model.borrow_mut();
    let last = model.keys.get(key).map_or(0, |known| known.last());
    let clocks = model.clocks;
    let result =
        parsed(key, found).and_then(|found| moment.borrow_mut().read(key, last, found, clocks));
    model.check(key, result);
}

/// Checks a list of names of one client's keys: all that are there, and no others.
pub(super) fn judge_names(
    crowd: &Crowd,
    last: &BTreeMap<String, u64>,
    asked_ns: u64,
    names: &[Reply],
) {
    let names: BTreeSet<String> = names.iter().filter_map(text_of).collect();
    let span = crowd.span(asked_ns);
    for (key, last) in last {
        if !names.contains(key) {
            read(crowd, key, *last, asked_ns, None);
            continue;
        }
        let mut model = crowd.model.borrow_mut();
        let known = model.keys.entry(key.clone()).or_default();
        let result = known.named_to_owner(span);
        model.check(key, result);
    }
    if let Some(other) = names.iter().find(|name| !last.contains_key(*name)) {
        let what = Err(format!("{other} is no key of this client"));
        crowd.model.borrow_mut().check("names", what);
    }
}

fn text_of(reply: &Reply) -> Option<String> {
    match reply {
        Reply::Bulk(Some(bytes)) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

/// The part of the keys that a walk has told of.
struct Covered {
    start: String,
    end: String,
}

fn judge_walk(crowd: &Crowd, walk: &Walk, reply: &[Reply]) {
    let [Reply::Bulk(next), Reply::Array(items)] = reply else {
        return strange(crowd, &Reply::Array(reply.to_vec()));
    };
    crowd
        .model
        .borrow_mut()
        .mark(match (&walk.at, walk.is_reverse) {
            (Some(_), _) => "walks over the past",
            (None, true) => "walks down",
            (None, false) => "walks up",
        });
    let next = next
        .as_ref()
        .map(|next| String::from_utf8_lossy(next).into_owned());
    let chunk = if walk.has_values { 2 } else { 1 };
    let mut found: BTreeMap<String, Option<&[u8]>> = BTreeMap::new();
    let mut order = Vec::new();
    for item in items.chunks(chunk) {
        let (Some(key), value) = (item.first().and_then(text_of), item.get(1)) else {
            return strange(crowd, &Reply::Array(items.clone()));
        };
        let value = match value {
            Some(Reply::Bulk(Some(value))) => Some(value.as_slice()),
            _ => None,
        };
        order.push(key.clone());
        found.insert(key, value);
    }
    let covered = covered_by(walk, next);
    let result = check_order(walk, &covered, &order);
    crowd.model.borrow_mut().check("KV.SCAN", result);
    judge_found(crowd, walk, &covered, &found);
}

fn covered_by(walk: &Walk, next: Option<String>) -> Covered {
    let named = |bound: &String| match bound.as_str() {
        "-" => String::new(),
        "+" => "\x7f".to_owned(),
        _ => bound.clone(),
    };
    let (start, end) = (named(&walk.start), named(&walk.end));
    match (next, walk.is_reverse) {
        (None, _) => Covered { start, end },
        (Some(next), true) => Covered { start: next, end },
        (Some(next), false) => Covered { start, end: next },
    }
}

/// Checks the keys of a walk: in order, within its range, and no more than asked for.
fn check_order(walk: &Walk, covered: &Covered, order: &[String]) -> Result<(), String> {
    let ascends = |pair: &[String]| match walk.is_reverse {
        true => pair[0] > pair[1],
        false => pair[0] < pair[1],
    };
    if !order.windows(2).all(ascends) {
        return Err(format!("keys are not in order: {order:?}"));
    }
    let is_within = |key: &String| *key >= covered.start && *key < covered.end;
    if !order.iter().all(is_within) {
        return Err(format!(
            "keys outside of {:?} to {:?}: {order:?}",
            covered.start, covered.end
        ));
    }
    if order.len() > walk.limit {
        return Err(format!("{} keys, above the limit", order.len()));
    }
    Ok(())
}

/// Checks what a walk has found of each key, and that it left none out.
fn judge_found(
    crowd: &Crowd,
    walk: &Walk,
    covered: &Covered,
    found: &BTreeMap<String, Option<&[u8]>>,
) {
    let span = crowd.span(walk.asked_ns);
    let is_covered = |key: &str| key >= covered.start.as_str() && key < covered.end.as_str();
    for (key, last) in walk.own.iter().filter(|(key, _)| is_covered(key)) {
        match (found.get(key), &walk.at) {
            (None, Some(moment)) => read_at(crowd, moment, key, None),
            (None, None) => read(crowd, key, *last, walk.asked_ns, None),
            (Some(Some(value)), Some(moment)) => read_at(crowd, moment, key, Some(value)),
            (Some(Some(value)), None) => read(crowd, key, *last, walk.asked_ns, Some(value)),
            (Some(None), Some(_)) => {}
            (Some(None), None) => {
                let mut model = crowd.model.borrow_mut();
                let known = model.keys.entry(key.clone()).or_default();
                let result = known.named_to_owner(span);
                model.check(key, result);
            }
        }
    }
    let others = found.iter().filter(|(key, _)| {
        key.starts_with("key:") && !walk.own.contains_key(*key) && is_covered(key)
    });
    for (key, value) in others {
        if let (Some(value), Some(moment)) = (value, &walk.at) {
            read_at(crowd, moment, key, Some(value));
        }
    }
    for (key, horizon) in &walk.others {
        let Some(Some(value)) = found.get(key) else {
            continue;
        };
        let mut model = crowd.model.borrow_mut();
        let known = model.keys.entry(key.clone()).or_default();
        let result = number_of(key, value)
            .and_then(|number| known.read_by_other(horizon, Some(number), span.now_ns));
        model.check(key, result);
    }
}
