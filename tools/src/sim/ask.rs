//! What a simulated client asks: draws commands, encodes them, and tells the model that they begin.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use ashlar_io::rng::Rng;

use super::client::Crowd;
use super::exec::Exec;
use super::model::{Expiry, Horizon, Model, Write};
use super::moment::Moment;
use super::wire::{command, value_of};

/// Keys that each client owns.
const KEYS: u64 = 24;
/// Keys that each client owns in a database of its own.
const DATABASE_KEYS: u64 = 8;
/// Databases that clients may own: all but the first.
const DATABASES: u32 = 15;
/// Timestamps that a client remembers.
const MOMENTS_MAX: usize = 4;

/// A moment shared by those who read as of it.
pub(super) type SharedMoment = Rc<RefCell<Moment>>;

/// What a command was about, for judging its reply.
#[derive(Debug)]
pub(super) enum Asked {
    /// A simple answer: nothing to check.
    Done,
    /// Writes that take effect together.
    Write(Vec<(String, Write)>),
    /// Writes of several partitions: when they are refused, some may have been done.
    WriteRange(Vec<(String, Write)>),
    /// The key, the last write of it that was begun before, and when.
    Read(String, u64, u64),
    /// Several of them.
    ReadMany(Vec<(String, u64)>, u64),
    /// A write whose answer is what was there before.
    Swap(String, Write, u64),
    ReadOther(String, Horizon),
    ReadAt(String, SharedMoment),
    Timestamp(SharedMoment),
    Walk(Box<Walk>),
    /// All names of the client's keys, its writes of them so far, and when.
    Names(BTreeMap<String, u64>, u64),
    Increment(String),
    ReadCounter(String),
    /// Counted once it is done.
    Counted(Rc<Cell<u32>>, Box<Self>),
    Exec(Exec),
}

/// A `KV.SCAN`.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) start: String,
    pub(super) end: String,
    pub(super) is_reverse: bool,
    pub(super) has_values: bool,
    pub(super) limit: usize,
    pub(super) at: Option<SharedMoment>,
    /// The client's own keys, with the last write begun before.
    pub(super) own: BTreeMap<String, u64>,
    /// What of other clients' keys may be found.
    pub(super) others: BTreeMap<String, Horizon>,
    pub(super) asked_ns: u64,
}

/// Draws the commands of one client.
pub(super) struct Asker {
    crowd: Rc<Crowd>,
    pub(super) number: u32,
    pub(super) rng: Rng,
    moments: VecDeque<SharedMoment>,
}

fn own_key(number: u32, n: u64) -> String {
    format!("key:{number}:{n}")
}

/// Returns the keys of a client.
pub(super) fn own_keys(number: u32) -> impl Iterator<Item = String> {
    (0..KEYS).map(move |n| own_key(number, n))
}

/// Returns the keys of a client in its own database.
pub(super) fn own_database_keys(number: u32) -> impl Iterator<Item = String> {
    (0..DATABASE_KEYS).map(move |n| format!("own:{number}:{n}"))
}

/// Returns the database that a client owns, if it has one.
pub(super) fn database_of(number: u32) -> Option<u32> {
    (number < DATABASES).then_some(number + 1)
}

pub(super) fn counter_key(number: u32) -> String {
    format!("zcounter:{number}")
}

impl Asker {
    pub(super) fn new(crowd: Rc<Crowd>, number: u32, rng: Rng) -> Self {
        Self {
            crowd,
            number,
            rng,
            moments: VecDeque::new(),
        }
    }

    fn now_ns(&self) -> u64 {
        self.crowd.reactor.now().0
    }

    /// Returns the last writes begun of the client's keys.
    pub(super) fn lasts(&self) -> BTreeMap<String, u64> {
        lasts(&self.crowd.model.borrow(), own_keys(self.number))
    }

    /// Draws the next command, appends it to `bytes`, and what it is about to `asked`.
    pub(super) fn ask(&mut self, bytes: &mut Vec<u8>, asked: &mut Vec<Asked>) {
        let next = match self.rng.below(100) {
            0..38 => self.set(bytes),
            38..45 => self.delete(bytes),
            45..54 => {
                command(bytes, &["INCR", &counter_key(self.number)]);
                Asked::Increment(counter_key(self.number))
            }
            54..68 => self.get(bytes),
            68..71 => self.get_many(bytes),
            71..73 => self.set_many(bytes),
            73..75 => self.swap(bytes),
            75..83 => self.get_other(bytes),
            83..85 => self.timestamp(bytes),
            85..89 => self.get_at(bytes),
            89..93 => self.walk(bytes),
            93..95 => return self.transact(bytes, asked),
            95 => self.delete_range(bytes),
            96 => self.names(bytes),
            _ => return self.in_own_database(bytes, asked),
        };
        asked.push(next);
    }

    fn draw_key(&mut self) -> String {
        let n = self.draw_place();
        own_key(self.number, n)
    }

    /// Draws which of a client's keys is meant: two of them more often than the others.
    fn draw_place(&mut self) -> u64 {
        let among = if self.rng.chance(0.2) { 2 } else { KEYS };
        self.rng.below(among)
    }

    fn draw_any_key(&mut self) -> String {
        let clients = u64::from(self.crowd.clients);
        let other = u32::try_from(self.rng.below(clients)).expect("fits");
        let n = self.draw_place();
        own_key(other, n)
    }

    fn draw_bytes(&mut self) -> usize {
        let bytes = match self.rng.below(200) {
            0 => self.rng.below(100_000),
            1..4 => self.rng.below(20_000),
            4..40 => self.rng.below(2_000),
            _ => self.rng.below(120),
        };
        usize::try_from(bytes).expect("small")
    }

    fn begin(&self, key: &str, deletes: bool, expiry: Option<Expiry>) -> Write {
        let mut model = self.crowd.model.borrow_mut();
        let known = model.keys.entry(key.to_owned()).or_default();
        known.begin(deletes, expiry)
    }

    fn last(&self, key: &str) -> u64 {
        let model = self.crowd.model.borrow();
        model.keys.get(key).map_or(0, |known| known.last())
    }

    fn set(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let key = self.draw_key();
        let value_bytes = self.draw_bytes();
        let life_ms = (self.rng.chance(0.1)).then(|| 1 + self.rng.below(4000));
        let expiry = life_ms.map(|life_ms| Expiry {
            from_ns: self.now_ns() + life_ms * 999_000 - 2_000_000.min(life_ms * 999_000),
            by_ns: None,
            life_ns: life_ms * 1_000_000,
        });
        let write = self.begin(&key, false, expiry);
        let value = value_of(&key, write.number, value_bytes);
        match life_ms {
            None => command(bytes, &["SET", &key, &value]),
            Some(ms) => command(bytes, &["SET", &key, &value, "PX", &ms.to_string()]),
        }
        Asked::Write(vec![(key, write)])
    }

    fn delete(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let key = self.draw_key();
        let write = self.begin(&key, true, None);
        command(bytes, &["DEL", &key]);
        Asked::Write(vec![(key, write)])
    }

    fn get(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let key = self.draw_key();
        command(bytes, &["GET", &key]);
        let last = self.last(&key);
        Asked::Read(key, last, self.now_ns())
    }

    /// Draws some keys that follow each other, and mostly lie in one partition.
    fn draw_keys(&mut self) -> Vec<String> {
        let first = self.rng.below(KEYS);
        let last = (first + 1 + self.rng.below(4)).min(KEYS);
        (first..last).map(|n| own_key(self.number, n)).collect()
    }

    fn get_many(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let keys = self.draw_keys();
        let mut words = vec!["MGET"];
        words.extend(keys.iter().map(String::as_str));
        command(bytes, &words);
        let asked = keys.iter().map(|key| (key.clone(), self.last(key)));
        Asked::ReadMany(asked.collect(), self.now_ns())
    }

    fn set_many(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let (mut words, mut writes) = (vec!["MSET".to_owned()], Vec::new());
        for key in self.draw_keys() {
            let value_bytes = self.draw_bytes();
            let write = self.begin(&key, false, None);
            words.extend([key.clone(), value_of(&key, write.number, value_bytes)]);
            writes.push((key, write));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        command(bytes, &words);
        Asked::Write(writes)
    }

    fn swap(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let key = self.draw_key();
        let value_bytes = self.draw_bytes();
        let write = self.begin(&key, false, None);
        let value = value_of(&key, write.number, value_bytes);
        command(bytes, &["SET", &key, &value, "GET"]);
        Asked::Swap(key, write, self.now_ns())
    }

    fn get_other(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let key = self.draw_any_key();
        command(bytes, &["GET", &key]);
        let mut model = self.crowd.model.borrow_mut();
        let horizon = model.keys.entry(key.clone()).or_default().horizon();
        Asked::ReadOther(key, horizon)
    }

    fn timestamp(&mut self, bytes: &mut Vec<u8>) -> Asked {
        command(bytes, &["KV.TIMESTAMP"]);
        let keys: Vec<String> = own_keys(self.number).collect();
        let model = self.crowd.model.borrow();
        let moment = Moment::begin(self.now_ns(), &model.keys, &keys);
        let moment = Rc::new(RefCell::new(moment));
        self.moments.push_back(Rc::clone(&moment));
        if self.moments.len() > MOMENTS_MAX {
            self.moments.pop_front();
        }
        Asked::Timestamp(moment)
    }

    /// Picks a moment whose timestamp is known.
    fn draw_moment(&mut self) -> Option<(SharedMoment, String)> {
        if self.moments.is_empty() {
            return None;
        }
        let moment = Rc::clone(&self.moments[self.rng.index(self.moments.len())]);
        let at = moment.borrow().at?;
        Some((moment, at.to_string()))
    }

    fn get_at(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let Some((moment, at)) = self.draw_moment() else {
            return self.timestamp(bytes);
        };
        let key = match self.rng.chance(0.3) {
            true => self.draw_any_key(),
            false => self.draw_key(),
        };
        command(bytes, &["KV.GET", &key, "AT", &at]);
        Asked::ReadAt(key, moment)
    }

    /// Draws two places between own keys, of which the first is the lesser.
    fn draw_range(&mut self) -> (String, String) {
        let all = format!("key:{}:", self.number);
        if self.rng.chance(0.3) {
            return (all.clone(), format!("{all}~"));
        }
        let (a, b) = (self.draw_key(), self.draw_key());
        if a < b { (a, b) } else { (b, a) }
    }

    fn walk(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let everything = self.rng.chance(0.3);
        let (start, end) = if everything {
            ("-".to_owned(), "+".to_owned())
        } else {
            self.draw_range()
        };
        let at = if self.rng.chance(0.3) {
            self.draw_moment()
        } else {
            None
        };
        let own = lasts(&self.crowd.model.borrow(), own_keys(self.number));
        let walk = self.draw_walk((start, end), at, own);
        send_walk(bytes, &walk);
        Asked::Walk(Box::new(walk))
    }

    fn draw_walk(
        &mut self,
        (start, end): (String, String),
        at: Option<(SharedMoment, String)>,
        own: BTreeMap<String, u64>,
    ) -> Walk {
        let is_all = start == "-";
        let has_values = self.rng.chance(0.7);
        let others = if is_all && has_values && at.is_none() {
            let model = self.crowd.model.borrow();
            let keys = model.keys.iter().filter(|(key, _)| !own.contains_key(*key));
            keys.map(|(key, known)| (key.clone(), known.horizon()))
                .collect()
        } else {
            BTreeMap::new()
        };
        Walk {
            start,
            end,
            is_reverse: self.rng.coin(),
            has_values,
            limit: [1, 3, 10, 1000][self.rng.index(4)],
            at: at.map(|(moment, _)| moment),
            own,
            others,
            asked_ns: self.now_ns(),
        }
    }

    fn delete_range(&mut self, bytes: &mut Vec<u8>) -> Asked {
        let (start, end) = self.draw_range();
        command(bytes, &["KV.DELRANGE", &start, &end]);
        let within = own_keys(self.number).filter(|key| *key >= start && *key < end);
        let keys: Vec<String> = within.collect();
        let writes = keys.into_iter().map(|key| {
            let write = self.begin(&key, true, None);
            (key, write)
        });
        Asked::WriteRange(writes.collect())
    }

    /// Asks for a transaction: now and then it watches a key, and now and then writes that key itself before it
    /// asks for the rest, so that nothing may come of it.
    fn transact(&mut self, bytes: &mut Vec<u8>, asked: &mut Vec<Asked>) {
        let spoilt = Rc::new(Cell::new(0));
        if self.rng.coin() {
            let key = self.draw_key();
            command(bytes, &["WATCH", &key]);
            asked.push(Asked::Counted(Rc::clone(&spoilt), Box::new(Asked::Done)));
            if self.rng.coin() {
                let write = self.begin(&key, false, None);
                command(bytes, &["SET", &key, &value_of(&key, write.number, 10)]);
                let write = Box::new(Asked::Write(vec![(key, write)]));
                asked.push(Asked::Counted(Rc::clone(&spoilt), write));
            }
        }
        command(bytes, &["MULTI"]);
        asked.push(Asked::Done);
        let mut parts = Vec::new();
        let count = 1 + self.rng.index(3);
        for key in self.draw_keys().into_iter().cycle().take(count) {
            parts.push(self.draw_part(bytes, key));
        }
        asked.extend(parts.iter().map(|_| Asked::Done));
        command(bytes, &["EXEC"]);
        asked.push(Asked::Exec(Exec { parts, spoilt }));
    }

    /// Draws a command of a transaction.
    fn draw_part(&mut self, bytes: &mut Vec<u8>, key: String) -> Asked {
        match self.rng.below(10) {
            0..4 => {
                let value_bytes = self.draw_bytes();
                let write = self.begin(&key, false, None);
                command(
                    bytes,
                    &["SET", &key, &value_of(&key, write.number, value_bytes)],
                );
                Asked::Write(vec![(key, write)])
            }
            4 => {
                let write = self.begin(&key, true, None);
                command(bytes, &["DEL", &key]);
                Asked::Write(vec![(key, write)])
            }
            5..9 => {
                command(bytes, &["GET", &key]);
                let last = self.last(&key);
                Asked::Read(key, last, self.now_ns())
            }
            _ => {
                command(bytes, &["INCR", &counter_key(self.number)]);
                Asked::Increment(counter_key(self.number))
            }
        }
    }

    fn names(&mut self, bytes: &mut Vec<u8>) -> Asked {
        command(bytes, &["KEYS", &format!("key:{}:*", self.number)]);
        Asked::Names(self.lasts(), self.now_ns())
    }

    /// Asks for something in the client's own database, which it may clear.
    fn in_own_database(&mut self, bytes: &mut Vec<u8>, asked: &mut Vec<Asked>) {
        let Some(database) = database_of(self.number) else {
            asked.push(self.get(bytes));
            return;
        };
        command(bytes, &["SELECT", &database.to_string()]);
        asked.push(Asked::Done);
        let key = format!("own:{}:{}", self.number, self.rng.below(DATABASE_KEYS));
        asked.push(match self.rng.below(20) {
            0..12 => {
                let value_bytes = self.draw_bytes();
                let write = self.begin(&key, false, None);
                let value = value_of(&key, write.number, value_bytes);
                command(bytes, &["SET", &key, &value]);
                Asked::Write(vec![(key, write)])
            }
            12..16 => {
                command(bytes, &["GET", &key]);
                let last = self.last(&key);
                Asked::Read(key, last, self.now_ns())
            }
            16 if self.crowd.clears => {
                command(bytes, &["FLUSHDB"]);
                let writes = own_database_keys(self.number).map(|key| {
                    let write = self.begin(&key, true, None);
                    (key, write)
                });
                Asked::WriteRange(writes.collect())
            }
            _ => {
                let own = lasts(&self.crowd.model.borrow(), own_database_keys(self.number));
                let walk = self.draw_walk(("-".to_owned(), "+".to_owned()), None, own);
                send_walk(bytes, &walk);
                Asked::Walk(Box::new(walk))
            }
        });
        command(bytes, &["SELECT", "0"]);
        asked.push(Asked::Done);
    }
}

fn lasts(model: &Model, keys: impl Iterator<Item = String>) -> BTreeMap<String, u64> {
    let last = |key: String| {
        let last = model.keys.get(&key).map_or(0, |known| known.last());
        (key, last)
    };
    keys.map(last).collect()
}

fn send_walk(bytes: &mut Vec<u8>, walk: &Walk) {
    let limit = walk.limit.to_string();
    let at = walk.at.as_ref().and_then(|moment| moment.borrow().at);
    let at = at.map(|at| at.to_string());
    let mut words = vec!["KV.SCAN", &walk.start, &walk.end, "LIMIT", &limit];
    if walk.is_reverse {
        words.push("REV");
    }
    if !walk.has_values {
        words.push("KEYSONLY");
    }
    if let Some(at) = &at {
        words.extend(["AT", at]);
    }
    command(bytes, &words);
}
