//! Commands that are several: `CLIENT`, `COMMAND` and `CONFIG` take the name of a subcommand as
//! their second word. The list of a container's subcommands is also its `HELP`.

use super::{SessionCall, wrong_arity};
use crate::resp::encode::{EXCERPT_BYTES_MAX, Encoder, append_excerpt};

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

/// Runs the subcommand of `container`, a name in lower case, that the second word names.
pub fn run(call: &mut SessionCall<'_>, container: &str, subcommands: &[Subcommand]) {
    let Some(name) = call.words.get(1) else {
        return wrong_arity(&mut call.reply(), container);
    };
    let found = subcommands
        .iter()
        .find(|of| name.eq_ignore_ascii_case(of.name.as_bytes()));
    match found {
        Some(found) if found.takes(call.words.len()) => (found.run)(call),
        Some(found) => wrong_arity(&mut call.reply(), &format!("{container}|{}", found.name)),
        None if name.eq_ignore_ascii_case(b"help") && call.words.len() == 2 => {
            help(call, container, subcommands)
        }
        None if name.eq_ignore_ascii_case(b"help") => {
            wrong_arity(&mut call.reply(), &format!("{container}|help"))
        }
        None => unknown(&mut call.reply(), name, container),
    }
}

fn unknown(encoder: &mut Encoder<'_>, name: &[u8], container: &str) {
    let mut text = b"ERR unknown subcommand '".to_vec();
    append_excerpt(&mut text, name, EXCERPT_BYTES_MAX);
    text.extend_from_slice(format!("'. Try {} HELP.", container.to_ascii_uppercase()).as_bytes());
    encoder.error(&text);
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
