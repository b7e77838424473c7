//! A node that runs: what its shards report, and how it is asked to stop. Not how it came to run.

use std::collections::BTreeSet;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ashlar_io::DirLock;
use ashlar_io::queue::Sender;

use super::{NodeError, Stopper};
use crate::message::Message;
use crate::shard::{Recovery, STOP_MAX};

/// How often a start that waits for its shards looks whether it is to stop.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// How often a shard whose inbox is full is asked to stop, and the pause between two tries.
const STOP_TRIES: u32 = 1000;
const STOP_PAUSE: Duration = Duration::from_millis(1);
/// How much longer than its shards may take the process waits for them.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What the thread of a shard reports.
pub(super) enum Event {
    Inbox(u32, Sender<Message>),
    Serving(Recovery),
    Stopped(u32),
    Failed(NodeError),
    /// The node has had all the time that it gets to stop.
    Overdue,
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    pub(super) shards: Vec<Sender<Message>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) report: mpsc::Sender<Event>,
    pub(super) _lock: Arc<DirLock>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inbox(..) => "Inbox",
            Self::Serving(_) => "Serving",
            Self::Stopped(_) => "Stopped",
            Self::Failed(_) => "Failed",
            Self::Overdue => "Overdue",
        })
    }
}

impl Node {
    /// Waits until every shard has recovered, or the node is to stop. Returns what they found.
    pub(super) fn recovered(&mut self, stopper: &Stopper) -> Result<Recovery, NodeError> {
        let (mut recovery, mut left) = (Recovery::default(), self.threads.len());
        while left > 0 {
            match self.events.recv_timeout(STOP_LOOK) {
                Ok(Event::Serving(found)) => {
                    recovery.entries += found.entries;
                    recovery.bytes += found.bytes;
                    recovery.torn |= found.torn;
                    left -= 1;
                }
                Ok(Event::Failed(error)) => return Err(error),
                Err(mpsc::RecvTimeoutError::Timeout) if !stopper.is_asked() => {}
                Err(_) => return Err(NodeError::Stopped),
                Ok(other) => unreachable!("shards report that they serve: {other:?}"),
            }
        }
        Ok(recovery)
    }

    /// Waits until a signal asks the node to stop, then stops it cleanly. Returns the signal's
    /// name.
    ///
    /// # Errors
    /// A shard could not go on, or not stop in time: the process must end at once, without another reply.
    pub fn run_until(
        self,
        stopper: Stopper,
        on_signal: impl FnOnce(&str) + Send + 'static,
    ) -> Result<(), NodeError> {
        let (shards, report) = (self.shards.clone(), self.report.clone());
        let waiter = Builder::new().name("stopper".to_owned()).spawn(move || {
            if let Ok(name) = stopper.names.recv() {
                on_signal(name);
                stop_all(&shards);
                let ended = match stopper.names.recv_timeout(STOP_MAX + STOP_GRACE) {
                    Ok(name) => Event::Failed(NodeError::Again(name)),
                    Err(_) => Event::Overdue,
                };
                // Nobody listens when the node has stopped.
                let _ = report.send(ended);
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
    /// A shard could not go on, or not stop in time: the process must end at once, without another reply.
    pub fn wait(self) -> Result<(), NodeError> {
        let mut left: BTreeSet<u32> = (0..).take(self.threads.len()).collect();
        while !left.is_empty() {
            match self.events.recv() {
                Ok(Event::Failed(error)) => return Err(error),
                Ok(Event::Stopped(shard)) => drop(left.remove(&shard)),
                Ok(Event::Overdue) => {
                    return Err(NodeError::Stuck {
                        shards: left.into_iter().collect(),
                        waited_s: (STOP_MAX + STOP_GRACE).as_secs(),
                    });
                }
                Ok(Event::Inbox(..) | Event::Serving(_)) => {}
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
        for _ in 0..STOP_TRIES {
            let asked = shard.push(Message::Stop);
            shard.notify();
            if asked.is_ok() {
                break;
            }
            std::thread::park_timeout(STOP_PAUSE);
        }
    }
}

/// What a shard's thread says when it ends, however it ends.
pub(super) struct LastWord {
    pub(super) report: mpsc::Sender<Event>,
    pub(super) event: Option<Event>,
}

impl Drop for LastWord {
    fn drop(&mut self) {
        // Nobody listens when the start has failed elsewhere.
        let _ = self.event.take().map(|event| self.report.send(event));
    }
}
