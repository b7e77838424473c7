//! The stages of a request, as far as they take time of their own.

/// One stage. What is said of when it is looked at keeps its price small; `INFO stages` and `/metrics` tell the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the begin of the turn that received a command until it runs. Of one in eight runs of commands the first.
    Queue,
    /// From the end of the turn that made an entry until it is durable. One batch of the log at a time.
    Log,
    /// Applying what became durable, and giving replies to their connections. Of the same batches.
    Apply,
    /// From a send's submission until the kernel has taken the bytes. One send at a time.
    Send,
    /// From the begin of the turn that received a write until its reply may leave. One write at a time.
    Write,
    /// A whole turn of a shard. Every one.
    Turn,
}

impl Stage {
    /// Every stage, in the order of their numbers.
    pub const EVERY: [Self; 6] = [
        Self::Queue,
        Self::Log,
        Self::Apply,
        Self::Send,
        Self::Write,
        Self::Turn,
    ];

    /// Returns its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Log => "log",
            Self::Apply => "apply",
            Self::Send => "send",
            Self::Write => "write",
            Self::Turn => "turn",
        }
    }
}
