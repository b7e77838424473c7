//! `ashlar verify`, `backup`, `restore` and `inspect` on real nodes: what was acknowledged before a backup began is in
//! it, also under load; damage anywhere is told with its file.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use support::{Chance, Client, Ended, Node, Reply, encode, run, seed, wait_until};

/// So little memory, and such small tables and segments, that a few MiB bring flushes, merges and segments used again.
const SMALL: [&str; 14] = [
    "--set",
    "wal.segment_bytes=1 MiB",
    "--set",
    "wal.log_bytes_max=16 MiB",
    "--set",
    "partition.table_bytes=1 MiB",
    "--memory",
    "64MiB",
    "--cpus",
    "0",
    "--set",
    "partition.separate_bytes=1024",
    "--set",
    "partition.history_ms=0",
];

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn backup(data: &Path, to: &Path) -> Ended {
    run(&["backup", "--data", text(data), "--to", text(to)])
}

fn restore(from: &Path, data: &Path) -> Ended {
    run(&["restore", "--from", text(from), "--data", text(data)])
}

fn verify(data: &Path) -> Ended {
    run(&["verify", "--data", text(data)])
}

#[track_caller]
fn succeeds(ended: &Ended) {
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}

fn key(n: u64) -> String {
    format!("key:{n:06}")
}

/// A value that tells its key and its version; some are large enough for value files.
fn value(n: u64, version: u64) -> String {
    let filler = match n % 3 {
        0 => 3000,
        _ => 400,
    };
    format!("{n}:{version}:{}", "x".repeat(filler))
}

fn set(client: &mut Client, n: u64, version: u64) {
    let reply = client.call(&["SET", &key(n), &value(n, version)]);
    assert_eq!(reply, Reply::ok(), "SET {n}");
}

/// Writes `keys` keys, a hundred at once.
fn fill(client: &mut Client, keys: u64, version: u64) {
    for first in (0..keys).step_by(100) {
        let mut commands = Vec::new();
        for n in first..first + 100 {
            let (key, value) = (key(n), value(n, version));
            encode(&mut commands, &[b"SET", key.as_bytes(), value.as_bytes()]);
        }
        client.send(&commands).unwrap();
        for n in first..first + 100 {
            assert_eq!(client.read().unwrap(), Reply::ok(), "SET {n}");
        }
    }
}

fn version_of(client: &mut Client, n: u64) -> Option<u64> {
    let Reply::Bulk(found) = client.call(&["GET", &key(n)]) else {
        panic!("GET {n} is refused");
    };
    let found = String::from_utf8(found?).unwrap();
    let version = found.split(':').nth(1).unwrap().parse().unwrap();
    assert_eq!(found, value(n, version));
    Some(version)
}

/// Returns the files below a directory, with their sizes.
fn files(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else {
            found.insert(path.clone(), fs::metadata(&path).unwrap().len());
        }
    }
    found
}

fn tables(data: &Path) -> Vec<PathBuf> {
    files(&data.join("tables")).into_keys().collect()
}

/// Waits until the node has written tables.
fn wait_for_tables(data: &Path) {
    wait_until("tables are written", || !tables(data).is_empty());
}

/// Makes a stopped node with tables, value files, range deletions and some log behind them.
fn stopped_node(data: &Path) {
    let node = Node::start(data, &SMALL);
    let mut client = node.connect();
    for version in 0..4 {
        fill(&mut client, 6000, version);
    }
    for n in 0..100 {
        let deleted = client.call(&["DEL", &key(n * 7)]);
        assert_eq!(deleted, Reply::Integer(1));
    }
    wait_for_tables(data);
    assert_eq!(node.stop("TERM").code, Some(0));
}

#[test]
fn a_whole_node_is_verified_inspected_and_every_kind_of_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    stopped_node(&data);
    let whole = verify(&data);
    succeeds(&whole);
    assert!(
        whole.out.contains("verified ") && !whole.out.contains(" 0 tables"),
        "{whole:?}"
    );

    let partition = run(&["inspect", "partition", text(&data), "0"]);
    succeeds(&partition);
    for part in ["run ", "table ", "value file ", "garbage"] {
        assert!(partition.out.contains(part), "{part}: {partition:?}");
    }
    run(&["inspect", "partition", text(&data), "9"]).refused(1, &["no partition 9", "0 to 0"]);
    let manifest = run(&["inspect", "manifest", text(&data), "--tables"]);
    succeeds(&manifest);
    assert!(manifest.out.contains("generation "), "{manifest:?}");
    let table = tables(&data)
        .into_iter()
        .find(|path| path.extension().is_some_and(|suffix| suffix == "table"))
        .unwrap();
    let keys = run(&["inspect", "table", text(&table), "--keys", "--limit", "5"]);
    succeeds(&keys);
    assert!(
        keys.out.contains("key:") && keys.out.contains("--limit ends"),
        "{keys:?}"
    );

    let mut chance = Chance::new(seed());
    for path in files(&data).into_keys() {
        let name = text(&path).to_owned();
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let bytes = file.metadata().unwrap().len();
        let is_table = name.ends_with(".table") || name.ends_with(".values");
        if !is_table || whole.out.contains(&format!("{name} belongs to nothing")) {
            continue;
        }
        let (offset, mut byte) = (chance.below(bytes), [0]);
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x20], offset).unwrap();
        let found = verify(&data);
        found.refused(1, &["is damaged in ", text(&data), "restore"]);
        assert!(
            found.out.contains(&format!("damaged: {name} offset ")),
            "{offset}: {found:?}"
        );
        file.write_all_at(&byte, offset).unwrap();
    }
    let mut used = tables(&data).into_iter();
    let lost = used
        .find(|path| {
            !whole
                .out
                .contains(&format!("{} belongs to nothing", text(path)))
        })
        .unwrap();
    fs::rename(&lost, dir.path().join("lost")).unwrap();
    let found = verify(&data);
    found.refused(1, &["is damaged in "]);
    assert!(found.out.contains(text(&lost)), "{found:?}");
    fs::rename(dir.path().join("lost"), &lost).unwrap();
    succeeds(&verify(&data));
}

#[test]
fn a_running_node_is_not_verified_and_nothing_is_no_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    verify(&data).refused(1, &["no data directory", text(&data)]);
    assert!(!data.exists());
    backup(&data, &dir.path().join("to")).refused(1, &["no data directory", text(&data)]);
    restore(&dir.path().join("to"), &data).refused(1, &["holds no backup"]);
    let node = Node::start(&data, &SMALL);
    verify(&data).refused(1, &["in use by another process", text(&data)]);
    assert_eq!(node.stop("TERM").code, Some(0));
    succeeds(&verify(&data));
}

#[test]
fn a_stopped_node_is_backed_up_and_restored_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let [data, to, again] = ["data", "to", "again"].map(|name| dir.path().join(name));
    stopped_node(&data);
    succeeds(&backup(&data, &to));
    succeeds(&verify(&to));
    let refused = Node::try_start(&to, &[]).expect_err("a backup is no data directory");
    refused.refused(1, &["BACKUP is there"]);
    let restored = restore(&to, &again);
    succeeds(&restored);
    restore(&to, &again).refused(1, &["is not empty", "--data"]);
    let node = Node::start(&again, &SMALL);
    let mut client = node.connect();
    for n in 0..6000 {
        let expected = (n >= 700 || n % 7 != 0).then_some(3);
        assert_eq!(version_of(&mut client, n), expected, "key {n}");
    }
    set(&mut client, 0, 9);
    assert_eq!(node.stop("TERM").code, Some(0));
    succeeds(&verify(&again));
}

#[test]
fn what_was_done_for_a_session_is_remembered_by_a_restored_node() {
    const SESSION: &str = "a-session-with-a-name";
    let dir = tempfile::tempdir().unwrap();
    let [data, to, again] = ["data", "to", "again"].map(|name| dir.path().join(name));
    let write = |client: &mut Client, sequence: &str| {
        client.call(&["SESSION", SESSION, "SEQ", sequence]);
        let sum = client.call(&["INCR", "sum"]);
        assert_eq!(client.call(&["SESSION", "OFF"]), Reply::ok());
        sum
    };
    let node = Node::start(&data, &SMALL);
    let mut client = node.connect();
    assert_eq!(write(&mut client, "1"), Reply::Integer(1));
    assert_eq!(write(&mut client, "2"), Reply::Integer(2));
    for version in 0..4 {
        fill(&mut client, 6000, version);
    }
    wait_for_tables(&data);
    // The first two are in tables by now, the third is in the log.
    assert_eq!(write(&mut client, "3"), Reply::Integer(3));
    succeeds(&backup(&data, &to));
    assert_eq!(node.stop("TERM").code, Some(0));
    succeeds(&restore(&to, &again));
    let node = Node::start(&again, &SMALL);
    let mut client = node.connect();
    for (sequence, sum) in [("3", 3), ("1", 1), ("2", 2), ("4", 4), ("3", 3)] {
        let found = write(&mut client, sequence);
        assert_eq!(found, Reply::Integer(sum), "write {sequence}");
    }
}

#[test]
fn a_second_backup_copies_only_new_files_and_drops_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let [data, to, again] = ["data", "to", "again"].map(|name| dir.path().join(name));
    stopped_node(&data);
    succeeds(&backup(&data, &to));
    let first = files(&to.join("tables"));
    let made: BTreeMap<_, _> = first
        .keys()
        .map(|path| {
            (
                path.clone(),
                fs::metadata(path).unwrap().modified().unwrap(),
            )
        })
        .collect();
    let second = backup(&data, &to);
    succeeds(&second);
    assert_eq!(files(&to.join("tables")), first);
    for (path, made) in made {
        assert_eq!(
            fs::metadata(&path).unwrap().modified().unwrap(),
            made,
            "copied again"
        );
    }
    assert_eq!(fs::read_dir(to.join("shards")).unwrap().count(), 1);

    let node = Node::start(&data, &SMALL);
    let mut client = node.connect();
    for version in 10..14 {
        fill(&mut client, 6000, version);
    }
    succeeds(&backup(&data, &to));
    assert_eq!(node.stop("TERM").code, Some(0));
    let listing = fs::read_to_string(to.join("BACKUP")).unwrap();
    for path in files(&to.join("tables")).keys() {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(listing.contains(name), "{name} is of no use any more");
    }
    succeeds(&restore(&to, &again));
    let node = Node::start(&again, &SMALL);
    let mut client = node.connect();
    assert_eq!(version_of(&mut client, 5), Some(13));
    let other = dir.path().join("other");
    assert_eq!(Node::start(&other, &SMALL).stop("TERM").code, Some(0));
    backup(&other, &to).refused(1, &["another node", "--to"]);
    fs::write(dir.path().join("letter"), "dear").unwrap();
    backup(&data, dir.path()).refused(1, &["is no backup and not empty", "--to"]);
}

#[test]
fn a_damaged_backup_is_refused_with_the_file_named() {
    let dir = tempfile::tempdir().unwrap();
    let [data, to, again] = ["data", "to", "again"].map(|name| dir.path().join(name));
    stopped_node(&data);
    succeeds(&backup(&data, &to));
    let mut chance = Chance::new(seed());
    for path in files(&to)
        .into_keys()
        .filter(|path| !path.ends_with("LOCK"))
    {
        let whole = fs::read(&path).unwrap();
        let mut bad = whole.clone();
        let at = usize::try_from(chance.below(whole.len() as u64)).unwrap();
        bad[at] ^= 0x08;
        for bad in [bad, whole[..at].to_vec()] {
            fs::write(&path, bad).unwrap();
            let refused = restore(&to, &again);
            assert_eq!(refused.code, Some(1), "{refused:?}");
            // What the node was made as is read before all else.
            let name = match path.ends_with("ASHLAR") {
                true => "ASHLAR",
                false => text(&path),
            };
            assert!(refused.err.contains(name), "{name}: {refused:?}");
            let left: Vec<_> = files(&again).into_keys().collect();
            assert!(left.iter().all(|path| path.ends_with("LOCK")), "{left:?}");
        }
        fs::remove_file(&path).unwrap();
        let refused = restore(&to, &again);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        fs::write(&path, whole).unwrap();
    }
    succeeds(&restore(&to, &again));
    // Damage of the node is not carried into a backup, and the one before stays.
    let table = files(&again.join("tables")).into_keys().next().unwrap();
    let table = data.join(table.strip_prefix(&again).unwrap());
    let fresh = dir.path().join("fresh");
    let mut bad = fs::read(&table).unwrap();
    bad[5000] ^= 1;
    fs::write(&table, bad).unwrap();
    backup(&data, &fresh).refused(1, &["is damaged", text(&table)]);
    assert!(!fresh.join("BACKUP").exists());
    succeeds(&verify(&to));
}

/// Writes random keys until told to stop; `done` is the version of each that was acknowledged last.
fn load(addr: std::net::SocketAddr, seed: u64, done: &[AtomicU64], stop: &AtomicBool) {
    let (mut client, mut chance) = (Client::connect(addr), Chance::new(seed));
    let mut version = 0;
    while !stop.load(Ordering::Relaxed) {
        version += 1;
        let n = chance.below(done.len() as u64);
        let reply = client.call(&["SET", &key(n), &value(n, version)]);
        match reply {
            Reply::Error(text) => assert!(text.starts_with("OOM"), "{text}"),
            reply => {
                assert_eq!(reply, Reply::ok());
                done[usize::try_from(n).unwrap()].store(version, Ordering::Release);
            }
        }
    }
}

#[test]
fn backups_of_a_running_node_under_load_have_all_that_was_acknowledged_before() {
    let dir = tempfile::tempdir().unwrap();
    let [data, to] = ["data", "to"].map(|name| dir.path().join(name));
    let node = Node::start(&data, &SMALL);
    let done: Vec<AtomicU64> = (0..8000).map(|_| AtomicU64::new(0)).collect();
    let (stop, seed, addr) = (AtomicBool::new(false), seed(), node.addr);
    std::thread::scope(|scope| {
        scope.spawn(|| load(addr, seed, &done, &stop));
        wait_for_tables(&data);
        for round in 0..5 {
            let before: Vec<u64> = done
                .iter()
                .map(|done| done.load(Ordering::Acquire))
                .collect();
            let made = backup(&data, &to);
            if made.code != Some(0) {
                stop.store(true, Ordering::Relaxed);
                panic!("round {round}: {made:?}");
            }
            let again = dir.path().join(format!("again-{round}"));
            let restored = restore(&to, &again);
            if restored.code != Some(0) {
                stop.store(true, Ordering::Relaxed);
                panic!("round {round}: {restored:?}");
            }
            let other = Node::start(&again, &SMALL);
            let mut client = other.connect();
            for (n, before) in (0..).zip(before) {
                let found = version_of(&mut client, n).unwrap_or(0);
                if found < before {
                    stop.store(true, Ordering::Relaxed);
                    let lives = version_of(&mut node.connect(), n);
                    panic!(
                        "round {round}: key {n} is of version {found}, {before} was acknowledged; the node itself has \
                         {lives:?}; {made:?} {restored:?}"
                    );
                }
            }
            assert_eq!(other.stop("TERM").code, Some(0));
            fs::remove_dir_all(again).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(node.stop("TERM").code, Some(0));
    succeeds(&verify(&data));
}
