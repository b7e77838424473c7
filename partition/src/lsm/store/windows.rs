//! The windows of a merge, one for each table that it is reading.
//!
//! A merge walks through the tables of each run in order, so the window that was not used for
//! longest is on a table that is done with, as long as there are more windows than places.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::{Block, Purpose, ReadError, Store, Window};
use crate::lsm::table::Source;
use crate::lsm::{BlockRef, FileId, Miss};

/// Windows on tables, each opened when its table is first read.
#[derive(Debug)]
pub(crate) struct Windows {
    store: Rc<Store>,
    purpose: Purpose,
    windows_max: usize,
    windows: RefCell<Vec<Open>>,
    uses: Cell<u64>,
}

#[derive(Debug)]
struct Open {
    file: FileId,
    window: Rc<Window>,
    used: u64,
}

impl Windows {
    /// Returns no windows yet, and at most `windows_max`: one for each place that is read at a time.
    pub(crate) fn new(store: &Rc<Store>, purpose: Purpose, windows_max: usize) -> Self {
        assert!(windows_max > 0, "one place is read at least");
        Self {
            store: Rc::clone(store),
            purpose,
            windows_max,
            windows: RefCell::default(),
            uses: Cell::new(0),
        }
    }

    /// Waits until a block can be found.
    ///
    /// # Errors
    /// The file cannot be read, or what is there is not the block.
    pub(crate) async fn load(&self, miss: Miss) -> Result<(), ReadError> {
        self.window(miss.file).load(miss).await
    }

    /// Returns the window on a file. When there are too many, the one that was not used for longest
    /// is closed.
    fn window(&self, file: FileId) -> Rc<Window> {
        self.uses.set(self.uses.get() + 1);
        let mut windows = self.windows.borrow_mut();
        if let Some(open) = windows.iter_mut().find(|open| open.file == file) {
            open.used = self.uses.get();
            return Rc::clone(&open.window);
        }
        if windows.len() >= self.windows_max {
            let oldest = (0..windows.len()).min_by_key(|at| windows[*at].used);
            windows.swap_remove(oldest.expect("there are windows"));
        }
        let window = Rc::new(Window::new(&self.store, file, self.purpose));
        windows.push(Open {
            file,
            window: Rc::clone(&window),
            used: self.uses.get(),
        });
        window
    }
}

impl Source for Windows {
    fn find(&self, file: FileId, block: &BlockRef) -> Option<Rc<Block>> {
        self.uses.set(self.uses.get() + 1);
        let mut windows = self.windows.borrow_mut();
        let open = windows.iter_mut().find(|open| open.file == file)?;
        open.used = self.uses.get();
        open.window.find(file, block)
    }
}
