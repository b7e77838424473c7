//! The process: shards, clients, commands, routing, configuration. Joins partitions and their log
//! to the people who talk to them.
//!
//! # Layout
//! - [`shard`]: the turn of a shard, the horizontal spine of the system. [`core`]: what the tasks
//!   of a shard share.
//! - [`client`]: one connection: bytes in, commands run, replies in order; [`connection`] is what
//!   its shard sees of it. [`replies`]: what holds a reply back.
//! - [`command`]: Redis words to requests and back; [`resp`]: the protocol's bytes. [`bits`],
//!   [`long_double`], [`subsequence`]: what values are computed with.
//! - [`pubsub`]: channels, their subscribers, and what these are told of keys.
//! - [`shared`]: what the shards share, with [`clients`], who is connected, and [`stats`], what was
//!   counted.
//! - [`route`]: key to partition to shard. [`message`]: what shards say to each other.
//! - [`config`], [`format`]: what the operator chose, and what the data directory was made as.
//! - [`start`]: boot and shutdown of a process.
#![forbid(unsafe_code)]

mod admin;
pub mod attempts;
pub mod bits;
pub mod blocked;
pub mod client;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connection;
pub mod core;
pub mod distant;
pub mod flame;
pub mod format;
pub mod glob;
pub mod long_double;
pub mod message;
pub mod monitors;
pub mod number;
pub mod peer;
pub mod profiler;
pub mod pubsub;
pub mod replies;
pub mod resp;
pub mod route;
pub mod score;
pub mod shard;
pub mod shared;
pub mod slowlog;
pub mod stalls;
pub mod start;
pub mod stats;
pub mod subsequence;
