//! Moves and keeps bytes: the machine of one shard. A shard is a pinned thread with one
//! [`Reactor`]: an executor, timers, files, sockets and a write-ahead log over one io_uring, or
//! over the simulated world.
//!
//! Everything that is not repeatable comes through here: the kernel, time, threads, randomness.
//! What lies above sees none of them in another way, so that the whole node runs in [`sim`] from
//! one seed.
//!
//! # Layout
//! - [`reactor`]: the turn of a shard's machine; `driver` is the seam, `uring` and [`sim`] are what
//!   lies beneath.
//! - `op`, `slot`: one operation, and who owns its bytes while it is in flight.
//! - [`file`], [`socket`]: what operations are for. [`wal`]: the log that every durable byte goes
//!   through first.
//! - [`clock`]: how far the wall clock may be off, and who says so.
//! - [`queue`]: what other threads send to a shard, and how they wake it.
//!   [`timer`](reactor::Reactor::sleep). [`profile`]: where threads spend their time.
//!
//! Not here: keys, terms, commands. Payloads are opaque.

mod buffer;
pub mod clock;
mod driver;
mod error;
mod executor;
pub mod file;
mod lock;
mod mapped;
mod op;
mod process;
pub mod profile;
pub mod queue;
pub mod reactor;
pub mod rng;
pub mod sim;
mod slot;
pub mod socket;
mod sync;
mod sys;
mod text;
mod time;
mod timer;
pub mod topology;
mod uring;
pub mod wal;

pub use buffer::{ALIGN_BYTES, BLOCK_BYTES, Buf, Chunk};
pub use error::{StartError, address_cure};
pub use file::{Durable, File};
pub use lock::DirLock;
pub use mapped::{Mapped, map_read_only};
pub use op::{DirEntry, OpenOptions, Space};
pub use process::{ProcessFacts, check_address};
pub use reactor::{Counters, Reactor, Settings};
pub use socket::{Listener, Socket, SocketSender};
pub use sys::{StopSignals, ask_to_stop, kernel_release, raise_open_files};
pub use text::{read_text, replace_text};
pub use time::{Monotonic, Wall};
