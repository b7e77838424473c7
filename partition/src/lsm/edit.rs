//! Edits: what changes in a partition's version, as the shard's log keeps it. One edit is one
//! record, so it happens wholly or not at all. Not the rules of what may change: those are in
//! [`super::version`].
//!
//! ```text
//!  0  partition     u32
//!  4  version       u8    2; entries have 1 there (see `command`)
//!  5  kind          u8    1 a change; 2 a whole version in the place of the one before, log included;
//!                         3 likewise, but entries behind what it holds count on
//!  6  reserved      u16   0
//!  8  sequence      u64   of this edit in its partition; the first has 1
//! 16  low_water     u64   reads below it are refused, and what only they could see is dropped
//! 24  next_number   u64   files and runs below it have been numbered
//! 32  index         u64   every entry up to this one is in tables; 0 for no news of it
//! 40  term          u64   of that entry
//! 48  timestamp     u64   no version in tables is newer
//! 56  chain         u64   the hash of that entry and all before it (see `command`)
//! 64  counts        9 x u32, of the sections, in their order
//! 100 members_bytes u32   0 for no news of the members
//! 104 add_runs      each: id u64, age u64, level u8
//!     start_merges  each: input run u64, output run u64
//!     trim_runs     each: run u64, key_bytes u32, key
//!     remove_tables each: number u64
//!     add_tables    each: run u64, then as `TableMeta` encodes itself
//!     add_values    each: as `ValueFileMeta` encodes itself
//!     remove_values each: number u64
//!     add_ranges    each: as `RangeTombstone` encodes itself
//!     remove_ranges each: likewise
//!     members       who the replicas were as of the entry at `index`, as
//!                   `ashlar_consensus::Membership` encodes itself
//! ```
//!
//! Invariant: decoding does not panic on any bytes, and does not allocate more than a few times
//! their length.

use super::Malformed;
use super::ranges::RangeTombstone;
use super::table::TableMeta;
use super::values::ValueFileMeta;

/// Tells an edit from an entry, as the byte at offset 4.
pub const EDIT_VERSION: u8 = 2;
/// Counters above this are damage: nothing could be counted on from them.
const COUNTED_MAX: u64 = u64::MAX - (1 << 40);

/// How an edit takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// It changes the version before it.
    #[default]
    Change,
    /// It is a whole version, received from another replica: files, range deletions and all entries of
    /// the log so far count no more.
    Install,
    /// It is a whole version, received from another replica, in the place of one whose files are damaged. It holds at
    /// least the same entries, and those behind them count on.
    Repair,
}

/// What of a partition's log is in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flushed {
    /// Index of the last entry; all before it are in tables as well. Above 0.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
    /// No version in tables is newer; entries behind `index` have only newer ones.
    pub timestamp: u64,
    /// The hash of that entry and all before it.
    pub chain: u64,
}

/// A run that comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddRun {
    /// Its number, from the same counter as those of files.
    pub id: u64,
    /// Its place among the runs: one of larger age is newer. The run of a flush takes its number; a
    /// merge takes the largest age of its inputs.
    pub age: u64,
    /// Its level.
    pub level: u8,
}

/// A run whose keys move to another run, from the lowest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartMerge {
    /// The run that shrinks.
    pub input: u64,
    /// The run that grows.
    pub output: u64,
}

/// How far the keys of a run have moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrimRun {
    /// The run.
    pub run: u64,
    /// Its first key that has not moved.
    pub from: Vec<u8>,
}

/// A table that joins a run.
#[derive(Clone, Debug, PartialEq)]
pub struct AddTable {
    /// The run.
    pub run: u64,
    /// The table.
    pub meta: TableMeta,
}

/// One atomic change of a partition's version. [`super::version::Version::edit`] begins one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edit {
    /// The partition.
    pub partition: u32,
    /// Whether it replaces what was before.
    pub effect: Effect,
    /// Place among the edits of the partition.
    pub sequence: u64,
    /// Reads below this timestamp are refused; 0 for as before.
    pub low_water: u64,
    /// The first number that no file and no run has had; 0 for as before.
    pub next_number: u64,
    /// What is in tables now, if more than before.
    pub flushed: Option<Flushed>,
    /// Runs that come to be.
    pub add_runs: Vec<AddRun>,
    /// Merges that begin.
    pub start_merges: Vec<StartMerge>,
    /// Merges that have come further.
    pub trim_runs: Vec<TrimRun>,
    /// Numbers of tables that go.
    pub remove_tables: Vec<u64>,
    /// Tables that come.
    pub add_tables: Vec<AddTable>,
    /// Value files that come.
    pub add_values: Vec<ValueFileMeta>,
    /// Numbers of value files that go.
    pub remove_values: Vec<u64>,
    /// Range tombstones that come.
    pub add_ranges: Vec<RangeTombstone>,
    /// Range tombstones that go.
    pub remove_ranges: Vec<RangeTombstone>,
    /// Who the replicas were as of what is flushed, encoded; empty for as before.
    pub members: Vec<u8>,
}

impl Edit {
    /// Says whether a record of the log is an edit.
    #[must_use]
    pub fn is_edit(record: &[u8]) -> bool {
        record.get(4) == Some(&EDIT_VERSION)
    }

    /// Appends the edit as a record.
    ///
    /// # Panics
    /// When a section has 4 Gi items or more.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_header(out);
        for run in &self.add_runs {
            put_u64s(out, &[run.id, run.age]);
            out.push(run.level);
        }
        for merge in &self.start_merges {
            put_u64s(out, &[merge.input, merge.output]);
        }
        for trim in &self.trim_runs {
            put_u64s(out, &[trim.run]);
            put_u32(out, trim.from.len());
            out.extend_from_slice(&trim.from);
        }
        put_u64s(out, &self.remove_tables);
        for table in &self.add_tables {
            put_u64s(out, &[table.run]);
            table.meta.encode(out);
        }
        for values in &self.add_values {
            values.encode(out);
        }
        put_u64s(out, &self.remove_values);
        for range in self.add_ranges.iter().chain(&self.remove_ranges) {
            range.encode(out);
        }
        out.extend_from_slice(&self.members);
    }

    fn encode_header(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.to_le_bytes());
        let kind = match self.effect {
            Effect::Change => 1,
            Effect::Install => 2,
            Effect::Repair => 3,
        };
        out.extend_from_slice(&[EDIT_VERSION, kind, 0, 0]);
        put_u64s(out, &[self.sequence, self.low_water, self.next_number]);
        let flushed = self.flushed.unwrap_or(Flushed {
            index: 0,
            term: 0,
            timestamp: 0,
            chain: 0,
        });
        put_u64s(
            out,
            &[
                flushed.index,
                flushed.term,
                flushed.timestamp,
                flushed.chain,
            ],
        );
        let counts = [
            self.add_runs.len(),
            self.start_merges.len(),
            self.trim_runs.len(),
            self.remove_tables.len(),
            self.add_tables.len(),
            self.add_values.len(),
            self.remove_values.len(),
            self.add_ranges.len(),
            self.remove_ranges.len(),
            self.members.len(),
        ];
        for count in counts {
            put_u32(out, count);
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is not an edit; a sentence says why.
    pub fn decode(record: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(record);
        let mut edit = Self::decode_header(&mut fields)?;
        let mut counts = [0; 9];
        for count in &mut counts {
            *count = fields.u32("count of a section")?;
        }
        let members_bytes = fields.u32("length of the members")?;
        let f = &mut fields;
        let [
            runs,
            merges,
            trims,
            lost,
            tables,
            values,
            lost_values,
            ranges,
            lost_ranges,
        ] = counts;
        edit.add_runs = f.all(runs, decode_run)?;
        edit.start_merges = f.all(merges, decode_merge)?;
        edit.trim_runs = f.all(trims, decode_trim)?;
        edit.remove_tables = f.all(lost, |f| f.u64("number of a table"))?;
        edit.add_tables = f.all(tables, decode_table)?;
        edit.add_values = f.all(values, |f| ValueFileMeta::decode(&mut f.0))?;
        edit.remove_values = f.all(lost_values, |f| f.u64("number of a value file"))?;
        edit.add_ranges = f.all(ranges, RangeTombstone::decode)?;
        edit.remove_ranges = f.all(lost_ranges, RangeTombstone::decode)?;
        edit.members = f.bytes(members_bytes, "members")?.to_vec();
        require(f.0.is_empty(), "bytes follow its last section")?;
        Ok(edit)
    }

    fn decode_header(fields: &mut Fields<'_>) -> Result<Self, Malformed> {
        let partition = fields.u32("partition")?;
        let version = fields.u8("version")?;
        let kind = fields.u8("kind")?;
        require(version == EDIT_VERSION, "it is of another version")?;
        let effect = match kind {
            1 => Effect::Change,
            2 => Effect::Install,
            3 => Effect::Repair,
            _ => return Err(Malformed("not an edit: it is of another kind".to_owned())),
        };
        require(
            fields.bytes(2, "reserved bytes")? == [0, 0],
            "reserved bytes are used",
        )?;
        let sequence = fields.u64("sequence")?;
        let low_water = fields.u64("low-water mark")?;
        let next_number = fields.u64("next number")?;
        let flushed = Flushed {
            index: fields.u64("index")?,
            term: fields.u64("term")?,
            timestamp: fields.u64("timestamp")?,
            chain: fields.u64("chain")?,
        };
        let counted = sequence.max(next_number).max(flushed.index) <= COUNTED_MAX;
        require(counted, "a counter is beyond what can be counted")?;
        let none =
            flushed.index > 0 || (flushed.term, flushed.timestamp, flushed.chain) == (0, 0, 0);
        require(none, "nothing is flushed, as of some term")?;
        Ok(Self {
            partition,
            effect,
            sequence,
            low_water,
            next_number,
            flushed: (flushed.index > 0).then_some(flushed),
            ..Self::default()
        })
    }
}

fn decode_run(fields: &mut Fields<'_>) -> Result<AddRun, Malformed> {
    Ok(AddRun {
        id: fields.u64("number of a run")?,
        age: fields.u64("age of a run")?,
        level: fields.u8("level of a run")?,
    })
}

fn decode_merge(fields: &mut Fields<'_>) -> Result<StartMerge, Malformed> {
    Ok(StartMerge {
        input: fields.u64("input of a merge")?,
        output: fields.u64("output of a merge")?,
    })
}

fn decode_trim(fields: &mut Fields<'_>) -> Result<TrimRun, Malformed> {
    Ok(TrimRun {
        run: fields.u64("run that is trimmed")?,
        from: fields.key("key that a run is trimmed to")?.to_vec(),
    })
}

fn decode_table(fields: &mut Fields<'_>) -> Result<AddTable, Malformed> {
    Ok(AddTable {
        run: fields.u64("run of a table")?,
        meta: TableMeta::decode(&mut fields.0)?,
    })
}

fn require(holds: bool, otherwise: &str) -> Result<(), Malformed> {
    if holds {
        return Ok(());
    }
    Err(Malformed(format!("not an edit: {otherwise}")))
}

/// Appends a length or a count.
///
/// # Panics
/// When it is 4 Gi or more.
pub(crate) fn put_u32(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("keys and sections are far below 4 Gi");
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_u64s(out: &mut Vec<u8>, numbers: &[u64]) {
    for number in numbers {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Bytes that fields are taken from, from the front.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// Takes `length` bytes; `what` they are is for the error.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, length: u32, what: &str) -> Result<&'a [u8], Malformed> {
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length));
        let Some((taken, rest)) = taken else {
            return Err(Malformed(format!("the bytes end within the {what}")));
        };
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Malformed> {
        let Some((taken, rest)) = self.0.split_first_chunk() else {
            return Err(Malformed(format!("the bytes end within the {what}")));
        };
        self.0 = rest;
        Ok(*taken)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// There is none.
    pub fn u8(&mut self, what: &str) -> Result<u8, Malformed> {
        self.array(what).map(u8::from_le_bytes)
    }

    /// Takes a number of 4 bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u32(&mut self, what: &str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Takes a number of 8 bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn u64(&mut self, what: &str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// Takes a length of 4 bytes and then as many bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn key(&mut self, what: &str) -> Result<&'a [u8], Malformed> {
        let length = self.u32(what)?;
        self.bytes(length, what)
    }

    /// Takes `count` items, each of which takes bytes: what is allocated is bounded by them.
    fn all<T>(
        &mut self,
        count: u32,
        mut item: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
pub(crate) mod tests;
