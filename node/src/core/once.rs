//! Writes of sessions, around the run of a command: one that was done is answered from what the partition
//! remembers, and one that is done now is remembered with its answer. Not the memory itself, which is the
//! partition's ([`ashlar_partition::session`]), nor when a write is sent again: see `relay`.
//!
//! ```text
//! answer    kind u8, then: 0 the reply as it was; 1 nothing, it was null; 2 its bytes u32, it was too long
//! ```
//! A refusal that need not hold the next time, such as a full disk, is not remembered: nothing was done.

use ashlar_consensus::Index;
use ashlar_partition::session::{ANSWER_BYTES_MAX, Place, REMEMBER_BYTES_MAX, print};
use ashlar_partition::{Attempt, LogRoom, Pressure, Recalled, Token, Want};

use super::{Core, Data, Ran};
use crate::command::spread::{Answer, Question, Step};
use crate::command::{Command, Context, table};
use crate::message::Once;
use crate::resp::Words;
use crate::resp::encode::Encoder;
use crate::stats::ShardCounters;

/// How replies begin that tell of a state which passes: nothing was done.
const PASSING: [&[u8]; 4] = [b"-BUSY ", b"-DISKFULL ", b"-DAMAGED ", b"-IOERR "];
const KIND_PLAIN: u8 = 0;
const KIND_NULL: u8 = 1;
const KIND_LONG: u8 = 2;

/// How a recall went.
enum Known {
    /// The write is to be done, and remembered there.
    New(Place),
    /// It is not to be done; this is known of it, once the index is applied.
    Told(Recalled, Option<Index>),
    /// It cannot be told before these are in memory.
    Wants(Vec<Want>),
    /// Nothing is remembered, for nothing will be done: the partition is damaged.
    Damaged,
}

/// Returns the bytes that remembering a command may take in the log.
pub(crate) fn token_bytes(context: Context<'_>) -> usize {
    context.token.map_or(0, |_| REMEMBER_BYTES_MAX)
}

/// Says whether a reply tells of a state that passes.
pub(super) fn is_passing(reply: &[u8]) -> bool {
    PASSING.iter().any(|code| reply.starts_with(code))
}

/// Returns what is remembered of a reply.
fn answer_of(reply: &[u8]) -> Vec<u8> {
    if reply == b"$-1\r\n" || reply == b"_\r\n" {
        return vec![KIND_NULL];
    }
    if reply.len() < ANSWER_BYTES_MAX {
        return [&[KIND_PLAIN], reply].concat();
    }
    let bytes = u32::try_from(reply.len()).unwrap_or(u32::MAX);
    [&[KIND_LONG][..], &bytes.to_le_bytes()].concat()
}

/// Writes what a write was answered, as far as it is remembered.
fn write_answer(answer: &[u8], token: Token<'_>, encoder: &mut Encoder<'_>) {
    match answer.split_first() {
        Some((&KIND_PLAIN, reply)) => encoder.raw(reply),
        Some((&KIND_NULL, [])) => encoder.null(),
        _ => encoder.error(
            format!(
                "SESSIONDONE write {} of this session was done; its reply is too long to be remembered",
                token.sequence
            )
            .as_bytes(),
        ),
    }
}

/// Returns the error of a write that is not done again, nor was it surely done.
fn error_of(recalled: &Recalled, token: Token<'_>) -> String {
    let sequence = token.sequence;
    match recalled {
        Recalled::Other => format!(
            "SESSIONOTHER write {sequence} of this session was another command; nothing was done"
        ),
        Recalled::Full => {
            "SESSIONFULL the partition remembers as many sessions as it can; nothing was done"
                .to_owned()
        }
        Recalled::Old | Recalled::Done(_) | Recalled::New(_) => format!(
            "SESSIONOLD write {sequence} of this session lies before what is remembered; nothing was done now"
        ),
    }
}

impl Core {
    /// Runs a command on a partition of this shard; its reply goes to `out`. A write of a session that was
    /// done before is answered from memory. A command that wants blocks which are not in memory has done
    /// nothing.
    ///
    /// # Panics
    /// When the partition is another shard's, or the command touches no key: routing keeps both away.
    pub fn run(
        &self,
        partition: usize,
        command: &Command,
        words: Words<'_>,
        context: Context<'_>,
        out: &mut Vec<u8>,
    ) -> Ran {
        let Some(token) = context.token.filter(|_| command.writes()) else {
            return self.run_once(partition, command, words, context, out);
        };
        // What a transaction found of the keys that it watched need not be the same the next time.
        let said = match std::ptr::eq(command, table::of_transactions()) {
            true => 1,
            false => words.len(),
        };
        let timer = self.begin_call(command);
        let attempt = self.attempt(token, print(context.database, words.iter().take(said)));
        let from = out.len();
        let place = match self.recall(partition, &attempt) {
            Known::New(place) => place,
            Known::Wants(wants) => return Ran::Wants(wants),
            Known::Damaged => return self.run_once(partition, command, words, context, out),
            Known::Told(recalled, wait) => {
                let mut encoder = Encoder::new(out, context.version);
                match &recalled {
                    Recalled::Done(answer) => write_answer(answer, token, &mut encoder),
                    other => encoder.error(error_of(other, token).as_bytes()),
                }
                self.note_call(command, timer, &out[from..]);
                return Ran::Done(wait);
            }
        };
        match self.run_once(partition, command, words, context, out) {
            Ran::Done(None) if !self.takes_more(partition) => Ran::Done(None),
            Ran::Done(_) if !is_passing(&out[from..]) => {
                let answer = answer_of(&out[from..]);
                Ran::Done(Some(self.remember(partition, &place, &attempt, &answer)))
            }
            other => other,
        }
    }

    fn attempt<'a>(&self, token: Token<'a>, print: u32) -> Attempt<'a> {
        let (now_ms, _) = self.now();
        Attempt {
            token,
            print,
            now_ms,
        }
    }

    /// Says whether a partition has room for more than what must be: for remembering what changed nothing.
    fn takes_more(&self, partition: usize) -> bool {
        let admission = self
            .data
            .borrow_mut()
            .owned_mut(partition)
            .partition
            .admission;
        admission.log == LogRoom::Open && admission.pressure == Pressure::Open
    }

    /// Says what a partition of this shard knows of a write.
    fn recall(&self, partition: usize, attempt: &Attempt<'_>) -> Known {
        let mut data = self.data.borrow_mut();
        let owned = data.owned_mut(partition);
        let (partition, told) = (&owned.partition, owned.waits.told());
        if partition.damage().is_some() {
            return Known::Damaged;
        }
        match partition.recall(attempt) {
            Err(want) => Known::Wants(vec![want]),
            Ok((Recalled::New(place), _)) => Known::New(place),
            Ok((recalled, wait)) => {
                ShardCounters::add(&self.counters().recalled, 1);
                // What is applied may still wait for the clock; what may be told holds nothing back.
                let wait = wait.unwrap_or(partition.applied());
                let wait = Some(wait).filter(|index| *index > told);
                Known::Told(recalled, wait)
            }
        }
    }

    fn remember(
        &self,
        partition: usize,
        place: &Place,
        attempt: &Attempt<'_>,
        answer: &[u8],
    ) -> Index {
        let keep_ms = u64::from(self.config().client.session_expire_s) * 1000;
        let (_, now_us) = self.now();
        let mut data = self.data.borrow_mut();
        let Data { owned, clock, .. } = &mut *data;
        let owned = owned[partition]
            .as_mut()
            .expect("requests are routed to the owner");
        owned
            .partition
            .remember(place, attempt, answer, keep_ms, (clock, now_us))
    }

    /// Goes on answering a question that is a write of a session.
    pub(super) fn answer_once(
        &self,
        partition: usize,
        once: &Once,
        question: &mut Question,
        answer: &mut Answer,
    ) -> Step {
        let token = once.token.as_token();
        let attempt = self.attempt(token, once.print);
        let place = match self.recall(partition, &attempt) {
            Known::New(place) => place,
            Known::Wants(wants) => return Step::Wants(wants),
            Known::Damaged => return self.answer_step(partition, question, answer),
            Known::Told(recalled, wait) => {
                *answer = match &recalled {
                    Recalled::Done(_) => Answer::Done,
                    other => Answer::Failed(error_of(other, token)),
                };
                return Step::Done(wait);
            }
        };
        match self.answer_step(partition, question, answer) {
            Step::Done(_) if *answer == Answer::Done => {
                let done = answer_of(b"+OK\r\n");
                Step::Done(Some(self.remember(partition, &place, &attempt, &done)))
            }
            step => step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Version;

    fn told(reply: &[u8], version: Version) -> String {
        let token = Token {
            session: b"0123456789abcdef",
            sequence: 7,
        };
        let mut out = Vec::new();
        write_answer(
            &answer_of(reply),
            token,
            &mut Encoder::new(&mut out, version),
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_is_remembered_unless_it_is_long_and_null_is_null_in_each_protocol() {
        for reply in ["+OK\r\n", ":12\r\n", "$3\r\nabc\r\n", "-ERR no\r\n"] {
            assert_eq!(told(reply.as_bytes(), Version::Resp2), reply);
        }
        assert_eq!(told(b"$-1\r\n", Version::Resp3), "_\r\n");
        assert_eq!(told(b"_\r\n", Version::Resp2), "$-1\r\n");
        let long = told(&[b'+'; ANSWER_BYTES_MAX], Version::Resp2);
        assert!(
            long.starts_with("-SESSIONDONE write 7 of this session"),
            "{long}"
        );
        assert_eq!(
            told(&[b'+'; ANSWER_BYTES_MAX - 1], Version::Resp2).len(),
            ANSWER_BYTES_MAX - 1
        );
    }

    #[test]
    fn refusals_that_pass_are_told_from_those_that_follow_from_what_the_key_is() {
        assert!(is_passing(b"-BUSY writes come faster\r\n"));
        assert!(is_passing(b"-IOERR the log cannot grow\r\n"));
        assert!(!is_passing(b"-ERR value is not an integer\r\n"));
        assert!(!is_passing(b"$5\r\n-BUSY\r\n"));
    }
}
