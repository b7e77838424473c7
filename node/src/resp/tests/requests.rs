//! Tests of the decoder on single requests, good and hostile, and of the limits.

use super::super::{OwnedWords, SPANS_KEPT_MAX, UNQUOTED_KEPT_BYTES_MAX};
use super::*;

#[test]
fn a_multibulk_request_is_its_words() {
    let input = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n\0\xff\r\nrest";
    let (mut decoder, mut words) = (Decoder::new(LIMITS), Spans::new());
    let consumed = input.len() - 4;
    assert_eq!(
        decoder.decode(input, &mut words),
        Ok(Decoded::Command { consumed })
    );
    let words = words.words(input);
    assert_eq!(words.len(), 3);
    assert_eq!(
        (&words[0], &words[1], &words[2]),
        (&b"SET"[..], &b""[..], &b"\r\n\0\xff"[..])
    );
    assert_eq!(words.get(3), None);
    assert_eq!(words.tail(2).iter().collect::<Vec<_>>(), [b"\r\n\0\xff"]);
    assert!(words.tail(4).is_empty());
}

#[test]
fn owned_words_outlive_the_input_and_cross_threads() {
    fn assert_sendable<T: Send + 'static>(value: T) -> T {
        value
    }
    for input in [&b"*2\r\n$1\r\na\r\n$3\r\nbcd\r\n"[..], b"a \"bcd\"\r\n"] {
        let mut words = Spans::new();
        Decoder::new(LIMITS).decode(input, &mut words).unwrap();
        let owned: OwnedWords = assert_sendable(words.words(input).to_owned());
        words.clear();
        assert_eq!(
            owned.as_words().iter().collect::<Vec<_>>(),
            [&b"a"[..], b"bcd"]
        );
        assert_eq!(owned.heap_bytes(), 4 + 2 * 8);
    }
}

#[test]
fn inline_words_are_split_and_unquoted_like_redis_does() {
    let cases: [(&[u8], &[&[u8]]); 15] = [
        (b"PING\r\n", &[b"PING"]),
        (b"PING\n", &[b"PING"]),
        (b"  a\t b \x0b\r\n", &[b"a", b"b"]),
        (b"a\x0bb c\rd\r\n", &[b"a\x0bb", b"c", b"d"]),
        (b"\"a b\" 'c d'\r\n", &[b"a b", b"c d"]),
        (b"\"\" ''\r\n", &[b"", b""]),
        (b"a\"b c\" d'e f'\r\n", &[b"ab c", b"de f"]),
        (
            b"\"\\n\\r\\t\\b\\a\\q\\\"\\\\\"\r\n",
            &[b"\n\r\t\x08\x07q\"\\"],
        ),
        (b"\"\\x41\\xfF\\x4\\xzz\"\r\n", &[b"A\xffx4xzz"]),
        (b"'\\n\\'\"'\r\n", &[b"\\n'\""]),
        (b"a\\ b\r\n", &[b"a\\", b"b"]),
        (b"\"a\"\x0b\"b\"\r\n", &[b"a", b"b"]),
        (b"\xc3\x28 \0\r\n", &[b"\xc3\x28", b"\0"]),
        (
            b"%1 ~2 |3 (4 #t ,1 =1 >1 $3\r\n",
            &[
                b"%1", b"~2", b"|3", b"(4", b"#t", b",1", b"=1", b">1", b"$3",
            ],
        ),
        (b"GET / HTTP/1.1\r\n", &[b"GET", b"/", b"HTTP/1.1"]),
    ];
    for (input, expected) in cases {
        assert_eq!(
            commands_of(input),
            [command(expected)],
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn unbalanced_quotes_are_refused() {
    let cases: [&[u8]; 8] = [
        b"\"\r\n",
        b"'\r\n",
        b"a \"b\n",
        b"a 'b\\'\r\n",
        b"\"a\\\"\r\n",
        b"\"a\"b\r\n",
        b"'a'b\r\n",
        b"\"a\"\"b\"\r\n",
    ];
    for input in cases {
        assert_eq!(
            error_of(input),
            ProtocolError::UnbalancedQuotes,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn requests_without_words_are_skipped_silently() {
    let mut flood = b"\r\n".repeat(10_000);
    flood.extend_from_slice(b"\n \r\n*0\r\n*-1\r\n*-10\r\n*-9223372036854775808\r\nPING\r\n");
    assert_eq!(commands_of(&flood), [command(&[b"PING"])]);
}

#[test]
fn broken_counts_and_lengths_are_refused() {
    let counts: [&[u8]; 13] = [
        b"*\r\n",
        b"*+1\r\n",
        b"*01\r\n",
        b"*00\r\n",
        b"*-0\r\n",
        b"*1x\r\n",
        b"* 1\r\n",
        b"*a\r\n",
        b"*3000000000\r\n",
        b"*9223372036854775808\r\n",
        b"*1048577\r\n",
        b"*1\r$",
        b"*1\n\r\n",
    ];
    for input in counts {
        assert_eq!(
            error_of(input),
            ProtocolError::InvalidCount,
            "{}",
            input.escape_ascii()
        );
    }
    let lengths: [&[u8]; 12] = [
        b"$\r\n",
        b"$-1\r\n",
        b"$-10\r\n",
        b"$+1\r\n",
        b"$01\r\n",
        b"$1x\r\n",
        b"$blabla\r\n",
        b"$2000000000\r\n",
        b"$67108865\r\n",
        b"$9223372036854775808\r\n",
        b"$1\rx",
        b"$1\n\r\n",
    ];
    for line in lengths {
        let input = [b"*1\r\n", line].concat();
        assert_eq!(
            error_of(&input),
            ProtocolError::InvalidLength,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn words_must_begin_with_a_dollar_and_end_with_a_line_end() {
    assert_eq!(error_of(b"*1\r\nfoo"), ProtocolError::ExpectedBulk(b'f'));
    assert_eq!(
        error_of(b"*2\r\n$1\r\na\r\n\r\n"),
        ProtocolError::ExpectedBulk(b'\r')
    );
    for input in [
        &b"*1\r\n$3\r\nabcd\r"[..],
        b"*1\r\n$3\r\nabc\n\n",
        b"*1\r\n$0\r\n\r\r",
    ] {
        assert_eq!(
            error_of(input),
            ProtocolError::UnterminatedBulk,
            "{}",
            input.escape_ascii()
        );
    }
}

#[test]
fn lines_without_end_are_refused_at_their_limit() {
    let limit = LIMITS.inline_bytes as usize;
    let cases: [(&[u8], ProtocolError); 7] = [
        (b"A", ProtocolError::InlineTooBig),
        (b"\0", ProtocolError::InlineTooBig),
        (b"$\0", ProtocolError::InlineTooBig),
        (b"*1", ProtocolError::CountLineTooBig),
        (b"*\0", ProtocolError::CountLineTooBig),
        (b"*1\r\n$1", ProtocolError::LengthLineTooBig),
        (b"*1\r\n$\0", ProtocolError::LengthLineTooBig),
    ];
    for (head, error) in cases {
        let before_line = if head.len() > 4 { 4 } else { 0 };
        let longest = followed_by(head, b'1', before_line + limit - head.len());
        assert_eq!(
            whole(LIMITS, &longest).end,
            Ok(longest.len()),
            "{}",
            head.escape_ascii()
        );
        assert_eq!(
            error_of(&followed_by(&longest, b'1', 1)),
            error,
            "{}",
            head.escape_ascii()
        );
        assert_eq!(
            in_chunks(LIMITS, &followed_by(&longest, b'1', 9), 7).end,
            Err(error)
        );
    }
}

#[test]
fn error_replies_are_those_of_redis() {
    let cases: [(ProtocolError, &[u8]); 11] = [
        (
            ProtocolError::InvalidCount,
            b"-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            ProtocolError::InvalidLength,
            b"-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            ProtocolError::ExpectedBulk(b'x'),
            b"-ERR Protocol error: expected '$', got 'x'\r\n",
        ),
        (
            ProtocolError::ExpectedBulk(b'\n'),
            b"-ERR Protocol error: expected '$', got ' '\r\n",
        ),
        (
            ProtocolError::ExpectedBulk(0xff),
            b"-ERR Protocol error: expected '$', got '\xff'\r\n",
        ),
        (
            ProtocolError::CountLineTooBig,
            b"-ERR Protocol error: too big mbulk count string\r\n",
        ),
        (
            ProtocolError::LengthLineTooBig,
            b"-ERR Protocol error: too big bulk count string\r\n",
        ),
        (
            ProtocolError::InlineTooBig,
            b"-ERR Protocol error: too big inline request\r\n",
        ),
        (
            ProtocolError::UnbalancedQuotes,
            b"-ERR Protocol error: unbalanced quotes in request\r\n",
        ),
        (
            ProtocolError::UnauthenticatedCount,
            b"-ERR Protocol error: unauthenticated multibulk length\r\n",
        ),
        (
            ProtocolError::UnauthenticatedLength,
            b"-ERR Protocol error: unauthenticated bulk length\r\n",
        ),
    ];
    for (error, expected) in cases {
        assert_eq!(reply_of(error), expected, "{error}");
    }
}

#[test]
fn browsers_and_tls_clients_get_no_reply() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for input in [
        &b"POST / HTTP/1.1\r\n"[..],
        b"Host: x\r\n",
        b"hOST: x\r\n",
        b"post\n",
        hello,
    ] {
        let error = error_of(input);
        assert_eq!(
            error,
            ProtocolError::CrossProtocol,
            "{}",
            input.escape_ascii()
        );
        assert_eq!(reply_of(error), b"");
    }
}

#[test]
fn strangers_may_send_little() {
    let error_of = |input: &[u8]| whole(Limits::UNAUTHENTICATED, input).end.unwrap_err();
    assert_eq!(error_of(b"*11\r\n"), ProtocolError::UnauthenticatedCount);
    assert_eq!(error_of(b"*3000000000\r\n"), ProtocolError::InvalidCount);
    assert_eq!(
        error_of(b"*1\r\n$16385\r\n"),
        ProtocolError::UnauthenticatedLength
    );
    assert_eq!(error_of(b"*1\r\n$-1\r\n"), ProtocolError::InvalidLength);
    assert_eq!(
        error_of(b"*1\r\n$2000000000\r\n"),
        ProtocolError::InvalidLength
    );
    let words = vec![vec![b'a'; 16 << 10]; 4];
    assert_eq!(
        error_of(&request(&words)),
        ProtocolError::UnauthenticatedLength
    );
    let fits = whole(Limits::UNAUTHENTICATED, &request(&words[..3]));
    assert_eq!(fits.commands, [words[..3].to_vec()]);
}

#[test]
fn a_request_above_its_limit_is_refused_before_its_bytes_come() {
    let limits = Limits {
        command_bytes_max: 100,
        ..LIMITS
    };
    let fits = request(&[vec![b'a'; 100 - 4 - 5 - 2]]);
    assert_eq!(fits.len(), 100);
    assert_eq!(whole(limits, &fits).end, Ok(0));
    assert_eq!(
        whole(limits, b"*1\r\n$90\r\n").end,
        Err(ProtocolError::CommandTooBig)
    );
}

#[test]
fn declared_sizes_allocate_nothing() {
    let mut words = Spans::new();
    let mut decoder = Decoder::new(LIMITS);
    let silent = b"*1048576\r\n$67108864\r\n";
    let need = silent.len() + (64 << 20) + 2;
    assert_eq!(
        decoder.decode(silent, &mut words),
        Ok(Decoded::Partial { need })
    );
    assert_eq!(words.spans.capacity(), 0);
}

#[test]
fn a_large_request_does_not_pin_its_memory() {
    let mut words = Spans::new();
    let mut decoder = Decoder::new(LIMITS);
    decoder
        .decode(&request(&vec![vec![]; 100_000]), &mut words)
        .unwrap();
    assert_eq!(words.len(), 100_000);
    let long_line = followed_by(&b"a ".repeat(9_000), b'\n', 1);
    decoder.decode(&long_line, &mut words).unwrap();
    assert_eq!(words.len(), 9_000);
    decoder.decode(b"PING\n", &mut words).unwrap();
    assert!(words.spans.capacity() <= 2 * SPANS_KEPT_MAX);
    assert!(words.unquoted.capacity() <= 2 * UNQUOTED_KEPT_BYTES_MAX);
}

#[test]
fn a_reset_decoder_forgets_the_partial_request() {
    let (mut decoder, mut words) = (Decoder::new(LIMITS), Spans::new());
    decoder.decode(b"*2\r\n$1\r\na\r\n", &mut words).unwrap();
    decoder.reset();
    assert_eq!(
        decoder.decode(b"PING\n", &mut words),
        Ok(Decoded::Command { consumed: 5 })
    );
    assert_eq!(words.word(b"PING\n", 0), b"PING");
}
