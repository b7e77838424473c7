//! What the Raft core costs: three replicas in memory, without disk and network, entries in batches,
//! messages through their bytes. Bar: 200 ns per entry and replica at batch 64. Before that it says what memory a
//! quiet replica takes: how much the process grows by ten thousand of them. Bar: 1 KiB.

use std::time::Duration;

use ashlar_consensus::message::{EntryKind, EntryMeta, decode, encode_head, encode_meta};
use ashlar_consensus::raft::{Ballot, Event, Gate, OwnEntry, Role};
use ashlar_consensus::support::{Disk, EarlierPromises, SupportOptions, SupportOutput};
use ashlar_consensus::types::{Chain, Incarnation, Index, LogPosition, Mono, NodeId, Term};
use ashlar_consensus::{
    Member, Membership, Options, Output, PartitionId, Raft, ReplicaId, Start, Supports,
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A replica, its promises, and what it has said.
struct Replica {
    raft: Raft,
    supports: Supports,
    out: Output,
}

/// Three replicas, of which the first leads.
struct Group {
    now: Mono,
    replicas: Vec<Replica>,
    bytes: Vec<u8>,
    sends: Vec<(usize, ashlar_consensus::raft::Send)>,
}

/// Returns a member.
fn member(id: u64) -> Member {
    Member {
        replica: ReplicaId(id),
        node: NodeId(id),
    }
}

/// Returns an entry's meta.
fn meta(term: Term, kind: EntryKind) -> EntryMeta {
    EntryMeta {
        term,
        bytes: 256,
        chain: Chain(1),
        kind,
    }
}

impl Group {
    /// Returns a group with a leader.
    fn new() -> Self {
        let voters: Vec<Member> = (1..=3).map(member).collect();
        let membership = Membership::of(&voters);
        let replica = |me: &Member| {
            let start = Start {
                partition: PartitionId(1),
                me: *me,
                ballot: Ballot::default(),
                base: LogPosition::default(),
                base_chain: Chain(0),
                membership: membership.clone(),
                entries: &[],
                memberships: Vec::new(),
                committed: Index(0),
                applied: Index(0),
                has_forgotten: false,
                seed: me.replica.0,
            };
            let promises = SupportOptions::default();
            let none = EarlierPromises::None;
            let mut supports = Supports::new(Incarnation(1), none, promises, Mono(0));
            for other in voters.iter().filter(|other| *other != me) {
                supports.want(other.node);
            }
            Replica {
                raft: Raft::new(start, Options::default(), Mono(0)),
                supports,
                out: Output::default(),
            }
        };
        let mut group = Self {
            now: Mono(1),
            replicas: voters.iter().map(replica).collect(),
            bytes: Vec::new(),
            sends: Vec::new(),
        };
        group.promise();
        let first = &mut group.replicas[0];
        let campaign = first
            .raft
            .campaign(group.now, &first.supports, &mut first.out);
        campaign.expect("nobody leads");
        group.settle();
        assert_eq!(group.replicas[0].raft.role(), Role::Leader);
        group
    }

    /// Has every node promise its support to every other.
    fn promise(&mut self) {
        for from in 0..3 {
            let mut out = SupportOutput::default();
            self.replicas[from]
                .supports
                .tick(self.now, Disk::Working, &mut out);
            for (to, request) in out.requests {
                let at = usize::try_from(to.0).expect("small") - 1;
                let name = NodeId(from as u64 + 1);
                let given = self.replicas[at]
                    .supports
                    .requested(self.now, name, &request);
                let given = given.expect("the request is sound");
                self.replicas[from].supports.supported(self.now, to, &given);
            }
        }
    }

    /// Carries messages and makes everything durable at once, until nothing is left to do.
    fn settle(&mut self) {
        let mut busy = true;
        while busy {
            busy = false;
            for at in 0..3 {
                busy |= self.write(at);
                busy |= self.carry(at);
            }
        }
    }

    /// Makes durable what a replica has given; proposes what it wants itself.
    fn write(&mut self, at: usize) -> bool {
        let Replica { raft, out, .. } = &mut self.replicas[at];
        let mut wrote = false;
        while raft.next_own_entry() == Some(OwnEntry::Empty) {
            raft.propose(self.now, &meta(raft.term(), EntryKind::Empty), None, out);
            wrote = true;
        }
        let mark = raft.mark();
        if out.ballot.is_some() || raft.durable_index() < raft.last().index {
            out.ballot = None;
            raft.durable(self.now, mark, out);
            raft.applied(raft.committed());
            raft.released(raft.committed().next());
            wrote = true;
        }
        wrote
    }

    /// Delivers what a replica has sent.
    fn carry(&mut self, at: usize) -> bool {
        let sent = self.replicas[at].out.sends.drain(..).map(|send| (at, send));
        self.sends.extend(sent);
        self.replicas[at].out.clear();
        let busy = !self.sends.is_empty();
        let mut sends = std::mem::take(&mut self.sends);
        for (from, send) in sends.drain(..) {
            debug_assert!(matches!(send.gate, Gate::Now | Gate::Durable));
            self.bytes.clear();
            encode_head(&send.message, &mut self.bytes);
            if let ashlar_consensus::message::Outgoing::Append { head, count } = &send.message {
                for index in (head.prev.index.0 + 1..).take(*count as usize) {
                    let term = self.replicas[from].raft.term_of(Index(index));
                    let meta = meta(term.expect("it is in the log"), EntryKind::Commands);
                    encode_meta(&meta, &[], &mut self.bytes);
                }
            }
            let (message, _) = decode(&self.bytes).expect("what was encoded");
            let to = usize::try_from(send.to.node.0).expect("small") - 1;
            let Replica {
                raft,
                supports,
                out,
            } = &mut self.replicas[to];
            let name = member(from as u64 + 1);
            raft.receive(self.now, name, &message, supports, out);
            raft.applied(raft.committed().min(raft.durable_index()));
            debug_assert!(
                !out.events
                    .iter()
                    .any(|event| matches!(event, Event::Alarm(_)))
            );
        }
        self.sends = sends;
        busy
    }

    /// Proposes `count` entries and carries them to their commit.
    fn commit(&mut self, count: usize) {
        let Replica { raft, out, .. } = &mut self.replicas[0];
        let term = raft.term();
        for _ in 0..count {
            raft.propose(self.now, &meta(term, EntryKind::Commands), None, out);
        }
        self.settle();
        let raft = &self.replicas[0].raft;
        assert_eq!(raft.committed(), raft.last().index);
    }
}

/// Measures commits in batches.
fn commits(criterion: &mut Criterion) {
    let mut measured = criterion.benchmark_group("raft");
    measured.measurement_time(Duration::from_secs(2));
    for batch in [1, 8, 64, 512] {
        let mut group = Group::new();
        measured.throughput(Throughput::Elements(batch as u64 * 3));
        measured.bench_function(BenchmarkId::new("entry and replica", batch), |bencher| {
            bencher.iter(|| group.commit(batch));
        });
    }
    measured.finish();
}

/// Says what a quiet replica takes, once something was committed.
fn memory(_: &mut Criterion) {
    const GROUPS: usize = 4_000;
    let quiet = || {
        let mut group = Group::new();
        group.commit(1);
        // Promises and outputs are a shard's, not a replica's.
        group.replicas.into_iter().map(|replica| {
            let mut raft = replica.raft;
            raft.shrink();
            raft
        })
    };
    let mut replicas: Vec<Raft> = Vec::with_capacity(GROUPS * 3);
    (0..100).for_each(|_| replicas.extend(quiet()));
    let before_bytes = resident_bytes();
    (100..GROUPS).for_each(|_| replicas.extend(quiet()));
    let more_bytes = resident_bytes().saturating_sub(before_bytes);
    println!(
        "raft/quiet replica: {} bytes, {} of them inline",
        more_bytes / (replicas.len() - 300),
        size_of::<Raft>()
    );
}

/// Returns the resident memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let mut pages = statm.split(' ').map(str::parse::<usize>);
    pages
        .nth(1)
        .expect("it has seven fields")
        .expect("of numbers")
        * 4096
}

criterion_group!(benches, memory, commits);
criterion_main!(benches);
