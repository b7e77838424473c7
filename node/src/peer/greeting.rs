//! What two nodes say to each other before anything else: greetings, each a header and a body. Not
//! frames, which follow once both sides know whom they talk to.
//!
//! All numbers are little-endian. The header, and the body of *refused*, stay as they are in every
//! version, so that nodes of different versions can say that they are.
//!
//! ```text
//! header   0  magic       u32   "ASHG"
//!          4  crc         u32   CRC-32C of what follows, the body included
//!          8  version     u8    1
//!          9  kind        u8    1 hello, 2 welcome, 3 refused, 4 question, 5 answer
//!         10  body_bytes  u16   length of the body
//! hello    0  cluster     u128  which cluster the sender belongs to
//!         16  from        u64   who it is
//!         24  to          u64   whom it takes the other for
//!         32  store       u128  its disk
//!         48  incarnation u32   which life of the node this is
//!         52  shard       u32   which of its shards this is
//!         56  shards      u32   how many it has
//!         60  partitions  u32   in how many partitions it has cut the keys
//!         64  frame_bytes u32   the largest frame's body that it takes
//! refused  0  code        u8    see [`Reason`]
//!          1  text        u16 and UTF-8, for people
//! ```
//!
//! A welcome has no body. Questions and answers belong to the bootstrap of a cluster.
//!
//! Invariants:
//! 1. The one who dialed says hello; the other says hello in turn or refuses; the one who dialed
//!    says welcome or refuses. Frames flow after the welcome.
//! 2. A length is believed up to 65,535 bytes, by the width of its field.

use ashlar_consensus::NodeId;
use ashlar_io::wal::format::crc32c;

use super::cursor::{Cursor, put_text};
use crate::cluster::{ClusterId, StoreId};

/// Version of the protocol between nodes.
pub const VERSION: u8 = 1;
/// Size of a greeting's header, in bytes.
pub const HEADER_BYTES: usize = 12;
/// Largest body of a greeting, in bytes.
pub const BODY_BYTES_MAX: usize = u16::MAX as usize;
/// Most bytes of the text of a refusal that are sent or believed.
const TEXT_BYTES_MAX: usize = 1024;
const MAGIC: u32 = u32::from_le_bytes(*b"ASHG");

/// Who a node says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// Who it is.
    pub from: NodeId,
    /// Whom it takes the other for.
    pub to: NodeId,
    /// Its disk.
    pub store: StoreId,
    /// Which life of the node this is; each start has a greater number.
    pub incarnation: u32,
    /// Which of its shards this is.
    pub shard: u32,
    /// How many it has.
    pub shards: u32,
    /// In how many partitions it has cut the keys.
    pub partitions: u32,
    /// The largest frame's body that it takes, in bytes.
    pub frame_bytes_max: u32,
}

/// Why a node does not want to talk to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// It speaks another version.
    Version = 1,
    /// It belongs to another cluster.
    Cluster = 2,
    /// It meant somebody else, or is somebody else.
    Node = 3,
    /// It is no member.
    Stranger = 4,
    /// It came back with another disk.
    Store = 5,
    /// It is a life of the node that is over.
    Incarnation = 6,
    /// It has another number of shards or partitions.
    Layout = 7,
    /// It has another list of members.
    List = 8,
    /// What was asked cannot be answered here.
    Unanswered = 9,
    /// It was a member once and is none any more: a number is given once.
    Removed = 10,
    /// A reason that this version does not know.
    Other = 255,
}

impl Reason {
    const EVERY: [Self; 10] = [
        Self::Version,
        Self::Cluster,
        Self::Node,
        Self::Stranger,
        Self::Store,
        Self::Incarnation,
        Self::Layout,
        Self::List,
        Self::Unanswered,
        Self::Removed,
    ];

    fn of(code: u8) -> Self {
        let mut every = Self::EVERY.into_iter();
        every
            .find(|reason| *reason as u8 == code)
            .unwrap_or(Self::Other)
    }
}

/// A refusal: why, for the program and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One line.
    pub text: String,
}

/// What is said before frames flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Who the sender is.
    Hello(Hello),
    /// The other's hello was accepted.
    Welcome,
    /// It was not.
    Refused(Refusal),
    /// The bootstrap of a cluster asks something; its bytes are its own.
    Question(Vec<u8>),
    /// The answer to a question.
    Answer(Vec<u8>),
}

/// Why bytes are no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GreetingError {
    /// Somebody speaks something else.
    #[error("it does not speak the protocol of ashlar nodes")]
    Foreign,
    /// A node of another version.
    #[error("it speaks version {0} of the protocol between nodes, this node version {VERSION}")]
    Version(u8),
    /// Something was changed on the way.
    #[error("its greeting is damaged")]
    Damaged,
}

impl Greeting {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Welcome => 2,
            Self::Refused(_) => 3,
            Self::Question(_) => 4,
            Self::Answer(_) => 5,
        }
    }

    /// Returns the bytes of the greeting.
    ///
    /// # Panics
    /// When a question or answer is above [`BODY_BYTES_MAX`].
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        match self {
            Self::Hello(hello) => hello.encode(&mut out),
            Self::Welcome => {}
            Self::Refused(refusal) => refusal.encode(&mut out),
            Self::Question(bytes) | Self::Answer(bytes) => out.extend_from_slice(bytes),
        }
        let body_bytes = u16::try_from(out.len() - HEADER_BYTES).expect("greetings are short");
        out[..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[8] = VERSION;
        out[9] = self.kind();
        out[10..HEADER_BYTES].copy_from_slice(&body_bytes.to_le_bytes());
        let crc = crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Takes a greeting from the front of `bytes`; returns it and its length, or nothing when it is
    /// not all there.
    ///
    /// # Errors
    /// The bytes are no greeting, or none of this version; nothing after them can be read.
    pub fn decode(bytes: &[u8]) -> Result<Option<(Self, usize)>, GreetingError> {
        let magic = MAGIC.to_le_bytes();
        let seen = bytes.len().min(magic.len());
        if bytes[..seen] != magic[..seen] {
            return Err(GreetingError::Foreign);
        }
        let mut header = Cursor(&bytes[seen..]);
        let (Some(crc), Some(version), Some(kind), Some(body_bytes)) =
            (header.u32(), header.u8(), header.u8(), header.u16())
        else {
            return Ok(None);
        };
        let end = HEADER_BYTES + usize::from(body_bytes);
        let Some(whole) = bytes.get(..end) else {
            return Ok(None);
        };
        if crc != crc32c(&whole[8..]) {
            return Err(GreetingError::Damaged);
        }
        // A refusal is understood in every version: it may say that versions differ.
        if version != VERSION && kind != 3 {
            return Err(GreetingError::Version(version));
        }
        let greeting = Self::decode_body(kind, &whole[HEADER_BYTES..]);
        Ok(Some((greeting.ok_or(GreetingError::Damaged)?, end)))
    }

    fn decode_body(kind: u8, body: &[u8]) -> Option<Self> {
        match kind {
            1 => Hello::decode(body).map(Self::Hello),
            2 => body.is_empty().then_some(Self::Welcome),
            3 => Refusal::decode(body).map(Self::Refused),
            4 => Some(Self::Question(body.to_vec())),
            5 => Some(Self::Answer(body.to_vec())),
            _ => None,
        }
    }
}

impl Hello {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.from.0.to_le_bytes());
        out.extend_from_slice(&self.to.0.to_le_bytes());
        out.extend_from_slice(&self.store.0.to_le_bytes());
        let Self {
            incarnation,
            shard,
            shards,
            partitions,
            frame_bytes_max,
            ..
        } = *self;
        for number in [incarnation, shard, shards, partitions, frame_bytes_max] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = Cursor(body);
        let hello = Self {
            cluster: ClusterId(body.u128()?),
            from: NodeId(body.u64()?),
            to: NodeId(body.u64()?),
            store: StoreId(body.u128()?),
            incarnation: body.u32()?,
            shard: body.u32()?,
            shards: body.u32()?,
            partitions: body.u32()?,
            frame_bytes_max: body.u32()?,
        };
        body.is_empty().then_some(hello)
    }
}

impl Refusal {
    /// Makes a refusal.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { reason, text }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.reason as u8);
        let text: String = self.text.chars().take(TEXT_BYTES_MAX / 4).collect();
        put_text(out, &text);
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut body = Cursor(body);
        let reason = Reason::of(body.u8()?);
        let text = body.text().filter(|text| text.len() <= TEXT_BYTES_MAX)?;
        // It goes to the log as it is: a line, whoever wrote it.
        let text = text.chars().filter(|char| !char.is_control()).collect();
        body.is_empty().then_some(Self { reason, text })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            cluster: ClusterId(1 << 100),
            from: NodeId(2),
            to: NodeId(1),
            store: StoreId(77),
            incarnation: 3,
            shard: 1,
            shards: 2,
            partitions: 4,
            frame_bytes_max: 1000,
        }
    }

    fn every_kind() -> Vec<Greeting> {
        vec![
            Greeting::Hello(hello()),
            Greeting::Welcome,
            Greeting::Refused(Refusal::new(Reason::Store, "n2 came back")),
            Greeting::Question(vec![1, 2, 3]),
            Greeting::Answer(vec![9; BODY_BYTES_MAX]),
        ]
    }

    #[test]
    fn greetings_come_back_and_need_every_byte() {
        for greeting in every_kind() {
            let bytes = greeting.encode();
            for end in [0, 1, 3, 4, 7, 11, bytes.len() - 1] {
                assert_eq!(
                    Greeting::decode(&bytes[..end.min(bytes.len() - 1)]),
                    Ok(None)
                );
            }
            let length = bytes.len();
            let followed = [bytes, vec![1, 2]].concat();
            assert_eq!(Greeting::decode(&followed), Ok(Some((greeting, length))));
        }
    }

    #[test]
    fn another_version_is_told_apart_and_its_refusal_understood() {
        let seal = |mut bytes: Vec<u8>| {
            bytes[8] = 2;
            let crc = crc32c(&bytes[8..]);
            bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            bytes
        };
        let other = seal(Greeting::Hello(hello()).encode());
        assert_eq!(Greeting::decode(&other), Err(GreetingError::Version(2)));
        let refused = Greeting::Refused(Refusal::new(Reason::Version, "too old"));
        let bytes = seal(refused.encode());
        assert_eq!(Greeting::decode(&bytes), Ok(Some((refused, bytes.len()))));
    }

    #[test]
    fn a_long_refusal_is_cut_and_a_strange_one_is_a_line() {
        let refusal = Refusal::new(Reason::List, "ä\n".repeat(5000));
        let bytes = Greeting::Refused(refusal).encode();
        let Ok(Some((Greeting::Refused(read), _))) = Greeting::decode(&bytes) else {
            panic!("a refusal is understood");
        };
        assert_eq!(read.text, "ä".repeat(TEXT_BYTES_MAX / 8));
    }

    proptest! {
        #[test]
        fn random_bytes_are_refused_or_wait(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Greeting::decode(&bytes);
            let _ = Greeting::decode(&[MAGIC.to_le_bytes().as_slice(), &bytes].concat());
        }

        #[test]
        fn one_changed_byte_is_noticed(kind in 0_usize..4, at in 0_usize..200, bits in 1_u8..=255) {
            let greeting = every_kind().swap_remove(kind);
            let mut bytes = greeting.encode();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            let read = Greeting::decode(&bytes);
            prop_assert!(!matches!(read, Ok(Some((ref same, _))) if *same == greeting), "{read:?}");
        }
    }
}
