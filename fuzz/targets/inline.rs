//! Inline requests: every word of a line, written again with quotes and escapes, is the same word.
#![no_main]

use ashlar_node::resp::Spans;
use ashlar_node::resp::decode::{Decoded, Decoder, Limits};
use libfuzzer_sys::fuzz_target;

fn decode(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut spans = Spans::new();
    let decoded = Decoder::new(Limits::authenticated(1 << 20)).decode(line, &mut spans);
    match decoded {
        Ok(Decoded::Command { consumed }) => {
            let words = spans.words(&line[..consumed]);
            Some(words.iter().map(<[u8]>::to_vec).collect())
        }
        Ok(Decoded::Empty { .. }) => Some(Vec::new()),
        Ok(Decoded::Partial { .. }) => panic!("a line with an end is whole"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

/// Writes a word in double quotes, every byte as an escape.
fn quote(word: &[u8]) -> String {
    let escapes = word.iter().map(|byte| format!("\\x{byte:02x}"));
    format!("\"{}\"", escapes.collect::<String>())
}

fuzz_target!(|data: &[u8]| {
    // The first byte tells the two forms apart; the line's end must be the last byte.
    let line: Vec<u8> = data
        .iter()
        .copied()
        .filter(|byte| *byte != b'\n')
        .take(8000)
        .collect();
    if matches!(line.first(), Some(b'*' | 0x16)) {
        return;
    }
    let Some(words) = decode(&[&line[..], b"\n"].concat()) else {
        return;
    };
    // A carriage return before the end belongs to the end.
    if line.last() != Some(&b'\r') {
        assert_eq!(
            decode(&[&line[..], b"\r\n"].concat()).as_ref(),
            Some(&words)
        );
    }
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    let again = decode(format!("{}\r\n", quoted.join(" \t ")).as_bytes());
    assert_eq!(again, Some(words));
});
