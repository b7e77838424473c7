//! Logs made by hand, whole and damaged in every way.

use ashlar_consensus::{Index, PartitionId, Term, Timestamp};
use ashlar_io::rng::Rng;
use ashlar_io::wal::Position;
use ashlar_io::wal::format::{self, FRAME_BYTES, HEADER_BYTES, Header, Kind, crc32c};
use ashlar_partition::command::{Command, ENTRY_BYTES, EntryHeader};

use super::*;

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

const SEGMENT_BYTES: u64 = 16 << 10;

/// Writes batches one after another, as the log does.
struct Maker {
    dir: tempfile::TempDir,
    files: Vec<Vec<u8>>,
    next: u64,
    previous: u64,
    durable: u64,
    generation: u32,
}

impl Maker {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            dir,
            files: Vec::new(),
            next: 0,
            previous: 0,
            durable: 0,
            generation: 1,
        }
    }

    /// Appends a batch of one whole record; all before it counts as durable.
    fn batch(&mut self, record: &[u8]) -> &mut Self {
        self.frames(&[(Kind::Whole, record)])
    }

    fn frames(&mut self, frames: &[(Kind, &[u8])]) -> &mut Self {
        let mut payload = Vec::new();
        for (kind, body) in frames {
            let at = payload.len();
            payload.resize(at + FRAME_BYTES, 0);
            format::encode_frame(
                *kind,
                u32::try_from(body.len()).unwrap(),
                &mut payload[at..],
            );
            payload.extend_from_slice(body);
        }
        let length = u32::try_from(payload.len()).unwrap();
        let bytes = format::batch_bytes(length);
        if self.next % SEGMENT_BYTES + bytes > SEGMENT_BYTES {
            self.next = self.next.next_multiple_of(SEGMENT_BYTES);
        }
        let header = Header {
            payload_crc: crc32c(&payload),
            length,
            log_id: 9,
            generation: self.generation,
            frames: u32::try_from(frames.len()).unwrap(),
            position: Position(self.next),
            previous: Position(self.previous),
            durable: Position(self.durable),
            start: Position(0),
            sealed_us: 5,
        };
        let (number, offset) = (self.next / SEGMENT_BYTES, self.next % SEGMENT_BYTES);
        self.files.resize(
            self.files.len().max(index(number) + 1),
            vec![0; index(SEGMENT_BYTES)],
        );
        let out = &mut self.files[index(number)][index(offset)..];
        out[..index(bytes)].fill(0);
        header.encode(out);
        out[HEADER_BYTES..HEADER_BYTES + payload.len()].copy_from_slice(&payload);
        self.next += bytes;
        (self.previous, self.durable) = (self.next, self.next);
        self
    }

    fn inspect(&self, records: bool) -> (String, Result<(), String>) {
        for (number, bytes) in self.files.iter().enumerate() {
            std::fs::write(self.dir.path().join(format!("{number:08}.wal")), bytes).unwrap();
        }
        inspect_path(self.dir.path(), records)
    }
}

fn inspect_path(path: &Path, records: bool) -> (String, Result<(), String>) {
    let mut out = Vec::new();
    let args = Args {
        path: path.to_owned(),
        records,
        limit: None,
    };
    let result = inspect(&args, &mut out).map_err(|stopped| match stopped {
        Stopped::Because(why) => why,
        Stopped::Output(error) => panic!("{error}"),
    });
    (String::from_utf8(out).unwrap(), result)
}

fn entry() -> Vec<u8> {
    let mut entry = vec![0; ENTRY_BYTES];
    Command::Put {
        is_root: false,
        key: b"\x00k\n1",
        expire_at_ms: Some(7),
        value: b"value",
    }
    .encode(&mut entry);
    Command::Delete { key: b"\x03gone" }.encode(&mut entry);
    EntryHeader {
        partition: PartitionId(2),
        term: Term(1),
        index: Index(33),
        timestamp: Timestamp(100),
        commands: 2,
        ..EntryHeader::default()
    }
    .encode(&mut entry);
    entry
}

/// Five batches in two segments: offsets 0, 4096 (8 KiB), 12288; then 0, 4096. The last one is not known durable.
fn five() -> Maker {
    let mut maker = Maker::new();
    maker
        .batch(&entry())
        .batch(&[7; 5000])
        .batch(b"c")
        .batch(b"d")
        .batch(b"e");
    maker
}

#[test]
fn a_whole_log_is_clean() {
    let (text, result) = five().inspect(false);
    assert_eq!(result, Ok(()));
    assert!(
        text.contains(
            "00000000.wal: number 0, 3 batches, 3 frames, generations 1..1, positions 0..16384"
        ),
        "{text}"
    );
    assert!(text.contains("at offset 8192: no header: zeros"), "{text}");
    assert!(
        text.contains("log: start 0, end 24576, 5 batches, durable mark 20480, 0 whole headers"),
        "{text}"
    );
    assert!(text.contains("end: clean"), "{text}");
}

#[test]
fn records_show_entries_and_put_parts_together() {
    let mut maker = Maker::new();
    let record = entry();
    maker
        .batch(&record)
        .frames(&[(Kind::First, &record[..50])])
        .frames(&[(Kind::Last, &record[50..])]);
    maker.frames(&[(Kind::Last, b"rest")]);
    let (text, result) = maker.inspect(true);
    assert_eq!(result, Ok(()));
    assert_eq!(
        text.matches("entry: partition 2, term 1, index 33, timestamp 100, 2 commands")
            .count(),
        2,
        "{text}"
    );
    assert!(
        text.contains("100: put 0 \"k\\n1\", 5 bytes, expires at 7 ms"),
        "{text}"
    );
    assert!(text.contains("101: delete 3 \"gone\""), "{text}");
    assert!(text.contains("frame 80: whole"), "{text}");
    assert!(text.contains("begins before the log's start"), "{text}");
}

#[test]
fn damage_below_a_durable_mark_is_an_error_and_a_torn_tail_is_not() {
    // Byte to flip, what is said, and whether it fails.
    let cases = [
        ((0, 4096 + 200), "bad payload checksum", true),
        ((0, 4096 + 20), "bad header checksum", true),
        ((0, 4096), "no header: bytes of something else", true),
        ((0, 30), "no header", true),
        ((1, 88), "bad payload checksum", true),
        ((1, 4096 + 85), "bad payload checksum", false),
        ((1, 4096 + 30), "bad header checksum", false),
    ];
    for ((file, at), flaw, fails) in cases {
        let mut maker = five();
        maker.files[file][at] ^= 4;
        let (text, result) = maker.inspect(false);
        assert_eq!(result.is_err(), fails, "byte {at} of {file}: {text}");
        match result {
            Err(why) if at != 30 => {
                assert!(why.contains(flaw) && why.contains("is damaged"), "{why}")
            }
            Err(why) => assert!(why.contains("is damaged"), "{why}"),
            Ok(()) => assert!(text.contains(flaw) && text.contains("torn tail"), "{text}"),
        }
    }
}

#[test]
fn a_missing_segment_is_damage_and_a_lone_segment_is_looked_at_by_itself() {
    let maker = five();
    maker.inspect(false).1.unwrap();
    let (first, second) = (
        maker.dir.path().join("00000000.wal"),
        maker.dir.path().join("00000001.wal"),
    );
    let (text, result) = inspect_path(&second, false);
    assert_eq!(result, Ok(()), "{text}");
    assert!(text.contains("start 16384, end 24576, 2 batches"), "{text}");
    std::fs::remove_file(&first).unwrap();
    let (_, result) = inspect_path(maker.dir.path(), false);
    assert!(result.unwrap_err().contains("no segment begins"));
}

#[test]
fn what_a_cut_left_behind_is_stale_and_harmless() {
    let mut maker = five();
    // A recovery that cut the log at 20480 went on there in generation 2; the block behind is of the first life.
    (maker.next, maker.previous, maker.durable, maker.generation) = (20_480, 20_480, 20_480, 2);
    let old = maker.files[1][4096..8192].to_vec();
    maker.batch(b"new");
    maker.files[1][8192..12_288].copy_from_slice(&old);
    let (text, result) = maker.inspect(false);
    assert_eq!(result, Ok(()));
    assert!(text.contains("generations 1..2"), "{text}");
    assert!(
        text.contains("a batch of an earlier use of the file, position 20480"),
        "{text}"
    );
}

#[test]
fn a_cut_file_has_the_wrong_size_and_an_empty_one_no_header() {
    let mut maker = five();
    maker.files[1].truncate(5000);
    assert!(maker.inspect(false).1.is_err());
    let empty = tempfile::tempdir().unwrap();
    assert!(
        inspect_path(empty.path(), false)
            .1
            .unwrap_err()
            .contains("holds no log")
    );
    std::fs::write(empty.path().join("00000000.wal"), b"").unwrap();
    assert_eq!(inspect_path(empty.path(), true).1, Ok(()));
    std::fs::write(empty.path().join("00000000.wal"), vec![0; 8192]).unwrap();
    assert_eq!(inspect_path(empty.path(), true).1, Ok(()));
}

#[test]
fn no_flipped_bits_make_it_panic_and_none_below_the_mark_stay_unseen() {
    let mut rng = Rng::new(3);
    for round in 0..600 {
        let mut maker = five();
        let (file, at) = (rng.index(2), rng.index(12 << 10));
        maker.files[file][at] ^= 1 << rng.below(8);
        let covered = covered_below_the_mark(file, at);
        let (text, result) = maker.inspect(true);
        assert_eq!(
            result.is_err(),
            covered,
            "round {round}, byte {at} of file {file}: {text}"
        );
    }
}

/// Says whether a checksum of a batch that was acknowledged covers a byte of [`five`].
fn covered_below_the_mark(file: usize, at: usize) -> bool {
    let record = HEADER_BYTES + FRAME_BYTES;
    let batches = [
        (0, 0, entry().len()),
        (0, 4096, 5000),
        (0, 12_288, 1),
        (1, 0, 1),
    ];
    batches
        .iter()
        .any(|(of, from, bytes)| *of == file && (*from..from + record + bytes).contains(&at))
}

#[test]
fn headers_with_valid_checksums_and_wild_numbers_do_not_panic() {
    let mut rng = Rng::new(4);
    for _ in 0..300 {
        let mut maker = five();
        let at = rng.index(3) * 4096;
        let block = &mut maker.files[1][at..];
        for _ in 0..2 {
            let field = 8 + 8 * rng.index(8);
            let wild = [u64::MAX, rng.next_u64(), 1 << 63, 0][rng.index(4)];
            block[field..field + 8].copy_from_slice(&wild.to_le_bytes());
        }
        let crc = crc32c(&block[..HEADER_BYTES - 4]);
        block[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        let _ = maker.inspect(true);
        let _ = inspect_path(&maker.dir.path().join("00000001.wal"), true);
    }
}
