//! `CONFIG`: the knobs under their own dotted names, and under Redis's names where clients and
//! programs ask for those.
//!
//! A name of Redis either stands for a knob, and then `CONFIG SET` moves the knob; or it tells a
//! fact about this node, and then only its present value is accepted.
//!
//! Invariant: `CONFIG SET` of several settings makes all of them or none.

use super::subcommand::{self, Subcommand};
use super::{SessionCall, syntax_error};
use crate::config::{Config, ConfigError, Knob};
use crate::glob::{Case, matches};
use crate::shared::{Shared, lock};
use crate::slowlog::{ENTRIES_MAX, SLOWER_THAN_NANOS};

/// The subcommands of `CONFIG`.
pub(super) const CONFIG: &[Subcommand] = &[
    Subcommand {
        name: "get",
        arity: -3,
        syntax: "GET <pattern>",
        summary: "Return parameters matching the glob-like <pattern> and their values.",
        run: get,
    },
    Subcommand {
        name: "set",
        arity: -4,
        syntax: "SET <directive> <value>",
        summary: "Set the configuration <directive> to <value>.",
        run: set,
    },
    Subcommand {
        name: "rewrite",
        arity: 2,
        syntax: "REWRITE",
        summary: "Rewrite the configuration file.",
        run: rewrite,
    },
    Subcommand {
        name: "resetstat",
        arity: 2,
        syntax: "RESETSTAT",
        summary: "Reset statistics reported by the INFO command.",
        run: resetstat,
    },
];

/// What a name of Redis means here.
#[derive(Clone, Copy)]
enum Meaning {
    /// The knob with this key.
    Knob(&'static str),
    /// A fact.
    Fact(fn(&Shared) -> String),
}

/// Redis's names that are answered.
const ALIASES: [(&str, Meaning); 17] = [
    ("save", Meaning::Fact(|_| String::new())),
    ("appendonly", Meaning::Fact(|_| "yes".to_owned())),
    ("appendfsync", Meaning::Fact(|_| "always".to_owned())),
    (
        "maxmemory",
        Meaning::Fact(|shared| shared.memory_bytes.to_string()),
    ),
    (
        "maxmemory-policy",
        Meaning::Fact(|_| "noeviction".to_owned()),
    ),
    (
        "port",
        Meaning::Fact(|shared| shared.listen.port().to_string()),
    ),
    (
        "bind",
        Meaning::Fact(|shared| shared.listen.ip().to_string()),
    ),
    ("databases", Meaning::Knob("databases")),
    ("requirepass", Meaning::Knob("client.password")),
    (
        "slowlog-log-slower-than",
        Meaning::Fact(|_| (SLOWER_THAN_NANOS / 1000).to_string()),
    ),
    (
        "slowlog-max-len",
        Meaning::Fact(|_| ENTRIES_MAX.to_string()),
    ),
    ("timeout", Meaning::Knob("client.idle_timeout_s")),
    (
        "notify-keyspace-events",
        Meaning::Knob("pubsub.keyspace_events"),
    ),
    (
        "client-output-buffer-limit",
        Meaning::Fact(|shared| output_limits(&shared.config())),
    ),
    ("tcp-keepalive", Meaning::Knob("client.tcp_keepalive_s")),
    ("maxclients", Meaning::Knob("client.clients_max")),
    (
        "proto-max-bulk-len",
        Meaning::Knob("client.value_bytes_max"),
    ),
];

/// Shows the limits of what waits for clients as Redis does; those of subscribers are knobs.
fn output_limits(config: &Config) -> String {
    let pubsub = &config.pubsub;
    format!(
        "normal 0 0 0 slave 0 0 0 pubsub {} {} {}",
        pubsub.hard_bytes, pubsub.soft_bytes, pubsub.soft_s
    )
}

/// Runs `CONFIG`.
pub fn config(call: &mut SessionCall<'_>) {
    subcommand::run(call, "config", CONFIG);
}

fn get(call: &mut SessionCall<'_>) {
    let patterns = call.words.tail(2);
    let mut found = settings(call.shared);
    found.retain(|(name, _)| {
        patterns
            .iter()
            .any(|pattern| matches(pattern, name.as_bytes(), Case::Insensitive))
    });
    let mut reply = call.reply();
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
}

/// Returns every name with its value: the knobs, and then the names of Redis that are not knobs
/// too.
fn settings(shared: &Shared) -> Vec<(String, String)> {
    let mut all = shared.config().entries();
    let value_of = |key: &str| {
        all.iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.clone())
    };
    let aliases = ALIASES
        .iter()
        .filter(|(name, _)| Knob::find(name).is_none());
    let aliases = aliases.map(|(name, meaning)| {
        let value = match meaning {
            Meaning::Knob(key) => value_of(key).expect("an alias names a knob"),
            Meaning::Fact(fact) => fact(shared),
        };
        ((*name).to_owned(), value)
    });
    let aliases: Vec<_> = aliases.collect();
    all.extend(aliases);
    all
}

fn set(call: &mut SessionCall<'_>) {
    if !call.words.len().is_multiple_of(2) {
        return syntax_error(&mut call.reply());
    }
    let words: Vec<String> = call
        .words
        .tail(2)
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let pairs: Vec<(&str, &str)> = words
        .chunks_exact(2)
        .map(|pair| (pair[0].as_str(), pair[1].as_str()))
        .collect();
    match set_all(call.shared, &pairs) {
        Ok(()) => call.reply().ok(),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

fn set_all(shared: &Shared, pairs: &[(&str, &str)]) -> Result<(), String> {
    for (place, (name, _)) in pairs.iter().enumerate() {
        if meaning_of(name).is_none() {
            return Err(format!(
                "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
            ));
        }
        if pairs[..place]
            .iter()
            .any(|(before, _)| before.eq_ignore_ascii_case(name))
        {
            return Err(failed(name, "duplicate parameter"));
        }
    }
    shared.change_config(|config| {
        pairs
            .iter()
            .try_for_each(|(name, value)| set_one(shared, config, name, value))
    })
}

fn set_one(shared: &Shared, config: &mut Config, name: &str, value: &str) -> Result<(), String> {
    match meaning_of(name) {
        Some(Meaning::Fact(fact)) if fact(shared) == value => Ok(()),
        Some(Meaning::Fact(_)) | None => Err(failed(name, "can't set immutable config")),
        Some(Meaning::Knob(key)) => config
            .set(key, value)
            .map_err(|error| failed(name, &reason(&error))),
    }
}

/// Returns what a name means, a knob's own or one of Redis, in letters of either case.
fn meaning_of(name: &str) -> Option<Meaning> {
    let name = name.to_ascii_lowercase();
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map(|(_, meaning)| *meaning);
    alias.or_else(|| Knob::find(&name).map(|knob| Meaning::Knob(knob.key())))
}

fn failed(name: &str, reason: &str) -> String {
    format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
}

/// Returns the line of an error without the command, which the error begins with already.
fn reason(error: &ConfigError) -> String {
    let line = error.to_string();
    line.strip_prefix("CONFIG SET: ")
        .map_or_else(|| line.clone(), str::to_owned)
}

/// Begins the counters of clients and commands anew.
fn resetstat(call: &mut SessionCall<'_>) {
    call.shared.stats.reset();
    call.reply().ok();
}

/// Writes what was set while the node runs into its file. The shard waits for the disk meanwhile.
fn rewrite(call: &mut SessionCall<'_>) {
    let _alone = lock(&call.shared.rewriting);
    match rewrite_file(&call.shared.config()) {
        Ok(()) => call.reply().ok(),
        Err(error) => call.reply().error(format!("ERR {error}").as_bytes()),
    }
}

fn rewrite_file(config: &Config) -> Result<(), String> {
    let Some(path) = &config.file else {
        return Err("The server is running without a config file".to_owned());
    };
    let failed = |what: &dyn std::fmt::Display| format!("Rewriting config file: {what}");
    let text = ashlar_io::read_text(path).map_err(|error| failed(&error))?;
    let name = path.display().to_string();
    let written = config
        .rewritten(&text, &name)
        .map_err(|error| failed(&error))?;
    ashlar_io::replace_text(path, &written).map_err(|error| failed(&error))
}
