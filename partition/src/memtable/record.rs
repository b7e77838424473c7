//! What the blocks of the arena hold: keys and their versions.
//!
//! A chain goes from the newest version to the oldest, timestamps strictly descending. One version
//! of a small key may live in the key's own block (*inline*), so that a lookup touches one place;
//! its reference is the key's. When it is collected its space is used again by the next version or
//! given back. A long chain has a ladder, see `ladder`. Counting keys and keeping them in order is
//! not done here.
//!
//! ```text
//! key      newest u32 | flags and length u32 | key                               plain
//!          newest u32 | flags and length u32 | version head | key | version body  inline
//! version  version head | version body                                           elsewhere
//! head     timestamp u64 | previous u32 | flags and length u32
//! body     expire_at_ms u64, if flagged | value, or u32 slot of a large value
//! ```
//!
//! All numbers are little-endian. A separator of the tree is a plain key without versions.

use super::arena::{
    Arena, BLOCK_BYTES_MAX, EXACT_BYTES_MAX, Ref, UNIT_BYTES, read_u32, read_u64, write_u32,
    write_u64,
};
use super::{Horizon, Kind, Memtable, Version};

const KEY_HEAD_BYTES: usize = 8;
const VERSION_HEAD_BYTES: usize = 16;
const EXPIRY_BYTES: usize = 8;

/// Flag of a key: its block holds a version, live or vacant.
const INLINE: u32 = 1 << 31;
/// Flag of a key: its chain has a ladder, which `newest` refers to.
const LADDER: u32 = 1 << 30;
/// Flags of a version.
const TOMBSTONE: u32 = 1 << 31;
const EXPIRES: u32 = 1 << 30;
const LARGE: u32 = 1 << 29;
const ROOT: u32 = 1 << 28;
const LENGTH: u32 = ROOT - 1;

const _: () = assert!(Memtable::VALUE_BYTES_MAX <= LENGTH as usize);
const _: () = assert!(KEY_HEAD_BYTES + Memtable::KEY_BYTES_MAX <= BLOCK_BYTES_MAX);

/// What became of a key's inline place when versions were cut from its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inline {
    /// It holds what it did, or there is none.
    Unchanged,
    /// Its version was cut.
    Vacant,
}

/// Where a version lies: `head` and `body` are offsets into the block at `block`.
#[derive(Clone, Copy)]
struct Place {
    block: Ref,
    head: usize,
    body: usize,
}

impl Arena {
    /// Returns the bytes of a key.
    #[inline]
    pub(super) fn key(&self, key: Ref) -> &[u8] {
        let block = self.block(key);
        let word = read_u32(block, 4);
        let start = key_start(word);
        &block[start..start + key_bytes(word)]
    }

    /// Returns the newest version of a key, [`Ref::NONE`] for a separator.
    #[inline]
    pub(super) fn newest(&self, key: Ref) -> Ref {
        let block = self.block(key);
        let newest = Ref(read_u32(block, 0));
        if read_u32(block, 4) & LADDER == 0 {
            newest
        } else {
            self.ladder_newest(newest)
        }
    }

    /// Returns where the newest version of a key lies, the key itself where that is inline or takes a search.
    #[inline]
    pub(super) fn newest_apart(&self, key: Ref) -> Ref {
        let block = self.block(key);
        let newest = Ref(read_u32(block, 0));
        match read_u32(block, 4) & LADDER == 0 && newest.is_some() {
            true => newest,
            false => key,
        }
    }

    /// Returns the ladder of a key's chain.
    #[inline]
    pub(super) fn ladder(&self, key: Ref) -> Option<Ref> {
        let block = self.block(key);
        (read_u32(block, 4) & LADDER != 0).then(|| Ref(read_u32(block, 0)))
    }

    /// Enters the ladder of a key's chain, which knows the newest version.
    pub(super) fn set_ladder(&mut self, key: Ref, ladder: Ref) {
        let word = self.key_word(key);
        let block = self.block_mut(key);
        write_u32(block, 0, ladder.0);
        write_u32(block, 4, word | LADDER);
    }

    /// Enters the newest version of a key whose ladder is gone.
    pub(super) fn unset_ladder(&mut self, key: Ref, newest: Ref) {
        let word = self.key_word(key);
        let block = self.block_mut(key);
        write_u32(block, 0, newest.0);
        write_u32(block, 4, word & !LADDER);
    }

    /// Returns the newest version of a key.
    #[inline]
    pub(super) fn newest_version(&self, key: Ref) -> Version<'_> {
        self.version(key, self.newest(key))
    }

    /// Returns a plain key without versions, to separate nodes of the tree.
    pub(super) fn create_separator(&mut self, bytes: &[u8]) -> Ref {
        let key = self.allocate(KEY_HEAD_BYTES + bytes.len());
        self.write_key(key, bytes, 0);
        key
    }

    /// Returns a new key with one version, inline if the whole is small.
    pub(super) fn create_key(&mut self, bytes: &[u8], version: Version<'_>) -> Ref {
        let inline = inline_bytes(bytes.len(), body_bytes(version));
        if inline > EXACT_BYTES_MAX {
            let key = self.create_separator(bytes);
            let newest = self.create_version(key, version, Ref::NONE);
            self.set_newest(key, newest);
            return key;
        }
        let key = self.allocate(inline);
        self.write_key(key, bytes, INLINE);
        self.write_version(self.place(key, key), version, Ref::NONE);
        self.set_newest(key, key);
        key
    }

    /// Frees a key and all its versions.
    pub(super) fn free_key(&mut self, key: Ref) {
        self.drop_ladder(key);
        let inline = self.cut(key, Ref::NONE);
        self.free_bare_key(key, inline);
    }

    /// Frees a version that the chain no longer leads to, but for the inline place.
    #[inline]
    pub(super) fn free_version(&mut self, key: Ref, at: Ref) -> Inline {
        let word = self.version_word(key, at);
        self.tally.cut(word & TOMBSTONE != 0);
        if word & LARGE != 0 {
            self.free_large(self.large_slot(self.place(key, at), word));
        }
        if at == key {
            return Inline::Vacant;
        }
        self.free(at, VERSION_HEAD_BYTES + stored_bytes(word));
        Inline::Unchanged
    }

    /// Whether the key has one version, an inline one, and `version` takes its place; if so, that
    /// one counts as cut. It is what happens to nearly every write when nobody looks back.
    pub(super) fn replaces_alone(
        &mut self,
        key: Ref,
        version: Version<'_>,
        horizon: Horizon,
    ) -> bool {
        let block = self.block(key);
        let (newest, word) = (read_u32(block, 0), read_u32(block, 4));
        let timestamp = version.timestamp;
        if newest != key.0 || word & LADDER != 0 || timestamp > horizon.floor {
            return false;
        }
        let head = &block[KEY_HEAD_BYTES..][..VERSION_HEAD_BYTES];
        let alone = read_u32(head, 8) == 0 && read_u64(head, 0) < timestamp;
        let flags = read_u32(head, 12);
        if !alone || flags & LARGE != 0 || !horizon.keeps(version) {
            return false;
        }
        self.tally.cut(flags & TOMBSTONE != 0);
        true
    }

    /// Stores a version, in the vacant inline place if it fits.
    pub(super) fn add_version(
        &mut self,
        key: Ref,
        version: Version<'_>,
        older: Ref,
        inline: Inline,
    ) -> Ref {
        if inline == Inline::Unchanged {
            return self.create_version(key, version, older);
        }
        let length = key_bytes(self.key_word(key));
        let held = inline_bytes(length, stored_bytes(self.version_word(key, key)));
        let wanted = inline_bytes(length, body_bytes(version));
        if wanted.div_ceil(UNIT_BYTES) > held.div_ceil(UNIT_BYTES) {
            self.settle(key, inline);
            return self.create_version(key, version, older);
        }
        self.shrink(key, held, wanted);
        self.write_version(self.place(key, key), version, older);
        key
    }

    /// Gives back a vacant inline place: the key becomes a plain one.
    pub(super) fn settle(&mut self, key: Ref, inline: Inline) {
        if inline == Inline::Unchanged {
            return;
        }
        let word = self.key_word(key);
        let length = key_bytes(word);
        let held = inline_bytes(length, stored_bytes(self.version_word(key, key)));
        let from = key_start(INLINE);
        let block = self.block_mut(key);
        block.copy_within(from..from + length, KEY_HEAD_BYTES);
        write_u32(block, 4, word & !INLINE);
        self.shrink(key, held, KEY_HEAD_BYTES + length);
    }

    /// Frees a key that has no version left but perhaps a vacant inline place.
    fn free_bare_key(&mut self, key: Ref, inline: Inline) {
        let length = key_bytes(self.key_word(key));
        let bytes = match inline {
            Inline::Vacant => inline_bytes(length, stored_bytes(self.version_word(key, key))),
            Inline::Unchanged => KEY_HEAD_BYTES + length,
        };
        self.free(key, bytes);
    }

    fn create_version(&mut self, key: Ref, version: Version<'_>, older: Ref) -> Ref {
        let at = self.allocate(VERSION_HEAD_BYTES + body_bytes(version));
        assert!(at != key);
        self.write_version(self.place(key, at), version, older);
        at
    }

    fn write_key(&mut self, key: Ref, bytes: &[u8], flag: u32) {
        let word = flag | length_word(bytes.len());
        let block = self.block_mut(key);
        write_u32(block, 0, 0);
        write_u32(block, 4, word);
        block[key_start(word)..][..bytes.len()].copy_from_slice(bytes);
    }

    fn write_version(&mut self, place: Place, version: Version<'_>, older: Ref) {
        self.tally.write(version.kind == Kind::Tombstone);
        let large = is_large(version).then(|| self.store_large(version.value).to_le_bytes());
        let stored = large.as_ref().map_or(version.value, |slot| slot.as_slice());
        let word = version_word(version);
        let block = self.block_mut(place.block);
        write_u64(block, place.head, version.timestamp);
        write_u32(block, place.head + 8, older.0);
        write_u32(block, place.head + 12, word);
        let mut body = place.body;
        if let Some(expire_at_ms) = version.expire_at_ms {
            write_u64(block, body, expire_at_ms);
            body += EXPIRY_BYTES;
        }
        block[body..body + stored.len()].copy_from_slice(stored);
    }

    /// Writes the timestamp and value of `version` over those of one that takes the same space.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn overwrite(&mut self, key: Ref, at: Ref, version: Version<'_>) {
        let place = self.place(key, at);
        let word = version_word(version);
        let block = self.block_mut(place.block);
        assert!(read_u32(block, place.head + 12) == word && !is_large(version));
        write_u64(block, place.head, version.timestamp);
        let expiry_bytes = version.expire_at_ms.map_or(0, |_| EXPIRY_BYTES);
        block[place.body + expiry_bytes..][..version.value.len()].copy_from_slice(version.value);
    }

    /// Returns a version of a key.
    #[inline]
    pub(super) fn version(&self, key: Ref, at: Ref) -> Version<'_> {
        let place = self.place(key, at);
        let block = self.block(place.block);
        let word = read_u32(block, place.head + 12);
        let mut body = place.body;
        let expire_at_ms = (word & EXPIRES != 0).then(|| read_u64(block, body));
        if expire_at_ms.is_some() {
            body += EXPIRY_BYTES;
        }
        let value = if word & LARGE == 0 {
            &block[body..body + (word & LENGTH) as usize]
        } else {
            self.large(read_u32(block, body))
        };
        let kind = match word & (TOMBSTONE | ROOT) {
            0 => Kind::Put,
            ROOT => Kind::Root,
            _ => Kind::Tombstone,
        };
        Version {
            timestamp: read_u64(block, place.head),
            kind,
            expire_at_ms,
            value,
        }
    }

    #[inline]
    fn place(&self, key: Ref, at: Ref) -> Place {
        if at != key {
            return Place {
                block: at,
                head: 0,
                body: VERSION_HEAD_BYTES,
            };
        }
        let word = self.key_word(key);
        let body = key_start(word) + key_bytes(word);
        Place {
            block: key,
            head: KEY_HEAD_BYTES,
            body,
        }
    }

    #[inline]
    fn key_word(&self, key: Ref) -> u32 {
        read_u32(self.block(key), 4)
    }

    /// Returns the timestamp of a version of a key.
    #[inline]
    pub(super) fn timestamp(&self, key: Ref, at: Ref) -> u64 {
        read_u64(self.block(at), head_start(key, at))
    }

    /// Returns the version next older than one of a key.
    #[inline]
    pub(super) fn previous(&self, key: Ref, at: Ref) -> Ref {
        Ref(read_u32(self.block(at), head_start(key, at) + 8))
    }

    #[inline]
    fn version_word(&self, key: Ref, at: Ref) -> u32 {
        read_u32(self.block(at), head_start(key, at) + 12)
    }

    /// Whether a version of a key is a tombstone.
    pub(super) fn is_tombstone(&self, key: Ref, at: Ref) -> bool {
        self.version_word(key, at) & TOMBSTONE != 0
    }

    fn large_slot(&self, place: Place, word: u32) -> u32 {
        let expiry = if word & EXPIRES == 0 { 0 } else { EXPIRY_BYTES };
        read_u32(self.block(place.block), place.body + expiry)
    }

    /// Returns the version after `at` in the chain; the first one for [`Ref::NONE`].
    #[inline]
    pub(super) fn next(&self, key: Ref, at: Ref) -> Ref {
        if at.is_some() {
            self.previous(key, at)
        } else {
            self.newest(key)
        }
    }

    /// Makes `older` the version after `at`; the newest one for [`Ref::NONE`].
    #[inline]
    pub(super) fn link(&mut self, key: Ref, at: Ref, older: Ref) {
        if at.is_some() {
            write_u32(self.block_mut(at), head_start(key, at) + 8, older.0);
        } else {
            self.set_newest(key, older);
        }
    }

    /// Enters the newest version of a key.
    #[inline]
    pub(super) fn set_newest(&mut self, key: Ref, newest: Ref) {
        match self.ladder(key) {
            Some(ladder) => self.set_ladder_newest(ladder, newest),
            None => write_u32(self.block_mut(key), 0, newest.0),
        }
    }
}

const fn head_start(key: Ref, at: Ref) -> usize {
    if key.0 == at.0 { KEY_HEAD_BYTES } else { 0 }
}

const fn key_start(word: u32) -> usize {
    if word & INLINE == 0 {
        KEY_HEAD_BYTES
    } else {
        KEY_HEAD_BYTES + VERSION_HEAD_BYTES
    }
}

const fn key_bytes(word: u32) -> usize {
    (word & !(INLINE | LADDER)) as usize
}

const fn inline_bytes(key_bytes: usize, body_bytes: usize) -> usize {
    KEY_HEAD_BYTES + VERSION_HEAD_BYTES + key_bytes + body_bytes
}

fn is_large(version: Version<'_>) -> bool {
    VERSION_HEAD_BYTES + EXPIRY_BYTES + version.value.len() > BLOCK_BYTES_MAX
}

fn version_word(version: Version<'_>) -> u32 {
    let kind = match version.kind {
        Kind::Put => 0,
        Kind::Root => ROOT,
        Kind::Tombstone => TOMBSTONE,
    };
    let expires = if version.expire_at_ms.is_some() {
        EXPIRES
    } else {
        0
    };
    let large = if is_large(version) { LARGE } else { 0 };
    kind | expires | large | length_word(version.value.len())
}

fn body_bytes(version: Version<'_>) -> usize {
    stored_bytes(version_word(version))
}

/// Returns the bytes of the body of a version with this word.
fn stored_bytes(word: u32) -> usize {
    let expiry = if word & EXPIRES == 0 { 0 } else { EXPIRY_BYTES };
    expiry
        + if word & LARGE == 0 {
            (word & LENGTH) as usize
        } else {
            size_of::<u32>()
        }
}

fn length_word(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("lengths are checked at the door of the memtable")
}
