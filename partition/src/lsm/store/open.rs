//! Opening: files for reading, and tables.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::rc::Rc;

use ashlar_io::{File, OpenOptions};

use super::{FileName, Purpose, ReadError, Store};
use crate::lsm::FileId;
use crate::lsm::table::{FOOTER_BYTES, Footer, Table, TableMeta};

/// Files looked at in the search for one to close; those being read are passed over.
const STEPS_MAX: usize = 8;

/// Files open for reading.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: BTreeMap<FileName, Rc<File>>,
    /// Where the search for a file to close goes on.
    hand: Option<FileName>,
}

impl OpenFiles {
    /// Forgets a file; it is closed when its reads are done.
    pub(super) fn remove(&mut self, name: FileName) {
        self.files.remove(&name);
    }

    /// Closes a file that is not being read when more than `files_max` are open, each in its turn.
    fn close_idle(&mut self, files_max: usize) {
        if self.files.len() <= files_max {
            return;
        }
        for _ in 0..STEPS_MAX {
            let behind = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
            let next = self.files.range((behind, Bound::Unbounded)).next();
            let Some((&name, file)) = next.or_else(|| self.files.first_key_value()) else {
                return;
            };
            self.hand = Some(name);
            if Rc::strong_count(file) == 1 {
                self.files.remove(&name);
                return;
            }
        }
    }
}

impl Store {
    /// Returns a file open for reading.
    pub(super) async fn open(&self, name: FileName) -> io::Result<Rc<File>> {
        if let Some(file) = self.files.borrow().files.get(&name) {
            return Ok(Rc::clone(file));
        }
        let options = OpenOptions {
            direct: true,
            ..OpenOptions::default()
        };
        let path = name.path(&self.options.dir);
        let opened = File::open(&self.reactor, &path, options).await?;
        let mut files = self.files.borrow_mut();
        // Another may have opened it meanwhile; one of the two is closed again.
        let file = files.files.entry(name).or_insert_with(|| Rc::new(opened));
        let file = Rc::clone(file);
        files.close_idle(self.options.open_files_max);
        Ok(file)
    }

    /// Reads the end of a table and opens it. `meta` is from the manifest.
    ///
    /// # Errors
    /// The file cannot be read, or its end is not what was written.
    pub(crate) async fn open_table(
        &self,
        partition: u32,
        meta: TableMeta,
    ) -> Result<Rc<Table>, ReadError> {
        let number = meta.number;
        let file = FileId { partition, number };
        let name = FileName::table(file);
        let at = Footer::offset(&meta);
        let footer = self.read(name, at, FOOTER_BYTES, Purpose::Open).await?;
        let decoded = Footer::decode(file, &meta, &footer);
        let decoded = decoded.map_err(|malformed| self.damage(name, at, malformed))?;
        let (at, bytes) = (decoded.tail_offset(), decoded.tail_read_bytes());
        let bytes = usize::try_from(bytes).expect("a tail fits in memory");
        let tail = self.read(name, at, bytes, Purpose::Open).await?;
        let opened = Table::open(file, meta, &footer, &tail);
        let table = opened.map_err(|malformed| self.damage(name, at, malformed))?;
        Ok(Rc::new(table))
    }
}
