//! The request decoder: bytes offered at once and bytes offered piece by piece are the same
//! requests, words survive a second encoding, and tight limits hold.
#![no_main]

use ashlar_fuzz::Choices;
use ashlar_node::resp::decode::{Decoded, Decoder, Limits, ProtocolError, Trust};
use ashlar_node::resp::encode::Encoder;
use ashlar_node::resp::{Spans, Version};
use libfuzzer_sys::fuzz_target;

/// How a stream of requests went: each request's words, and the error that ended it.
type History = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn limits(choices: &mut Choices<'_>) -> Limits {
    match choices.byte() % 3 {
        0 => Limits::authenticated(1 << 20),
        1 => Limits::UNAUTHENTICATED,
        _ => Limits {
            inline_bytes: 20,
            args_max: 3,
            bulk_bytes_max: 9,
            command_bytes_max: 60,
            trust: Trust::Authenticated,
        },
    }
}

/// Decodes a stream of which more and more arrives, as `cuts` says.
fn decode(limits: Limits, input: &[u8], mut cuts: impl FnMut() -> usize) -> History {
    let (mut decoder, mut spans) = (Decoder::new(limits), Spans::new());
    let (mut requests, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        match decoder.decode(&input[at..end], &mut spans) {
            Ok(Decoded::Command { consumed }) => {
                assert!(consumed > 0 && !spans.is_empty());
                let words = spans.words(&input[at..at + consumed]);
                requests.push(words.iter().map(<[u8]>::to_vec).collect());
                at += consumed;
            }
            Ok(Decoded::Empty { consumed }) => {
                assert!(consumed > 0);
                at += consumed;
            }
            Ok(Decoded::Partial { need }) => {
                assert!(need > end - at, "{need} bytes are there");
                if end == input.len() {
                    return (requests, None);
                }
                end = input.len().min(end + cuts().max(1));
            }
            Err(error) => {
                let mut reply = Vec::new();
                error.write_reply(&mut reply);
                // Who speaks another protocol gets no answer.
                let silent = error == ProtocolError::CrossProtocol && reply.is_empty();
                assert!(silent || reply.starts_with(b"-ERR ") && reply.ends_with(b"\r\n"));
                return (requests, Some(error));
            }
        }
    }
}

/// Encodes the words of each request as clients do, and decodes them again.
fn check_again(requests: &[Vec<Vec<u8>>]) {
    let mut bytes = Vec::new();
    for words in requests {
        let mut encoder = Encoder::new(&mut bytes, Version::Resp2);
        encoder.array(words.len());
        words.iter().for_each(|word| encoder.bulk(word));
    }
    let again = decode(Limits::authenticated(1 << 20), &bytes, || usize::MAX / 2);
    assert_eq!(again, (requests.to_vec(), None));
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let limits = limits(&mut choices);
    let mut cuts = Choices(choices.bytes(6));
    let pattern = cuts.clone();
    let input = choices.0;
    let whole = decode(limits, input, || input.len());
    let cut = decode(limits, input, || {
        if cuts.is_empty() {
            cuts = pattern.clone();
        }
        usize::from(cuts.byte())
    });
    assert_eq!(whole, cut);
    let bytes = decode(limits, input, || 1);
    assert_eq!(whole, bytes);
    check_again(&whole.0);
});
