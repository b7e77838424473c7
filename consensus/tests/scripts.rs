//! Situations, told step by step in `scripts/*.txt`: commands, then `----` and what they lead to, then
//! an empty line. Nothing happens but what a command says: no message arrives and no disk syncs by
//! itself. `REWRITE=1` writes what happens in the place of what was expected.
//!
//! Commands (N, M are nodes, each with the replica of the same number):
//!
//! ```text
//! group 1 2 3 [learner 4] [outside 5]   a group; outsiders are nodes with an empty replica
//! support              every node asks every other for its promise and gets it
//! advance MS           time passes; nobody is told
//! tick N               promises and timers of N are looked at
//! campaign N           propose N [COUNT]      read N        transfer N M
//! change N add|learner|promote|demote|remove M             change N replace M K
//! sync N [COUNT]       what N has written is durable, or its first COUNT writes
//! deliver [N] [M]      messages that are on their way (to N) (from M) arrive
//! drop [N] [M]         ... are lost       messages      ... are shown
//! reconnect N M        N has a new connection to M      disconnect N M       ... has none any more
//! settle               everything arrives and is durable, over and over
//! crash N [KEPT]       N loses what was not durable but for KEPT writes, and starts anew
//! forget N [KEPT]      N loses its ballot and all of its log but KEPT entries, and starts anew
//! release N            compact N          corrupt N INDEX     repair N INDEX
//! install N M          N installs M's state
//! state [N]            lease N
//! ```
mod table;

use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use table::Table;

/// Runs a script; returns it with what happened.
fn run(text: &str) -> String {
    let (mut table, mut result) = (Table::default(), String::new());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        writeln!(result, "{line}").expect("a string takes all");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        table.command(line);
        if lines.peek() == Some(&"----") {
            lines.next();
            while lines.next_if(|line| !line.is_empty()).is_some() {}
        }
        // Commands that follow each other directly have one result.
        if lines.peek().is_none_or(|line| line.is_empty()) {
            let told = table.told();
            if !told.is_empty() {
                write!(result, "----\n{told}").expect("a string takes all");
            }
        }
    }
    result
}

#[test]
fn scripts_lead_to_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("the scripts are there")
        .map(|entry| entry.expect("a script can be listed").path())
        .collect();
    paths.sort();
    assert!(paths.len() > 10, "{} scripts", paths.len());
    let mut differ = Vec::new();
    for path in paths {
        let expected = fs::read_to_string(&path).expect("a script can be read");
        let found = run(&expected);
        if found != expected && env::var_os("REWRITE").is_some() {
            fs::write(&path, &found).expect("a script can be written");
        } else if found != expected {
            let mut both = expected.lines().zip(found.lines()).enumerate();
            let first = both.find(|(_, (expected, found))| expected != found);
            differ.push(format!("{}: {first:?}", path.display()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
