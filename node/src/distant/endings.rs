//! The bytes of how a wait for elements ends.

use super::{Bytes, put_u64s};
use crate::blocked::Ending;
use crate::message::Ticket;

/// What ends a wait, by code.
const ENDINGS: [Ending; 4] = [
    Ending::Nothing,
    Ending::Unblocked,
    Ending::SteppedDown,
    Ending::Stopping,
];

/// Appends which command waits no more, and how that is answered.
pub fn encode_withdraw(ticket: Ticket, ending: Ending, out: &mut Vec<u8>) {
    put_u64s(out, &[ticket.0]);
    out.push(match ending {
        Ending::Nothing => 0,
        Ending::Unblocked => 1,
        Ending::SteppedDown => 2,
        Ending::Stopping => 3,
    });
}

/// Reads that.
#[must_use]
pub fn decode_withdraw(bytes: &[u8]) -> Option<(Ticket, Ending)> {
    let mut bytes = Bytes(bytes);
    let ticket = Ticket(bytes.u64()?);
    let ending = *ENDINGS.get(usize::from(bytes.u8()?))?;
    bytes.0.is_empty().then_some((ticket, ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_comes_back_as_it_went() {
        for ending in ENDINGS {
            let mut bytes = Vec::new();
            encode_withdraw(Ticket(7), ending, &mut bytes);
            assert_eq!(decode_withdraw(&bytes), Some((Ticket(7), ending)));
            assert_eq!(decode_withdraw(&bytes[1..]), None);
            bytes[8] = 4;
            assert_eq!(decode_withdraw(&bytes), None);
        }
    }
}
