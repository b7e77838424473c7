//! `ZADD` and `ZINCRBY`: members are given scores, as their options have it. What becomes of a member is decided apart
//! from doing it.

use ashlar_partition::Refusal;
use ashlar_partition::collection::ELEMENT;

use super::sorted_set::{FAMILY, WRITE, show_score};
use super::{Command, DataCall, Run};
use crate::pubsub::notice::Class;
use crate::resp::Words;
use crate::score;

/// The commands of this part of the family.
pub const SORTED_SET_ADD: &[Command] = &[
    Command {
        name: "zadd",
        arity: -4,
        summary: "Gives members of a sorted set scores; returns how many are new.",
        syntax: "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
        run: Run::Data(|call| call.attempt(zadd)),
        ..WRITE
    },
    Command {
        name: "zincrby",
        summary: "Adds to the score of a member, 0 when it is missing.",
        syntax: "key increment member",
        run: Run::Data(|call| call.attempt(zincrby)),
        ..WRITE
    },
];

/// Which members `ZADD` gives scores, and what it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Adding {
    /// Only new ones.
    nx: bool,
    /// Only those that are there.
    xx: bool,
    /// Of those only if it becomes greater.
    gt: bool,
    /// Or less.
    lt: bool,
    /// Those are counted too.
    ch: bool,
    /// The number is added.
    incr: bool,
}

/// What becomes of a member.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Becoming {
    /// It is left alone.
    Left,
    /// It is added with this score.
    New(f64),
    /// It is given this score.
    Changed(f64),
    /// It is given the score that it has.
    Same(f64),
    /// The sum is not a number.
    NotANumber,
}

impl Adding {
    /// Reads the words behind the key; returns scores and members, by turns, too.
    fn parse(words: Words<'_>, incr: bool) -> Result<(Self, Words<'_>), &'static str> {
        let mut adding = Self {
            incr,
            ..Self::default()
        };
        let known = words.iter().take_while(|word| adding.takes(word)).count();
        let pairs = words.tail(known);
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err("ERR syntax error");
        }
        if adding.nx && adding.xx {
            return Err("ERR XX and NX options at the same time are not compatible");
        }
        if (adding.nx && (adding.gt || adding.lt)) || (adding.gt && adding.lt) {
            return Err("ERR GT, LT, and/or NX options at the same time are not compatible");
        }
        if adding.incr && pairs.len() > 2 {
            return Err("ERR INCR option supports a single increment-element pair");
        }
        Ok((adding, pairs))
    }

    fn takes(&mut self, word: &[u8]) -> bool {
        let option = match word.to_ascii_lowercase().as_slice() {
            b"nx" => &mut self.nx,
            b"xx" => &mut self.xx,
            b"gt" => &mut self.gt,
            b"lt" => &mut self.lt,
            b"ch" => &mut self.ch,
            b"incr" => &mut self.incr,
            _ => return false,
        };
        *option = true;
        true
    }

    /// Decides what becomes of a member with the score `before`, none if it is missing, that is given a number.
    fn decide(&self, before: Option<f64>, number: f64) -> Becoming {
        let Some(before) = before else {
            return match self.xx {
                true => Becoming::Left,
                false => Becoming::New(number),
            };
        };
        let score = if self.incr { before + number } else { number };
        if self.nx {
            Becoming::Left
        } else if score.is_nan() {
            Becoming::NotANumber
        } else if (self.lt && score >= before) || (self.gt && score <= before) {
            Becoming::Left
        } else if score == before {
            Becoming::Same(score)
        } else {
            Becoming::Changed(score)
        }
    }
}

fn zadd(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    add(call, false)
}

fn zincrby(call: &mut DataCall<'_>) -> Result<(), Refusal> {
    add(call, true)
}

fn add(call: &mut DataCall<'_>, incr: bool) -> Result<(), Refusal> {
    let (adding, pairs) = match Adding::parse(call.words.tail(2), incr) {
        Ok(parsed) => parsed,
        Err(error) => return call.tell(error),
    };
    let scores: Option<Vec<f64>> = pairs.iter().step_by(2).map(score::parse).collect();
    let Some(scores) = scores else {
        return call.tell("ERR value is not a valid float");
    };
    let members = pairs.iter().skip(1).step_by(2);
    if adding.xx && call.open(call.word(1), FAMILY)?.is_none() {
        show_added(call, &adding, &Tally::default());
        return Ok(());
    }
    let mut opened = call.open_to_add(call.word(1), FAMILY)?;
    if scores.len() > 1 {
        call.expect_elements(&opened, ELEMENT, members.clone())?;
    }
    let mut tally = Tally::default();
    for (member, number) in members.zip(scores) {
        let before = call.score(&opened, member)?;
        match adding.decide(before, number) {
            Becoming::Left => {}
            Becoming::Same(score) => tally.last = Some(score),
            Becoming::New(score) => {
                call.put_score(&opened, member, None, score)?;
                (tally.added, tally.last) = (tally.added + 1, Some(score));
            }
            Becoming::Changed(score) => {
                call.put_score(&opened, member, before, score)?;
                (tally.changed, tally.last) = (tally.changed + 1, Some(score));
            }
            Becoming::NotANumber => return call.tell("ERR resulting score is not a number (NaN)"),
        }
    }
    if tally.added + tally.changed > 0 {
        opened.add(tally.added);
        let event = if adding.incr { "zincr" } else { "zadd" };
        call.notify(Class::SortedSet, event, opened.key);
        call.close(&opened);
    }
    show_added(call, &adding, &tally);
    Ok(())
}

/// What `ZADD` did.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    added: i64,
    changed: i64,
    /// The score that the last member that was not left alone has.
    last: Option<f64>,
}

fn show_added(call: &mut DataCall<'_>, adding: &Adding, tally: &Tally) {
    match (adding.incr, adding.ch) {
        (true, _) => show_score(call, tally.last.map(|score| score + 0.0)),
        (false, true) => call.reply().integer(tally.added + tally.changed),
        (false, false) => call.reply().integer(tally.added),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_decide_what_becomes_of_a_member() {
        let with = |text: &str| {
            let mut adding = Adding::default();
            assert!(
                text.split_terminator(' ')
                    .all(|word| adding.takes(word.as_bytes()))
            );
            adding
        };
        for (options, before, number, becoming) in [
            ("", None, 1.0, Becoming::New(1.0)),
            ("", Some(1.0), 1.0, Becoming::Same(1.0)),
            ("", Some(1.0), 2.0, Becoming::Changed(2.0)),
            ("nx", None, 1.0, Becoming::New(1.0)),
            ("nx", Some(1.0), 2.0, Becoming::Left),
            ("xx", None, 1.0, Becoming::Left),
            ("xx", Some(1.0), 2.0, Becoming::Changed(2.0)),
            ("gt", None, 1.0, Becoming::New(1.0)),
            ("gt", Some(1.0), 2.0, Becoming::Changed(2.0)),
            ("gt", Some(1.0), 1.0, Becoming::Left),
            ("lt", Some(1.0), 0.5, Becoming::Changed(0.5)),
            ("lt", Some(1.0), 1.5, Becoming::Left),
            ("incr", Some(1.0), 1.5, Becoming::Changed(2.5)),
            ("incr gt", Some(1.0), -1.0, Becoming::Left),
            (
                "incr",
                Some(f64::INFINITY),
                f64::NEG_INFINITY,
                Becoming::NotANumber,
            ),
            (
                "incr nx",
                Some(f64::INFINITY),
                f64::NEG_INFINITY,
                Becoming::Left,
            ),
        ] {
            assert_eq!(with(options).decide(before, number), becoming, "{options}");
        }
    }
}
