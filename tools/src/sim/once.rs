//! What a simulated client does through a session: increments and appends, sent again with the same sequence
//! until they are answered, over whichever node and after whatever happened to the last one. Each must be
//! done once: sums are exactly as many as were asked for, and texts hold each piece once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ashlar_io::Socket;
use ashlar_io::rng::Rng;

use super::client::{Crowd, hear};
use super::judge::refused;
use super::wire::{Reply, command};

/// Writes of one pipeline at most.
const PIPELINE_MAX: u64 = 4;
/// Probability that a client does not wait for the replies, and sends all again over another connection.
const LEAVES: f64 = 0.1;
/// Pause before something is sent again over the same connection.
const PAUSE: Duration = Duration::from_millis(20);

/// A write that has not been answered.
#[derive(Clone, Debug)]
struct Write {
    sequence: u64,
    key: String,
    /// What is appended; nothing for an increment.
    piece: Option<String>,
    attempts: u32,
}

/// The session of a client, and what came of it.
#[derive(Debug)]
pub(super) struct Once {
    id: String,
    next: u64,
    pending: VecDeque<Write>,
    /// Of each counter how often it was to be increased, and the sums that were answered.
    sums: BTreeMap<String, (u64, BTreeSet<u64>)>,
    text: String,
    pieces: u64,
    /// Something was refused for good: a file is damaged.
    gave_up: bool,
}

impl Once {
    pub(super) fn new(number: u32) -> Self {
        // One counter in the first partition, one in the last.
        let sums = ["a", "zz"].map(|first| (format!("{first}:{number}"), Default::default()));
        Self {
            id: format!("session-of-client-{number:04}"),
            next: 1,
            pending: VecDeque::new(),
            sums: BTreeMap::from(sums),
            text: format!("once:{number}"),
            pieces: 0,
            gave_up: false,
        }
    }

    /// Says whether nothing waits for an answer.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() || self.gave_up
    }

    fn draw(&mut self, rng: &mut Rng) {
        for _ in 0..1 + rng.below(PIPELINE_MAX) {
            let piece = rng.chance(0.3).then(|| {
                self.pieces += 1;
                format!("{},", self.pieces)
            });
            let key = match piece {
                Some(_) => self.text.clone(),
                None => {
                    let (key, (asked, _)) = self
                        .sums
                        .iter_mut()
                        .nth(rng.index(2))
                        .expect("there are two");
                    *asked += 1;
                    key.clone()
                }
            };
            self.pending.push_back(Write {
                sequence: self.next,
                key,
                piece,
                attempts: 0,
            });
            self.next += 1;
        }
    }

    /// Appends all that is pending as commands, and leaves the session, for what the client asks otherwise is
    /// not part of it; returns how many replies there will be before that of each write.
    fn encode(&mut self, bytes: &mut Vec<u8>) -> Vec<usize> {
        let mut expected = None;
        let mut words_before = Vec::new();
        for write in &mut self.pending {
            let sequence = write.sequence.to_string();
            let jumps = expected != Some(write.sequence);
            if jumps && expected.is_none() {
                command(bytes, &["SESSION", &self.id, "SEQ", &sequence]);
            } else if jumps {
                command(bytes, &["SESSION", "SEQ", &sequence]);
            }
            words_before.push(usize::from(jumps));
            expected = Some(write.sequence + 1);
            match &write.piece {
                None => command(bytes, &["INCR", &write.key]),
                Some(piece) => command(bytes, &["APPEND", &write.key, piece]),
            }
            write.attempts += 1;
        }
        command(bytes, &["SESSION", "OFF"]);
        words_before
    }

    /// Takes in the number that a write was answered.
    fn answered(&mut self, write: &Write, number: u64) -> Result<(), String> {
        let Some((asked, seen)) = self.sums.get_mut(&write.key) else {
            return Ok(());
        };
        if number > *asked || !seen.insert(number) {
            return Err(format!(
                "write {} of {} answered {number} after {} attempts; {asked} were asked for",
                write.sequence, self.id, write.attempts
            ));
        }
        Ok(())
    }

    /// Checks a value when everything is answered: each write was done once.
    fn check_value(&self, key: &str, found: &str) -> Result<(), String> {
        if let Some((asked, _)) = self.sums.get(key) {
            let sum = found.parse().unwrap_or(0);
            return match *asked == sum {
                true => Ok(()),
                false => Err(format!("the sum is {found:?}, and {asked} were asked for")),
            };
        }
        let mut pieces: Vec<u64> = found.split_terminator(',').flat_map(str::parse).collect();
        pieces.sort_unstable();
        match pieces.iter().copied().eq(1..=self.pieces) {
            true => Ok(()),
            false => Err(format!(
                "{} pieces were appended, and it is {found:?}",
                self.pieces
            )),
        }
    }
}

/// Writes through the session, first what was not answered before; `false` when the connection is of no more
/// use. With `healed` nothing new is begun.
pub(super) async fn exchange(
    crowd: &Crowd,
    (once, rng): (&mut Once, &mut Rng),
    socket: &mut Socket,
) -> bool {
    if once.gave_up {
        return true;
    }
    if once.is_settled() {
        if crowd.healed.get() {
            return true;
        }
        once.draw(rng);
    }
    let mut bytes = Vec::new();
    let before = once.encode(&mut bytes);
    socket.send(&bytes);
    if !crowd.healed.get() && rng.chance(LEAVES) {
        crowd.model.borrow_mut().mark("left before the reply");
        return false;
    }
    let (mut received, mut kept) = (Vec::new(), VecDeque::new());
    let mut is_open = true;
    for skipped in before {
        let write = once.pending.pop_front().expect("as many as were encoded");
        let mut reply = None;
        for _ in 0..=skipped {
            // Once one has not come, those that come late are of no use.
            if is_open {
                reply = hear(crowd, socket, &mut received).await;
                is_open = reply.is_some();
            }
        }
        if !judge(crowd, once, &write, reply) {
            kept.push_back(write);
        }
    }
    once.pending = kept;
    is_open = is_open && hear(crowd, socket, &mut received).await.is_some();
    if is_open && !once.is_settled() {
        crowd.reactor.sleep(PAUSE).await;
        return !rng.coin();
    }
    is_open
}

/// Says whether a write is settled by its reply.
fn judge(crowd: &Crowd, once: &mut Once, write: &Write, reply: Option<Reply>) -> bool {
    match reply {
        None => false,
        Some(Reply::Integer(number)) => {
            let result = once.answered(write, number.unsigned_abs());
            let mut model = crowd.model.borrow_mut();
            model.acknowledged += 1;
            if write.attempts > 1 {
                model.mark("answered after another attempt");
            }
            model.check("session", result);
            true
        }
        Some(Reply::Error(text)) => {
            refused(crowd, "write of a session", &text);
            once.gave_up |= text.starts_with("DAMAGED");
            false
        }
        Some(other) => {
            let what = Err(format!("unexpected reply {other:?}"));
            crowd.model.borrow_mut().check("session", what);
            true
        }
    }
}

/// What was read at the end.
enum Found {
    Value(String),
    /// Nothing can be read there any more: a file is damaged.
    Damaged,
    /// It must be asked again.
    Nothing,
}

/// Reads what came of all of it, once nothing waits for an answer; `false` when it could not be read.
pub(super) async fn check(crowd: &Crowd, once: &Once, socket: &mut Socket) -> bool {
    if once.gave_up {
        return true;
    }
    let keys = once.sums.keys().chain([&once.text]);
    for key in keys {
        match read(crowd, key, socket).await {
            Found::Nothing => return false,
            Found::Damaged => {}
            Found::Value(found) => {
                let result = once.check_value(key, &found);
                crowd.model.borrow_mut().check(key, result);
            }
        }
    }
    true
}

async fn read(crowd: &Crowd, key: &str, socket: &mut Socket) -> Found {
    let mut bytes = Vec::new();
    command(&mut bytes, &["GET", key]);
    socket.send(&bytes);
    match hear(crowd, socket, &mut Vec::new()).await {
        Some(Reply::Bulk(found)) => {
            Found::Value(String::from_utf8_lossy(&found.unwrap_or_default()).into_owned())
        }
        Some(Reply::Error(text)) => {
            refused(crowd, "read of a session", &text);
            match text.starts_with("DAMAGED") {
                true => Found::Damaged,
                false => Found::Nothing,
            }
        }
        _ => Found::Nothing,
    }
}
