//! What the policies cost, counted without files: keys are numbers, runs are sets of them, and a
//! flush or a merge costs the entries that it writes.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "ratios and draws need no more than 53 bits"
)]

use ashlar_io::rng::Rng;

use super::super::{Choice, Policy, Shape, choose};
use crate::lsm::pick::UPPER_PERCENT;

/// Entries of the partition; one stands for 16 KiB of a partition of 1 GiB.
const KEYS: u32 = 65_536;
/// Entry bytes, so that sizes are those of the real thing.
const ENTRY_BYTES: u64 = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    Uniform,
    Zipf,
}

struct Simulated {
    level: u8,
    keys: Vec<u32>,
}

#[derive(Default)]
struct Tree {
    /// Newest first.
    runs: Vec<Simulated>,
    written: u64,
    merges: u64,
}

/// What a workload has cost.
#[derive(Debug)]
struct Cost {
    write: f64,
    space_max: f64,
    space_mean: f64,
    runs_max: usize,
    runs_mean: f64,
    merges: u64,
}

fn union(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all.dedup();
    all
}

impl Tree {
    fn shapes(&self) -> Vec<Shape> {
        let shape = |run: &Simulated| {
            let bytes = run.keys.len() as u64 * ENTRY_BYTES;
            Shape {
                level: run.level,
                bytes,
                weight: bytes,
            }
        };
        self.runs.iter().map(shape).collect()
    }

    fn flush(&mut self, mut keys: Vec<u32>, policy: &Policy) {
        keys.sort_unstable();
        keys.dedup();
        self.written += keys.len() as u64;
        self.runs.insert(0, Simulated { level: 0, keys });
        let mut jobs = 0;
        while let Some(Choice { runs, level, .. }) = choose(&self.shapes(), policy) {
            let inputs = self.runs.drain(..runs);
            let keys = inputs.fold(Vec::new(), |all, run| union(&all, &run.keys));
            self.written += keys.len() as u64;
            self.merges += 1;
            self.runs.insert(0, Simulated { level, keys });
            jobs += 1;
            assert!(jobs < 20, "a flush does not start merges for ever");
        }
    }

    fn entries(&self) -> usize {
        self.runs.iter().map(|run| run.keys.len()).sum()
    }
}

/// Spreads numbers over all keys, each to another.
fn scattered(n: u32) -> u32 {
    n.wrapping_mul(40_503) % KEYS
}

/// Draws keys; Zipf is of exponent 1, approximately.
fn draw(rng: &mut Rng, keys: Keys) -> u32 {
    let n = rng.next_u64();
    match keys {
        Keys::Uniform => u32::try_from(n % u64::from(KEYS)).unwrap(),
        Keys::Zipf => {
            let unit = (n >> 11) as f64 / (1_u64 << 53) as f64;
            let rank = f64::from(KEYS).powf(unit) as u32 - 1;
            scattered(rank)
        }
    }
}

fn run(policy: &Policy, keys: Keys, flush_mib: u64, rounds: u64) -> Cost {
    let mut rng = Rng::new(7);
    let flush = usize::try_from(flush_mib * (1 << 20) / ENTRY_BYTES).unwrap();
    let mut tree = Tree::default();
    let all: Vec<u32> = (0..KEYS).map(scattered).collect();
    for keys in all.chunks(flush) {
        tree.flush(keys.to_vec(), policy);
    }
    (tree.written, tree.merges) = (0, 0);
    let mut cost = Cost {
        write: 0.0,
        space_max: 0.0,
        space_mean: 0.0,
        runs_max: 0,
        runs_mean: 0.0,
        merges: 0,
    };
    let writes = rounds * u64::from(KEYS);
    let (mut written, mut flushes) = (0, 0.0);
    while written < writes {
        // A memtable holds each key once: hot keys are written many times for one flush.
        let mut memtable = std::collections::BTreeSet::new();
        while memtable.len() < flush && written < writes {
            memtable.insert(draw(&mut rng, keys));
            written += 1;
        }
        tree.flush(memtable.into_iter().collect(), policy);
        let space = tree.entries() as f64 / f64::from(KEYS);
        cost.space_max = cost.space_max.max(space);
        cost.space_mean += space;
        cost.runs_max = cost.runs_max.max(tree.runs.len());
        cost.runs_mean += tree.runs.len() as f64;
        flushes += 1.0;
    }
    cost.space_mean /= flushes;
    cost.runs_mean /= flushes;
    cost.write = tree.written as f64 / written as f64;
    cost.merges = tree.merges;
    cost
}

const LAZY_LEVELED: Policy = Policy::LazyLeveled {
    fanout: 4,
    upper_percent: UPPER_PERCENT,
};
const LEVELED: Policy = Policy::Leveled { fanout: 8 };

fn table(rounds: u64) -> Vec<(Policy, Keys, u64, Cost)> {
    println!("policy   keys     flush  written  space max/mean  runs max/mean  merges");
    let mut costs = Vec::new();
    for policy in [LAZY_LEVELED, LEVELED] {
        for keys in [Keys::Uniform, Keys::Zipf] {
            for flush_mib in [4, 8, 16, 32, 64] {
                let cost = run(&policy, keys, flush_mib, rounds);
                let name = if policy == LEVELED { "leveled" } else { "lazy" };
                println!(
                    "{name:7}  {:7}  {flush_mib:2} MiB  {:6.2}     {:.2} / {:.2}     {:2} / {:.1}      {:3}",
                    format!("{keys:?}"),
                    cost.write,
                    cost.space_max,
                    cost.space_mean,
                    cost.runs_max,
                    cost.runs_mean,
                    cost.merges,
                );
                costs.push((policy, keys, flush_mib, cost));
            }
        }
    }
    costs
}

#[test]
fn overwriting_a_partition_ten_times_costs_what_was_promised() {
    for (policy, keys, flush_mib, cost) in table(10) {
        let large = flush_mib >= 16;
        let (write, space, runs) = match policy {
            LEVELED => (if large { 8.0 } else { 13.0 }, 1.25, 5),
            _ => (
                if large { 5.0 } else { 5.8 },
                1.36,
                if large { 9 } else { 11 },
            ),
        };
        let holds = cost.write <= write && cost.space_max <= space && cost.runs_max <= runs;
        assert!(holds, "{policy:?} {keys:?} {flush_mib} MiB: {cost:?}");
    }
}

#[test]
fn filling_an_empty_partition_writes_each_byte_a_few_times() {
    for (policy, write_max) in [(LAZY_LEVELED, 5.5), (LEVELED, 7.0)] {
        for flush_mib in [16, 64] {
            let (mut tree, entries) = (Tree::default(), flush_mib * (1 << 20) / ENTRY_BYTES);
            let all: Vec<u32> = (0..KEYS).map(scattered).collect();
            for keys in all.chunks(usize::try_from(entries).unwrap()) {
                tree.flush(keys.to_vec(), &policy);
            }
            let write = tree.written as f64 / f64::from(KEYS);
            println!(
                "{policy:?}, {flush_mib} MiB: {write:.2}, {} runs",
                tree.runs.len()
            );
            assert!(write <= write_max, "{policy:?}, {flush_mib} MiB: {write}");
        }
    }
}
