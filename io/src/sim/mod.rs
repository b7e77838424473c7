//! A simulated world: nodes with disks, a network, clocks and crashes, all in one thread and all
//! from one seed. Not a scheduler of tasks: each shard runs the same reactor as in production,
//! above a simulated [`driver`].
//!
//! A harness makes a [`World`], makes a reactor for each shard, and then repeats: [`World::step`]
//! says whose turn it is, and that shard's reactor makes one turn. Between turns the harness may
//! crash, pause, cut and damage.
//!
//! Invariants:
//! 1. One seed, one history: the same seed, faults and calls give the same [`World::hash`].
//! 2. Virtual time moves only in [`World::step`], from event to event.
//! 3. What was not synced may be lost in a crash, and what was synced is not, unless a fault says
//!    so.

mod clock;
mod content;
mod cuts;
mod death;
mod disk;
mod driver;
mod faults;
mod files;
mod heap;
mod inode;
mod names;
mod net;
mod sockets;
mod state;
#[cfg(test)]
mod tests;
mod turns;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

pub(crate) use self::driver::{Driver, SimWake};
pub use self::faults::{
    Bounds, ClockFaults, CrashFates, DiskFaults, Faults, NetFaults, ScheduleFaults,
};

use self::heap::Kind;
use self::names::Entry;
use self::state::State;
use crate::buffer::Arena;
use crate::time::{Monotonic, Wall};

/// Turns a length that is known to fit in memory into an index.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("lengths in a simulated world fit in memory")
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Damage to a file that nobody is told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Flips one bit (0 to 7) of the byte at `offset`.
    FlipBit {
        /// Byte from the start of the file.
        offset: u64,
        /// Bit of that byte.
        bit: u8,
    },
    /// Zeroes the 4 KiB sector that holds the byte at `offset`.
    ZeroSector {
        /// Byte from the start of the file.
        offset: u64,
    },
    /// Replaces the bytes at `offset`; what would lie past the end of the file is left out.
    Overwrite {
        /// Byte from the start of the file.
        offset: u64,
        /// What is there afterwards.
        bytes: Vec<u8>,
    },
    /// Cuts the file to `bytes`.
    Truncate {
        /// Size in bytes.
        bytes: u64,
    },
}

/// A simulated world. Clones are the same world.
#[derive(Clone, Debug)]
pub struct World(Rc<RefCell<State>>);

impl World {
    /// Makes an empty world. Nodes come to be when a driver is made for one of their shards.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self(Rc::new(RefCell::new(State::new(seed, faults))))
    }

    /// Returns the address of a node, for listening and connecting: 10.x.y.z, where x.y.z is its
    /// number plus one.
    #[must_use]
    pub fn ip(node: u32) -> IpAddr {
        sockets::node_ip(node)
    }

    /// Makes the driver of a shard, and so starts its next life.
    ///
    /// # Panics
    /// When that shard runs already.
    pub(crate) fn driver(&self, node: u32, shard: u32) -> Driver {
        Driver::new(&self.0, node, shard)
    }

    /// Returns the buffers that the shards of this world share, life after life.
    pub(crate) fn buffers(&self) -> Rc<Arena> {
        Rc::clone(&self.0.borrow().buffers)
    }

    /// Returns virtual time.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        Monotonic(self.0.borrow().now())
    }

    /// Returns true wall-clock time, which the clocks of nodes may miss.
    #[must_use]
    pub fn true_wall(&self) -> Wall {
        Wall(clock::EPOCH_US + self.0.borrow().now() / 1_000)
    }

    /// Goes on to the next turn; returns the node and the shard whose turn it is, or nothing when
    /// no event is left.
    ///
    /// Virtual time advances to the next event when no shard is ready; of several ready shards the
    /// seed picks one.
    pub fn step(&self) -> Option<(u32, u32)> {
        self.0.borrow_mut().step(u64::MAX)
    }

    /// As [`World::step`], but time stops at `limit`: nothing is returned when no turn comes before
    /// it.
    pub fn step_until(&self, limit: Monotonic) -> Option<(u32, u32)> {
        let mut state = self.0.borrow_mut();
        let turn = state.step(limit.0);
        if turn.is_none() && state.now() < limit.0 {
            state.clock.set(limit.0);
        }
        turn
    }

    /// Cuts the power of a node: its ops in flight vanish, its handles die, its peers see resets,
    /// and its disk keeps, drops or tears what was not synced. Its reactors must be dropped, and
    /// made anew for its next life.
    pub fn crash(&self, node: u32) {
        let mut state = self.0.borrow_mut();
        let in_flight = state.end_node(node);
        state.lose_power(node, in_flight);
    }

    /// Kills a node's process: as [`World::crash`], but the disk finishes what was submitted and
    /// loses nothing.
    pub fn kill(&self, node: u32) {
        let mut state = self.0.borrow_mut();
        let in_flight = state.end_node(node);
        for effect in in_flight {
            state.take_effect(node, effect);
        }
    }

    /// Stops a node for a while, as `SIGSTOP` does: its sockets stay open and its disk goes on.
    pub fn pause(&self, node: u32, length: Duration) {
        let mut state = self.0.borrow_mut();
        let until = state.now().saturating_add(nanos(length));
        state.node(node).paused_until = until;
        state.hold_all(node);
        state.heap.push(until, Kind::Resume(node));
        state.note(&[5, u64::from(node), until]);
        state.mark("node paused");
    }

    /// Says how many times a node has crashed or was killed.
    #[must_use]
    pub fn incarnation(&self, node: u32) -> u32 {
        self.0
            .borrow()
            .nodes
            .get(&node)
            .map_or(0, |node| node.incarnation)
    }

    /// Cuts the way from one node to another (that way only) until it is mended.
    pub fn cut(&self, from: u32, to: u32) {
        self.0.borrow_mut().cut(from, to, u64::MAX);
    }

    /// Opens the way from one node to another.
    pub fn mend(&self, from: u32, to: u32) {
        self.0.borrow_mut().mend(from, to);
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, node: u32) {
        let mut state = self.0.borrow_mut();
        for other in state
            .known_nodes()
            .into_iter()
            .filter(|other| *other != node)
        {
            state.cut(node, other, u64::MAX);
            state.cut(other, node, u64::MAX);
        }
    }

    /// Replaces what may go wrong from now on. Clocks keep the drift that they were made with.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Switches every class of fault off, mends the network, ends stalls and makes room on disks.
    /// Data that is lost stays lost, and pauses run their time.
    pub fn heal(&self) {
        let mut state = self.0.borrow_mut();
        state.faults = state.faults.calm();
        state.mend_all();
        for node in state.nodes.values_mut() {
            node.disk.capacity = None;
            node.disk.stalled_until = 0;
            node.disk.slowness = 0;
        }
    }

    /// Has a node's disk take so many times as long for everything, until it is healed.
    pub fn slow_disk(&self, node: u32, slowness: u32) {
        self.0.borrow_mut().node(node).disk.slowness = slowness;
    }

    /// Limits the bytes that a node's files may take, or lifts the limit.
    pub fn set_capacity(&self, node: u32, bytes: Option<u64>) {
        self.0.borrow_mut().node(node).disk.capacity = bytes;
    }

    /// Returns the bytes that a node's files take.
    #[must_use]
    pub fn disk_used(&self, node: u32) -> u64 {
        self.0.borrow_mut().node(node).disk.used()
    }

    /// Sets how far a node's wall clock is off, in microseconds.
    pub fn set_clock(&self, node: u32, offset_us: i64) {
        self.0.borrow_mut().node(node).clock.set(offset_us);
    }

    /// Damages a file of a node, durably and without a trace.
    ///
    /// # Errors
    /// `NotFound`: there is no such file.
    pub fn disk_damage(&self, node: u32, path: &Path, damage: &Damage) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        let file = state.node(node).disk.file_mut(path);
        let file = file.ok_or_else(|| state::os(libc::ENOENT))?;
        match damage {
            Damage::FlipBit { offset, bit } => {
                let mut byte = [0];
                file.read(*offset, &mut byte);
                file.overwrite(*offset, &[byte[0] ^ 1 << (bit % 8)]);
            }
            Damage::ZeroSector { offset } => {
                let sector = content::SECTOR_BYTES as u64;
                file.overwrite(offset / sector * sector, &[0; content::SECTOR_BYTES]);
            }
            Damage::Overwrite { offset, bytes } => file.overwrite(*offset, bytes),
            Damage::Truncate { bytes } => file.truncate(*bytes),
        }
        Ok(())
    }

    /// Returns what a node's file holds, as it is visible.
    #[must_use]
    pub fn read_file(&self, node: u32, path: &Path) -> Option<Vec<u8>> {
        self.0
            .borrow_mut()
            .node(node)
            .disk
            .file(path)
            .map(disk::content)
    }

    /// Returns the paths and sizes in bytes of a node's files, in order of path.
    #[must_use]
    pub fn list_files(&self, node: u32) -> Vec<(PathBuf, u64)> {
        let mut state = self.0.borrow_mut();
        let disk = &state.node(node).disk;
        let files = disk.names.all().filter_map(|(name, entry)| match entry {
            Entry::File(inode) => Some((name, disk.inodes.get(&inode)?.size())),
            Entry::Dir => None,
        });
        files
            .map(|(name, bytes)| (names::path_of(name), bytes))
            .collect()
    }

    /// Returns the names of the files below a directory of a node, as bytes and in their order.
    #[must_use]
    pub fn files_below(&self, node: u32, dir: &Path) -> Vec<Rc<[u8]>> {
        let mut state = self.0.borrow_mut();
        let below = state.node(node).disk.names.below(dir);
        let files = below.filter(|(_, entry)| *entry != Entry::Dir);
        files.map(|(name, _)| Rc::clone(name)).collect()
    }

    /// Says how many handles a node has open, for checks of leaks.
    #[must_use]
    pub fn open_handles(&self, node: u32) -> usize {
        self.0.borrow().open_handles(node)
    }

    /// Returns a number of the workload's stream.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.borrow_mut().streams.workload.next_u64()
    }

    /// Returns the rolling hash of everything that has happened.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.0.borrow().hash
    }

    /// Returns how many events are scheduled.
    #[must_use]
    pub fn events(&self) -> usize {
        self.0.borrow().heap.len()
    }

    /// Takes the counts of the faults that really happened.
    #[must_use]
    pub fn take_marks(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.0.borrow_mut().marks)
    }
}
