//! One shard: recovery, then turn after turn. The horizontal spine of the system.
//!
//! A turn: reap completions -> apply what is durable and release its replies -> receive the inbox
//! -> run the ready tasks, which parse and serve -> tick if due -> give the turn's entries to the
//! log -> flush. It makes at most one batch per partition, one send per connection, and one system
//! call. Batching comes from the turn, not from timers: what arrives during a write of the log is
//! the next batch.

mod membership;
mod recover;
mod stopping;
mod view;

use std::cell::RefCell;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ashlar_io::queue::{Inbox, Sender};
use ashlar_io::wal::{Failed, RecoverError};
use ashlar_io::{Listener, Monotonic, Reactor};

pub use self::membership::Membership;
use self::membership::join;
use self::recover::recover;
pub use self::stopping::{STOP_MAX, Unfinished};
use crate::admin;
use crate::client;
use crate::core::Core;
use crate::message::Message;
use crate::peer;
use crate::route::Routes;
use crate::shared::Shared;

pub use self::view::{Digest, Load};

/// Time between ticks.
const TICK: Duration = Duration::from_millis(100);
/// Ticks without a write after which the log attests its end.
const QUIET_TICKS: u32 = 10;
/// Messages taken from the inbox in one turn.
const MESSAGES_PER_TURN: usize = 1024;

/// What a shard is started with.
#[derive(Debug)]
pub struct Setup {
    /// Number of the shard.
    pub shard: u32,
    /// The data directory.
    pub data: PathBuf,
    /// What all shards share.
    pub shared: Arc<Shared>,
    /// Where keys are.
    pub routes: Routes,
    /// What other shards send it.
    pub inbox: Inbox<Message>,
    /// The inboxes of all shards, its own included.
    pub peers: Vec<Sender<Message>>,
    /// The cluster that the node is a member of; `None` for one that is alone.
    pub cluster: Option<Membership>,
}

/// Why a shard cannot go on. The node stops with it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fatal {
    /// The log cannot be recovered.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The checkpoint cannot be read or does not fit the log.
    #[error("{0}")]
    Manifest(String),
    /// A table cannot be read.
    #[error("cannot open the tables: {0}")]
    Tables(String),
    /// A write or sync of the log failed.
    #[error(transparent)]
    Log(#[from] Failed),
    /// It was asked to stop and could not finish in time.
    #[error(
        "shard {shard} did not come to its end within {waited_s} s: it waited for {unfinished}; stopped as by a crash: nothing acknowledged is lost, and what was not is as the log has it"
    )]
    Unfinished {
        /// The shard.
        shard: u32,
        /// How long it had.
        waited_s: u64,
        /// What it waited for.
        unfinished: Unfinished,
    },
    /// The node is a member of its cluster no more.
    #[error(
        "this node was removed from its cluster: its data directory is no part of it any more; to have the node join again as a new member, remove that directory"
    )]
    Removed,
    /// The port for peers cannot be listened on.
    #[error(transparent)]
    Peers(#[from] peer::ListenError),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the operating system said.
        error: std::io::Error,
    },
}

/// What recovery found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovery {
    /// Entries applied.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// An unacknowledged tail was cut.
    pub torn: bool,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Recovery goes on.
    Recovering,
    /// The shard serves.
    Serving,
    /// It has stopped cleanly: everything it took in is durable.
    Stopped,
}

type Recovered = Result<(Rc<Core>, Recovery), Fatal>;

/// One shard of a node.
pub struct Shard {
    reactor: Reactor,
    inbox: Inbox<Message>,
    recovering: Rc<RefCell<Option<Recovered>>>,
    core: Option<Rc<Core>>,
    recovery: Recovery,
    next_tick: Monotonic,
    quiet_ticks: u32,
    /// More keys have expired than one tick deletes: the next turn ticks again.
    expiring: bool,
    /// When it began to stop, and when to tell what it waits for.
    stopping: Option<(Monotonic, Monotonic)>,
}

impl fmt::Debug for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard")
            .field("serving", &self.core.is_some())
            .finish_non_exhaustive()
    }
}

impl Shard {
    /// Makes a shard and begins its recovery, which the next turns carry on.
    #[must_use]
    pub fn start(reactor: &Reactor, setup: Setup) -> Self {
        let Setup {
            shard,
            data,
            shared,
            routes,
            inbox,
            peers,
            cluster,
        } = setup;
        let recovering = Rc::new(RefCell::new(None));
        let (slot, machine) = (Rc::clone(&recovering), reactor.clone());
        reactor.spawn(async move {
            let recovered =
                recover(&machine, shard, &data, (&shared, &routes), cluster.as_ref()).await;
            *slot.borrow_mut() = Some(recovered.map(|(parts, recovery)| {
                let roster = cluster.as_ref().map(|cluster| cluster.roster.clone());
                let cluster = cluster.map(|cluster| join(&machine, shard, &cluster));
                let core = Core::new(shard, &machine, shared, routes, peers, (parts, cluster));
                if let (0, Some(roster)) = (shard, roster) {
                    core.shared.roster.learn(&roster);
                    core.note_members(&roster);
                }
                core.bound_kept();
                (Rc::new(core), recovery)
            }));
        });
        Self {
            reactor: reactor.clone(),
            inbox,
            recovering,
            core: None,
            recovery: Recovery::default(),
            next_tick: reactor.now() + TICK,
            quiet_ticks: 0,
            expiring: false,
            stopping: None,
        }
    }

    /// Returns what recovery found, once it is done.
    #[must_use]
    pub fn recovery(&self) -> Option<Recovery> {
        self.core.as_ref().map(|_| self.recovery)
    }

    /// Runs one turn, without sleeping.
    ///
    /// # Errors
    /// [`Fatal`]: the shard cannot go on, and the node must stop without acknowledging anything
    /// more.
    pub fn turn(&mut self) -> Result<Turn, Fatal> {
        let Some(core) = self.core.clone() else {
            return self.recover_turn();
        };
        self.reactor.reap();
        core.settle()?;
        self.receive(&core);
        core.note_begun();
        self.reactor.run_ready();
        core.note_ran();
        if self.reactor.now() >= self.next_tick || self.expiring {
            self.next_tick = self.reactor.now() + TICK;
            self.tick(&core);
            if core.was_removed() {
                return Err(Fatal::Removed);
            }
        }
        core.work(core.has_run_commands());
        core.drain();
        core.note_turn();
        Ok(if core.is_stopping() && self.has_stopped(&core)? {
            Turn::Stopped
        } else {
            Turn::Serving
        })
    }

    /// Sends what the turn queued, and sleeps until there is something to do.
    pub fn park(&self) {
        let Some(core) = &self.core else {
            // Recovery has nothing to do before what it reads is there: it does not tick.
            return self.reactor.park(None, || false);
        };
        let deadline = if self.expiring || core.is_hurried() {
            self.reactor.now()
        } else {
            let due = [core.deadline(), core.blocked_deadline()];
            let due = due.into_iter().flatten();
            due.fold(self.next_tick, Monotonic::min)
        };
        self.reactor.park(Some(deadline), || !self.inbox.is_empty());
    }

    fn recover_turn(&mut self) -> Result<Turn, Fatal> {
        self.reactor.turn();
        let Some(recovered) = self.recovering.borrow_mut().take() else {
            return Ok(Turn::Recovering);
        };
        let (core, recovery) = recovered?;
        let addr = core.shared.listen;
        let listener =
            Listener::bind(&self.reactor, addr).map_err(|error| Fatal::Listen { addr, error })?;
        self.reactor.spawn(accept(Rc::clone(&core), listener));
        if let Some(cluster) = &core.cluster {
            cluster.peers.start()?;
        }
        if let (0, Some(addr)) = (core.shard, core.config().admin_listen) {
            let listener = Listener::bind(&self.reactor, addr)
                .map_err(|error| Fatal::Listen { addr, error })?;
            self.reactor
                .spawn(admin::listen(Rc::clone(&core), listener));
        }
        core.settle()?;
        core.publish();
        self.core = Some(core);
        self.recovery = recovery;
        Ok(Turn::Serving)
    }

    fn receive(&self, core: &Rc<Core>) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(message) = self.inbox.pop() else {
                return;
            };
            core.receive(message);
        }
        core.hurry();
    }

    fn tick(&mut self, core: &Rc<Core>) {
        core.refresh_config();
        core.publish();
        core.watch_space();
        core.tick_clock();
        core.scrub();
        core.tick_snapshots();
        core.tick_members();
        core.tick_pace();
        core.tick_repairs();
        core.publish_cluster();
        client::end_idle(core);
        core.bound_subscribers();
        let (now_ms, now_us) = core.now();
        let config = core.config();
        let mut borrowed = core.data.borrow_mut();
        let data = &mut *borrowed;
        self.quiet_ticks = if data.wal.is_idle() {
            self.quiet_ticks + 1
        } else {
            0
        };
        if self.quiet_ticks == QUIET_TICKS {
            data.wal.attest();
        }
        if data.wal.failure().is_some() {
            return;
        }
        self.expiring = false;
        if core.is_stopping() {
            return;
        }
        let (clock, _, partitions) = data.parts();
        let mut purges = Vec::new();
        for partition in partitions {
            partition.keep_history(config.partition.history_ms);
            partition.look_again();
            if !partition.may_propose() {
                continue;
            }
            let before = partition.last_index();
            let purge = partition.expire(now_ms, clock, now_us);
            if partition.last_index() > before {
                // Else a shard that rests would leave the entry open, and its timestamp would be one of the past
                // when it is proposed.
                core.stir();
            }
            self.expiring |= purge.may_go_on;
            purges.push((partition.id(), purge));
        }
        drop(borrowed);
        for (partition, purge) in purges {
            core.note_expired(partition, purge);
        }
        self.expiring |= core.sweep();
    }
}

/// Accepts connections until the shard stops.
async fn accept(core: Rc<Core>, mut listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(_) if core.is_stopping() => return,
            Ok(socket) => core.reactor.spawn(client::serve(Rc::clone(&core), socket)),
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                core.reactor.sleep(TICK).await;
            }
        }
    }
}
