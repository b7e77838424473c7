//! The atomics that the wake handshake is made of: the standard ones, or those of the model checker
//! under `--cfg loom`.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU8, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU8, Ordering, fence};
