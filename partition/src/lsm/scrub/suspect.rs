//! A look at all files of one partition at once, ahead of the search: another replica was sent one of them, and it was
//! not what the manifest says.
//!
//! Not the judgement of the search: a file of which only bytes are wrong that nobody reads is damaged here, for no
//! other replica would take it.

use std::rc::Rc;

use super::{CHUNK_BYTES, Failure, Partition, Reading, Scrub, Store, files, find};

impl Scrub {
    /// Reads the files that a partition has now; returns what is wrong with the first that is not what was written.
    pub fn suspect(
        &self,
        partition: &mut Partition,
    ) -> impl Future<Output = Option<String>> + use<> {
        let names = files(partition);
        let partitions = [partition];
        let found = names.into_iter().filter_map(|name| find(&partitions, name));
        let suspects: Vec<_> = found.collect();
        let store = Rc::clone(&self.store);
        async move {
            for (_, reading) in suspects {
                let wrong = reading.differs(&store).await;
                if wrong.is_some() {
                    return wrong;
                }
            }
            None
        }
    }
}

impl Reading {
    /// Reads the whole file; says what is wrong with it. One that a merge has removed meanwhile is right.
    async fn differs(mut self, store: &Rc<Store>) -> Option<String> {
        while self.offset < self.bytes {
            let bytes = (self.bytes - self.offset).min(CHUNK_BYTES as u64);
            match self.read_piece(store, bytes).await {
                Ok(()) => {}
                Err(Failure::Damaged(what)) => return Some(what),
                Err(Failure::Io(_)) => return None,
            }
        }
        let path = self.name.path(&store.options().dir);
        let is_right = self.hasher.digest128() == self.hash;
        (!is_right).then(|| format!("{} is not what was written", path.display()))
    }
}
