//! Benchmarks: criterion for the parts, `compare` for the whole beside its peers. Nothing to link against.
#![forbid(unsafe_code)]
