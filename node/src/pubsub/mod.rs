//! Publish and subscribe: messages between clients, and what clients are told of keys. Nothing here is stored, and
//! nothing is promised but this: a message reaches each subscriber at most once, and what one connection publishes on
//! one channel arrives in that order.
//!
//! # Layout
//! - `directory`: what all shards know of each other's subscribers; `hub`: the connections of one shard, by channel.
//! - `subscriber`: what one connection is subscribed to, and what its commands want done.
//! - `notice`: what happened to a key, as a message.
//!
//! # The way of a message
//! ```text
//! PUBLISH    in its place among the replies of its connection: what was asked for before it is done and durable
//! shard      every connection in its hub; other shards that the directory names get it in their inbox
//! cluster    every other node, by the peer channel; each serves its own shards
//! connection its socket, or, while that is full, its place among the replies
//! ```
//!
//! ```text
//! between nodes   sharded u8 (0 or 1), channel_bytes u32 (little-endian), channel, payload
//! ```
//!
//! Invariant: a message is encoded once per shard and protocol, however many connections get it.

pub mod directory;
pub mod hub;
pub mod notice;
pub mod subscriber;

use std::rc::Rc;

use crate::resp::Version;
use crate::resp::encode::Encoder;

/// What a name that is subscribed to stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A channel, of `SUBSCRIBE`.
    Channel,
    /// All channels that match, of `PSUBSCRIBE`.
    Pattern,
    /// A channel of `SSUBSCRIBE`: a space of its own, without patterns.
    Sharded,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const EVERY: [Self; 3] = [Self::Channel, Self::Pattern, Self::Sharded];

    /// Returns the word that a subscription is confirmed with.
    #[must_use]
    pub fn joined(self) -> &'static [u8] {
        match self {
            Self::Channel => b"subscribe",
            Self::Pattern => b"psubscribe",
            Self::Sharded => b"ssubscribe",
        }
    }

    /// Returns the word that its end is confirmed with.
    #[must_use]
    pub fn left(self) -> &'static [u8] {
        match self {
            Self::Channel => b"unsubscribe",
            Self::Pattern => b"punsubscribe",
            Self::Sharded => b"sunsubscribe",
        }
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Whether it is of `SPUBLISH`.
    pub is_sharded: bool,
    /// Its channel.
    pub channel: Vec<u8>,
    /// What it says.
    pub payload: Vec<u8>,
}

impl Publication {
    /// Returns the kind of its channel.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.is_sharded {
            true => Kind::Sharded,
            false => Kind::Channel,
        }
    }

    /// Returns its bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.channel.len() + self.payload.len() + size_of::<Self>()
    }

    /// Appends its bytes for another node.
    ///
    /// # Panics
    /// When the channel has 4 GiB or more: the limits of commands are far below.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let length = u32::try_from(self.channel.len()).expect("channels are below 4 GiB");
        out.push(u8::from(self.is_sharded));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.channel);
        out.extend_from_slice(&self.payload);
    }

    /// Reads what another node has sent; nothing when it is no message.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&[sharded], rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (channel, payload) = rest.split_at_checked(length)?;
        (sharded <= 1).then(|| Self {
            is_sharded: sharded == 1,
            channel: channel.to_vec(),
            payload: payload.to_vec(),
        })
    }

    /// Frames it for those who are subscribed to its channel, or to a pattern.
    fn frame(&self, pattern: Option<&[u8]>, version: Version) -> Rc<[u8]> {
        let mut bytes = Vec::with_capacity(self.bytes() + 64);
        let mut encoder = Encoder::new(&mut bytes, version);
        match pattern {
            None => {
                encoder.push(3);
                encoder.bulk(if self.is_sharded {
                    b"smessage"
                } else {
                    b"message"
                });
            }
            Some(pattern) => {
                encoder.push(4);
                encoder.bulk(b"pmessage");
                encoder.bulk(pattern);
            }
        }
        encoder.bulk(&self.channel);
        encoder.bulk(&self.payload);
        bytes.into()
    }
}

/// A message as it is sent, made once for each protocol that somebody speaks.
#[derive(Debug)]
pub struct Encoded<'a> {
    publication: &'a Publication,
    pattern: Option<&'a [u8]>,
    frames: [Option<Rc<[u8]>>; 2],
}

impl<'a> Encoded<'a> {
    /// Makes it, for the subscribers of the channel or of a pattern.
    #[must_use]
    pub fn new(publication: &'a Publication, pattern: Option<&'a [u8]>) -> Self {
        Self {
            publication,
            pattern,
            frames: [None, None],
        }
    }

    /// Returns its bytes in a protocol.
    pub fn frame(&mut self, version: Version) -> &Rc<[u8]> {
        let at = usize::from(version == Version::Resp3);
        let (publication, pattern) = (self.publication, self.pattern);
        self.frames[at].get_or_insert_with(|| publication.frame(pattern, version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_to_other_nodes_as_it_is() {
        let publication = Publication {
            is_sharded: true,
            channel: b"news".to_vec(),
            payload: b"x".to_vec(),
        };
        let mut bytes = Vec::new();
        publication.encode(&mut bytes);
        assert_eq!(Publication::decode(&bytes), Some(publication));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(Publication::decode(&bytes[..cut]), None, "{cut} bytes");
        }
        bytes[0] = 2;
        assert_eq!(Publication::decode(&bytes), None);
    }

    #[test]
    fn a_message_is_encoded_once_for_each_protocol() {
        let publication = Publication {
            is_sharded: false,
            channel: b"news".to_vec(),
            payload: b"a\r\nb".to_vec(),
        };
        let mut encoded = Encoded::new(&publication, None);
        let first = Rc::clone(encoded.frame(Version::Resp3));
        assert_eq!(
            &*first,
            b">3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\na\r\nb\r\n"
        );
        assert!(Rc::ptr_eq(&first, encoded.frame(Version::Resp3)));
        let mut matched = Encoded::new(&publication, Some(b"n*"));
        assert_eq!(
            &**matched.frame(Version::Resp2),
            b"*4\r\n$8\r\npmessage\r\n$2\r\nn*\r\n$4\r\nnews\r\n$4\r\na\r\nb\r\n"
        );
    }
}
