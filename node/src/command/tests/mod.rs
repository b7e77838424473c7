//! Command lines and the replies that Redis 7.2 gives to them, family by family.

mod bitmap;
mod blocking;
mod connection;
mod edit;
mod harness;
mod hash;
mod keys;
mod list;
mod ordered;
mod server;
mod set;
mod sorted_set;
mod string;
mod support;
mod table;
mod transaction;

pub(crate) use harness::shared;

/// The error of words that must be an integer.
const NOT_AN_INTEGER: &str = "-ERR value is not an integer or out of range";
/// The error of words that no option takes.
const SYNTAX: &str = "-ERR syntax error";
