//! The habits of this repository, checked: `cargo test` is the whole gate.
//!
//! Each rule is a function from one file to its findings (`tidy/rules.rs`) and one test here that
//! walks the repository. `tidy/plants.rs` plants a violation of every rule, so that none of them is
//! unable to fail. This is not a parser of Rust: `tidy/source.rs` blanks comments and strings, and
//! the rules look at words and braces.

#[path = "tidy/plants.rs"]
mod plants;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::{File, Finding};

/// Returns the directory of the workspace.
fn root() -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR"));
    tools
        .parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

/// Returns every text file of the repository that a rule may look at.
fn files() -> Vec<File> {
    let (root, mut files) = (root(), Vec::new());
    collect(&root, &root, &mut files);
    files
}

/// Adds the files below `directory`; build output, data and hidden folders other than `.ci` are not
/// ours.
fn collect(root: &Path, directory: &Path, files: &mut Vec<File>) {
    let entries = fs::read_dir(directory).expect("a directory of the repository can be listed");
    for entry in entries {
        let path = entry
            .expect("a directory of the repository can be listed")
            .path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("names are UTF-8");
        let skipped = name.starts_with('.') && name != ".ci";
        if skipped || name.starts_with("target") || name == "ashlar-data" || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, files);
        } else if source::is_text(name) {
            // A file may vanish between the listing and the reading, while an editor saves it.
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let relative = path
                .strip_prefix(root)
                .expect("the walk stays below the root");
            let name = relative.to_str().expect("names are UTF-8");
            files.push(File::new(name, &text));
        }
    }
}

/// Fails with every finding of `rule` in the repository.
fn hold(rule: fn(&File) -> Vec<Finding>) {
    let files = files();
    assert!(
        files.len() > 20,
        "the walk found only {} files",
        files.len()
    );
    let findings: Vec<String> = files
        .iter()
        .flat_map(|file| rule(file).into_iter().map(|finding| finding.show(file)))
        .collect();
    assert!(
        findings.is_empty(),
        "{} findings\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn files_are_short() {
    hold(rules::file_length);
}

#[test]
fn functions_are_short() {
    hold(rules::function_length);
}

#[test]
fn lines_are_short() {
    hold(rules::line_width);
}

#[test]
fn every_file_says_what_it_is() {
    hold(rules::module_docs);
}

#[test]
fn unsafe_stays_in_its_files_and_argues() {
    hold(rules::unsafe_code);
}

#[test]
fn crates_forbid_unsafe() {
    hold(rules::unsafe_forbidden);
}

#[test]
fn deciding_never_waits() {
    hold(rules::pure_files);
}

#[test]
fn names_say_something() {
    hold(rules::names);
}

#[test]
fn no_words_are_left_behind() {
    hold(rules::left_behind);
}

#[test]
fn links_lead_somewhere() {
    let root = root();
    let findings: Vec<String> = files()
        .iter()
        .flat_map(|file| {
            let exists = |target: &str| root.join(&file.path).with_file_name(target).exists();
            let findings = rules::links(file, &exists);
            findings
                .into_iter()
                .map(|finding| finding.show(file))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}
