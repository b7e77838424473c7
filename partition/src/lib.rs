//! What a partition is: a contiguous range of keys, the log entries that changed it, and its
//! current content.
//!
//! **Write path.** [`Partition::serve`] reads the key as it will be once everything proposed is
//! applied, `evaluate` decides what the request answers and changes, and `replica` takes the change
//! into the open entry. At the end of the turn [`Partition::drain`] gives the entry, encoded once,
//! to the shard's log. When the log says it is durable, [`Partition::settle`] applies it to the
//! memtable and the answers that waited for its index may leave. A memtable that has grown is frozen
//! and flushed to a table by a task; the edit that names the table goes through the same log.
//!
//! **Read path.** The overlay of entries in flight first (the answer then waits for their index),
//! the memtables second, the tables third, newest run first. Nothing suspends: a block that is not in
//! memory is answered as a [`Want`], to be fetched by whoever may wait, and the request is served
//! anew.
//!
//! **Recovery.** A checkpoint says which tables there are. [`Partition::recover`] is given each
//! record that the log holds, in order: edits change the set of tables, entries that no table holds
//! go through the same `apply`. There is no redo code.
//!
//! Terms: a *command* is one blind change of one key, or of a range; an *entry* is what
//! one turn proposed, under one index; a *version* is what a command makes of a key, at the entry's
//! timestamp plus its place in it.
//!
//! Architecture invariant: nothing outside `lsm` awaits or reads a file, and nothing asks for the
//! time.
#![forbid(unsafe_code)]

mod apply;
pub mod ballot;
pub mod collection;
pub mod command;
mod elements;
mod evaluate;
mod figures;
pub mod group;
pub mod key;
pub mod lsm;
mod maintain;
mod memtable;
pub mod outbox;
mod overlay;
mod partition;
#[doc(hidden)]
pub mod planted;
mod read;
mod recover;
mod replica;
mod request;
mod scan;
mod serve;
pub mod session;
pub mod snapshot;
mod stamp;
mod standing;
mod sweep;
mod warm;

pub use elements::Rooted;
pub use group::Turn;
pub use key::KeyRange;
pub use maintain::Purge;
pub use memtable::{Beneath, ChunkPool, Kind, Memtable, Parked, Version, Versions};
pub use outbox::{Feed, Outbox, Urgency};
pub use partition::{Admission, LogRoom, Partition, Pressure};
pub use read::{Held, Want};
pub use recover::{Others, Recovering};
pub use replica::Savepoint;
pub use request::{Condition, ExpireCondition, Expiry, Put, Refusal, Request, Response, Return};
pub use scan::{Order, Part, Scan, Scanned};
pub use session::{Attempt, Recalled, Token};
pub use stamp::Stamp;
pub use standing::Standing;
pub use sweep::Swept;
