//! `ashlar doctor` on this machine: what it prints and how it ends. Nothing of the machine is changed here; `--fix` is
//! tested with machines made of files, beside the code.
#![allow(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect has failed"
)]

#[allow(unused_imports, reason = "no client connects here")]
mod support;

use std::fs;

use support::{Ended, run};

fn doctor(flags: &[&str]) -> (Ended, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut args = vec!["doctor", "--data", data.to_str().unwrap()];
    args.extend(flags);
    let ended = run(&args);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        0,
        "{flags:?} left something"
    );
    (ended, dir)
}

#[test]
fn every_line_has_a_verdict_and_the_code_follows_them() {
    let (ended, _dir) = doctor(&[]);
    let (mut checks, mut fails) = (0, 0);
    let (lines, sum) = ended.out.trim_end().rsplit_once('\n').unwrap();
    for line in lines.lines() {
        let word = line.split_whitespace().next().unwrap();
        match word {
            "ok" | "warn" | "fail" => {
                assert!(line.contains("(wanted: "), "{line}");
                checks += 1;
                fails += u32::from(word == "fail");
            }
            _ => assert_eq!(word, "cure:", "{line}"),
        }
    }
    assert!(checks >= 13, "{}", ended.out);
    assert!(sum.ends_with(&format!("{fails} fail")), "{sum}");
    assert_eq!(ended.code, Some(i32::from(fails > 0)), "{ended:?}");
    assert_eq!(ended.err.is_empty(), fails == 0, "{ended:?}");
}

#[test]
fn json_holds_the_same_checks() {
    let (table, _dir) = doctor(&[]);
    let (json, _dir) = doctor(&["--json"]);
    let objects = json.out.matches("{\"check\": ").count();
    let lines = table
        .out
        .lines()
        .filter(|line| line.contains("(wanted: "))
        .count();
    assert_eq!(objects, lines, "{}", json.out);
    assert!(
        json.out.starts_with("[\n") && json.out.ends_with("\n]\n"),
        "{}",
        json.out
    );
}

#[test]
fn wrong_flags_are_refused() {
    for flags in [
        &["--wrong"] as &[&str],
        &["--fix", "--revert"],
        &["--json", "--revert"],
        &["--before"],
        &["word"],
    ] {
        let (ended, _dir) = doctor(flags);
        assert_eq!(ended.code, Some(2), "{flags:?}: {ended:?}");
        assert!(ended.out.is_empty(), "{flags:?}: {ended:?}");
    }
}

#[test]
fn what_cannot_be_read_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "datta = 1\n").unwrap();
    let file = file.to_str().unwrap();
    run(&["doctor", "--config", file]).refused(2, &["unknown key datta", "did you mean data?"]);
    run(&["doctor", "--config", "/not/there"]).refused(2, &["/not/there"]);
    run(&["doctor", "--data", file]).refused(1, &["is no directory"]);
    let before = dir.path().join("before.toml");
    run(&["doctor", "--revert", "--before", before.to_str().unwrap()])
        .refused(1, &["nothing to put back"]);
    run(&["doctor", "--revert", "--before", file]).refused(1, &["cannot read", "datta"]);
}
