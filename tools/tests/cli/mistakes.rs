//! What every command answers to words that are wrong: one line with the word and what is allowed, and exit code 2.

use crate::support::run;

/// Words that are wrong, and what their line must hold: the word, and what is allowed.
const WRONG: [(&[&str], &[&str]); 39] = [
    (&["--wrong"], &["--wrong"]),
    (&["strat"], &["strat", "start"]),
    (&["start", "--data"], &["--data <DIR>"]),
    (
        &["start", "--memory", "x"],
        &["memory_bytes = x", "64 MiB to 16 TiB"],
    ),
    (
        &["--memory", "x"],
        &["memory_bytes = x", "64 MiB to 16 TiB"],
    ),
    (
        &["start", "--listen", "here"],
        &["listen = here", "127.0.0.1:6379"],
    ),
    (&["start", "--cpus", "x"], &["cpus = x", "0-3,6"]),
    (
        &["start", "--peers", "x"],
        &["cluster.peers", "NAME=ADDR:PORT"],
    ),
    (&["start", "--config", "/not/there"], &["/not/there"]),
    (
        &["format", "--memory", "x"],
        &["memory_bytes = x", "64 MiB to 16 TiB"],
    ),
    (&["format", "--shards", "0"], &["--shards", "1..=1024"]),
    (
        &["format", "--shards", "x"],
        &["--shards", "allowed is a whole number"],
    ),
    (
        &["format", "--split-at", "b", "--split-at", "a"],
        &["--split-at", "ascending"],
    ),
    (&["doctor", "--config", "/not/there"], &["/not/there"]),
    (
        &["doctor", "--probe", "/not/there"],
        &["--probe /not/there", "allowed is"],
    ),
    (&["inspect", "wal"], &["DIR or FILE"]),
    (
        &["inspect", "partition", "/tmp", "x"],
        &["'x'", "allowed is a whole number"],
    ),
    (&["verify"], &["--data <DIR>"]),
    (
        &["backup", "--data", "a", "--to", "b", "--rate", "0"],
        &["--rate", "1..="],
    ),
    (&["restore", "--data", "a"], &["--from <DIR>"]),
    (&["bench", "--nothing"], &["--nothing"]),
    (&["bench", "run", "--rate", "x"], &["--rate", "allowed is"]),
    (
        &["bench", "sweep", "--from", "9k", "--to", "1k"],
        &["--from 9000", "--to 1000"],
    ),
    (&["bench-wal", "--bytes", "1"], &["--bytes", "89..=262144"]),
    (
        &["bench-wal", "--cpu", "999", "--data", "/not/there"],
        &["--cpu 999", "CPUs [0"],
    ),
    (&["member", "add", "n4"], &["n4 is not NAME=ADDR:PORT"]),
    (
        &["member", "add", "n4=host"],
        &["n4=host is not NAME=ADDR:PORT"],
    ),
    (
        &["member", "replace", "n4", "=1.1.1.1:1"],
        &["is not NAME=ADDR:PORT"],
    ),
    (
        &["member", "list", "--addr", "x"],
        &["--addr", "allowed is an IP address and a port"],
    ),
    (
        &["transfer", "x", "n1"],
        &["<PARTITION>", "allowed is a whole number"],
    ),
    (
        &["status", "--addr", "x"],
        &["--addr", "allowed is an IP address and a port"],
    ),
    (&["top", "--interval", "0"], &["--interval", "1..=3600"]),
    (
        &["demo", "--memory", "x"],
        &["memory_bytes = x", "64 MiB to 16 TiB"],
    ),
    (&["demo", "--port", "0"], &["--port", "1..=60000"]),
    (&["sim", "--nodes", "9"], &["--nodes", "1..=7"]),
    (
        &["sim", "--faults", "x"],
        &["--faults", "all, swarm, none, calm"],
    ),
    (&["sim", "--shrink"], &["--shrink needs --replay FILE"]),
    (&["sim", "--replay", "/not/there"], &["/not/there"]),
    (
        &[
            "compare-redis",
            "--only",
            "x",
            "--node",
            "127.0.0.1:1",
            "--redis",
            "127.0.0.1:1",
        ],
        &["--only", "called x"],
    ),
];

#[test]
fn wrong_words_are_answered_in_a_line_with_what_is_allowed_and_exit_code_2() {
    for (words, parts) in WRONG {
        let ended = run(words);
        assert!(ended.out.is_empty(), "{words:?}: {ended:?}");
        println!("{words:?}");
        ended.refused(2, parts);
    }
}
