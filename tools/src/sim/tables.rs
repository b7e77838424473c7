//! The files of the node's tables as the simulator sees them: which come and go, and damage done to
//! them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::Monotonic;
use ashlar_io::rng::Rng;
use ashlar_io::sim::{Damage, World};

use super::server::Life;

/// The node whose tables are watched.
const NODE: u32 = 0;
/// Where it keeps them.
const TABLES: &str = "data/tables";
const SECTOR_BYTES: u64 = 4096;
/// As much as a write that lands elsewhere destroys.
const BLOCK_BYTES: usize = 4096;

/// Watches the files of tables, to see that flushes and merges happen.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Vec<Rc<[u8]>>,
    /// The life of the node in which `seen` was looked at.
    life: u64,
    marks: BTreeMap<&'static str, u64>,
}

impl Watch {
    pub(super) fn mark(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    fn add(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.marks.entry(what).or_default() += count;
        }
    }

    /// Looks at the files there are now.
    pub(super) fn look(&mut self, world: &World, life: u64) {
        let now = world.files_below(NODE, Path::new(TABLES));
        let (come, gone) = (beside(&now, &self.seen), beside(&self.seen, &now));
        self.add("table written", come.tables);
        self.add("value file written", come.values);
        // What a crash took along was not merged.
        if life == self.life {
            self.add("table merged away", gone.tables);
            self.add("value file dropped", gone.values);
        }
        (self.seen, self.life) = (now, life);
    }

    /// Takes in what a life of the node has read and written.
    pub(super) fn take_traffic(&mut self, (reads, bytes): (u64, u64)) {
        self.add("table read", reads);
        self.add("KiB of tables written", bytes >> 10);
    }

    /// Takes in what a life of a node has counted.
    pub(super) fn take_counts(&mut self, life: &Life) {
        self.add("repeats answered from memory", life.repeats_answered());
        self.add("entries read back for a laggard", life.fed_entries());
        self.add("repaired from others", life.repairs());
    }

    pub(super) fn take_marks(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.marks)
    }
}

/// Files by their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    tables: u64,
    values: u64,
}

/// Counts what is in `some` and not in `others`; both are in order.
fn beside(some: &[Rc<[u8]>], others: &[Rc<[u8]>]) -> Count {
    let (mut count, mut others) = (Count::default(), others.iter().peekable());
    for name in some {
        while others.next_if(|other| *other < name).is_some() {}
        if others.peek().map(|other| other.cmp(&name)) == Some(Ordering::Equal) {
            continue;
        }
        count.tables += u64::from(name.ends_with(b".table"));
        count.values += u64::from(name.ends_with(b".values"));
    }
    count
}

fn table_files(world: &World, machine: u32, data: &Path) -> Vec<(PathBuf, u64)> {
    let mut files = world.list_files(machine);
    files.retain(|(path, _)| path.starts_with(data.join("tables")));
    files
}

/// Draws when tables are damaged: in the later two thirds of a run. The latest comes first.
pub(super) fn draw_damages(rng: &mut Rng, count: u32, length: Duration) -> Vec<Monotonic> {
    let length = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
    let mut times: Vec<_> = (0..count)
        .map(|_| Monotonic(length / 3 + rng.below(length / 3 * 2 + 1)))
        .collect();
    times.sort_by_key(|at| std::cmp::Reverse(at.0));
    times
}

/// Damages one file of a table in a node's directory; says whether there was one.
pub(super) fn damage_one(world: &World, machine: u32, data: &Path, rng: &mut Rng) -> bool {
    let files = table_files(world, machine, data);
    if files.is_empty() {
        return false;
    }
    let (path, bytes) = &files[rng.index(files.len())];
    if *bytes == 0 {
        return false;
    }
    let offset = rng.below(*bytes);
    let damage = match rng.below(4) {
        0 => Damage::FlipBit {
            offset,
            bit: u8::try_from(rng.below(8)).expect("below 8"),
        },
        1 => Damage::ZeroSector { offset },
        2 => Damage::Truncate {
            bytes: offset / SECTOR_BYTES * SECTOR_BYTES,
        },
        _ => misdirected(world, machine, rng, (&files, offset)),
    };
    world.disk_damage(machine, path, &damage).is_ok()
}

/// A sector of some table is written over another one.
fn misdirected(
    world: &World,
    machine: u32,
    rng: &mut Rng,
    (files, offset): (&[(PathBuf, u64)], u64),
) -> Damage {
    let (from, from_bytes) = &files[rng.index(files.len())];
    let content = world.read_file(machine, from).unwrap_or_default();
    let sectors = (from_bytes / SECTOR_BYTES).max(1);
    let start = usize::try_from(rng.below(sectors) * SECTOR_BYTES).expect("files fit in memory");
    let end = content.len().min(start + BLOCK_BYTES);
    Damage::Overwrite {
        offset: offset / SECTOR_BYTES * SECTOR_BYTES,
        bytes: content.get(start..end).unwrap_or_default().to_vec(),
    }
}
