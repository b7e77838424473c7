//! Writes the commands of operations: chooses kind, key and value, appends the bytes to a connection's pipeline, and
//! notes what each answer is for. Not when, and not what becomes of the answers.

use std::sync::Arc;

use ashlar_io::Monotonic;
use ashlar_io::rng::Rng;

use super::keys::Chooser;
use super::mix::{Kind, Piece};
use super::pipeline::{Pending, Pipeline, Step, append_number};
use super::reply::{Elements, Reply};
use super::sealed::{self, HEAD_BYTES, Seal};
use super::workload::{Form, ScanBy, Workload, World};

/// What an operation is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// One of the mix.
    Any,
    /// Write a key for the first time.
    Fill(u64),
    /// Read a key, and check it.
    Check(u64),
}

/// The author of one thread's commands.
#[derive(Debug)]
pub(crate) struct Author {
    workload: Arc<Workload>,
    world: Arc<World>,
    rng: Rng,
    chooser: Chooser,
    counters: Chooser,
    /// A word that is being made; kept, so that no operation allocates.
    scratch: Vec<u8>,
}

impl Author {
    /// Makes the author number `index` of `of`.
    pub(crate) fn new(
        workload: &Arc<Workload>,
        world: &Arc<World>,
        part: (u64, u64),
        seed: u64,
    ) -> Self {
        let chooser = Chooser::new(workload.distribution, world.keys(), part);
        Self {
            workload: Arc::clone(workload),
            world: Arc::clone(world),
            rng: Rng::new(seed).fork("operations"),
            counters: chooser.clone(),
            chooser,
            scratch: Vec::new(),
        }
    }

    /// Appends an operation that was due at `due` and is sent at `sent`.
    pub(crate) fn append(
        &mut self,
        task: Task,
        (due, sent): (Monotonic, Monotonic),
        pipeline: &mut Pipeline,
    ) {
        let kind = match task {
            Task::Any => self.workload.mix.draw(&mut self.rng),
            Task::Fill(_) => Kind::Insert,
            Task::Check(_) => Kind::Get,
        };
        let key = match (task, kind) {
            (Task::Fill(key) | Task::Check(key), _) => key,
            (Task::Any, Kind::Insert) => self.world.add_key(),
            (Task::Any, Kind::Incr) => self.counters.choose(self.world.keys(), &mut self.rng),
            (Task::Any, _) => self.chooser.choose(self.world.keys(), &mut self.rng),
        };
        let at = Pending {
            kind,
            step: Step::Write,
            key,
            due,
            sent,
        };
        match kind {
            Kind::Get => self.append_read(at, pipeline),
            Kind::Set => self.append_write(at, false, pipeline),
            Kind::Insert => self.append_insert(at, pipeline),
            Kind::Incr => self.append_increase(at, pipeline),
            Kind::Del => self.append_removal(at, pipeline),
            Kind::Scan => self.append_scan(at, pipeline),
            Kind::Rmw => self.append_first_read(at, pipeline),
            Kind::Custom => self.append_custom(at, pipeline),
        }
    }

    fn append_read(&self, at: Pending, pipeline: &mut Pipeline) {
        let floor = self.floor(at.key);
        self.append_read_command(at.key, pipeline);
        let step = match self.workload.form {
            Form::String => Step::Read(floor),
            Form::Hash => Step::ReadFields(floor),
        };
        pipeline.pending.push_back(Pending { step, ..at });
    }

    fn append_first_read(&self, at: Pending, pipeline: &mut Pipeline) {
        let step = Step::ReadFirst(self.floor(at.key));
        self.append_read_command(at.key, pipeline);
        pipeline.pending.push_back(Pending { step, ..at });
    }

    fn append_read_command(&self, key: u64, pipeline: &mut Pipeline) {
        pipeline.words(2);
        pipeline.word(match self.workload.form {
            Form::String => b"GET",
            Form::Hash => b"HGETALL",
        });
        self.name(key, pipeline);
    }

    fn append_insert(&mut self, at: Pending, pipeline: &mut Pipeline) {
        if self.workload.mix.has(Kind::Scan) && self.world.scan_by == ScanBy::Index {
            pipeline.words(4);
            pipeline.word(b"ZADD");
            pipeline.word(&self.workload.index);
            pipeline.word(b"0");
            self.name(at.key, pipeline);
            let step = Step::Name;
            pipeline.pending.push_back(Pending { step, ..at });
        }
        self.append_write(at, true, pipeline);
    }

    /// Appends the write of a whole record, or of one field.
    pub(crate) fn append_write(&mut self, at: Pending, whole: bool, pipeline: &mut Pipeline) {
        let seal = self.seal(at.key);
        let fields = match (self.workload.form, whole) {
            (Form::String, _) => {
                pipeline.words(3);
                pipeline.word(b"SET");
                self.name(at.key, pipeline);
                self.value(seal, pipeline);
                0..0
            }
            (Form::Hash, true) => 0..self.workload.fields(),
            (Form::Hash, false) => {
                let field = self.rng.below(u64::from(self.workload.fields()));
                let field = u32::try_from(field).expect("there are fewer fields");
                field..field + 1
            }
        };
        if !fields.is_empty() {
            pipeline.words(2 + 2 * fields.len());
            pipeline.word(b"HSET");
            self.name(at.key, pipeline);
        }
        for field in fields {
            pipeline.word(&self.workload.field_names[field as usize]);
            let owner = sealed::owner(at.key, field);
            self.value(Seal { owner, ..seal }, pipeline);
        }
        let step = Step::Write;
        pipeline.pending.push_back(Pending { step, ..at });
    }

    fn append_increase(&self, at: Pending, pipeline: &mut Pipeline) {
        let names = &self.workload.counters;
        pipeline.words(2);
        pipeline.word(b"INCR");
        pipeline.filled(names.bytes(), |out| names.append(at.key, out));
        let before = match self.workload.verifies {
            true => self.world.ledger.counter(at.key),
            false => i64::MIN,
        };
        let step = Step::Count(before);
        pipeline.pending.push_back(Pending { step, ..at });
    }

    fn append_removal(&self, at: Pending, pipeline: &mut Pipeline) {
        if self.workload.verifies {
            self.world.ledger.delete(at.key);
        }
        pipeline.words(2);
        pipeline.word(b"DEL");
        self.name(at.key, pipeline);
        let step = Step::Delete;
        pipeline.pending.push_back(Pending { step, ..at });
    }

    fn append_scan(&mut self, at: Pending, pipeline: &mut Pipeline) {
        let limit = 1 + self.rng.index(self.workload.scan_keys);
        self.scratch.clear();
        append_number(limit, &mut self.scratch);
        let names = &self.workload.names;
        let step = match self.world.scan_by {
            ScanBy::Kv => {
                pipeline.words(5);
                pipeline.word(b"KV.SCAN");
                self.name(at.key, pipeline);
                pipeline.word(b"+");
                pipeline.word(b"LIMIT");
                pipeline.word(&self.scratch);
                Step::Scan
            }
            ScanBy::Index => {
                pipeline.words(7);
                pipeline.word(b"ZRANGEBYLEX");
                pipeline.word(&self.workload.index);
                pipeline.filled(names.bytes() + 1, |out| {
                    out.push(b'[');
                    names.append(at.key, out);
                });
                pipeline.word(b"+");
                pipeline.word(b"LIMIT");
                pipeline.word(b"0");
                pipeline.word(&self.scratch);
                Step::Names
            }
        };
        pipeline.pending.push_back(Pending { step, ..at });
    }

    /// Appends the reads of the records that a scan by the index has named; says whether there are any.
    pub(crate) fn append_parts(
        &self,
        at: Pending,
        named: Elements<'_>,
        pipeline: &mut Pipeline,
    ) -> bool {
        let names = &self.workload.names;
        let number = |reply| match reply {
            Reply::Bulk(name) => names.number(name),
            _ => None,
        };
        let mut keys = named.filter_map(number).peekable();
        let any = keys.peek().is_some();
        while let Some(key) = keys.next() {
            match keys.peek() {
                None => self.append_read(Pending { key, ..at }, pipeline),
                Some(_) => {
                    self.append_read_command(key, pipeline);
                    let step = Step::Part(self.floor(key));
                    pipeline.pending.push_back(Pending { key, step, ..at });
                }
            }
        }
        any
    }

    fn append_custom(&mut self, at: Pending, pipeline: &mut Pipeline) {
        let workload = Arc::clone(&self.workload);
        let sum = workload.templates.last().map_or(1, |(_, sum)| *sum);
        let drawn = self.rng.below(sum);
        let place = workload.templates.partition_point(|(_, sum)| *sum <= drawn);
        let words = workload.templates[place].0.words();
        pipeline.words(words.len());
        let mut scratch = std::mem::take(&mut self.scratch);
        for word in words {
            scratch.clear();
            for piece in word {
                match piece {
                    Piece::Text(text) => scratch.extend_from_slice(text),
                    Piece::Key => workload.names.append(at.key, &mut scratch),
                    Piece::Value => self.body(&mut scratch),
                }
            }
            pipeline.word(&scratch);
        }
        self.scratch = scratch;
        let step = Step::Custom;
        pipeline.pending.push_back(Pending { step, ..at });
    }

    fn body(&mut self, out: &mut Vec<u8>) {
        let bytes = self.workload.sizes.draw(&mut self.rng);
        self.workload.bodies.append(bytes, &mut self.rng, out);
    }

    fn name(&self, key: u64, pipeline: &mut Pipeline) {
        let names = &self.workload.names;
        pipeline.filled(names.bytes(), |out| names.append(key, out));
    }

    fn value(&mut self, seal: Seal, pipeline: &mut Pipeline) {
        let bytes = self.workload.sizes.draw(&mut self.rng);
        let (workload, rng) = (&self.workload, &mut self.rng);
        pipeline.filled(bytes, |out| {
            let from = out.len();
            let head = match workload.verifies {
                true => bytes.min(HEAD_BYTES),
                false => 0,
            };
            out.resize(from + head, b'.');
            workload.bodies.append(bytes - head, rng, out);
            if workload.verifies {
                sealed::seal(&mut out[from..], seal);
            }
        });
    }

    /// Begins a write of a key.
    fn seal(&self, key: u64) -> Seal {
        match self.workload.verifies {
            true => self.world.ledger.write(key, sealed::owner(key, 0)),
            false => Seal::default(),
        }
    }

    fn floor(&self, key: u64) -> super::ledger::Floor {
        match self.workload.verifies {
            true => self.world.ledger.floor(key),
            false => super::ledger::Floor::default(),
        }
    }
}
