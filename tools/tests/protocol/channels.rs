//! Messages between clients, and what clients are told of keys: as Redis sends them, byte for byte where the order of
//! bytes is what matters.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Client, Reply, encode, wait_until};
use crate::{GROWTH_BYTES_MAX, Served, partitions};

fn ask(client: &mut Client, line: &str) -> Reply {
    let words: Vec<&str> = line.split(' ').collect();
    client.call(&words)
}

fn array(words: &[&str]) -> Reply {
    Reply::Array(words.iter().map(Reply::bulk).collect())
}

fn push(words: &[&str]) -> Reply {
    Reply::Push(words.iter().map(Reply::bulk).collect())
}

fn confirmed(word: &str, name: &str, count: i64) -> Vec<Reply> {
    vec![Reply::bulk(word), Reply::bulk(name), Reply::Integer(count)]
}

/// Sends lines at once and compares the bytes that come back.
#[track_caller]
fn says(client: &mut Client, lines: &[&str], expected: &str) {
    client
        .send((lines.join("\r\n") + "\r\n").as_bytes())
        .unwrap();
    let expected = expected.replace('~', "\r\n");
    let mut bytes = vec![0; expected.len()];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected, "{lines:?}");
}

#[test]
fn a_subscriber_of_version_two_hears_and_says_little() {
    let served = Served::start(&[]);
    let mut one = served.node.connect();
    says(
        &mut one,
        &[
            "SUBSCRIBE a b",
            "PSUBSCRIBE a*",
            "PING",
            "PING x",
            "GET k",
            "ping a b",
        ],
        "*3~$9~subscribe~$1~a~:1~*3~$9~subscribe~$1~b~:2~*3~$10~psubscribe~$2~a*~:3~\
         *2~$4~pong~$0~~*2~$4~pong~$1~x~\
         -ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context~-ERR wrong number of arguments for 'ping' command~",
    );
    let mut other = served.node.connect();
    assert_eq!(ask(&mut other, "PUBLISH a hi"), Reply::Integer(2));
    assert_eq!(one.read().unwrap(), array(&["message", "a", "hi"]));
    assert_eq!(one.read().unwrap(), array(&["pmessage", "a*", "a", "hi"]));
    assert_eq!(
        ask(&mut other, "PUBSUB NUMSUB a b c").elements()[1],
        Reply::Integer(1)
    );
    assert_eq!(ask(&mut other, "PUBSUB NUMPAT"), Reply::Integer(1));
    says(
        &mut one,
        &[
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE x",
            "RESET",
            "UNSUBSCRIBE",
            "GET k",
        ],
        "*3~$11~unsubscribe~$1~a~:2~*3~$11~unsubscribe~$1~b~:1~*3~$12~punsubscribe~$1~x~:1~+RESET~\
         *3~$11~unsubscribe~$-1~:0~$-1~",
    );
    assert_eq!(ask(&mut other, "PUBLISH a hi"), Reply::Integer(0));
}

#[test]
fn a_publisher_gets_its_own_messages_behind_its_replies() {
    let served = Served::start(&[]);
    let mut one = served.node.connect();
    ask(&mut one, "HELLO 3");
    says(
        &mut one,
        &[
            "SUBSCRIBE a",
            "SET k 1",
            "PUBLISH a 1",
            "INCR k",
            "PUBLISH a 2",
            "GET k",
        ],
        ">3~$9~subscribe~$1~a~:1~+OK~:1~>3~$7~message~$1~a~$1~1~:2~:1~>3~$7~message~$1~a~$1~2~$1~2~",
    );
    says(
        &mut one,
        &[
            "MULTI",
            "SET k 5",
            "PUBLISH a 3",
            "PUBLISH x 4",
            "EXEC",
            "GET k",
        ],
        "+OK~+QUEUED~+QUEUED~+QUEUED~*3~+OK~:1~:0~>3~$7~message~$1~a~$1~3~$1~5~",
    );
    // Silence is for replies, not for messages.
    says(
        &mut one,
        &[
            "CLIENT REPLY OFF",
            "SUBSCRIBE b",
            "SET k 6",
            "PUBLISH b 5",
            "GET k",
            "CLIENT REPLY ON",
        ],
        ">3~$9~subscribe~$1~b~:2~>3~$7~message~$1~b~$1~5~+OK~",
    );
    says(&mut one, &["GET k", "QUIT"], "$1~6~+OK~");
}

#[test]
fn a_transaction_that_is_not_done_publishes_nothing() {
    let served = Served::start(&[]);
    let (mut one, mut other) = (served.node.connect(), served.node.connect());
    ask(&mut one, "SUBSCRIBE a");
    ask(&mut other, "WATCH k");
    ask(&mut other, "SET k 1");
    for line in ["MULTI", "PUBLISH a no", "SET k 2"] {
        ask(&mut other, line);
    }
    // The null of version two.
    assert_eq!(ask(&mut other, "EXEC"), Reply::Array(Vec::new()));
    for line in ["MULTI", "PUBLISH a no", "SET k"] {
        ask(&mut other, line);
    }
    ask(&mut other, "EXEC").error();
    assert_eq!(ask(&mut other, "PUBLISH a yes"), Reply::Integer(1));
    assert_eq!(one.read().unwrap(), array(&["message", "a", "yes"]));
}

#[test]
fn a_message_comes_after_what_was_written_before_it() {
    let served = partitions::start();
    let mut subscriber = served.node.connect();
    ask(&mut subscriber, "SUBSCRIBE done");
    let mut writer = served.node.connect();
    let mut reader = served.node.connect();
    for n in 0..300 {
        let key = if n % 2 == 0 { "a" } else { "z" };
        let lines = format!("SET {key} {n}\r\nPUBLISH done {n}\r\n");
        writer.send(lines.as_bytes()).unwrap();
        let told = subscriber.read().unwrap();
        assert_eq!(told, array(&["message", "done", &n.to_string()]));
        assert_eq!(reader.call(&["GET", key]), Reply::bulk(n.to_string()));
        assert_eq!(writer.read().unwrap(), Reply::ok());
        assert_eq!(writer.read().unwrap(), Reply::Integer(1));
    }
}

#[test]
fn subscribers_on_all_shards_get_all_messages_in_order() {
    let served = partitions::start();
    // Connections land on either shard.
    let mut subscribers: Vec<Client> = (0..16).map(|_| served.node.connect()).collect();
    for client in &mut subscribers {
        ask(client, "SUBSCRIBE news");
    }
    let mut watcher = served.node.connect();
    assert_eq!(
        ask(&mut watcher, "PUBSUB NUMSUB news").elements()[1],
        Reply::Integer(16)
    );
    const MESSAGES: usize = 2000;
    let publishers: Vec<_> = (0..3)
        .map(|publisher| {
            let mut client = served.node.connect();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                for n in 0..MESSAGES {
                    let text = format!("{publisher}:{n}");
                    encode(&mut bytes, &[b"PUBLISH", b"news", text.as_bytes()]);
                }
                client.send(&bytes).unwrap();
                for _ in 0..MESSAGES {
                    assert_eq!(client.read().unwrap(), Reply::Integer(16));
                }
            })
        })
        .collect();
    for client in &mut subscribers {
        let mut next: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..3 * MESSAGES {
            let Reply::Bulk(Some(text)) = client.read().unwrap().elements().remove(2) else {
                panic!("a message has a payload");
            };
            let text = String::from_utf8(text).unwrap();
            let (publisher, n) = text.split_once(':').unwrap();
            let wanted = next.entry(publisher.to_owned()).or_default();
            assert_eq!(n, wanted.to_string(), "of publisher {publisher}");
            *wanted += 1;
        }
    }
    publishers.into_iter().for_each(|of| of.join().unwrap());
    drop(subscribers);
    wait_until("nobody is subscribed", || {
        ask(&mut watcher, "PUBSUB CHANNELS") == Reply::Array(Vec::new())
    });
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_and_the_others_are_served() {
    let served = Served::start(&["--set", "pubsub.hard_bytes=4 MiB"]);
    let before = served.node.memory_bytes();
    let mut stalled: Vec<Client> = (0..20).map(|_| served.node.connect()).collect();
    for client in &mut stalled {
        ask(client, "SUBSCRIBE flood");
    }
    let mut reader = served.node.connect();
    ask(&mut reader, "SUBSCRIBE flood");
    let mut publisher = served.node.connect();
    let text = "x".repeat(64 << 10);
    let mut most = 0;
    wait_until("the stalled ones are closed", || {
        let Reply::Integer(receivers) = publisher.call(&["PUBLISH", "flood", &text]) else {
            panic!("PUBLISH counts");
        };
        assert_eq!(reader.read().unwrap(), array(&["message", "flood", &text]));
        most = most.max(served.node.memory_bytes());
        receivers == 1
    });
    // What waits is shared: 20 times 4 MiB were 80.
    assert!(
        most < before + 20 * (1 << 20) + 2 * GROWTH_BYTES_MAX,
        "{before} bytes before, {most} at most"
    );
    let Reply::Bulk(Some(info)) = publisher.call(&["INFO", "stats"]) else {
        panic!("INFO is text");
    };
    let info = String::from_utf8(info).unwrap();
    assert!(
        info.contains("client_output_buffer_limit_disconnections:20\r\n"),
        "{info}"
    );
}

#[test]
fn a_subscriber_that_is_slow_for_a_moment_gets_everything() {
    let served = Served::start(&["--set", "pubsub.hard_bytes=1 GiB"]);
    let mut slow = served.node.connect();
    ask(&mut slow, "HELLO 3");
    ask(&mut slow, "SUBSCRIBE a");
    let mut publisher = served.node.connect();
    let text = "y".repeat(32 << 10);
    for n in 0..1000 {
        let text = format!("{n}:{text}");
        assert_eq!(publisher.call(&["PUBLISH", "a", &text]), Reply::Integer(1));
    }
    // What it asks for meanwhile comes behind what it was sent before.
    slow.send(b"PING\r\n").unwrap();
    for n in 0..1000 {
        assert_eq!(
            slow.read().unwrap(),
            push(&["message", "a", &format!("{n}:{text}")])
        );
    }
    assert_eq!(slow.read().unwrap(), Reply::Simple("PONG".to_owned()));
}

#[test]
fn names_are_bounded() {
    let served = Served::start(&[
        "--set",
        "pubsub.channels_max=3",
        "--set",
        "pubsub.patterns_max=1",
    ]);
    let mut client = served.node.connect();
    ask(&mut client, "HELLO 3");
    assert_eq!(
        ask(&mut client, "SUBSCRIBE a b c d").error(),
        "ERR a connection subscribes to at most 3 channels (pubsub.channels_max)"
    );
    let first = ask(&mut client, "SSUBSCRIBE a");
    assert_eq!(first, Reply::Push(confirmed("ssubscribe", "a", 1)));
    ask(&mut client, "SUBSCRIBE a b c").error();
    ask(&mut client, "PSUBSCRIBE *");
    ask(&mut client, "PSUBSCRIBE ?").error();
    let long = "*".repeat(1025);
    assert_eq!(
        client.call(&["PSUBSCRIBE", &long]).error(),
        "ERR a pattern is longer than 1024 bytes"
    );
    // The longest pattern and the longest channel keep nobody waiting for long.
    ask(&mut client, "PUNSUBSCRIBE");
    client.call(&["PSUBSCRIBE", &("*a".repeat(511) + "b")]);
    let mut publisher = served.node.connect();
    let asked = Instant::now();
    let channel = "a".repeat(64 << 10);
    assert_eq!(
        publisher.call(&["PUBLISH", &channel, "x"]),
        Reply::Integer(0)
    );
    assert!(asked.elapsed() < Duration::from_secs(5));
}

/// Returns the next notices of a subscriber to all of them: event and key.
fn notices(client: &mut Client, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let words = client.read().unwrap().elements();
            let text = |at: usize| match &words[at] {
                Reply::Bulk(Some(text)) => String::from_utf8_lossy(text).into_owned(),
                other => panic!("{other:?}"),
            };
            let event = text(2).replace("__keyevent@0__:", "");
            format!("{event} {}", text(3))
        })
        .collect()
}

/// Sends commands, and checks what is told of them.
fn tells(client: &mut Client, watcher: &mut Client, lines: &[&str], told: &str) {
    lines.iter().for_each(|line| drop(ask(client, line)));
    let told: Vec<&str> = told.split(',').collect();
    assert_eq!(notices(watcher, told.len()), told, "{lines:?}");
}

#[test]
fn what_happens_to_keys_is_told_in_order() {
    let served = Served::start(&["--set", "pubsub.keyspace_events=EAn"]);
    let mut watcher = served.node.connect();
    ask(&mut watcher, "PSUBSCRIBE __keyevent@0__:*");
    let mut client = served.node.connect();
    for (lines, told) in [
        (
            &["SET k v", "SET k v EX 100"][..],
            "new k,set k,set k,expire k",
        ),
        (&["SET k v NX", "DEL k none", "GET none"], "del k"),
        (
            &["MSET a 1 b 2", "INCR a", "APPEND b x"],
            "new a,set a,new b,set b,incrby a,append b",
        ),
        (
            &["RENAME a c", "COPY c d", "PERSIST c"],
            "new c,rename_from a,rename_to c,new d,copy_to d",
        ),
        (
            &["EXPIRE c 100", "PERSIST c", "EXPIRE c -1"],
            "expire c,persist c,del c",
        ),
        (
            &["MULTI", "SET t 1", "DECRBY t 2", "EXEC"],
            "new t,set t,incrby t",
        ),
        (
            &["SETRANGE t 3 x", "SETBIT s 1 1", "GETDEL s"],
            "setrange t,new s,setbit s,del s",
        ),
    ] {
        tells(&mut client, &mut watcher, lines, told);
    }
    ask(&mut client, "SET p v PX 50");
    assert_eq!(
        notices(&mut watcher, 4),
        ["new p", "set p", "expire p", "expired p"]
    );
    assert_eq!(
        ask(&mut client, "CONFIG SET notify-keyspace-events K$"),
        Reply::ok()
    );
    let wrong = ask(&mut client, "CONFIG SET notify-keyspace-events Q");
    assert!(wrong.error().contains("notify-keyspace-events"));
    assert_eq!(
        ask(&mut client, "CONFIG GET notify-keyspace-events").elements()[1],
        Reply::bulk("$K")
    );
}

#[test]
fn what_happens_to_collections_is_told_in_order() {
    let served = Served::start(&["--set", "pubsub.keyspace_events=EAn"]);
    let mut watcher = served.node.connect();
    ask(&mut watcher, "PSUBSCRIBE __keyevent@0__:*");
    let mut client = served.node.connect();
    for (lines, told) in [
        (
            &[
                "HSET h f 1 g x",
                "HINCRBY h g 1",
                "HINCRBY h f 1",
                "HINCRBYFLOAT h f 1",
                "HDEL h f none",
                "HDEL h none",
                "HDEL h g",
            ][..],
            "new h,hset h,hincrby h,hincrbyfloat h,hdel h,hdel h,del h",
        ),
        (
            &[
                "HINCRBY h f x",
                "RPUSH l a b",
                "LPUSHX none a",
                "LPUSH l c",
                "LSET l 0 d",
            ],
            "new l,rpush l,lpush l,lset l",
        ),
        (
            &["LINSERT l BEFORE a e", "LREM l 0 e", "LREM l 0 none"],
            "linsert l,lrem l",
        ),
        (
            &["LTRIM l 0 0", "LMOVE l m LEFT RIGHT"],
            "ltrim l,new m,rpush m,lpop l,del l",
        ),
        (
            &["RPOPLPUSH m m", "RPOP m 0", "RPOP m"],
            "lpush m,rpop m,rpop m,del m",
        ),
        (
            &["RPUSH l a", "RENAME l m", "LTRIM m 5 9"],
            "new l,rpush l,new m,rename_from l,rename_to m,ltrim m,del m",
        ),
    ] {
        tells(&mut client, &mut watcher, lines, told);
    }
}

#[test]
fn who_is_subscribed_is_told() {
    let served = Served::start(&[]);
    let mut client = served.node.connect();
    client
        .send(b"SUBSCRIBE a b\r\nPSUBSCRIBE c\r\nSSUBSCRIBE d\r\n")
        .unwrap();
    (0..4).for_each(|_| drop(client.read().unwrap()));
    let mut other = served.node.connect();
    let Reply::Bulk(Some(line)) = ask(&mut other, "CLIENT LIST TYPE pubsub") else {
        panic!("a list is text");
    };
    let line = String::from_utf8(line).unwrap();
    assert!(
        line.contains(" flags=P ") && line.contains(" sub=2 psub=1 ssub=1 "),
        "{line}"
    );
    assert_eq!(
        ask(&mut other, "CLIENT KILL TYPE pubsub"),
        Reply::Integer(1)
    );
    assert_eq!(client.read_to_end(), b"");
    let mut sender = other.sender();
    sender.write_all(b"PUBSUB NUMPAT\r\n").unwrap();
    assert!(matches!(other.read().unwrap(), Reply::Integer(_)));
}
