//! Benchmarks: criterion for the parts, `compare` for the whole beside its peers, `engine` for the tables.
//! Here is what the programs that measure have in common.
#![forbid(unsafe_code)]

pub mod directory;
pub mod process;
pub mod program;
pub mod report;
