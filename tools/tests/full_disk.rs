//! A node on a disk that fills up: reads and deletions go on, writes are refused with a reason and
//! are taken again by themselves once there is room, and what was acknowledged outlives a kill.
//! Needs root and loop devices; says so when it has neither.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has failed"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Client, Node, Reply, eventually, wait_until};

const SMALL: [&str; 6] = [
    "--set",
    "wal.segment_bytes=1 MiB",
    "--set",
    "wal.log_bytes_max=1 MiB",
    "--cpus",
    "0",
];

/// An ext4 file system in a file, in memory where there is such a place, for nothing here is about
/// the speed of a disk; unmounted and gone when dropped.
struct Disk {
    place: tempfile::TempDir,
    device: String,
}

impl Disk {
    /// Makes and mounts one of `mib` MiB; `None`, with a message, where that is not allowed.
    fn mount(mib: u64) -> Option<Self> {
        if !support::is_root() {
            eprintln!("skipped: only root may mount a disk to fill");
            return None;
        }
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let place = place.unwrap();
        std::fs::create_dir(place.path().join("mounted")).unwrap();
        let image = std::fs::File::create(place.path().join("image")).unwrap();
        image.set_len(mib << 20).unwrap();
        let image = place.path().join("image");
        let image = image.to_str().unwrap();
        let Some(device) = output("losetup", &["--find", "--show", image]) else {
            eprintln!("skipped: loop devices do not work here");
            return None;
        };
        let disk = Self { place, device };
        let mounted = disk.path();
        let mounted = output("mkfs.ext4", &["-q", &disk.device])
            .and_then(|_| output("mount", &[&disk.device, mounted.to_str().unwrap()]));
        if mounted.is_none() {
            eprintln!("skipped: ext4 cannot be made and mounted here");
            return None;
        }
        Some(disk)
    }

    fn path(&self) -> PathBuf {
        self.place.path().join("mounted")
    }

    /// Takes all space that is left with one file; returns its path.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let (block, mut at) = (vec![0xAB; 64 << 10], 0);
        let file = std::fs::File::create(&path).unwrap();
        while let Ok(written) = std::os::unix::fs::FileExt::write_at(&file, &block, at) {
            at += written as u64;
        }
        // What a page cache has taken, the disk must take too.
        drop(file.sync_all());
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The kernel lets go of a killed node's files a little after the process is gone.
        let unmounted = || output("umount", &[self.path().to_str().unwrap()]).is_some();
        if !eventually(unmounted) {
            eprintln!("cannot unmount {}", self.path().display());
        }
        output("losetup", &["-d", &self.device]);
    }
}

/// Runs a program; returns what it printed, if it worked.
fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Keys and values that were acknowledged.
struct Written {
    next: u64,
    keys: Vec<u64>,
}

impl Written {
    /// Sets one more key; returns the error if the node refuses.
    fn set(&mut self, client: &mut Client) -> Option<String> {
        self.next += 1;
        match client.call(&["SET", &key(self.next), &value(self.next)]) {
            Reply::Error(text) => Some(text),
            reply => {
                assert_eq!(reply, Reply::ok());
                self.keys.push(self.next);
                None
            }
        }
    }

    fn check(&self, client: &mut Client) {
        for n in &self.keys {
            let found = client.call(&["GET", &key(*n)]);
            assert!(found == Reply::bulk(value(*n)), "{} is lost", key(*n));
        }
        // DBSIZE is an estimate once keys lie in tables.
        let keys = client.call(&["KEYS", "*"]).elements();
        assert_eq!(keys.len(), self.keys.len());
    }
}

fn key(n: u64) -> String {
    format!("key:{n:06}")
}

fn value(n: u64) -> String {
    format!("{n}:{}", "v".repeat(usize::try_from(n % 7 * 1000).unwrap()))
}

/// Writes until the node refuses.
fn write_until_full(written: &mut Written, client: &mut Client) {
    for _ in 0..100_000 {
        if let Some(error) = written.set(client) {
            assert!(error.starts_with("DISKFULL "), "{error}");
            return;
        }
    }
    panic!("the disk never fills");
}

fn fill_free_and_go_on(data: &Path, disk: &Disk, written: &mut Written) {
    let node = Node::start(data, &SMALL);
    let mut client = node.connect();
    written.check(&mut client);
    (0..300).for_each(|_| assert_eq!(written.set(&mut client), None));
    let ballast = disk.fill();
    write_until_full(written, &mut client);
    // It says so again, serves reads, and takes deletions.
    let error = written.set(&mut client).expect("the disk is still full");
    assert!(error.starts_with("DISKFULL "), "{error}");
    written.check(&mut client);
    for _ in 0..50 {
        let n = written.keys.remove(0);
        assert_eq!(client.call(&["DEL", &key(n)]), Reply::Integer(1));
    }
    written.check(&mut client);
    std::fs::remove_file(ballast).unwrap();
    // While it is full, cleaning may make room for one or two; now there is room for all.
    wait_until("writes are taken again", || {
        (0..500).all(|_| written.set(&mut client).is_none())
    });
    node.kill();
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(disk) = Disk::mount(64) else { return };
    let data = disk.path().join("data");
    let mut written = Written {
        next: 0,
        keys: Vec::new(),
    };
    for _ in 0..3 {
        fill_free_and_go_on(&data, &disk, &mut written);
    }
    let node = Node::start(&data, &SMALL);
    written.check(&mut node.connect());
    assert_eq!(node.stop("TERM").code, Some(0));
}

#[test]
fn a_disk_that_cannot_hold_the_logs_is_refused_at_once() {
    let Some(disk) = Disk::mount(64) else { return };
    let data = disk.path().join("data");
    let ended = Node::try_start(&data, &["--cpus", "0"]).expect_err("two segments are 128 MiB");
    ended.refused(1, &["MiB in all", "128 MiB", "wal.segment_bytes"]);
    let node = Node::start(&data, &SMALL);
    assert_eq!(
        node.stop("TERM").code,
        Some(0),
        "what was left behind is in nobody's way"
    );
}

/// Few bytes in memory, so that nearly all lies in tables; and no history, so that what is deleted
/// need not be kept.
const TABLES: [&str; 10] = [
    "--memory",
    "64 MiB",
    "--set",
    "partition.table_bytes=1 MiB",
    "--set",
    "partition.history_ms=0",
    "--set",
    "wal.segments_spare=1",
    "--set",
    "disk.stop_percent=10",
];

fn info(client: &mut Client, field: &str) -> String {
    let Reply::Bulk(Some(text)) = client.call(&["INFO", "disk"]) else {
        panic!("INFO is a text")
    };
    let text = String::from_utf8(text).unwrap();
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("the field is there").to_owned()
}

/// Deletes what `written` has at the places in `doomed`, one by one.
fn delete_each(written: &mut Written, client: &mut Client, doomed: impl Fn(u64) -> bool) {
    let gone = |n: &mut u64| doomed(*n);
    for n in written.keys.extract_if(.., gone) {
        // The log's reserve for deletions is small here, and it takes a moment to give it more.
        wait_until("a deletion is taken", || {
            client.call(&["DEL", &key(n)]) == Reply::Integer(1)
        });
    }
}

/// Deletes the older half of what `written` has, as a range.
fn delete_half(written: &mut Written, client: &mut Client) {
    let rest = written.keys.split_off(written.keys.len() / 2);
    let ends = [key(0), key(rest[0])];
    let deleted = client.call(&["KV.DELRANGE", &ends[0], &ends[1]]);
    assert_eq!(deleted, Reply::ok());
    written.keys = rest;
}

/// Fills a node's disk with tables, deletes, and waits until it takes writes again.
fn fill_delete_and_go_on(
    written: &mut Written,
    client: &mut Client,
    delete: impl Fn(&mut Written, &mut Client),
) {
    write_until_full(written, client);
    let keys = written.keys.len();
    assert!(keys > 2000, "much of the disk was used: {keys}");
    written.check(client);
    delete(written, client);
    written.check(client);
    wait_until("merges have made room", || {
        (0..200).all(|_| written.set(client).is_none())
    });
    written.check(client);
}

#[test]
fn tables_that_fill_the_disk_give_way_to_deletions() {
    let Some(disk) = Disk::mount(48) else { return };
    let data = disk.path().join("data");
    let flags = [&SMALL[..], &TABLES, &["--set", "disk.low_percent=20"]].concat();
    let mut written = Written {
        next: 0,
        keys: Vec::new(),
    };
    let node = Node::start(&data, &flags);
    let mut client = node.connect();
    fill_delete_and_go_on(&mut written, &mut client, delete_half);
    // What goes is a little of every file, and all the space that comes back is in files of values.
    fill_delete_and_go_on(&mut written, &mut client, |written, client| {
        delete_each(written, client, |n| n % 4 == 0);
    });
    node.kill();
    let node = Node::start(&data, &flags);
    let mut client = node.connect();
    written.check(&mut client);
    fill_delete_and_go_on(&mut written, &mut client, |written, client| {
        delete_each(written, client, |n| n % 100 == 0);
        delete_half(written, client);
    });
    wait_until("the reserve is made again", || {
        info(&mut client, "disk_reserve_bytes") != "0"
    });
    assert_eq!(node.stop("TERM").code, Some(0));
}

#[test]
fn a_node_killed_on_a_full_disk_starts_on_it() {
    let Some(disk) = Disk::mount(64) else { return };
    let data = disk.path().join("data");
    let mut written = Written {
        next: 0,
        keys: Vec::new(),
    };
    let node = Node::start(&data, &SMALL);
    let mut client = node.connect();
    disk.fill();
    write_until_full(&mut written, &mut client);
    node.kill();
    let node = Node::start(&data, &SMALL);
    written.check(&mut node.connect());
    assert_eq!(node.stop("TERM").code, Some(0));
}

#[test]
fn a_full_disk_cannot_be_formatted() {
    let Some(disk) = Disk::mount(64) else { return };
    let (data, ballast) = (disk.path().join("data"), disk.fill());
    let ended = Node::try_start(&data, &SMALL).expect_err("there is no room");
    ended.refused(1, &["No space left"]);
    std::fs::remove_file(ballast).unwrap();
    assert_eq!(Node::start(&data, &SMALL).stop("TERM").code, Some(0));
}
