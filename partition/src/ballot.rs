//! Ballots as bytes: what a replica has promised in elections, as the shard's log and its checkpoints
//! keep it. Not the rules of elections: those are in `ashlar_consensus`.
//!
//! ```text
//!  0  partition  u32
//!  4  version    u8   3; entries have 1 there, edits 2
//!  5  forgotten  u8   1 when an earlier ballot, or entries that were acknowledged, may be lost; else 0
//!  6  reserved   2 x u8
//!  8  term       u64  the highest term heard of
//! 16  vote       u64  the replica voted for in it; 0 for none
//! 24  committed  u64  an index that was committed when this was written
//! ```
//!
//! Invariants:
//! 1. A later ballot of a partition has a higher term, or the same and a vote where there was none.
//! 2. A ballot is durable before any message leaves that follows from it.
//! 3. A replica that has forgotten what it promised says so in every ballot until it has everything again.

use ashlar_consensus::{Index, PartitionId, Term};

use crate::lsm::Malformed;
use crate::lsm::edit::Fields;

/// Tells a ballot from other records, as the byte at offset 4.
pub const BALLOT_VERSION: u8 = 3;
/// Size of a ballot's record, in bytes.
pub const BALLOT_BYTES: usize = 32;

/// What a replica has promised, and an index that was committed by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BallotRecord {
    /// Whose replica it is.
    pub partition: PartitionId,
    /// The highest term heard of.
    pub term: Term,
    /// Number of the replica voted for in that term; 0 for none.
    pub vote: u64,
    /// Entries up to this one are committed.
    pub committed: Index,
    /// The replica may have promised more than it knows.
    pub has_forgotten: bool,
}

impl BallotRecord {
    /// Returns the ballot of a replica that has heard of no election.
    #[must_use]
    pub fn none(partition: PartitionId) -> Self {
        Self {
            partition,
            term: Term(0),
            vote: 0,
            committed: Index(0),
            has_forgotten: false,
        }
    }

    /// Says whether a record of the log is a ballot.
    #[must_use]
    pub fn is_ballot(record: &[u8]) -> bool {
        record.get(4) == Some(&BALLOT_VERSION)
    }

    /// Returns the record's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; BALLOT_BYTES] {
        let mut out = [0; BALLOT_BYTES];
        out[..4].copy_from_slice(&self.partition.0.to_le_bytes());
        out[4] = BALLOT_VERSION;
        out[5] = u8::from(self.has_forgotten);
        out[8..16].copy_from_slice(&self.term.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.vote.to_le_bytes());
        out[24..].copy_from_slice(&self.committed.0.to_le_bytes());
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// It is not a ballot; a sentence says why.
    pub fn decode(record: &[u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(record);
        let partition = PartitionId(fields.u32("partition")?);
        let version = fields.u8("version")?;
        let forgotten = fields.u8("forgotten")?;
        let reserved = fields.bytes(2, "reserved bytes")?;
        if version != BALLOT_VERSION || reserved != [0; 2] || forgotten > 1 {
            return Err(Malformed("not a ballot of this version".to_owned()));
        }
        let ballot = Self {
            partition,
            term: Term(fields.u64("term")?),
            vote: fields.u64("vote")?,
            committed: Index(fields.u64("committed index")?),
            has_forgotten: forgotten == 1,
        };
        if !fields.0.is_empty() {
            return Err(Malformed("bytes follow a ballot".to_owned()));
        }
        Ok(ballot)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ballot_is_read_as_it_was_written(numbers: [u64; 3], partition: u32, has_forgotten: bool) {
            let [term, vote, committed] = numbers;
            let ballot = BallotRecord {
                partition: PartitionId(partition),
                term: Term(term),
                vote,
                committed: Index(committed),
                has_forgotten,
            };
            let bytes = ballot.encode();
            prop_assert!(BallotRecord::is_ballot(&bytes));
            prop_assert_eq!(BallotRecord::decode(&bytes), Ok(ballot));
            prop_assert!(BallotRecord::decode(&bytes[..BALLOT_BYTES - 1]).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = BallotRecord::decode(&bytes);
        }
    }
}
