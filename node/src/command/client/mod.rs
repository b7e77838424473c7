//! `CLIENT`: who the clients are, and what is done about them: listing, closing, pausing, silencing.
//!
//! A command here touches its own connection alone. What is to become of others is said in the session
//! ([`Session`](super::Session)), and done by the connection, which knows the shards.

mod kill;

use super::connection::{check_name, is_printable, protocol_of, set_name};
use super::subcommand::{self, Subcommand};
use super::{Muted, SessionCall, not_an_integer, syntax_error};
use crate::blocked::Ending;
use crate::clients::ClientEntry;
use crate::number::parse_i64;
use crate::shared::Paused;

const NO_TRACKING: &[u8] = b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled";

/// The subcommands of `CLIENT`.
pub(super) const CLIENT: &[Subcommand] = &[
    Subcommand {
        name: "caching",
        arity: 3,
        syntax: "CACHING (YES|NO)",
        summary: "Refused: keys are not tracked.",
        run: caching,
    },
    Subcommand {
        name: "getname",
        arity: 2,
        syntax: "GETNAME",
        summary: "Return the name of the current connection.",
        run: client_getname,
    },
    Subcommand {
        name: "getredir",
        arity: 2,
        syntax: "GETREDIR",
        summary: "Return -1: keys are not tracked, so nothing is redirected.",
        run: getredir,
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
        name: "kill",
        arity: -3,
        syntax: "KILL <ip:port>|<option> <value> [...]",
        summary: "Close connections: of an address, or by ID, TYPE, USER, ADDR, LADDR and SKIPME (YES|NO).",
        run: kill::kill,
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
        name: "pause",
        arity: -3,
        syntax: "PAUSE <timeout> [WRITE|ALL]",
        summary: "Let commands, or those that write, wait for <timeout> milliseconds.",
        run: pause,
    },
    Subcommand {
        name: "reply",
        arity: 3,
        syntax: "REPLY (ON|OFF|SKIP)",
        summary: "Control the replies sent to the current connection.",
        run: reply,
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
    Subcommand {
        name: "tracking",
        arity: -3,
        syntax: "TRACKING (ON|OFF) [...]",
        summary: "OFF is accepted; keys are not tracked.",
        run: tracking,
    },
    Subcommand {
        name: "trackinginfo",
        arity: 2,
        syntax: "TRACKINGINFO",
        summary: "Say that keys are not tracked for the current connection.",
        run: trackinginfo,
    },
    Subcommand {
        name: "unblock",
        arity: -3,
        syntax: "UNBLOCK <clientid> [TIMEOUT|ERROR]",
        summary: "End the wait for elements of a connection.",
        run: unblock,
    },
    Subcommand {
        name: "unpause",
        arity: 2,
        syntax: "UNPAUSE",
        summary: "Let the commands go on that CLIENT PAUSE keeps waiting.",
        run: unpause,
    },
];

/// Runs `CLIENT`.
pub fn client(call: &mut SessionCall<'_>) {
    subcommand::run(call, "client", CLIENT);
}

fn caching(call: &mut SessionCall<'_>) {
    call.reply().error(NO_TRACKING);
}

fn getredir(call: &mut SessionCall<'_>) {
    call.reply().integer(-1);
}

fn tracking(call: &mut SessionCall<'_>) {
    match call.words.get(2).map(<[u8]>::to_ascii_lowercase).as_deref() {
        Some(b"off") => call.reply().ok(),
        Some(b"on") => call
            .reply()
            .error(b"ERR CLIENT TRACKING is not supported: clients are not told what changes"),
        _ => syntax_error(&mut call.reply()),
    }
}

fn trackinginfo(call: &mut SessionCall<'_>) {
    let mut reply = call.reply();
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(1);
    reply.bulk(b"off");
    reply.bulk(b"redirect");
    reply.integer(-1);
    reply.bulk(b"prefixes");
    reply.array(0);
}

fn unblock(call: &mut SessionCall<'_>) {
    let option = call.words.get(3).map(<[u8]>::to_ascii_lowercase);
    match (call.words.get(2).and_then(parse_i64), option.as_deref()) {
        (_, option) if !matches!(option, None | Some(b"timeout" | b"error")) => {
            call.reply()
                .error(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
        }
        (None, _) => not_an_integer(&mut call.reply()),
        (Some(id), option) => {
            let ending = match option {
                Some(b"error") => Ending::Unblocked,
                _ => Ending::Nothing,
            };
            let is_ended = end_wait(call, id, ending);
            call.reply().integer(i64::from(is_ended));
        }
    }
}

/// Ends the wait of a connection, if it waits; says whether it does.
fn end_wait(call: &mut SessionCall<'_>, id: i64, ending: Ending) -> bool {
    let client = u64::try_from(id).ok();
    let client = client.and_then(|id| call.shared.clients.find(id));
    let Some(client) = client.filter(|client| client.end_wait()) else {
        return false;
    };
    let unblock = (client.shard, client.id, ending);
    call.session.unblocks.push(unblock);
    true
}

fn reply(call: &mut SessionCall<'_>) {
    let muted = match call.words.get(2).map(<[u8]>::to_ascii_lowercase).as_deref() {
        Some(b"on") => Muted::No,
        Some(b"off") => Muted::Always,
        Some(b"skip") if call.session.muted == Muted::Always => Muted::Always,
        Some(b"skip") => Muted::AlsoNext,
        _ => return syntax_error(&mut call.reply()),
    };
    call.session.muted = muted;
    call.reply().ok();
}

fn pause(call: &mut SessionCall<'_>) {
    let what = match call.words.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"all") => Paused::All,
        Some(b"write") => Paused::Writes,
        Some(_) => {
            return call
                .reply()
                .error(b"ERR CLIENT PAUSE mode must be WRITE or ALL");
        }
    };
    match call.words.get(2).and_then(parse_i64).map(u64::try_from) {
        None => call
            .reply()
            .error(b"ERR timeout is not an integer or out of range"),
        Some(Err(_)) => call.reply().error(b"ERR timeout is negative"),
        Some(Ok(timeout_ms)) => {
            let until_ms = call.now_ms.saturating_add(timeout_ms);
            call.shared.pause.begin(until_ms, what);
            call.reply().ok();
        }
    }
}

fn unpause(call: &mut SessionCall<'_>) {
    call.shared.pause.end();
    call.reply().ok();
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
        (None, _) => Ok(lines_of(call, |_| true)),
        (Some(b"type"), 4) => {
            let kind = call.words.get(3).unwrap_or_default();
            match kind.to_ascii_lowercase().as_slice() {
                b"normal" => Ok(lines_of(call, |client| !client.is_subscriber())),
                b"pubsub" => Ok(lines_of(call, ClientEntry::is_subscriber)),
                b"master" | b"replica" | b"slave" => Ok(Vec::new()),
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

fn lines_of(call: &SessionCall<'_>, is_meant: impl Fn(&ClientEntry) -> bool) -> Vec<u8> {
    let mut lines = Vec::new();
    let all = call.shared.clients.all().into_iter();
    for client in all.filter(|client| is_meant(client)) {
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
        (
            "flags",
            text(match (client.is_subscriber(), client.is_waiting()) {
                (false, false) => "N",
                (true, false) => "P",
                (false, true) => "b",
                (true, true) => "Pb",
            }),
        ),
        ("db", text(said.database)),
        ("sub", text(said.subscriptions[0])),
        ("psub", text(said.subscriptions[1])),
        ("ssub", text(said.subscriptions[2])),
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
