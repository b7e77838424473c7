//! The cluster that a node belongs to: who its members are, and how they came to agree on it.
//!
//! # Layout
//! - [`member`]: a member, and the numbers that name clusters and disks.
//! - [`decree`]: what is decided; [`paxos`]: how.

pub mod decree;
pub mod member;
pub mod paxos;
pub mod view;

pub use decree::Decree;
pub use member::{ClusterId, Member, StoreId, shard_addr};
