//! Benchmarks: criterion for the parts, `compare` for the whole beside its peers, `engine` for the tables.
//! Here is what the two programs have in common.
#![forbid(unsafe_code)]

pub mod directory;
pub mod report;
