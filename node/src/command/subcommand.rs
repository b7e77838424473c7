//! Commands that are several: `CLIENT`, `COMMAND` and `CONFIG` take the name of a subcommand as
//! their second word. The list of a container's subcommands is also its `HELP`.

use super::{SessionCall, arity_error, client, describe, pubsub, settings, support};
use crate::resp::Words;
use crate::resp::encode::{EXCERPT_BYTES_MAX, append_excerpt};

/// One of the subcommands of a command.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// Name in lower case.
    pub name: &'static str,
    /// Words with both names: exactly so many, or at least so many when negative.
    pub arity: i16,
    /// Name and arguments as a person types them.
    pub syntax: &'static str,
    /// One line on what it does.
    pub summary: &'static str,
    /// What it does.
    pub run: fn(&mut SessionCall<'_>),
}

impl Subcommand {
    fn takes(&self, words: usize) -> bool {
        let wanted = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            words >= wanted
        } else {
            words == wanted
        }
    }
}

/// The commands that are several.
const CONTAINERS: [(&str, &[Subcommand]); 9] = [
    ("client", client::CLIENT),
    ("command", describe::COMMAND),
    ("config", settings::CONFIG),
    ("debug", support::DEBUG),
    ("function", support::FUNCTION),
    ("latency", support::LATENCY),
    ("memory", support::MEMORY),
    ("pubsub", pubsub::SUBCOMMANDS),
    ("slowlog", support::SLOWLOG),
];

/// Checks that a command which is several has the subcommand that its second word names.
///
/// # Errors
/// The line to answer.
pub fn check(container: &str, words: Words<'_>) -> Result<(), String> {
    let found = CONTAINERS.iter().find(|(name, _)| *name == container);
    match (container, found) {
        ("object", _) => super::object::check(words),
        (_, Some((name, subcommands))) => choose(name, subcommands, words).map(drop),
        (_, None) => Ok(()),
    }
}

/// Returns the name of a command as its errors tell it, that of its subcommand included.
#[must_use]
pub fn full_name(container: &str, words: Words<'_>) -> String {
    let of = CONTAINERS.iter().find(|(name, _)| *name == container);
    let named = of.and_then(|(name, all)| choose(name, all, words).ok().flatten());
    match named {
        Some(found) => format!("{container}|{}", found.name),
        None => container.to_owned(),
    }
}

/// Returns the subcommand that the second word names; nothing for `HELP`.
fn choose<'a>(
    container: &str,
    subcommands: &'a [Subcommand],
    words: Words<'_>,
) -> Result<Option<&'a Subcommand>, String> {
    let Some(name) = words.get(1) else {
        return Err(arity_error(container));
    };
    let mut found = subcommands.iter();
    match found.find(|of| name.eq_ignore_ascii_case(of.name.as_bytes())) {
        Some(found) if found.takes(words.len()) => Ok(Some(found)),
        Some(found) => Err(arity_error(&format!("{container}|{}", found.name))),
        None if name.eq_ignore_ascii_case(b"help") && words.len() == 2 => Ok(None),
        None if name.eq_ignore_ascii_case(b"help") => {
            Err(arity_error(&format!("{container}|help")))
        }
        None => Err(unknown(name, container)),
    }
}

/// Runs the subcommand of `container`, a name in lower case, that the second word names.
pub fn run(call: &mut SessionCall<'_>, container: &str, subcommands: &[Subcommand]) {
    match choose(container, subcommands, call.words) {
        Ok(Some(found)) => (found.run)(call),
        Ok(None) => help(call, container, subcommands),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

/// Returns the error of a second word that names nothing.
pub(super) fn unknown(name: &[u8], container: &str) -> String {
    let mut shown = Vec::new();
    append_excerpt(&mut shown, name, EXCERPT_BYTES_MAX);
    format!(
        "ERR unknown subcommand '{}'. Try {} HELP.",
        String::from_utf8_lossy(&shown),
        container.to_ascii_uppercase()
    )
}

fn help(call: &mut SessionCall<'_>, container: &str, subcommands: &[Subcommand]) {
    let container = container.to_ascii_uppercase();
    let mut lines = vec![format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    )];
    for of in subcommands {
        lines.push(of.syntax.to_owned());
        lines.push(format!("    {}", of.summary));
    }
    lines.push("HELP".to_owned());
    lines.push("    Print this help.".to_owned());
    let mut reply = call.reply();
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line.as_bytes()));
}
