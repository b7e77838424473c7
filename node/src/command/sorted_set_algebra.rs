//! What is made of several sorted sets: their union, intersection and difference; answered, counted or stored. Plain
//! sets take part as if all their members had the score 1.
//!
//! What is made is in the order of scores, as Redis has it: a member's scores are weighted, and then added up in the
//! order of the inputs, the smallest first.

use std::collections::BTreeMap;

use ashlar_partition::Refusal;
use ashlar_partition::collection::{ELEMENT, Family, score_of};

use super::collection::{ANSWER_BYTES_MAX, Opened, integer};
use super::set_algebra::limit_of;
use super::sorted_set::{READ, Scored, show};
use super::sorted_set_range::store;
use super::{Command, DataCall, Run};
use crate::number::parse_i64;
use crate::resp::Words;
use crate::score;

const SYNTAX: &str = "ERR syntax error";

/// What commands that answer have in common.
const ANSWER: Command = Command {
    arity: -3,
    flags: &["readonly", "movablekeys"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    since: "6.2.0",
    syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
    ..READ
};

/// What commands that store have in common.
const STORE: Command = Command {
    arity: -4,
    flags: &["write", "denyoom", "movablekeys"],
    since: "2.0.0",
    syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
    ..READ
};

/// The commands of this part of the family.
pub const SORTED_SET_ALGEBRA: &[Command] = &[
    Command {
        name: "zunion",
        summary: "Returns the members that are in any of several sorted sets.",
        run: Run::Data(|call| call.attempt(|call| answer(call, Operation::Union))),
        ..ANSWER
    },
    Command {
        name: "zunionstore",
        summary: "Stores the members that are in any of several sorted sets; returns how many.",
        run: Run::Data(|call| call.attempt(|call| keep(call, Operation::Union))),
        ..STORE
    },
    Command {
        name: "zinter",
        summary: "Returns the members that are in all of several sorted sets.",
        run: Run::Data(|call| call.attempt(|call| answer(call, Operation::Intersection))),
        ..ANSWER
    },
    Command {
        name: "zinterstore",
        summary: "Stores the members that are in all of several sorted sets; returns how many.",
        run: Run::Data(|call| call.attempt(|call| keep(call, Operation::Intersection))),
        ..STORE
    },
    Command {
        name: "zintercard",
        summary: "Counts the members that are in all of several sorted sets.",
        since: "7.0.0",
        syntax: "numkeys key [key ...] [LIMIT limit]",
        run: Run::Data(|call| call.attempt(zintercard)),
        ..ANSWER
    },
    Command {
        name: "zdiff",
        summary: "Returns the members of a sorted set that are in none of the others.",
        syntax: "numkeys key [key ...] [WITHSCORES]",
        run: Run::Data(|call| call.attempt(|call| answer(call, Operation::Difference))),
        ..ANSWER
    },
    Command {
        name: "zdiffstore",
        summary: "Stores the members of a sorted set that are in none of the others; returns how many.",
        since: "6.2.0",
        syntax: "destination numkeys key [key ...]",
        run: Run::Data(|call| call.attempt(|call| keep(call, Operation::Difference))),
        ..STORE
    },
];

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What a command does with what it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Answer,
    Store,
    Count,
}

/// What becomes of the scores of a member that is in several inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &[u8]) -> Option<Self> {
        match word.to_ascii_lowercase().as_slice() {
            b"sum" => Some(Self::Sum),
            b"min" => Some(Self::Min),
            b"max" => Some(Self::Max),
            _ => None,
        }
    }

    /// Puts another score to one; the sum of infinities of both signs is 0.
    fn of(self, score: f64, other: f64) -> f64 {
        match self {
            Self::Sum => number(score + other),
            Self::Min if other < score => other,
            Self::Max if other > score => other,
            Self::Min | Self::Max => score,
        }
    }
}

/// Returns 0 for what is no number.
fn number(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What the words behind the keys say.
#[derive(Clone, Debug, PartialEq)]
struct Options {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
    /// Members that are enough.
    enough: usize,
}

impl Options {
    fn parse(
        mut words: Words<'_>,
        keys: usize,
        operation: Operation,
        to: Use,
    ) -> Result<Self, &'static str> {
        let mut options = Self {
            weights: vec![1.0; keys],
            aggregate: Aggregate::Sum,
            with_scores: false,
            enough: usize::MAX,
        };
        let combines = operation != Operation::Difference && to != Use::Count;
        while let Some(word) = words.get(0) {
            let taken = match word.to_ascii_lowercase().as_slice() {
                b"weights" if combines && words.len() > keys => {
                    let weights = words.tail(1).iter().take(keys).map(score::parse);
                    let weights: Option<Vec<f64>> = weights.collect();
                    options.weights = weights.ok_or("ERR weight value is not a float")?;
                    1 + keys
                }
                b"aggregate" if combines && words.len() > 1 => {
                    let aggregate = words.get(1).and_then(Aggregate::parse);
                    options.aggregate = aggregate.ok_or(SYNTAX)?;
                    2
                }
                b"withscores" if to == Use::Answer => {
                    options.with_scores = true;
                    1
                }
                b"limit" if to == Use::Count && words.len() > 1 => {
                    let limit = limit_of(words.get(1).unwrap_or_default())?;
                    options.enough = if limit == 0 { usize::MAX } else { limit };
                    2
                }
                _ => return Err(SYNTAX),
            };
            words = words.tail(taken);
        }
        Ok(options)
    }
}

/// One of the sets that something is made of.
#[derive(Clone, Copy, Debug)]
struct Input<'a> {
    opened: Opened<'a>,
    weight: f64,
}

impl Input<'_> {
    /// Returns what a member's value says of its score, before it is weighted.
    fn score_of(&self, value: &[u8]) -> Option<f64> {
        match self.opened.rooted.root.family {
            Family::Set => Some(1.0),
            Family::Hash | Family::List | Family::SortedSet => score_of(value),
        }
    }

    /// Returns the score of a member, before it is weighted; nothing when it is missing.
    fn score(&self, call: &mut DataCall<'_>, member: &[u8]) -> Result<Option<f64>, Refusal> {
        let found = call.element(&self.opened, (ELEMENT, member), |value| {
            value.map(|value| self.score_of(value))
        })?;
        found.map_or(Ok(None), |score| score.map(Some).ok_or(call.damaged()))
    }

    /// Walks over all members with their scores, before they are weighted.
    fn walk(
        &self,
        call: &mut DataCall<'_>,
        mut take: impl FnMut(&[u8], f64),
    ) -> Result<(), Refusal> {
        let mut is_damaged = false;
        call.walk_all(&self.opened, ELEMENT, |member, value| {
            match self.score_of(value) {
                Some(score) => take(member, score),
                None => is_damaged = true,
            }
        })?;
        match is_damaged {
            true => Err(call.damaged()),
            false => Ok(()),
        }
    }

    /// Returns all members with their scores, before they are weighted.
    fn members(&self, call: &mut DataCall<'_>) -> Result<Vec<Scored>, Refusal> {
        let mut members = Vec::new();
        self.walk(call, |member, score| {
            let member = member.to_vec();
            members.push(Scored { member, score });
        })?;
        Ok(members)
    }
}

/// What is asked for, once the keys are looked at.
struct Asked<'a> {
    /// By key; nothing where it is missing.
    inputs: Vec<Option<Input<'a>>>,
    options: Options,
}

/// Reads the words from the number of keys on, and looks at the keys; nothing when the command was answered.
fn ask<'a>(
    call: &mut DataCall<'a>,
    words: Words<'a>,
    operation: Operation,
    to: Use,
) -> Result<Option<Asked<'a>>, Refusal> {
    let Some(count) = words.get(0).and_then(parse_i64) else {
        call.tell("ERR value is not an integer or out of range")?;
        return Ok(None);
    };
    if count < 1 {
        let name = String::from_utf8_lossy(call.word(0)).to_ascii_lowercase();
        let error = format!("ERR at least 1 input key is needed for '{name}' command");
        call.reply().error(error.as_bytes());
        return Ok(None);
    }
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let Some(keys) = words.tail(1).head(count) else {
        call.tell(SYNTAX)?;
        return Ok(None);
    };
    let mut opened = Vec::with_capacity(count);
    for key in keys.iter() {
        opened.push(open(call, key)?);
    }
    let options = match Options::parse(words.tail(1 + count), count, operation, to) {
        Ok(options) => options,
        Err(error) => {
            call.tell(error)?;
            return Ok(None);
        }
    };
    let weighted = opened.into_iter().zip(&options.weights);
    let inputs = weighted.map(|(opened, weight)| {
        let weight = *weight;
        opened.map(|opened| Input { opened, weight })
    });
    let inputs = inputs.collect();
    Ok(Some(Asked { inputs, options }))
}

/// Opens a sorted set or a set to read it.
fn open<'k>(call: &mut DataCall<'_>, key: &'k [u8]) -> Result<Option<Opened<'k>>, Refusal> {
    let opened = call.open_any(key)?;
    call.count_read(opened.is_some());
    match opened.map(|opened| opened.rooted.root.family) {
        Some(Family::Hash | Family::List) => Err(Refusal::WrongType),
        None | Some(Family::Set | Family::SortedSet) => Ok(opened),
    }
}

fn answer(call: &mut DataCall<'_>, operation: Operation) -> Result<(), Refusal> {
    let Some(asked) = ask(call, call.words.tail(1), operation, Use::Answer)? else {
        return Ok(());
    };
    let made = make(call, &asked, operation)?;
    show(call, &made, asked.options.with_scores);
    Ok(())
}

fn keep(call: &mut DataCall<'_>, operation: Operation) -> Result<(), Refusal> {
    let Some(asked) = ask(call, call.words.tail(2), operation, Use::Store)? else {
        return Ok(());
    };
    let made = make(call, &asked, operation)?;
    let event = match operation {
        Operation::Union => "zunionstore",
        Operation::Intersection => "zinterstore",
        Operation::Difference => "zdiffstore",
    };
    store(call, &made, event)
}

fn zintercard(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    let operation = Operation::Intersection;
    let Some(asked) = ask(call, call.words.tail(1), operation, Use::Count)? else {
        return Ok(());
    };
    let made = make(call, &asked, operation)?;
    call.reply().integer(integer(made.len() as u64));
    Ok(())
}

/// Makes what is asked for, in order.
fn make(
    call: &mut DataCall<'_>,
    asked: &Asked<'_>,
    operation: Operation,
) -> Result<Vec<Scored>, Refusal> {
    let mut made = match operation {
        Operation::Union => union(call, asked)?,
        Operation::Intersection => intersection(call, asked)?,
        Operation::Difference => difference(call, &asked.inputs)?,
    };
    for scored in &mut made {
        // There is no -0 among scores.
        scored.score += 0.0;
    }
    made.sort_by(|one, other| {
        let order = one.score.total_cmp(&other.score);
        order.then_with(|| one.member.cmp(&other.member))
    });
    Ok(made)
}

/// Returns the inputs that are there, the smallest first.
fn by_count<'a>(asked: &Asked<'a>) -> Vec<Input<'a>> {
    let mut inputs: Vec<Input<'_>> = asked.inputs.iter().flatten().copied().collect();
    inputs.sort_by_key(|input| input.opened.count());
    inputs
}

fn union(call: &mut DataCall<'_>, asked: &Asked<'_>) -> Result<Vec<Scored>, Refusal> {
    let (mut made, mut bytes) = (BTreeMap::<Vec<u8>, f64>::new(), 0);
    for input in by_count(asked) {
        input.walk(call, |member, score| {
            let score = number(score * input.weight);
            if let Some(before) = made.get_mut(member) {
                *before = asked.options.aggregate.of(*before, score);
            } else if bytes <= ANSWER_BYTES_MAX {
                bytes += member.len();
                made.insert(member.to_vec(), score);
            }
        })?;
    }
    if bytes > ANSWER_BYTES_MAX {
        return Err(Refusal::TooMuch);
    }
    let made = made.into_iter();
    Ok(made
        .map(|(member, score)| Scored { member, score })
        .collect())
}

fn intersection(call: &mut DataCall<'_>, asked: &Asked<'_>) -> Result<Vec<Scored>, Refusal> {
    let inputs = by_count(asked);
    if inputs.len() < asked.inputs.len() {
        return Ok(Vec::new());
    }
    let members = inputs[0].members(call)?;
    for input in &inputs[1..] {
        let each = members.iter().map(|scored| scored.member.as_slice());
        call.expect_elements(&input.opened, ELEMENT, each)?;
    }
    let mut made = Vec::new();
    for Scored { member, score } in members {
        if made.len() == asked.options.enough {
            break;
        }
        let mut sum = Some(number(score * inputs[0].weight));
        for input in &inputs[1..] {
            let other = input.score(call, &member)?;
            sum = sum.zip(other).map(|(sum, other)| {
                let other = other * input.weight;
                asked.options.aggregate.of(sum, other)
            });
        }
        if let Some(score) = sum {
            made.push(Scored { member, score });
        }
    }
    Ok(made)
}

fn difference(
    call: &mut DataCall<'_>,
    inputs: &[Option<Input<'_>>],
) -> Result<Vec<Scored>, Refusal> {
    let Some(first) = &inputs[0] else {
        return Ok(Vec::new());
    };
    let mut made = first.members(call)?;
    for input in inputs[1..].iter().flatten() {
        let each = made.iter().map(|scored| scored.member.as_slice());
        call.expect_elements(&input.opened, ELEMENT, each)?;
        let mut left = Vec::new();
        for scored in made {
            if !call.has_member(&input.opened, &scored.member)? {
                left.push(scored);
            }
        }
        made = left;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_put_together_and_are_always_numbers() {
        let (inf, minus) = (f64::INFINITY, f64::NEG_INFINITY);
        for (aggregate, score, other, both) in [
            (Aggregate::Sum, 1.0, 2.0, 3.0),
            (Aggregate::Sum, inf, minus, 0.0),
            (Aggregate::Sum, 1.0, f64::NAN, 0.0),
            (Aggregate::Min, 1.0, 2.0, 1.0),
            (Aggregate::Min, 1.0, f64::NAN, 1.0),
            (Aggregate::Max, 1.0, 2.0, 2.0),
            (Aggregate::Max, inf, minus, inf),
        ] {
            assert_eq!(aggregate.of(score, other), both, "{aggregate:?}");
        }
    }
}
