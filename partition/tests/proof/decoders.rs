//! Entries that something has damaged: refused, or taken for another well-formed entry; never a panic.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ashlar_consensus::{Clock, Index, PartitionId, Term, Timestamp};
use ashlar_io::rng::Rng;
use ashlar_io::wal::Position;
use ashlar_partition::command::{Command, ENTRY_BYTES, EntryHeader, seal};
use ashlar_partition::{KeyRange, Memtable, Partition, Recovering, Request};

use crate::content::held;
use crate::workload::Shape;

const PARTITION: PartitionId = PartitionId(3);
const SHAPE: Shape = Shape {
    databases: 3,
    keys_per_database: 6,
    value_bytes_max: 40,
};

fn header(index: u64, commands: u32) -> EntryHeader {
    let timestamp = Timestamp::at_micros(1_000 + index);
    EntryHeader {
        partition: PARTITION,
        term: Term(1),
        index: Index(index),
        timestamp,
        commands,
        ..EntryHeader::default()
    }
}

fn entry(header: EntryHeader, commands: &[Command<'_>]) -> Vec<u8> {
    let mut bytes = vec![0; ENTRY_BYTES];
    header.encode(&mut bytes);
    for command in commands {
        command.encode(&mut bytes);
    }
    bytes
}

/// A well-formed entry of a few commands.
fn some_entry(rng: &mut Rng, index: u64) -> Vec<u8> {
    let count = rng.below(5);
    let mut bytes = entry(header(index, u32::try_from(count).unwrap()), &[]);
    for _ in 0..count {
        let (key, value) = (SHAPE.key(rng), SHAPE.value(rng));
        let expire_at_ms = if rng.coin() {
            Some(1 + rng.below(1_000))
        } else {
            None
        };
        let command = match rng.below(8) {
            0..=2 => Command::Put {
                is_root: false,
                key: &key,
                expire_at_ms,
                value: &value,
            },
            3 | 4 => Command::Delete { key: &key },
            5 => Command::Clear {
                database: if rng.coin() { Some(key[0]) } else { None },
            },
            _ => Command::DeleteRange {
                start: &key,
                end: b"\x03",
            },
        };
        command.encode(&mut bytes);
    }
    bytes
}

/// A partition that has taken in some entries, and its clock.
struct Taken {
    recovering: Recovering,
    clock: Clock,
    chain: u64,
}

impl Taken {
    fn new(entries: &[Vec<u8>]) -> Self {
        let partition = Partition::new(PARTITION, KeyRange::all(), 9);
        let mut clock = Clock::default();
        let recovering = Recovering::begin(partition, None, &mut clock).unwrap();
        let mut taken = Self {
            recovering,
            clock,
            chain: 0,
        };
        entries
            .iter()
            .for_each(|entry| taken.recover(entry).unwrap());
        taken
    }

    fn recover(&mut self, entry: &[u8]) -> Result<(), String> {
        // Damage is to get past the chain: that it stops there is tested by itself.
        let mut entry = entry.to_vec();
        let chain = match entry.len() {
            ENTRY_BYTES.. => seal(&mut entry, self.chain),
            _ => 0,
        };
        self.recovering.take(Position(0), &entry, &mut self.clock)?;
        self.chain = chain;
        Ok(())
    }

    /// Uses what was taken in: reads all of it, and goes on writing above it.
    fn check(mut self) {
        let mut partition = finish(self.recovering);
        let held = held(&partition);
        assert_eq!(partition.memtable().keys(), held.len() as u64);
        assert!(
            held.iter()
                .all(|(_, _, _, timestamp)| *timestamp <= self.clock.last().0),
            "versions of the future"
        );
        let last = partition.last_index();
        let clock = &mut self.clock;
        let (_, wait) = partition.serve(
            b"\x00n",
            &Request::Append(b"1"),
            0,
            || clock.take(1),
            |_| (),
        );
        assert_eq!(wait, Some(last.next()));
    }
}

/// Ends a recovery that has no tables to open, and so waits for nothing.
fn finish(recovering: Recovering) -> Partition {
    let mut finishing = pin!(recovering.finish());
    let mut context = Context::from_waker(Waker::noop());
    match finishing.as_mut().poll(&mut context) {
        Poll::Ready(finished) => finished.unwrap(),
        Poll::Pending => panic!("nothing is waited for"),
    }
}

fn check_damaged(before: &[Vec<u8>], damaged: &[u8], after: &[u8]) {
    let mut taken = Taken::new(before);
    if taken.recover(damaged).is_ok() {
        let _ = taken.recover(after);
        taken.check();
    }
}

#[test]
fn no_flipped_bit_and_no_cut_makes_recovery_panic() {
    let mut rng = Rng::new(1);
    for _ in 0..60 {
        let entries: Vec<Vec<u8>> = (1..=4).map(|index| some_entry(&mut rng, index)).collect();
        let whole = &entries[2];
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            check_damaged(&entries[..2], &damaged, &entries[3]);
        }
        for length in 0..whole.len() {
            let refused = Taken::new(&entries[..2]).recover(&whole[..length]);
            assert!(
                refused.is_err(),
                "{length} of {} bytes were taken for an entry",
                whole.len()
            );
        }
    }
}

#[test]
fn no_splice_makes_recovery_panic() {
    let mut rng = Rng::new(2);
    for _ in 0..20_000 {
        let entries: Vec<Vec<u8>> = (1..=4).map(|index| some_entry(&mut rng, index)).collect();
        let (whole, other) = (&entries[2], &entries[rng.index(4)]);
        let (head, tail) = (rng.index(whole.len() + 1), rng.index(other.len() + 1));
        let mut spliced = [&whole[..head], &other[tail..]].concat();
        for _ in 0..rng.below(3) {
            if !spliced.is_empty() {
                let at = rng.index(spliced.len());
                spliced[at] = [0, 1, 0x7F, 0xFF][rng.index(4)];
            }
        }
        check_damaged(&entries[..2], &spliced, &entries[3]);
    }
}

fn refusal(first: EntryHeader, second: EntryHeader) -> String {
    let mut taken = Taken::new(&[entry(first, &[])]);
    taken.recover(&entry(second, &[])).unwrap_err()
}

#[test]
fn entries_that_do_not_follow_are_refused() {
    let first = header(7, 0);
    for index in [0, 1, 6, 7, 9, u64::MAX] {
        let refused = refusal(
            first,
            EntryHeader {
                index: Index(index),
                ..first
            },
        );
        assert!(
            refused.contains(&index.to_string()) || refused.contains("index"),
            "{refused}"
        );
    }
    let later = EntryHeader {
        term: Term(2),
        ..first
    };
    assert!(refusal(later, header(8, 0)).contains("term"));
    let foreign = EntryHeader {
        partition: PartitionId(4),
        ..header(8, 0)
    };
    assert!(refusal(first, foreign).contains("partition 4"));
}

#[test]
fn an_entry_that_was_changed_breaks_the_chain() {
    let mut rng = Rng::new(3);
    let mut entries: Vec<Vec<u8>> = (1..=2).map(|index| some_entry(&mut rng, index)).collect();
    let chain = seal(&mut entries[0], 0);
    seal(&mut entries[1], chain);
    let last = entries[0].len() - 1;
    entries[0][last] ^= 1;
    let mut taken = Taken::new(&[]);
    let refused = taken
        .recovering
        .take(Position(0), &entries[0], &mut taken.clock);
    assert!(refused.unwrap_err().contains("breaks the chain"));
}

#[test]
fn numbers_that_cannot_be_counted_on_from_are_refused() {
    for timestamp in [u64::MAX, u64::MAX - 1, u64::MAX - 5] {
        let far = EntryHeader {
            timestamp: Timestamp(timestamp),
            ..header(1, 2)
        };
        let commands = [
            Command::Delete { key: b"\x00a" },
            Command::Delete { key: b"\x00b" },
        ];
        assert!(Taken::new(&[]).recover(&entry(far, &commands)).is_err());
    }
    for index in [0, u64::MAX, u64::MAX - 1] {
        let far = EntryHeader {
            index: Index(index),
            ..header(1, 0)
        };
        assert!(
            Taken::new(&[]).recover(&entry(far, &[])).is_err(),
            "index {index}"
        );
    }
}

#[test]
fn keys_and_values_beyond_the_limits_are_refused() {
    let (key, value) = (
        vec![0; Memtable::KEY_BYTES_MAX + 1],
        vec![0; Memtable::VALUE_BYTES_MAX + 1],
    );
    let (fits, one) = (&key[1..], header(1, 1));
    let refused = |command: Command<'_>| Taken::new(&[]).recover(&entry(one, &[command])).is_err();
    assert!(refused(Command::Put {
        is_root: false,
        key: &key,
        expire_at_ms: None,
        value: b""
    }));
    assert!(refused(Command::Delete { key: &key }));
    assert!(refused(Command::Put {
        is_root: false,
        key: b"\x00a",
        expire_at_ms: None,
        value: &value
    }));
    assert!(!refused(Command::Put {
        is_root: false,
        key: fits,
        expire_at_ms: None,
        value: &value[1..]
    }));
}
