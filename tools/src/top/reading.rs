//! What a node tells of itself at one time, and what follows from two such times: rates. Pure; who asks is not its
//! business.

use std::collections::BTreeMap;

/// Fields of INFO, and the lines on partitions and members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    fields: BTreeMap<String, String>,
    /// A line for each node of the cluster, and for each partition.
    pub(crate) nodes: Vec<String>,
    pub(crate) partitions: Vec<String>,
    /// When it was read, in seconds since some start.
    pub(crate) at_s: f64,
}

/// What a shard does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shard {
    pub(crate) number: usize,
    pub(crate) keys: f64,
    pub(crate) commands_per_s: f64,
    /// Share of a CPU.
    pub(crate) busy: f64,
    pub(crate) used_bytes: f64,
    pub(crate) log_live_bytes: f64,
    pub(crate) turns_per_s: f64,
    pub(crate) stalls: f64,
}

/// What was done of one command since the reading before.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) per_s: f64,
    /// Mean time within the node, without waiting for the disk.
    pub(crate) us: f64,
}

impl Reading {
    /// Makes a reading of the text of INFO.
    pub(crate) fn new(info: &str, at_s: f64) -> Self {
        let fields = info
            .lines()
            .filter_map(|line| line.trim_end().split_once(':'));
        Self {
            fields: fields
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            nodes: Vec::new(),
            partitions: Vec::new(),
            at_s,
        }
    }

    /// Returns a field as it was told.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).map_or("-", String::as_str)
    }

    /// Returns a field that is a number; zero when there is none.
    pub(crate) fn number(&self, name: &str) -> f64 {
        self.text(name).parse().unwrap_or(0.0)
    }

    /// Returns how much a counter grew in a second since an earlier reading. One that was reset begins at zero.
    pub(crate) fn per_s(&self, before: &Self, name: &str) -> f64 {
        self.rate(before, self.number(name), before.number(name))
    }

    fn rate(&self, before: &Self, now: f64, then: f64) -> f64 {
        let grown = if now < then { now } else { now - then };
        grown / (self.at_s - before.at_s).max(1e-3)
    }

    /// Returns what each shard does.
    pub(crate) fn shards(&self, before: &Self) -> Vec<Shard> {
        let mut shards = Vec::new();
        while let Some(line) = self.fields.get(&format!("shard{}", shards.len())) {
            let then = before.text(&format!("shard{}", shards.len()));
            let per_s = |name| self.rate(before, part(line, name), part(then, name));
            shards.push(Shard {
                number: shards.len(),
                keys: part(line, "keys"),
                commands_per_s: per_s("commands"),
                busy: (per_s("cpu_user_us") + per_s("cpu_system_us")) / 1e6,
                used_bytes: part(line, "used_bytes"),
                log_live_bytes: part(line, "log_live_bytes"),
                turns_per_s: per_s("turns"),
                stalls: part(line, "stalls"),
            });
        }
        shards
    }

    /// Returns the commands that were asked for since an earlier reading, the most frequent first.
    pub(crate) fn commands(&self, before: &Self) -> Vec<Command> {
        let mut commands = Vec::new();
        for (field, line) in &self.fields {
            let Some(name) = field.strip_prefix("cmdstat_") else {
                continue;
            };
            let then = before.text(field);
            let grown = |name| self.rate(before, part(line, name), part(then, name));
            let (per_s, us_per_s) = (grown("calls"), grown("usec"));
            if per_s > 0.0 {
                commands.push(Command {
                    name: name.to_owned(),
                    per_s,
                    us: us_per_s / per_s,
                });
            }
        }
        commands.sort_by(|one, other| other.per_s.total_cmp(&one.per_s));
        commands
    }
}

/// Returns a number of a line of `name=number,...`; zero when it is not there.
fn part(line: &str, name: &str) -> f64 {
    let mut parts = line.split(',').filter_map(|part| part.split_once('='));
    let found = parts.find(|(found, _)| *found == name);
    found
        .and_then(|(_, number)| number.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "# Stats\r\ntotal_commands_processed:100\r\nshard0:keys=5,commands=100,turns=50,cpu_user_us=0,cpu_system_us=0\r\ncmdstat_get:calls=10,usec=20\r\n";
    const NOW: &str = "total_commands_processed:300\r\nshard0:keys=7,commands=300,turns=90,cpu_user_us=600000,cpu_system_us=400000\r\n\
                       cmdstat_get:calls=30,usec=80\r\ncmdstat_set:calls=100,usec=100\r\ncmdstat_del:calls=0,usec=0\r\n";

    #[test]
    fn rates_are_differences_of_two_readings() {
        let (before, now) = (Reading::new(BEFORE, 10.0), Reading::new(NOW, 12.0));
        assert_eq!(now.per_s(&before, "total_commands_processed"), 100.0);
        let shards = now.shards(&before);
        assert_eq!(shards.len(), 1);
        assert_eq!(
            (shards[0].keys, shards[0].commands_per_s, shards[0].busy),
            (7.0, 100.0, 0.5)
        );
        let commands = now.commands(&before);
        let names: Vec<_> = commands
            .iter()
            .map(|command| command.name.as_str())
            .collect();
        assert_eq!(names, ["set", "get"]);
        assert_eq!((commands[1].per_s, commands[1].us), (10.0, 3.0));
    }

    #[test]
    fn a_counter_that_was_reset_begins_at_zero() {
        let (before, now) = (Reading::new(NOW, 0.0), Reading::new(BEFORE, 1.0));
        assert_eq!(now.per_s(&before, "total_commands_processed"), 100.0);
        assert_eq!(now.text("nothing"), "-");
        assert_eq!(now.number("nothing"), 0.0);
    }
}
