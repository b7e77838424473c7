//! What the fuzz targets share: choices read from the fuzzer's bytes, and a simulated node to read
//! files on. The targets themselves are in `targets/`, one for each decoder.
//!
//! `cargo +nightly fuzz run NAME`, or `.ci/fuzz SECONDS` for all of them without cargo-fuzz. Both
//! need a C++ compiler, for libFuzzer itself.
//!
//! Invariant: what a target does depends on its bytes alone, so an artifact fails again when it is
//! run again.
#![forbid(unsafe_code)]

mod choices;
mod disk;

pub use choices::Choices;
pub use disk::Disk;
