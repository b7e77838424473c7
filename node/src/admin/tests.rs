//! Requests as callers send them, and answers as they must be.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::*;
use crate::command::tests::shared;

fn ask(path: &str) -> Answer {
    answer(&shared(), path, (1_000, 0))
}

#[test]
fn requests_are_read_once_they_are_whole() {
    let request = b"GET /metrics?x=1 HTTP/1.1\r\nHost: n1\r\n\r\n";
    for cut in 0..request.len() {
        assert_eq!(parse(&request[..cut]), Ok(None), "{cut}");
    }
    let expected = Request {
        path: "/metrics".to_owned(),
        query: "x=1".to_owned(),
        is_head: false,
    };
    assert_eq!(parse(request), Ok(Some(expected)));
    assert!(parse(b"HEAD / HTTP/1.0\r\n\r\n").unwrap().unwrap().is_head);
    assert_eq!(parse(b"POST / HTTP/1.1\r\n\r\n").unwrap_err().status, 405);
    assert_eq!(parse(b"*1\r\n$4\r\nPING\r\n").unwrap_err().status, 400);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(65));
    assert_eq!(parse(many.as_bytes()), Err(request::TOO_LONG));
}

#[test]
fn an_answer_says_what_it_is_and_how_long() {
    let bytes = Answer::text(200, "ok\n").encode(false);
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("\r\n\r\nok\n"));
    assert!(text.contains("Content-Length: 3\r\n"));
    let head = Answer::text(405, "no\n").encode(true);
    assert!(head.ends_with(b"\r\n\r\n"));
    assert!(
        String::from_utf8(head)
            .unwrap()
            .contains("Allow: GET, HEAD")
    );
}

#[test]
fn every_path_has_its_answer() {
    for (path, status, part) in [
        ("/", 200, "<title>ashlar</title>"),
        ("/livez", 200, "ok"),
        ("/readyz", 200, "ok: disk: "),
        ("/metrics", 200, "ashlar_info{version="),
        ("/status", 200, "\"uptime_ms\": "),
        ("/else", 404, "/metrics"),
    ] {
        let answer = ask(path);
        assert_eq!(answer.status, status, "{path}");
        assert!(answer.body.contains(part), "{path}: {}", answer.body);
    }
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let shared = shared();
    shared.stats.shards()[0]
        .commands
        .store(7, Ordering::Relaxed);
    shared.stats.shards()[0].note_call(0, Some((1_500, 1)), b"+OK\r\n");
    let text = answer(&shared, "/metrics", (1_000, 0)).body;
    assert!(
        text.contains("ashlar_commands_total{shard=\"0\"} 7\n"),
        "{text}"
    );
    assert!(text.contains("_count{command="), "{text}");
    let mut known = std::collections::BTreeSet::new();
    let mut typed = "";
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            typed = of.split(' ').next().unwrap();
            assert!(known.insert(typed), "{typed} is told twice");
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(typed), "{name} stands under {typed}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }
}
