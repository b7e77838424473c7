//! Partitions against a plain model: what they answer, what they hold, and what a power cut leaves of
//! them. Logs are real, disks are simulated; every run comes from a seed.
//!
//! Not here: the memtable alone, whose tests lie beside it, and the log alone, whose tests are in `io`.
#![expect(clippy::unwrap_used, reason = "tests may unwrap")]

mod content;
mod decoders;
mod ground;
mod history;
mod model;
mod node;
mod recover;
mod recovery;
mod reference;
mod snapshot;
mod trees;
mod workload;
