//! An open table: finds versions of a key among the blocks that are in memory.

use std::rc::Rc;

use super::format::{FilterRefs, Footer, TableMeta};
use super::top::TopIndex;
use super::{Source, Stream};
use crate::lsm::block::{BlockEntry, BlockView, Older};
use crate::lsm::cache::{Block, Class, Recall};
use crate::lsm::{BlockRef, FileId, Malformed, Miss, filter};

/// A table whose tail is in memory.
#[derive(Debug)]
pub(crate) struct Table {
    file: FileId,
    meta: TableMeta,
    main: TopIndex,
    old: TopIndex,
    filter: FilterRefs,
    /// Where the blocks of the filter were found, and the index partitions of both streams.
    filter_recall: Recall,
    main_recall: Recall,
    old_recall: Recall,
}

/// A version that was found; it holds the block that it is in.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    block: Rc<Block>,
    index: usize,
}

impl Hit {
    /// Returns the version.
    pub(crate) fn entry(&self) -> BlockEntry<'_> {
        BlockView::of(self.block.bytes()).entry(self.index)
    }
}

/// What a table has of a key.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// No version that was asked for.
    Absent,
    /// This version.
    Hit(Hit),
}

impl Table {
    /// Opens a table. `meta` is from the manifest; `footer` are the [`super::FOOTER_BYTES`] bytes at
    /// [`Footer::offset`]; `tail` are those that the decoded [`Footer`] names, with or without
    /// padding.
    ///
    /// # Errors
    /// When footer or tail are not what was written.
    pub(crate) fn open(
        file: FileId,
        meta: TableMeta,
        footer: &[u8],
        tail: &[u8],
    ) -> Result<Self, Malformed> {
        let tail = Footer::decode(file, &meta, footer)?.tail(tail)?;
        let found = &tail.meta;
        let same = (found.number, found.keys, found.versions)
            == (meta.number, meta.keys, meta.versions)
            && (&found.first_key, &found.last_key) == (&meta.first_key, &meta.last_key);
        if !same || meta.number != file.number {
            return Err(Malformed(format!("{file}: tail is of another table")));
        }
        Ok(Self {
            file,
            meta,
            main: tail.main,
            old: tail.old,
            filter: tail.filter,
            filter_recall: Recall::default(),
            main_recall: Recall::default(),
            old_recall: Recall::default(),
        })
    }

    /// Returns the name of the file.
    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// Returns what the manifest keeps about the table.
    pub(crate) fn meta(&self) -> &TableMeta {
        &self.meta
    }

    /// Says whether the old stream has versions.
    #[inline]
    pub(crate) fn has_old(&self) -> bool {
        self.old.len() > 0
    }

    /// Returns the index of a stream.
    pub(super) fn top(&self, stream: Stream) -> &TopIndex {
        match stream {
            Stream::Main => &self.main,
            Stream::Old => &self.old,
        }
    }

    /// Returns where the filter is.
    pub(super) fn filter(&self) -> &FilterRefs {
        &self.filter
    }

    /// Returns a data block from memory: the one that entry `child` of an index partition refers to.
    #[inline]
    pub(super) fn load<S: Source>(
        &self,
        source: &S,
        index: &Block,
        child: usize,
    ) -> Result<Rc<Block>, Miss> {
        let block = BlockView::of(index.bytes()).child(child).block;
        let found = source.find_child(self.file, &block, (index, child));
        found.ok_or_else(|| self.miss(&block, Class::Data))
    }

    /// Returns an index partition from memory.
    #[inline]
    pub(super) fn load_partition<S: Source>(
        &self,
        source: &S,
        stream: Stream,
        partition: usize,
    ) -> Result<Rc<Block>, Miss> {
        let (top, recall) = match stream {
            Stream::Main => (&self.main, &self.main_recall),
            Stream::Old => (&self.old, &self.old_recall),
        };
        let block = top.block(partition);
        let found = source.find_known(self.file, block, (recall, partition));
        found.ok_or_else(|| self.miss(block, Class::Meta))
    }

    #[cold]
    fn miss(&self, block: &BlockRef, class: Class) -> Miss {
        Miss {
            file: self.file,
            block: *block,
            class,
        }
    }

    /// Finds the newest version of `key` that is not newer than `at`. `hash` is the key's
    /// [`filter::filter_hash`].
    ///
    /// # Errors
    /// When a block is not in memory.
    pub(crate) fn find<S: Source>(
        &self,
        source: &S,
        key: &[u8],
        hash: u64,
        at: u64,
    ) -> Result<Found, Miss> {
        if at < self.meta.min_timestamp || !self.meta.covers(key) {
            return Ok(Found::Absent);
        }
        if !self.may_contain(source, hash)? {
            return Ok(Found::Absent);
        }
        let Some(hit) = self.find_in(source, Stream::Main, key, u64::MAX)? else {
            return Ok(Found::Absent);
        };
        let entry = hit.entry();
        if entry.timestamp <= at {
            return Ok(Found::Hit(hit));
        }
        if entry.older == Older::Absent {
            return Ok(Found::Absent);
        }
        let hit = self.find_in(source, Stream::Old, key, at)?;
        Ok(hit.map_or(Found::Absent, Found::Hit))
    }

    /// Asks the filter.
    #[inline]
    fn may_contain<S: Source>(&self, source: &S, hash: u64) -> Result<bool, Miss> {
        let blocks = self.filter.len();
        if blocks == 0 {
            return Ok(true);
        }
        let number = filter::block_of(hash, blocks);
        let (block, recall) = (self.filter.block(number), &self.filter_recall);
        let found = source.find_known(self.file, &block, (recall, number as usize));
        let found = found.ok_or_else(|| self.miss(&block, Class::Meta))?;
        Ok(filter::may_contain(found.bytes(), hash))
    }

    /// Finds the newest version of `key` in a stream that is not newer than `at`.
    fn find_in<S: Source>(
        &self,
        source: &S,
        stream: Stream,
        key: &[u8],
        at: u64,
    ) -> Result<Option<Hit>, Miss> {
        let top = self.top(stream);
        let partition = top.seek(key, at);
        if partition == top.len() {
            return Ok(None);
        }
        let index = self.load_partition(source, stream, partition)?;
        let child = BlockView::of(index.bytes()).seek_version(key, at);
        let block = self.load(source, &index, child)?;
        let view = BlockView::of(block.bytes());
        let index = view.seek_version(key, at);
        if index == view.count() || !view.is_key(index, key) {
            return Ok(None);
        }
        Ok(Some(Hit { block, index }))
    }
}
