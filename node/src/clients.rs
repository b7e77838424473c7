//! Who is connected: one entry per connection, on whichever shard it is, as `CLIENT LIST` shows
//! them. An entry is shared by its connection's task, which keeps it true, and by whoever asks.
//!
//! Not the connections themselves: no entry leads to a socket or a reply.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::command::{Command, Session, table};
use crate::pubsub::Kind;
use crate::resp::Version;
use crate::shared::lock;

/// No command has been run yet.
const NO_ROW: u16 = u16::MAX;

/// What a client said of itself and chose.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// Name that it gave itself.
    pub name: Vec<u8>,
    /// Library that it says it is.
    pub library: Vec<u8>,
    /// Version of that library.
    pub library_version: Vec<u8>,
    /// Database that its keys belong to.
    pub database: u8,
    /// Protocol of its replies.
    pub version: Version,
    /// How many channels, patterns and channels of `SSUBSCRIBE` it is subscribed to.
    pub subscriptions: [usize; 3],
}

/// A connection, as others see it.
#[derive(Debug)]
pub struct ClientEntry {
    /// Unique in the life of the node.
    pub id: u64,
    /// Address of the client.
    pub addr: String,
    /// Shard that serves it.
    pub shard: u32,
    /// When it connected, in milliseconds since 1970.
    pub since_ms: u64,
    active_ms: AtomicU64,
    row: AtomicU16,
    waits: AtomicBool,
    said: Mutex<Said>,
}

impl ClientEntry {
    /// Notes that the client has sent something.
    pub fn note_active(&self, now_ms: u64) {
        self.active_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Notes which command it runs.
    pub fn note_command(&self, command: &Command) {
        let row = u16::try_from(command.row()).unwrap_or(NO_ROW);
        self.row.store(row, Ordering::Relaxed);
    }

    /// Notes whether its command waits for elements.
    pub fn note_waiting(&self, waits: bool) {
        self.waits.store(waits, Ordering::Relaxed);
    }

    /// Says whether its command waits for elements.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// Says whether its command waits for elements, and is the first to say that the wait ends.
    #[must_use]
    pub fn end_wait(&self) -> bool {
        self.waits.swap(false, Ordering::Relaxed)
    }

    /// Returns when the client last sent something, in milliseconds since 1970.
    #[must_use]
    pub fn active_ms(&self) -> u64 {
        self.active_ms.load(Ordering::Relaxed)
    }

    /// Returns the name of its last command, if it has run any.
    #[must_use]
    pub fn last_command(&self) -> Option<&'static str> {
        let row = self.row.load(Ordering::Relaxed);
        table::all()
            .get(usize::from(row))
            .map(|command| command.name)
    }

    /// Says whether it is subscribed to anything.
    #[must_use]
    pub fn is_subscriber(&self) -> bool {
        lock(&self.said).subscriptions != [0; 3]
    }

    /// Returns what it said and chose.
    #[must_use]
    pub fn said(&self) -> Said {
        lock(&self.said).clone()
    }
}

/// All connections of the node.
#[derive(Debug, Default)]
pub struct Clients {
    last: AtomicU64,
    by_id: Mutex<BTreeMap<u64, Arc<ClientEntry>>>,
}

impl Clients {
    /// Takes a connection in; `None` when there are as many as allowed.
    pub fn connect(
        &self,
        addr: String,
        shard: u32,
        now_ms: u64,
        clients_max: u32,
    ) -> Option<Arc<ClientEntry>> {
        let mut by_id = lock(&self.by_id);
        if by_id.len() >= clients_max as usize {
            return None;
        }
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Arc::new(ClientEntry {
            id,
            addr,
            shard,
            since_ms: now_ms,
            active_ms: AtomicU64::new(now_ms),
            row: AtomicU16::new(NO_ROW),
            waits: AtomicBool::new(false),
            said: Mutex::default(),
        });
        by_id.insert(id, Arc::clone(&entry));
        Some(entry)
    }

    /// Notes that a connection has ended.
    pub fn disconnect(&self, id: u64) {
        lock(&self.by_id).remove(&id);
    }

    /// Notes what a connection has been told about itself, after it has changed.
    pub fn describe(&self, session: &Session) {
        if let Some(client) = self.find(session.id) {
            *lock(&client.said) = Said {
                name: session.name.clone(),
                library: session.library.clone(),
                library_version: session.library_version.clone(),
                database: session.database,
                version: session.version,
                subscriptions: Kind::EVERY.map(|kind| session.subscriber.count(kind)),
            };
        }
    }

    /// Returns the connection with an id.
    #[must_use]
    pub fn find(&self, id: u64) -> Option<Arc<ClientEntry>> {
        lock(&self.by_id).get(&id).cloned()
    }

    /// Returns all connections, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ClientEntry>> {
        lock(&self.by_id).values().cloned().collect()
    }

    /// Returns how many connections there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.by_id).len()
    }
}
