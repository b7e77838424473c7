//! Nodes of the tree, of one kind, by number.
//!
//! They lie in pages, so that growing moves none; a removed node is used again before a page is
//! added. What a node means, and whether a number is in use, is the tree's knowledge.

/// Nodes of one page.
const PAGE_NODES: u32 = 32;

/// Nodes of one kind.
pub(super) struct Pool<T> {
    pages: Vec<Box<[T]>>,
    free: Vec<u32>,
    live: u32,
}

impl<T> Pool<T> {
    /// Returns a pool without nodes.
    pub(super) const fn new() -> Self {
        Self {
            pages: Vec::new(),
            free: Vec::new(),
            live: 0,
        }
    }

    /// Returns the number of nodes in use.
    #[cfg(test)]
    pub(super) const fn live(&self) -> u32 {
        self.live
    }

    /// Returns the bytes of nodes in use.
    pub(super) fn used_bytes(&self) -> u64 {
        u64::from(self.live) * size_of::<T>() as u64
    }

    /// Returns the bytes taken from the system.
    pub(super) fn held_bytes(&self) -> u64 {
        let page_bytes = PAGE_NODES as usize * size_of::<T>();
        (self.pages.len() * page_bytes + self.free.capacity() * size_of::<u32>()) as u64
    }

    /// Returns a node in use.
    #[inline]
    pub(super) fn node(&self, number: u32) -> &T {
        &self.pages[(number / PAGE_NODES) as usize][(number % PAGE_NODES) as usize]
    }

    /// Returns a node in use, for writing.
    #[inline]
    pub(super) fn node_mut(&mut self, number: u32) -> &mut T {
        &mut self.pages[(number / PAGE_NODES) as usize][(number % PAGE_NODES) as usize]
    }

    /// Returns the number of an unused node, made new.
    pub(super) fn add(&mut self, new: impl Fn() -> T) -> u32 {
        self.live += 1;
        if let Some(number) = self.free.pop() {
            *self.node_mut(number) = new();
            return number;
        }
        let pages = u32::try_from(self.pages.len()).expect("nodes are fewer than keys");
        let first = pages * PAGE_NODES;
        self.pages.push((0..PAGE_NODES).map(|_| new()).collect());
        self.free.extend((first + 1..first + PAGE_NODES).rev());
        first
    }

    /// Takes back a node; its content stays until it is used again.
    pub(super) fn remove(&mut self, number: u32) {
        self.live -= 1;
        self.free.push(number);
    }
}
