//! What `/metrics` tells, in the text format of Prometheus. Names begin with `ashlar_` and end in their units;
//! counters never go back, not even by `CONFIG RESETSTAT`, but for those of commands, which it begins anew.
//!
//! Source: Prometheus, "Exposition formats" and "Metric and label naming".

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use ashlar_io::wal::BATCH_SIZES;
use ashlar_partition::key::DATABASES;

use super::facts::{checks, load};
use crate::cluster::view::Sight;
use crate::command::table;
use crate::core::space::Level;
use crate::shared::Shared;
use crate::stats::{ShardCounters, Stage};

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug)]
enum Type {
    Counter,
    Gauge,
    Summary,
    Histogram,
}

/// A counter or gauge of each shard: name, help, and where it is.
type OfShard = (
    Type,
    &'static str,
    &'static str,
    fn(&ShardCounters) -> &AtomicU64,
);

use Type::{Counter, Gauge, Histogram, Summary};

/// What is told of each shard.
const OF_SHARD: [OfShard; 30] = [
    (
        Counter,
        "commands_total",
        "Commands run for own connections.",
        |s| &s.commands,
    ),
    (
        Counter,
        "keyspace_hits_total",
        "Keys that reads found.",
        |s| &s.hits,
    ),
    (
        Counter,
        "keyspace_misses_total",
        "Keys that reads did not find.",
        |s| &s.misses,
    ),
    (
        Counter,
        "connections_accepted_total",
        "Connections accepted.",
        |s| &s.accepted,
    ),
    (
        Counter,
        "connections_rejected_total",
        "Connections refused: too many.",
        |s| &s.rejected,
    ),
    (
        Counter,
        "error_replies_total",
        "Replies that were errors.",
        |s| &s.errors,
    ),
    (
        Counter,
        "received_bytes_total",
        "Bytes received from clients.",
        |s| &s.in_bytes,
    ),
    (Counter, "sent_bytes_total", "Bytes sent to clients.", |s| {
        &s.out_bytes
    }),
    (
        Counter,
        "keys_expired_total",
        "Keys deleted because they had expired.",
        |s| &s.expired,
    ),
    (
        Counter,
        "messages_delivered_total",
        "Messages handed to subscribers.",
        |s| &s.messages_delivered,
    ),
    (
        Counter,
        "messages_dropped_total",
        "Messages that other shards or nodes had no room for.",
        |s| &s.messages_dropped,
    ),
    (
        Counter,
        "subscribers_closed_total",
        "Subscribers closed because they took their messages too slowly.",
        |s| &s.subscribers_dropped,
    ),
    (Gauge, "memory_used_bytes", "Memory that data take.", |s| {
        &s.used_bytes
    }),
    (
        Counter,
        "log_batches_total",
        "Batches of the log written.",
        |s| &s.log_batches,
    ),
    (
        Counter,
        "log_written_bytes_total",
        "Bytes of batches on disk.",
        |s| &s.log_bytes,
    ),
    (
        Counter,
        "log_payload_bytes_total",
        "Bytes of entries in batches.",
        |s| &s.log_payload_bytes,
    ),
    (
        Gauge,
        "log_live_bytes",
        "Bytes of the log that a start would read.",
        |s| &s.log_live_bytes,
    ),
    (Gauge, "table_bytes", "Bytes of the files of tables.", |s| {
        &s.table_bytes
    }),
    (
        Counter,
        "scrub_cycles_total",
        "Times that all files were read in search of damage.",
        |s| &s.scrub_cycles,
    ),
    (
        Counter,
        "scrub_bytes_total",
        "Bytes read in search of damage.",
        |s| &s.scrub_bytes,
    ),
    (
        Counter,
        "scrub_errors_total",
        "Files found damaged, or not to be read.",
        |s| &s.scrub_errors,
    ),
    (
        Gauge,
        "scrub_files_left",
        "Files left to be read in search of damage.",
        |s| &s.scrub_files_left,
    ),
    (
        Gauge,
        "damaged_partitions",
        "Partitions that are not served, for a file is damaged.",
        |s| &s.damaged,
    ),
    (
        Gauge,
        "forgetful_replicas",
        "Replicas whose log was damaged, until they have everything again.",
        |s| &s.forgetful,
    ),
    (
        Counter,
        "repaired_replicas_total",
        "Replicas that were repaired from other nodes.",
        |s| &s.repaired,
    ),
    (Counter, "turns_total", "Turns of the shard.", |s| &s.turns),
    (Counter, "sleeps_total", "Turns that ended in sleep.", |s| {
        &s.sleeps
    }),
    (
        Counter,
        "stalls_total",
        "Turns longer than io.stall_ms.",
        |s| &s.stalls,
    ),
    (
        Counter,
        "ring_completions_total",
        "Completions that the ring gave.",
        |s| &s.completions,
    ),
    (
        Counter,
        "receives_starved_total",
        "Connections that found no receive buffer free (client.chunk_count).",
        |s| &s.starved,
    ),
];

struct Text(String);

impl Text {
    fn head(&mut self, (kind, name, help): (Type, &str, &str)) {
        let kind = match kind {
            Counter => "counter",
            Gauge => "gauge",
            Summary => "summary",
            Histogram => "histogram",
        };
        write!(
            self.0,
            "# HELP ashlar_{name} {help}\n# TYPE ashlar_{name} {kind}\n"
        )
        .expect("a string takes all");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        write!(self.0, "ashlar_{name}").expect("a string takes all");
        for (place, (label, of)) in labels.iter().enumerate() {
            let open = if place == 0 { '{' } else { ',' };
            write!(self.0, "{open}{label}=\"{}\"", escaped(&of.to_string()))
                .expect("a string takes all");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        writeln!(self.0, "{close} {value}").expect("a string takes all");
    }

    fn one(&mut self, about: (Type, &str, &str), value: impl Display) {
        self.head(about);
        self.line(about.1, &[], value);
    }
}

/// Returns a label's value as the format wants it.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// Returns all metrics.
pub(super) fn text(shared: &Shared, now_ms: u64) -> String {
    let mut text = Text(String::new());
    of_node(&mut text, shared, now_ms);
    for (kind, name, help, counter) in OF_SHARD {
        text.head((kind, name, help));
        for (number, shard) in shared.stats.shards().iter().enumerate() {
            text.line(name, &[("shard", &number)], load(counter(shard)));
        }
    }
    of_processors(&mut text, shared);
    of_log(&mut text, shared);
    of_stages(&mut text, shared);
    of_keys(&mut text, shared);
    of_commands(&mut text, shared);
    if let Some(sight) = shared.cluster.look() {
        of_cluster(&mut text, &sight);
    }
    text.0
}

fn of_node(text: &mut Text, shared: &Shared, now_ms: u64) {
    text.head((Gauge, "info", "Version and name of the run; always 1."));
    let version = env!("CARGO_PKG_VERSION");
    text.line(
        "info",
        &[("version", &version), ("run_id", &shared.run_id)],
        1,
    );
    let uptime_s = now_ms.saturating_sub(shared.started_ms) / 1000;
    let ready = checks(shared).iter().all(|check| check.is_ok);
    let space = shared.space.space();
    let is_full = shared.space.level() == Level::Full;
    for (name, help, value) in [
        ("uptime_seconds", "Time since the start.", uptime_s),
        ("ready", "1 when /readyz says so.", u64::from(ready)),
        (
            "clients",
            "Connections of clients.",
            shared.clients.count() as u64,
        ),
        (
            "memory_budget_bytes",
            "Memory that data may take.",
            shared.memory_bytes,
        ),
        (
            "disk_free_bytes",
            "Free bytes of the data directory's disk.",
            space.free_bytes,
        ),
        (
            "resident_bytes",
            "Memory that the process takes of the machine.",
            shared.resident_bytes.load(Ordering::Relaxed),
        ),
        ("disk_total_bytes", "Bytes of that disk.", space.total_bytes),
        (
            "disk_full",
            "1 while writes are refused because the disk is full.",
            u64::from(is_full),
        ),
    ] {
        text.one((Gauge, name, help), value);
    }
}

fn of_processors(text: &mut Text, shared: &Shared) {
    let name = "cpu_seconds_total";
    text.head((Counter, name, "Time that the shard's thread has run."));
    for (number, shard) in shared.stats.shards().iter().enumerate() {
        for (mode, us) in [
            ("user", &shard.cpu_user_us),
            ("system", &shard.cpu_system_us),
        ] {
            let labels: [(&str, &dyn Display); 2] = [("shard", &number), ("mode", &mode)];
            text.line(name, &labels, seconds(load(us) * 1000));
        }
    }
}

fn of_log(text: &mut Text, shared: &Shared) {
    let name = "log_batch_bytes";
    text.head((Histogram, name, "Sizes of the log's batches on disk."));
    for (number, shard) in shared.stats.shards().iter().enumerate() {
        let mut batches = 0;
        for (power, count) in shard.log_sizes.iter().enumerate() {
            batches += load(count);
            let most = match power + 1 {
                BATCH_SIZES => "+Inf".to_owned(),
                _ => (4096_u64 << power).to_string(),
            };
            let labels: [(&str, &dyn Display); 2] = [("shard", &number), ("le", &most)];
            text.line(&format!("{name}_bucket"), &labels, batches);
        }
        let labels: [(&str, &dyn Display); 1] = [("shard", &number)];
        text.line(&format!("{name}_sum"), &labels, load(&shard.log_bytes));
        text.line(&format!("{name}_count"), &labels, batches);
    }
}

fn of_stages(text: &mut Text, shared: &Shared) {
    let name = "stage_duration_seconds";
    text.head((
        Histogram,
        name,
        "Time that stages of requests took: samples, but for stage turn.",
    ));
    for stage in Stage::EVERY {
        let took = shared.stats.of_stage(stage);
        let stage = stage.word();
        for (us, count) in took.by_power_us() {
            let most = seconds(us * 1000);
            let labels: [(&str, &dyn Display); 2] = [("stage", &stage), ("le", &most)];
            text.line(&format!("{name}_bucket"), &labels, count);
        }
        let labels: [(&str, &dyn Display); 2] = [("stage", &stage), ("le", &"+Inf")];
        text.line(&format!("{name}_bucket"), &labels, took.count());
        let labels: [(&str, &dyn Display); 1] = [("stage", &stage)];
        text.line(&format!("{name}_sum"), &labels, seconds(took.nanos));
        text.line(&format!("{name}_count"), &labels, took.count());
    }
}

fn of_keys(text: &mut Text, shared: &Shared) {
    for (name, help, counter) in [
        (
            "keys",
            "Keys of a database; an estimate where tables hold them.",
            0,
        ),
        ("keys_expiring", "Keys of a database that will expire.", 1),
    ] {
        text.head((Gauge, name, help));
        for database in 0..usize::from(DATABASES) {
            let of = |shard: &ShardCounters| match counter {
                0 => load(&shard.keys[database]),
                _ => load(&shard.expiring[database]),
            };
            let keys: u64 = shared.stats.shards().iter().map(of).sum();
            if keys > 0 || database == 0 {
                text.line(name, &[("database", &database)], keys);
            }
        }
    }
}

fn of_commands(text: &mut Text, shared: &Shared) {
    let all = table::all().iter();
    let counted = all.map(|command| (command.name, shared.stats.of_command(command.row())));
    let asked: Vec<_> = counted.filter(|(_, totals)| !totals.is_empty()).collect();
    let name = "command_duration_seconds";
    text.head((Summary, name, "Time that commands ran on their shard."));
    for (command, totals) in &asked {
        for (quantile, permille) in [("0.5", 500), ("0.99", 990), ("0.999", 999)] {
            let labels: [(&str, &dyn Display); 2] = [("command", command), ("quantile", &quantile)];
            text.line(name, &labels, seconds(totals.took.percentile(permille)));
        }
        let labels: [(&str, &dyn Display); 1] = [("command", command)];
        text.line(&format!("{name}_sum"), &labels, seconds(totals.took.nanos));
        text.line(&format!("{name}_count"), &labels, totals.calls);
    }
    for (name, help) in [
        (
            "command_failures_total",
            "Commands that ran and answered an error.",
        ),
        (
            "command_rejections_total",
            "Commands that were refused before they ran.",
        ),
    ] {
        text.head((Counter, name, help));
        for (command, totals) in &asked {
            let count = match name {
                "command_failures_total" => totals.failed,
                _ => totals.rejected,
            };
            text.line(name, &[("command", command)], count);
        }
    }
    let name = "errors_total";
    text.head((Counter, name, "Error replies, by their first word."));
    for (code, count) in shared.stats.errors() {
        let code = String::from_utf8_lossy(&code).into_owned();
        text.line(name, &[("code", &code)], count);
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn of_cluster(text: &mut Text, sight: &Sight) {
    let name = "member_connected";
    text.head((
        Gauge,
        name,
        "1 for each member that this node is connected to, and itself.",
    ));
    for seen in &sight.members {
        text.line(name, &[("member", &seen.name)], u8::from(seen.is_connected));
    }
    let name = "partition_leads";
    text.head((Gauge, name, "1 where this node leads and serves."));
    for (number, part) in sight.parts.iter().enumerate() {
        text.line(name, &[("partition", &number)], u8::from(part.serves));
    }
    for (name, help) in [
        ("partition_term", "Term of the partition's group."),
        ("partition_applied", "Last entry that is applied here."),
    ] {
        text.head((Gauge, name, help));
        for (number, part) in sight.parts.iter().enumerate() {
            let value = match name {
                "partition_term" => part.term.0,
                _ => part.applied.0,
            };
            text.line(name, &[("partition", &number)], value);
        }
    }
    let name = "replica_lag_entries";
    text.head((
        Gauge,
        name,
        "Entries that a replica lacks, as its leader knows.",
    ));
    for (number, part) in sight.parts.iter().enumerate() {
        for (node, matched) in &part.replicas {
            let Some(matched) = matched else { continue };
            let (member, lag) = (sight.name_of(*node), part.last.0.saturating_sub(matched.0));
            text.line(name, &[("partition", &number), ("member", &member)], lag);
        }
    }
}
