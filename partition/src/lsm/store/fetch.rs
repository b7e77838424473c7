//! Blocks and values into memory: from the asker to the one read that serves all who ask.

use std::rc::Rc;

use super::stage::CHUNK_BYTES;
use super::{FileName, Flight, Purpose, ReadError, Store};
use crate::lsm::cache::{Block, Class, Key, Origin};
use crate::lsm::table::decode_block;
use crate::lsm::{BlockRef, FileId, Malformed, Miss, SECTOR_BYTES, ValueRef, values};

/// Largest value that the cache keeps, in bytes; larger ones would push out too much for one key.
const CACHED_VALUE_BYTES_MAX: u32 = 16 << 10;

impl Store {
    /// Returns a block if it is in memory.
    #[inline]
    #[cfg(test)]
    pub(crate) fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>> {
        self.cache.borrow().find(file, block.sector)
    }

    /// Brings a block into memory and returns it. Hold it until the question was asked again: it
    /// cannot be evicted meanwhile.
    ///
    /// # Errors
    /// The file cannot be read, or what is there is not the block.
    pub(crate) async fn fetch(
        self: &Rc<Self>,
        miss: Miss,
        origin: Origin,
    ) -> Result<Rc<Block>, ReadError> {
        let key = Key::block(miss.file, miss.block.sector);
        if let Some(block) = self.cache.borrow().peek(key) {
            return Ok(block);
        }
        self.board_block(key, miss, origin).wait().await.clone()
    }

    /// Reads a block past the cache.
    ///
    /// # Errors
    /// The file cannot be read, or what is there is not the block.
    pub(crate) async fn read_block(
        &self,
        miss: Miss,
        purpose: Purpose,
    ) -> Result<Rc<Block>, ReadError> {
        let (name, block) = (FileName::table(miss.file), &miss.block);
        let bytes = u64::from(block.stored_bytes).next_multiple_of(SECTOR_BYTES);
        let bytes = usize::try_from(bytes).expect("u32 fits in memory");
        let stored = self.read(name, block.offset(), bytes, purpose).await?;
        self.decode(miss.file, block, &stored[..block.stored_bytes as usize])
    }

    /// Makes a block of the stored bytes.
    pub(super) fn decode(
        &self,
        file: FileId,
        block: &BlockRef,
        stored: &[u8],
    ) -> Result<Rc<Block>, ReadError> {
        let mut frame = self.frames.take(block.bytes as usize);
        match decode_block(file, block, stored, frame.bytes_mut()) {
            Ok(()) => Ok(Block::new(frame)),
            Err(malformed) => Err(self.damage(FileName::table(file), block.offset(), malformed)),
        }
    }

    fn board_block(self: &Rc<Self>, key: Key, miss: Miss, origin: Origin) -> Rc<Flight> {
        let purpose = match origin {
            Origin::Point => Purpose::Point,
            Origin::Scan => Purpose::Scan,
        };
        self.board(key, |store| async move {
            let block = store.read_block(miss, purpose).await?;
            let mut cache = store.cache.borrow_mut();
            cache.insert_key(key, miss.class, origin, Rc::clone(&block));
            Ok(block)
        })
    }

    /// Returns the flight that brings `key`, and starts it if there is none.
    fn board<F>(self: &Rc<Self>, key: Key, load: impl FnOnce(Rc<Self>) -> F) -> Rc<Flight>
    where
        F: Future<Output = Result<Rc<Block>, ReadError>> + 'static,
    {
        if let Some(flight) = self.flights.borrow().get(&key) {
            self.count(|counters| counters.shared += 1);
            return Rc::clone(flight);
        }
        let flight: Rc<Flight> = Rc::default();
        self.flights.borrow_mut().insert(key, Rc::clone(&flight));
        let (loading, store) = (load(Rc::clone(self)), Rc::clone(self));
        let landing = Rc::clone(&flight);
        self.reactor.spawn(async move {
            let loaded = loading.await;
            store.flights.borrow_mut().remove(&key);
            landing.keep(loaded);
        });
        flight
    }

    /// Returns a separated value if it is in memory.
    pub(crate) fn find_value(&self, partition: u32, value: &ValueRef) -> Option<Rc<Block>> {
        let key = Key::value(partition, value)?;
        if value.bytes <= CACHED_VALUE_BYTES_MAX {
            return self.cache.borrow().find_key(key);
        }
        self.large.borrow().get(&key)?.upgrade()
    }

    /// Brings a separated value into memory and returns it. A value above 16 KiB can be found as
    /// long as somebody holds it.
    ///
    /// # Errors
    /// The file cannot be read, or what is there is not the value.
    pub(crate) async fn fetch_value(
        self: &Rc<Self>,
        partition: u32,
        value: ValueRef,
    ) -> Result<Rc<Block>, ReadError> {
        let name = FileName::values(partition, value.number);
        let Some(key) = Key::value(partition, &value) else {
            let what = "no value can lie here: it starts at no multiple of 8, or above 32 GiB";
            return Err(self.damage(name, value.offset, Malformed(what.to_owned())));
        };
        if let Some(block) = self.find_value(partition, &value) {
            return Ok(block);
        }
        let flight = self.board(key, |store| async move {
            let block = store.read_value(name, value).await?;
            store.keep_value(key, &block);
            Ok(block)
        });
        flight.wait().await.clone()
    }

    fn keep_value(&self, key: Key, block: &Rc<Block>) {
        if block.bytes().len() <= CACHED_VALUE_BYTES_MAX as usize {
            let mut cache = self.cache.borrow_mut();
            cache.insert_key(key, Class::Data, Origin::Point, Rc::clone(block));
            return;
        }
        let mut large = self.large.borrow_mut();
        large.retain(|_, block| block.strong_count() > 0);
        large.insert(key, Rc::downgrade(block));
        drop(large);
        self.cache.borrow_mut().shrink();
    }

    /// Reads a separated value past the cache.
    ///
    /// # Errors
    /// The file cannot be read, or what is there is not the value.
    pub(crate) async fn read_value(
        &self,
        name: FileName,
        value: ValueRef,
    ) -> Result<Rc<Block>, ReadError> {
        let range = values::read_range(&value);
        let bytes = usize::try_from(range.bytes).expect("u32 fits in memory");
        let mut staged = self.read(name, range.offset, bytes, Purpose::Value).await?;
        let (read, len) = (&staged[range.value.clone()], range.value.len());
        if !values::check(&value, read) {
            let what = format!("the {len} bytes of a value do not match its checksum");
            return Err(self.damage(name, value.offset, Malformed(what)));
        }
        let frame = if len <= CHUNK_BYTES {
            self.frames.hold(Box::from(read))
        } else {
            self.frames.hold_buf(staged.lend(), range.value.start, len)
        };
        Ok(Block::new(frame))
    }
}
