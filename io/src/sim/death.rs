//! How shards and nodes end: a driver that is dropped, a process that is killed, a machine without
//! power. Not what a disk makes of it (`inode.rs`, `names.rs`).

use super::disk::Effect;
use super::state::{Object, State};
use crate::op::Handle;

impl State {
    /// Ends one shard as its process would: sockets are closed, files too, and the disk goes on.
    pub(super) fn exit(&mut self, index: u32) {
        if !self.shards[index as usize].alive {
            return;
        }
        self.end_shard(index);
        self.drop_attempts(index);
        let owned = self
            .handles
            .iter()
            .filter(|(_, owned)| owned.shard == index);
        let handles: Vec<Handle> = owned.map(|(handle, _)| *handle).collect();
        for handle in handles {
            self.close_handle(handle);
        }
    }

    /// Ends all shards of a node at once; returns what its disk was doing.
    pub(super) fn end_node(&mut self, node: u32) -> Vec<Effect> {
        let in_flight = self.drop_in_flight(node);
        for index in self.live_on(node) {
            self.end_shard(index);
            self.drop_attempts(index);
        }
        let owned = self.handles.iter().filter(|(_, owned)| owned.node == node);
        let handles: Vec<(Handle, Object)> = owned
            .map(|(handle, owned)| (*handle, owned.object))
            .collect();
        for (handle, object) in handles {
            match object {
                Object::Socket(_) => self.break_socket(handle),
                Object::File(_) | Object::Listener => self.close_handle(handle),
            }
        }
        let state = self.node(node);
        state.incarnation += 1;
        state.paused_until = 0;
        self.note(&[4, u64::from(node)]);
        self.mark("node died");
        in_flight
    }

    /// Makes a node's disk lose power.
    pub(super) fn lose_power(&mut self, node: u32, in_flight: Vec<Effect>) {
        let fates = self.faults.disk.crash;
        let disk = &mut self
            .nodes
            .get_mut(&node)
            .expect("its end made the node")
            .disk;
        disk.crash(in_flight, fates, &mut self.streams.crash);
        self.mark("power lost");
    }
}
