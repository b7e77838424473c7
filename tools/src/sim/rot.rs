//! Logs that rot while their nodes are down, and tables that are damaged. Of what was acknowledged at most a minority
//! has copies that rot: so one member's log at a time, and the next one when that has everything again; and the tables
//! of one member in a run, since damage to a table may lie there unseen until it is read.

use std::path::{Path, PathBuf};

use ashlar_io::rng::Rng;
use ashlar_io::sim::{Damage, World};
use ashlar_io::wal::SUFFIX;
use ashlar_io::wal::format::{BLOCK_BYTES, HEADER_BYTES, Header};
use ashlar_node::format::Format;

use super::run::Node;

/// Probability that logs rot in a run, and that the log of a node that dies in such a run does.
const ROTS: f64 = 0.4;
const ROTTEN: f64 = 0.5;

/// Whose log rots.
#[derive(Debug)]
pub(super) struct Rot {
    rng: Rng,
    is_on: bool,
    /// Who does not have everything again.
    victim: Option<u32>,
    /// Whose tables were damaged.
    pub(super) tables_of: Option<u32>,
}

impl Rot {
    /// Draws whether logs rot in a run.
    pub(super) fn draw(mut rng: Rng, is_possible: bool) -> Self {
        let is_on = rng.chance(ROTS) && is_possible;
        Self {
            rng,
            is_on,
            victim: None,
            tables_of: None,
        }
    }

    /// Draws whether a log rots now, and how.
    pub(super) fn strikes(&mut self) -> Option<u64> {
        let strikes = self.is_on && self.victim.is_none() && self.rng.chance(ROTTEN);
        strikes.then(|| self.rng.next_u64())
    }

    /// Notes whose log has rotten.
    pub(super) fn note(&mut self, victim: u32) {
        self.victim = Some(victim);
    }

    /// Says whether everybody has everything.
    pub(super) fn is_healed(&mut self, nodes: &[Node]) -> bool {
        let forgets = |victim: &u32| {
            let life = nodes[*victim as usize].life.as_ref();
            let shards = life.map(|life| &life.shards).filter(|of| !of.is_empty());
            let remembers = |shard: &ashlar_node::shard::Shard| shard.remembers();
            !shards.is_some_and(|shards| shards.iter().all(remembers))
        };
        self.victim = self.victim.filter(forgets);
        self.victim.is_none() && self.tables_of.is_none()
    }
}

/// Damages a batch of a log in `data` that was acknowledged, as batches behind it tell; says whether there was one.
pub(super) fn damage_log(world: &World, machine: u32, data: &Path, rng: &mut Rng) -> bool {
    let wal = Format::wal_dir(data, 0);
    let wal = wal.parent().unwrap_or(data);
    let files = world.list_files(machine);
    let is_segment =
        |path: &PathBuf| path.starts_with(wal) && path.to_string_lossy().ends_with(SUFFIX);
    let mut dirs: Vec<PathBuf> = files
        .iter()
        .filter(|(path, _)| is_segment(path))
        .filter_map(|(path, _)| Some(path.parent()?.to_owned()))
        .collect();
    dirs.dedup();
    if dirs.is_empty() {
        return false;
    }
    let dir = &dirs[rng.index(dirs.len())];
    let mut batches = Vec::new();
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with(dir)) {
        let content = world.read_file(machine, path).unwrap_or_default();
        for (block, at) in content.chunks(BLOCK_BYTES).zip(0_u64..) {
            let header = Header::decode(block);
            batches.extend(header.map(|header| (path.clone(), at * BLOCK_BYTES as u64, header)));
        }
    }
    let Some((path, offset, header)) = draw_batch(&batches, rng) else {
        return false;
    };
    let bytes = HEADER_BYTES as u64 + u64::from(header.length);
    let place = offset + rng.below(bytes);
    let damage = match rng.below(3) {
        0 => Damage::FlipBit {
            offset: place,
            bit: u8::try_from(rng.below(8)).expect("below 8"),
        },
        1 => Damage::Overwrite {
            offset: offset / BLOCK_BYTES as u64 * BLOCK_BYTES as u64,
            bytes: vec![0; BLOCK_BYTES],
        },
        _ => Damage::Overwrite {
            offset: place,
            bytes: rng.next_u64().to_le_bytes().map(|byte| byte | 1).to_vec(),
        },
    };
    world.disk_damage(machine, path, &damage).is_ok()
}

/// Draws a batch that the log needs and that one behind it tells to have been durable.
fn draw_batch<'a>(
    batches: &'a [(PathBuf, u64, Header)],
    rng: &mut Rng,
) -> Option<(&'a Path, u64, Header)> {
    let newest = batches
        .iter()
        .map(|(.., header)| header)
        .max_by_key(|of| (of.generation, of.position))?;
    let is_attested = |of: &Header| {
        let behind = batches.iter().map(|(.., header)| header);
        let mut behind = behind.filter(|behind| behind.position >= of.end());
        behind.any(|behind| behind.durable >= of.end())
    };
    let fit: Vec<_> = batches
        .iter()
        .filter(|(.., of)| {
            of.position >= newest.start && of.end() <= newest.position && is_attested(of)
        })
        .collect();
    if fit.is_empty() {
        return None;
    }
    let (path, offset, header) = fit[rng.index(fit.len())];
    Some((path, *offset, *header))
}
