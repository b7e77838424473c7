//! The longest common subsequence of two byte strings, by a table of the lengths for all pairs of their
//! beginnings. Takes time and memory as the product of the lengths, so these are bounded. Pure.
//!
//! Invariant: `cells[i * (other + 1) + j]` is the length for the first `i` bytes of one and the first `j` of
//! the other.

/// Largest product of the lengths: some milliseconds, and 16 MiB.
pub const CELLS_MAX: usize = 4 << 20;

/// The lengths for all pairs of beginnings.
#[derive(Debug)]
pub struct Table<'a> {
    one: &'a [u8],
    other: &'a [u8],
    cells: Vec<u32>,
}

/// Bytes that both strings have in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where they begin in the one.
    pub one: u32,
    /// Where they begin in the other.
    pub other: u32,
    /// How many they are.
    pub length: u32,
}

impl<'a> Table<'a> {
    /// Fills the table; nothing when it would be too large.
    #[must_use]
    pub fn of(one: &'a [u8], other: &'a [u8]) -> Option<Self> {
        let cells = one.len().checked_mul(other.len())?;
        if cells > CELLS_MAX || one.len().max(other.len()) > u32::MAX as usize {
            return None;
        }
        let width = other.len() + 1;
        // Without a common byte the table is all zeros, and not needed.
        let cells = if cells == 0 {
            0
        } else {
            width * (one.len() + 1)
        };
        let mut table = Self {
            one,
            other,
            cells: vec![0; cells],
        };
        for (i, byte) in one.iter().enumerate().filter(|_| cells > 0) {
            let (before, row) = table.cells.split_at_mut((i + 1) * width);
            let before = &before[i * width..];
            for (j, of) in other.iter().enumerate() {
                row[j + 1] = if byte == of {
                    before[j] + 1
                } else {
                    before[j + 1].max(row[j])
                };
            }
        }
        Some(table)
    }

    fn cell(&self, i: usize, j: usize) -> u32 {
        let cell = self.cells.get(i * (self.other.len() + 1) + j);
        cell.copied().unwrap_or(0)
    }

    /// Returns the length of the subsequence.
    #[must_use]
    pub fn length(&self) -> u32 {
        self.cell(self.one.len(), self.other.len())
    }

    /// Walks from the ends to the beginnings, and gives `found` each pair of equal bytes.
    fn walk(&self, mut found: impl FnMut(usize, usize)) {
        let (mut i, mut j) = (self.one.len(), self.other.len());
        while i > 0 && j > 0 {
            if self.one[i - 1] == self.other[j - 1] {
                (i, j) = (i - 1, j - 1);
                found(i, j);
            } else if self.cell(i - 1, j) > self.cell(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
    }

    /// Returns the subsequence.
    #[must_use]
    pub fn subsequence(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.walk(|i, _| bytes.push(self.one[i]));
        bytes.reverse();
        bytes
    }

    /// Returns the runs of common bytes, last first.
    ///
    /// # Panics
    /// Never: places are below 4 Gi.
    #[must_use]
    pub fn matches(&self) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let place = |at: usize| u32::try_from(at).expect("checked when the table was made");
        self.walk(|i, j| {
            let (one, other) = (place(i), place(j));
            match matches.last_mut() {
                Some(last) if (one + 1, other + 1) == (last.one, last.other) => {
                    *last = Match {
                        one,
                        other,
                        length: last.length + 1,
                    };
                }
                _ => matches.push(Match {
                    one,
                    other,
                    length: 1,
                }),
            }
        });
        matches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_is_found_and_where_it_lies() {
        let table = Table::of(b"ohmytext", b"mynewtext").unwrap();
        assert_eq!(
            (table.length(), table.subsequence()),
            (6, b"mytext".to_vec())
        );
        let (text, my) = (
            Match {
                one: 4,
                other: 5,
                length: 4,
            },
            Match {
                one: 2,
                other: 0,
                length: 2,
            },
        );
        assert_eq!(table.matches(), [text, my]);
    }

    #[test]
    fn nothing_in_common_is_nothing() {
        for (one, other) in [
            (&b""[..], &b""[..]),
            (b"a", b""),
            (b"", b"b"),
            (b"abc", b"xyz"),
        ] {
            let table = Table::of(one, other).unwrap();
            assert_eq!((table.length(), table.subsequence()), (0, Vec::new()));
            assert!(table.matches().is_empty());
        }
        let long = vec![b'x'; 3000];
        assert!(Table::of(&long, &long).is_none());
        assert!(Table::of(&long, b"").is_some());
    }
}
