//! Notices: what commands did to keys, as messages. Each is published twice if so asked, on a channel of the key and on
//! one of the event, once the write that it tells of is durable; on the node that did it, and nowhere else.
//!
//! ```text
//! __keyspace@DB__:KEY    says EVENT
//! __keyevent@DB__:EVENT  says KEY
//! ```
//!
//! Not a log of changes: nobody who was away is told.

use std::fmt;

use super::Publication;

/// What a notice is about: the letters of `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Commands on keys of any type.
    Generic,
    /// Strings.
    Text,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Hashes.
    Hash,
    /// Sorted sets.
    SortedSet,
    /// Keys that have expired.
    Expired,
    /// Keys that were there for the first time.
    New,
    /// Keys that a read did not find.
    Miss,
}

/// A bit for each letter, in the order in which they are shown. Nothing is evicted, and there are no streams and no
/// modules, so `e`, `t` and `d` are accepted and nothing comes of them.
const LETTERS: &[u8] = b"g$lshzxetdnKEm";
/// Letters that `A` stands for.
const ALL: &[u8] = b"g$lshzxetd";

/// Which notices are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u16);

impl Classes {
    /// Reads letters; nothing when one of them is none.
    #[must_use]
    pub fn parse(letters: &[u8]) -> Option<Self> {
        letters.iter().try_fold(Self(0), |Self(all), letter| {
            let bits = match letter {
                b'A' => Self::bits(ALL),
                letter => Self::bits(&[*letter]),
            };
            (bits > 0).then_some(Self(all | bits))
        })
    }

    fn bits(letters: &[u8]) -> u16 {
        let at = |letter: &u8| LETTERS.iter().position(|other| other == letter);
        letters
            .iter()
            .filter_map(at)
            .fold(0, |bits, at| bits | 1 << at)
    }

    fn has(self, letter: u8) -> bool {
        self.0 & Self::bits(&[letter]) != 0
    }

    /// Says whether any notice is published at all: a class and a channel are wanted.
    #[must_use]
    pub fn any(self) -> bool {
        let channels = Self::bits(b"KE");
        self.0 & channels != 0 && self.0 & !channels != 0
    }

    /// Says whether notices of a class are wanted.
    #[must_use]
    pub fn wants(self, class: Class) -> bool {
        self.any() && self.has(class.letter())
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = Self::bits(ALL);
        let has_all = self.0 & all == all;
        if has_all {
            out.write_str("A")?;
        }
        let shown = LETTERS
            .iter()
            .filter(|letter| self.has(**letter) && !(has_all && ALL.contains(letter)));
        shown
            .copied()
            .try_for_each(|letter| write!(out, "{}", char::from(letter)))
    }
}

impl Class {
    fn letter(self) -> u8 {
        match self {
            Self::Generic => b'g',
            Self::Text => b'$',
            Self::List => b'l',
            Self::Set => b's',
            Self::Hash => b'h',
            Self::SortedSet => b'z',
            Self::Expired => b'x',
            Self::New => b'n',
            Self::Miss => b'm',
        }
    }
}

/// One notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Name of the event.
    pub event: &'static str,
    /// Database of the key.
    pub database: u8,
    /// The key.
    pub key: Vec<u8>,
}

impl Notice {
    /// Returns the messages that it becomes.
    #[must_use]
    pub fn publications(&self, classes: Classes) -> Vec<Publication> {
        let message = |letter: u8, space: &str, of: &[u8], payload: &[u8]| {
            classes.has(letter).then(|| Publication {
                is_sharded: false,
                channel: [format!("__{space}@{}__:", self.database).as_bytes(), of].concat(),
                payload: payload.to_vec(),
            })
        };
        let event = self.event.as_bytes();
        let key = message(b'K', "keyspace", &self.key, event);
        let event = message(b'E', "keyevent", event, &self.key);
        key.into_iter().chain(event).collect()
    }
}

/// The notices of one command.
#[derive(Debug, Default)]
pub struct Notices {
    classes: Classes,
    all: Vec<Notice>,
}

impl Notices {
    /// Begins to gather those that are wanted.
    #[must_use]
    pub fn of(classes: Classes) -> Self {
        let all = Vec::new();
        Self { classes, all }
    }

    /// Says whether notices of a class are wanted.
    #[must_use]
    pub fn wants(&self, class: Class) -> bool {
        self.classes.wants(class)
    }

    /// Adds one, if it is wanted.
    pub fn add(&mut self, class: Class, event: &'static str, (database, key): (u8, &[u8])) {
        if self.wants(class) {
            self.all.push(Notice {
                event,
                database,
                key: key.to_vec(),
            });
        }
    }

    /// Adds that a key is new, before what else is told of it from the `from`-th on.
    pub fn add_new(&mut self, from: usize, (database, key): (u8, &[u8])) {
        let is_of = |notice: &Notice| notice.database == database && notice.key == key;
        let later = self.all.iter().skip(from);
        let at = later.take_while(|notice| !is_of(notice)).count() + from;
        self.all.insert(
            at,
            Notice {
                event: "new",
                database,
                key: key.to_vec(),
            },
        );
    }

    /// Returns how many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets those from the `len`-th on: what they tell of was taken back.
    pub fn truncate(&mut self, len: usize) {
        self.all.truncate(len);
    }

    /// Says whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns all of them.
    #[must_use]
    pub fn take(self) -> Vec<Notice> {
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_shown_as_redis_shows_them() {
        for (given, shown) in [
            ("KEA", "AKE"),
            ("AKEnm", "AnKEm"),
            ("gxmn", "gxnm"),
            ("xE", "xE"),
            ("KEg$lshzxetd", "AKE"),
            ("", ""),
        ] {
            let classes = Classes::parse(given.as_bytes()).unwrap_or_default();
            assert_eq!(classes.to_string(), shown, "{given}");
            assert_eq!(Classes::parse(shown.as_bytes()), Some(classes), "{given}");
        }
        assert_eq!(Classes::parse(b"KEq"), None);
        let wants = |letters: &[u8]| Classes::parse(letters).is_some_and(Classes::any);
        assert!(wants(b"Kx") && !wants(b"KE") && !wants(b"Ag"));
    }

    #[test]
    fn a_notice_is_a_message_of_its_key_and_of_its_event() {
        let mut notices = Notices::of(Classes::parse(b"KE$n").unwrap_or_default());
        notices.add(Class::Text, "set", (3, b"a"));
        notices.add(Class::Generic, "expire", (3, b"a"));
        notices.add(Class::Text, "set", (3, b"b"));
        notices.add_new(0, (3, b"b"));
        let classes = notices.classes;
        let all = notices.take();
        let events: Vec<(&str, &[u8])> = all.iter().map(|n| (n.event, n.key.as_slice())).collect();
        assert_eq!(events, [("set", &b"a"[..]), ("new", b"b"), ("set", b"b")]);
        let both = all[0].publications(classes);
        let told = |at: usize| (both[at].channel.as_slice(), both[at].payload.as_slice());
        assert_eq!(told(0), (&b"__keyspace@3__:a"[..], &b"set"[..]));
        assert_eq!(told(1), (&b"__keyevent@3__:set"[..], &b"a"[..]));
    }
}
