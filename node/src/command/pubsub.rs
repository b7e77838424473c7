//! Commands of publish and subscribe. What they change is said in the session
//! ([`Subscriber`](crate::pubsub::subscriber::Subscriber)); the connection does it, which knows its shard.

use super::subcommand::{self, Subcommand};
use super::{Command, Derived, Run, SessionCall};
use crate::pubsub::subscriber::Bounds;
use crate::pubsub::{Kind, Publication};
use crate::resp::Version;
use crate::resp::encode::Encoder;

/// What the commands of this family have in common.
const SUBSCRIPTION: Command = Command {
    name: "",
    arity: -2,
    flags: &["pubsub", "noscript", "loading", "stale"],
    first_key: 0,
    last_key: 0,
    key_step: 0,
    group: "pubsub",
    summary: "",
    since: "2.0.0",
    syntax: "channel [channel ...]",
    run: Run::Session(subscribe),
    derived: Derived::LATER,
    is_blind: false,
};

/// What the two have in common that send messages.
const PUBLISH: Command = Command {
    arity: 3,
    flags: &["pubsub", "loading", "stale", "fast"],
    syntax: "channel message",
    run: Run::Session(publish),
    ..SUBSCRIPTION
};

/// The commands of this family.
pub const PUBSUB: &[Command] = &[
    Command {
        name: "subscribe",
        summary: "Sends the connection what is published on channels.",
        ..SUBSCRIPTION
    },
    Command {
        name: "psubscribe",
        summary: "Sends the connection what is published on channels that match patterns.",
        syntax: "pattern [pattern ...]",
        run: Run::Session(psubscribe),
        ..SUBSCRIPTION
    },
    Command {
        name: "ssubscribe",
        summary: "Sends the connection what SPUBLISH sends to channels.",
        since: "7.0.0",
        syntax: "shardchannel [shardchannel ...]",
        run: Run::Session(ssubscribe),
        ..SUBSCRIPTION
    },
    Command {
        name: "unsubscribe",
        arity: -1,
        summary: "Ends subscriptions to channels, to all of them without a name.",
        syntax: "[channel [channel ...]]",
        run: Run::Session(unsubscribe),
        ..SUBSCRIPTION
    },
    Command {
        name: "punsubscribe",
        arity: -1,
        summary: "Ends subscriptions to patterns, to all of them without a name.",
        syntax: "[pattern [pattern ...]]",
        run: Run::Session(punsubscribe),
        ..SUBSCRIPTION
    },
    Command {
        name: "sunsubscribe",
        arity: -1,
        summary: "Ends subscriptions of SSUBSCRIBE, all of them without a name.",
        since: "7.0.0",
        syntax: "[shardchannel [shardchannel ...]]",
        run: Run::Session(sunsubscribe),
        ..SUBSCRIPTION
    },
    Command {
        name: "publish",
        summary: "Sends a message to a channel; returns how many connections of this node get it.",
        ..PUBLISH
    },
    Command {
        name: "spublish",
        summary: "Sends a message to those who said SSUBSCRIBE.",
        since: "7.0.0",
        syntax: "shardchannel message",
        run: Run::Session(spublish),
        ..PUBLISH
    },
    Command {
        name: "pubsub",
        flags: &[],
        summary: "Tells which channels of this node have subscribers.",
        since: "2.8.0",
        syntax: "subcommand [arg ...]",
        run: Run::Session(pubsub),
        ..SUBSCRIPTION
    },
];

fn subscribe(call: &mut SessionCall<'_>) {
    join(call, Kind::Channel);
}

fn psubscribe(call: &mut SessionCall<'_>) {
    join(call, Kind::Pattern);
}

fn ssubscribe(call: &mut SessionCall<'_>) {
    join(call, Kind::Sharded);
}

fn unsubscribe(call: &mut SessionCall<'_>) {
    leave(call, Kind::Channel);
}

fn punsubscribe(call: &mut SessionCall<'_>) {
    leave(call, Kind::Pattern);
}

fn sunsubscribe(call: &mut SessionCall<'_>) {
    leave(call, Kind::Sharded);
}

fn join(call: &mut SessionCall<'_>, kind: Kind) {
    let config = call.shared.config().pubsub;
    let bounds = Bounds {
        channels: config.channels_max,
        patterns: config.patterns_max,
    };
    let names = call.words.tail(1);
    let version = call.session.version;
    let subscriber = &mut call.session.subscriber;
    if let Err(error) = subscriber.admits(kind, names.iter(), bounds) {
        return call.reply().error(error.as_bytes());
    }
    for name in names {
        subscriber.join(kind, name);
        let told = subscriber.told(kind);
        confirm(
            &mut subscriber.frames,
            version,
            (kind.joined(), Some(name), told),
        );
    }
    call.shared.clients.describe(call.session);
}

fn leave(call: &mut SessionCall<'_>, kind: Kind) {
    let version = call.session.version;
    let subscriber = &mut call.session.subscriber;
    let names = match call.words.len() {
        1 => subscriber.names(kind),
        _ => call.words.tail(1).iter().map(<[u8]>::to_vec).collect(),
    };
    if names.is_empty() {
        let told = subscriber.told(kind);
        confirm(&mut subscriber.frames, version, (kind.left(), None, told));
    }
    for name in names {
        subscriber.leave(kind, &name);
        let told = subscriber.told(kind);
        confirm(
            &mut subscriber.frames,
            version,
            (kind.left(), Some(&name), told),
        );
    }
    call.shared.clients.describe(call.session);
}

/// Appends the confirmation of a change: its word, the name, and to how many the connection is subscribed then.
fn confirm(
    frames: &mut Vec<u8>,
    version: Version,
    (word, name, told): (&[u8], Option<&[u8]>, usize),
) {
    let mut encoder = Encoder::new(frames, version);
    encoder.push(3);
    encoder.bulk(word);
    encoder.optional_bulk(name);
    encoder.integer(integer(told));
}

fn integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn publish(call: &mut SessionCall<'_>) {
    send(call, false);
}

fn spublish(call: &mut SessionCall<'_>) {
    send(call, true);
}

/// Has the connection publish; it answers then.
fn send(call: &mut SessionCall<'_>, is_sharded: bool) {
    let word = |place: usize| call.words.get(place).unwrap_or_default().to_vec();
    let publication = Publication {
        is_sharded,
        channel: word(1),
        payload: word(2),
    };
    call.session.subscriber.published = Some(publication);
}

/// The subcommands of `PUBSUB`.
pub(super) const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "channels",
        arity: -2,
        syntax: "CHANNELS [<pattern>]",
        summary: "Return the currently active channels matching a <pattern> (default: '*').",
        run: channels,
    },
    Subcommand {
        name: "numpat",
        arity: 2,
        syntax: "NUMPAT",
        summary: "Return number of subscriptions to patterns.",
        run: numpat,
    },
    Subcommand {
        name: "numsub",
        arity: -2,
        syntax: "NUMSUB [<channel> ...]",
        summary: "Return the number of subscribers for the specified channels, excluding pattern subscriptions.",
        run: numsub,
    },
    Subcommand {
        name: "shardchannels",
        arity: -2,
        syntax: "SHARDCHANNELS [<pattern>]",
        summary: "Return the currently active shard level channels matching a <pattern> (default: '*').",
        run: shardchannels,
    },
    Subcommand {
        name: "shardnumsub",
        arity: -2,
        syntax: "SHARDNUMSUB [<shardchannel> ...]",
        summary: "Return the number of subscribers for the specified shard level channel(s).",
        run: shardnumsub,
    },
];

fn pubsub(call: &mut SessionCall<'_>) {
    subcommand::run(call, "pubsub", SUBCOMMANDS);
}

fn channels(call: &mut SessionCall<'_>) {
    list(call, Kind::Channel);
}

fn shardchannels(call: &mut SessionCall<'_>) {
    list(call, Kind::Sharded);
}

fn list(call: &mut SessionCall<'_>, kind: Kind) {
    if call.words.len() > 3 {
        let name = String::from_utf8_lossy(call.words.get(1).unwrap_or_default()).into_owned();
        let error = format!(
            "ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
        );
        return call.reply().error(error.as_bytes());
    }
    let names = call.shared.channels.names(kind, call.words.get(2));
    let mut reply = call.reply();
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
}

fn numpat(call: &mut SessionCall<'_>) {
    let patterns = integer(call.shared.channels.count(Kind::Pattern));
    call.reply().integer(patterns);
}

fn numsub(call: &mut SessionCall<'_>) {
    count(call, Kind::Channel);
}

fn shardnumsub(call: &mut SessionCall<'_>) {
    count(call, Kind::Sharded);
}

fn count(call: &mut SessionCall<'_>, kind: Kind) {
    let (names, shared) = (call.words.tail(2), call.shared);
    let mut reply = call.reply();
    reply.array(names.len() * 2);
    for name in names {
        let count = shared.channels.subscribers(kind, name);
        reply.bulk(name);
        reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
