//! A node that runs: what its shards report, and how it is asked to stop. Not how it came to run.

use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

use ashlar_io::DirLock;
use ashlar_io::queue::Sender;

use super::{NodeError, Stopper};
use crate::message::Message;
use crate::shard::Recovery;

/// What the thread of a shard reports.
pub(super) enum Event {
    Inbox(u32, Sender<Message>),
    Serving(Recovery),
    Stopped,
    Failed(NodeError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub(super) shards: Vec<Sender<Message>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) _lock: Arc<DirLock>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inbox(..) => "Inbox",
            Self::Serving(_) => "Serving",
            Self::Stopped => "Stopped",
            Self::Failed(_) => "Failed",
        })
    }
}

impl Node {
    /// Waits until a signal asks the node to stop, then stops it cleanly. Returns the signal's
    /// name.
    ///
    /// # Errors
    /// A shard could not go on: the process must end at once, without another reply.
    pub fn run_until(
        self,
        stopper: Stopper,
        on_signal: impl FnOnce(&str) + Send + 'static,
    ) -> Result<(), NodeError> {
        let shards = self.shards.clone();
        let waiter = Builder::new().name("stopper".to_owned()).spawn(move || {
            if let Ok(name) = stopper.names.recv() {
                on_signal(name);
                stop_all(&shards);
            }
        });
        waiter.map_err(NodeError::Thread)?;
        self.wait()
    }

    /// Asks every shard to stop.
    pub fn stop(&self) {
        stop_all(&self.shards);
    }

    /// Waits until every shard has stopped.
    ///
    /// # Errors
    /// A shard could not go on: the process must end at once, without another reply.
    pub fn wait(self) -> Result<(), NodeError> {
        for _ in 0..self.threads.len() {
            match self.events.recv() {
                Ok(Event::Failed(error)) => return Err(error),
                Ok(_) => {}
                Err(mpsc::RecvError) => break,
            }
        }
        // They have reported that they are done; what is left of them is the return.
        self.threads
            .into_iter()
            .for_each(|thread| drop(thread.join()));
        Ok(())
    }
}

fn stop_all(shards: &[Sender<Message>]) {
    for shard in shards {
        while shard.push(Message::Stop).is_err() {
            shard.notify();
            std::thread::yield_now();
        }
        shard.notify();
    }
}
