//! Headers, payloads and frames of the log: any bytes are read or refused, and what was sealed is
//! read as it was sealed.
#![no_main]

use ashlar_fuzz::Choices;
use ashlar_io::wal::format::{self, FRAME_BYTES, Frames, HEADER_BYTES, Header, Position};
use libfuzzer_sys::fuzz_target;

/// Reads whatever is there.
fn read(bytes: &[u8]) {
    let Some(header) = Header::decode(bytes) else {
        return;
    };
    assert!(header.batch_bytes() >= HEADER_BYTES as u64);
    let payload = header.payload(bytes).unwrap_or_default();
    let frames: usize = Frames(payload)
        .map(|(_, body)| body.len() + FRAME_BYTES)
        .sum();
    assert!(frames <= payload.len());
}

/// Seals a payload under a header of the fuzzer's choice.
fn seal(choices: &mut Choices<'_>) -> (Header, Vec<u8>) {
    let mut number = || choices.number() >> (choices.byte() % 64);
    let (log_id, position, previous) = (number(), number(), number());
    let (durable, start, sealed_us) = (number(), number(), number());
    let (generation, frames) = (choices.short(), choices.byte());
    let payload = choices.0;
    let header = Header {
        payload_crc: format::crc32c(payload),
        length: payload.len() as u32,
        log_id,
        generation: u32::from(generation),
        frames: u32::from(frames),
        position: Position(position),
        previous: Position(previous),
        durable: Position(durable),
        start: Position(start),
        sealed_us,
    };
    let mut batch = vec![0; HEADER_BYTES];
    header.encode(&mut batch);
    batch.extend_from_slice(payload);
    (header, batch)
}

fuzz_target!(|data: &[u8]| {
    read(data);
    let mut choices = Choices(data);
    let (flip, keep) = (usize::from(choices.short()), usize::from(choices.short()));
    let (header, mut batch) = seal(&mut choices);
    assert_eq!(Header::decode(&batch), Some(header));
    assert_eq!(header.payload(&batch), Some(&batch[HEADER_BYTES..]));
    read(&batch);
    let whole = batch.clone();
    batch.truncate(keep.max(HEADER_BYTES));
    let bits = batch.len() * 8;
    batch[flip % bits / 8] ^= 1 << (flip % 8);
    let seen = Header::decode(&batch).filter(|header| header.payload(&batch).is_some());
    assert!(seen.is_none() || batch == whole, "damage is not seen");
    read(&batch);
});
