//! The driver of one simulated shard: the same seam as the kernel's. Not a place for behaviour:
//! every operation is done by the world's state.
//!
//! Invariant: a driver belongs to one life of its shard. After the node has crashed it does nothing
//! more, and answers nothing.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::faults::Bounds;
use super::net::Way;
use super::state::{State, os};
use crate::clock::{Known, Source};
use crate::op::{Completion, Handle, Op, OpId};
use crate::time::{Monotonic, Wall};

/// Wakes a simulated shard from another one.
#[derive(Debug, Default)]
pub(crate) struct SimWake {
    pub(super) flag: AtomicBool,
}

impl SimWake {
    /// Asks for a turn of the shard, soon.
    pub(crate) fn wake(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

/// One shard's way into its world.
#[derive(Debug)]
pub(crate) struct Driver {
    state: Rc<RefCell<State>>,
    clock: Rc<Cell<u64>>,
    index: u32,
    node: u32,
    drifts: bool,
}

impl Driver {
    pub(super) fn new(state: &Rc<RefCell<State>>, node: u32, shard: u32) -> Self {
        let mut world = state.borrow_mut();
        let index = world.start_shard(node, shard);
        let drifts = world.nodes[&node].clock.drifts();
        Self {
            state: Rc::clone(state),
            clock: Rc::clone(&world.clock),
            index,
            node,
            drifts,
        }
    }

    fn is_alive(&self, world: &State) -> bool {
        world.shards[self.index as usize].alive
    }

    /// Starts an op. Its slot has to keep it until its last completion.
    pub(crate) fn submit(&mut self, id: OpId, op: &mut Op) {
        let world = &mut *self.state.borrow_mut();
        if !self.is_alive(world) {
            return;
        }
        let shard = self.index;
        match op {
            Op::Open { path, options } => world.open(shard, id, path, *options),
            Op::Close { handle } => world.close(shard, id, *handle),
            Op::ReadAt {
                file,
                buf,
                offset,
                done,
            } => {
                world.read_at(shard, id, *file, (*offset, *done), buf);
            }
            Op::WriteAt {
                file,
                buf,
                offset,
                done,
                durable,
            } => {
                world.write_at(shard, id, *file, (*offset, *durable), (buf, *done));
            }
            Op::Sync { file } => world.sync(shard, id, *file),
            Op::Preallocate { file, bytes } => world.preallocate(shard, id, *file, *bytes),
            Op::Size { file } => world.size(shard, id, *file),
            Op::Rename { from, to } => world.rename(shard, id, from, to),
            Op::Unlink { path } => world.unlink(shard, id, path),
            Op::CreateDir { path } => world.create_dir(shard, id, path),
            Op::SyncDir { path } => world.sync_dir(shard, id, path),
            Op::List { path } => world.list_dir(shard, id, path),
            Op::Space { path } => world.space(shard, id, path),
            Op::Accept { listener } => world.accept(shard, id, *listener),
            Op::Connect { addr } => world.connect(shard, id, *addr),
            Op::Recv { socket } => world.recv(shard, id, *socket),
            Op::Send {
                socket,
                data,
                done,
                zero_copy,
            } => {
                let way = if *zero_copy { Way::Lent } else { Way::Copied };
                world.send(shard, id, *socket, (&data[*done..], way));
            }
            Op::Shutdown { socket } => world.shutdown(shard, id, *socket),
            Op::Abort { socket } => world.abort(shard, id, *socket),
        }
    }

    /// Asks for an op to end early; it still completes, with `ECANCELED` or with what came first.
    /// Disk ops ignore it.
    pub(crate) fn cancel(&mut self, id: OpId) {
        let mut world = self.state.borrow_mut();
        if self.is_alive(&world) {
            world.cancel(self.index, id);
        }
    }

    /// Moves the completions that were delivered to `out`.
    pub(crate) fn reap(&mut self, out: &mut Vec<Completion>) {
        let mut world = self.state.borrow_mut();
        out.append(&mut world.shards[self.index as usize].completed);
    }

    /// Says when the shard wants its next turn if nothing happens; a deadline that has passed asks
    /// for one at once.
    pub(crate) fn park(&mut self, deadline: Option<Monotonic>) {
        let mut world = self.state.borrow_mut();
        if self.is_alive(&world) {
            world.park(self.index, deadline);
        }
    }

    /// Returns the node's monotonic time.
    pub(crate) fn now(&self) -> Monotonic {
        if self.drifts {
            return self.state.borrow().nodes[&self.node]
                .clock
                .local(self.clock.get());
        }
        Monotonic(self.clock.get())
    }

    /// Returns the node's wall-clock time.
    pub(crate) fn wall(&self) -> Wall {
        let world = &mut *self.state.borrow_mut();
        let (now, faults) = (world.now(), &world.faults.clock);
        let node = world
            .nodes
            .get_mut(&self.node)
            .expect("a shard's node is there");
        node.clock.wall(now, faults)
    }

    /// Returns the node's wall-clock time and how far it is said to be off.
    pub(crate) fn known_time(&self) -> Option<Known> {
        let wall_us = self.wall().0;
        let world = self.state.borrow();
        let faults = &world.faults.clock;
        let off_us = wall_us.abs_diff(super::clock::EPOCH_US + world.now() / 1_000);
        let error_us = match faults.bounds() {
            Bounds::None => return None,
            Bounds::Honest => off_us + faults.bound_slack_us + 1,
            Bounds::Lying => faults.bound_slack_us,
        };
        Some(Known {
            source: Source::Static,
            wall_us,
            error_us,
        })
    }

    /// Returns a number of the node's own stream.
    pub(crate) fn random(&mut self) -> u64 {
        self.state.borrow_mut().node(self.node).rng.next_u64()
    }

    /// Listens on `addr`, whose port may be 0. Shards of one node may share an address.
    ///
    /// # Errors
    /// `AddrInUse`: this shard or another node listens there.
    pub(crate) fn listen(&mut self, addr: SocketAddr) -> io::Result<Handle> {
        let mut world = self.state.borrow_mut();
        if self.is_alive(&world) {
            world.listen(self.index, addr)
        } else {
            Err(os(libc::EBADF))
        }
    }

    /// Returns the address of a listener, or of this end of a connection.
    pub(crate) fn local_addr(&self, handle: Handle) -> io::Result<SocketAddr> {
        self.state.borrow_mut().local_addr(self.index, handle)
    }

    /// Returns the address of the other end of a connection.
    pub(crate) fn peer_addr(&self, handle: Handle) -> io::Result<SocketAddr> {
        self.state.borrow_mut().peer_addr(self.index, handle)
    }

    /// Returns what other shards wake this one with.
    pub(crate) fn wake_cell(&self) -> Arc<SimWake> {
        Arc::clone(&self.state.borrow().shards[self.index as usize].wake)
    }
}

impl Drop for Driver {
    /// A process that ends closes what it had open.
    fn drop(&mut self) {
        if let Ok(mut world) = self.state.try_borrow_mut() {
            world.exit(self.index);
        }
    }
}
