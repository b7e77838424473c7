//! Tests of the decoder on streams: long ones, mutated ones, and the same ones cut differently.
//! Single requests are in `requests`, single replies in `replies`.

mod replies;
mod requests;

use proptest::prelude::*;

use super::decode::{Decoded, Decoder, Limits, ProtocolError};
use super::encode::Encoder;
use super::{Spans, Version};

type Command = Vec<Vec<u8>>;

const LIMITS: Limits = Limits::authenticated(64 << 20);

/// What a byte stream amounts to: its commands, then an error, or the bytes that are left over.
#[derive(Debug, PartialEq)]
struct Outcome {
    commands: Vec<Command>,
    end: Result<usize, ProtocolError>,
}

/// A connection's receive side: keeps what was not consumed and offers it again.
struct Feed {
    decoder: Decoder,
    words: Spans,
    carry: Vec<u8>,
    commands: Vec<Command>,
    failed: Option<ProtocolError>,
}

impl Feed {
    fn new(limits: Limits) -> Self {
        Self {
            decoder: Decoder::new(limits),
            words: Spans::new(),
            carry: Vec::new(),
            commands: Vec::new(),
            failed: None,
        }
    }

    fn receive(&mut self, chunk: &[u8]) {
        self.carry.extend_from_slice(chunk);
        let mut at = 0;
        while self.failed.is_none() {
            match self.decoder.decode(&self.carry[at..], &mut self.words) {
                Ok(Decoded::Command { consumed }) => {
                    assert!(consumed > 0 && at + consumed <= self.carry.len());
                    let words = self.words.words(&self.carry[at..]);
                    self.commands
                        .push(words.iter().map(<[u8]>::to_vec).collect());
                    at += consumed;
                }
                Ok(Decoded::Empty { consumed }) => {
                    assert!(consumed > 0 && at + consumed <= self.carry.len());
                    at += consumed;
                }
                Ok(Decoded::Partial { need }) => {
                    assert!(
                        need > self.carry.len() - at,
                        "a partial request must need more"
                    );
                    break;
                }
                Err(error) => self.failed = Some(error),
            }
        }
        self.carry.drain(..at);
    }

    fn outcome(self) -> Outcome {
        let end = self.failed.map_or(Ok(self.carry.len()), Err);
        Outcome {
            commands: self.commands,
            end,
        }
    }
}

fn whole(limits: Limits, input: &[u8]) -> Outcome {
    let mut feed = Feed::new(limits);
    feed.receive(input);
    feed.outcome()
}

fn in_chunks(limits: Limits, input: &[u8], chunk_bytes: usize) -> Outcome {
    let mut feed = Feed::new(limits);
    input
        .chunks(chunk_bytes)
        .for_each(|chunk| feed.receive(chunk));
    feed.outcome()
}

fn error_of(input: &[u8]) -> ProtocolError {
    let outcome = whole(LIMITS, input);
    outcome
        .end
        .expect_err(&input[..input.len().min(60)].escape_ascii().to_string())
}

fn reply_of(error: ProtocolError) -> Vec<u8> {
    let mut out = Vec::new();
    error.write_reply(&mut out);
    out
}

fn commands_of(input: &[u8]) -> Vec<Command> {
    let outcome = whole(LIMITS, input);
    assert_eq!(outcome.end, Ok(0), "{}", input.escape_ascii());
    outcome.commands
}

fn command(words: &[&[u8]]) -> Command {
    words.iter().map(|word| word.to_vec()).collect()
}

fn request(words: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::new(&mut out, Version::Resp2);
    encoder.array(words.len());
    words.iter().for_each(|word| encoder.bulk(word));
    out
}

fn followed_by(head: &[u8], filler: u8, len: usize) -> Vec<u8> {
    [head, &vec![filler; len]].concat()
}

#[test]
fn a_long_pipeline_arrives_whole() {
    let one = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let outcome = in_chunks(LIMITS, &one.repeat(100_000), 4096);
    assert_eq!(outcome.commands.len(), 100_000);
    assert!(
        outcome
            .commands
            .iter()
            .all(|words| words == &command(&[b"SET", b"k", b"v"]))
    );
    assert_eq!(outcome.end, Ok(0));
}

/// With rescans this test would touch 128 GiB of memory and not end.
#[test]
fn a_large_value_in_small_chunks_costs_linear_time() {
    let value = vec![b'v'; 64 << 20];
    let input = request(&[b"SET".to_vec(), b"k".to_vec(), value]);
    let (mut decoder, mut words) = (Decoder::new(LIMITS), Spans::new());
    for end in (0..input.len()).step_by(16 << 10) {
        let decoded = decoder.decode(&input[..end], &mut words).unwrap();
        assert!(matches!(decoded, Decoded::Partial { need } if need > end));
    }
    let consumed = input.len();
    assert_eq!(
        decoder.decode(&input, &mut words),
        Ok(Decoded::Command { consumed })
    );
    assert_eq!(words.word(&input, 2).len(), 64 << 20);
}

/// Likewise: a million words, and the longest inline request, one byte per read.
#[test]
fn many_words_in_small_chunks_cost_linear_time() {
    let words = vec![b"x".to_vec(); 200_000];
    let input = request(&words);
    let (mut decoder, mut spans) = (Decoder::new(LIMITS), Spans::new());
    for end in 0..input.len() {
        let decoded = decoder.decode(&input[..end], &mut spans);
        assert!(matches!(decoded, Ok(Decoded::Partial { .. })));
    }
    decoder.decode(&input, &mut spans).unwrap();
    assert_eq!(spans.len(), 200_000);

    let line = followed_by(&vec![b'a'; 65_535], b'\n', 1);
    for end in 0..line.len() {
        let decoded = decoder.decode(&line[..end], &mut spans);
        assert!(matches!(decoded, Ok(Decoded::Partial { .. })));
    }
    decoder.decode(&line, &mut spans).unwrap();
    assert_eq!(spans.len(), 1);
}

const SEEDS: [&[u8]; 10] = [
    b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
    b"*1\r\n$4\r\nPING\r\nPING\r\n\r\n*0\r\n*-1\r\n*1\r\n$0\r\n\r\n",
    b"SET \"a\\x41\\n b\" 'c\\'d' e\r\nGET x\n",
    b"*2\r\n$1\r\n\r\r\n$2\r\n\r\n\r\n",
    b"*10\r\n$1\r\n",
    b"*1048576\r\n$67108864\r\nabc",
    b"*1\r\n$9223372036854775807\r\n",
    b"*-9223372036854775808\r\n*000000000001\r\n",
    b"*1\r\n$00000000000000000003\r\nabc\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\n",
];

/// Xorshift: reproducible, and good enough to mutate bytes.
fn next_random(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    usize::try_from(*state >> 16).unwrap()
}

fn mutate(input: &mut Vec<u8>, random: &mut u64) {
    const PIECES: [&[u8]; 12] = [
        b"\r\n",
        b"\r",
        b"\n",
        b"*",
        b"$",
        b"-",
        b"0",
        b"9999999999",
        b"\0",
        b"\"",
        b"'",
        b"\\x",
    ];
    let at = next_random(random) % (input.len() + 1);
    match next_random(random) % 4 {
        0 => input.truncate(at),
        1 if at < input.len() => input[at] = next_random(random).to_le_bytes()[0],
        2 if at < input.len() => drop(input.remove(at)),
        _ => {
            let piece = PIECES[next_random(random) % PIECES.len()];
            input.splice(at..at, piece.iter().copied());
        }
    }
}

#[test]
fn mutated_requests_never_panic_and_decode_alike_however_cut() {
    let mut random = 0x9e37_79b9_7f4a_7c15;
    for round in 0..200_000 {
        let mut input = SEEDS[round % SEEDS.len()].to_vec();
        for _ in 0..=next_random(&mut random) % 6 {
            mutate(&mut input, &mut random);
        }
        let chunk_bytes = 1 + next_random(&mut random) % 8;
        let expected = whole(LIMITS, &input);
        assert_eq!(
            in_chunks(LIMITS, &input, chunk_bytes),
            expected,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn two_requests_decode_alike_at_every_cut() {
    for input in SEEDS {
        let expected = whole(LIMITS, input);
        for cut in 0..=input.len() {
            let mut feed = Feed::new(LIMITS);
            feed.receive(&input[..cut]);
            feed.receive(&input[cut..]);
            assert_eq!(
                feed.outcome(),
                expected,
                "{} at {cut}",
                input.escape_ascii()
            );
        }
    }
}

fn any_command() -> impl Strategy<Value = Command> {
    let word = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(any::<u8>(), 90..110),
        Just(vec![b'\r'; 1001]),
    ];
    prop::collection::vec(word, 1..6)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
        let expected = whole(LIMITS, &input);
        prop_assert_eq!(&in_chunks(LIMITS, &input, 1), &expected);
        prop_assert_eq!(in_chunks(Limits::UNAUTHENTICATED, &input, 3).end.is_err(),
            whole(Limits::UNAUTHENTICATED, &input).end.is_err());
    }

    #[test]
    fn arbitrary_protocol_like_text_decodes_alike_however_cut(
        input in "([*$][-+]?[0-9]{0,11}\r\n|[*$][0-3]\r\n|[a-c\"'\\\\x \r\n]{0,5}|\r\n){0,12}",
        cuts in prop::collection::vec(1_usize..9, 1..20),
    ) {
        let input = input.as_bytes();
        let mut feed = Feed::new(LIMITS);
        let mut rest = input;
        for cut in cuts.iter().cycle() {
            let (chunk, tail) = rest.split_at(rest.len().min(*cut));
            feed.receive(chunk);
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(feed.outcome(), whole(LIMITS, input));
    }

    #[test]
    fn encoded_commands_decode_to_themselves_however_cut(
        commands in prop::collection::vec(any_command(), 0..6),
        chunk_bytes in 1_usize..300,
    ) {
        let input: Vec<u8> = commands.iter().flat_map(|words| request(words)).collect();
        let outcome = in_chunks(LIMITS, &input, chunk_bytes);
        prop_assert_eq!(outcome, Outcome { commands, end: Ok(0) });
    }

    #[test]
    fn fully_escaped_inline_words_are_themselves(words in any_command()) {
        let escape = |word: &Vec<u8>| {
            let hex: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{hex}\"")
        };
        let line = words.iter().map(escape).collect::<Vec<_>>().join(" ") + "\r\n";
        let posts = words[0].eq_ignore_ascii_case(b"post") || words[0].eq_ignore_ascii_case(b"host:");
        prop_assume!(!posts);
        prop_assert_eq!(commands_of(line.as_bytes()), [words]);
    }
}
