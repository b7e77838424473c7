//! The bytes of refusals.

use ashlar_partition::Refusal;

use super::Bytes;

/// Refusals in the order of their numbers, but for the one that names a partition.
pub(super) const REFUSALS: [Refusal; 11] = [
    Refusal::NotAnInteger,
    Refusal::Overflow,
    Refusal::TooLong,
    Refusal::Busy,
    Refusal::TooOld,
    Refusal::InFuture,
    Refusal::WrongType,
    Refusal::TooMuch,
    Refusal::TooWide,
    Refusal::NotInMemory,
    Refusal::DiskFull,
];
/// Number of the refusal that names a partition.
const DAMAGED: u8 = 255;

/// Writes a refusal.
pub(super) fn encode_refusal(refusal: Refusal, out: &mut Vec<u8>) {
    if let Refusal::Damaged(partition) = refusal {
        out.push(DAMAGED);
        out.extend_from_slice(&partition.to_le_bytes());
        return;
    }
    let number = (0..).zip(REFUSALS).find(|(_, known)| *known == refusal);
    out.push(number.map_or(DAMAGED, |(number, _)| number));
}

/// Reads a refusal.
pub(super) fn decode_refusal(bytes: &mut Bytes<'_>) -> Option<Refusal> {
    match bytes.u8()? {
        DAMAGED => Some(Refusal::Damaged(bytes.u32()?)),
        number => REFUSALS.get(usize::from(number)).copied(),
    }
}
