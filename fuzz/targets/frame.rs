//! What nodes send each other once they have met: frames of any bytes end the connection or have
//! sections that can be read, and messages of the consensus core are refused or read to the end.
#![no_main]

use ashlar_consensus::message::{self, Message};
use ashlar_consensus::support::{RequestSupport, Support};
use ashlar_consensus::{Membership, NodeId, PartitionId, Timestamp};
use ashlar_fuzz::Choices;
use ashlar_node::peer::assembly::{Assembly, Sender};
use ashlar_node::peer::frame::{Frame, HEADER_BYTES, Header, Interval, Part, SectionHeader};
use libfuzzer_sys::fuzz_target;

const BODY_BYTES_MAX: u32 = 2000;
const SENDER: Sender = Sender {
    node: NodeId(2),
    incarnation: 5,
    body_bytes_max: BODY_BYTES_MAX,
};

/// Reads what a section may hold.
fn read(bytes: &[u8]) {
    let _ = (RequestSupport::decode(bytes), Support::decode(bytes));
    if let Ok(membership) = Membership::decode(bytes) {
        let mut again = Vec::new();
        membership.encode(&mut again);
        assert_eq!(Membership::decode(&again), Ok(membership));
    }
    if let Ok((message, rest)) = message::decode(bytes) {
        assert!(rest.len() < bytes.len());
        if let Message::Append(_, metas) = message {
            let _ = format!("{metas:?}");
        }
    }
}

/// Feeds bytes in pieces; returns the frames that came, up to the first error.
fn feed(bytes: &[u8], mut cuts: impl FnMut() -> usize) -> (Vec<Frame>, bool) {
    let mut assembly = Assembly::new(SENDER);
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let end = bytes.len().min(at + cuts().max(1));
        while at < end {
            match assembly.take(&bytes[at..end], Vec::new) {
                Ok((used, frame)) => {
                    assert!(used > 0 || frame.is_some(), "it makes no progress");
                    at += used;
                    frames.extend(frame);
                }
                Err(error) => {
                    assert!(!error.to_string().contains('\n'));
                    return (frames, true);
                }
            }
            assert!(assembly.buffer_bytes() <= 2 * bytes.len() + (256 << 10));
        }
    }
    (frames, false)
}

/// Makes frames whose headers are right, with sections of the fuzzer's choice.
fn make(choices: &mut Choices<'_>) -> Vec<u8> {
    let (mut bytes, mut sequence) = (Vec::new(), 0);
    while !choices.is_empty() {
        let mut frame = vec![0; HEADER_BYTES];
        for _ in 0..choices.byte() % 4 {
            let part = [Part::Whole, Part::First, Part::Middle, Part::Last];
            let length = usize::from(choices.byte());
            let payload = choices.bytes(length);
            let header = SectionHeader {
                bytes: payload.len() as u32 + u32::from(choices.byte() == 255),
                kind: choices.byte(),
                part: part[usize::from(choices.byte() % 4)],
                partition: PartitionId(u32::from(choices.byte() % 3)),
            };
            header.encode(&mut frame);
            frame.extend_from_slice(payload);
        }
        sequence += 1;
        let header = Header {
            body_bytes: 0,
            body_crc: 0,
            from: SENDER.node,
            sequence,
            clock: Timestamp(choices.number()),
            interval: Interval::default(),
            incarnation: SENDER.incarnation,
        };
        header.seal(&mut frame);
        bytes.extend_from_slice(&frame);
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let mut choices = Choices(data);
    let kind = choices.byte() % 3;
    if kind == 0 {
        read(choices.0);
    }
    let cut = usize::from(choices.byte());
    let made;
    let bytes = match kind {
        1 => choices.0,
        _ => {
            made = make(&mut choices);
            &made
        }
    };
    let (whole, failed) = feed(bytes, || bytes.len());
    assert_eq!(
        (whole.clone(), failed),
        feed(bytes, || cut),
        "pieces make other frames"
    );
    for frame in &whole {
        assert!(frame.memory_bytes() >= HEADER_BYTES);
        frame.sections().for_each(|section| read(section.bytes));
    }
});
