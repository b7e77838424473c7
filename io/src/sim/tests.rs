//! Tests of the simulated world as a reactor sees it: ops in, completions out. The rig here is the
//! smallest reactor there can be.

mod disk;
mod network;
mod schedule;

use std::collections::BTreeMap;
use std::io;

use super::driver::Driver;
use super::{Faults, World};
use crate::buffer::Buf;
use crate::op::{Completion, Handle, Op, OpId, OpenOptions, Value};

/// One shard without tasks: it keeps ops in their slots and collects completions.
struct Shard {
    driver: Driver,
    ops: BTreeMap<OpId, Op>,
    done: Vec<Completion>,
}

/// A world and its shards.
struct Rig {
    world: World,
    shards: BTreeMap<(u32, u32), Shard>,
    ops_made: u32,
}

const DIRECT: OpenOptions = OpenOptions {
    write: true,
    create: true,
    create_new: false,
    direct: true,
};
const PLAIN: OpenOptions = OpenOptions {
    direct: false,
    ..DIRECT
};

fn filled(bytes: usize, byte: u8) -> Buf {
    let mut buf = Buf::heap(bytes);
    buf.as_mut_slice().fill(byte);
    buf
}

fn handle(result: io::Result<Value>) -> Handle {
    let value = result.unwrap();
    let Value::Handle(handle) = value else {
        panic!("a handle was expected: {value:?}")
    };
    handle
}

fn count(result: io::Result<Value>) -> usize {
    let value = result.unwrap();
    let Value::Count(n) = value else {
        panic!("a count was expected: {value:?}")
    };
    n
}

fn errno(result: io::Result<Value>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

impl Rig {
    fn new(seed: u64, faults: Faults) -> Self {
        Self {
            world: World::new(seed, faults),
            shards: BTreeMap::new(),
            ops_made: 0,
        }
    }

    /// A calm world with the given shards of node 0 and up.
    fn calm(seed: u64, shards: &[(u32, u32)]) -> Self {
        let mut rig = Self::new(seed, Faults::none());
        shards.iter().for_each(|at| rig.boot(*at));
        rig
    }

    fn boot(&mut self, at: (u32, u32)) {
        let driver = self.world.driver(at.0, at.1);
        self.shards.insert(
            at,
            Shard {
                driver,
                ops: BTreeMap::new(),
                done: Vec::new(),
            },
        );
    }

    fn crash(&mut self, node: u32) {
        self.world.crash(node);
        self.shards.retain(|at, _| at.0 != node);
    }

    fn start(&mut self, at: (u32, u32), mut op: Op) -> OpId {
        self.ops_made += 1;
        let id = OpId {
            index: self.ops_made,
            generation: 7,
        };
        let shard = self.shards.get_mut(&at).unwrap();
        shard.driver.submit(id, &mut op);
        shard.ops.insert(id, op);
        id
    }

    /// Makes one turn of the world; says whose it was.
    fn turn(&mut self) -> Option<(u32, u32)> {
        let at = self.world.step()?;
        let shard = self.shards.get_mut(&at)?;
        shard.driver.reap(&mut shard.done);
        Some(at)
    }

    fn take(&mut self, at: (u32, u32), id: OpId) -> Option<Completion> {
        let done = &mut self.shards.get_mut(&at).unwrap().done;
        done.iter()
            .position(|completion| completion.id == id)
            .map(|n| done.remove(n))
    }

    /// Turns the world until an op completes.
    fn wait(&mut self, at: (u32, u32), id: OpId) -> Completion {
        loop {
            if let Some(completion) = self.take(at, id) {
                return completion;
            }
            assert!(
                self.turn().is_some(),
                "nothing happens any more, and {id:?} has not completed"
            );
        }
    }

    fn run(&mut self, at: (u32, u32), op: Op) -> io::Result<Value> {
        let id = self.start(at, op);
        self.wait(at, id).result
    }

    /// Runs until no event is left.
    fn settle(&mut self) {
        while self.turn().is_some() {}
    }

    fn open(&mut self, at: (u32, u32), path: &str, options: OpenOptions) -> Handle {
        handle(self.run(
            at,
            Op::Open {
                path: path.into(),
                options,
            },
        ))
    }

    fn write(&mut self, at: (u32, u32), file: Handle, offset: u64, buf: Buf) -> io::Result<Value> {
        self.run(
            at,
            Op::WriteAt {
                file,
                buf,
                offset,
                done: 0,
                durable: false,
            },
        )
    }

    fn sync_dir(&mut self, at: (u32, u32), path: &str) {
        self.run(at, Op::SyncDir { path: path.into() }).unwrap();
    }

    fn listen(&mut self, at: (u32, u32), port: u16) -> Handle {
        let addr = (World::ip(at.0), port).into();
        self.shards
            .get_mut(&at)
            .unwrap()
            .driver
            .listen(addr)
            .unwrap()
    }

    /// Connects two shards; returns the client's and the server's socket.
    fn pair(&mut self, client: (u32, u32), server: (u32, u32), port: u16) -> (Handle, Handle) {
        let listener = self.listen(server, port);
        let accept = self.start(server, Op::Accept { listener });
        let addr = (World::ip(server.0), port).into();
        let connected = handle(self.run(client, Op::Connect { addr }));
        (connected, handle(self.wait(server, accept).result))
    }
}
