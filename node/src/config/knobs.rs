//! The table of all knobs. To add one: a field of [`Config`](super::Config), a row here, and the
//! new output of `Config::annotated` in `deploy/ashlar.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use ashlar_io::clock::Choice;

use super::Config;
use super::cluster::Listed;
use super::knob::{Change, Field, Knob, Step};
use super::value::{CommitWait, Compaction, Cpus, Durability};
use crate::pubsub::notice::Classes;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// How the annotated file begins.
pub(super) const FILE_HEADER: &str = "\
# Configuration of an Ashlar node: every knob with its default. A file may leave out any of them; an
# unknown key is an error. Flags of the command line go above this file. Sizes are integers of
# bytes, or strings with a unit: KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (of 1024).
";

/// Every knob, grouped by table, in the order of the annotated file.
pub const KNOBS: &[Knob] = &[
    path("data", "./ashlar-data", |c| &mut c.data)
        .about("Directory of logs and tables; it is made when it is not there."),
    address("listen", "127.0.0.1:6379", |c| &mut c.listen)
        .about("Address and port that clients connect to."),
    cpus("cpus", "all", |c| &mut c.cpus)
        .about("CPUs of the node: one shard is pinned to each."),
    size("memory_bytes", "0", |c| &mut c.memory_bytes)
        .between(64 * MIB, 16 * TIB)
        .step(Step::OrZero("half of the machine's memory"))
        .about("Memory of the whole process; writes are refused when it is full."),
    count("databases", "16", |c| &mut c.databases)
        .between(16, 16)
        .about("Databases that SELECT accepts."),
    secret("client.password", "", |c| &mut c.client.password)
        .running()
        .about("What a client must give to AUTH before anything else; connections that are there go on."),
    count("client.clients_max", "10000", |c| &mut c.client.clients_max)
        .between(1, 1_000_000)
        .running()
        .about("Most connections of the node; a further one gets an error and is closed."),
    size("client.value_bytes_max", "64 MiB", |c| &mut c.client.value_bytes_max)
        .between(KIB, 64 * MIB)
        .running()
        .about("Longest value; a command with a longer one gets an error."),
    size("client.command_bytes_max", "128 MiB", |c| &mut c.client.command_bytes_max)
        .between(4 * KIB, GIB)
        .running()
        .about("Longest command with all its arguments; a client that sends a longer one is closed."),
    size("client.reply_bytes_max", "64 MiB", |c| &mut c.client.reply_bytes_max)
        .between(64 * KIB, 4 * GIB)
        .running()
        .about("Most reply bytes that wait for one client; a client that reads too slowly is closed."),
    count("client.idle_timeout_s", "0", |c| &mut c.client.idle_timeout_s)
        .between(1, 31_536_000)
        .step(Step::OrZero("never"))
        .running()
        .about("Silence after which a client is closed."),
    count("client.tcp_keepalive_s", "300", |c| &mut c.client.tcp_keepalive_s)
        .between(1, 32_767)
        .step(Step::OrZero("never"))
        .about("Silence after which TCP probes whether the client is still there."),
    count("client.session_expire_s", "600", |c| &mut c.client.session_expire_s)
        .between(60, 604_800)
        .running()
        .about("How long a write of a session is remembered: who sends it again later has it done again."),
    count("client.chunk_count", "256", |c| &mut c.client.chunk_count)
        .between(16, 32_768)
        .step(Step::PowerOfTwo)
        .about("Receive buffers of each shard; when all are full, clients wait."),
    size_32("client.chunk_bytes", "16 KiB", |c| &mut c.client.chunk_bytes)
        .between(4 * KIB, 64 * KIB)
        .about("Size of one receive buffer."),
    count("pubsub.channels_max", "65536", |c| &mut c.pubsub.channels_max)
        .between(1, 1_048_576)
        .running()
        .about("Channels that a connection may be subscribed to."),
    count("pubsub.patterns_max", "1024", |c| &mut c.pubsub.patterns_max)
        .between(1, 65_536)
        .running()
        .about("Patterns that a connection may be subscribed to; each message is compared with all of them."),
    size("pubsub.hard_bytes", "32 MiB", |c| &mut c.pubsub.hard_bytes)
        .between(64 * KIB, 4 * GIB)
        .step(Step::OrZero("no limit"))
        .running()
        .about("Bytes that may wait for a subscriber; one that reads more slowly is closed."),
    size("pubsub.soft_bytes", "8 MiB", |c| &mut c.pubsub.soft_bytes)
        .between(64 * KIB, 4 * GIB)
        .step(Step::OrZero("no limit"))
        .running()
        .about("Bytes that may wait for a subscriber for pubsub.soft_s; then it is closed."),
    count("pubsub.soft_s", "60", |c| &mut c.pubsub.soft_s)
        .between(1, 86_400)
        .running()
        .about("How long more than pubsub.soft_bytes may wait for a subscriber."),
    events("pubsub.keyspace_events", "", |c| &mut c.pubsub.keyspace_events)
        .running()
        .about(
            "What is published of keys: letters of notify-keyspace-events; K or E, and at least one class.",
        ),
    size("wal.segment_bytes", "64 MiB", |c| &mut c.wal.segment_bytes)
        .between(MIB, GIB)
        .step(Step::MultipleOf(MIB))
        .about("Size of one file of the write-ahead log."),
    count("wal.segments_spare", "4", |c| &mut c.wal.segments_spare)
        .between(1, 16)
        .about("Segments of each shard that are kept zeroed and ready."),
    count("wal.inflight", "2", |c| &mut c.wal.inflight)
        .between(1, 4)
        .about("Log writes of each shard in flight at once."),
    size_32("wal.batch_bytes", "256 KiB", |c| &mut c.wal.batch_bytes)
        .between(4 * KIB, 256 * KIB)
        .step(Step::MultipleOf(4 * KIB))
        .about("Largest single write to the log."),
    durability("wal.durability", "auto", |c| &mut c.wal.durability).about(
        "How a log write is made durable: measured at start (auto), by a flag of each write (dsync), \
         by a call after it (fdatasync), or not at all (none: for testing, loses data in a power cut).",
    ),
    size("wal.log_bytes_max", "512 MiB", |c| &mut c.wal.log_bytes_max)
        .between(MIB, TIB)
        .running()
        .about("Log of a shard above which the memtable with its oldest entries is flushed; a start reads it all."),
    size("wal.laggard_bytes_max", "256 MiB", |c| &mut c.wal.laggard_bytes_max)
        .between(MIB, TIB)
        .step(Step::OrZero("none"))
        .running()
        .about(
            "Log of a shard that is kept for a replica elsewhere that lags behind, at most half of \
             wal.log_bytes_max; one that lags further is sent the tables.",
        ),
    count("io.spin_us_max", "5", |c| &mut c.io.spin_us_max)
        .between(0, 1_000)
        .running()
        .about("Longest spin of a shard before it sleeps; it adapts itself below this."),
    count("io.queue_entries", "1024", |c| &mut c.io.queue_entries)
        .between(64, 32_768)
        .step(Step::PowerOfTwo)
        .about("Entries of the submission queue of each shard."),
    count("io.turn_commands_max", "1024", |c| &mut c.io.turn_commands_max)
        .between(1, 1_048_576)
        .running()
        .about("Most commands that a shard runs in one turn; the rest wait for the next."),
    count("io.stall_ms", "5", |c| &mut c.io.stall_ms)
        .between(1, 60_000)
        .running()
        .about("A turn of a shard that takes longer than this is logged."),
    switch("io.timing", "yes", |c| &mut c.io.timing)
        .running()
        .about(
            "Takes the time of commands, of stages of requests and of turns, for INFO, /metrics, SLOWLOG and stalls; \
             without it, they are only counted.",
        ),
    count("io.registered_blocks", "8", |c| &mut c.io.registered_blocks)
        .between(0, 64)
        .about("Blocks of memory that each shard registers with the kernel; 0 registers none."),
    count("io.registered_files", "64", |c| &mut c.io.registered_files)
        .between(1, 4_096)
        .step(Step::OrZero("none"))
        .about("Open files of each shard that the kernel knows by a number of its own."),
    count("io.sqpoll_idle_ms", "0", |c| &mut c.io.sqpoll_idle_ms)
        .between(1, 60_000)
        .step(Step::OrZero("no thread"))
        .about(
            "For each shard a thread of the kernel takes submissions without a system call, and \
             sleeps when it was idle for so long; it needs a CPU of its own, and completions are no \
             longer run by the shard itself.",
        ),
    count("io.iopoll_entries", "0", |c| &mut c.io.iopoll_entries)
        .between(1, 4_096)
        .step(Step::OrZero("none"))
        .about(
            "Reads in flight of each shard that poll the device instead of waiting for its \
             interrupt; only direct reads do, the device's driver must have polled queues, and the \
             shard does not sleep meanwhile.",
        ),
    count("io.napi_poll_us_max", "0", |c| &mut c.io.napi_poll_us_max)
        .between(1, 10_000)
        .step(Step::OrZero("never"))
        .about(
            "Longest time that a shard without work polls its network devices before it sleeps; \
             Linux 6.9 or newer.",
        ),
    size_32("io.send_zero_copy_bytes", "0", |c| &mut c.io.send_zero_copy_bytes)
        .between(16 * KIB, GIB)
        .step(Step::OrZero("never"))
        .about(
            "Sends of at least this size are read by the network device from where they are, not \
             copied; over loopback that is slower.",
        ),
    size("partition.inflight_bytes_max", "64 MiB", |c| &mut c.partition.inflight_bytes_max)
        .between(MIB, 4 * GIB)
        .running()
        .about("Most bytes of a partition that are proposed and not yet durable; further writes wait."),
    count("partition.history_ms", "10000", |c| &mut c.partition.history_ms)
        .between(0, 86_400_000)
        .running()
        .about("How far back KV.GET and KV.SCAN may look; all versions of this long are kept."),
    compaction("partition.compaction", "lazy", |c| &mut c.partition.compaction)
        .about("How tables are merged: lazy writes least, leveled scans fastest."),
    ratio("partition.space_ratio", "1.35", |c| &mut c.partition.space_ratio)
        .between(110, 1_000)
        .running()
        .about("Lazy compaction merges everything when tables take this times the data."),
    size_32("partition.separate_bytes", "1 KiB", |c| &mut c.partition.separate_bytes)
        .between(64, 64 * MIB)
        .about("Values of this size and larger are kept apart from keys, so that merges need not move them."),
    size("partition.table_bytes", "64 MiB", |c| &mut c.partition.table_bytes)
        .between(64 * KIB, GIB)
        .about("Size of a table's file, about: the step in which merges make progress."),
    count("partition.scrub_days", "14", |c| &mut c.partition.scrub_days)
        .between(1, 3_650)
        .step(Step::OrZero("never"))
        .running()
        .about("Time in which all tables are read once in search of damage, at most 8 MiB of a shard in a second."),
    size("disk.reserve_bytes", "256 MiB", |c| &mut c.disk.reserve_bytes)
        .between(MIB, TIB)
        .step(Step::OrZero("none"))
        .running()
        .about(
            "Space that is kept in a file of its own, a twentieth of the disk at most; it is let go \
             when the disk is full, so that deletions and merges can go on.",
        ),
    count("disk.low_percent", "5", |c| &mut c.disk.low_percent)
        .between(1, 50)
        .step(Step::OrZero("never"))
        .running()
        .about("Free share of the disk, in percent, below which the node warns."),
    count("disk.stop_percent", "1", |c| &mut c.disk.stop_percent)
        .between(1, 50)
        .step(Step::OrZero("never"))
        .running()
        .about("Free share of the disk, in percent, below which writes are refused, but for deletions."),
    clock("clock.source", "auto", |c| &mut c.clock.source).about(
        "Who is asked how far this machine's clock may be off: ClockBound, chrony, the PTP clock of a \
         network device, the kernel, or nobody but the operator (static). With auto the first of them that \
         is believed, but for the kernel, whose number nobody keeps up on many machines.",
    ),
    count("clock.error_bound_ms", "0", |c| &mut c.clock.error_bound_ms)
        .between(1, 10_000)
        .step(Step::OrZero("nobody vouches for it"))
        .about("How far this machine's clock may be off, as the operator vouches for."),
    path("clock.clockbound", "/var/run/clockbound/shm0", |c| &mut c.clock.clockbound)
        .about("The shared memory of ClockBound."),
    address("clock.chrony", "127.0.0.1:323", |c| &mut c.clock.chrony)
        .about("The command port of chrony."),
    wait("clock.wait", "off", |c| &mut c.clock.wait)
        .running()
        .about(
            "Whether the reply of a write waits until its timestamp has surely passed on every correct \
             clock, so that timestamps of all keys follow real time. It costs about twice what the clock may \
             be off, and keys by themselves need none of it. Without a bound to go by, on acknowledges \
             without, and strict refuses writes.",
        ),
    count("clock.wait_ms_max", "10", |c| &mut c.clock.wait_ms_max)
        .between(1, 1_000)
        .running()
        .about("How far the clock may be off at most for replies to wait for it; what is more is no bound to go by."),
    listen("admin.listen", "", |c| &mut c.admin_listen).about(
        "Address and port for /metrics, /readyz, /livez, /status and a page with live rates, over HTTP and \
         without a password; empty for none.",
    ),
    name("cluster.name", "", |c| &mut c.cluster.name)
        .about("Name of this node among cluster.peers."),
    listen("cluster.peer_listen", "", |c| &mut c.cluster.peer_listen).about(
        "Address and port of shard 0 for the other members; each further shard listens \
         one port above the one before.",
    ),
    peers("cluster.peers", "", |c| &mut c.cluster.peers).about(
        "All members of the cluster, this node included: at most 7, an odd number, and the same list on \
         each of them. With none the node is alone.",
    ),
    count("cluster.lease_ms", "400", |c| &mut c.cluster.lease_ms)
        .between(50, 10_000)
        .about("Time for which a leader may serve reads after a majority has confirmed it."),
    count("cluster.election_jitter_ms", "150", |c| &mut c.cluster.election_jitter_ms)
        .between(10, 10_000)
        .about("Spread of the times after which nodes that miss a leader stand for election."),
    count("cluster.election_rank", "0", |c| &mut c.cluster.election_rank)
        .between(0, 7)
        .about("Who stands for election first: each step waits one jitter more than members of the step below."),
    count("cluster.retry_ms", "2000", |c| &mut c.cluster.retry_ms)
        .between(1, 60_000)
        .step(Step::OrZero("never"))
        .running()
        .about(
            "How long a node goes on trying to have a write of a session done whose leader was lost, \
             before it answers -UNKNOWN.",
        ),
    size_32("peer.frame_bytes_max", "16 MiB", |c| &mut c.peer.frame_bytes_max)
        .between(64 * KIB, GIB)
        .about("Largest frame between two nodes; the smaller of both counts, and what is larger goes in several."),
    size("peer.queue_bytes_max", "64 MiB", |c| &mut c.peer.queue_bytes_max)
        .between(MIB, 4 * GIB)
        .about("Most bytes that wait for one peer of a shard; then nothing more is sent to it until it takes them."),
    count("peer.handshake_ms", "5000", |c| &mut c.peer.handshake_ms)
        .between(100, 60_000)
        .about("Longest handshake with a peer."),
    count("peer.silence_ms", "10000", |c| &mut c.peer.silence_ms)
        .between(1_000, 600_000)
        .about("Silence after which a peer is disconnected, and called again."),
];

impl Knob {
    /// Returns a row without bounds and without a sentence.
    const fn row(key: &'static str, default: &'static str, field: Field) -> Self {
        Self {
            key,
            default,
            about: "",
            field,
            min: 0,
            max: 0,
            step: Step::Any,
            change: Change::Restart,
        }
    }

    /// Sets the sentence.
    const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    /// Sets the bounds, both allowed; those of a ratio are in hundredths.
    const fn between(self, min: u64, max: u64) -> Self {
        assert!(min <= max, "the bounds of a knob are in order");
        Self { min, max, ..self }
    }

    /// Sets what a number must satisfy besides its bounds.
    const fn step(self, step: Step) -> Self {
        Self { step, ..self }
    }

    /// Allows changes while the node runs.
    const fn running(self) -> Self {
        Self {
            change: Change::Running,
            ..self
        }
    }
}

const fn path(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut PathBuf,
) -> Knob {
    Knob::row(key, default, Field::Path(at))
}

const fn address(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut SocketAddr,
) -> Knob {
    Knob::row(key, default, Field::Address(at))
}

const fn name(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut String,
) -> Knob {
    Knob::row(key, default, Field::Name(at))
}

const fn secret(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut String,
) -> Knob {
    Knob::row(key, default, Field::Secret(at))
}

const fn listen(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut Option<SocketAddr>,
) -> Knob {
    Knob::row(key, default, Field::Listen(at))
}

const fn peers(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut Vec<Listed>,
) -> Knob {
    Knob::row(key, default, Field::Peers(at))
}

const fn cpus(key: &'static str, default: &'static str, at: fn(&mut Config) -> &mut Cpus) -> Knob {
    Knob::row(key, default, Field::Cpus(at))
}

const fn compaction(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut Compaction,
) -> Knob {
    Knob::row(key, default, Field::Compaction(at))
}

const fn events(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut Classes,
) -> Knob {
    Knob::row(key, default, Field::Events(at))
}

const fn durability(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut Durability,
) -> Knob {
    Knob::row(key, default, Field::Durability(at))
}

const fn clock(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut Choice,
) -> Knob {
    Knob::row(key, default, Field::Clock(at))
}

const fn wait(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut CommitWait,
) -> Knob {
    Knob::row(key, default, Field::Wait(at))
}

const fn size(key: &'static str, default: &'static str, at: fn(&mut Config) -> &mut u64) -> Knob {
    Knob::row(key, default, Field::Size(at))
}

const fn size_32(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut u32,
) -> Knob {
    Knob::row(key, default, Field::Size32(at))
}

const fn switch(
    key: &'static str,
    default: &'static str,
    at: fn(&mut Config) -> &mut bool,
) -> Knob {
    Knob::row(key, default, Field::Switch(at))
}

const fn count(key: &'static str, default: &'static str, at: fn(&mut Config) -> &mut u32) -> Knob {
    Knob::row(key, default, Field::Count(at))
}

const fn ratio(key: &'static str, default: &'static str, at: fn(&mut Config) -> &mut f64) -> Knob {
    Knob::row(key, default, Field::Ratio(at))
}
