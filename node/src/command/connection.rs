//! Commands on the connection itself: which protocol, which database, who the client is.
//!
//! There is one user, `default`, and one password, `client.password`. While that is empty the user may come
//! with any, as with a Redis that has none set.

use super::{
    Command, Derived, Muted, Run, SessionCall, client, not_an_integer, syntax_error, wrong_arity,
};
use crate::attempts::is_same;
use crate::number::parse_i64;
use crate::resp::encode::Encoder;
use crate::resp::{Version, Words};

use ashlar_partition::key::DATABASES;

/// Version of Redis whose behaviour clients may expect.
pub const REDIS_VERSION: &str = "7.2.4";

const WRONG_PASSWORD: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NO_AUTH: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
    HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol \
    version at the same time";
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
        summary: "Authenticates the connection; the one user is default.",
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
        run: Run::Session(client::client),
        ..SESSION
    },
];

fn ping(call: &mut SessionCall<'_>) {
    let hears_only = call.session.subscriber.is_active() && call.session.version == Version::Resp2;
    if hears_only && call.words.len() <= 2 {
        // As its messages look.
        let message = call.words.get(1).unwrap_or_default();
        let mut reply = call.reply();
        reply.array(2);
        reply.bulk(b"pong");
        return reply.bulk(message);
    }
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
    let outcome = hello_options(call).and_then(|options| {
        match options.user {
            Some((user, password)) => check_user(call, user, password)?,
            None if !call.session.is_authenticated => return Err(NO_AUTH.to_owned()),
            None => {}
        }
        Ok((options.version, options.name))
    });
    match outcome {
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

/// What the words of `HELLO` say.
struct Hello<'a> {
    version: Version,
    /// The user and the password.
    user: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn hello_options<'a>(call: &SessionCall<'a>) -> Result<Hello<'a>, String> {
    let mut hello = Hello {
        version: call.session.version,
        user: None,
        name: None,
    };
    let Some(version) = call.words.get(1) else {
        return Ok(hello);
    };
    hello.version = match parse_i64(version) {
        Some(2) => Version::Resp2,
        Some(3) => Version::Resp3,
        Some(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
        None => return Err("ERR Protocol version is not an integer or out of range".to_owned()),
    };
    let mut words = call.words.tail(2).iter();
    while let Some(word) = words.next() {
        if word.eq_ignore_ascii_case(b"auth") && words.len() >= 2 {
            hello.user = words.next().zip(words.next());
        } else if word.eq_ignore_ascii_case(b"setname") && words.len() >= 1 {
            hello.name = words.next();
            hello.name.map_or(Ok(()), check_name)?;
        } else {
            let option = String::from_utf8_lossy(word);
            return Err(format!("ERR Syntax error in HELLO option '{option}'"));
        }
    }
    Ok(hello)
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

pub(super) const fn protocol_of(version: Version) -> i64 {
    match version {
        Version::Resp2 => 2,
        Version::Resp3 => 3,
    }
}

fn auth(call: &mut SessionCall<'_>) {
    let has_password = !call.shared.config().client.password.is_empty();
    let outcome = match (call.words.get(1), call.words.get(2), call.words.len()) {
        (Some(user), Some(password), 3) => check_user(call, user, password),
        (Some(password), _, 2) if has_password => check_user(call, b"default", password),
        (_, _, 2) => Err(NO_PASSWORD.to_owned()),
        _ => return syntax_error(&mut call.reply()),
    };
    match outcome {
        Ok(()) => call.reply().ok(),
        Err(error) => call.reply().error(error.as_bytes()),
    }
}

/// Checks a user and the password; who errs waits for the answer.
fn check_user(call: &mut SessionCall<'_>, user: &[u8], password: &[u8]) -> Result<(), String> {
    let wanted = call.shared.config().client.password;
    let is_right =
        user == b"default" && (wanted.is_empty() || is_same(password, wanted.as_bytes()));
    if !wanted.is_empty() {
        let client = call.shared.clients.find(call.session.id);
        let addr = client.map_or_else(String::new, |client| client.addr.clone());
        let host = addr
            .rsplit_once(':')
            .map_or(addr.as_str(), |(host, _)| host);
        call.session.delay_ms = call.shared.attempts.note(host, is_right, call.now_ms);
    }
    call.session.is_authenticated |= is_right;
    match is_right {
        true => Ok(()),
        false => Err(WRONG_PASSWORD.to_owned()),
    }
}

/// Returns the database that the words of a `SELECT` name, if there is such a one.
pub(crate) fn database_of(words: Words<'_>) -> Option<u8> {
    let number = words.get(1).and_then(parse_i64)?;
    let database = u8::try_from(number).ok()?;
    (database < DATABASES).then_some(database)
}

fn select(call: &mut SessionCall<'_>) {
    let Some(number) = call.words.get(1).and_then(parse_i64) else {
        return not_an_integer(&mut call.reply());
    };
    match database_of(call.words) {
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
    call.shared.monitors.remove(call.session.id);
    call.session.muted = Muted::No;
    call.session.is_authenticated = call.shared.config().client.password.is_empty();
    call.session.watched.clear();
    call.session.subscriber.leave_all();
    call.session.bound = None;
    set_name(call, b"");
    call.reply().simple(b"RESET");
}

/// Names the connection; the empty name is none.
pub(super) fn set_name(call: &mut SessionCall<'_>, name: &[u8]) {
    call.session.name = name.to_vec();
    call.shared.clients.describe(call.session);
}

pub(super) fn check_name(name: &[u8]) -> Result<(), String> {
    if is_printable(name) {
        Ok(())
    } else {
        Err(NAME_CHARACTERS.to_owned())
    }
}

/// Says whether a word can stand in a line of `CLIENT LIST`.
pub(super) fn is_printable(word: &[u8]) -> bool {
    word.iter().all(u8::is_ascii_graphic)
}
