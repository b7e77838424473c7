//! What a start finds out before there are shards: whether it is to stop already, and the node's place in
//! its cluster.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::Builder;
use std::time::Duration;

use ashlar_consensus::support::EarlierPromises;
use ashlar_io::StopSignals;

use super::{NodeError, small_reactor};
use crate::cluster::{Formed, Place, form};
use crate::config::Config;
use crate::format::Format;
use crate::peer;
use crate::route::Routes;
use crate::shard::Membership;

/// What asks the node to stop, from before its start on: a thread that waits for signals.
#[derive(Debug)]
pub struct Stopper {
    pub(super) asked: Arc<AtomicBool>,
    pub(super) names: mpsc::Receiver<&'static str>,
}

impl Stopper {
    /// Begins to wait for signals.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn new(signals: StopSignals) -> Result<Self, NodeError> {
        let asked = Arc::new(AtomicBool::new(false));
        let (give, names) = mpsc::channel();
        let flag = Arc::clone(&asked);
        let waiter = Builder::new().name("signals".to_owned()).spawn(move || {
            loop {
                let name = signals.wait();
                flag.store(true, Ordering::Release);
                if give.send(name).is_err() {
                    return;
                }
            }
        });
        waiter.map_err(NodeError::Thread)?;
        Ok(Self { asked, names })
    }

    /// Says whether a signal has come.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

/// Finds the node's place in its cluster, if the configuration names one.
pub(super) fn find_place(
    config: &Config,
    format: Format,
    stopper: &Stopper,
) -> Result<Formed, NodeError> {
    let reactor = small_reactor()?;
    let (machine, config, stop) = (reactor.clone(), config.clone(), Arc::clone(&stopper.asked));
    let formed = reactor.block_on(async move { form(&machine, &config, &format, &stop).await });
    Ok(formed?)
}

/// Returns what shards are told of the cluster.
pub(super) fn membership(config: &Config, format: &Format, place: Place) -> Membership {
    let partitions = Routes::new(&format.boundaries(), format.shards).partitions();
    let partitions = u32::try_from(partitions).expect("partitions are counted in u32");
    let listen = config.cluster.peer_listen;
    let ms = |ms: u32| Duration::from_millis(u64::from(ms));
    Membership {
        identity: place.identity(0, format.shards, partitions),
        peer: peer::Options {
            listen: listen.expect("a member has an address for peers"),
            frame_bytes_max: config.peer.frame_bytes_max,
            queue_bytes_max: config.peer.queue_bytes_max,
            handshake: ms(config.peer.handshake_ms),
            silence: ms(config.peer.silence_ms),
        },
        lease_ms: config.cluster.lease_ms,
        election_jitter_ms: config.cluster.election_jitter_ms,
        election_rank: u8::try_from(config.cluster.election_rank).unwrap_or(u8::MAX),
        // The first life has promised nothing to anybody.
        earlier: match place.incarnation {
            ..=1 => EarlierPromises::None,
            _ => EarlierPromises::Possible,
        },
        decree: place.membership.decree,
        roster: place.roster,
        #[cfg(feature = "planted")]
        planted: None,
    }
}
