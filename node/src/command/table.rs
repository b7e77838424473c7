//! The table of all commands, joined at compile time from the families, and how a name is found in
//! it.
//!
//! It is not a long match: a name is hashed by its length and its first and last bytes, and the
//! slot tells the row. To add a command, write its row beside its function; to add a family, name
//! it in [`FAMILIES`].
//!
//! Invariant: every row is found by its name in letters of either case, and nothing else is found.

use super::{
    Command, Derived, Elements, bitmap, blocking, cluster, connection, copy, edit, hash, integer,
    keys, list, list_middle, list_pop, member, object, ordered, pubsub, server, session, set,
    set_algebra, sorted_set, sorted_set_add, sorted_set_algebra, sorted_set_pop, sorted_set_range,
    sorted_set_rank, string, support, transaction,
};

/// The commands of each family, in the order in which `COMMAND` lists them.
const FAMILIES: &[&[Command]] = &[
    string::STRING,
    integer::INTEGER,
    edit::EDIT,
    bitmap::BITMAP,
    hash::HASH,
    list::LIST,
    list_pop::LIST_POP,
    list_middle::LIST_MIDDLE,
    set::SET,
    set_algebra::SET_ALGEBRA,
    sorted_set::SORTED_SET,
    sorted_set_add::SORTED_SET_ADD,
    sorted_set_range::SORTED_SET_RANGE,
    sorted_set_rank::SORTED_SET_RANK,
    sorted_set_pop::SORTED_SET_POP,
    sorted_set_algebra::SORTED_SET_ALGEBRA,
    blocking::BLOCKING,
    keys::KEYS,
    copy::COPY,
    object::OBJECT,
    ordered::ORDERED,
    transaction::TRANSACTION,
    connection::CONNECTION,
    session::SESSION,
    pubsub::PUBSUB,
    server::SERVER,
    support::SUPPORTING,
    cluster::CLUSTER,
    member::MEMBER,
];

/// Rows of the table.
pub const ROWS: usize = count(FAMILIES);
/// Slots of the index, a power of two; about one in eight is used, so that names rarely meet.
const SLOTS: usize = (ROWS * 8).next_power_of_two();
/// A slot without a row.
const EMPTY: u16 = u16::MAX;

static TABLE: [Command; ROWS] = join(FAMILIES);
static WHOLE: Command = whole(&join(FAMILIES));
static INDEX: [u16; SLOTS] = index(&join(FAMILIES));

/// Returns the command that `name` names, in letters of either case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    row_of(name).filter(|command| !command.is_part())
}

/// Returns the command that its first words name: one that is several may have a part with a row of its own.
#[must_use]
pub fn resolve(name: &[u8], second: Option<&[u8]>) -> Option<&'static Command> {
    let command = find(name)?;
    match second {
        Some(second) if command.derived.has_parts => {
            row_of(&[name, b"|", second].concat()).or(Some(command))
        }
        _ => Some(command),
    }
}

/// Returns the command that its first words name, as one shard hands it to another.
#[must_use]
pub fn resolve_handed(name: &[u8], second: Option<&[u8]>) -> Option<&'static Command> {
    match name == WHOLE.name.as_bytes() {
        true => Some(&WHOLE),
        false => resolve(name, second),
    }
}

/// Returns the command that a transaction becomes.
#[must_use]
pub fn of_transactions() -> &'static Command {
    &WHOLE
}

fn row_of(name: &[u8]) -> Option<&'static Command> {
    let mut slot = slot_of(name);
    loop {
        let row = INDEX[slot];
        if row == EMPTY {
            return None;
        }
        let command = &TABLE[usize::from(row)];
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Returns every command that clients can name, family by family.
pub fn named() -> impl Iterator<Item = &'static Command> {
    TABLE.iter().filter(|command| !command.is_part())
}

/// Returns every command, family by family, and the parts that have rows of their own.
#[must_use]
pub fn all() -> &'static [Command] {
    &TABLE
}

/// Returns where the search for `name` begins. Bit 5 tells the cases of a letter apart, so it is
/// set in every byte.
const fn slot_of(name: &[u8]) -> usize {
    const EITHER_CASE: u64 = 0x2020_2020_2020_2020;
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let (first, last) = ends(name);
    let mixed = (first | EITHER_CASE).wrapping_mul(SPREAD) ^ (last | EITHER_CASE);
    let hash = (mixed ^ name.len() as u64).wrapping_mul(SPREAD);
    (hash >> 32) as usize % SLOTS
}

/// Returns the first and the last bytes of a name; they overlap when it is short.
const fn ends(name: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        return (
            u32::from_le_bytes(*first) as u64,
            u32::from_le_bytes(*last) as u64,
        );
    }
    match name {
        [a, b, c] => (*a as u64 | (*b as u64) << 8 | (*c as u64) << 16, 0),
        [a, b] => (*a as u64 | (*b as u64) << 8, 0),
        [a] => (*a as u64, 0),
        _ => (0, 0),
    }
}

const fn count(families: &[&[Command]]) -> usize {
    let (mut rows, mut family) = (0, 0);
    while family < families.len() {
        rows += families[family].len();
        family += 1;
    }
    rows
}

const fn join<const N: usize>(families: &[&[Command]]) -> [Command; N] {
    let mut table = [families[0][0]; N];
    let (mut at, mut family) = (0, 0);
    while family < families.len() {
        let mut row = 0;
        while row < families[family].len() {
            table[at] = families[family][row];
            table[at].derived = derive(table[at].flags, at);
            table[at].derived.is_of_strings = is_of_strings(table[at].group.as_bytes());
            table[at].derived.is_never_queued = is_never_queued(table[at].name.as_bytes());
            table[at].derived.has_parts = has_parts(table[at].name.as_bytes(), families);
            table[at].derived.numkeys = numkeys(table[at].syntax.as_bytes());
            table[at].derived.elements = elements(table[at].syntax.as_bytes());
            (at, row) = (at + 1, row + 1);
        }
        family += 1;
    }
    table
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "asserted to fit at compile time"
)]
const fn derive(flags: &[&str], row: usize) -> Derived {
    assert!(row < EMPTY as usize, "a row has a number of 16 bits");
    let (mut writes, mut blocks, mut flag) = (false, false, 0);
    while flag < flags.len() {
        writes |= matches!(flags[flag].as_bytes(), b"write");
        blocks |= matches!(flags[flag].as_bytes(), b"blocking");
        flag += 1;
    }
    Derived {
        row: row as u16,
        writes,
        blocks,
        has_parts: false,
        is_never_queued: false,
        is_of_strings: false,
        numkeys: 0,
        elements: Elements::None,
    }
}

const fn is_of_strings(group: &[u8]) -> bool {
    matches!(group, b"string" | b"bitmap" | b"generic")
}

const fn is_never_queued(name: &[u8]) -> bool {
    matches!(
        name,
        b"multi" | b"exec" | b"discard" | b"watch" | b"quit" | b"reset"
    )
}

/// Returns the row of whole transactions, which stands where `EXEC` does.
const fn whole(table: &[Command; ROWS]) -> Command {
    let mut row = 0;
    while !matches!(table[row].name.as_bytes(), b"exec") {
        row += 1;
    }
    let mut whole = transaction::WHOLE;
    whole.derived = derive(whole.flags, row);
    whole
}

/// Returns which word a syntax calls `numkeys`, 0 for none; the name is word 0.
const fn numkeys(syntax: &[u8]) -> u8 {
    let (mut at, mut word) = (0, 1);
    while at < syntax.len() {
        if begins_with(syntax, at, b"numkeys ") {
            return word;
        }
        word += (syntax[at] == b' ') as u8;
        at += 1;
    }
    0
}

/// Returns which words a syntax calls `field` or `member`.
const fn elements(syntax: &[u8]) -> Elements {
    let is_one = begins_with(syntax, 0, b"key field") || begins_with(syntax, 0, b"key member");
    if is_one && contains(syntax, b"value [field") {
        Elements::Behind(2)
    } else if is_one && (contains(syntax, b" [field") || contains(syntax, b" [member")) {
        Elements::Behind(1)
    } else if is_one {
        Elements::Behind(0)
    } else if begins_with(syntax, 0, b"key ") && contains(syntax, b" member") {
        Elements::Last
    } else {
        Elements::None
    }
}

const fn contains(text: &[u8], part: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        if begins_with(text, at, part) {
            return true;
        }
        at += 1;
    }
    false
}

const fn begins_with(text: &[u8], from: usize, beginning: &[u8]) -> bool {
    let mut at = 0;
    while at < beginning.len() {
        if from + at >= text.len() || text[from + at] != beginning[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Says whether a row is named `name|part`.
const fn has_parts(name: &[u8], families: &[&[Command]]) -> bool {
    let mut family = 0;
    while family < families.len() {
        let mut row = 0;
        while row < families[family].len() {
            if is_part_of(families[family][row].name.as_bytes(), name) {
                return true;
            }
            row += 1;
        }
        family += 1;
    }
    false
}

const fn is_part_of(part: &[u8], name: &[u8]) -> bool {
    if part.len() <= name.len() || part[name.len()] != b'|' {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if part[at] != name[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "asserted to fit at compile time"
)]
const fn index(table: &[Command; ROWS]) -> [u16; SLOTS] {
    assert!(ROWS < EMPTY as usize, "a row has a number of 16 bits");
    let mut index = [EMPTY; SLOTS];
    let mut row = 0;
    while row < ROWS {
        let mut slot = slot_of(table[row].name.as_bytes());
        while index[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = row as u16;
        row += 1;
    }
    index
}
