//! Sections that wait for the end of a turn, and the frames that are made of them. Not the socket,
//! and not who gets them.
//!
//! Invariants:
//! 1. Urgent sections leave before bulk ones; within a lane sections leave in the order in which
//!    they were queued.
//! 2. Each lane has room for a frame's header in front, so that a frame of one lane, the common
//!    case, is sealed where it lies.

use ashlar_consensus::PartitionId;

use super::frame::{HEADER_BYTES, Header, PAYLOAD_BYTES_MAX, Part, SECTION_BYTES, SectionHeader};

/// Largest buffer that a lane keeps for the next turn, in bytes.
const KEPT_BYTES: usize = 1 << 20;

/// How a section is to be treated when a turn has more than fits in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Before all bulk ones: votes, acknowledgements, support. One that is larger than a frame is
    /// bulk all the same.
    Urgent,
    /// Whatever carries data.
    Bulk,
}

/// The sections of one turn for one peer.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Room for a header, then sections; or empty.
    urgent: Vec<u8>,
    /// The same.
    bulk: Vec<u8>,
}

fn lane_bytes(lane: &[u8]) -> usize {
    lane.len().saturating_sub(HEADER_BYTES)
}

impl Outbox {
    /// Returns how many bytes are queued.
    pub(crate) fn bytes(&self) -> usize {
        lane_bytes(&self.urgent) + lane_bytes(&self.bulk)
    }

    /// Drops what is queued.
    pub(crate) fn clear(&mut self) {
        for lane in [&mut self.urgent, &mut self.bulk] {
            lane.clear();
            lane.shrink_to(KEPT_BYTES);
        }
    }

    /// Queues a section whose payload is the `parts`, one after another.
    ///
    /// # Panics
    /// When the payload is above [`PAYLOAD_BYTES_MAX`].
    pub(crate) fn push(
        &mut self,
        lane: Lane,
        (kind, partition): (u8, PartitionId),
        parts: &[&[u8]],
        frame_bytes_max: usize,
    ) {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert!(bytes <= PAYLOAD_BYTES_MAX, "a section of {bytes} bytes");
        let fits = SECTION_BYTES + bytes <= frame_bytes_max;
        let lane = match lane {
            Lane::Urgent if fits => &mut self.urgent,
            Lane::Urgent | Lane::Bulk => &mut self.bulk,
        };
        if lane.is_empty() {
            lane.resize(HEADER_BYTES, 0);
        }
        lane.reserve(SECTION_BYTES + bytes);
        let header = SectionHeader {
            bytes: u32::try_from(bytes).expect("it was limited above"),
            kind,
            part: Part::Whole,
            partition,
        };
        header.encode(lane);
        parts.iter().for_each(|part| lane.extend_from_slice(part));
    }

    /// Makes frames of what is queued, sealed with the headers that `header` gives, and hands them
    /// to `send`, which empties the buffer.
    pub(crate) fn seal(
        &mut self,
        frame_bytes_max: usize,
        mut header: impl FnMut() -> Header,
        mut send: impl FnMut(&mut Vec<u8>),
    ) {
        let whole = self.bytes() <= frame_bytes_max;
        let only = match (self.urgent.is_empty(), self.bulk.is_empty()) {
            (true, true) => return,
            (false, true) if whole => Some(&mut self.urgent),
            (true, false) if whole => Some(&mut self.bulk),
            (_, _) => None,
        };
        if let Some(frame) = only {
            header().seal(frame);
            send(frame);
        } else if whole {
            self.urgent.extend_from_slice(&self.bulk[HEADER_BYTES..]);
            header().seal(&mut self.urgent);
            send(&mut self.urgent);
        } else {
            let mut packing = Packing::new(frame_bytes_max, &mut header, &mut send);
            packing.pack(self.urgent.get(HEADER_BYTES..).unwrap_or_default());
            packing.pack(self.bulk.get(HEADER_BYTES..).unwrap_or_default());
            packing.end();
        }
        self.clear();
    }
}

/// Packs sections into as many frames as they need.
struct Packing<'a, H, S> {
    max: usize,
    frame: Vec<u8>,
    header: &'a mut H,
    send: &'a mut S,
}

impl<'a, H: FnMut() -> Header, S: FnMut(&mut Vec<u8>)> Packing<'a, H, S> {
    fn new(max: usize, header: &'a mut H, send: &'a mut S) -> Self {
        let frame = vec![0; HEADER_BYTES];
        Self {
            max,
            frame,
            header,
            send,
        }
    }

    /// Returns how many bytes the frame has room for.
    fn room(&self) -> usize {
        self.max - lane_bytes(&self.frame)
    }

    fn pack(&mut self, mut sections: &[u8]) {
        while let Some((header, payload, rest)) = SectionHeader::split(sections) {
            sections = rest;
            let bytes = SECTION_BYTES + payload.len();
            if bytes > self.max {
                self.pack_parts(header, payload);
                continue;
            }
            if bytes > self.room() {
                self.end();
            }
            header.encode(&mut self.frame);
            self.frame.extend_from_slice(payload);
        }
        assert!(sections.is_empty(), "a lane holds whole sections");
    }

    /// Cuts a section that no frame has room for; every part but the last fills its frame.
    fn pack_parts(&mut self, header: SectionHeader, payload: &[u8]) {
        self.end();
        let mut part = Part::First;
        let mut rest = payload;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.max - SECTION_BYTES));
            if later.is_empty() {
                part = Part::Last;
            }
            let bytes = u32::try_from(now.len()).expect("a part of what fits");
            SectionHeader {
                bytes,
                part,
                ..header
            }
            .encode(&mut self.frame);
            self.frame.extend_from_slice(now);
            if !later.is_empty() {
                self.end();
            }
            (part, rest) = (Part::Middle, later);
        }
    }

    /// Sends the frame, unless it is empty.
    fn end(&mut self) {
        if lane_bytes(&self.frame) == 0 {
            return;
        }
        (self.header)().seal(&mut self.frame);
        (self.send)(&mut self.frame);
        self.frame.clear();
        self.frame.resize(HEADER_BYTES, 0);
    }
}

#[cfg(test)]
mod tests {
    use ashlar_consensus::{NodeId, Timestamp};
    use proptest::prelude::*;

    use super::super::assembly::{Assembly, Sender};
    use super::super::frame::{Frame, FrameError, Interval};
    use super::*;

    const MAX: usize = 200;

    fn header(sequence: &mut u64) -> Header {
        *sequence += 1;
        Header {
            body_bytes: 0,
            body_crc: 0,
            from: NodeId(3),
            sequence: *sequence,
            clock: Timestamp(77),
            interval: Interval {
                earliest_us: 1,
                latest_us: 2,
            },
            incarnation: 9,
        }
    }

    fn assembly() -> Assembly {
        Assembly::new(Sender {
            node: NodeId(3),
            incarnation: 9,
            body_bytes_max: u32::try_from(MAX).unwrap(),
        })
    }

    /// Returns the wire of one turn.
    fn seal(outbox: &mut Outbox, sequence: &mut u64) -> Vec<u8> {
        let mut wire = Vec::new();
        outbox.seal(
            MAX,
            || header(sequence),
            |frame| {
                assert!(frame.len() <= HEADER_BYTES + MAX);
                wire.append(frame);
            },
        );
        assert_eq!(outbox.bytes(), 0);
        wire
    }

    fn read(
        assembly: &mut Assembly,
        wire: &[u8],
        mut cut: impl FnMut() -> usize,
    ) -> Result<Vec<Frame>, FrameError> {
        let (mut frames, mut rest) = (Vec::new(), wire);
        while !rest.is_empty() {
            let (mut chunk, behind) = rest.split_at(cut().clamp(1, rest.len()));
            rest = behind;
            while !chunk.is_empty() {
                let (used, frame) = assembly.take(chunk, Vec::new)?;
                assert!(used > 0 && used <= chunk.len());
                chunk = &chunk[used..];
                frames.extend(frame);
            }
        }
        Ok(frames)
    }

    type Sent = (u8, u32, Vec<u8>);

    fn sections(frames: &[Frame]) -> Vec<Sent> {
        let all = frames.iter().flat_map(Frame::sections);
        all.map(|section| (section.kind, section.partition.0, section.bytes.to_vec()))
            .collect()
    }

    fn wire_of(sent: &[(bool, Sent)]) -> Vec<u8> {
        let mut outbox = Outbox::default();
        for (urgent, (kind, partition, bytes)) in sent {
            let lane = if *urgent { Lane::Urgent } else { Lane::Bulk };
            let halves = bytes.split_at(bytes.len() / 2);
            let name = (*kind, PartitionId(*partition));
            outbox.push(lane, name, &[halves.0, halves.1], MAX);
        }
        seal(&mut outbox, &mut 0)
    }

    #[test]
    fn urgent_sections_come_first_and_a_turn_is_one_frame() {
        let sent = [
            (false, (1, 5, vec![1; 30])),
            (true, (2, 6, vec![2; 20])),
            (false, (3, 7, vec![])),
        ];
        let frames = read(&mut assembly(), &wire_of(&sent), || 7).unwrap();
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].clock.0, frames[0].interval.latest_us), (77, 2));
        let kinds: Vec<u8> = frames[0].sections().map(|section| section.kind).collect();
        assert_eq!(kinds, [2, 1, 3]);
    }

    #[test]
    fn what_is_larger_than_a_frame_comes_in_parts() {
        let large: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sent = [
            (true, (1, 1, large.clone())),
            (false, (2, 2, vec![5; 10])),
            (true, (3, 3, vec![6; 10])),
        ];
        let frames = read(&mut assembly(), &wire_of(&sent), || 1000).unwrap();
        assert_eq!(frames.len(), 7);
        let want = [(3, 3, vec![6; 10]), (1, 1, large), (2, 2, vec![5; 10])];
        assert_eq!(sections(&frames), want);
    }

    #[test]
    fn what_is_not_expected_ends_the_connection() {
        let wire = wire_of(&[(false, (1, 5, vec![1; 30]))]);
        let reseal = |change: fn(&mut Header), body: &[u8]| {
            let mut frame = [&[0; HEADER_BYTES], body].concat();
            let mut sealed = header(&mut 0);
            change(&mut sealed);
            sealed.seal(&mut frame);
            read(&mut assembly(), &frame, || 1000).unwrap_err()
        };
        let body = &wire[HEADER_BYTES..];
        assert_eq!(reseal(|h| h.from.0 = 4, body), FrameError::Sender(4, 9));
        assert_eq!(
            reseal(|h| h.incarnation = 8, body),
            FrameError::Sender(3, 8)
        );
        let sequence = FrameError::Sequence {
            found: 2,
            expected: 1,
        };
        assert_eq!(reseal(|h| h.sequence = 2, body), sequence);
        assert_eq!(reseal(|_| (), &[0; 201]), FrameError::Long(201, 200));
        assert_eq!(reseal(|_| (), &[0; 11]), FrameError::Sections);
        for parts in [[1, 1], [2, 3], [3, 3], [1, 9]] {
            let section = |part| [0, 0, 0, 0, 1, part, 0, 0, 0, 0, 0, 0];
            let body = parts.map(section).concat();
            assert_eq!(reseal(|_| (), &body), FrameError::Sections);
        }
        let mut version = wire.clone();
        version[4] = 2;
        let crc = ashlar_io::wal::format::crc32c(&version[..60]);
        version[60..64].copy_from_slice(&crc.to_le_bytes());
        let error = read(&mut assembly(), &version, || 1000);
        assert_eq!(error, Err(FrameError::Version(2)));
    }

    #[test]
    fn a_declared_length_takes_no_memory() {
        let mut frame = vec![0; HEADER_BYTES + 100_000];
        header(&mut 0).seal(&mut frame);
        let mut assembly = Assembly::new(Sender {
            node: NodeId(3),
            incarnation: 9,
            body_bytes_max: 1 << 20,
        });
        let taken = assembly.take(&frame[..HEADER_BYTES + 1], Vec::new);
        assert_eq!(taken, Ok((HEADER_BYTES + 1, None)));
        assert!(assembly.buffer_bytes() <= 64 << 10);
    }

    proptest! {
        #[test]
        fn sections_arrive_as_they_were_queued(
            sent in prop::collection::vec(
                (any::<bool>(), (any::<u8>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..500))),
                1..30,
            ),
            cuts in prop::collection::vec(1_usize..300, 1..10),
        ) {
            let mut cuts = cuts.into_iter().cycle();
            let frames = read(&mut assembly(), &wire_of(&sent), || cuts.next().unwrap()).unwrap();
            let is_urgent = |sent: &(bool, Sent)| sent.0 && sent.1.2.len() + SECTION_BYTES <= MAX;
            let (urgent, bulk): (Vec<_>, Vec<_>) = sent.into_iter().partition(is_urgent);
            let want: Vec<Sent> = urgent.into_iter().chain(bulk).map(|(_, sent)| sent).collect();
            prop_assert_eq!(sections(&frames), want);
        }

        #[test]
        fn one_changed_bit_is_noticed(at in 0_usize..10_000, bit in 0_u8..8, cut in 1_usize..100) {
            let mut wire = wire_of(&[(false, (1, 5, vec![1; 300])), (true, (2, 6, vec![2; 20]))]);
            let at = at % wire.len();
            wire[at] ^= 1 << bit;
            let frames = read(&mut assembly(), &wire, || cut);
            // A frame whose length has grown is one that never ends.
            prop_assert!(frames.is_err());
        }

        #[test]
        fn random_bodies_are_refused_or_frames(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut frame = [&[0; HEADER_BYTES], body.as_slice()].concat();
            header(&mut 0).seal(&mut frame);
            if let Ok(frames) = read(&mut assembly(), &frame, || 1000) {
                let bytes: usize = sections(&frames).iter().map(|section| section.2.len()).sum();
                prop_assert!(bytes <= body.len());
            }
        }
    }
}
