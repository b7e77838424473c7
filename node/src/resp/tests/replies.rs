//! Tests of the encoder.

use super::super::encode::EXCERPT_BYTES_MAX;
use super::*;

fn encoded(version: Version, write: impl Fn(&mut Encoder<'_>)) -> String {
    let mut out = Vec::new();
    write(&mut Encoder::new(&mut out, version));
    out.escape_ascii().to_string().replace("\\r\\n", "|")
}

#[test]
fn every_reply_type_has_its_form_in_both_versions() {
    type Write = fn(&mut Encoder<'_>);
    let cases: [(Write, &str, &str); 19] = [
        (|e| e.ok(), "+OK|", "+OK|"),
        (|e| e.simple(b"PONG"), "+PONG|", "+PONG|"),
        (|e| e.error(b"ERR no"), "-ERR no|", "-ERR no|"),
        (
            |e| e.integer(i64::MIN),
            ":-9223372036854775808|",
            ":-9223372036854775808|",
        ),
        (|e| e.bulk(b""), "$0||", "$0||"),
        (
            |e| e.bulk(b"0123456789"),
            "$10|0123456789|",
            "$10|0123456789|",
        ),
        (|e| e.optional_bulk(None), "$-1|", "_|"),
        (|e| e.bulk_integer(-12), "$3|-12|", "$3|-12|"),
        (|e| e.null(), "$-1|", "_|"),
        (|e| e.null_array(), "*-1|", "_|"),
        (|e| e.array(0), "*0|", "*0|"),
        (|e| e.map(3), "*6|", "%3|"),
        (|e| e.set(1_048_576), "*1048576|", "~1048576|"),
        (|e| e.push(3), "*3|", ">3|"),
        (|e| e.boolean(true), ":1|", "#t|"),
        (|e| e.boolean(false), ":0|", "#f|"),
        (|e| e.double(1.5), "$3|1.5|", ",1.5|"),
        (|e| e.double(f64::NEG_INFINITY), "$4|-inf|", ",-inf|"),
        (|e| e.verbatim(b"hi"), "$2|hi|", "=6|txt:hi|"),
    ];
    for (write, resp2, resp3) in cases {
        assert_eq!(encoded(Version::Resp2, write), resp2);
        assert_eq!(encoded(Version::Resp3, write), resp3);
    }
}

#[test]
fn user_data_cannot_end_a_line() {
    let hostile = b"ERR bad 'x\r\n+OK\r\n'";
    assert_eq!(
        encoded(Version::Resp2, |e| e.error(hostile)),
        "-ERR bad \\'x  +OK  \\'|"
    );
    assert_eq!(encoded(Version::Resp3, |e| e.simple(b"a\nb")), "+a b|");
}

#[test]
fn unknown_commands_are_quoted_in_part() {
    let mut words = Spans::new();
    let long = vec![b'x'; 300];
    let input = request(&[long.clone(), b"a\r\n".to_vec(), long, b"never".to_vec()]);
    Decoder::new(LIMITS).decode(&input, &mut words).unwrap();
    let reply = encoded(Version::Resp2, |e| e.unknown_command(words.words(&input)));
    let (name, arg) = (
        "x".repeat(EXCERPT_BYTES_MAX),
        "x".repeat(EXCERPT_BYTES_MAX - 6),
    );
    let text = format!("-ERR unknown command '{name}', with args beginning with: 'a  ' '{arg}' |");
    assert_eq!(reply.replace("\\'", "'"), text);
}

#[test]
fn doubles_are_written_as_redis_writes_them() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-3.25, "-3.25"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (1e7, "10000000"),
        (1e8, "1e+8"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (1e-7, "1e-7"),
        (123_456_789.0, "123456789"),
        (1.234e-5, "1.234e-5"),
        (0.000_012, "0.000012"),
        (f64::MAX, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (3.0e-10, "3e-10"),
        (std::f64::consts::PI, "3.141592653589793"),
        (f64::INFINITY, "inf"),
        (f64::NAN, "nan"),
    ];
    for (value, text) in cases {
        assert_eq!(
            encoded(Version::Resp3, |e| e.double(value)),
            format!(",{text}|")
        );
    }
}

proptest! {
    #[test]
    fn doubles_read_back_as_themselves(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let text = encoded(Version::Resp3, |e| e.double(value));
        let read: f64 = text[1..text.len() - 1].parse().unwrap();
        prop_assert_eq!(read.to_bits(), bits);
    }

    #[test]
    fn bulks_of_any_length_read_back(len in 0_usize..20_000) {
        let mut out = Vec::new();
        Encoder::new(&mut out, Version::Resp3).bulk(&vec![b'\n'; len]);
        let header = format!("${len}\r\n");
        prop_assert!(out.starts_with(header.as_bytes()) && out.ends_with(b"\r\n"));
        prop_assert_eq!(out.len(), header.len() + len + 2);
    }
}
