//! What the alerts and the dashboard in `deploy/monitoring` ask Prometheus for is what a node yields: every metric by
//! its name, every label of it, and every value of a label that a node always has.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

#[allow(unused_imports, reason = "only some of it is used here")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use support::Node;

/// Labels that Prometheus itself puts on what it reads, and those of a bucket.
const GIVEN: [&str; 3] = ["instance", "job", "le"];

/// What a node yields: the labels of each metric, and the values of each.
type Yielded = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// Returns the name of a selector, and the labels in its braces with their values.
fn selector(text: &str) -> (&str, Vec<(&str, &str)>) {
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let inside = rest
        .strip_prefix('{')
        .and_then(|rest| rest.split_once('}'))
        .map_or("", |(inside, _)| inside);
    let labels = inside.split(',').filter_map(|pair| {
        let (label, value) = pair.split_once('=')?;
        Some((label.trim(), value.trim_matches(['~', '"'])))
    });
    (name, labels.collect())
}

/// Returns what a node yields, those metrics too that have no line because there is nothing to tell.
fn yielded(text: &str) -> Yielded {
    let mut yielded = Yielded::new();
    for line in text.lines() {
        if let Some(of) = line.strip_prefix("# TYPE ") {
            yielded
                .entry(of.split_once(' ').unwrap().0.to_owned())
                .or_default();
        } else if !line.starts_with('#') {
            let (name, labels) = selector(line);
            let known = yielded.entry(name.to_owned()).or_default();
            for (label, value) in labels {
                known
                    .entry(label.to_owned())
                    .or_default()
                    .insert(value.to_owned());
            }
        }
    }
    yielded
}

/// Returns every selector of our metrics in a text.
fn selectors(text: &str) -> Vec<(&str, Vec<(&str, &str)>)> {
    text.match_indices("ashlar_")
        .map(|(at, _)| selector(&text[at..]))
        .collect()
}

/// Returns the expressions of a file: of a dashboard those of its targets, of rules those of its alerts.
fn expressions(name: &str, text: &str) -> Vec<String> {
    if name.ends_with(".json") {
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
        let panels = dashboard["panels"].as_array().unwrap().iter();
        let targets = panels
            .filter_map(|panel| panel["targets"].as_array())
            .flatten();
        return targets
            .map(|target| target["expr"].as_str().unwrap().to_owned())
            .collect();
    }
    let behind = text.split("expr:").skip(1);
    behind
        .map(|rest| {
            let ends = ["for:", "labels:"]
                .iter()
                .filter_map(|word| rest.find(word));
            rest[..ends.min().unwrap()].to_owned()
        })
        .collect()
}

/// Says what is wrong with a selector, if anything is.
fn mistake(yielded: &Yielded, (name, labels): &(&str, Vec<(&str, &str)>)) -> Option<String> {
    let Some(known) = yielded.get(*name) else {
        return Some(format!("there is no metric {name}"));
    };
    for (label, value) in labels {
        if GIVEN.contains(label) || known.is_empty() {
            continue;
        }
        match known.get(*label) {
            None => return Some(format!("{name} has no label {label}")),
            Some(values) if *label == "stage" && !values.contains(*value) => {
                return Some(format!("{name} has no {label} {value}"));
            }
            Some(_) => {}
        }
    }
    None
}

#[test]
fn alerts_and_dashboard_ask_for_what_a_node_yields() {
    let place = tempfile::tempdir().unwrap();
    let (admin, peers) = (free_port(), free_port());
    let flags = [
        "--set".to_owned(),
        format!("admin.listen=127.0.0.1:{admin}"),
        "--name".to_owned(),
        "n1".to_owned(),
        "--peer-listen".to_owned(),
        format!("127.0.0.1:{peers}"),
        "--peers".to_owned(),
        format!("n1=127.0.0.1:{peers}"),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let node = Node::start(place.path(), &flags);
    node.connect().call(&["SET", "a", "b"]);
    let yielded = yielded(&get(admin, "/metrics"));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring");
    for file in ["ashlar.rules.yml", "ashlar-dashboard.json"] {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        let expressions = expressions(file, &text);
        assert!(expressions.len() > 10, "{file} is not understood");
        for expression in &expressions {
            for selector in selectors(expression) {
                let mistake = mistake(&yielded, &selector);
                assert_eq!(mistake, None, "{file}: {expression}");
            }
        }
    }
    for wrong in [
        "ashlar_nothing",
        "ashlar_commands_total{colour=\"red\"}",
        "ashlar_stage_duration_seconds_bucket{stage=\"x\"}",
    ] {
        assert!(
            mistake(&yielded, &selector(wrong)).is_some(),
            "{wrong} is not found to be wrong"
        );
    }
}

#[test]
fn what_to_do_about_each_alert_is_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rules = fs::read_to_string(root.join("deploy/monitoring/ashlar.rules.yml")).unwrap();
    let page = fs::read_to_string(root.join("docs/operations.md")).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let unsaid: Vec<&str> = alerts
        .clone()
        .filter(|alert| !page.contains(&format!("| {alert} | ")))
        .collect();
    assert!(alerts.count() > 10 && unsaid.is_empty(), "{unsaid:?}");
}

#[test]
fn a_profile_is_a_picture_of_what_a_busy_node_does() {
    let place = tempfile::tempdir().unwrap();
    let admin = free_port();
    let listen = format!("admin.listen=127.0.0.1:{admin}");
    let node = Node::start(place.path(), &["--set", &listen]);
    let profile = std::thread::spawn(move || get(admin, "/profile?seconds=2&hz=500"));
    let mut client = node.connect();
    let (a, b) = ("ab".repeat(1000), "ba".repeat(1000));
    client.call(&["MSET", "a", &a, "b", &b]);
    while !profile.is_finished() {
        client.call(&["LCS", "a", "b", "LEN"]);
    }
    let picture = profile.join().unwrap();
    assert!(
        picture.starts_with("<svg ") && picture.ends_with("</svg>\n"),
        "{picture:.200}"
    );
    assert!(
        picture.contains(">shard-0: ") && picture.contains("ashlar_node::"),
        "{picture:.2000}"
    );
    for (query, told) in [
        ("seconds=0", "1 to 60"),
        ("hz=5000", "1 to 999"),
        ("x", "'x' is not known"),
    ] {
        assert!(
            get(admin, &format!("/profile?{query}")).contains(told),
            "{query}"
        );
    }
}

/// What is in tables is told, too: once nothing was.
#[test]
fn the_bytes_of_tables_are_told() {
    let place = tempfile::tempdir().unwrap();
    let admin = free_port();
    let listen = format!("admin.listen=127.0.0.1:{admin}");
    let flags = ["--set", &listen, "--set", "wal.log_bytes_max=1MiB"];
    let flags = [&["--cpus", "0"][..], &flags[..]].concat();
    let node = Node::start(place.path(), &flags);
    let mut client = node.connect();
    let value = "v".repeat(500);
    support::wait_until("tables are written", || {
        for n in 0..1000 {
            client.call(&["SET", &format!("key{n}"), &value]);
        }
        told(&get(admin, "/metrics"), "ashlar_table_bytes{shard=\"0\"}") > 0
    });
}

/// Returns a metric's value.
fn told(text: &str, line: &str) -> u64 {
    let found = text.lines().find_map(|told| told.strip_prefix(line));
    found.unwrap().trim().parse().unwrap()
}

#[test]
fn every_stage_of_a_request_is_timed_unless_that_is_off() {
    let place = tempfile::tempdir().unwrap();
    let admin = free_port();
    let listen = format!("admin.listen=127.0.0.1:{admin}");
    let node = Node::start(place.path(), &["--cpus", "0", "--set", &listen]);
    let mut client = node.connect();
    let stage = |name: &str| format!("ashlar_stage_duration_seconds_count{{stage=\"{name}\"}}");
    let write = |client: &mut support::Client| {
        (0..50).for_each(|_| drop(client.call(&["SET", "key", "value"])));
    };
    write(&mut client);
    let text = get(admin, "/metrics");
    for name in ["queue", "log", "apply", "send", "write", "turn"] {
        assert!(told(&text, &stage(name)) > 0, "{name} in {text}");
    }
    client.call(&["CONFIG", "SET", "io.timing", "no"]);
    // The shard takes the change over with its next tick.
    support::wait_until("no time is taken", || {
        let before = told(&get(admin, "/metrics"), &stage("write"));
        write(&mut client);
        told(&get(admin, "/metrics"), &stage("write")) == before
    });
    let text = get(admin, "/metrics");
    assert!(told(&text, "ashlar_log_batch_bytes_count{shard=\"0\"}") >= 100);
    client.call(&["CONFIG", "SET", "io.timing", "yes"]);
    support::wait_until("times are taken again", || {
        let before = told(&get(admin, "/metrics"), &stage("write"));
        write(&mut client);
        told(&get(admin, "/metrics"), &stage("write")) > before
    });
}

#[test]
fn a_turn_that_took_too_long_names_what_ran() {
    let place = tempfile::tempdir().unwrap();
    let admin = free_port();
    let listen = format!("admin.listen=127.0.0.1:{admin}");
    let flags = ["--cpus", "0", "--set", &listen, "--set", "io.stall_ms=1"];
    let mut node = Node::start(place.path(), &flags);
    let mut client = node.connect();
    let (a, b) = ("ab".repeat(1000), "ba".repeat(1000));
    client.call(&["MSET", "a", &a, "b", &b]);
    support::wait_until("the stall is told", || {
        client.call(&["LCS", "a", "b", "LEN"]);
        get(admin, "/status").contains("longest was lcs")
    });
    assert!(told(&get(admin, "/metrics"), "ashlar_stalls_total{shard=\"0\"}") > 0);
    support::wait_until("the stall is logged", || {
        node.output().1.contains("longest was")
    });
}
