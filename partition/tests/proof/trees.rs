//! Partitions with tables against the models: every answer while flushes and merges go on, and what
//! power cuts, full disks and damage leave.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::Path;

use ashlar_io::rng::Rng;
use ashlar_io::sim::{CrashFates, Damage, Faults};
use ashlar_io::wal::Durability;
use ashlar_partition::{Condition, Expiry, Put, Request, Return};

use crate::ground::{Setup, TreeNode, Trust};
use crate::node::{TURNS_MAX, options};
use crate::workload::{Shape, request};

const SHAPES: [Shape; 3] = [
    Shape {
        databases: 3,
        keys_per_database: 12,
        value_bytes_max: 400,
    },
    Shape {
        databases: 3,
        keys_per_database: 300,
        value_bytes_max: 90,
    },
    Shape {
        databases: 2,
        keys_per_database: 60,
        value_bytes_max: 2_500,
    },
];

/// What is asked of a node, and the keys that were asked for.
struct Work {
    shape: Shape,
    keys: BTreeSet<Vec<u8>>,
    /// Share of questions that are deletions of ranges.
    ranges: f64,
}

impl Work {
    fn some(rng: &mut Rng) -> Self {
        Self {
            shape: SHAPES[rng.index(SHAPES.len())],
            keys: BTreeSet::new(),
            ranges: [0.0, 0.005, 0.05][rng.index(3)],
        }
    }

    fn key(&mut self, rng: &mut Rng) -> Vec<u8> {
        let key = self.shape.key(rng);
        self.keys.insert(key.clone());
        key
    }

    fn span(&mut self, rng: &mut Rng) -> (Vec<u8>, Vec<u8>) {
        let (a, b) = (self.shape.key(rng), self.shape.key(rng));
        if a < b { (a, b) } else { (b, a) }
    }

    /// Some turns' work: a turn is made whenever something must be fetched.
    fn turn(&mut self, node: &mut TreeNode) {
        node.wall_us += match node.rng.below(20) {
            0 => node.rng.below(40_000),
            _ => node.rng.below(300),
        };
        for _ in 0..node.rng.below(8) {
            if !node.is_up() || !node.has_room() {
                return;
            }
            self.one(node);
        }
    }

    fn one(&mut self, node: &mut TreeNode) {
        if node.rng.chance(self.ranges) {
            let (start, end) = self.span(&mut node.rng);
            return node.delete_range(&start, &end);
        }
        match node.rng.below(600) {
            0 => node.clear(None),
            1 | 2 => {
                let database = u8::try_from(node.rng.below(self.shape.databases)).unwrap();
                node.clear(Some(database));
            }
            3..=9 => node.expire(),
            10..=40 => {
                let (start, end) = self.span(&mut node.rng);
                let all = (Bound::Unbounded, Bound::Unbounded);
                let some = match node.rng.below(3) {
                    0 => all,
                    1 => (Bound::Included(start), Bound::Excluded(end)),
                    _ => (Bound::Excluded(start), Bound::Included(end)),
                };
                let _ = node.walk(some);
            }
            41..=120 => {
                let key = self.key(&mut node.rng);
                let _ = node.read_past(&key);
            }
            121..=320 => {
                let (key, value) = (self.key(&mut node.rng), self.shape.value(&mut node.rng));
                let put = Put {
                    value: &value,
                    condition: Condition::Always,
                    expiry: Expiry::Never,
                    returns: Return::Outcome,
                };
                let _ = node.ask(&key, &Request::Put(put));
            }
            _ => {
                let (key, value) = (self.key(&mut node.rng), self.shape.value(&mut node.rng));
                let now_ms = node.now_ms();
                let request = request(&mut node.rng, now_ms, &value);
                let _ = node.ask(&key, &request);
            }
        }
    }

    fn turns(&mut self, node: &mut TreeNode, turns: usize) {
        for _ in 0..turns {
            if !node.is_up() {
                return;
            }
            self.turn(node);
            if node.is_up() {
                node.turn(|_| {});
            }
        }
    }
}

fn faults_of(rng: &mut Rng) -> Faults {
    let mut faults = Faults::none();
    let fate = rng.index(5);
    let weight = |n| u32::from(n == fate || fate == 4);
    faults.disk.crash = CrashFates {
        keep: weight(0),
        old: weight(1),
        torn: weight(2),
        garbage: weight(3),
    };
    faults.disk.short = if rng.coin() { 0.05 } else { 0.0 };
    faults.disk.interrupt = if rng.coin() { 0.02 } else { 0.0 };
    faults.schedule.hold = if rng.coin() { 0.2 } else { 0.0 };
    // Of a slow disk, much is not durable yet when something goes wrong.
    faults.disk.write_latency_ns = [20_000, 80_000, 3_000_000][rng.index(3)];
    faults.disk.sync_latency_ns = [20_000, 200_000, 5_000_000][rng.index(3)];
    faults
}

fn node_of(seed: u64) -> (TreeNode, Work) {
    let mut rng = Rng::new(seed);
    let durability = match rng.coin() {
        true => Durability::Dsync,
        false => Durability::Fdatasync,
    };
    let wal = options(1 + rng.index(3), 32 << 10, durability);
    let setup = Setup::some(&mut rng, wal);
    let faults = faults_of(&mut rng);
    (TreeNode::new(seed, setup, faults), Work::some(&mut rng))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long to search is up to whoever runs the test"
)]
/// The first seed, and how many there are: more by the environment, for long searches.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let of = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let first = of("ASHLAR_SEED").unwrap_or(0);
    first..first + of("ASHLAR_RUNS").unwrap_or(count)
}

fn for_each_seed(count: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let mut failed = Vec::new();
    for seed in seeds(count) {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            eprintln!("seed {seed} failed");
            failed.push(seed);
        }
        assert!(failed.len() < 5, "seeds {failed:?}");
    }
    assert!(failed.is_empty(), "seeds {failed:?}");
}

#[test]
fn answers_are_those_of_the_models_while_flushes_and_merges_go_on() {
    for_each_seed(40, |seed| {
        let (mut node, mut work) = node_of(seed);
        node.start();
        for _ in 0..20 {
            work.turns(&mut node, 500);
            if node.edits() > 4 {
                break;
            }
        }
        node.check_all(&work.keys);
        node.check_files();
        node.check_all(&work.keys);
        assert!(node.edits() > 4, "{} edits", node.edits());
    });
}

#[test]
fn lives_that_end_at_any_moment_lose_nothing_acknowledged() {
    for_each_seed(80, |seed| {
        let (mut node, mut work) = node_of(seed);
        node.start();
        for _ in 0..8 {
            let turns = node.rng.index(160);
            work.turns(&mut node, turns);
            match node.rng.below(4) {
                0 => node.kill(),
                1 => node.crash(),
                _ => node.crash_between_turns(),
            }
            if node.rng.coin() {
                let turns_max = 1 + node.rng.index(60);
                node.try_start(turns_max).unwrap();
            }
            if !node.is_up() {
                node.start();
            }
            if node.rng.chance(0.3) {
                node.check_all(&work.keys);
            }
        }
        node.check_all(&work.keys);
        node.check_files();
        node.check_all(&work.keys);
    });
}

#[test]
fn a_power_cut_at_any_turn_loses_nothing_acknowledged() {
    for_each_seed(2, |seed| {
        for turns in 0..150 {
            let (mut node, mut work) = node_of(10_000 + seed);
            node.start();
            work.turns(&mut node, 100);
            for _ in 0..turns {
                node.turn(|_| {});
            }
            node.crash_between_turns();
            node.start();
            node.check_all(&work.keys);
            work.turns(&mut node, 20);
            node.crash();
            node.start();
            node.check_all(&work.keys);
            node.check_files();
        }
    });
}

#[test]
fn failing_reads_and_writes_are_errors_and_nothing_is_lost() {
    for_each_seed(40, |seed| {
        let (mut node, mut work) = node_of(20_000 + seed);
        node.start();
        node.trust = Trust::RightOrError;
        for _ in 0..4 {
            let mut faults = Faults::none();
            faults.disk.read_error = [0.0, 0.002, 0.05][node.rng.index(3)];
            faults.disk.no_space = [0.0, 0.02, 0.2][node.rng.index(3)];
            faults.disk.write_error = [0.0, 0.0, 0.0005][node.rng.index(3)];
            faults.disk.sync_error = [0.0, 0.0, 0.0005][node.rng.index(3)];
            node.world.set_faults(faults);
            work.turns(&mut node, 150);
            node.world.set_faults(Faults::none());
            if !node.is_up() {
                node.start();
            } else if node.rng.coin() {
                node.crash();
                node.start();
            }
        }
        node.trust = Trust::Right;
        node.check_all(&work.keys);
        node.check_files();
        node.check_all(&work.keys);
    });
}

#[test]
fn a_full_disk_holds_writes_up_and_loses_nothing() {
    for_each_seed(30, |seed| {
        let (mut node, mut work) = node_of(30_000 + seed);
        node.start();
        work.turns(&mut node, 150);
        for _ in 0..3 {
            let used = node.world.disk_used(0);
            let left = node.rng.below(100 << 10);
            node.world.set_capacity(0, Some(used + left));
            work.turns(&mut node, 120);
            node.wait_a_second();
            assert!(node.is_up(), "a full disk stops nobody");
            node.world.set_capacity(0, None);
            work.turns(&mut node, 60);
            node.check_all(&work.keys);
        }
        node.check_files();
        node.crash();
        node.start();
        node.check_all(&work.keys);
    });
}

#[test]
fn rot_is_an_error_that_names_the_file() {
    let errors = std::cell::Cell::new(0);
    for seed in seeds(40) {
        let (mut node, mut work) = node_of(40_000 + seed);
        node.start();
        work.turns(&mut node, 200);
        node.quiesce();
        node.crash();
        let files: Vec<_> = node.files_on_disk().into_iter().collect();
        for _ in 0..1 + node.rng.index(3) {
            let Some(path) = files.get(node.rng.index(files.len().max(1))) else {
                break;
            };
            damage(&mut node, path);
        }
        node.trust = Trust::RightOrError;
        if node.try_start(TURNS_MAX).is_none() {
            continue;
        }
        node.check_all(&work.keys);
        work.turns(&mut node, 60);
        if !node.is_up() {
            continue;
        }
        node.check_all(&work.keys);
        let damaged = node
            .partitions()
            .iter()
            .filter(|p| p.damage().is_some())
            .count();
        errors.set(errors.get() + node.tally.errors + damaged as u64);
        // What is damaged is not forgotten by the next recovery.
        for _ in 0..3 {
            node.crash();
            if node.try_start(TURNS_MAX).is_none() {
                break;
            }
            node.check_all(&work.keys);
            work.turns(&mut node, 60);
        }
    }
    assert!(errors.get() > 0, "no damage was met");
}

fn damage(node: &mut TreeNode, path: &Path) {
    let bytes = node
        .world
        .read_file(0, path)
        .map_or(1, |file| file.len() as u64);
    let offset = node.rng.below(bytes.max(1));
    let damage = match node.rng.below(4) {
        0 => Damage::ZeroSector { offset },
        1 => Damage::Truncate { bytes: offset },
        2 => {
            // A sector of the same file in the place of another.
            let file = node.world.read_file(0, path).unwrap_or_default();
            let sectors = (file.len() / 4096).max(1);
            let from = node.rng.index(sectors) * 4096;
            let bytes = file.get(from..from + 4096).unwrap_or_default().to_vec();
            let offset = (node.rng.index(sectors) * 4096) as u64;
            Damage::Overwrite { offset, bytes }
        }
        _ => Damage::FlipBit {
            offset,
            bit: u8::try_from(node.rng.below(8)).unwrap(),
        },
    };
    node.world.disk_damage(0, path, &damage).unwrap();
}

#[test]
fn misdirected_and_lost_writes_are_errors_or_harmless() {
    for_each_seed(40, |seed| {
        let (mut node, mut work) = node_of(50_000 + seed);
        node.start();
        work.turns(&mut node, 60);
        node.trust = Trust::RightOrError;
        let mut faults = Faults::none();
        faults.disk.misdirect = [0.0, 0.01, 0.1][node.rng.index(3)];
        faults.disk.lost_write = [0.0, 0.01, 0.1][node.rng.index(3)];
        faults.disk.rot = [0.0, 0.01, 0.1][node.rng.index(3)];
        node.world.set_faults(faults);
        work.turns(&mut node, 200);
        if node.is_up() {
            node.check_all(&work.keys);
        }
    });
}

#[test]
fn the_log_stays_short_while_writes_go_on() {
    for_each_seed(4, |seed| {
        let (mut node, mut work) = node_of(60_000 + seed);
        node.start();
        for _ in 0..6 {
            work.turns(&mut node, 300);
            node.wait_a_second();
            let bytes = node.log_bytes();
            assert!(bytes < 4 << 20, "the log has {bytes} bytes");
        }
    });
}

/// A memtable that recovery fills holds what a flush before the crash has left out.
#[test]
fn a_range_deletion_hides_what_recovery_brings_back() {
    let wal = options(2, 32 << 10, Durability::Dsync);
    let mut setup = Setup::some(&mut Rng::new(1), wal);
    (setup.history_ms, setup.memtable_bytes) = (0, 1 << 20);
    let mut node = TreeNode::new(1, setup, Faults::none());
    node.start();
    node.saves = false;
    let put = |node: &mut TreeNode, key: &[u8]| {
        let put = Put {
            value: b"v",
            condition: Condition::Always,
            expiry: Expiry::Never,
            returns: Return::Outcome,
        };
        node.ask(key, &Request::Put(put)).unwrap();
        node.turn(|_| {});
    };
    put(&mut node, b"\x00k");
    node.delete_range(b"\x00a", b"\x00z");
    node.works = false;
    (0..40).for_each(|_| node.turn(|_| {}));
    assert!(node.partitions()[0].freeze());
    put(&mut node, b"\x00zz");
    node.works = true;
    while node.partitions()[0].frozen_bytes() > 0 || node.partitions()[0].unsaved_edits() == 0 {
        node.turn(|_| {});
    }
    node.crash();
    node.start();
    for _ in 0..100 {
        node.turn(|_| {});
        node.ask(b"\x00k", &Request::Get).unwrap();
    }
    node.quiesce();
    node.ask(b"\x00k", &Request::Get).unwrap();
}
