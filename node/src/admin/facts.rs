//! What `/status` and `/readyz` tell: facts that the shards have published. Names end in their units.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::cluster::view::{Part, Sight};
use crate::command::table;
use crate::core::space::Level;
use crate::shared::Shared;
use crate::stalls::Stall;
use crate::stats::{ShardCounters, Stage};

/// One check of `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) is_ok: bool,
    name: &'static str,
    found: String,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_ok { "ok" } else { "not ok" };
        writeln!(f, "{sign}: {}: {}", self.name, self.found)
    }
}

/// Returns whether the node can serve every key and take writes, check by check.
pub(super) fn checks(shared: &Shared) -> Vec<Check> {
    let level = shared.space.level();
    let mut checks = vec![Check {
        is_ok: level != Level::Full,
        name: "disk",
        found: level.word().to_owned(),
    }];
    if let Some(sight) = shared.cluster.look() {
        let leaderless = sight.parts.iter().filter(|part| part.leader.is_none());
        let leaderless = leaderless.count();
        let near = sight
            .members
            .iter()
            .filter(|seen| seen.is_connected)
            .count();
        let members = sight.members.len();
        checks.push(Check {
            is_ok: leaderless == 0,
            name: "leaders",
            found: format!("{leaderless} of {} partitions have none", sight.parts.len()),
        });
        checks.push(Check {
            is_ok: near * 2 > members,
            name: "members",
            found: format!("{near} of {members} are connected, this one included"),
        });
    }
    checks
}

/// All that is told of a node.
#[derive(Debug, Serialize)]
pub(super) struct Facts {
    version: &'static str,
    run_id: String,
    listen: String,
    uptime_ms: u64,
    ready: bool,
    clients: usize,
    memory_bytes: u64,
    memory_used_bytes: u64,
    disk_state: &'static str,
    disk_free_bytes: u64,
    disk_total_bytes: u64,
    resident_bytes: u64,
    shards: Vec<ShardFacts>,
    stages: Vec<StageFacts>,
    /// Turns that took too long, newest first.
    stalls: Vec<StallFacts>,
    commands: Vec<CommandFacts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterFacts>,
}

#[derive(Debug, Serialize)]
struct ShardFacts {
    keys: u64,
    commands: u64,
    used_bytes: u64,
    table_bytes: u64,
    log_batches: u64,
    log_bytes: u64,
    log_payload_bytes: u64,
    log_live_bytes: u64,
    in_bytes: u64,
    out_bytes: u64,
    turns: u64,
    sleeps: u64,
    stalls: u64,
    completions: u64,
    starved: u64,
    cpu_user_us: u64,
    cpu_system_us: u64,
}

#[derive(Clone, Debug, Serialize)]
struct StageFacts {
    name: &'static str,
    count: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

#[derive(Debug, Serialize)]
struct StallFacts {
    at_ms: u64,
    what: String,
}

#[derive(Debug, Serialize)]
struct CommandFacts {
    name: &'static str,
    calls: u64,
    failed: u64,
    rejected: u64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

#[derive(Debug, Serialize)]
struct ClusterFacts {
    node: u64,
    roster: u64,
    members: Vec<MemberFacts>,
    partitions: Vec<PartitionFacts>,
}

#[derive(Debug, Serialize)]
struct MemberFacts {
    name: String,
    node: u64,
    peers: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    clients: Option<String>,
    connected: bool,
}

#[derive(Debug, Serialize)]
struct PartitionFacts {
    leader: Option<String>,
    serves: bool,
    term: u64,
    last: u64,
    committed: u64,
    applied: u64,
    /// What each replica lacks, where this node leads.
    lag: Vec<(String, Option<u64>)>,
}

pub(super) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

pub(super) fn facts(shared: &Shared, now_ms: u64) -> Facts {
    let space = shared.space.space();
    Facts {
        version: env!("CARGO_PKG_VERSION"),
        run_id: shared.run_id.clone(),
        listen: shared.listen.to_string(),
        uptime_ms: now_ms.saturating_sub(shared.started_ms),
        ready: checks(shared).iter().all(|check| check.is_ok),
        clients: shared.clients.count(),
        memory_bytes: shared.memory_bytes,
        memory_used_bytes: shared.stats.sum(|shard| &shard.used_bytes),
        disk_state: shared.space.level().word(),
        disk_free_bytes: space.free_bytes,
        disk_total_bytes: space.total_bytes,
        resident_bytes: load(&shared.resident_bytes),
        shards: shared.stats.shards().iter().map(shard_facts).collect(),
        stages: Stage::EVERY
            .map(|stage| stage_facts(shared, stage))
            .to_vec(),
        stalls: shared.stalls.recent().iter().map(stall_facts).collect(),
        commands: command_facts(shared),
        cluster: shared.cluster.look().map(|sight| cluster_facts(&sight)),
    }
}

fn shard_facts(shard: &ShardCounters) -> ShardFacts {
    ShardFacts {
        keys: shard.keys.iter().map(load).sum(),
        commands: load(&shard.commands),
        used_bytes: load(&shard.used_bytes),
        table_bytes: load(&shard.table_bytes),
        log_batches: load(&shard.log_batches),
        log_bytes: load(&shard.log_bytes),
        log_payload_bytes: load(&shard.log_payload_bytes),
        log_live_bytes: load(&shard.log_live_bytes),
        in_bytes: load(&shard.in_bytes),
        out_bytes: load(&shard.out_bytes),
        turns: load(&shard.turns),
        sleeps: load(&shard.sleeps),
        stalls: load(&shard.stalls),
        completions: load(&shard.completions),
        starved: load(&shard.starved),
        cpu_user_us: load(&shard.cpu_user_us),
        cpu_system_us: load(&shard.cpu_system_us),
    }
}

fn stage_facts(shared: &Shared, stage: Stage) -> StageFacts {
    let took = shared.stats.of_stage(stage);
    let us = |permille| took.percentile(permille) as f64 / 1000.0;
    StageFacts {
        name: stage.word(),
        count: took.count(),
        p50_us: us(500),
        p99_us: us(990),
        p999_us: us(999),
    }
}

fn stall_facts(stall: &Stall) -> StallFacts {
    StallFacts {
        at_ms: stall.at_ms,
        what: stall.to_string(),
    }
}

fn command_facts(shared: &Shared) -> Vec<CommandFacts> {
    let all = table::all().iter();
    let counted = all.map(|command| (command.name, shared.stats.of_command(command.row())));
    let asked = counted.filter(|(_, totals)| !totals.is_empty());
    let facts = asked.map(|(name, totals)| {
        let us = |permille| totals.took.percentile(permille) as f64 / 1000.0;
        CommandFacts {
            name,
            calls: totals.calls,
            failed: totals.failed,
            rejected: totals.rejected,
            p50_us: us(500),
            p99_us: us(990),
            p999_us: us(999),
        }
    });
    facts.collect()
}

fn cluster_facts(sight: &Sight) -> ClusterFacts {
    let members = sight.members.iter().map(|seen| MemberFacts {
        name: seen.name.clone(),
        node: seen.node.0,
        peers: seen.addr.to_string(),
        clients: seen.clients.map(|addr| addr.to_string()),
        connected: seen.is_connected,
    });
    ClusterFacts {
        node: sight.node.0,
        roster: sight.roster,
        members: members.collect(),
        partitions: sight
            .parts
            .iter()
            .map(|part| partition_facts(sight, part))
            .collect(),
    }
}

fn partition_facts(sight: &Sight, part: &Part) -> PartitionFacts {
    let name = |node| sight.name_of(node).to_owned();
    let lag = part.replicas.iter().map(|(node, matched)| {
        let behind = matched.map(|matched| part.last.0.saturating_sub(matched.0));
        (name(*node), behind)
    });
    PartitionFacts {
        leader: part.leader.map(name),
        serves: part.serves,
        term: part.term.0,
        last: part.last.0,
        committed: part.committed.0,
        applied: part.applied.0,
        lag: lag.collect(),
    }
}
