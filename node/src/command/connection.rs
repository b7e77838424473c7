//! Commands on the connection itself: which protocol, which database, who the client is.
//!
//! There are no users and no passwords yet: as with a Redis that has none set, the user `default`
//! may come with any.

use super::subcommand::{self, Subcommand};
use super::{Command, Derived, Run, SessionCall, not_an_integer, syntax_error, wrong_arity};
use crate::clients::ClientEntry;
use crate::number::parse_i64;
use crate::resp::Version;
use crate::resp::encode::Encoder;

use ashlar_partition::key::DATABASES;

/// Version of Redis whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.4";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_PASSWORD: &str = "ERR AUTH <password> called without any password configured for the default user. \
    Are you sure your configuration is correct?";
const NAME_CHARACTERS: &str =
    "ERR Client names cannot contain spaces, newlines or special characters.";

/// What the commands of this family have in common.
const SESSION: Command = Command {
    name: "",
    arity: 2,
    flags: &["loading", "stale", "fast"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "connection",
    summary: "",
    since: "1.0.0",
    syntax: "",
    run: Run::Session(ping),
    derived: Derived::LATER,
    is_blind: false,
};

/// What those have in common that a connection may send first of all.
const FIRST: Command = Command {
    flags: &[
        "noscript",
        "loading",
        "stale",
        "fast",
        "no_auth",
        "allow_busy",
    ],
    ..SESSION
};

/// The commands of this family.
pub const CONNECTION: &[Command] = &[
    Command {
        name: "ping",
        arity: -1,
        flags: &["fast"],
        summary: "Answers PONG, or the message.",
        syntax: "[message]",
        ..SESSION
    },
    Command {
        name: "echo",
        summary: "Answers the message.",
        syntax: "message",
        run: Run::Session(echo),
        ..SESSION
    },
    Command {
        name: "hello",
        arity: -1,
        summary: "Chooses the protocol and tells about the server.",
        since: "6.0.0",
        syntax: "[protover [AUTH username password] [SETNAME clientname]]",
        run: Run::Session(hello),
        ..FIRST
    },
    Command {
        name: "auth",
        arity: -2,
        summary: "Authenticates the connection; no password is set, so the user default may have any.",
        syntax: "[username] password",
        run: Run::Session(auth),
        ..FIRST
    },
    Command {
        name: "select",
        summary: "Changes the database of the connection, 0 to 15.",
        syntax: "index",
        run: Run::Session(select),
        ..SESSION
    },
    Command {
        name: "quit",
        arity: -1,
        summary: "Closes the connection.",
        run: Run::Session(quit),
        ..FIRST
    },
    Command {
        name: "reset",
        arity: 1,
        summary: "Makes the connection as it was when it began.",
        since: "6.2.0",
        run: Run::Session(reset),
        ..FIRST
    },
    Command {
        name: "client",
        arity: -2,
        flags: &[],
        summary: "Says and sets who the clients are.",
        since: "2.4.0",
        syntax: "subcommand [arg ...]",
        run: Run::Session(client),
        ..SESSION
    },
];

const CLIENT: &[Subcommand] = &[
    Subcommand {
        name: "getname",
        arity: 2,
        syntax: "GETNAME",
        summary: "Return the name of the current connection.",
        run: client_getname,
    },
    Subcommand {
        name: "id",
        arity: 2,
        syntax: "ID",
        summary: "Return the ID of the current connection.",
        run: client_id,
    },
    Subcommand {
        name: "info",
        arity: 2,
        syntax: "INFO",
        summary: "Return information about the current client connection.",
        run: client_info,
    },
    Subcommand {
        name: "list",
        arity: -2,
        syntax: "LIST [TYPE (NORMAL|MASTER|REPLICA|PUBSUB)] [ID <id> [<id> ...]]",
        summary: "Return information about all connections, or those with the given IDs.",
        run: client_list,
    },
    Subcommand {
        name: "no-evict",
        arity: 3,
        syntax: "NO-EVICT (ON|OFF)",
        summary: "Accepted; no client is closed to free memory.",
        run: client_switch,
    },
    Subcommand {
        name: "no-touch",
        arity: 3,
        syntax: "NO-TOUCH (ON|OFF)",
        summary: "Accepted; reads do not change what is known of a key.",
        run: client_switch,
    },
    Subcommand {
        name: "setinfo",
        arity: 4,
        syntax: "SETINFO (LIB-NAME|LIB-VER) <value>",
        summary: "Set the name or the version of the library of the current connection.",
        run: client_setinfo,
    },
    Subcommand {
        name: "setname",
        arity: 3,
        syntax: "SETNAME <name>",
        summary: "Assign the name <name> to the current connection.",
        run: client_setname,
    },
];

fn ping(call: &mut SessionCall<'_>) {
    match (call.words.get(1), call.words.len()) {
        (None, _) => call.reply().simple(b"PONG"),
        (Some(message), 2) => call.reply().bulk(message),
        (Some(_), _) => wrong_arity(&mut call.reply(), "ping"),
    }
}

fn echo(call: &mut SessionCall<'_>) {
    let message = call.words.get(1).unwrap_or_default();
    call.reply().bulk(message);
}

fn hello(call: &mut SessionCall<'_>) {
    match hello_options(call) {
        Err(error) => call.reply().error(error.as_bytes()),
        Ok((version, name)) => {
            call.session.version = version;
            if let Some(name) = name {
                call.session.name = name.to_vec();
            }
            call.shared.clients.describe(call.session);
            introduce(call);
        }
    }
}

/// Reads the words of `HELLO`: the protocol, and a name if there is one.
fn hello_options<'a>(call: &SessionCall<'a>) -> Result<(Version, Option<&'a [u8]>), String> {
    let Some(version) = call.words.get(1) else {
        return Ok((call.session.version, None));
    };
    let version = match parse_i64(version) {
        Some(2) => Version::Resp2,
        Some(3) => Version::Resp3,
        Some(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
        None => return Err("ERR Protocol version is not an integer or out of range".to_owned()),
    };
    let (mut user, mut name) = (None, None);
    let mut words = call.words.tail(2).iter();
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"auth") && words.len() >= 2 {
            (user, _) = (words.next(), words.next());
        } else if word.eq_ignore_ascii_case(b"setname") && words.len() >= 1 {
            name = words.next();
            name.map_or(Ok(()), check_name)?;
        } else {
            let option = String::from_utf8_lossy(word);
            return Err(format!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    user.map_or(Ok(()), check_user)?;
    Ok((version, name))
}

fn introduce(call: &mut SessionCall<'_>) {
    let id = i64::try_from(call.session.id).unwrap_or(i64::MAX);
    let protocol = protocol_of(call.session.version);
    let mut reply = call.reply();
    reply.map(7);
    let mut field = |name: &str, value: &dyn Fn(&mut Encoder<'_>)| {
        reply.bulk(name.as_bytes());
        value(&mut reply);
    };
    // Clients look for this word before they use what only a Redis has; INFO says whose server it
    // is.
    field("server", &|reply| reply.bulk(b"redis"));
    field("version", &|reply| reply.bulk(REDIS_VERSION.as_bytes()));
    field("proto", &|reply| reply.integer(protocol));
    field("id", &|reply| reply.integer(id));
    field("mode", &|reply| reply.bulk(b"standalone"));
    field("role", &|reply| reply.bulk(b"master"));
    field("modules", &|reply| reply.array(0));
}

const fn protocol_of(version: Version) -> i64 {
    match version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    }
}

fn auth(call: &mut SessionCall<'_>) {
    let outcome = match (call.words.get(1), call.words.len()) {
        (Some(user), 3) => check_user(user),
        (_, 2) => Err(NO_PASSWORD.to_owned()),
        _ => return syntax_error(&mut call.reply()),
    };
    match outcome {
        Ok(()) => call.reply().ok(),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

fn check_user(user: &[u8]) -> Result<(), String> {
    if user == b"default" {
        Ok(())
    } else {
        Err(WRONG_PASSWORD.to_owned())
    }
}

fn select(call: &mut SessionCall<'_>) {
    let Some(number) = call.words.get(1).and_then(parse_i64) else {
        return not_an_integer(&mut call.reply());
    };
    match u8::try_from(number)
        .ok()
        .filter(|database| *database < DATABASES)
    {
        Some(database) => {
            call.session.database = database;
            call.shared.clients.describe(call.session);
            call.reply().ok();
        }
        None if i32::try_from(number).is_ok() => {
            call.reply().error(b"ERR DB index is out of range")
        }
        None => call
            .reply()
            .error(b"ERR value is out of range, value must between -2147483648 and 2147483647"),
    }
}

fn quit(call: &mut SessionCall<'_>) {
    call.session.closing = true;
    call.reply().ok();
}

fn reset(call: &mut SessionCall<'_>) {
    call.session.database = 0;
    call.session.version = Version::Resp2;
    call.session.queue = None;
    call.session.watched.clear();
    set_name(call, b"");
    call.reply().simple(b"RESET");
}

fn client(call: &mut SessionCall<'_>) {
    subcommand::run(call, "client", CLIENT);
}

fn client_setname(call: &mut SessionCall<'_>) {
    let name = call.words.get(2).unwrap_or_default();
    match check_name(name) {
        Err(error) => call.reply().error(error.as_bytes()),
        Ok(()) => {
            set_name(call, name);
            call.reply().ok();
        }
    }
}

/// Names the connection; the empty name is none.
fn set_name(call: &mut SessionCall<'_>, name: &[u8]) {
    call.session.name = name.to_vec();
    call.shared.clients.describe(call.session);
}

fn check_name(name: &[u8]) -> Result<(), String> {
    if is_printable(name) {
        Ok(())
    } else {
        Err(NAME_CHARACTERS.to_owned())
    }
}

/// Says whether a word can stand in a line of `CLIENT LIST`.
fn is_printable(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_graphic)
}

fn client_getname(call: &mut SessionCall<'_>) {
    let name = call.session.name.clone();
    call.reply()
        .optional_bulk(Some(name.as_slice()).filter(|name| !name.is_empty()));
}

fn client_id(call: &mut SessionCall<'_>) {
    let id = i64::try_from(call.session.id).unwrap_or(i64::MAX);
    call.reply().integer(id);
}

fn client_setinfo(call: &mut SessionCall<'_>) {
    let option = call.words.get(2).unwrap_or_default();
    let value = call.words.get(3).unwrap_or_default();
    let shown = String::from_utf8_lossy(option);
    let field = match option.to_ascii_lowercase().as_slice() {
        b"lib-name" => &mut call.session.library,
        b"lib-ver" => &mut call.session.library_version,
        _ => {
            return call
                .reply()
                .error(format!("ERR Unrecognized option '{shown}'").as_bytes());
        }
    };
    if !is_printable(value) {
        let error = format!("ERR {shown} cannot contain spaces, newlines or special characters.");
        return call.reply().error(error.as_bytes());
    }
    *field = value.to_vec();
    call.shared.clients.describe(call.session);
    call.reply().ok();
}

fn client_switch(call: &mut SessionCall<'_>) {
    match call
        .words
        .get(2)
        .unwrap_or_default()
        .to_ascii_lowercase()
        .as_slice()
    {
        b"on" | b"off" => call.reply().ok(),
        _ => syntax_error(&mut call.reply()),
    }
}

fn client_info(call: &mut SessionCall<'_>) {
    let line = line_of(call, call.session.id);
    call.reply().verbatim(&line);
}

fn client_list(call: &mut SessionCall<'_>) {
    match listed(call) {
        Ok(lines) => call.reply().verbatim(&lines),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

/// Returns the lines of `CLIENT LIST`.
fn listed(call: &SessionCall<'_>) -> Result<Vec<u8>, String> {
    let option = call.words.get(2).map(<[u8]>::to_ascii_lowercase);
    match (option.as_deref(), call.words.len()) {
        (None, _) => Ok(all_lines(call)),
        (Some(b"type"), 4) => {
            let kind = call.words.get(3).unwrap_or_default();
            match kind.to_ascii_lowercase().as_slice() {
                b"normal" => Ok(all_lines(call)),
                b"master" | b"replica" | b"slave" | b"pubsub" => Ok(Vec::new()),
                _ => Err(format!(
                    "ERR Unknown client type '{}'",
                    String::from_utf8_lossy(kind)
                )),
            }
        }
        (Some(b"id"), 4..) => {
            let ids: Option<Vec<i64>> = call.words.tail(3).iter().map(parse_i64).collect();
            let ids = ids.ok_or_else(|| "ERR Invalid client ID".to_owned())?;
            let ids = ids.into_iter().filter_map(|id| u64::try_from(id).ok());
            Ok(ids.flat_map(|id| line_of(call, id)).collect())
        }
        _ => Err("ERR syntax error".to_owned()),
    }
}

fn all_lines(call: &SessionCall<'_>) -> Vec<u8> {
    let mut lines = Vec::new();
    for client in call.shared.clients.all() {
        write_line(call, &client, &mut lines);
    }
    lines
}

/// Returns the line of the client with an id, empty when there is no such client.
fn line_of(call: &SessionCall<'_>, id: u64) -> Vec<u8> {
    let mut line = Vec::new();
    if let Some(client) = call.shared.clients.find(id) {
        write_line(call, &client, &mut line);
    }
    line
}

/// Appends a line of `CLIENT LIST`, in the order of Redis; the shard, which Redis has not, is last.
fn write_line(call: &SessionCall<'_>, client: &ClientEntry, line: &mut Vec<u8>) {
    let seconds = |since_ms: u64| text(call.now_ms.saturating_sub(since_ms) / 1000);
    let said = client.said();
    let fields: [(&str, Vec<u8>); 18] = [
        ("id", text(client.id)),
        ("addr", text(&client.addr)),
        ("laddr", text(call.shared.listen)),
        ("name", said.name),
        ("age", seconds(client.since_ms)),
        ("idle", seconds(client.active_ms())),
        ("flags", text("N")),
        ("db", text(said.database)),
        ("sub", text(0)),
        ("psub", text(0)),
        ("ssub", text(0)),
        ("multi", text(-1)),
        ("cmd", text(client.last_command().unwrap_or("NULL"))),
        ("user", text("default")),
        ("redir", text(-1)),
        ("resp", text(protocol_of(said.version))),
        ("lib-name", said.library),
        ("lib-ver", said.library_version),
    ];
    for (name, value) in fields {
        line.extend_from_slice(name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(&value);
        line.push(b' ');
    }
    line.extend_from_slice(format!("shard={}\n", client.shard).as_bytes());
}

fn text(value: impl std::fmt::Display) -> Vec<u8> {
    value.to_string().into_bytes()
}
