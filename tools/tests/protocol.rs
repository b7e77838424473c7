//! Hostile and clumsy clients against a real node: each gets one error and is closed, or is
//! answered in step; the node lives, serves everybody else, and does not grow.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has failed"
)]

#[path = "protocol/channels.rs"]
mod channels;
#[path = "protocol/ordered.rs"]
mod ordered;
#[path = "protocol/partitions.rs"]
mod partitions;
#[path = "protocol/sessions.rs"]
mod sessions;
mod support;

use std::io::Write;
use std::time::{Duration, Instant};

use support::{Client, Node, Reply, encode, wait_until};

/// How much more memory a node may have after an attack than before, in bytes.
const GROWTH_BYTES_MAX: u64 = 16 << 20;

/// A node and its temporary directory.
struct Served {
    node: Node,
    _dir: tempfile::TempDir,
}

impl Served {
    fn start(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut all = vec!["--cpus", "0", "--set", "wal.segment_bytes=16 MiB"];
        all.extend(flags);
        let node = Node::start(&dir.path().join("data"), &all);
        Self { node, _dir: dir }
    }

    /// Panics unless the node still answers a new client at once.
    #[track_caller]
    fn answers(&self, after: &str) {
        let asked = Instant::now();
        let pong = self.node.connect().call(&["PING"]);
        assert_eq!(pong, Reply::Simple("PONG".to_owned()), "after {after}");
        assert!(
            asked.elapsed() < Duration::from_secs(10),
            "after {after} a PING takes {:?}",
            asked.elapsed()
        );
    }

    /// Sends bytes on a new connection; returns all that comes back until the node closes it.
    #[track_caller]
    fn closes_after(&self, bytes: &[u8]) -> String {
        let mut client = self.node.connect();
        // It may close before it has taken all.
        let _ = client.send(bytes);
        let replied = client.read_to_end();
        self.answers(&show(bytes));
        String::from_utf8_lossy(&replied).into_owned()
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned()
}

fn commands(count: usize, words: impl Fn(usize) -> Vec<String>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..count {
        let words = words(n);
        encode(
            &mut bytes,
            &words.iter().map(String::as_bytes).collect::<Vec<_>>(),
        );
    }
    bytes
}

#[test]
fn broken_requests_get_one_error_and_the_end() {
    let served = Served::start(&[]);
    let broken: &[(&[u8], &str)] = &[
        (b"*3000000000\r\n", "invalid multibulk length"),
        (b"*9223372036854775808\r\n", "invalid multibulk length"),
        (b"*01\r\n$4\r\nPING\r\n", "invalid multibulk length"),
        (b"*+1\r\n$4\r\nPING\r\n", "invalid multibulk length"),
        (b"*1x\r\n", "invalid multibulk length"),
        (b"*\0\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$-10\r\n", "invalid bulk length"),
        (b"*1\r\n$2000000000\r\n", "invalid bulk length"),
        (b"*1\r\n$blabla\r\n", "invalid bulk length"),
        (b"*1\r\n$\0AAAA\r\n", "invalid bulk length"),
        (b"*1\r\nfoo\r\n", "expected '$'"),
        (b"*1\r\n:1\r\n", "expected '$'"),
        (b"*1\r\n$3\r\nabcd\r\n", ""),
        (b"SET a \"b\r\n", "unbalanced quotes"),
    ];
    for (bytes, error) in broken {
        let replied = served.closes_after(bytes);
        assert!(
            replied.starts_with("-ERR ") && replied.contains(error),
            "{}: {replied:?}",
            show(bytes)
        );
        assert_eq!(replied.lines().count(), 1, "{}: {replied:?}", show(bytes));
    }
}

#[test]
fn endless_lines_end() {
    let served = Served::start(&[]);
    for start in ["*", "*1\r\n$", "GET ", "\"", "$"] {
        let replied = served.closes_after(&[start.as_bytes(), &[b'1'; 70_000]].concat());
        assert!(
            replied.starts_with('-') && replied.lines().count() == 1,
            "{start:?}: {replied:?}"
        );
    }
}

#[test]
fn what_other_protocols_say_ends_the_connection() {
    let served = Served::start(&[]);
    let greetings: [&[u8]; 3] = [
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n",
        b"Host: x\r\nSET a b\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03SET a b\r\n",
    ];
    for greeting in greetings {
        let replied = served.closes_after(greeting);
        assert!(
            replied.lines().count() <= 1,
            "{}: {replied:?}",
            show(greeting)
        );
    }
    assert_eq!(
        served.node.connect().call(&["EXISTS", "a"]),
        Reply::Integer(0)
    );
}

#[test]
fn what_is_wrong_but_whole_is_answered_in_step() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    let long = "k".repeat((64 << 10) + 1);
    let wrong: &[&[&str]] = &[
        &["NOSUCH", "command"],
        &[""],
        &["GET"],
        &["GET", "a", "b"],
        &["SET", "a"],
        &["SET", "a", "b", "EX", "0"],
        &["SET", "a", "b", "NX", "XX"],
        &["SET", &long, "v"],
        &["HELLO", "1"],
        &["HELLO", "4"],
        &["HELLO", "99999999999999999999"],
        &["SELECT", "16"],
        &["SELECT", "-1"],
        &["SCAN", "hostile"],
        &["SCAN", "0", "COUNT", "-1"],
        &["MSET", "a"],
        &["CONFIG", "SET", "nothing", "1"],
    ];
    for words in wrong {
        client.call(words).error();
        assert_eq!(
            client.call(&["ECHO", "in step"]),
            Reply::bulk("in step"),
            "{:?}",
            words[0]
        );
    }
    assert_eq!(client.call(&["SET", "", "empty key"]), Reply::ok());
    assert_eq!(
        client.call_bytes(&[b"SET", b"\xff\xfe\0\r\n", b"\0\r\n"]),
        Reply::ok()
    );
    assert_eq!(
        client.call_bytes(&[b"GET", b"\xff\xfe\0\r\n"]),
        Reply::bulk(b"\0\r\n")
    );
    assert_eq!(
        client.call(&["SET", "n", "9223372036854775807"]),
        Reply::ok()
    );
    assert!(client.call(&["INCR", "n"]).error().contains("overflow"));
    // Requests without words get no reply.
    client
        .send(b"\r\n\r\n*0\r\n*-1\r\n*-10\r\n \r\nPING\r\n")
        .unwrap();
    assert_eq!(client.read().unwrap(), Reply::Simple("PONG".to_owned()));
}

#[test]
fn patterns_that_explode_elsewhere_end_soon() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    client.call(&["SET", &"a".repeat(1000), "v"]);
    let pattern = "*a".repeat(500) + "b";
    let asked = Instant::now();
    assert_eq!(client.call(&["KEYS", &pattern]), Reply::Array(Vec::new()));
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "{:?}",
        asked.elapsed()
    );
}

#[test]
fn how_bytes_are_cut_does_not_matter() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    let mut bytes = commands(3, |n| {
        vec!["SET".to_owned(), format!("key{n}"), "value".to_owned()]
    });
    bytes.extend_from_slice(b"GET key1\r\n*2\r\n$4\r\nECHO\r\n$2\r\n\r\n\r\n");
    let read =
        |client: &mut Client| -> Vec<Reply> { (0..5).map(|_| client.read().unwrap()).collect() };
    client.send(&bytes).unwrap();
    let whole = read(&mut client);
    assert_eq!(whole[3..], [Reply::bulk("value"), Reply::bulk("\r\n")]);
    bytes.chunks(1).for_each(|byte| client.send(byte).unwrap());
    assert_eq!(read(&mut client), whole);
    for at in 1..bytes.len() {
        client.send(&bytes[..at]).unwrap();
        assert_eq!(
            served.node.connect().call(&["PING"]),
            Reply::Simple("PONG".to_owned())
        );
        client.send(&bytes[at..]).unwrap();
        assert_eq!(read(&mut client), whole, "cut at {at}");
    }
}

#[test]
fn a_hundred_thousand_commands_in_one_go_are_answered_in_order() {
    let served = Served::start(&[]);
    let count = 100_000;
    let bytes = commands(count, |n| match n % 2 {
        0 => vec!["SET".to_owned(), format!("key{}", n % 1000), n.to_string()],
        _ => vec!["GET".to_owned(), format!("key{}", (n - 1) % 1000)],
    });
    let expected = |n: usize| {
        if n.is_multiple_of(2) {
            Reply::ok()
        } else {
            Reply::bulk((n - 1).to_string())
        }
    };
    // First with replies read while it sends, then with none read until all is sent: they fit the
    // buffers.
    for reads_meanwhile in [true, false] {
        let mut client = served.node.connect();
        let (mut sender, bytes) = (client.sender(), bytes.clone());
        let sending = std::thread::spawn(move || sender.write_all(&bytes).unwrap());
        if !reads_meanwhile {
            wait_until("all is sent", || sending.is_finished());
        }
        (0..count).for_each(|n| assert_eq!(client.read().unwrap(), expected(n)));
        sending.join().unwrap();
    }
}

#[test]
fn a_half_closed_connection_gets_its_replies() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    client
        .send(&commands(500, |n| {
            vec!["SET".to_owned(), format!("key{n}"), "v".to_owned()]
        }))
        .unwrap();
    client.send(b"*2\r\n$3\r\nGET\r\n$4\r\nke").unwrap();
    client.finish();
    assert_eq!(client.read_to_end(), b"+OK\r\n".repeat(500));
    let mut client = served.node.connect();
    client
        .send(b"SET last 1\r\nQUIT\r\nSET last 2\r\n")
        .unwrap();
    assert_eq!(client.read_to_end(), b"+OK\r\n+OK\r\n");
    assert_eq!(
        served.node.connect().call(&["GET", "last"]),
        Reply::bulk("1")
    );
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let served = Served::start(&[]);
    for n in 0..300 {
        let mut client = served.node.connect();
        client
            .send(&commands(50, |k| {
                vec!["SET".to_owned(), format!("{n}:{k}"), "v".repeat(100)]
            }))
            .unwrap();
    }
    let mut client = served.node.connect();
    wait_until("only this client is connected", || {
        let info = client.call(&["INFO", "clients"]);
        matches!(info, Reply::Bulk(Some(text)) if String::from_utf8_lossy(&text).contains("connected_clients:1\r\n"))
    });
}

#[test]
fn declared_lengths_take_no_memory() {
    let served = Served::start(&[]);
    served.answers("nothing");
    let before = served.node.memory_bytes();
    let silent: Vec<_> = (0..50)
        .flat_map(|_| {
            [
                b"*1000000\r\n".as_slice(),
                b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108864\r\nx",
            ]
        })
        .map(|bytes| {
            let mut client = served.node.connect();
            client.send(bytes).unwrap();
            client
        })
        .collect();
    served.answers("declared lengths");
    let after = served.node.memory_bytes();
    assert!(
        after < before + GROWTH_BYTES_MAX,
        "{before} bytes before, {after} after"
    );
    drop(silent);
    served.answers("declared lengths");
}

#[test]
fn the_longest_value_is_set_and_got() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    let value: Vec<u8> = (0..64_u32 << 20)
        .map(|at| (at % 251).to_le_bytes()[0])
        .collect();
    assert_eq!(client.call_bytes(&[b"SET", b"large", &value]), Reply::ok());
    assert!(client.call(&["GET", "large"]) == Reply::bulk(&value));
    served.answers("a large value");
    assert!(
        client
            .call(&["APPEND", "large", "x"])
            .error()
            .starts_with("ERR ")
    );
    assert_eq!(client.call(&["STRLEN", "large"]), Reply::Integer(64 << 20));
    let replied = served.closes_after(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$67108865\r\n");
    assert!(replied.contains("invalid bulk length"), "{replied}");
}

#[test]
fn who_does_not_read_does_not_grow_the_node() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    assert_eq!(
        client.call(&["SET", "wide", &"w".repeat(1 << 20)]),
        Reply::ok()
    );
    let before = served.node.memory_bytes();
    let slow: Vec<_> = (0..5)
        .map(|_| {
            let slow = served.node.connect();
            let mut sender = slow.sender();
            // The node stops reading at some point; then this thread waits until the connection
            // ends.
            std::thread::spawn(move || drop(sender.write_all(&b"GET wide\r\n".repeat(10_000))));
            slow
        })
        .collect();
    for n in 0..2000 {
        assert_eq!(client.call(&["SET", "other", &n.to_string()]), Reply::ok());
    }
    let after = served.node.memory_bytes();
    assert!(
        after < before + 5 * (4 << 20) + GROWTH_BYTES_MAX,
        "{before} bytes before, {after} after"
    );
    // One that starts to read gets all it asked for.
    let mut slow = slow;
    let mut reads = slow.pop().expect("five were made");
    for _ in 0..1000 {
        assert!(
            matches!(reads.read().unwrap(), Reply::Bulk(Some(value)) if value.len() == 1 << 20)
        );
    }
}

#[test]
fn a_thousand_idle_connections_are_served() {
    let served = Served::start(&[]);
    let before = served.node.memory_bytes();
    let mut idle: Vec<_> = (0..1000).map(|_| served.node.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".to_owned()));
    }
    let after = served.node.memory_bytes();
    assert!(
        after < before + GROWTH_BYTES_MAX,
        "{before} bytes before, {after} after"
    );
    for client in &mut idle {
        assert_eq!(client.call(&["SET", "k", "v"]), Reply::ok());
    }
}

#[test]
fn one_client_too_many_is_told() {
    let served = Served::start(&["--set", "client.clients_max=3"]);
    let mut clients: Vec<_> = (0..3).map(|_| served.node.connect()).collect();
    clients
        .iter_mut()
        .for_each(|client| assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".to_owned())));
    let mut refused = served.node.connect();
    assert_eq!(
        refused.read_to_end(),
        b"-ERR max number of clients reached\r\n"
    );
    clients.pop();
    wait_until("there is room again", || {
        let mut client = served.node.connect();
        client.send(b"PING\r\n").is_ok()
            && client
                .read()
                .is_ok_and(|reply| reply == Reply::Simple("PONG".to_owned()))
    });
}

#[test]
fn hello_speaks_version_three() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    let hello = client.call(&["HELLO", "3"]);
    assert!(matches!(hello, Reply::Map(_)), "{hello:?}");
    let hello = hello.elements();
    let proto = hello
        .iter()
        .position(|field| *field == Reply::bulk("proto"))
        .expect("HELLO tells the version");
    assert_eq!(hello[proto + 1], Reply::Integer(3));
    client.send(b"GET nothing\r\n").unwrap();
    assert_eq!(client.read().unwrap(), Reply::Bulk(None));
    assert!(matches!(client.call(&["HELLO", "2"]), Reply::Array(_)));
}
