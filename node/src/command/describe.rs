//! `COMMAND`: what the table knows, told to clients in Redis's shape. Nothing is known here that is
//! not in the table.

use super::subcommand::{self, Subcommand};
use super::{Command, SessionCall, syntax_error, table};
use crate::glob::{Case, matches};
use crate::resp::encode::Encoder;

/// The subcommands of `COMMAND`.
pub(super) const COMMAND: &[Subcommand] = &[
    Subcommand {
        name: "count",
        arity: 2,
        syntax: "COUNT",
        summary: "Return the total number of commands in this server.",
        run: count,
    },
    Subcommand {
        name: "docs",
        arity: -2,
        syntax: "DOCS [<command-name> [<command-name> ...]]",
        summary: "Return documentation details about multiple commands.",
        run: docs,
    },
    Subcommand {
        name: "getkeys",
        arity: -3,
        syntax: "GETKEYS <full-command>",
        summary: "Return the keys from a full command.",
        run: getkeys,
    },
    Subcommand {
        name: "info",
        arity: -2,
        syntax: "INFO [<command-name> [<command-name> ...]]",
        summary: "Return details about multiple commands.",
        run: info,
    },
    Subcommand {
        name: "list",
        arity: -2,
        syntax: "LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]",
        summary: "Return a list of all commands in this server.",
        run: list,
    },
];

/// Commands that Redis counts among the dangerous ones; they have no flag that says so.
const DANGEROUS: [&str; 4] = ["keys", "flushdb", "flushall", "info"];

/// Runs `COMMAND`.
pub fn command(call: &mut SessionCall<'_>) {
    if call.words.len() == 1 {
        describe_all(call);
    } else {
        subcommand::run(call, "command", COMMAND);
    }
}

fn describe_all(call: &mut SessionCall<'_>) {
    let mut reply = call.reply();
    reply.array(table::named().count());
    table::named().for_each(|command| describe(&mut reply, command));
}

fn describe(reply: &mut Encoder<'_>, command: &Command) {
    reply.array(10);
    reply.bulk(command.name.as_bytes());
    reply.integer(i64::from(command.arity));
    reply.set(command.flags.len());
    command
        .flags
        .iter()
        .for_each(|flag| reply.simple(flag.as_bytes()));
    for place in [command.first_key, command.last_key, command.key_step] {
        reply.integer(i64::from(place));
    }
    let categories = categories(command);
    reply.set(categories.len());
    categories
        .iter()
        .for_each(|category| reply.simple(format!("@{category}").as_bytes()));
    // Tips, key specifications and subcommands: clients that know the places of the keys do
    // without.
    reply.array(0);
    reply.array(0);
    reply.array(0);
}

/// Returns Redis's categories of a command, without their sign.
fn categories(command: &Command) -> Vec<&'static str> {
    let has = |flag: &str| command.flags.contains(&flag);
    let mut categories = Vec::new();
    match command.group {
        "generic" => categories.push("keyspace"),
        "server" if has("write") || has("readonly") => categories.push("keyspace"),
        "server" => {}
        group => categories.push(group),
    }
    categories.extend(has("readonly").then_some("read"));
    categories.extend(has("write").then_some("write"));
    categories.push(if has("fast") { "fast" } else { "slow" });
    categories.extend(DANGEROUS.contains(&command.name).then_some("dangerous"));
    categories
}

fn count(call: &mut SessionCall<'_>) {
    let count = i64::try_from(table::named().count()).expect("the table is small");
    call.reply().integer(count);
}

fn info(call: &mut SessionCall<'_>) {
    let names = call.words.tail(2);
    if names.is_empty() {
        return describe_all(call);
    }
    let mut reply = call.reply();
    reply.array(names.len());
    for name in names {
        match table::find(name) {
            Some(command) => describe(&mut reply, command),
            None => reply.null_array(),
        }
    }
}

fn list(call: &mut SessionCall<'_>) {
    let Some(filter) = filter_of(call) else {
        return syntax_error(&mut call.reply());
    };
    let listed: Vec<_> = table::named()
        .filter(|command| filter.lets(command))
        .collect();
    let mut reply = call.reply();
    reply.set(listed.len());
    listed
        .iter()
        .for_each(|command| reply.bulk(command.name.as_bytes()));
}

/// Which commands `COMMAND LIST` is to name.
enum Filter {
    All,
    Module,
    Category(String),
    Pattern(Vec<u8>),
}

impl Filter {
    fn lets(&self, command: &Command) -> bool {
        match self {
            Self::All => true,
            Self::Module => false,
            Self::Category(category) => categories(command).contains(&category.as_str()),
            Self::Pattern(pattern) => matches(pattern, command.name.as_bytes(), Case::Insensitive),
        }
    }
}

fn filter_of(call: &SessionCall<'_>) -> Option<Filter> {
    let words: Vec<&[u8]> = call.words.tail(2).iter().collect();
    match words.as_slice() {
        [] => Some(Filter::All),
        [filterby, kind, value] if filterby.eq_ignore_ascii_case(b"filterby") => {
            match kind.to_ascii_lowercase().as_slice() {
                b"module" => Some(Filter::Module),
                b"aclcat" => Some(Filter::Category(
                    String::from_utf8_lossy(value).to_ascii_lowercase(),
                )),
                b"pattern" => Some(Filter::Pattern(value.to_vec())),
                _ => None,
            }
        }
        _ => None,
    }
}

fn getkeys(call: &mut SessionCall<'_>) {
    let words = call.words.tail(2);
    let command = words.get(0).and_then(table::find);
    let mut reply = call.reply();
    let Some(command) = command else {
        return reply.error(b"ERR Invalid command specified");
    };
    if !command.has_keys() {
        return reply.error(b"ERR The command has no key arguments");
    }
    if !command.takes(words.len()) {
        return reply.error(b"ERR Invalid number of arguments specified for command");
    }
    if command.counts_keys() && command.counted_keys(words).is_empty() {
        return reply.error(b"ERR Invalid arguments specified for command");
    }
    reply.array(command.key_places(words).count());
    command
        .key_places(words)
        .for_each(|place| reply.bulk(&words[place]));
}

fn docs(call: &mut SessionCall<'_>) {
    let names = call.words.tail(2);
    let documented: Vec<&Command> = if names.is_empty() {
        table::named().collect()
    } else {
        names.iter().filter_map(table::find).collect()
    };
    let mut reply = call.reply();
    reply.map(documented.len());
    for command in documented {
        reply.bulk(command.name.as_bytes());
        document(&mut reply, command);
    }
}

fn document(reply: &mut Encoder<'_>, command: &Command) {
    let arguments = arguments(command.syntax);
    reply.map(if arguments.is_empty() { 3 } else { 4 });
    for (field, text) in [
        ("summary", command.summary),
        ("since", command.since),
        ("group", command.group),
    ] {
        reply.bulk(field.as_bytes());
        reply.bulk(text.as_bytes());
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        reply.array(arguments.len());
        arguments
            .iter()
            .for_each(|argument| document_argument(reply, *argument));
    }
}

/// An argument as a person types it, and whether it may be left out.
type Argument<'a> = (&'a str, bool);

/// Writes one argument. What can be typed is told in one string, from which redis-cli makes its
/// hints; the finer structure that Redis has for choices inside of it is left out.
fn document_argument(reply: &mut Encoder<'_>, (text, optional): Argument<'_>) {
    let kind = if text == "key" { "key" } else { "string" };
    reply.map(if optional { 4 } else { 3 });
    for (field, value) in [("name", text), ("type", kind), ("display_text", text)] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    if optional {
        reply.bulk(b"flags");
        reply.array(1);
        reply.simple(b"optional");
    }
}

/// Splits a syntax into its arguments: words, and what stands in brackets.
fn arguments(syntax: &str) -> Vec<Argument<'_>> {
    let mut arguments = Vec::new();
    let mut rest = syntax.trim_start();
    while !rest.is_empty() {
        let (argument, behind) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (inside, behind) = inner.split_at(closing(inner));
                ((inside, true), behind.get(1..).unwrap_or_default())
            }
            None => {
                let (word, behind) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
                ((word, false), behind)
            }
        };
        arguments.push(argument);
        rest = behind.trim_start();
    }
    arguments
}

/// Returns the place of the bracket that closes one opened before `text`, or its end.
fn closing(text: &str) -> usize {
    let mut open = 1;
    for (place, byte) in text.bytes().enumerate() {
        open += i32::from(byte == b'[') - i32::from(byte == b']');
        if open == 0 {
            return place;
        }
    }
    text.len()
}
