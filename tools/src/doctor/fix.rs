//! `--fix` and `--revert`: settings of the kernel, written at once, and put back. Nothing else is ever changed, and
//! nothing of it outlives a reboot.
//!
//! What was there before is kept in a file of TOML, a table `[[setting]]` of `path`, `before` and `after` each. It is
//! on disk before the first setting is written; when settings are fixed twice, the oldest `before` stays.
//!
//! Invariant: only paths that [`is_tunable`] knows are written, whatever the file says: it may be somebody else's.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::kernel::{CLOCK, HUGE_PAGES, SWAPPINESS};
use super::machine::Machine;
use super::report::{Finding, Write};

/// Most bytes of the file that are read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How the file begins.
const HEADER: &str = "\
# Settings of the kernel that `ashlar doctor --fix` has changed. `ashlar doctor --revert` puts them
# back and removes this file; a reboot does, too.
";

/// What was changed and not put back.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    #[serde(default)]
    setting: Vec<Setting>,
}

/// One setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    path: String,
    before: String,
    after: String,
}

/// Tells whether `path` is a setting that a finding may want to be written.
fn is_tunable(path: &str) -> bool {
    let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    let name = |word: &str| !word.is_empty() && !word.contains(['/', '.']);
    let within = |front: &str, back: &str| path.strip_prefix(front)?.strip_suffix(back);
    [CLOCK, HUGE_PAGES, SWAPPINESS].contains(&path)
        || within("/sys/block/", "/queue/scheduler").is_some_and(name)
        || within("/proc/irq/", "/smp_affinity_list").is_some_and(number)
}

/// Writes what the findings want to be written; returns a line for each.
///
/// # Errors
/// One line: the file of what was before cannot be read or written, or a setting may not be changed.
pub(crate) fn apply(
    machine: &Machine,
    findings: &[Finding],
    kept: &Path,
) -> Result<Vec<String>, String> {
    let mut writes: Vec<&Write> = findings
        .iter()
        .flat_map(|finding| &finding.writes)
        .collect();
    writes.sort_unstable();
    writes.dedup_by(|a, b| a.path == b.path);
    let mut journal = Journal::load(kept)?.unwrap_or_default();
    let mut lines = Vec::new();
    for Write { path, value } in writes {
        assert!(is_tunable(path), "a finding wants {path} to be written");
        let Some(before) = machine.chosen(path) else {
            continue;
        };
        let known = journal.setting.clone();
        journal.note(path, &before, value);
        journal.save(kept)?;
        match write(machine, path, value) {
            Ok(()) => lines.push(format!("{path}: {before} is now {value}")),
            Err(error) => {
                journal.setting = known;
                journal.save(kept)?;
                if error.kind() == io::ErrorKind::PermissionDenied {
                    return Err(forbidden(path, &error));
                }
                lines.push(format!(
                    "{path}: stays {before}, the kernel does not take {value} ({error})"
                ));
            }
        }
    }
    Ok(lines)
}

/// Puts back what was changed; returns a line for each setting.
///
/// # Errors
/// One line: nothing was changed, the file of what was before cannot be read, or a setting may not be changed.
pub(crate) fn revert(machine: &Machine, kept: &Path) -> Result<Vec<String>, String> {
    let Some(mut journal) = Journal::load(kept)? else {
        return Err(format!(
            "nothing to put back: there is no {}",
            kept.display()
        ));
    };
    let mut lines = Vec::new();
    while let Some(Setting {
        path,
        before,
        after,
    }) = journal.setting.first().cloned()
    {
        if !is_tunable(&path) {
            return Err(format!(
                "{}: {path} is no setting that --fix changes; nothing was done to it",
                kept.display()
            ));
        }
        let line = match machine.chosen(&path) {
            Some(now) if now == after => match write(machine, &path, &before) {
                Ok(()) => format!("{path}: {after} is {before} again"),
                Err(error) => return Err(forbidden(&path, &error)),
            },
            Some(now) if now == before => format!("{path}: is {before} already"),
            Some(now) => {
                format!("{path}: stays {now}: somebody has changed it since it was set to {after}")
            }
            None => format!("{path}: is not there any more"),
        };
        lines.push(line);
        journal.setting.remove(0);
        journal.save(kept)?;
    }
    journal.save(kept)?;
    Ok(lines)
}

fn forbidden(path: &str, error: &io::Error) -> String {
    format!("cannot change {path}: {error}; --fix and --revert need root, outside of a container")
}

fn write(machine: &Machine, path: &str, value: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .truncate(true)
        .open(machine.path(path))?;
    // In one call: the kernel takes each as a whole value.
    file.write_all(value.as_bytes())
}

impl Journal {
    fn load(kept: &Path) -> Result<Option<Self>, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", kept.display());
        let bytes = match fs::metadata(kept) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        if bytes > FILE_BYTES_MAX {
            return Err(failed(&format!("{bytes} bytes are more than --fix writes")));
        }
        let text = fs::read_to_string(kept).map_err(|error| failed(&error))?;
        let journal: Result<Self, _> = toml::from_str(&text);
        // The rest of what the parser says is a picture of several lines.
        let journal = journal.map_err(|error| failed(&error.message()))?;
        Ok(Some(journal))
    }

    /// Notes a change; what was there before the first one stays.
    fn note(&mut self, path: &str, before: &str, after: &str) {
        match self.setting.iter_mut().find(|setting| setting.path == path) {
            // Somebody has changed it since: that is what was there before.
            Some(setting) if setting.after != before => {
                before.clone_into(&mut setting.before);
                after.clone_into(&mut setting.after);
            }
            Some(setting) => after.clone_into(&mut setting.after),
            None => self.setting.push(Setting {
                path: path.to_owned(),
                before: before.to_owned(),
                after: after.to_owned(),
            }),
        }
    }

    /// Writes the file anew, whole or not at all; with nothing to put back there is none.
    fn save(&self, kept: &Path) -> Result<(), String> {
        if self.setting.is_empty() {
            return match fs::remove_file(kept) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(format!("cannot remove {}: {error}", kept.display()))
                }
                _ => Ok(()),
            };
        }
        let text = toml::to_string(self).expect("two levels of strings are TOML");
        let fresh = kept.with_extension("toml.new");
        let saved = (|| {
            if let Some(dir) = kept.parent() {
                fs::create_dir_all(dir)?;
            }
            // What was left by a run that was stopped here; never what a link leads to.
            let _ = fs::remove_file(&fresh);
            let mut file = fs::File::create_new(&fresh)?;
            file.write_all(format!("{HEADER}\n{text}").as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, kept)
        })();
        saved.map_err(|error: io::Error| {
            format!(
                "cannot keep what was set before in {}: {error}; run it as root, or give another --before FILE",
                kept.display()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::*;

    const SCHEDULER: &str = "/sys/block/nvme0n1/queue/scheduler";

    fn wanted() -> Vec<Finding> {
        let finding = Finding::ok("test", "a", "b").fixed_by(SCHEDULER, "none");
        vec![finding.fixed_by(SWAPPINESS, "1")]
    }

    fn machine() -> Fixture {
        Fixture::new(&[(SCHEDULER, "none [mq-deadline]\n"), (SWAPPINESS, "60\n")])
    }

    #[test]
    fn what_was_fixed_is_put_back() {
        let fixture = machine();
        let kept = fixture.root().join("var/lib/before.toml");
        let lines = apply(&fixture.machine, &wanted(), &kept).unwrap();
        assert_eq!(
            lines,
            [
                format!("{SWAPPINESS}: 60 is now 1"),
                format!("{SCHEDULER}: mq-deadline is now none")
            ]
        );
        assert_eq!(fixture.machine.number(SWAPPINESS), Some(1));
        let lines = revert(&fixture.machine, &kept).unwrap();
        assert_eq!(lines[0], format!("{SWAPPINESS}: 1 is 60 again"));
        assert_eq!(
            fixture.machine.read(SCHEDULER).as_deref(),
            Some("mq-deadline")
        );
        assert!(!kept.exists());
        let line = revert(&fixture.machine, &kept).unwrap_err();
        assert!(line.starts_with("nothing to put back"), "{line}");
    }

    #[test]
    fn fixing_twice_keeps_what_was_there_at_first() {
        let fixture = machine();
        let kept = fixture.root().join("before.toml");
        apply(&fixture.machine, &wanted(), &kept).unwrap();
        apply(&fixture.machine, &wanted(), &kept).unwrap();
        revert(&fixture.machine, &kept).unwrap();
        assert_eq!(fixture.machine.number(SWAPPINESS), Some(60));
    }

    #[test]
    fn what_somebody_else_has_changed_is_left() {
        let fixture = machine();
        let kept = fixture.root().join("before.toml");
        apply(&fixture.machine, &wanted(), &kept).unwrap();
        fixture.put(SWAPPINESS, "30");
        let lines = revert(&fixture.machine, &kept).unwrap();
        assert!(
            lines[0].contains("stays 30: somebody has changed it"),
            "{lines:?}"
        );
        assert_eq!(fixture.machine.number(SWAPPINESS), Some(30));
    }

    #[test]
    fn a_setting_that_is_not_there_is_passed_over() {
        let fixture = Fixture::new(&[]);
        let kept = fixture.root().join("before.toml");
        assert_eq!(apply(&fixture.machine, &wanted(), &kept), Ok(vec![]));
        assert!(!kept.exists());
    }

    #[test]
    fn only_known_settings_are_ever_written() {
        for path in [
            SCHEDULER,
            SWAPPINESS,
            HUGE_PAGES,
            CLOCK,
            "/proc/irq/31/smp_affinity_list",
        ] {
            assert!(is_tunable(path), "{path}");
        }
        for path in [
            "/etc/passwd",
            "/sys/block/../../etc/queue/scheduler",
            "/proc/irq/1/../smp_affinity_list",
            "/proc/irq//smp_affinity_list",
            "/sys/block//queue/scheduler",
            "/proc/sys/kernel/io_uring_disabled",
            "/proc/sys/kernel/core_pattern",
        ] {
            assert!(!is_tunable(path), "{path}");
        }
        let fixture = Fixture::new(&[("/etc/passwd", "b")]);
        let kept = fixture.root().join("before.toml");
        fs::write(
            &kept,
            "[[setting]]\npath='/etc/passwd'\nbefore='a'\nafter='b'\n",
        )
        .unwrap();
        let line = revert(&fixture.machine, &kept).unwrap_err();
        assert!(line.contains("/etc/passwd is no setting"), "{line}");
        assert_eq!(fixture.machine.read("/etc/passwd").as_deref(), Some("b"));
    }

    #[test]
    fn a_broken_file_is_refused_in_one_line() {
        let fixture = Fixture::new(&[]);
        let kept = fixture.root().join("before.toml");
        for text in [
            "[[setting]",
            "[[setting]]\npath='x'\n",
            "other = 1\n",
            "\u{0}",
        ] {
            fs::write(&kept, text).unwrap();
            let line = revert(&fixture.machine, &kept).unwrap_err();
            assert!(
                line.starts_with("cannot read ") && line.lines().count() == 1,
                "{line}"
            );
        }
    }
}
