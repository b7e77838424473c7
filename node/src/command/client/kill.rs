//! `CLIENT KILL`: which connections are meant. They are closed by their shards.

use super::super::{SessionCall, syntax_error};
use crate::clients::ClientEntry;
use crate::number::parse_i64;

/// Which connections are to be closed: those that everything here holds of.
#[derive(Debug, Default)]
struct Filter {
    id: Option<u64>,
    addr: Option<Vec<u8>>,
    listen: Option<Vec<u8>>,
    /// No connection is of the kind that is asked for.
    none: bool,
    skip_self: bool,
    /// Only those that are subscribed to channels, or only those that are not.
    subscribers: Option<bool>,
}

impl Filter {
    fn holds(&self, call: &SessionCall<'_>, client: &ClientEntry) -> bool {
        let listen = call.shared.listen.to_string();
        !self.none
            && self.id.is_none_or(|id| id == client.id)
            && self
                .addr
                .as_ref()
                .is_none_or(|addr| addr == client.addr.as_bytes())
            && self
                .listen
                .as_ref()
                .is_none_or(|addr| addr == listen.as_bytes())
            && self
                .subscribers
                .is_none_or(|wanted| wanted == client.is_subscriber())
            && !(self.skip_self && client.id == call.session.id)
    }
}

/// Runs `CLIENT KILL`.
pub(super) fn kill(call: &mut SessionCall<'_>) {
    // The old form may close the connection that says it.
    let is_old = call.words.len() == 3;
    let filter = if is_old {
        let addr = call.words.get(2).map(<[u8]>::to_vec);
        Ok(Filter {
            addr,
            ..Filter::default()
        })
    } else {
        filter_of(call)
    };
    let filter = match filter {
        Ok(filter) => filter,
        Err(None) => return syntax_error(&mut call.reply()),
        Err(Some(error)) => return call.reply().error(error.as_bytes()),
    };
    let mut killed = call.shared.clients.all();
    killed.retain(|client| filter.holds(call, client));
    for client in &killed {
        call.shared.clients.disconnect(client.id);
        call.session.kills.push((client.shard, client.id));
        call.session.closing |= client.id == call.session.id;
    }
    match (is_old, killed.len()) {
        (true, 0) => call.reply().error(b"ERR No such client"),
        (true, _) => call.reply().ok(),
        (false, count) => call
            .reply()
            .integer(i64::try_from(count).unwrap_or(i64::MAX)),
    }
}

/// Reads the options; an error without a text is one of syntax.
fn filter_of(call: &SessionCall<'_>) -> Result<Filter, Option<String>> {
    let mut filter = Filter {
        skip_self: true,
        ..Filter::default()
    };
    let mut words = call.words.tail(2).iter();
    while let Some(option) = words.next() {
        let value = words.next().ok_or(None)?;
        let shown = String::from_utf8_lossy(value);
        match option.to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_i64(value).and_then(|id| u64::try_from(id).ok());
                let id = id.filter(|id| *id > 0);
                filter.id = Some(id.ok_or("ERR client-id should be greater than 0".to_owned())?);
            }
            b"type" => match value.to_ascii_lowercase().as_slice() {
                b"normal" => filter.subscribers = Some(false),
                b"pubsub" => filter.subscribers = Some(true),
                b"master" | b"replica" | b"slave" => filter.none = true,
                _ => return Err(Some(format!("ERR Unknown client type '{shown}'"))),
            },
            b"user" if value == b"default" => {}
            b"user" => return Err(Some(format!("ERR No such user '{shown}'"))),
            b"addr" => filter.addr = Some(value.to_vec()),
            b"laddr" => filter.listen = Some(value.to_vec()),
            b"skipme" => match value.to_ascii_lowercase().as_slice() {
                b"yes" => filter.skip_self = true,
                b"no" => filter.skip_self = false,
                _ => return Err(None),
            },
            _ => return Err(None),
        }
    }
    Ok(filter)
}
