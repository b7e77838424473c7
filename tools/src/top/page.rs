//! What is shown of two readings, as sections of lines: the same on the screen and as text. Not where it is drawn.

use std::fmt::Write as _;

use super::reading::Reading;

/// Commands that are shown.
const COMMANDS_MAX: usize = 8;

/// A part of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) lines: Vec<String>,
}

/// Returns the page.
pub(crate) fn page(before: &Reading, now: &Reading) -> Vec<Section> {
    let sections = [
        Section {
            title: "node",
            lines: node(before, now),
        },
        Section {
            title: "shards",
            lines: shards(before, now),
        },
        Section {
            title: "commands",
            lines: commands(before, now),
        },
        Section {
            title: "members",
            lines: now.nodes.clone(),
        },
        Section {
            title: "partitions",
            lines: now.partitions.clone(),
        },
    ];
    sections
        .into_iter()
        .filter(|section| !section.lines.is_empty())
        .collect()
}

/// Returns the page as text.
pub(crate) fn text(sections: &[Section]) -> String {
    let mut out = String::new();
    for Section { title, lines } in sections {
        writeln!(out, "{title}").expect("a string takes all");
        lines
            .iter()
            .for_each(|line| writeln!(out, "  {line}").expect("a string takes all"));
    }
    out
}

fn node(before: &Reading, now: &Reading) -> Vec<String> {
    let per_s = |name| count(now.per_s(before, name));
    let size = |name| bytes(now.number(name));
    vec![
        format!(
            "ashlar {}, process {}, up {}; {} clients",
            now.text("ashlar_version"),
            now.text("process_id"),
            duration(now.number("uptime_in_seconds")),
            now.text("connected_clients")
        ),
        format!(
            "commands {}/s, errors {}/s, in {}/s, out {}/s; reads that found a value {}/s, none {}/s",
            per_s("total_commands_processed"),
            per_s("total_error_replies"),
            bytes(now.per_s(before, "total_net_input_bytes")),
            bytes(now.per_s(before, "total_net_output_bytes")),
            per_s("keyspace_hits"),
            per_s("keyspace_misses")
        ),
        format!(
            "log {} writes/s, {}/s, of it {}/s commands; {} to be read at a restart",
            per_s("log_batches"),
            bytes(now.per_s(before, "log_bytes")),
            bytes(now.per_s(before, "log_payload_bytes")),
            size("log_live_bytes")
        ),
        format!(
            "memory {} of {}; disk {}, {} of {} free",
            size("used_memory"),
            size("maxmemory"),
            now.text("disk_state"),
            size("disk_free_bytes"),
            size("disk_total_bytes")
        ),
    ]
}

fn shards(before: &Reading, now: &Reading) -> Vec<String> {
    let head = format!(
        "{:>5}{:>12}{:>7}{:>12}{:>12}{:>12}{:>10}{:>8}",
        "shard", "commands/s", "CPU %", "keys", "memory", "log", "turns/s", "stalls"
    );
    let shards = now.shards(before);
    let line = |shard: &super::reading::Shard| {
        format!(
            "{:>5}{:>12}{:>7.0}{:>12}{:>12}{:>12}{:>10}{:>8}",
            shard.number,
            count(shard.commands_per_s),
            shard.busy * 100.0,
            count(shard.keys),
            bytes(shard.used_bytes),
            bytes(shard.log_live_bytes),
            count(shard.turns_per_s),
            shard.stalls
        )
    };
    match shards.is_empty() {
        true => Vec::new(),
        false => std::iter::once(head)
            .chain(shards.iter().map(line))
            .collect(),
    }
}

/// A command's mean time is that within the shard; percentiles are those since the node was started.
fn commands(before: &Reading, now: &Reading) -> Vec<String> {
    let commands = now.commands(before);
    let line = |command: &super::reading::Command| {
        let percentiles = now.text(&format!("latency_percentiles_usec_{}", command.name));
        let percentiles = percentiles.replace(',', ", ").replace('=', " ");
        format!(
            "{:<14}{:>10}/s{:>10.1} us each   since the start, in us: {percentiles}",
            command.name,
            count(command.per_s),
            command.us
        )
    };
    commands.iter().take(COMMANDS_MAX).map(line).collect()
}

/// Returns a number in three digits or so.
fn count(number: f64) -> String {
    match number {
        n if n < 1e4 => format!("{n:.0}"),
        n if n < 1e6 => format!("{:.1}k", n / 1e3),
        n => format!("{:.2}M", n / 1e6),
    }
}

fn bytes(number: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut number, mut unit) = (number, 0);
    while number >= 1024.0 && unit + 1 < units.len() {
        (number, unit) = (number / 1024.0, unit + 1);
    }
    match unit {
        0 => format!("{number:.0} B"),
        _ => format!("{number:.1} {}", units[unit]),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds since a start, not negative"
)]
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_there_is_and_no_empty_section() {
        let info = |commands: u32| {
            format!(
                "ashlar_version:0.1.0\r\nuptime_in_seconds:7300\r\ntotal_commands_processed:{commands}\r\nshard0:keys=3,commands={commands},used_bytes=2048\r\n"
            )
        };
        let (before, now) = (
            Reading::new(&info(0), 0.0),
            Reading::new(&info(25_000), 1.0),
        );
        let sections = page(&before, &now);
        let titles: Vec<_> = sections.iter().map(|section| section.title).collect();
        assert_eq!(titles, ["node", "shards"]);
        let text = text(&sections);
        for part in ["up 2 h", "commands 25.0k/s", "2.0 KiB"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [9_999.0, 12_345.0, 2_000_000.0].map(count),
            ["9999", "12.3k", "2.00M"]
        );
        assert_eq!(
            [5.0, 1_536.0, 3e12].map(bytes),
            ["5 B", "1.5 KiB", "2.7 TiB"]
        );
        assert_eq!(
            [5.0, 180.0, 9e4, 9e5].map(duration),
            ["5 s", "3 min", "25 h", "10 days"]
        );
    }
}
