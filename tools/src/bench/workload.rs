//! What is asked in one run: everything about keys, values and operations that does not change while it lasts, and the
//! little that does and that all threads share. Not when, nor over which connection.

use std::sync::atomic::{AtomicU64, Ordering};

use super::keys::{Distribution, Names};
use super::ledger::Ledger;
use super::mix::{Mix, Template};
use super::values::{Bodies, Sizes};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// A string
    String,
    /// A hash with some fields
    Hash,
}

/// How keys are read in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ScanBy {
    /// By KV.SCAN
    Kv,
    /// By a sorted set with the name of every key, as YCSB does on Redis
    Index,
}

/// What does not change.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) names: Names,
    /// Names of counters, which are not those of the keys.
    pub(crate) counters: Names,
    /// The sorted set with all names.
    pub(crate) index: Vec<u8>,
    pub(crate) mix: Mix,
    pub(crate) distribution: Distribution,
    pub(crate) sizes: Sizes,
    pub(crate) bodies: Bodies,
    pub(crate) form: Form,
    /// Names of the fields of a hash.
    pub(crate) field_names: Vec<Vec<u8>>,
    /// Most keys of a scan; each reads from one up to so many.
    pub(crate) scan_keys: usize,
    /// Commands of the user's own, each with the sum of its weight and those before.
    pub(crate) templates: Vec<(Template, u64)>,
    /// Whether values are sealed and checked.
    pub(crate) verifies: bool,
}

impl Workload {
    /// Returns how many fields a hash has.
    pub(crate) fn fields(&self) -> u32 {
        u32::try_from(self.field_names.len()).expect("there are a hundred at most")
    }

    /// Returns the names of so many fields.
    pub(crate) fn name_fields(count: u32) -> Vec<Vec<u8>> {
        (0..count)
            .map(|field| format!("field{field}").into_bytes())
            .collect()
    }
}

/// What all threads that load one server share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) ledger: Ledger,
    pub(crate) scan_by: ScanBy,
    /// Keys that were written, or are about to be.
    keys: AtomicU64,
}

impl World {
    /// Makes the state of a server with `keys` keys.
    pub(crate) fn new(ledger: Ledger, scan_by: ScanBy, keys: u64) -> Self {
        Self {
            ledger,
            scan_by,
            keys: AtomicU64::new(keys),
        }
    }

    /// Returns how many keys there are.
    pub(crate) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Takes a new key.
    pub(crate) fn add_key(&self) -> u64 {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }
}
