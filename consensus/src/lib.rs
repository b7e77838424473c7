//! Agrees: on order, leadership and time. Pure: no IO, no async, no clock of its own; time and
//! messages are arguments.
//!
//! - [`types`] the names of things. [`hlc`] the hybrid clock, [`bound`] what is known of true time.
//! - [`raft`] one replica of one group: what happens to its log, who leads, who may be read from.
//!   [`membership`], [`quorum`] and [`message`] are its parts that others see.
//! - [`support`] who is alive: promises between nodes, which leases follow from.
#![forbid(unsafe_code)]

pub mod bound;
pub mod hlc;
mod journal;
pub mod membership;
pub mod message;
pub mod pace;
mod progress;
pub mod quorum;
pub mod raft;
pub mod refused;
pub mod support;
mod terms;
pub mod types;
mod wire;
pub mod witness;

pub use hlc::{Clock, Timestamp};
pub use membership::{Change, Member, Membership};
pub use raft::{Options, Output, Raft, Start};
pub use refused::Refused;
pub use support::Supports;
pub use types::{
    Chain, Incarnation, Index, LogPosition, Mono, NodeId, PartitionId, ReplicaId, Term,
};
pub use wire::Malformed;
