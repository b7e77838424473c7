//! What shards say to each other: questions to the owner of a partition, and answers to the one
//! that asked.

use std::sync::Arc;

use ashlar_consensus::NodeId;

use ashlar_io::Monotonic;
use ashlar_partition::{Token, session};

use crate::blocked::{Ending, Place};
use crate::command::spread::{Answer, Question};
use crate::command::{Command, Context};
use crate::pubsub::Publication;
use crate::resp::{OwnedWords, Version, Words};

/// Names a write of a session, with its own copy of the session's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedToken {
    /// Id of the session.
    pub session: Vec<u8>,
    /// Which of its writes it is.
    pub sequence: u64,
}

impl OwnedToken {
    /// Copies a token.
    #[must_use]
    pub fn of(token: Token<'_>) -> Self {
        Self {
            session: token.session.to_vec(),
            sequence: token.sequence,
        }
    }

    /// Returns the token.
    #[must_use]
    pub fn as_token(&self) -> Token<'_> {
        Token {
            session: &self.session,
            sequence: self.sequence,
        }
    }
}

/// A write that goes over many partitions, as one of a session: each of them does it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once {
    /// Which write of which session.
    pub token: OwnedToken,
    /// Hash of the command.
    pub print: u32,
}

impl Once {
    /// Makes it of a command's words.
    #[must_use]
    pub fn of(token: Token<'_>, database: u8, words: Words<'_>) -> Self {
        Self {
            token: OwnedToken::of(token),
            print: session::print(database, words.iter()),
        }
    }
}

/// Names a question on the shard that asked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What one shard puts in another's inbox.
#[derive(Debug)]
pub enum Message {
    /// Run a command on a partition of yours; answer with [`Message::Replied`].
    Run(Box<Forward>),
    /// Answer a question about a partition of yours with [`Message::Answered`].
    Ask {
        /// Who asks.
        from: u32,
        /// What to answer to.
        ticket: Ticket,
        /// The partition.
        partition: usize,
        /// The question.
        question: Box<Question>,
    },
    /// The reply of a command that was forwarded; all that it did is durable.
    Replied(Ticket, Vec<u8>),
    /// The answer to a question; all that it did is durable.
    Answered(Ticket, Box<Answer>),
    /// A client has taken large replies of commands that it had forwarded to you.
    Taken {
        /// Shard of the client.
        from: u32,
        /// Its connection.
        connection: u64,
        /// How many bytes.
        bytes: usize,
    },
    /// End the wait for elements of a command that was sent to you with [`Message::Run`].
    Withdraw {
        /// Who asked for it.
        from: u32,
        /// What it was to be answered to, and is now.
        ticket: Ticket,
        /// How.
        ending: Ending,
    },
    /// End the wait for elements of a connection of yours.
    Unblock(u64, Ending),
    /// Hand a message to those of your connections that are subscribed to its channel.
    Publish(Arc<Publication>),
    /// Give a connection of yours bytes that answer no command.
    Tell(u64, Arc<[u8]>),
    /// Close a connection of yours.
    Close(u64),
    /// Finish what was acknowledged and stop.
    Stop,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A shard of this node, the partition's own among them.
    Shard(u32),
    /// The same shard of another node.
    Node(NodeId),
}

/// A command on its way to the shard of its keys.
#[derive(Debug)]
pub struct Forward {
    /// Who asks.
    pub from: Origin,
    /// For which of its connections.
    pub connection: u64,
    /// What to answer to.
    pub ticket: Ticket,
    /// The partition that all its keys lie in.
    pub partition: usize,
    /// The command.
    pub command: &'static Command,
    /// Its words.
    pub words: OwnedWords,
    /// Database of the connection.
    pub database: u8,
    /// Protocol of the reply.
    pub version: Version,
    /// Which write of a session it is, if of any: then it takes effect once, however often it is sent.
    pub token: Option<Box<OwnedToken>>,
    /// Since when nobody knows whether it was done: it was sent to a node that was lost.
    pub lost: Option<Monotonic>,
    /// Its place among those that wait for elements, once it has waited.
    pub place: Option<Place>,
    /// It is to be answered so, and not run any more: who asked waits no longer.
    pub ended: Option<Ending>,
}

impl Forward {
    /// Returns what it is run with.
    #[must_use]
    pub fn context(&self) -> Context<'_> {
        Context {
            database: self.database,
            version: self.version,
            token: self.token.as_ref().map(|token| token.as_token()),
        }
    }
}
