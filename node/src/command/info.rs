//! `INFO`: sections of facts and counters, in the lines that Redis's clients and exporters read. A
//! field that this node cannot fill with the truth is not there.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_io::wal::BATCH_SIZES;
use ashlar_partition::key::DATABASES;

use super::cluster::write_replicas;
use super::connection::REDIS_VERSION;
use super::{SessionCall, table};
use crate::core::space::Level;
use crate::pubsub::Kind;
use crate::shared::Shared;
use crate::stats::{CommandTotals, ShardCounters, Stage};

/// One section: name in lower case, title, and what writes its lines.
type Section = (&'static str, &'static str, fn(&mut Lines<'_>));

/// Every section, in the order in which they are answered.
const SECTIONS: [Section; 17] = [
    ("server", "Server", server),
    ("clients", "Clients", clients),
    ("memory", "Memory", memory),
    ("persistence", "Persistence", persistence),
    ("stats", "Stats", stats),
    ("replication", "Replication", replication),
    ("cpu", "CPU", cpu),
    ("commandstats", "Commandstats", commandstats),
    ("latencystats", "Latencystats", latencystats),
    ("errorstats", "Errorstats", errorstats),
    ("cluster", "Cluster", cluster),
    ("keyspace", "Keyspace", keyspace),
    ("shards", "Shards", shards),
    ("log", "Log", log),
    ("disk", "Disk", disk),
    ("stages", "Stages", stages),
    ("clock", "Clock", clock),
];

/// Sections that are answered only when they are asked for, as in Redis.
const ON_REQUEST: [&str; 2] = ["commandstats", "latencystats"];

/// What the sections are made from, and the text so far.
struct Lines<'a> {
    shared: &'a Shared,
    now_ms: u64,
    now_us: u64,
    text: String,
}

impl Lines<'_> {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        write!(self.text, "{name}:{value}\r\n").expect("a string takes all");
    }

    fn sum(&mut self, name: &str, counter: impl Fn(&ShardCounters) -> &AtomicU64) {
        let sum = self.shared.stats.sum(counter);
        self.field(name, sum);
    }

    fn since_reset(&mut self, name: &str, counter: impl Fn(&ShardCounters) -> &AtomicU64) {
        let sum = self.shared.stats.since_reset(counter);
        self.field(name, sum);
    }
}

/// Runs `INFO`.
pub fn info(call: &mut SessionCall<'_>) {
    let wanted: Vec<String> = call
        .words
        .tail(1)
        .iter()
        .map(|word| String::from_utf8_lossy(word).to_ascii_lowercase())
        .collect();
    let mut lines = Lines {
        shared: call.shared,
        now_ms: call.now_ms,
        now_us: call.now_us,
        text: String::new(),
    };
    for (_, title, write) in SECTIONS
        .iter()
        .filter(|(name, ..)| is_wanted(name, &wanted))
    {
        let separator = if lines.text.is_empty() { "" } else { "\r\n" };
        write!(lines.text, "{separator}# {title}\r\n").expect("a string takes all");
        write(&mut lines);
    }
    let text = lines.text;
    call.reply().verbatim(text.as_bytes());
}

fn is_wanted(section: &str, wanted: &[String]) -> bool {
    let by_default = !ON_REQUEST.contains(&section);
    let names = |wanted: &String| match wanted.as_str() {
        "all" | "everything" => true,
        "default" => by_default,
        other => other == section,
    };
    (wanted.is_empty() && by_default) || wanted.iter().any(names)
}

fn server(lines: &mut Lines<'_>) {
    let shared = lines.shared;
    let uptime = lines.now_ms.saturating_sub(shared.started_ms) / 1000;
    lines.field("redis_version", REDIS_VERSION);
    lines.field("server_name", "ashlar");
    lines.field("ashlar_version", env!("CARGO_PKG_VERSION"));
    lines.field("redis_mode", "standalone");
    lines.field("os", std::env::consts::OS);
    lines.field("arch_bits", usize::BITS);
    lines.field("process_supervised", "no");
    lines.field("monotonic_clock", "POSIX clock_gettime");
    lines.field("multiplexing_api", "io_uring");
    lines.field("process_id", shared.process_id);
    lines.field("run_id", &shared.run_id);
    lines.field("tcp_port", shared.listen.port());
    lines.field("server_time_usec", lines.now_us);
    lines.field("uptime_in_seconds", uptime);
    lines.field("uptime_in_days", uptime / 86_400);
    lines.field(
        "listener0",
        format_args!(
            "name=tcp,bind={},port={}",
            shared.listen.ip(),
            shared.listen.port()
        ),
    );
}

fn clients(lines: &mut Lines<'_>) {
    lines.field("connected_clients", lines.shared.clients.count());
    lines.field("maxclients", lines.shared.config().client.clients_max);
    let clients = lines.shared.clients.all();
    let waiting = clients.iter().filter(|client| client.is_waiting());
    lines.field("blocked_clients", waiting.count());
    let subscribers = clients.iter().filter(|client| client.is_subscriber());
    lines.field("pubsub_clients", subscribers.count());
    lines.field("tracking_clients", 0);
}

fn memory(lines: &mut Lines<'_>) {
    let used = lines.shared.stats.sum(|shard| &shard.used_bytes);
    let peak = lines.shared.stats.rates.peak_bytes().max(used);
    let resident = lines.shared.resident_bytes.load(Ordering::Relaxed);
    let (budget, machine) = (lines.shared.memory_bytes, lines.shared.machine_bytes);
    lines.field("used_memory", used);
    lines.field("used_memory_human", human(used));
    lines.field("used_memory_rss", resident);
    lines.field("used_memory_rss_human", human(resident));
    lines.field("used_memory_peak", peak);
    lines.field("used_memory_peak_human", human(peak));
    lines.field("used_memory_dataset", used);
    lines.field("total_system_memory", machine);
    lines.field("total_system_memory_human", human(machine));
    lines.field("maxmemory", budget);
    lines.field("maxmemory_human", human(budget));
    lines.field("maxmemory_policy", "noeviction");
    lines.field("mem_fragmentation_ratio", hundredths(resident, used.max(1)));
    lines.field("mem_fragmentation_bytes", resident.saturating_sub(used));
    lines.field("mem_allocator", "libc");
    lines.field("active_defrag_running", 0);
    lines.field("lazyfree_pending_objects", 0);
}

/// Returns a ratio with two decimals.
fn hundredths(part: u64, whole: u64) -> String {
    let hundredths = u128::from(part) * 100 / u128::from(whole);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Returns bytes as Redis shows them to people: two decimals and a unit of 1024.
fn human(bytes: u64) -> String {
    let units = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];
    match units.into_iter().find(|(_, shift)| bytes >> shift > 0) {
        None => format!("{bytes}B"),
        Some((unit, shift)) => {
            let hundredths = (u128::from(bytes) * 100) >> shift;
            format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100)
        }
    }
}

fn persistence(lines: &mut Lines<'_>) {
    for (name, value) in [
        ("loading", 0),
        ("async_loading", 0),
        // What is acknowledged is durable: so the last save is now.
        ("rdb_changes_since_last_save", 0),
        ("rdb_bgsave_in_progress", 0),
        ("rdb_last_save_time", lines.now_ms / 1000),
    ] {
        lines.field(name, value);
    }
    lines.field("rdb_last_bgsave_status", "ok");
    lines.field("aof_enabled", 1);
    lines.field("aof_rewrite_in_progress", 0);
    lines.field("aof_rewrite_scheduled", 0);
    lines.field("aof_last_bgrewrite_status", "ok");
    let is_full = lines.shared.space.level() == Level::Full;
    lines.field("aof_last_write_status", if is_full { "err" } else { "ok" });
    lines.sum("aof_current_size", |shard| &shard.log_live_bytes);
    lines.sum("damaged_partitions", |shard| &shard.damaged);
    lines.sum("forgetful_replicas", |shard| &shard.forgetful);
    lines.sum("repaired_replicas", |shard| &shard.repaired);
}

fn stats(lines: &mut Lines<'_>) {
    lines.since_reset("total_connections_received", |shard| &shard.accepted);
    lines.since_reset("total_commands_processed", |shard| &shard.commands);
    let rates = lines.shared.stats.rates.per_second();
    lines.field("instantaneous_ops_per_sec", rates.commands);
    lines.since_reset("total_net_input_bytes", |shard| &shard.in_bytes);
    lines.since_reset("total_net_output_bytes", |shard| &shard.out_bytes);
    lines.field("instantaneous_input_kbps", hundredths(rates.in_bytes, 1024));
    lines.field(
        "instantaneous_output_kbps",
        hundredths(rates.out_bytes, 1024),
    );
    lines.since_reset("rejected_connections", |shard| &shard.rejected);
    lines.since_reset("expired_keys", |shard| &shard.expired);
    lines.since_reset("session_repeats_answered", |shard| &shard.recalled);
    lines.field("evicted_keys", 0);
    lines.since_reset("keyspace_hits", |shard| &shard.hits);
    lines.since_reset("keyspace_misses", |shard| &shard.misses);
    for (name, kind) in [
        ("pubsub_channels", Kind::Channel),
        ("pubsub_patterns", Kind::Pattern),
        ("pubsubshard_channels", Kind::Sharded),
    ] {
        lines.field(name, lines.shared.channels.count(kind));
    }
    lines.since_reset("pubsub_messages_delivered", |shard| {
        &shard.messages_delivered
    });
    lines.since_reset("pubsub_messages_dropped", |shard| &shard.messages_dropped);
    lines.since_reset("client_output_buffer_limit_disconnections", |shard| {
        &shard.subscribers_dropped
    });
    lines.since_reset("expired_keys", |shard| &shard.expired);
    lines.since_reset("total_error_replies", |shard| &shard.errors);
}

fn replication(lines: &mut Lines<'_>) {
    lines.field("role", "master");
    let sight = lines.shared.cluster.look();
    match &sight {
        None => lines.field("connected_slaves", 0),
        Some(sight) => write_replicas(sight, |name, value| lines.field(name, value)),
    }
    lines.field("master_failover_state", "no-failover");
    lines.field("master_replid", &lines.shared.run_id);
    lines.field(
        "master_repl_offset",
        sight.map_or(0, |sight| sight.offset()),
    );
    lines.field("repl_backlog_active", 0);
}

/// Tells the time of the shards' threads; there are no children, and what the kernel's own threads
/// do for a shard is not in it.
fn cpu(lines: &mut Lines<'_>) {
    let stats = &lines.shared.stats;
    let (user, system) = (
        stats.sum(|shard| &shard.cpu_user_us),
        stats.sum(|shard| &shard.cpu_system_us),
    );
    let seconds = |us: u64| format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    lines.field("used_cpu_sys", seconds(system));
    lines.field("used_cpu_user", seconds(user));
    lines.field("used_cpu_sys_children", seconds(0));
    lines.field("used_cpu_user_children", seconds(0));
}

/// Returns what was counted of each command that was asked for since the last reset.
fn asked_for<'a>(
    lines: &Lines<'a>,
) -> impl Iterator<Item = (&'static str, CommandTotals)> + use<'a> {
    let stats = &lines.shared.stats;
    let counted = table::all()
        .iter()
        .map(|command| (command.name, stats.of_command(command.row())));
    counted.filter(|(_, totals)| !totals.is_empty())
}

fn commandstats(lines: &mut Lines<'_>) {
    for (name, totals) in asked_for(lines) {
        let (calls, us) = (totals.calls, totals.took.nanos / 1000);
        // In hundredths of a microsecond.
        let each = totals.took.nanos / 10 / calls.max(1);
        lines.field(
            &format!("cmdstat_{name}"),
            format_args!(
                "calls={calls},usec={us},usec_per_call={}.{:02},rejected_calls={},failed_calls={}",
                each / 100,
                each % 100,
                totals.rejected,
                totals.failed
            ),
        );
    }
}

fn latencystats(lines: &mut Lines<'_>) {
    for (name, totals) in asked_for(lines).filter(|(_, totals)| totals.calls > 0) {
        let us = |permille: u64| {
            let nanos = totals.took.percentile(permille);
            format!("{}.{:03}", nanos / 1000, nanos % 1000)
        };
        lines.field(
            &format!("latency_percentiles_usec_{name}"),
            format_args!("p50={},p99={},p99.9={}", us(500), us(990), us(999)),
        );
    }
}

fn errorstats(lines: &mut Lines<'_>) {
    for (code, count) in lines.shared.stats.errors() {
        let code = String::from_utf8_lossy(&code).into_owned();
        lines.field(&format!("errorstat_{code}"), format_args!("count={count}"));
    }
}

fn cluster(lines: &mut Lines<'_>) {
    lines.field("cluster_enabled", 0);
}

fn keyspace(lines: &mut Lines<'_>) {
    for database in 0..usize::from(DATABASES) {
        let keys = lines.shared.stats.sum(|shard| &shard.keys[database]);
        let expires = lines.shared.stats.sum(|shard| &shard.expiring[database]);
        if keys > 0 {
            lines.field(
                &format!("db{database}"),
                format_args!("keys={keys},expires={expires},avg_ttl=0"),
            );
        }
    }
}

fn shards(lines: &mut Lines<'_>) {
    let shards = lines.shared.stats.shards();
    lines.field("shards", shards.len());
    for (number, shard) in shards.iter().enumerate() {
        let line = shard_line(shard);
        lines.field(&format!("shard{number}"), line);
    }
}

fn shard_line(shard: &ShardCounters) -> String {
    let keys: u64 = shard
        .keys
        .iter()
        .map(|keys| keys.load(Ordering::Relaxed))
        .sum();
    let counters = [
        ("commands", &shard.commands),
        ("used_bytes", &shard.used_bytes),
        ("log_live_bytes", &shard.log_live_bytes),
        ("turns", &shard.turns),
        ("sleeps", &shard.sleeps),
        ("stalls", &shard.stalls),
        ("cpu_user_us", &shard.cpu_user_us),
        ("cpu_system_us", &shard.cpu_system_us),
    ];
    let mut line = format!("keys={keys}");
    for (name, counter) in counters {
        write!(line, ",{name}={}", counter.load(Ordering::Relaxed)).expect("a string takes all");
    }
    line
}

fn log(lines: &mut Lines<'_>) {
    lines.field("log_segment_bytes", lines.shared.format.segment_bytes);
    lines.sum("log_batches", |shard| &shard.log_batches);
    lines.sum("log_bytes", |shard| &shard.log_bytes);
    lines.sum("log_payload_bytes", |shard| &shard.log_payload_bytes);
    lines.sum("log_live_bytes", |shard| &shard.log_live_bytes);
    for power in 0..BATCH_SIZES {
        let most = match power + 1 {
            BATCH_SIZES => "more".to_owned(),
            _ => format!("{}k", 4 << power),
        };
        lines.sum(&format!("log_batches_{most}"), |shard| {
            &shard.log_sizes[power]
        });
    }
}

/// Tells how long stages of requests took, in microseconds.
fn stages(lines: &mut Lines<'_>) {
    for stage in Stage::EVERY {
        let took = lines.shared.stats.of_stage(stage);
        let us = |permille: u64| {
            let nanos = took.percentile(permille);
            format!("{}.{:03}", nanos / 1000, nanos % 1000)
        };
        let count = took.count();
        lines.field(
            &format!("stage_{}_usec", stage.word()),
            format_args!(
                "count={count},p50={},p99={},p99.9={}",
                us(500),
                us(990),
                us(999)
            ),
        );
    }
    if let Some(stall) = lines.shared.stalls.recent().first() {
        lines.field("last_stall", stall);
    }
}

/// Tells who says how far the clock may be off, and what writes do about it.
fn clock(lines: &mut Lines<'_>) {
    for (name, value) in lines.shared.clock.facts() {
        lines.field(name, value);
    }
}

/// Tells the space of the data directory's disk, and of the search for damage on it.
fn disk(lines: &mut Lines<'_>) {
    let gauge = &lines.shared.space;
    let space = gauge.space();
    lines.field("disk_state", gauge.level().word());
    lines.field("disk_free_bytes", space.free_bytes);
    lines.field("disk_total_bytes", space.total_bytes);
    lines.field("disk_reserve_bytes", gauge.reserve_bytes());
    lines.sum("scrub_cycles", |shard| &shard.scrub_cycles);
    lines.sum("scrub_files_left", |shard| &shard.scrub_files_left);
    lines.sum("scrub_bytes", |shard| &shard.scrub_bytes);
    lines.sum("scrub_errors", |shard| &shard.scrub_errors);
}
