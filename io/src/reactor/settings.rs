//! How a reactor is set up. Not what an operator may choose: the node's configuration does that, and
//! its keys `io.*` and `client.*` have the names of these fields.

use std::sync::Arc;

use crate::clock::Board;

/// How a reactor is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Submission entries of the ring.
    pub queue_entries: u32,
    /// Receive buffers; a power of two.
    pub chunk_count: u16,
    /// Size of one receive buffer, in bytes.
    pub chunk_bytes: usize,
    /// Registered blocks of [`crate::BLOCK_BYTES`] for the log.
    pub registered_blocks: u16,
    /// Files that the kernel knows by number; those opened beyond go by their descriptor. 0
    /// registers none.
    pub registered_files: u16,
    /// Longest spin before the shard sleeps, in microseconds; the spin adapts below it. 0 never
    /// spins.
    pub spin_us_max: u32,
    /// A kernel thread takes submissions without a system call, and sleeps after this many idle
    /// milliseconds; it needs a CPU of its own. 0 has none.
    pub sqpoll_idle_ms: u32,
    /// Entries of a second ring that reads direct files by polling the device; 0 has none.
    pub iopoll_entries: u32,
    /// Longest time that a sleeping shard polls its network devices, in microseconds; 0 leaves them
    /// to their interrupts.
    pub napi_poll_us_max: u32,
    /// Sends of at least this many bytes are not copied into the kernel; 0 copies all.
    pub send_zero_copy_bytes: u32,
    /// A dropped socket that cannot send what is left is reset after this many milliseconds.
    pub linger_ms: u32,
    /// What is known of the wall clock's error; nothing without. A simulated world knows itself.
    pub clock: Option<Arc<Board>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_entries: 1024,
            chunk_count: 256,
            chunk_bytes: 16 << 10,
            registered_blocks: 8,
            registered_files: 64,
            spin_us_max: 0,
            sqpoll_idle_ms: 0,
            iopoll_entries: 0,
            napi_poll_us_max: 0,
            send_zero_copy_bytes: 0,
            linger_ms: 10_000,
            clock: None,
        }
    }
}
