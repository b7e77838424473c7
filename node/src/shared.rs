//! What the shards of a node share: the configuration as it is now, what each shard has counted, who
//! is connected, the cursors of scans. Nothing here is on the path of a data command but a few
//! relaxed counters of the own shard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::attempts::Attempts;
use crate::clients::Clients;
use crate::clock::Sight;
use crate::cluster::roster::Latest;
use crate::cluster::view::View;
use crate::config::Config;
use crate::core::space::Gauge;
use crate::format::Format;
use crate::monitors::Monitors;
use crate::profiler::Profiler;
use crate::pubsub::directory::Directory;
use crate::slowlog::Slowlog;
use crate::stalls::Stalls;
use crate::stats::Stats;

/// Cursors of scans that are remembered at once; the oldest is forgotten first.
pub const CURSORS_MAX: usize = 10_000;

/// What the shards of a node share.
#[derive(Debug)]
pub struct Shared {
    /// What the data directory was made as.
    pub format: Format,
    /// What the shards have counted.
    pub stats: Stats,
    /// Who is connected.
    pub clients: Clients,
    /// When the node started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Forty hexadecimal digits, new in each life of the process.
    pub run_id: String,
    /// Address that clients connect to.
    pub listen: SocketAddr,
    /// Budget of memory, in bytes.
    pub memory_bytes: u64,
    /// Memory of the machine, in bytes.
    pub machine_bytes: u64,
    /// Number of the process.
    pub process_id: u32,
    /// How the cluster looks from here, if the node is in one.
    pub cluster: View,
    /// Who the members of the cluster are, as far as this node knows.
    pub roster: Latest,
    /// What is known of the clock.
    pub clock: Sight,
    /// What is known of the data directory's disk.
    pub space: Gauge,
    /// Whether commands are kept waiting.
    pub pause: Pause,
    /// Commands that took long.
    pub slowlog: Slowlog,
    /// Connections that watch every command.
    pub monitors: Monitors,
    /// Which shards have subscribers of which channels.
    pub channels: Directory,
    /// Memory that the process takes of the machine, as of the last tick.
    pub resident_bytes: AtomicU64,
    /// Turns that took too long.
    pub stalls: Stalls,
    /// Profiles of the shards' threads.
    pub profiler: Profiler,
    /// Wrong passwords.
    pub attempts: Attempts,
    /// Held while the file of the configuration is rewritten: two shards would write the same new one.
    pub(crate) rewriting: Mutex<()>,
    config: Mutex<Config>,
    config_version: AtomicU64,
    cursors: Mutex<Cursors>,
}

/// Locks a mutex whose content is whole even when a thread has panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What [`Shared::new`] takes.
#[derive(Debug)]
pub struct Facts {
    /// See [`Shared`].
    pub format: Format,
    /// Configuration at start.
    pub config: Config,
    /// See [`Shared`].
    pub started_ms: u64,
    /// See [`Shared`].
    pub run_id: String,
    /// See [`Shared`].
    pub listen: SocketAddr,
    /// See [`Shared`].
    pub memory_bytes: u64,
    /// See [`Shared`].
    pub machine_bytes: u64,
    /// See [`Shared`].
    pub process_id: u32,
}

/// Share of a shard's memory that memtables and entries in flight may take, in percent.
const MEMTABLE_PERCENT: u64 = 25;
/// Share of a shard's memory that blocks of tables may take, in percent.
const CACHE_PERCENT: u64 = 55;

impl Shared {
    /// Returns the memory that the memtables of one shard may take, in bytes.
    #[must_use]
    pub fn memtable_bytes(&self) -> u64 {
        self.memory_bytes / u64::from(self.format.shards) * MEMTABLE_PERCENT / 100
    }

    /// Returns the memory that one shard may keep blocks in, in bytes.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.memory_bytes / u64::from(self.format.shards) * CACHE_PERCENT / 100
    }

    /// Gathers what is known at start.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let Facts {
            format,
            config,
            started_ms,
            run_id,
            listen,
            memory_bytes,
            machine_bytes,
            process_id,
        } = facts;
        Self {
            stats: Stats::new(format.shards),
            clients: Clients::default(),
            cluster: View::default(),
            roster: Latest::default(),
            channels: Directory::new(format.shards),
            format,
            started_ms,
            run_id,
            listen,
            memory_bytes,
            machine_bytes,
            process_id,
            clock: Sight::default(),
            space: Gauge::default(),
            pause: Pause::default(),
            slowlog: Slowlog::default(),
            attempts: Attempts::default(),
            monitors: Monitors::default(),
            resident_bytes: AtomicU64::default(),
            stalls: Stalls::default(),
            profiler: Profiler::default(),
            rewriting: Mutex::default(),
            config: Mutex::new(config),
            config_version: AtomicU64::new(1),
            cursors: Mutex::default(),
        }
    }

    /// Returns a copy of the configuration as it is now.
    #[must_use]
    pub fn config(&self) -> Config {
        lock(&self.config).clone()
    }

    /// Returns a number that changes with each change of the configuration.
    #[must_use]
    pub fn config_version(&self) -> u64 {
        self.config_version.load(Ordering::Acquire)
    }

    /// Changes the configuration.
    ///
    /// # Errors
    /// What `change` says; the configuration is then as before.
    pub fn change_config<E>(
        &self,
        change: impl FnOnce(&mut Config) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut config = lock(&self.config);
        let mut changed = config.clone();
        change(&mut changed)?;
        *config = changed;
        self.config_version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Remembers where a scan goes on; returns the cursor's number, never 0.
    pub fn keep_cursor(&self, after: Vec<u8>) -> u64 {
        lock(&self.cursors).keep(after)
    }

    /// Returns where the scan of a cursor goes on; `None` when it was never given or is forgotten.
    #[must_use]
    pub fn cursor(&self, number: u64) -> Option<Vec<u8>> {
        lock(&self.cursors).places.get(&number).cloned()
    }
}

/// What `CLIENT PAUSE` keeps waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// All commands.
    All,
    /// Commands that write.
    Writes,
}

/// Whether commands are kept waiting, on all shards.
#[derive(Debug, Default)]
pub struct Pause {
    until_ms: AtomicU64,
    writes_only: AtomicBool,
}

impl Pause {
    /// Keeps commands waiting until a moment, in milliseconds since 1970.
    pub fn begin(&self, until_ms: u64, what: Paused) {
        self.writes_only
            .store(what == Paused::Writes, Ordering::Relaxed);
        self.until_ms.fetch_max(until_ms, Ordering::Relaxed);
    }

    /// Lets all commands go on.
    pub fn end(&self) {
        self.until_ms.store(0, Ordering::Relaxed);
    }

    /// Returns what is kept waiting now, if anything is.
    #[must_use]
    pub fn now(&self, now_ms: u64) -> Option<Paused> {
        if self.until_ms.load(Ordering::Relaxed) <= now_ms {
            return None;
        }
        match self.writes_only.load(Ordering::Relaxed) {
            true => Some(Paused::Writes),
            false => Some(Paused::All),
        }
    }
}

/// Cursors of scans. Redis's are numbers, and ours have to stand for a key: so the node remembers
/// the key.
#[derive(Debug, Default)]
struct Cursors {
    places: BTreeMap<u64, Vec<u8>>,
    last: u64,
}

impl Cursors {
    fn keep(&mut self, after: Vec<u8>) -> u64 {
        self.last += 1;
        self.places.insert(self.last, after);
        if self.places.len() > CURSORS_MAX {
            self.places.pop_first();
        }
        self.last
    }
}
