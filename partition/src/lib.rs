//! What a partition is: a contiguous range of keys, the log entries that changed it, and its
//! current content.
//!
//! **Write path.** [`Partition::serve`] reads the key as it will be once everything proposed is
//! applied, `evaluate` decides what the request answers and changes, and `replica` takes the change
//! into the open entry. At the end of the turn [`Partition::drain`] gives the entry, encoded once,
//! to the shard's log. When the log says it is durable, [`Partition::settle`] applies it to the
//! memtable and the answers that waited for its index may leave.
//!
//! **Read path.** The overlay of entries in flight first (the answer then waits for their index),
//! the memtable second (the answer leaves at once). Nothing is allocated and nothing suspends.
//!
//! **Recovery.** [`Partition::recover`] is given each entry that the log holds, in order, and
//! applies it with the same `apply`. There is no redo code.
//!
//! Terms: a *command* is one blind change of one key, or of a whole database; an *entry* is what
//! one turn proposed, under one index; a *version* is what a command makes of a key, at the entry's
//! timestamp plus its place in it.
//!
//! Architecture invariant: nothing here awaits, reads a file, or asks for the time.
#![forbid(unsafe_code)]

mod apply;
mod cleaning;
pub mod command;
mod evaluate;
pub mod key;
mod memtable;
mod overlay;
mod partition;
mod replica;
mod request;
mod serve;

pub use key::KeyRange;
pub use memtable::{Kind, Memtable, Version};
pub use partition::{Admission, LogRoom, Partition};
pub use request::{Condition, ExpireCondition, Expiry, Put, Refusal, Request, Response, Return};
