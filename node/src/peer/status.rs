//! What can be told of a peer: how things are, and what was counted.

use std::net::SocketAddr;
use std::time::Duration;

use ashlar_consensus::NodeId;

/// How things are with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is connected.
    Connected,
    /// It is being called.
    Dialing,
    /// It will be called after a pause.
    Waiting,
    /// It is to call this node.
    Awaited,
}

impl State {
    /// Returns the word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Dialing => "dialing",
            Self::Waiting => "waiting",
            Self::Awaited => "awaited",
        }
    }
}

/// What can be told of a peer.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its number.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its shard 0 listens.
    pub addr: SocketAddr,
    /// How things are.
    pub state: State,
    /// Which of its lives it is in, when it is connected.
    pub incarnation: Option<u32>,
    /// Bytes that are queued or in the socket's hands.
    pub unsent_bytes: u64,
    /// What was counted since the start.
    pub tally: Tally,
    /// Why there is no connection, when that is known.
    pub trouble: Option<String>,
    /// Longest pause before the next call.
    pub backoff: Duration,
}

/// What was counted of a link since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Bytes of frames received.
    pub in_bytes: u64,
    /// Bytes of frames sent.
    pub out_bytes: u64,
    /// Frames received.
    pub in_frames: u64,
    /// Frames sent.
    pub out_frames: u64,
    /// Connections made.
    pub connections: u64,
    /// Sections that were not taken because too much was queued.
    pub refused: u64,
}
