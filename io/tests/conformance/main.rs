//! One list of tests of the public interface, run on both drivers: the kernel's ring and the
//! simulated world. What holds here is what the log, the node and their simulations may rely on.
//!
//! Not here: what only one of the drivers has (crashes and faults in `src/sim`, threads and
//! wake-ups in `uring.rs`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod harness;
mod sockets;
mod streams;
mod timers;
