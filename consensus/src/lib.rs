//! Agrees: on order, leadership and time. Pure: no IO, no async, no clock of its own; time and
//! messages are arguments.
//!
//! What is here so far is what a single node needs and a cluster will share with it: the names of
//! things ([`types`]) and the hybrid clock ([`hlc`]). The Raft core, leases and clock bounds join
//! them without changing either.
#![forbid(unsafe_code)]

pub mod hlc;
pub mod types;

pub use hlc::{Clock, Timestamp};
pub use types::{Index, NodeId, PartitionId, Term};
