//! What nodes say before they know each other, and what they keep of it on disk: greetings, questions
//! and answers of the founding, rosters and promises. Any bytes are refused or mean what they say.
#![no_main]

use ashlar_fuzz::Choices;
use ashlar_io::wal::format::crc32c;
use ashlar_node::cluster::question::{Answer, Question};
use ashlar_node::cluster::{Roster, record};
use ashlar_node::peer::greeting::{Greeting, HEADER_BYTES};
use libfuzzer_sys::fuzz_target;

fn read_body(bytes: &[u8]) {
    if let Some(question) = Question::decode(bytes) {
        let again = Question::decode(&question.encode());
        assert_eq!(again.as_ref(), Some(&question));
    }
    if let Some(answer) = Answer::decode(bytes) {
        assert_eq!(Answer::decode(&answer.encode()).as_ref(), Some(&answer));
    }
    if let Some(roster) = Roster::decode(bytes) {
        assert_eq!(Roster::decode(&roster.encode()).as_ref(), Some(&roster));
    }
}

fn read_greeting(bytes: &[u8]) {
    let Ok(Some((greeting, length))) = Greeting::decode(bytes) else {
        return;
    };
    assert!((HEADER_BYTES..=bytes.len()).contains(&length));
    if let Greeting::Question(body) | Greeting::Answer(body) = &greeting {
        read_body(body);
    }
    if let Greeting::Refused(refusal) = &greeting {
        assert!(!refusal.text.contains('\n'));
    }
    let again = greeting.encode();
    let expected = Ok(Some((greeting, again.len())));
    assert_eq!(Greeting::decode(&again), expected);
}

/// Puts a right checksum before what follows the first eight bytes.
fn seal(bytes: &mut [u8], at: usize) {
    let crc = crc32c(&bytes[8..]);
    bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let kind = choices.byte() % 4;
    let mut bytes = choices.0.to_vec();
    match kind {
        0 => read_body(&bytes),
        1 => read_greeting(&bytes),
        2 if bytes.len() >= HEADER_BYTES => {
            bytes[..4].copy_from_slice(b"ASHG");
            let body_bytes = u16::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u16::MAX);
            bytes[10..12].copy_from_slice(&body_bytes.to_le_bytes());
            seal(&mut bytes, 4);
            read_greeting(&bytes);
        }
        _ if bytes.len() >= 8 => {
            seal(&mut bytes, 4);
            if let Ok(acceptor) = record::decode(&bytes) {
                assert!(
                    record::encode(&acceptor) == bytes,
                    "promises are kept as they were read"
                );
            }
        }
        _ => {}
    }
});
