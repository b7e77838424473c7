//! Configuration: one TOML text in, one checked [`Config`] out.
//!
//! This module is pure. It reads no file, no environment and no machine; the caller passes the text
//! and resolves what depends on the machine (`memory_bytes = 0`, `cpus = "all"`). One table,
//! [`KNOBS`], drives parsing, bounds, `explain`, `CONFIG GET`, `CONFIG SET` and the annotated file
//! in `deploy/`.
//!
//! Invariants:
//! 1. A [`Config`] that this module hands out is within the bounds of every knob: it is made from
//!    the defaults of the table, and every change passes through the same check.
//! 2. A text with one unknown key or one wrong value yields an error, never a partial
//!    configuration.
//! 3. A later layer wins: defaults, then the file, then [`Overrides`], then [`Config::set`] while
//!    running.

mod clock;
mod cluster;
mod error;
mod file;
mod knob;
mod knobs;
mod rewrite;
#[cfg(test)]
mod tests;
mod value;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub use clock::Clock;
pub use cluster::{Cluster, Listed, MEMBERS_MAX, NAME_BYTES_MAX, is_name};
pub use error::{ConfigError, Place};
pub use knob::{Change, Knob};
pub use knobs::KNOBS;
pub use value::{CommitWait, Compaction, Cpus, Durability, parse_cpus, parse_size};

use crate::pubsub::notice::Classes;

/// Everything that an operator can choose for one node, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Directory of logs and tables.
    pub data: PathBuf,
    /// Address and port that clients connect to.
    pub listen: SocketAddr,
    /// CPUs that shards are pinned to, one shard each.
    pub cpus: Cpus,
    /// Memory of the whole process in bytes; 0 until the caller has resolved it to half of the
    /// machine's.
    pub memory_bytes: u64,
    /// Number of databases that `SELECT` accepts; always 16.
    pub databases: u32,
    /// Limits of clients and their connections.
    pub client: Client,
    /// Write-ahead log of each shard.
    pub wal: Wal,
    /// Ring and turn of each shard.
    pub io: Io,
    /// Limits of each partition.
    pub partition: Partition,
    /// Space of the data directory's disk.
    pub disk: Disk,
    /// What is known of the clock.
    pub clock: Clock,
    /// The cluster that this node is a member of.
    pub cluster: Cluster,
    /// Connections to the other members.
    pub peer: Peer,
    /// Publish and subscribe.
    pub pubsub: PubSub,
    /// Address and port of the admin port; none when it is not wanted.
    pub admin_listen: Option<SocketAddr>,
    /// The file that it was read from, if there is one; no knob.
    pub file: Option<PathBuf>,
}

/// Limits of clients and their connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// What a client must give to `AUTH` first; nothing when empty.
    pub password: String,
    /// Most connections of the node; further ones get an error and are closed.
    pub clients_max: u32,
    /// Longest value in bytes.
    pub value_bytes_max: u64,
    /// Longest command with all its arguments in bytes.
    pub command_bytes_max: u64,
    /// Most reply bytes that wait for one client; a client that reads more slowly is disconnected.
    pub reply_bytes_max: u64,
    /// Seconds of silence after which a client is disconnected; 0 is never.
    pub idle_timeout_s: u32,
    /// Seconds for which the writes of sessions are remembered.
    pub session_expire_s: u32,
    /// Seconds of silence after which TCP probes the client; 0 is never.
    pub tcp_keepalive_s: u32,
    /// Receive buffers of one shard, a power of two.
    pub chunk_count: u32,
    /// Size of one receive buffer in bytes.
    pub chunk_bytes: u32,
}

/// Publish and subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PubSub {
    /// Channels that a connection may be subscribed to.
    pub channels_max: u32,
    /// Patterns that a connection may be subscribed to.
    pub patterns_max: u32,
    /// Bytes that wait for a subscriber before it is closed; 0 is any number.
    pub hard_bytes: u64,
    /// Bytes that may wait for a subscriber for some time; 0 is any number.
    pub soft_bytes: u64,
    /// How long they may, in seconds.
    pub soft_s: u32,
    /// What subscribers are told of keys.
    pub keyspace_events: Classes,
}

/// Write-ahead log of each shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Wal {
    /// Size of one segment file in bytes, a multiple of 1 MiB.
    pub segment_bytes: u64,
    /// Segments kept zeroed and ready.
    pub segments_spare: u32,
    /// Writes in flight at once.
    pub inflight: u32,
    /// Largest write in bytes, a multiple of 4 KiB.
    pub batch_bytes: u32,
    /// How a write is made durable.
    pub durability: Durability,
    /// Bytes of a shard's log above which the memtable that holds its oldest entries is flushed.
    pub log_bytes_max: u64,
    /// Log that is kept for a replica elsewhere that lags behind, in bytes.
    pub laggard_bytes_max: u64,
}

/// Ring and turn of each shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Io {
    /// Longest spin before a shard sleeps, in microseconds.
    pub spin_us_max: u32,
    /// Entries of the submission queue, a power of two.
    pub queue_entries: u32,
    /// Most commands of one turn; the rest wait for the next.
    pub turn_commands_max: u32,
    /// A turn longer than this many milliseconds is logged.
    pub stall_ms: u32,
    /// Whether the time of commands, stages and turns is taken.
    pub timing: bool,
    /// Blocks of memory registered with the kernel; 0 registers none.
    pub registered_blocks: u32,
    /// Open files registered with the kernel; 0 registers none.
    pub registered_files: u32,
    /// Idle milliseconds after which the kernel's thread that takes submissions sleeps; 0 has no
    /// such thread.
    pub sqpoll_idle_ms: u32,
    /// Reads in flight that poll the device instead of waiting for its interrupt; 0 is none.
    pub iopoll_entries: u32,
    /// Longest polling of network devices before a shard sleeps, in microseconds; 0 is none.
    pub napi_poll_us_max: u32,
    /// Sends of at least this many bytes are not copied into the kernel; 0 copies all.
    pub send_zero_copy_bytes: u32,
}

/// Limits and tables of each partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    /// Most bytes proposed and not yet durable; further writes wait.
    pub inflight_bytes_max: u64,
    /// How far back readers may look, in milliseconds.
    pub history_ms: u32,
    /// How runs of tables are merged.
    pub compaction: Compaction,
    /// Lazy compaction merges everything when tables take this times the data.
    pub space_ratio: f64,
    /// Values of this size and larger are kept apart from keys, in bytes.
    pub separate_bytes: u32,
    /// Size at which a table ends, in bytes.
    pub table_bytes: u64,
    /// Days in which all files of tables are read once in search of damage; 0 is never.
    pub scrub_days: u32,
}

/// Space of the data directory's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes kept for deletions, flushes and merges on a disk that is full otherwise.
    pub reserve_bytes: u64,
    /// Share of the disk below which free space is warned of, in percent; 0 is never.
    pub low_percent: u32,
    /// Share of the disk below which writes are refused, in percent; 0 is never.
    pub stop_percent: u32,
}

impl Disk {
    /// Returns one of which nothing is chosen yet.
    fn blank() -> Self {
        Self {
            reserve_bytes: 0,
            low_percent: 0,
            stop_percent: 0,
        }
    }
}

/// Connections to the other members of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Largest frame in bytes; of two nodes the smaller counts.
    pub frame_bytes_max: u32,
    /// Most bytes that wait for one peer, and most that were received and wait for this node.
    pub queue_bytes_max: u64,
    /// Longest handshake in milliseconds.
    pub handshake_ms: u32,
    /// Silence after which a peer is disconnected, in milliseconds.
    pub silence_ms: u32,
}

/// What the command line lays over the file, each as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data`.
    pub data: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--cpus`.
    pub cpus: Option<String>,
    /// `--memory`, a size.
    pub memory: Option<String>,
    /// `--name`.
    pub name: Option<String>,
    /// `--peer-listen`.
    pub peer_listen: Option<String>,
    /// `--peers`.
    pub peers: Option<String>,
    /// `--set KEY=VALUE`, any number of times; the last one of a key wins.
    pub set: Vec<String>,
}

impl Config {
    /// Returns the configuration of an empty file.
    ///
    /// # Panics
    /// Never, unless the table of knobs contradicts itself.
    #[must_use]
    pub fn defaults() -> Self {
        let mut config = Self::blank();
        for knob in KNOBS {
            knob.assign(&mut config, knob.default())
                .expect("the default of a knob is allowed");
        }
        config
            .check(&Place::Defaults)
            .expect("the defaults fit each other");
        config
    }

    /// Returns the configuration that `text` describes; `file_name` appears in errors only.
    ///
    /// # Errors
    /// The first thing that is wrong, in one line with file and line number: TOML that does not
    /// parse, an unknown key (with the nearest known one), a value of the wrong kind or out of
    /// bounds, two values that contradict.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigError> {
        let mut config = Self::defaults();
        file::lay_over(&mut config, text, file_name)?;
        config.check(&Place::File {
            name: file_name.to_owned(),
            line: None,
        })?;
        Ok(config)
    }

    /// Lays the flags of the command line over this configuration.
    ///
    /// # Errors
    /// A value that is not allowed, or a `--set` that names no knob; the configuration is then
    /// unchanged.
    pub fn override_with(&mut self, overrides: &Overrides) -> Result<(), ConfigError> {
        let mut changed = self.clone();
        let flags = [
            ("--data", "data", &overrides.data),
            ("--listen", "listen", &overrides.listen),
            ("--cpus", "cpus", &overrides.cpus),
            ("--memory", "memory_bytes", &overrides.memory),
            ("--name", "cluster.name", &overrides.name),
            (
                "--peer-listen",
                "cluster.peer_listen",
                &overrides.peer_listen,
            ),
            ("--peers", "cluster.peers", &overrides.peers),
        ];
        for (flag, key, value) in flags {
            if let Some(value) = value {
                changed.change(Place::Flag(flag), key, value)?;
            }
        }
        for pair in &overrides.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| ConfigError::Pair {
                given: value::excerpt(pair),
            })?;
            changed.change(Place::Flag("--set"), key.trim(), value.trim())?;
        }
        changed.check(&Place::Flag("the command line"))?;
        *self = changed;
        Ok(())
    }

    /// Changes one knob while the node runs, as `CONFIG SET` does.
    ///
    /// # Errors
    /// An unknown key, a value that is not allowed, or a knob that needs a restart; nothing is then
    /// changed.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        if Knob::find(key).is_some_and(|knob| knob.change() == Change::Restart) {
            return Err(ConfigError::NeedsRestart {
                key: key.to_owned(),
            });
        }
        let mut changed = self.clone();
        changed.change(Place::Command, key, value)?;
        changed.check(&Place::Command)?;
        *self = changed;
        Ok(())
    }

    /// Returns the text of a configuration file with what was set while the node runs; comments stay.
    ///
    /// # Errors
    /// The text is no configuration: `name` and line, and what is allowed.
    pub fn rewritten(&self, text: &str, name: &str) -> Result<String, ConfigError> {
        rewrite::rewritten(self, text, name)
    }

    /// Returns every knob with its present value, as `CONFIG GET *` shows it: sizes in bytes, in
    /// the order of the table. Which of them [`Config::set`] accepts, [`Knob::change`] tells.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, String)> {
        KNOBS
            .iter()
            .map(|knob| (knob.key().to_owned(), knob.show(self)))
            .collect()
    }

    /// Returns one line for each choice that is allowed and dangerous, to be logged at start.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.wal.durability == Durability::None {
            lines.push(
                "wal.durability = \"none\": acknowledged writes are lost in a power cut; for testing only"
                    .to_owned(),
            );
        }
        lines.extend(self.cluster.warnings());
        lines
    }

    /// Returns the reference of all knobs: key, unit, default, what is allowed, and one sentence
    /// each.
    #[must_use]
    pub fn explain() -> String {
        KNOBS
            .iter()
            .map(Knob::explain)
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// Returns a configuration file with every knob at its default and a comment above each;
    /// `deploy/ashlar.toml` is this text.
    #[must_use]
    pub fn annotated() -> String {
        let mut text = String::from(knobs::FILE_HEADER);
        let mut table = "";
        for knob in KNOBS {
            if knob.table() != table {
                table = knob.table();
                let _ = write!(text, "\n[{table}]\n");
            }
            let _ = write!(text, "\n{}", knob.annotated());
        }
        text
    }

    /// Assigns one knob from text.
    fn change(&mut self, place: Place, key: &str, given: &str) -> Result<(), ConfigError> {
        let Some(knob) = Knob::find(key) else {
            return Err(ConfigError::unknown(place, key));
        };
        knob.assign(self, given)
            .map_err(|_| ConfigError::value(place, knob, given))
    }

    /// Checks what two knobs demand of each other.
    fn check(&self, place: &Place) -> Result<(), ConfigError> {
        if self.client.value_bytes_max > self.client.command_bytes_max {
            return Err(ConfigError::Contradiction {
                place: place.clone(),
                first: (
                    "client.value_bytes_max",
                    value::show_size(self.client.value_bytes_max),
                ),
                second: (
                    "client.command_bytes_max",
                    value::show_size(self.client.command_bytes_max),
                ),
            });
        }
        if self.disk.low_percent > 0 && self.disk.stop_percent > self.disk.low_percent {
            return Err(ConfigError::Contradiction {
                place: place.clone(),
                first: ("disk.stop_percent", self.disk.stop_percent.to_string()),
                second: ("disk.low_percent", self.disk.low_percent.to_string()),
            });
        }
        let checked = self.cluster.check(self.listen);
        checked.map_err(|what| ConfigError::Cluster {
            place: place.clone(),
            what,
        })
    }

    /// Returns a configuration whose fields have no meaning yet; [`Config::defaults`] fills each
    /// from the table.
    fn blank() -> Self {
        Self {
            data: PathBuf::new(),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            cpus: Cpus::All,
            memory_bytes: 0,
            databases: 0,
            client: Client {
                clients_max: 0,
                value_bytes_max: 0,
                command_bytes_max: 0,
                password: String::new(),
                reply_bytes_max: 0,
                idle_timeout_s: 0,
                session_expire_s: 0,
                tcp_keepalive_s: 0,
                chunk_count: 0,
                chunk_bytes: 0,
            },
            wal: Wal {
                segment_bytes: 0,
                segments_spare: 0,
                inflight: 0,
                batch_bytes: 0,
                durability: Durability::Auto,
                log_bytes_max: 0,
                laggard_bytes_max: 0,
            },
            io: Io {
                spin_us_max: 0,
                queue_entries: 0,
                turn_commands_max: 0,
                stall_ms: 0,
                timing: false,
                registered_blocks: 0,
                registered_files: 0,
                sqpoll_idle_ms: 0,
                iopoll_entries: 0,
                napi_poll_us_max: 0,
                send_zero_copy_bytes: 0,
            },
            partition: Partition {
                inflight_bytes_max: 0,
                history_ms: 0,
                compaction: Compaction::LazyLeveled,
                space_ratio: 0.0,
                separate_bytes: 0,
                table_bytes: 0,
                scrub_days: 0,
            },
            disk: Disk::blank(),
            clock: Clock::blank(),
            cluster: Cluster {
                name: String::new(),
                peer_listen: None,
                peers: Vec::new(),
                lease_ms: 0,
                election_jitter_ms: 0,
                election_rank: 0,
                retry_ms: 0,
            },
            peer: Peer::default(),
            pubsub: PubSub::default(),
            admin_listen: None,
            file: None,
        }
    }
}
