//! Plants a violation of every rule and something innocent that looks like one: no rule is unable
//! to fail, and none fires at comments and literals.

use crate::rules;
use crate::source::{File, Finding, blanked};

/// Returns the lines of the findings of `rule` in a file of this path and text.
fn found(rule: fn(&File) -> Vec<Finding>, path: &str, text: &str) -> Vec<usize> {
    rule(&File::new(path, text))
        .into_iter()
        .map(|finding| finding.line)
        .collect()
}

#[test]
fn long_files_are_found() {
    let lines = |count: usize| format!("//! A file.\n{}", "\n".repeat(count - 1));
    let reason = |count| {
        format!(
            "//! A file.\n//! Length: one table.\n{}",
            "\n".repeat(count)
        )
    };
    assert_eq!(found(rules::file_length, "a.rs", &lines(501)), [1]);
    assert!(found(rules::file_length, "a.rs", &lines(500)).is_empty());
    assert!(found(rules::file_length, "a.md", &lines(501)).is_empty());
    assert!(found(rules::file_length, "a.rs", &reason(700)).is_empty());
    assert_eq!(found(rules::file_length, "a.rs", &reason(800)), [1]);
    let empty = reason(700).replace(" one table.", "");
    assert_eq!(found(rules::file_length, "a.rs", &empty), [1]);
}

#[test]
fn long_functions_are_found() {
    let function = |lines: usize| {
        format!(
            "struct S;\nfn f(a: [u8; 4]) -> fn(u8) {{\n    // a comment {{\n\n{}}}\n",
            "    g('{', \"}\");\n".repeat(lines)
        )
    };
    assert_eq!(found(rules::function_length, "a.rs", &function(69)), [2]);
    assert!(found(rules::function_length, "a.rs", &function(68)).is_empty());
    let declared = format!(
        "trait T {{\n    fn f(&self);\n{}}}\n",
        "    const A: u8;\n".repeat(90)
    );
    assert!(found(rules::function_length, "a.rs", &declared).is_empty());
    let nested = format!(
        "fn outer() {{\n    fn inner() {{}}\n{}}}\n",
        "    g();\n".repeat(80)
    );
    assert_eq!(found(rules::function_length, "a.rs", &nested), [1]);
}

#[test]
fn wide_lines_are_found() {
    let wide = "x".repeat(121);
    assert_eq!(
        found(rules::line_width, "a.rs", &format!("a\n{wide}\n")),
        [2]
    );
    assert_eq!(
        found(rules::line_width, "a.rs", &format!("    // \"{wide}\"")),
        [1]
    );
    assert!(found(rules::line_width, "a.rs", &format!("    \"{wide}\",")).is_empty());
    assert!(found(rules::line_width, "a.rs", &"é".repeat(120)).is_empty());
    assert!(found(rules::line_width, "a.md", &format!("| {wide} |")).is_empty());
    assert!(found(rules::line_width, "a.md", &format!("see https://{wide}")).is_empty());
}

#[test]
fn files_without_a_header_are_found() {
    assert_eq!(found(rules::module_docs, "a.rs", "use std::fs;\n"), [1]);
    assert_eq!(found(rules::module_docs, "a.rs", ""), [1]);
    assert_eq!(found(rules::module_docs, "a.rs", "//!\n"), [1]);
    assert_eq!(found(rules::module_docs, "a.rs", "// A file.\n"), [1]);
    assert!(found(rules::module_docs, "a.rs", "#![cfg(loom)]\n\n//! A file.\n").is_empty());
    assert!(found(rules::module_docs, "a.toml", "a = 1\n").is_empty());
}

#[test]
fn unsafe_in_the_wrong_place_is_found() {
    let argued = "fn f() {\n    // SAFETY: it is.\n    unsafe { g() }\n}\n";
    assert_eq!(found(rules::unsafe_code, "node/src/shard.rs", argued), [3]);
    assert!(found(rules::unsafe_code, "io/src/sys.rs", argued).is_empty());
    assert!(found(rules::unsafe_code, "io/src/uring/mod.rs", argued).is_empty());
    let innocent = "//! unsafe\n#![forbid(unsafe_code)]\nconst A: &str = \"unsafe {\";\n";
    assert!(found(rules::unsafe_code, "node/src/lib.rs", innocent).is_empty());
}

#[test]
fn unsafe_without_an_argument_is_found() {
    assert_eq!(
        found(rules::unsafe_code, "io/src/sys.rs", "\nunsafe { g() }\n"),
        [2]
    );
    let far = format!(
        "// SAFETY: it is.\n{}unsafe {{ g() }}\n",
        "a();\n".repeat(20)
    );
    assert_eq!(found(rules::unsafe_code, "io/src/sys.rs", &far), [22]);
    let documented = "/// # Safety\n/// The caller holds it.\nunsafe fn f() {}\n";
    assert!(found(rules::unsafe_code, "io/src/sys.rs", documented).is_empty());
}

#[test]
fn crate_roots_that_allow_unsafe_are_found() {
    let rule = rules::unsafe_forbidden;
    assert_eq!(found(rule, "node/src/lib.rs", "//! A crate.\n"), [1]);
    assert_eq!(
        found(rule, "tools/src/main.rs", "//! #![forbid(unsafe_code)]\n"),
        [1]
    );
    assert!(found(rule, "io/src/lib.rs", "//! A crate.\n").is_empty());
    assert!(found(rule, "node/src/shard.rs", "//! A file.\n").is_empty());
    assert!(
        found(
            rule,
            "node/src/lib.rs",
            "//! A crate.\n#![forbid(unsafe_code)]\n"
        )
        .is_empty()
    );
}

#[test]
fn waiting_in_pure_files_is_found() {
    let waits = "\nasync fn f() {\n    g() .await;\n}\n";
    assert_eq!(found(rules::pure_files, "consensus/src/hlc.rs", waits), [3]);
    assert_eq!(
        found(rules::pure_files, "partition/src/apply.rs", waits),
        [3]
    );
    assert_eq!(
        found(rules::pure_files, "partition/src/memtable/arena.rs", waits),
        [3]
    );
    assert!(found(rules::pure_files, "partition/src/serve.rs", waits).is_empty());
    let innocent = "// g().await\nlet await_list = \".await\";\n";
    assert!(found(rules::pure_files, "partition/src/apply.rs", innocent).is_empty());
}

#[test]
fn empty_names_are_found() {
    assert_eq!(found(rules::names, "io/src/utils.rs", ""), [1]);
    assert_eq!(found(rules::names, "io/src/file_manager.rs", ""), [1]);
    assert_eq!(
        found(rules::names, "a.rs", "\npub struct WalManager;\n"),
        [2]
    );
    assert_eq!(found(rules::names, "a.rs", "mod helpers;\n"), [1]);
    assert_eq!(
        found(rules::names, "a.rs", "pub(crate) trait ReadHelper {}\n"),
        [1]
    );
    let innocent = "// struct Manager\nstruct Utilization;\nfn manager() {}\nenum Managerial {}\n";
    assert!(found(rules::names, "io/src/utility.rs", innocent).is_empty());
}

#[test]
fn leftovers_are_found() {
    for left in [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["/wo", "rk/main"],
        ["/ro", "ot/.cargo"],
    ] {
        let text = format!("fn f() {{}}\n// {}: later\n", left.concat());
        assert_eq!(found(rules::left_behind, "a.rs", &text), [2], "{left:?}");
        assert_eq!(found(rules::left_behind, "a.md", &text), [2], "{left:?}");
    }
    let innocent = "TODOS\n./work/a src/root/b\nworks/root\n";
    assert!(found(rules::left_behind, "a.md", innocent).is_empty());
}

#[test]
fn dead_links_are_found() {
    let exists = |target: &str| target == "README.md";
    let found = |text: &str| rules::links(&File::new("docs/a.md", text), &exists).len();
    assert_eq!(found("see [a](README.md) and [b](gone.md#part)"), 1);
    assert_eq!(found("[a]: gone.md \"title\""), 1);
    assert_eq!(
        found("[a](https://a.b/c) [b](#part) [c](README.md#part) [d](mailto:a@b)"),
        0
    );
    assert_eq!(found("`[a](gone.md)`\n```\n[a](gone.md)\n```\n"), 0);
    assert_eq!(found("```\n```\n[a](gone.md)"), 1);
    assert!(rules::links(&File::new("a.rs", "// [a](gone.md)"), &exists).is_empty());
}

#[test]
fn comments_and_literals_are_blanked() {
    for (text, code) in [
        ("a // b\nc", "a c"),
        ("a /* b /* c */ d */ e", "a e"),
        ("a \"b \\\" c\" d", "a d"),
        ("r#\"a\"b\"# c", "c"),
        ("br\"a\\\" c", "b c"),
        ("r#fn 'a' '\\'' &'a str", "r#fn &'a str"),
        ("'\"' a", "a"),
        ("bar\"a\"", "bar"),
        ("\"a", ""),
        ("/* a", ""),
    ] {
        let blanked = blanked(text);
        assert_eq!(
            blanked.split_whitespace().collect::<Vec<_>>().join(" "),
            code,
            "{text}"
        );
        assert_eq!(blanked.chars().count(), text.chars().count(), "{text}");
        assert_eq!(blanked.lines().count(), text.lines().count(), "{text}");
    }
}
