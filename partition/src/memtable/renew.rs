//! Roots of collections that change several times in one entry: the newest version takes the new content and timestamp,
//! instead of one more version for each of a pipeline's commands. Only how many elements there were in between is
//! lost, which nobody can ask for: whoever looks back sees of a collection that it is there, of which family, and
//! until when, and all that stays as it was.
//!
//! Invariant: the version beneath is a root of the same collection, so at no timestamp does the key begin to be there
//! later than it did.

use super::arena::{Arena, Ref};
use super::{Kind, Memtable, Version};
use crate::collection::Root;

impl Memtable {
    /// Has the newest version of `key` say what `version` does, as [`Memtable::put`] would with one version more.
    /// Returns false, and has done nothing, unless `version` is a root newer than it, it was written at `since` or
    /// later, and both it and the version beneath are roots of the same collection with the same expiry.
    pub fn renew(&mut self, hash: u64, key: &[u8], version: Version<'_>, since: u64) -> bool {
        let Some(found) = self.find(hash, key) else {
            return false;
        };
        let at = self.arena.newest(found);
        let newest = self.arena.version(found, at);
        let beneath = self.arena.previous(found, at);
        let is_newer = (since..version.timestamp).contains(&newest.timestamp);
        if !is_newer || !beneath.is_some() || !says_the_same(newest, version) {
            return false;
        }
        if !says_the_same(self.arena.version(found, beneath), version) {
            return false;
        }
        self.note(version.timestamp);
        self.arena.renew(found, at, version);
        true
    }
}

impl Arena {
    /// Writes a timestamp and a value of the same length over those of the newest version of a key.
    fn renew(&mut self, key: Ref, at: Ref, version: Version<'_>) {
        if let Some(ladder) = self.ladder(key) {
            self.renew_on_ladder(ladder, at, version.timestamp);
        }
        self.overwrite(key, at, version);
    }
}

/// Says whether all that can be asked of the past of a collection is the same in two of its roots.
fn says_the_same(a: Version<'_>, b: Version<'_>) -> bool {
    let are_roots = a.kind == Kind::Root && b.kind == Kind::Root;
    are_roots && a.expire_at_ms == b.expire_at_ms && Root::are_of_one(a.value, b.value)
}
