//! What the `ashlar` command says and how it ends: every mistake that a user can make is one line
//! that names the thing, the value and what is allowed, with an exit code that is not 0 and nothing
//! left behind.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect has failed"
)]

#[path = "cli/mistakes.rs"]
mod mistakes;
mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use support::{Node, Reply, run, segments};

const SMALL: [&str; 4] = ["--set", "wal.segment_bytes=1 MiB", "--cpus", "0"];

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// Asserts that `start` with `flags` is refused with all of `parts` in its line.
#[track_caller]
fn start_is_refused(flags: &[&str], parts: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let ended = Node::try_start(&data, flags).expect_err("the flags are wrong");
    ended.refused(2, parts);
    assert!(!data.exists(), "a mistake leaves nothing behind");
    assert!(!data.exists(), "a refused start made {}", data.display());
}

#[test]
fn version_and_help_are_told() {
    let version = run(&["--version"]);
    assert_eq!(
        (version.code, version.out.as_str()),
        (Some(0), concat!("ashlar ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    for command in [
        "start", "format", "config", "inspect", "verify", "backup", "restore", "bench", "sim",
    ] {
        assert!(
            help.out.contains(&format!("\n  {command} ")),
            "{command} is missing: {}",
            help.out
        );
        assert_eq!(run(&[command, "--help"]).code, Some(0), "{command} --help");
    }
}

#[test]
fn config_lists_every_key() {
    let ended = run(&["config"]);
    assert_eq!(ended.code, Some(0));
    for key in [
        "data",
        "listen",
        "client.clients_max",
        "wal.segment_bytes",
        "partition.inflight_bytes_max",
    ] {
        assert!(ended.out.contains(key), "{key} is missing: {}", ended.out);
    }
}

#[test]
fn who_leaves_out_a_command_is_told_all_there_are() {
    for word in ["inspect", "member"] {
        let ended = run(&[word]);
        assert_eq!(ended.code, Some(2), "{word}: {ended:?}");
        for part in ["Usage: ashlar", "Commands:"] {
            assert!(ended.err.contains(part), "{word}: {ended:?}");
        }
    }
}

#[test]
fn wrong_configuration_is_refused_with_what_is_allowed() {
    start_is_refused(
        &["--set", "wal.segmentbytes=1"],
        &[
            "unknown key wal.segmentbytes",
            "did you mean wal.segment_bytes?",
        ],
    );
    start_is_refused(
        &["--set", "wal.segment_bytes=1"],
        &["--set: wal.segment_bytes = 1", "1 MiB to 1 GiB"],
    );
    start_is_refused(
        &["--set", "wal.inflight=-1"],
        &["wal.inflight = -1", "from 1 to 4"],
    );
    start_is_refused(&["--set", "nothing"], &["--set nothing", "KEY=VALUE"]);
    start_is_refused(
        &["--memory", "5XB"],
        &["memory_bytes = 5XB", "64 MiB to 16 TiB"],
    );
    start_is_refused(
        &["--memory", "1KiB"],
        &["memory_bytes = 1KiB", "64 MiB to 16 TiB"],
    );
    start_is_refused(&["--cpus", "0-"], &["cpus = 0-"]);
    start_is_refused(
        &["--cpus", "1023"],
        &["--cpus 1023 is not allowed", "may use CPUs [0"],
    );
    run(&["start", "--listen", "here"]).refused(2, &["listen = here", "127.0.0.1:6379"]);
}

#[test]
fn configuration_files_are_read_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    start_is_refused(
        &["--config", text(&path)],
        &["cannot read configuration file", text(&path)],
    );
    fs::write(&path, "[wal]\ninflihgt = 2\n").unwrap();
    start_is_refused(
        &["--config", text(&path)],
        &[
            &format!("{}:2: ", text(&path)),
            "did you mean wal.inflight?",
        ],
    );
    fs::write(&path, "[client]\nclients_max = 7\n").unwrap();
    let node = Node::start(
        &dir.path().join("data"),
        &["--config", text(&path), "--cpus", "0"],
    );
    let info = node.connect().call(&["INFO", "clients"]);
    assert!(
        matches!(&info, Reply::Bulk(Some(text)) if text.windows(13).any(|part| part == b"maxclients:7\r")),
        "{info:?}"
    );
}

#[test]
fn one_directory_has_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &SMALL);
    let mut client = node.connect();
    assert_eq!(client.call(&["SET", "here", "first"]), Reply::ok());
    let second = Node::try_start(dir.path(), &[]).expect_err("the directory is in use");
    second.refused(
        1,
        &["in use by another process", text(dir.path()), "--data"],
    );
    run(&["format", "--data", text(dir.path())]).refused(1, &[text(dir.path())]);
    assert_eq!(client.call(&["GET", "here"]), Reply::bulk("first"));
    assert_eq!(node.stop("TERM").code, Some(0));
    run(&["format", "--data", text(dir.path())])
        .refused(1, &["formatted already", text(dir.path())]);
}

#[test]
fn one_port_has_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("first"), &SMALL);
    let (addr, data) = (node.addr.to_string(), dir.path().join("second"));
    let second = run(&["start", "--data", text(&data), "--listen", &addr]);
    second.refused(1, &[&format!("cannot listen on {addr}"), "--listen"]);
    assert!(!data.exists());
    assert_eq!(
        node.connect().call(&["PING"]),
        Reply::Simple("PONG".to_owned())
    );
}

#[test]
fn an_address_of_another_machine_is_refused_with_what_helps() {
    let dir = tempfile::tempdir().unwrap();
    // An address for documentation: nobody has it.
    let args = [
        "start",
        "--data",
        text(dir.path()),
        "--listen",
        "192.0.2.1:6379",
    ];
    run(&args).refused(
        1,
        &["192.0.2.1:6379", "no address of this machine", "--listen"],
    );
}

#[test]
fn who_keeps_data_in_memory_is_warned() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: there is no /dev/shm");
        return;
    };
    let args = [&SMALL[..], &["--memory", "1 TiB"]].concat();
    let ended = Node::start(&dir.path().join("data"), &args).stop("TERM");
    for part in [
        "warning: the data are on tmpfs",
        "warning: memory_bytes are 1048576 MiB",
    ] {
        assert!(ended.err.contains(part), "{ended:?}");
    }
}

#[test]
fn a_port_is_free_again_after_a_stop_and_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &SMALL);
    let (addr, mut client) = (node.addr.to_string(), node.connect());
    assert_eq!(client.call(&["PING"]), Reply::Simple("PONG".to_owned()));
    node.kill();
    let args = ["start", "--data", text(dir.path()), "--listen", &addr];
    let node = Node::try_start_bare(&args).expect("the port is free after a kill");
    assert_eq!(
        node.connect().call(&["PING"]),
        Reply::Simple("PONG".to_owned())
    );
    assert_eq!(node.stop("INT").code, Some(0));
    Node::try_start_bare(&args).expect("the port is free after a stop");
}

#[test]
fn what_is_no_data_directory_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter"), "dear").unwrap();
    let ended = Node::try_start(&foreign, &[]).expect_err("the directory holds something else");
    ended.refused(1, &["not empty", "letter is there", "--data"]);
    assert_eq!(
        fs::read_dir(&foreign).unwrap().count(),
        1,
        "nothing was put there"
    );
    let file = foreign.join("letter");
    for path in [
        file.as_path(),
        &file.join("below"),
        Path::new("/proc/ashlar-data"),
        &dir.path().join("a/b/c"),
    ] {
        let ended = Node::try_start(path, &[]).expect_err("that is no directory");
        ended.refused(1, &["cannot ", text(path)]);
    }
    assert_eq!(fs::read(file).unwrap(), b"dear");
}

#[test]
fn an_unreadable_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        run(&["format", "--data", text(dir.path()), "--shards", "1"]).code,
        Some(0)
    );
    let path = dir.path().join("ASHLAR");
    let good = fs::read_to_string(&path).unwrap();
    for bad in [
        String::new(),
        good.replace("version = 3", "version = 1"),
        good.replace("shards = 1", "shards = 0"),
        "\u{0}".to_owned(),
    ] {
        fs::write(&path, bad).unwrap();
        let ended = Node::try_start(dir.path(), &[]).expect_err("the format is damaged");
        ended.refused(
            1,
            &[text(&path), "cannot be read as an ashlar data directory"],
        );
    }
}

#[test]
fn split_keys_must_ascend() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for keys in [["b", "a"], ["a", "a"], ["", "a"]] {
        let ended = run(&[
            "format",
            "--data",
            text(&data),
            "--split-at",
            keys[0],
            "--split-at",
            keys[1],
        ]);
        ended.refused(2, &["--split-at", "ascending"]);
        assert!(!data.exists(), "a refused format made {}", data.display());
    }
    let ended = run(&[
        "format",
        "--data",
        text(&data),
        "--split-at",
        "a",
        "--split-at",
        "b",
        "--shards",
        "2",
    ]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("2 shards, 3 partitions"), "{ended:?}");
    assert_eq!(Node::start(&data, &[]).stop("TERM").code, Some(0));
}

#[test]
fn shards_share_a_cpu_when_there_are_fewer() {
    let dir = tempfile::tempdir().unwrap();
    run(&[
        "format",
        "--data",
        text(dir.path()),
        "--shards",
        "3",
        "--split-at",
        "g",
        "--split-at",
        "t",
    ]);
    let node = Node::start(dir.path(), &["--cpus", "0"]);
    let mut client = node.connect();
    for key in ["apple", "melon", "zucchini"] {
        assert_eq!(client.call(&["SET", key, key]), Reply::ok());
    }
    let ended = node.stop("TERM");
    assert!(
        ended.out.contains("3 on CPUs [0]; shards share CPUs"),
        "{ended:?}"
    );
    let node = Node::start(dir.path(), &[]);
    for key in ["apple", "melon", "zucchini"] {
        assert_eq!(node.connect().call(&["GET", key]), Reply::bulk(key));
    }
}

#[test]
fn a_signal_is_told_and_the_end_is_clean() {
    for signal in ["INT", "TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let ended = Node::start(dir.path(), &SMALL).stop(signal);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(
            ended.out.ends_with(&format!(
                "SIG{signal}: stopping; everything acknowledged is on disk\nstopped\n"
            )),
            "{ended:?}"
        );
    }
}

/// Fills a data directory with a few hundred acknowledged writes, and stops the node with `signal`.
fn written(data: &Path, signal: &str) {
    let node = Node::start(data, &SMALL);
    let mut client = node.connect();
    for n in 0..200 {
        assert_eq!(
            client.call(&["SET", &format!("key:{n}"), &"v".repeat(500)]),
            Reply::ok()
        );
    }
    assert!(node.stop(signal).code.is_none_or(|code| code == 0));
}

#[test]
fn damage_of_what_was_acknowledged_is_refused_with_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "TERM");
    let path = segments(dir.path(), 0).remove(0);
    let segment = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut byte = [0];
    // In the tenth batch: each of the writes was one, of one block.
    let offset = 10 * 4096 + 300;
    segment.read_exact_at(&mut byte, offset).unwrap();
    segment.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
    let before = fs::read(&path).unwrap();
    for _ in 0..2 {
        let ended = Node::try_start(dir.path(), &[]).expect_err("acknowledged bytes are damaged");
        ended.refused(1, &[text(&path), "is damaged at offset 40960"]);
    }
    assert!(
        fs::read(&path).unwrap() == before,
        "a refused start changes nothing"
    );
    let inspected = run(&["inspect", "wal", text(path.parent().unwrap())]);
    assert_ne!(inspected.code, Some(0), "{inspected:?}");
    assert!(
        (inspected.out + &inspected.err).contains("40960"),
        "the offset is told"
    );
    segment.write_all_at(&byte, offset).unwrap();
    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.connect().call(&["DBSIZE"]), Reply::Integer(200));
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), &SMALL);
    let mut client = node.connect();
    for n in 0..30 {
        assert_eq!(
            client.call(&["SET", &format!("key:{n}"), &"v".repeat(100_000)]),
            Reply::ok()
        );
    }
    assert_eq!(node.stop("TERM").code, Some(0));
    // The second of at least three that hold data.
    fs::remove_file(segments(dir.path(), 0).remove(1)).unwrap();
    let ended = Node::try_start(dir.path(), &[]).expect_err("acknowledged bytes are gone");
    ended.refused(1, &["is damaged at offset", text(dir.path())]);
}

#[test]
fn garbage_behind_the_end_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "KILL");
    let path = segments(dir.path(), 0).remove(0);
    let segment = fs::File::options().write(true).open(&path).unwrap();
    let used = fs::read(&path)
        .unwrap()
        .iter()
        .rposition(|byte| *byte != 0)
        .unwrap() as u64;
    segment
        .write_all_at(&[0xA5; 10_000], used.next_multiple_of(4096))
        .unwrap();
    let node = Node::start(dir.path(), &[]);
    assert_eq!(node.connect().call(&["DBSIZE"]), Reply::Integer(200));
}

#[test]
fn inspect_finds_a_whole_log_whole() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), "TERM");
    let wal = segments(dir.path(), 0)
        .remove(0)
        .parent()
        .unwrap()
        .to_owned();
    let ended = run(&["inspect", "wal", text(&wal)]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let nothing = run(&["inspect", "wal", text(&dir.path().join("nowhere"))]);
    nothing.refused(1, &["nowhere"]);
}

#[test]
fn a_file_system_without_direct_writes_is_refused_or_serves() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: there is no /dev/shm");
        return;
    };
    match Node::try_start(&dir.path().join("data"), &SMALL) {
        Ok(node) => assert_eq!(node.connect().call(&["SET", "a", "b"]), Reply::ok()),
        Err(ended) => ended.refused(1, &["direct", text(dir.path())]),
    }
}
