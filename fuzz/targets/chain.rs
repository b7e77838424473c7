//! Recovery of a log from files of any content: it ends with records that some batch held, in the
//! order of their positions, or with an error of one line; and a second recovery finds the same.
#![no_main]

use std::path::PathBuf;

use ashlar_fuzz::{Choices, Disk};
use ashlar_io::wal::format::{
    self, BLOCK_BYTES, FRAME_BYTES, HEADER_BYTES, Header, Kind, Position,
};
use ashlar_io::wal::{self, Durability, Options, SUFFIX};
use libfuzzer_sys::fuzz_target;

const SEGMENT_BYTES: usize = 8 * BLOCK_BYTES;
const LOG_ID: u64 = 7;

fn options() -> Options {
    Options {
        dir: PathBuf::from("/log"),
        log_id: LOG_ID,
        segment_bytes: SEGMENT_BYTES as u64,
        segments_spare: 1,
        inflight_max: 2,
        batch_bytes: 4 * BLOCK_BYTES,
        durability: Durability::Dsync,
    }
}

/// Returns a position near the one that belongs there: mostly that, sometimes beside it.
fn near(choices: &mut Choices<'_>, position: u64) -> u64 {
    match choices.byte() {
        0..=199 => position,
        200..=219 => position.saturating_sub(u64::from(choices.byte() % 16) * BLOCK_BYTES as u64),
        220..=239 => position + u64::from(choices.byte() % 16) * BLOCK_BYTES as u64,
        240..=249 => 0,
        _ => choices.number(),
    }
}

/// Makes the payload of a batch: frames, not all of them sound.
fn payload(choices: &mut Choices<'_>) -> (Vec<u8>, u32) {
    let (mut payload, mut frames) = (Vec::new(), 0);
    for _ in 0..choices.byte() % 4 {
        let kind = match choices.byte() % 4 {
            0 => Kind::Whole,
            1 => Kind::First,
            2 => Kind::Middle,
            _ => Kind::Last,
        };
        let repeat = if choices.byte() < 16 { 6000 } else { 1 };
        let body = choices
            .bytes(usize::from(choices.clone().byte() % 16))
            .repeat(repeat);
        let body = &body[..body.len().min(6000)];
        let length = body.len() as u32 + u32::from(choices.byte() == 255);
        let mut head = [0; FRAME_BYTES];
        format::encode_frame(kind, length, &mut head);
        payload.extend_from_slice(&head);
        payload.extend_from_slice(body);
        frames += 1;
    }
    (payload, frames)
}

/// The log so far.
struct Log {
    segments: Vec<Vec<u8>>,
    next: u64,
    previous: u64,
    generation: u32,
}

impl Log {
    /// Writes a batch where the next one belongs; its header is nearly true.
    fn write(&mut self, choices: &mut Choices<'_>) {
        let (payload, frames) = payload(choices);
        let bytes = format::batch_bytes(payload.len() as u32);
        let end = (self.next / SEGMENT_BYTES as u64 + 1) * SEGMENT_BYTES as u64;
        if self.next + bytes > end {
            self.next = end;
        }
        self.generation += u32::from(choices.byte() > 240);
        let header = Header {
            payload_crc: format::crc32c(&payload),
            length: payload.len() as u32 + u32::from(choices.byte() == 255),
            log_id: LOG_ID + u64::from(choices.byte() == 255),
            generation: self.generation,
            frames: frames + u32::from(choices.byte() == 255),
            position: Position(near(choices, self.next)),
            previous: Position(near(choices, self.previous)),
            durable: Position(near(choices, self.previous)),
            start: Position(near(choices, 0)),
            sealed_us: 0,
        };
        let mut batch = vec![0; HEADER_BYTES];
        header.encode(&mut batch);
        batch.extend_from_slice(&payload);
        let (segment, offset) = self.place();
        segment[offset..offset + batch.len()].copy_from_slice(&batch);
        (self.previous, self.next) = (self.next + bytes, self.next + bytes);
    }

    /// Returns the segment that the next batch goes to, and its offset there.
    fn place(&mut self) -> (&mut Vec<u8>, usize) {
        let (number, offset) = (
            self.next as usize / SEGMENT_BYTES,
            self.next as usize % SEGMENT_BYTES,
        );
        self.segments
            .resize(self.segments.len().max(number + 1), vec![0; SEGMENT_BYTES]);
        (&mut self.segments[number], offset)
    }

    /// Damages a segment: bytes, a block, its length.
    fn damage(&mut self, choices: &mut Choices<'_>) {
        let number = usize::from(choices.byte()) % self.segments.len();
        let segment = &mut self.segments[number];
        let at = usize::from(choices.short()) % SEGMENT_BYTES;
        let block = at / BLOCK_BYTES * BLOCK_BYTES;
        match choices.byte() % 6 {
            0 => segment.truncate(at),
            1 => segment.fill(0),
            2 if block < segment.len() => segment[block..].fill(0),
            3 if at < segment.len() => segment[at] ^= choices.byte(),
            4 => drop(self.segments.remove(number)),
            _ => {
                let copy = segment.clone();
                self.segments.push(copy);
            }
        }
        if self.segments.is_empty() {
            self.segments.push(vec![0; SEGMENT_BYTES]);
        }
    }
}

/// Records by position, and where the log ends; or the error.
type Outcome = Result<(Vec<(u64, Vec<u8>)>, u64, u64), String>;

fn recover(disk: &Disk) -> Outcome {
    let reactor = disk.reactor();
    disk.run(async move {
        let (options, mut records) = (options(), Vec::new());
        let recovered = wal::recover(&reactor, &options, |position, record| {
            records.push((position.0, record.to_vec()));
            Ok(())
        });
        match recovered.await {
            Ok(recovered) => Ok((records, recovered.start.0, recovered.end.0)),
            Err(error) => Err(error.to_string()),
        }
    })
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(&data[..data.len().min(2000)]);
    let first = u64::from(choices.byte() % 4) * SEGMENT_BYTES as u64;
    let mut log = Log {
        segments: vec![vec![0; SEGMENT_BYTES]],
        next: first,
        previous: first,
        generation: 1,
    };
    let damages = choices.byte() % 4;
    for _ in 0..choices.byte() % 24 {
        log.write(&mut choices);
    }
    for _ in 0..damages {
        log.damage(&mut choices);
    }
    let disk = Disk::default();
    disk.make_dir("/log");
    for (name, segment) in log.segments.iter().enumerate() {
        disk.put(format!("/log/{name:08}{SUFFIX}"), segment.clone());
    }
    let found = recover(&disk);
    match &found {
        Ok((records, start, end)) => {
            assert!(records.is_sorted_by_key(|(position, _)| *position));
            assert!(start <= end, "the log starts at {start} and ends at {end}");
        }
        Err(error) => assert!(!error.contains('\n'), "{error}"),
    }
    assert_eq!(recover(&disk), found, "a recovery changes nothing");
});
