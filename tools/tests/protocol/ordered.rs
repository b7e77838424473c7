//! The commands on ordered keys against a node of two shards and four partitions that has little
//! memory, so that most of its keys lie in tables; compared with a map.

use std::collections::BTreeMap;

use crate::Served;
use crate::support::{self, Client, Node, Reply, wait_until};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Keys written, in each partition a quarter.
const KEYS: u64 = 40_000;

/// Starts a node whose memtables are full after some thousand keys.
fn start(flags: &[&str]) -> Served {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut args = vec!["format", "--data", data.to_str().unwrap(), "--shards", "2"];
    for split in ["g", "n", "t"] {
        args.extend(["--split-at", split]);
    }
    args.extend(["--set", "wal.segment_bytes=4 MiB"]);
    let ended = support::run(&args);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut all = vec![
        "--memory",
        "64 MiB",
        "--set",
        "wal.log_bytes_max=1 MiB",
        "--set",
        "partition.table_bytes=256 KiB",
        "--set",
        "wal.segments_spare=1",
    ];
    all.extend(flags);
    Served {
        node: Node::start(&data, &all),
        _dir: dir,
    }
}

fn key(n: u64) -> Vec<u8> {
    let first = b'a' + u8::try_from(n % 26).unwrap();
    [&[first], format!("{:07}", n * 7919 % 10_000_019).as_bytes()].concat()
}

/// A value; one in fifty is kept apart from its key.
fn value(n: u64) -> Vec<u8> {
    let bytes = if n.is_multiple_of(50) { 2000 } else { 100 };
    format!("{n};")
        .into_bytes()
        .into_iter()
        .cycle()
        .take(bytes)
        .collect()
}

/// Runs commands in batches; panics when one is not answered as it should.
fn run_all(client: &mut Client, commands: &[Vec<Vec<u8>>], expected: &Reply) {
    for batch in commands.chunks(500) {
        let mut bytes = Vec::new();
        for words in batch {
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            support::encode(&mut bytes, &words);
        }
        client.send(&bytes).unwrap();
        for words in batch {
            assert_eq!(client.read().unwrap(), *expected, "{words:?}");
        }
    }
}

fn fill(client: &mut Client) -> Model {
    let model: Model = (0..KEYS).map(|n| (key(n), value(n))).collect();
    let mut order: Vec<u64> = (0..KEYS).collect();
    order.sort_by_key(|n| n * 7919 % 1_000_003);
    let commands: Vec<Vec<Vec<u8>>> = order
        .iter()
        .map(|n| vec![b"SET".to_vec(), key(*n), value(*n)])
        .collect();
    run_all(client, &commands, &Reply::ok());
    model
}

fn info(client: &mut Client, field: &str) -> u64 {
    let Reply::Bulk(Some(text)) = client.call(&["INFO"]) else {
        panic!("INFO is a text")
    };
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field} is in INFO"))
        .parse()
        .unwrap()
}

/// Waits until memtables of all partitions have been flushed.
fn wait_for_tables(served: &Served) {
    wait_until("tables are written", || {
        tables(&served._dir.path().join("data/tables")) >= 4
    });
}

fn tables(dir: &std::path::Path) -> usize {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .map(|path| match path.is_dir() {
            true => tables(&path),
            false => usize::from(path.extension().is_some_and(|end| end == "table")),
        })
        .sum()
}

/// Keys and values in order.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// One reply of `KV.SCAN`: where to go on, and what was found.
fn page(client: &mut Client, words: &[&[u8]], has_values: bool) -> (Option<Vec<u8>>, Pairs) {
    let mut reply = client.call_bytes(words).elements();
    let Some(Reply::Array(flat)) = reply.pop() else {
        panic!("a scan answers keys")
    };
    let Some(Reply::Bulk(next)) = reply.pop() else {
        panic!("a scan answers where to go on")
    };
    let mut flat = flat.into_iter().map(|found| match found {
        Reply::Bulk(Some(bytes)) => bytes,
        other => panic!("not a key or a value: {other:?}"),
    });
    let mut found = Vec::new();
    while let Some(key) = flat.next() {
        let value = if has_values {
            flat.next().unwrap()
        } else {
            Vec::new()
        };
        found.push((key, value));
    }
    (next, found)
}

#[derive(Clone, Copy)]
struct Asked<'a> {
    start: &'a [u8],
    end: &'a [u8],
    limit: usize,
    is_reverse: bool,
    has_values: bool,
    at: Option<&'a str>,
}

/// Pages through a range to its end. Checks that no page is longer than asked for, and none shorter
/// but the last.
fn scan_all(client: &mut Client, asked: Asked<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (mut start, mut end) = (asked.start.to_vec(), asked.end.to_vec());
    let limit = asked.limit.to_string();
    let mut all = Vec::new();
    loop {
        let mut words: Vec<&[u8]> = vec![b"KV.SCAN", &start, &end, b"LIMIT", limit.as_bytes()];
        if asked.is_reverse {
            words.push(b"REV");
        }
        if !asked.has_values {
            words.push(b"KEYSONLY");
        }
        if let Some(at) = asked.at {
            words.extend([b"AT", at.as_bytes()]);
        }
        let (next, found) = page(client, &words, asked.has_values);
        assert!(
            found.len() <= asked.limit,
            "{} keys for LIMIT {limit}",
            found.len()
        );
        if next.is_some() {
            assert_eq!(found.len(), asked.limit, "a page in the middle is full");
        }
        all.extend(found);
        match next {
            None => return all,
            Some(next) if asked.is_reverse => end = next,
            Some(next) => start = next,
        }
    }
}

/// Compares scans of several kinds with the model.
fn check(client: &mut Client, model: &Model, at: Option<&str>) {
    let ranges: [(&[u8], &[u8]); 6] = [
        (b"-", b"+"),
        (b"f5", b"h2"),
        (b"g", b"n"),
        (b"n", b"n00"),
        (b"t", b"+"),
        (b"zz", b"zzz"),
    ];
    for (start, end) in ranges {
        let from = if start == b"-" { b"" as &[u8] } else { start };
        let to = if end == b"+" { b"\xff" as &[u8] } else { end };
        let expected: Vec<_> = model
            .range(from.to_vec()..to.to_vec())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for limit in [997, 20_000] {
            for is_reverse in [false, true] {
                let asked = Asked {
                    start,
                    end,
                    limit,
                    is_reverse,
                    has_values: true,
                    at,
                };
                let mut found = scan_all(client, asked);
                if is_reverse {
                    found.reverse();
                }
                let name = String::from_utf8_lossy(start);
                assert!(
                    found == expected,
                    "{name}: {} of {}",
                    found.len(),
                    expected.len()
                );
                let keys = scan_all(
                    client,
                    Asked {
                        has_values: false,
                        ..asked
                    },
                );
                assert_eq!(keys.len(), expected.len());
            }
        }
    }
}

#[test]
fn ranges_are_in_order_over_partitions_and_shards() {
    let served = start(&[]);
    let mut client = served.node.connect();
    let mut model = fill(&mut client);
    wait_for_tables(&served);
    check(&mut client, &model, None);
    // From the other shard's connections as well.
    for _ in 0..4 {
        let (_, found) = page(
            &mut served.node.connect(),
            &[b"KV.SCAN", b"-", b"+", b"LIMIT", b"3"],
            true,
        );
        let first: Vec<_> = model
            .iter()
            .take(3)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        assert_eq!(found, first);
    }
    // A page that ends where a partition does is not longer than asked for, and goes on right.
    for edge in [b"g", b"n", b"t"] {
        let before = model
            .range(..edge.to_vec())
            .rev()
            .take(5)
            .last()
            .unwrap()
            .0
            .clone();
        let (next, found) = page(
            &mut client,
            &[b"KV.SCAN", &before, b"+", b"LIMIT", b"5"],
            true,
        );
        assert_eq!(found.len(), 5);
        let (_, more) = page(
            &mut client,
            &[b"KV.SCAN", &next.unwrap(), b"+", b"LIMIT", b"1"],
            true,
        );
        assert_eq!(more[0].0, *model.range(edge.to_vec()..).next().unwrap().0);
    }
    delete_some(&mut client, &mut model);
    check(&mut client, &model, None);
    count_and_walk(&mut client, &model);
}

/// Deletes keys one by one, a range over two edges, and some by expiry.
fn delete_some(client: &mut Client, model: &mut Model) {
    let gone: Vec<Vec<u8>> = model.keys().step_by(7).cloned().collect();
    let deletions: Vec<Vec<Vec<u8>>> = gone
        .iter()
        .map(|key| vec![b"DEL".to_vec(), key.clone()])
        .collect();
    run_all(client, &deletions, &Reply::Integer(1));
    model.retain(|key, _| gone.binary_search(key).is_err());
    assert_eq!(client.call(&["KV.DELRANGE", "f5", "n3"]), Reply::ok());
    model.retain(|key, _| !(b"f5".as_slice()..b"n3".as_slice()).contains(&key.as_slice()));
    let expired: Vec<Vec<u8>> = model.keys().step_by(11).cloned().collect();
    let expiries: Vec<Vec<Vec<u8>>> = expired
        .iter()
        .map(|key| vec![b"PEXPIRE".to_vec(), key.clone(), b"1".to_vec()])
        .collect();
    run_all(client, &expiries, &Reply::Integer(1));
    model.retain(|key, _| expired.binary_search(key).is_err());
    std::thread::sleep(std::time::Duration::from_millis(5));
}

/// Checks what the commands of Redis tell of keys that lie in tables.
fn count_and_walk(client: &mut Client, model: &Model) {
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    loop {
        let mut reply = client.call(&["SCAN", &cursor, "COUNT", "500"]).elements();
        let found = reply.pop().unwrap().elements();
        keys.extend(found.into_iter().map(|key| match key {
            Reply::Bulk(Some(key)) => key,
            other => panic!("not a key: {other:?}"),
        }));
        let Some(Reply::Bulk(Some(next))) = reply.pop() else {
            panic!("SCAN answers a cursor")
        };
        cursor = String::from_utf8(next).unwrap();
        if cursor == "0" {
            break;
        }
    }
    let expected: Vec<Vec<u8>> = model.keys().cloned().collect();
    assert!(
        keys == expected,
        "SCAN: {} of {}",
        keys.len(),
        expected.len()
    );
    let matching = client.call(&["KEYS", "a*1"]).elements();
    let wanted = expected
        .iter()
        .filter(|key| key[0] == b'a' && key.ends_with(b"1"));
    let wanted: Vec<Reply> = wanted.map(Reply::bulk).collect();
    assert_eq!(matching, wanted);
    for _ in 0..200 {
        match client.call(&["RANDOMKEY"]) {
            Reply::Bulk(Some(key)) => assert!(model.contains_key(&key), "{key:?} is gone"),
            other => panic!("there are keys: {other:?}"),
        }
    }
    // With tables the count is an estimate.
    let Reply::Integer(counted) = client.call(&["DBSIZE"]) else {
        panic!("DBSIZE is a number")
    };
    let (counted, keys) = (u64::try_from(counted).unwrap(), model.len() as u64);
    assert!(
        (keys / 2..keys * 3).contains(&counted),
        "{counted} for {keys}"
    );
}

#[test]
fn the_past_is_as_it_was() {
    let served = start(&["--set", "partition.history_ms=600000"]);
    let mut client = served.node.connect();
    let old = fill(&mut client);
    let Reply::Integer(at) = client.call(&["KV.TIMESTAMP"]) else {
        panic!("a timestamp is a number")
    };
    let at = at.to_string();
    let mut new = old.clone();
    delete_some(&mut client, &mut new);
    let again: Vec<Vec<u8>> = old.keys().step_by(3).cloned().collect();
    let sets: Vec<Vec<Vec<u8>>> = again
        .iter()
        .map(|key| vec![b"SET".to_vec(), key.clone(), b"new".to_vec()])
        .collect();
    run_all(&mut client, &sets, &Reply::ok());
    new.extend(again.into_iter().map(|key| (key, b"new".to_vec())));
    wait_for_tables(&served);
    check(&mut client, &old, Some(&at));
    check(&mut client, &new, None);
    for (key, value) in old.iter().step_by(101) {
        let then = client.call_bytes(&[b"KV.GET", key, b"AT", at.as_bytes()]);
        assert_eq!(then, Reply::bulk(value));
        let now = client.call_bytes(&[b"KV.GET", key]);
        assert_eq!(now, Reply::Bulk(new.get(key).cloned()));
    }
    let Reply::Integer(later) = client.call(&["KV.TIMESTAMP"]) else {
        panic!("a timestamp is a number")
    };
    let future = (later + (3_600_000_000_i64 << 12)).to_string();
    for words in [
        &["KV.GET", "a", "AT", &future] as &[&str],
        &["KV.SCAN", "-", "+", "AT", &future],
    ] {
        assert!(client.call(words).error().contains("in the future"));
    }
    for words in [
        &["KV.GET", "a", "AT", "1"] as &[&str],
        &["KV.SCAN", "-", "+", "AT", "1"],
    ] {
        let reply = client.call(words);
        assert!(reply.error().starts_with("TOOOLD "), "{words:?}: {reply:?}");
    }
}

#[test]
fn keys_of_any_bytes_are_ordered_and_ranges_end_where_they_say() {
    let served = start(&[]);
    let mut client = served.node.connect();
    let names: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\0\0",
        b"\r\n",
        b"g",
        b"g\0",
        b"n\xff",
        b"\xfe\0",
        b"\xff\xff",
    ];
    for name in names {
        assert_eq!(client.call_bytes(&[b"SET", name, name]), Reply::ok());
    }
    // Another database is another world.
    client.call(&["SELECT", "1"]);
    client.call(&["SET", "g", "other"]);
    client.call(&["SELECT", "0"]);
    let (next, found) = page(&mut client, &[b"KV.SCAN", b"-", b"+"], true);
    assert_eq!(next, None);
    let sorted: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(sorted, names, "they were written in order");
    assert!(found.iter().all(|(key, value)| key == value));
    let (_, found) = page(&mut client, &[b"KV.SCAN", b"g", b"g\0", b"KEYSONLY"], false);
    assert_eq!(found, [(b"g".to_vec(), Vec::new())]);
    assert_eq!(
        client.call_bytes(&[b"KV.DELRANGE", b"\0\0", b"n\xff"]),
        Reply::ok()
    );
    let (_, found) = page(&mut client, &[b"KV.SCAN", b"-", b"+", b"KEYSONLY"], false);
    let left: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!(
        left,
        [b"" as &[u8], b"\0", b"n\xff", b"\xfe\0", b"\xff\xff"]
    );
    assert_eq!(client.call(&["KV.DELRANGE", "-", "+"]), Reply::ok());
    let (next, found) = page(&mut client, &[b"KV.SCAN", b"-", b"+"], true);
    assert!(next.is_none() && found.is_empty());
    assert_eq!(client.call(&["RANDOMKEY"]), Reply::Bulk(None));
    client.call(&["SELECT", "1"]);
    assert_eq!(client.call(&["GET", "g"]), Reply::bulk("other"));
}

#[test]
fn the_search_for_damage_and_the_disk_are_told_of() {
    let served = start(&[]);
    let mut client = served.node.connect();
    wait_until("the disk was looked at", || {
        info(&mut client, "disk_total_bytes") > 0
    });
    wait_until("the reserve is made", || {
        info(&mut client, "disk_reserve_bytes") > 0
    });
    let reserve = std::fs::metadata(served._dir.path().join("data/RESERVE")).unwrap();
    assert_eq!(reserve.len(), info(&mut client, "disk_reserve_bytes"));
    assert_eq!(info(&mut client, "scrub_errors"), 0);
    // Turned down while the node runs.
    client.call(&["CONFIG", "SET", "disk.reserve_bytes", "0"]);
    wait_until("the reserve is gone", || {
        info(&mut client, "disk_reserve_bytes") == 0
    });
    assert!(!served._dir.path().join("data/RESERVE").exists());
}
