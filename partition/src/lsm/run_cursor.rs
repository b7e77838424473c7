//! A place in a run: table after table, in the order of keys, either way.
//!
//! It walks one of the two streams: the main one, which has the newest version of each key, or the
//! old one. A merge that wants all versions has a cursor for each.
//!
//! Invariant: a call that misses a block can be made again, and then goes on where it was.

use std::ops::Bound;
use std::rc::Rc;

use super::table::{Source, Stream, Table, TableCursor};
use super::version::Run;
use super::{Entry, Miss};

/// A place in a run.
#[derive(Debug)]
pub(crate) struct RunCursor {
    run: Rc<Run<Rc<Table>>>,
    stream: Stream,
    /// Tables before the place; going backwards, one more than those.
    table: usize,
    /// Absent at the ends, and while the next table is being entered.
    cursor: Option<TableCursor>,
}

impl RunCursor {
    /// Makes a cursor that is nowhere yet.
    pub(crate) fn new(run: &Rc<Run<Rc<Table>>>, stream: Stream) -> Self {
        Self {
            run: Rc::clone(run),
            stream,
            table: 0,
            cursor: None,
        }
    }

    /// Says whether there is an entry at the place.
    #[inline]
    pub(crate) fn is_valid(&self) -> bool {
        self.cursor.is_some()
    }

    /// Returns the table that the place is in.
    ///
    /// # Panics
    /// When there is no entry at the place.
    pub(crate) fn table(&self) -> &Rc<Table> {
        &self.run.tables[self.table]
    }

    /// Returns the cursor in the table.
    ///
    /// # Panics
    /// When there is no entry at the place.
    #[inline]
    pub(crate) fn inner(&self) -> &TableCursor {
        self.cursor
            .as_ref()
            .expect("there is an entry at the place")
    }

    /// Returns the key at the place.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.inner().key()
    }

    /// Returns the timestamp of the entry at the place.
    pub(crate) fn timestamp(&self) -> u64 {
        self.inner().timestamp()
    }

    /// Returns the entry at the place.
    #[inline]
    pub(crate) fn entry(&self) -> Entry<'_> {
        self.inner().version()
    }

    /// Goes to the first entry whose key is at or behind `from`; to the end if there is none.
    pub(crate) fn seek<S: Source>(&mut self, source: &S, from: Bound<&[u8]>) -> Result<(), Miss> {
        // Keys below have moved to a merged run, which tells of them.
        let run = Rc::clone(&self.run);
        let low = run.from.as_slice();
        let from = match from {
            Bound::Included(key) if key >= low => from,
            Bound::Excluded(key) if key >= low => from,
            _ => Bound::Included(low),
        };
        let key = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let tables = &run.tables;
        self.table = tables.partition_point(|table| table.meta().last_key.as_slice() < key);
        self.cursor = None;
        self.settle(source, from)
    }

    /// Goes to the next entry.
    #[inline]
    pub(crate) fn next<S: Source>(&mut self, source: &S) -> Result<(), Miss> {
        if let Some(cursor) = &mut self.cursor {
            cursor.next(source)?;
            if cursor.is_valid() {
                return Ok(());
            }
            self.cursor = None;
            self.table += 1;
        }
        self.settle(source, Bound::Unbounded)
    }

    /// Enters the table of the place at `from`, or the first one behind it that has an entry.
    fn settle<S: Source>(&mut self, source: &S, mut from: Bound<&[u8]>) -> Result<(), Miss> {
        while self.cursor.is_none() && self.table < self.run.tables.len() {
            let table = &self.run.tables[self.table];
            if self.stream == Stream::Main || table.has_old() {
                let mut cursor = TableCursor::new(Rc::clone(table), self.stream);
                cursor.seek(source, from)?;
                if cursor.is_valid() {
                    self.cursor = Some(cursor);
                    return Ok(());
                }
            }
            from = Bound::Unbounded;
            self.table += 1;
        }
        Ok(())
    }

    /// Goes to the last entry whose key is at or before `from`.
    pub(crate) fn seek_back<S: Source>(
        &mut self,
        source: &S,
        from: Bound<&[u8]>,
    ) -> Result<(), Miss> {
        let tables = &self.run.tables;
        let begins = |table: &Rc<Table>| match from {
            Bound::Included(key) => table.meta().first_key.as_slice() <= key,
            Bound::Excluded(key) => table.meta().first_key.as_slice() < key,
            Bound::Unbounded => true,
        };
        // The table that the key may be in is the last one that begins before it.
        self.table = tables.partition_point(begins);
        self.cursor = None;
        self.settle_back(source, from)
    }

    /// Goes to the entry before.
    pub(crate) fn previous<S: Source>(&mut self, source: &S) -> Result<(), Miss> {
        if let Some(cursor) = &mut self.cursor {
            cursor.previous(source)?;
            if cursor.is_valid() {
                return self.leave_moved();
            }
            self.cursor = None;
        }
        self.settle_back(source, Bound::Unbounded)
    }

    /// Enters the table before the place at `from`, or the last one before it that has an entry.
    /// While a table is entered, `table` is one more than its number.
    fn settle_back<S: Source>(&mut self, source: &S, mut from: Bound<&[u8]>) -> Result<(), Miss> {
        while self.cursor.is_none() && self.table > 0 {
            let table = &self.run.tables[self.table - 1];
            let mut cursor = TableCursor::new(Rc::clone(table), self.stream);
            cursor.seek_back(source, from)?;
            self.table -= 1;
            from = Bound::Unbounded;
            if cursor.is_valid() {
                self.cursor = Some(cursor);
                return self.leave_moved();
            }
        }
        Ok(())
    }

    /// Ends the walk where keys have moved to a merged run.
    fn leave_moved(&mut self) -> Result<(), Miss> {
        if self.key() < self.run.from.as_slice() {
            (self.cursor, self.table) = (None, 0);
        }
        Ok(())
    }
}
