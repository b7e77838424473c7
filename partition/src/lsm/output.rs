//! What a flush or a merge writes: table after table, and a value file beside them.
//!
//! Files are synced before they are part of an edit, their directory too. A file of an output that is
//! dropped unfinished is removed.

use std::rc::Rc;

use super::edit::{AddTable, Edit};
use super::job::{Context, Failure};
use super::retain::Depth;
use super::store::{FileKind, FileName, FileWriter};
use super::table::{Compression, Sealing, Table, TableOptions, TableWriter};
use super::values::ValueWriter;
use super::{Entry, FileId, ValueRef};

/// Size of a data block on upper runs, in bytes.
const UPPER_BLOCK_BYTES: u32 = 4 << 10;
/// Size of a data block on the bottom run before it is compressed, in bytes.
const BOTTOM_BLOCK_BYTES: u32 = 16 << 10;
/// Bits of the filter per key. A reader that asks for a key which is not there asks every run, so
/// the filters of the small upper runs must let hardly any through.
const UPPER_FILTER_BITS: u8 = 16;
const BOTTOM_FILTER_BITS: u8 = 12;
/// Keys put into a filter at once: about 100 microseconds.
const SEALED_KEYS: usize = 16 << 10;

/// Tables being written for a flush or a merge.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    context: &'a Context,
    options: TableOptions,
    table: Option<(TableWriter, FileWriter)>,
    values: Option<(ValueWriter, FileWriter)>,
    edit: Edit,
    opened: Vec<Rc<Table>>,
}

impl<'a> Output<'a> {
    pub(crate) fn new(context: &'a Context, level: u8, depth: Depth) -> Self {
        let (block_bytes, compression, filter_bits) = match depth {
            Depth::Upper => (UPPER_BLOCK_BYTES, Compression::Off, UPPER_FILTER_BITS),
            Depth::Bottom => (BOTTOM_BLOCK_BYTES, Compression::Lz4, BOTTOM_FILTER_BITS),
        };
        Self {
            context,
            options: TableOptions {
                block_bytes,
                compression,
                filter_bits,
                level,
                cleaned_to: context.low_water,
            },
            table: None,
            values: None,
            edit: Edit::default(),
            opened: Vec::new(),
        }
    }

    /// Says whether the table should end before the next key.
    pub(crate) fn is_table_full(&self) -> bool {
        let limit = self.context.layout.table_bytes;
        let is_full = |(table, _): &(TableWriter, _)| table.estimated_bytes() >= limit;
        self.table.as_ref().is_some_and(is_full)
    }

    /// Says whether a table has begun and not ended.
    pub(crate) fn has_table(&self) -> bool {
        self.table.is_some()
    }

    /// Takes the next entry; [`Self::write`] is to be called when something [is due](Self::is_due).
    #[inline]
    pub(crate) fn push(&mut self, entry: &Entry<'_>) {
        if self.table.is_none() {
            self.begin_table();
        }
        let (table, _) = self.table.as_mut().expect("made above");
        table.push(entry);
    }

    #[cold]
    fn begin_table(&mut self) {
        let file = self.context.new_file();
        let created = self.context.store.create(FileKind::Table, file);
        self.table = Some((TableWriter::new(file, self.options), created));
    }

    /// Says whether something has become a whole chunk.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.table.as_ref().is_some_and(|(table, _)| table.is_due())
    }

    /// Writes what has become a whole chunk.
    pub(crate) async fn write(&mut self) -> Result<(), Failure> {
        let Some((table, file)) = &mut self.table else {
            return Ok(());
        };
        while let Some(chunk) = table.take_output() {
            file.write(chunk.offset, chunk.bytes).await?;
        }
        Ok(())
    }

    /// Puts a value in the value file; returns what its entry says instead.
    pub(crate) async fn separate(&mut self, value: &[u8]) -> Result<ValueRef, Failure> {
        if self.values.is_none() {
            let file = self.context.new_file();
            let created = self.context.store.create(FileKind::Values, file);
            self.values = Some((ValueWriter::new(file), created));
        }
        let (values, file) = self.values.as_mut().expect("made above");
        let value = values.push(value);
        while let Some(chunk) = values.take_output() {
            file.write(chunk.offset, chunk.bytes).await?;
        }
        Ok(value)
    }

    /// Ends the table, if there is one.
    pub(crate) async fn end_table(&mut self) -> Result<(), Failure> {
        let Some((mut table, mut file)) = self.table.take() else {
            return Ok(());
        };
        let store = &self.context.store;
        while table.seal(SEALED_KEYS) == Sealing::Unfinished {
            store.slice().await;
        }
        let (mut rest, meta) = table.finish();
        while let Some(chunk) = rest.take_rest() {
            file.write(chunk.offset, chunk.bytes).await?;
        }
        file.finish().await?;
        // Whoever makes the edit says which run it joins.
        let added = AddTable {
            run: 0,
            meta: meta.clone(),
        };
        self.edit.add_tables.push(added);
        let opened = store.open_table(self.context.partition, meta).await?;
        self.opened.push(opened);
        Ok(())
    }

    /// Ends table and value file; returns an edit that adds them.
    pub(crate) async fn finish(&mut self) -> Result<(Edit, Vec<Rc<Table>>), Failure> {
        self.end_table().await?;
        if let Some((values, mut file)) = self.values.take() {
            let (mut rest, meta) = values.finish();
            while let Some(chunk) = rest.take_rest() {
                file.write(chunk.offset, chunk.bytes).await?;
            }
            file.finish().await?;
            self.edit.add_values.push(meta);
        }
        self.edit.low_water = self.context.low_water;
        Ok((
            std::mem::take(&mut self.edit),
            std::mem::take(&mut self.opened),
        ))
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        // Of an output that failed, finished tables are of no use either: the next attempt writes
        // all of them anew, and needs their room.
        for added in &self.edit.add_tables {
            let (partition, number) = (self.context.partition, added.meta.number);
            let file = FileId { partition, number };
            self.context.store.remove_later(FileName::table(file));
        }
    }
}
