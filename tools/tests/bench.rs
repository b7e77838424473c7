//! `ashlar bench` as a user runs it: against a node, against a server that loses what it acknowledged, with wrong
//! words, and ended early. How fast anything is does not matter here.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

#[allow(unused_imports, reason = "no client connects here")]
mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Node, run, wait_until};

const SMALL: [&str; 4] = ["--set", "wal.segment_bytes=1 MiB", "--cpus", "0"];

/// The flags of a short run on few keys, with every key read at the end.
const SHORT: [&str; 11] = [
    "--seconds",
    "2",
    "--warm-up",
    "0",
    "--keys",
    "500",
    "--load",
    "--check",
    "-c",
    "8",
    "--no-tui",
];

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

#[test]
fn a_node_serves_every_kind_of_operation_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("data"), &SMALL);
    let files = ["a.json", "a.hlog", "a.html"].map(|name| dir.path().join(name));
    let addr = format!("n1={}", node.addr);
    let mix = "get=4,set=4,insert=1,incr=2,del=1,scan=1,rmw=1";
    let mut words = vec![
        "bench", "run", "--target", &addr, "--rate", "1k", "--mix", mix,
    ];
    words.extend([
        "--distribution",
        "zipfian",
        "--value-bytes",
        "50:9,3000:1",
        "--compressible",
        "30",
    ]);
    words.extend([
        "--json",
        text(&files[0]),
        "--hdr",
        text(&files[1]),
        "--html",
        text(&files[2]),
    ]);
    words.extend(SHORT);
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "n1 (127.0.0.1:",
        "durable: every reply",
        "open loop, 1000/s due",
        "0 wrong",
    ] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    let json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&files[0]).unwrap()).unwrap();
    let phases = json["subjects"][0]["phases"].as_array().unwrap();
    let names: Vec<_> = phases
        .iter()
        .map(|phase| phase["what"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["load", "run", "check"]);
    assert_eq!(phases[0]["operations"], 500);
    assert!(phases[2]["verified"].as_u64() >= Some(500), "{}", phases[2]);
    for phase in phases {
        assert_eq!(
            (&phase["errors"], &phase["unanswered"]),
            (&0.into(), &0.into()),
            "{phase}"
        );
    }
    let kinds = phases[1]["kinds"].as_array().unwrap();
    let names: Vec<_> = kinds
        .iter()
        .map(|kind| kind["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["get", "set", "insert", "incr", "del", "scan", "rmw"]
    );
    let log = fs::read_to_string(&files[1]).unwrap();
    assert!(
        log.starts_with("#[Histogram log format") && log.contains("\nTag=n1:run:rmw,"),
        "{log}"
    );
    let page = fs::read_to_string(&files[2]).unwrap();
    assert!(page.contains("</html>") && page.contains("<polyline"));
}

#[test]
fn a_server_that_forgets_what_it_acknowledged_is_found_out() {
    let null = Node::try_start_bare(&["bench", "null", "--listen", "127.0.0.1:0"]).unwrap();
    let addr = null.addr.to_string();
    let mut words = vec!["bench", "run", "--target", &addr, "--rate", "500"];
    words.extend(SHORT);
    let ended = run(&words);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let last = ended.err.lines().last().unwrap();
    assert!(
        last.starts_with("ashlar: run of ") && last.contains("acknowledged writes lost"),
        "{last}"
    );
    assert!(
        ended.out.contains("first wrong answer: Lost: key:"),
        "{}",
        ended.out
    );
    words.retain(|word| *word != "--check");
    words.push("--no-verify");
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("no value was verified"), "{}", ended.out);
}

#[test]
fn servers_are_compared_in_rounds_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(&dir.path().join("data"), &SMALL);
    let null = Node::try_start_bare(&["bench", "null", "--listen", "127.0.0.1:0"]).unwrap();
    let (one, two) = (format!("one={}", node.addr), format!("two={}", null.addr));
    let common = [
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--keys",
        "100",
        "-c",
        "4",
        "--no-tui",
    ];
    let mut words = vec![
        "bench", "compare", &one, &two, "--rounds", "2", "--mix", "set=1", "--rate", "200",
    ];
    words.extend(common);
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for part in [
        "medians of 2 rounds",
        "it does not say how durable it is",
        "not comparable: writes of one",
    ] {
        assert!(ended.out.contains(part), "{part}: {}", ended.out);
    }
    let mut words = vec![
        "bench",
        "sweep",
        "--target",
        &one,
        "--from",
        "100",
        "--to",
        "150",
        "--p99-max",
        "60000",
    ];
    words.extend(common);
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.contains("knee"), "{}", ended.out);
}

#[test]
fn wrong_flags_are_one_line_with_what_is_allowed() {
    let cases: [(&[&str], &str); 22] = [
        (&["--rate", "0"], "500, 20k or 1.5M"),
        (&["--rate", "x"], "500, 20k or 1.5M"),
        (&["--closed", "--rate", "5"], "--rate"),
        (&["--pipeline", "4"], "--closed"),
        (&["--connections", "0"], "1..=10000"),
        (
            &["--connections", "1", "--threads", "2"],
            "each thread needs one",
        ),
        (&["--threads", "2", "--cpu", "0"], "one for each"),
        (&["--cpu", "4095"], "may run on CPUs"),
        (&["--requests", "5"], "--closed"),
        (
            &["--mix", "put=1"],
            "get, set, insert, incr, del, scan, rmw",
        ),
        (&["--ycsb", "g"], "possible values: a, b, c, d, e, f"),
        (&["--ycsb", "a", "--mix", "get=1"], "--mix"),
        (&["--distribution", "zipf"], "zipfian[:THETA]"),
        (&["--value-bytes", "1-0"], "smallest size"),
        (&["--value-bytes", "big"], "MIN-MAX"),
        (&["--compressible", "101"], "0..=100"),
        (&["--key-bytes", "5"], "at least 10"),
        (&["--ratio", "1"], "--command"),
        (
            &["--command", "GET __key__", "--ratio", "1,2"],
            "one for each",
        ),
        (&["--form", "hash", "--scan-by", "kv"], "index"),
        (&["--target", "nowhere"], "HOST:PORT"),
        (&["--in-flight", "0"], "1 to 1000000"),
    ];
    for (flags, part) in cases {
        let ended = run(&[&["bench", "run"], flags].concat());
        assert_eq!(
            (ended.code, ended.err.lines().count()),
            (Some(2), 1),
            "{flags:?}: {ended:?}"
        );
        assert!(
            ended.err.starts_with("ashlar: ") && ended.err.contains(part),
            "{flags:?}: {}",
            ended.err
        );
    }
    for (words, part) in [
        (&["bench", "walk"] as &[&str], "walk"),
        (&["bench", "compare", "127.0.0.1:1"], "two servers"),
        (
            &["bench", "sweep", "--from", "2k", "--to", "1k"],
            "above --to",
        ),
        (&["bench", "sweep", "--closed"], "--from and --to"),
        (&["bench", "sweep", "--p99-max", "0"], "0.001 to 600000"),
    ] {
        let ended = run(words);
        assert_eq!(
            (ended.code, ended.err.lines().count()),
            (Some(2), 1),
            "{words:?}: {ended:?}"
        );
        assert!(ended.err.contains(part), "{words:?}: {}", ended.err);
    }
    run(&["bench", "run", "--target", "127.0.0.1:1"]).refused(1, &["127.0.0.1:1", "--target"]);
}

#[test]
fn a_trial_that_is_ended_early_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ashlar"))
        .arg("bench")
        .current_dir(dir.path())
        .env("HOME", dir.path().join("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let nodes = || {
        let entries = fs::read_dir(dir.path()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names
            .filter(|name| name.starts_with(".ashlar-bench-"))
            .count()
    };
    wait_until("the trial has made its directory", || nodes() == 1);
    let kill = format!("kill -INT {}", child.id());
    assert!(
        Command::new("sh")
            .args(["-c", &kill])
            .status()
            .unwrap()
            .success()
    );
    wait_until("the trial has ended", || {
        child.try_wait().unwrap().is_some()
    });
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("ended early"), "{said}");
    assert_eq!(nodes(), 0, "{said}");
}
