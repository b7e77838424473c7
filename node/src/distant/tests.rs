//! What nodes send each other comes back as it went, and no bytes do harm.

use proptest::collection::vec;
use proptest::prelude::*;

use ashlar_partition::Refusal;

use super::refusals::REFUSALS;
use super::*;

fn walk() -> Walk {
    Walk {
        keys: (
            Bound::Included(b"\0a".to_vec()),
            Bound::Excluded(b"\0z".to_vec()),
        ),
        order: Order::Descending,
        part: Part::Value,
        at: Some(Timestamp(77)),
        keys_max: 10,
        bytes_max: usize::MAX,
    }
}

fn token() -> OwnedToken {
    OwnedToken {
        session: b"0123456789abcdef".to_vec(),
        sequence: 77,
    }
}

fn found(family: Option<Family>) -> Found {
    Found {
        key: b"k".to_vec(),
        value: b"v".to_vec(),
        family,
    }
}

#[test]
fn questions_and_answers_come_back_as_they_went() {
    let questions = [
        Question::Count { database: 3 },
        Question::Clear { database: None },
        Question::Clear { database: Some(2) },
        Question::DeleteRange {
            start: b"a".to_vec(),
            end: b"b".to_vec(),
        },
        Question::Scan(walk()),
        Question::Random {
            database: 1,
            seed: 9,
        },
        Question::HandOver { to: NodeId(3) },
        Question::Stamp {
            key: b"\0k".to_vec(),
        },
        Question::Timestamp,
        Question::Swap {
            key: b"k".to_vec(),
            from: Vec::new(),
            to: b"v".to_vec(),
        },
        Question::Once(
            Once {
                token: token(),
                print: 9,
            },
            Box::new(Question::Clear { database: Some(2) }),
        ),
    ];
    for question in questions {
        let mut bytes = Vec::new();
        encode_question(&question, Ticket(5), &mut bytes);
        let (ticket, back) = decode_question(&bytes).unwrap();
        assert_eq!(
            (ticket, format!("{back:?}")),
            (Ticket(5), format!("{question:?}"))
        );
    }
    let mut answers = vec![
        Answer::Nothing,
        Answer::Count(7),
        Answer::Done,
        Answer::Refused(Refusal::Damaged(4)),
        Answer::Failed("IOERR it".to_owned()),
        Answer::Entries(vec![found(None), found(Some(Family::List))], Some(walk())),
        Answer::Entries(Vec::new(), None),
        Answer::Key(None),
        Answer::Key(Some(b"k".to_vec())),
        Answer::Timestamp(Timestamp(7)),
        Answer::Value(b"v".to_vec()),
        Answer::Stamp(Stamp {
            timestamp: 9,
            is_there: true,
        }),
    ];
    answers.extend(REFUSALS.map(Answer::Refused));
    for answer in answers {
        let mut bytes = Vec::new();
        encode_answer(&answer, &mut bytes);
        assert_eq!(decode_answer(&bytes), Some(answer));
    }
}

#[test]
fn a_command_comes_back_as_it_went() {
    let forward = Forward {
        from: Origin::Shard(0),
        connection: 9,
        ticket: Ticket(1),
        partition: 2,
        command: table::find(b"SET").unwrap(),
        words: OwnedWords::of(&[b"SET", b"k", b""]),
        database: 4,
        version: Version::Resp3,
        token: Some(Box::new(token())),
        lost: None,
        place: None,
        ended: None,
    };
    let mut bytes = Vec::new();
    encode_forward(&forward, Ticket(11), &mut bytes);
    let back = decode_forward(Origin::Shard(1), 2, &bytes).unwrap();
    assert_eq!(
        (back.ticket, back.connection, back.database),
        (Ticket(11), 9, 4)
    );
    assert_eq!((back.version, back.partition), (Version::Resp3, 2));
    assert_eq!(back.token.as_deref(), Some(&token()));
    let words: Vec<_> = back.words.as_words().iter().map(<[u8]>::to_vec).collect();
    assert_eq!(words, [&b"SET"[..], b"k", b""]);
    for cut in 0..bytes.len() {
        assert!(decode_forward(Origin::Shard(1), 2, &bytes[..cut]).is_none());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode_forward(Origin::Shard(0), 0, &bytes);
        let _ = decode_replied(&bytes);
        let _ = decode_question(&bytes);
        let _ = decode_answer(&bytes);
    }
}
