//! A simulated node with a disk that holds the files that a target put there, and whatever reads
//! them running on it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ashlar_io::sim::{Faults, World};
use ashlar_io::{Buf, Durable, File, OpenOptions, Reactor, file};

/// Turns after which a reader is taken for hung.
const TURNS_MAX: usize = 20_000;

/// A node with a disk.
#[derive(Debug)]
pub struct Disk {
    world: World,
    reactor: Reactor,
}

impl Default for Disk {
    fn default() -> Self {
        let world = World::new(1, Faults::none());
        let reactor = Reactor::simulated(&world, 0, 0);
        Self { world, reactor }
    }
}

impl Disk {
    /// Returns the node's reactor.
    #[must_use]
    pub fn reactor(&self) -> Reactor {
        self.reactor.clone()
    }

    /// Makes a directory.
    pub fn make_dir(&self, path: &'static str) {
        let reactor = self.reactor();
        let made = self.run(async move { file::create_dir(&reactor, Path::new(path)).await });
        made.expect("a directory can be made on an empty disk");
    }

    /// Puts a file there.
    pub fn put(&self, path: String, content: Vec<u8>) {
        let reactor = self.reactor();
        let written = self.run(async move {
            let options = OpenOptions {
                write: true,
                create: true,
                ..OpenOptions::default()
            };
            let file = File::open(&reactor, Path::new(&path), options).await?;
            if content.is_empty() {
                return Ok(());
            }
            let mut buf = Buf::heap(content.len());
            buf.as_mut_slice().copy_from_slice(&content);
            file.write_at(buf, 0, Durable::No).await.0.map(|_| ())
        });
        written.expect("a file can be written on an empty disk");
    }

    /// Runs a future to its end.
    ///
    /// # Panics
    /// When it hangs.
    pub fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        let answer = Rc::new(RefCell::new(None));
        let slot = Rc::clone(&answer);
        self.reactor.spawn(async move {
            let value = future.await;
            *slot.borrow_mut() = Some(value);
        });
        for _ in 0..TURNS_MAX {
            self.world.step().expect("a reader has a next turn");
            self.reactor.reap();
            self.reactor.run_ready();
            if let Some(value) = answer.borrow_mut().take() {
                return value;
            }
            let soon = self.reactor.now() + Duration::from_millis(1);
            self.reactor.park(Some(soon), || false);
        }
        panic!("a reader hangs");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.reactor.shut_down();
    }
}
