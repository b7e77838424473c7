//! The fingerprint of what is debug-printed, without what only chance decides: two states that differ in
//! nothing but random delays are one.

use std::fmt::{self, Debug, Write};
use std::hash::{DefaultHasher, Hasher};

/// Fields that do not count: when elections are due is left to the search.
const LEFT_OUT: [&str; 4] = ["options", "random", "election_at", "attempts"];

/// Hashes what is printed into it.
#[derive(Default)]
pub(crate) struct Print {
    hasher: DefaultHasher,
    depth: u32,
    /// The depth of the field that is left out.
    skips: Option<u32>,
}

impl Print {
    /// Takes in what is printed of `what`.
    pub(crate) fn take(&mut self, what: &impl Debug) {
        write!(self, "{what:?}").expect("a hasher takes all");
        self.hasher.write_u8(0);
    }

    /// Returns the fingerprint.
    pub(crate) fn finish(&self) -> u64 {
        self.hasher.finish()
    }
}

impl Write for Print {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let is_end = self.skips == Some(self.depth) && piece == ", ";
        if is_end {
            self.skips = None;
        }
        for byte in piece.bytes() {
            match byte {
                b'{' | b'(' | b'[' => self.depth += 1,
                b'}' | b')' | b']' => self.depth -= 1,
                _ => {}
            }
        }
        if self.skips.is_none() {
            self.hasher.write(piece.as_bytes());
            if LEFT_OUT.contains(&piece) {
                self.skips = Some(self.depth);
            }
        }
        Ok(())
    }
}

#[test]
fn chance_does_not_count_and_all_else_does() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "they are printed")]
    struct Part {
        random: u64,
        term: u64,
        election_at: Option<Vec<u64>>,
        last: u64,
    }
    let print = |random, term, at: u64, last| {
        let mut print = Print::default();
        let election_at = Some(vec![at, at]);
        print.take(&Part {
            random,
            term,
            election_at,
            last,
        });
        print.finish()
    };
    assert_eq!(print(1, 2, 3, 4), print(5, 2, 6, 4));
    assert_ne!(print(1, 2, 3, 4), print(1, 3, 3, 4));
    assert_ne!(print(1, 2, 3, 4), print(1, 2, 3, 5));
}
