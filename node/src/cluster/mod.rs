//! The cluster that a node belongs to: who its members are, and how they came to agree on it.
//!
//! # Layout
//! - [`member`]: a member, and the numbers that name clusters and disks.

pub mod member;

pub use member::{ClusterId, Member, StoreId, shard_addr};
