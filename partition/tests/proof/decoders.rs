//! Entries that something has damaged: refused, or taken for another well-formed entry; never a panic.
