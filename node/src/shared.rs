//! What the shards of a node share: the configuration as it is now, counters that each shard
//! publishes, the clients, the cursors of scans. Nothing here is on the path of a data command but
//! a few relaxed counters of the own shard.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::Config;
use crate::format::Format;

/// Cursors of scans that are remembered at once; the oldest is forgotten first.
pub const CURSORS_MAX: usize = 10_000;

/// Counters that one shard publishes, once a tick or as they happen. Written by that shard alone.
#[derive(Debug, Default)]
pub struct ShardCounters {
    /// Commands run for own connections.
    pub commands: AtomicU64,
    /// Commands run by kind of answer: reads that found their key, and that did not.
    pub hits: AtomicU64,
    /// See `hits`.
    pub misses: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections refused because of `client.clients_max`.
    pub rejected: AtomicU64,
    /// Error replies.
    pub errors: AtomicU64,
    /// Bytes received.
    pub in_bytes: AtomicU64,
    /// Bytes sent.
    pub out_bytes: AtomicU64,
    /// Keys deleted because they had expired.
    pub expired: AtomicU64,
    /// Memory that the shard's data takes.
    pub used_bytes: AtomicU64,
    /// Keys of each database on this shard, and of those the ones that will expire.
    pub keys: [AtomicU64; 16],
    /// See `keys`.
    pub expiring: [AtomicU64; 16],
    /// Batches of the log written, their bytes on disk, bytes of entries in them.
    pub log_batches: AtomicU64,
    /// See `log_batches`.
    pub log_bytes: AtomicU64,
    /// See `log_batches`.
    pub log_payload_bytes: AtomicU64,
    /// Bytes between the log's start and its end.
    pub log_live_bytes: AtomicU64,
    /// Turns, and turns that ended in sleep.
    pub turns: AtomicU64,
    /// See `turns`.
    pub sleeps: AtomicU64,
    /// Turns longer than `io.stall_ms`.
    pub stalls: AtomicU64,
}

impl ShardCounters {
    /// Adds to a counter that only this shard writes: a plain load and store.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.store(
            counter.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }
}

/// A connection, as `CLIENT LIST` shows it.
#[derive(Clone, Debug)]
pub struct ClientEntry {
    /// Address of the client.
    pub addr: String,
    /// Its name.
    pub name: Vec<u8>,
    /// When it connected, in milliseconds since 1970.
    pub since_ms: u64,
}

/// What the shards of a node share.
#[derive(Debug)]
pub struct Shared {
    /// What the data directory was made as.
    pub format: Format,
    /// Counters of each shard.
    pub shards: Vec<ShardCounters>,
    /// When the node started, in milliseconds since 1970.
    pub started_ms: u64,
    /// Forty hexadecimal digits, new in each life of the process.
    pub run_id: String,
    /// Address that clients connect to.
    pub listen: SocketAddr,
    /// Budget of memory, in bytes.
    pub memory_bytes: u64,
    /// Number of the process.
    pub process_id: u32,
    config: Mutex<Config>,
    config_version: AtomicU64,
    next_client: AtomicU64,
    clients: Mutex<BTreeMap<u64, ClientEntry>>,
    cursors: Mutex<Cursors>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    pub process_id: u32,
}

impl Shared {
    /// Gathers what is known at start.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let shards = (0..facts.format.shards)
            .map(|_| ShardCounters::default())
            .collect();
        let Facts {
            format,
            config,
            started_ms,
            run_id,
            listen,
            memory_bytes,
            process_id,
        } = facts;
        Self {
            format,
            shards,
            started_ms,
            run_id,
            listen,
            memory_bytes,
            process_id,
            config: Mutex::new(config),
            config_version: AtomicU64::new(1),
            next_client: AtomicU64::new(0),
            clients: Mutex::default(),
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

    /// Returns the sum of a counter over the shards.
    pub fn sum(&self, counter: impl Fn(&ShardCounters) -> &AtomicU64) -> u64 {
        self.shards
            .iter()
            .map(|shard| counter(shard).load(Ordering::Relaxed))
            .sum()
    }

    /// Takes a connection in; `None` when there are as many as allowed.
    pub fn connect(&self, addr: String, since_ms: u64, clients_max: u32) -> Option<u64> {
        let mut clients = lock(&self.clients);
        if clients.len() >= clients_max as usize {
            return None;
        }
        let id = self.next_client.fetch_add(1, Ordering::Relaxed) + 1;
        clients.insert(
            id,
            ClientEntry {
                addr,
                name: Vec::new(),
                since_ms,
            },
        );
        Some(id)
    }

    /// Notes that a connection has ended.
    pub fn disconnect(&self, id: u64) {
        lock(&self.clients).remove(&id);
    }

    /// Notes the name of a connection.
    pub fn name_client(&self, id: u64, name: &[u8]) {
        if let Some(client) = lock(&self.clients).get_mut(&id) {
            client.name = name.to_vec();
        }
    }

    /// Returns the address of a connection.
    #[must_use]
    pub fn client(&self, id: u64) -> Option<ClientEntry> {
        lock(&self.clients).get(&id).cloned()
    }

    /// Returns how many connections there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        lock(&self.clients).len()
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
