//! What shards say to each other: questions to the owner of a partition, and answers to the one
//! that asked.

use ashlar_consensus::NodeId;

use crate::command::Command;
use crate::command::spread::{Answer, Question};
use crate::resp::{OwnedWords, Version};

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
}
