//! Tests of the bytes of messages: they come back, and nothing else is let in.

use proptest::prelude::*;

use super::*;
use crate::membership::Member;
use crate::types::NodeId;

fn position(seed: u64) -> LogPosition {
    LogPosition {
        term: Term(seed % 5),
        index: Index(seed / 5 % 1_000),
    }
}

fn membership() -> Membership {
    let member = |id| Member {
        replica: ReplicaId(id),
        node: NodeId(id + 10),
    };
    Membership::of(&[member(1), member(2), member(3)])
}

/// Returns a message without entries of each kind.
fn signals(n: u64) -> Vec<Signal> {
    let term = Term(n);
    let round = if n.is_multiple_of(2) {
        Round::Pre
    } else {
        Round::Real
    };
    let outcome = match n % 3 {
        0 => Outcome::Matched { index: Index(n) },
        _ => Outcome::Rejected {
            prev: Index(n + 1),
            hint: position(n),
        },
    };
    vec![
        Signal::AppendReply(AppendReply {
            term,
            outcome,
            probe: n,
            commit: Index(n / 2),
            epoch: SupportEpoch(n * 3),
        }),
        Signal::Vote(Vote {
            round,
            term,
            last: position(n),
            transfer: n.is_multiple_of(2),
        }),
        Signal::VoteReply(VoteReply {
            round,
            asked: term,
            term: Term(n + 1),
            granted: n % 2 == 1,
            fortified_to: (n.is_multiple_of(3)).then_some(ReplicaId(n)),
        }),
        Signal::TimeoutNow { term },
        Signal::Resigned { term },
        Signal::LeadingQuery { term },
        Signal::Snapshot(Box::new(Offer {
            term,
            at: position(n),
            chain: Chain(n),
            membership: membership(),
        })),
        Signal::SnapshotReply {
            term,
            index: Index(n),
            accepted: n.is_multiple_of(2),
        },
        Signal::Forgot { term, life: n },
        Signal::Remember {
            at: position(n),
            life: n + 1,
        },
    ]
}

/// Returns the bytes of an append with entries of the kinds in `kinds`, and their metas.
fn append(kinds: &[u8], n: u64) -> (Vec<u8>, Append, Vec<EntryMeta>) {
    let head = Append {
        term: Term(n + 9),
        prev: LogPosition {
            term: Term(n),
            index: Index(n),
        },
        prev_chain: (n.is_multiple_of(2)).then_some(Chain(n)),
        commit: Index(n),
        probe: n,
    };
    let (mut bytes, mut metas, mut inner) = (Vec::new(), Vec::new(), Vec::new());
    membership().encode(&mut inner);
    let count = u32::try_from(kinds.len()).unwrap();
    encode_head(&Outgoing::Append { head, count }, &mut bytes);
    for (at, kind) in kinds.iter().enumerate() {
        let (kind, inner) = match kind {
            0 => (EntryKind::Commands, &[][..]),
            1 => (EntryKind::Empty, &[][..]),
            _ => (EntryKind::Membership, &inner[..]),
        };
        let meta = EntryMeta {
            term: Term(n + at as u64 / 3),
            bytes: 7 * u32::try_from(at).unwrap(),
            chain: Chain(at as u64),
            kind,
        };
        encode_meta(&meta, inner, &mut bytes);
        metas.push(meta);
    }
    (bytes, head, metas)
}

#[test]
fn metas_whose_terms_go_back_or_beyond_the_leader_are_refused() {
    let (bytes, head, _) = append(&[0, 0], 5);
    assert!(decode(&bytes).is_ok());
    let first = bytes.len() - 2 * 21;
    for term in [head.prev.term.0 - 1, head.term.0 + 1] {
        let mut bytes = bytes.clone();
        bytes[first..first + 8].copy_from_slice(&term.to_le_bytes());
        assert_eq!(decode(&bytes), Err(Malformed("term of an entry")));
    }
}

#[test]
fn a_count_that_is_not_there_allocates_nothing() {
    let (mut bytes, ..) = append(&[], 4);
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&ENTRIES_MAX.to_le_bytes());
    assert_eq!(decode(&bytes), Err(Malformed("length")));
    bytes[at..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&bytes), Err(Malformed("append")));
}

proptest! {
    #[test]
    fn signals_come_back(n in 0..1_u64 << 40) {
        for signal in signals(n) {
            let mut bytes = Vec::new();
            encode_head(&Outgoing::Signal(signal.clone()), &mut bytes);
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut]).is_err());
            }
            bytes.push(77);
            let (found, rest) = decode(&bytes).unwrap();
            prop_assert_eq!(found, Message::Signal(signal));
            prop_assert_eq!(rest, &[77][..]);
        }
    }

    #[test]
    fn appends_come_back(kinds in proptest::collection::vec(0..3_u8, 0..20), n in 0..1_u64 << 40) {
        let (mut bytes, head, metas) = append(&kinds, n);
        for cut in 0..bytes.len() {
            prop_assert!(decode(&bytes[..cut]).is_err());
        }
        bytes.extend_from_slice(b"payloads");
        let (found, rest) = decode(&bytes).unwrap();
        let Message::Append(found, entries) = found else { panic!("another message") };
        prop_assert_eq!(rest, &b"payloads"[..]);
        prop_assert_eq!(found, head);
        prop_assert_eq!(entries.count() as usize, metas.len());
        let payloads: u64 = metas.iter().map(|meta| u64::from(meta.bytes)).sum();
        prop_assert_eq!(entries.payload_bytes(), payloads);
        for ((found, inner), meta) in entries.iter().zip(metas) {
            prop_assert_eq!(found, meta);
            let decoded = inner.map(|bytes| Membership::decode(bytes).unwrap());
            let expected = (meta.kind == EntryKind::Membership).then(membership);
            prop_assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn no_bytes_break_the_decoder(kind in 0..14_u8, mut bytes in proptest::collection::vec(0..3_u8, 0..300)) {
        bytes.insert(0, kind);
        if let Ok((Message::Append(_, metas), _)) = decode(&bytes) {
            prop_assert_eq!(metas.iter().count(), metas.count() as usize);
        }
    }
}
