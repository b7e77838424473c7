//! What `deploy/` and `docs/` say agrees with what the command takes: every subcommand and flag that a unit, a script,
//! a container file or the text names is there, every key of the configuration is one, and limits suffice for the
//! defaults.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

#[allow(unused_imports, reason = "no client connects here")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::run;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Returns the files of `deploy/`, of its directories and of `docs/`, by name.
fn files() -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for dir in [
        deploy(),
        deploy().join("container"),
        deploy().join("../docs"),
    ] {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let text = fs::read_to_string(entry.path()).unwrap();
                files.insert(entry.file_name().into_string().unwrap(), text);
            }
        }
    }
    assert!(
        files.contains_key("Containerfile") && files.len() > 6,
        "{:?}",
        files.keys()
    );
    files
}

/// Returns the subcommand and the flags of every call of `ashlar` in a text. Quotes, commas and brackets are no part of
/// a word, so that lists of a container file are calls, too.
fn calls(text: &str) -> Vec<(String, Vec<String>)> {
    let joined = text.replace("\\\n", " ");
    let mut calls = Vec::new();
    for line in joined.lines() {
        let plain = line.replace(['"', ',', '[', ']', '`', '(', ')', ';'], " ");
        let words: Vec<&str> = plain.split_whitespace().collect();
        for (index, word) in words.iter().enumerate() {
            let is_program =
                matches!(*word, "ashlar" | "$ashlar" | "CMD") || word.ends_with("/bin/ashlar");
            let name = words.get(index + 1).filter(|_| is_program);
            let Some(name) = name.filter(|name| SUBCOMMANDS.contains(name)) else {
                continue;
            };
            let flags = words[index + 2..].iter().take_while(|word| **word != "#");
            let flags = flags
                .filter(|word| word.starts_with("--"))
                .map(|word| (*word).to_owned());
            calls.push(((*name).to_owned(), flags.collect()));
        }
    }
    calls
}

const SUBCOMMANDS: [&str; 10] = [
    "start", "format", "config", "inspect", "verify", "doctor", "backup", "restore", "bench",
    "status",
];

#[test]
fn every_flag_that_is_named_is_taken() {
    let mut found = 0;
    for (file, text) in files() {
        for (subcommand, flags) in calls(&text) {
            let help = run(&[&subcommand, "--help"]);
            assert_eq!(help.code, Some(0), "{file}: ashlar {subcommand}");
            for flag in flags {
                let taken = help.out.split_whitespace().any(|word| word == flag);
                assert!(taken, "{file}: ashlar {subcommand} does not take {flag}");
                found += 1;
            }
        }
    }
    assert!(
        found > 10,
        "only {found} flags were found: the files are not understood"
    );
}

#[test]
fn every_command_of_a_unit_is_understood() {
    for (file, text) in files()
        .iter()
        .filter(|(file, _)| file.ends_with(".service"))
    {
        let commands = text.lines().filter(|line| line.starts_with("Exec")).count();
        assert!(
            commands > 0 && calls(text).len() == commands + mentions(text),
            "{file}"
        );
    }
}

/// Returns how many calls stand in comments.
fn mentions(text: &str) -> usize {
    let comments: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
    calls(&comments.join("\n")).len()
}

#[test]
fn every_key_of_a_configuration_is_one() {
    let known = run(&["config"]).out;
    let is_known = |key: &str| {
        known
            .lines()
            .any(|line| line.split_whitespace().next() == Some(key))
    };
    let mut count = 0;
    for (file, text) in files().iter().filter(|(file, _)| file.ends_with(".toml")) {
        let tables: toml::Table = toml::from_str(text).unwrap();
        for (name, value) in &tables {
            let inner = value
                .as_table()
                .map(|table| table.keys().map(|key| format!("{name}.{key}")).collect());
            for key in inner.unwrap_or_else(|| vec![name.clone()]) {
                assert!(is_known(&key), "{file}: {key}");
                count += 1;
            }
        }
    }
    assert!(count > 30, "only {count} keys were found");
}

#[test]
fn the_limits_of_the_unit_suffice_for_the_defaults() {
    let files = files();
    let unit = &files["ashlar.service"];
    let value = |key: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    assert_eq!(value("LimitMEMLOCK"), Some("infinity"));
    // client.clients_max and 64 more, as `ashlar start` wants them.
    assert!(value("LimitNOFILE").unwrap().parse::<u64>().unwrap() >= 10_064);
    // The node does not tell systemd that it serves; with "notify" it would be killed for that.
    assert_eq!(value("Type"), Some("exec"));
    assert!(
        value("SystemCallFilter")
            .unwrap()
            .contains("@system-service")
    );
}

#[test]
fn every_file_of_the_package_is_there() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets = deb["assets"].as_array().unwrap();
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(source).is_file();
        assert!(there || source == "target/release/ashlar", "{source}");
    }
    assert!(
        assets
            .iter()
            .any(|asset| asset[0].as_str() == Some("../deploy/ashlar.service"))
    );
}

#[test]
fn scripts_refuse_what_they_do_not_know() {
    for (script, args) in [
        ("flamegraph.sh", "12x"),
        ("flamegraph.sh", ""),
        ("tune.sh", "aply"),
        ("tune.sh", ""),
    ] {
        let ended = Command::new("sh")
            .arg(deploy().join(script))
            .arg(args)
            .output()
            .unwrap();
        let line = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(2), "{script} {args}: {line}");
        assert!(
            line.starts_with("usage: ") && line.lines().count() == 1,
            "{script}: {line}"
        );
    }
}
