//! Entries of a partition's log: any bytes are an entry or are refused, what was understood is
//! encoded to the same bytes, and a partition that took them in can be used.
#![no_main]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ashlar_consensus::{Clock, Index, PartitionId, Term, Timestamp};
use ashlar_fuzz::Choices;
use ashlar_io::wal::Position;
use ashlar_partition::command::{Command, Commands, ENTRY_BYTES, EntryHeader, seal};
use ashlar_partition::{KeyRange, Partition, Recovering, Request};
use libfuzzer_sys::fuzz_target;

const PARTITION: PartitionId = PartitionId(3);

fn key(choices: &mut Choices<'_>) -> Vec<u8> {
    let bytes = choices.byte() % 5;
    [&[choices.byte() % 16], choices.bytes(usize::from(bytes))].concat()
}

/// Makes an entry of commands that the fuzzer chose.
fn make(choices: &mut Choices<'_>, index: u64) -> Vec<u8> {
    let timestamp = 1 + choices.number() % (1 << 62);
    let count = choices.byte() % 8;
    let mut entry = vec![0; ENTRY_BYTES];
    let header = EntryHeader {
        partition: PARTITION,
        term: Term(1),
        index: Index(index),
        timestamp: Timestamp(timestamp),
        commands: u32::from(count),
        ..EntryHeader::default()
    };
    header.encode(&mut entry);
    for _ in 0..count {
        let (kind, key) = (choices.byte() % 6, key(choices));
        let expire_at_ms = Some(choices.number()).filter(|at_ms| *at_ms > 0);
        let value = choices.bytes(usize::from(choices.clone().byte()));
        let database = choices.byte();
        let command = match kind {
            0 | 4 => Command::Put {
                is_root: kind == 4,
                key: &key,
                expire_at_ms,
                value,
            },
            1 => Command::Delete { key: &key },
            2 => Command::Clear { database: None },
            3 => Command::Clear {
                database: Some(database),
            },
            _ => Command::DeleteRange {
                start: &key,
                end: value,
            },
        };
        command.encode(&mut entry);
    }
    entry
}

/// Damages an entry in places that the fuzzer chose.
fn damage(choices: &mut Choices<'_>, entry: &mut Vec<u8>) {
    for _ in 0..choices.byte() % 4 {
        let at = usize::from(choices.short()) % entry.len();
        match choices.byte() % 3 {
            0 => entry[at] = choices.byte(),
            1 => entry.truncate(at.max(1)),
            _ => drop(entry.splice(at..at, choices.bytes(4).to_vec())),
        }
    }
}

/// Encodes what was understood of an entry and compares.
fn check_again(entry: &[u8]) {
    let Ok((header, mut commands)) = Commands::of(entry) else {
        return;
    };
    let mut again = vec![0; ENTRY_BYTES];
    header.encode(&mut again);
    let (mut count, mut read) = (0_u64, Vec::new());
    for (timestamp, command) in commands.by_ref() {
        assert_eq!(timestamp, header.timestamp.plus(count));
        count += 1;
        command.encode(&mut again);
        read.push(command);
    }
    let (_, commands) = Commands::of(&again).expect("an encoded header is one");
    assert_eq!(
        commands.map(|(_, command)| command).collect::<Vec<_>>(),
        read
    );
}

/// Ends a recovery that has no tables to open, and so waits for nothing.
fn finish(recovering: Recovering) -> Partition {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(recovering.finish()).poll(&mut context) {
        Poll::Ready(finished) => finished.expect("no file is read"),
        Poll::Pending => panic!("nothing is waited for"),
    }
}

fuzz_target!(|data: &[u8]| {
    check_again(data);
    let mut choices = Choices(data);
    let partition = Partition::new(PARTITION, KeyRange::all(), 9);
    let mut clock = Clock::default();
    let begun = Recovering::begin(partition, None, &mut clock);
    let mut recovering = begun.expect("there is no checkpoint");
    let (mut index, mut chain, mut last) = (1 + choices.number() % (1 << 40), 0, Index(0));
    while !choices.is_empty() {
        let mut entry = make(&mut choices, index);
        damage(&mut choices, &mut entry);
        check_again(&entry);
        // Damage is to get past the chain: that it stops there is tested by itself.
        if entry.len() >= ENTRY_BYTES {
            chain = seal(&mut entry, chain);
        }
        if recovering.take(Position(0), &entry, &mut clock).is_err() {
            return;
        }
        if let Ok(taken) = EntryHeader::decode(&entry) {
            last = taken.index;
        }
        index += 1;
    }
    let mut partition = finish(recovering);
    assert_eq!(partition.last_index(), last);
    let memtable = partition.memtable();
    let keys: u64 = (0..=255).map(|database| memtable.keys_of(database)).sum();
    assert_eq!(memtable.keys(), keys);
    let request = Request::Append(b"1");
    let (_, wait) = partition.serve(b"\x00n", &request, 0, || clock.take(1), |_| ());
    assert_eq!(wait, Some(last.next()));
});
