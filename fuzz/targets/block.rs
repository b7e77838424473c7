//! Blocks and tails of tables behind their checksums: any bytes are refused or can be read to the end.
#![no_main]

use ashlar_fuzz::Choices;
use ashlar_partition::lsm::fuzzing::{read_block, read_tail};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let (kind, timestamp) = (choices.byte(), choices.number());
    let key = choices.bytes(usize::from(kind % 16));
    let stored = choices.0;
    match kind >> 6 {
        0 => read_tail(stored, key, timestamp),
        // As stored: a block that is not packed has the size that it is stored in.
        1 | 2 => read_block(stored, stored.len() as u32, key, timestamp),
        _ => read_block(stored, u32::from(choices.short()), key, timestamp),
    }
});
