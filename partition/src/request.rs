//! What is asked of a partition, and what it answers. One key per request: a command of several
//! keys is several requests in one turn, which land in one entry and so take effect together.

use std::borrow::Cow;

use ashlar_consensus::Index;

use crate::collection::Family;

/// A request for one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Returns the value and its expiry.
    Get,
    /// Returns what the key is and its expiry, whatever it is.
    Look,
    /// Sets the value.
    Put(Put<'a>),
    /// Deletes the key; answers [`Response::Integer`] 1 when it was there.
    Delete,
    /// Deletes the key and answers its value.
    Take,
    /// Adds to the decimal integer that the value is, 0 when missing; answers the sum.
    Add(i64),
    /// Appends to the value; answers its new length in bytes.
    Append(&'a [u8]),
    /// Sets when the key expires; answers 1 when it did.
    Expire {
        /// Milliseconds since 1970; a moment that has passed deletes the key.
        at_ms: u64,
        /// When to do so.
        condition: ExpireCondition,
    },
    /// Makes the key last for ever; answers 1 when it had an expiry.
    Persist,
}

impl Request<'_> {
    /// Returns whether the request may change the key.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Get | Self::Look)
    }

    /// Returns whether answer or effect depend on what the key is. A plain setting with an expiry
    /// that has passed does: it deletes only what is there.
    #[must_use]
    pub fn reads(&self, now_ms: u64) -> bool {
        let Self::Put(Put {
            condition,
            expiry,
            returns,
            ..
        }) = self
        else {
            return true;
        };
        let passed = matches!(expiry, Expiry::At(at_ms) if *at_ms <= now_ms);
        *condition != Condition::Always
            || *returns == Return::Old
            || *expiry == Expiry::Keep
            || passed
    }

    /// Returns whether the request is one of strings alone: what is of another type is left as it is.
    #[must_use]
    pub fn is_of_strings(&self) -> bool {
        match self {
            Self::Get | Self::Take | Self::Add(_) | Self::Append(_) => true,
            Self::Put(put) => put.returns == Return::Old,
            Self::Look | Self::Delete | Self::Expire { .. } | Self::Persist => false,
        }
    }

    /// Returns whether the request may make the partition larger.
    #[must_use]
    pub fn grows(&self) -> bool {
        matches!(self, Self::Put(_) | Self::Add(_) | Self::Append(_))
    }
}

/// A setting of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put<'a> {
    /// The value.
    pub value: &'a [u8],
    /// When to set it.
    pub condition: Condition,
    /// When the key is to expire.
    pub expiry: Expiry,
    /// What is answered.
    pub returns: Return,
}

/// When a value is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// When the key is missing.
    Absent,
    /// When the key is there.
    Present,
}

/// When a key that is set expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Never.
    Never,
    /// As it did before.
    Keep,
    /// At this many milliseconds since 1970.
    At(u64),
}

/// When an expiry is set on a key that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpireCondition {
    /// In any case.
    Always,
    /// When it has none.
    None,
    /// When it has one.
    Some,
    /// When the new one is later; none counts as for ever.
    Later,
    /// When the new one is earlier; none counts as for ever.
    Earlier,
    /// When it has one and the new one is later.
    SomeLater,
    /// When it has one and the new one is earlier.
    SomeEarlier,
}

/// What a setting answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// [`Response::Done`] or [`Response::Missing`].
    Outcome,
    /// The value before, or [`Response::Missing`].
    Old,
}

/// What a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response<'a> {
    /// There is no such key, or a condition did not hold.
    Missing,
    /// It was done.
    Done,
    /// A value and its expiry in milliseconds since 1970.
    Value(Cow<'a, [u8]>, Option<u64>),
    /// The key is there: its family if it is a collection, and its expiry in milliseconds since 1970.
    There(Option<Family>, Option<u64>),
    /// A number.
    Integer(i64),
    /// Nothing was done, for this reason.
    Refused(Refusal),
}

/// Why nothing was done. Certain: the request had no effect and will have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key is of another type.
    WrongType,
    /// The value is not a decimal 64-bit integer.
    NotAnInteger,
    /// The sum does not fit 64 bits.
    Overflow,
    /// The value would be longer than allowed.
    TooLong,
    /// The answer would be longer than what is answered at once.
    TooMuch,
    /// A collection has no room for what is asked: its field or member is too long, or its places are used up.
    TooWide,
    /// Memory is full, and tables do not take its content fast enough: try again.
    Busy,
    /// Files of this partition are damaged.
    Damaged(u32),
    /// What was asked for is older than the history that is kept.
    TooOld,
    /// What was asked for has not happened yet.
    InFuture,
    /// A block must be read first. Never seen by a client: the command is run anew.
    NotInMemory,
    /// The disk is full.
    DiskFull,
}

/// What an answer waits for before it may leave: `None` when nothing, else the index that must be
/// applied.
pub(crate) type Wait = Option<Index>;
