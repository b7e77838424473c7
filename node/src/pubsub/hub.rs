//! The connections of one shard that are subscribed, by what they are subscribed to. Not how a message reaches them.
//!
//! Invariant: a connection is here for a name exactly while its [`Subscriber`](super::subscriber::Subscriber) holds it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Encoded, Kind, Publication};
use crate::connection::Connection;
use crate::glob::{Case, matches};

/// Connections in order of their numbers.
type Members = BTreeMap<u64, Rc<Connection>>;

/// Who is subscribed to what on one shard.
#[derive(Debug, Default)]
pub struct Hub {
    by_kind: RefCell<[BTreeMap<Vec<u8>, Members>; 3]>,
}

impl Hub {
    /// Adds a connection to the subscribers of a name.
    pub(crate) fn join(&self, kind: Kind, name: &[u8], connection: &Rc<Connection>) {
        let mut by_kind = self.by_kind.borrow_mut();
        let members = by_kind[kind as usize].entry(name.to_vec()).or_default();
        members.insert(connection.id, Rc::clone(connection));
    }

    /// Takes a connection from the subscribers of a name.
    pub(crate) fn leave(&self, kind: Kind, name: &[u8], connection: u64) {
        let names = &mut self.by_kind.borrow_mut()[kind as usize];
        if let Some(members) = names.get_mut(name) {
            members.remove(&connection);
            if members.is_empty() {
                names.remove(name);
            }
        }
    }

    /// Hands a message to each of its receivers, encoded in the protocol that each speaks: first those of the channel,
    /// then those of each pattern. A connection may be among them several times.
    pub(crate) fn deliver(
        &self,
        publication: &Publication,
        mut give: impl FnMut(&Rc<Connection>, &Rc<[u8]>),
    ) {
        let by_kind = self.by_kind.borrow();
        let mut hand = |members: &Members, mut encoded: Encoded<'_>| {
            for connection in members.values() {
                give(connection, encoded.frame(connection.version.get()));
            }
        };
        if let Some(members) = by_kind[publication.kind() as usize].get(&publication.channel) {
            hand(members, Encoded::new(publication, None));
        }
        if publication.is_sharded {
            return;
        }
        for (pattern, members) in &by_kind[Kind::Pattern as usize] {
            if matches(pattern, &publication.channel, Case::Sensitive) {
                hand(members, Encoded::new(publication, Some(pattern)));
            }
        }
    }

    /// Says whether nobody is subscribed to anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_kind.borrow().iter().all(BTreeMap::is_empty)
    }
}
