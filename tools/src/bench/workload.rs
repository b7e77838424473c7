//! What is asked: which keys in which order, how many reads, and the bytes of the commands.
//! Not who asks or when: that is `client`.
//!
//! Keys are `key:` and twelve digits, as those of redis-benchmark, so that either tool reads what the other wrote.

use std::cell::Cell;

use ashlar_io::rng::Rng;

/// Bytes beyond one value that values are cut from, so that they differ.
const VARIETY_BYTES: usize = 4096;
/// Digits of a key.
const KEY_DIGITS: usize = 12;
/// Most keys: as many as the digits can tell apart.
pub(crate) const KEYS_MAX: u64 = 10_u64.pow(12);

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads a key.
    Get,
    /// Writes a key.
    Set,
}

impl Kind {
    /// Every kind, in the order of reports.
    pub(crate) const EVERY: [Self; 2] = [Self::Get, Self::Set];

    /// Returns the name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Set => "SET",
        }
    }

    /// Returns the place among [`Kind::EVERY`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Get => 0,
            Self::Set => 1,
        }
    }
}

/// In which order keys are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Order {
    /// Each key as likely as every other.
    Random,
    /// One after another, from the first again after the last.
    Sequential,
}

/// The operations of all connections together.
#[derive(Debug)]
pub(crate) struct Workload {
    reads_percent: u64,
    keys: u64,
    order: Order,
    next_key: Cell<u64>,
    set_head: Vec<u8>,
    set_middle: Vec<u8>,
    value_bytes: usize,
    text: Vec<u8>,
}

impl Workload {
    /// Makes a workload over `keys` keys with `reads_percent` (0 to 100) reads and values of `value_bytes`.
    pub(crate) fn new(reads_percent: u64, (keys, order): (u64, Order), value_bytes: usize) -> Self {
        let mut rng = Rng::new(1);
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        let text = (0..value_bytes + VARIETY_BYTES).map(|_| letters[rng.index(letters.len())]);
        Self {
            reads_percent,
            keys,
            order,
            next_key: Cell::new(0),
            set_head: b"*3\r\n$3\r\nSET\r\n$16\r\nkey:".to_vec(),
            set_middle: format!("\r\n${value_bytes}\r\n").into_bytes(),
            value_bytes,
            text: text.collect(),
        }
    }

    /// Appends the next operation's command to `out`; returns what it is.
    pub(crate) fn encode_next(&self, rng: &mut Rng, out: &mut Vec<u8>) -> Kind {
        let bits = rng.next_u64();
        let key = match self.order {
            Order::Random => scale(bits, self.keys),
            Order::Sequential => self.take_key(),
        };
        // The upper bits chose the key; the lower 32 are as good as another draw.
        let choice = scale(bits << 32, 100);
        if choice < self.reads_percent {
            encode_get(key, out);
            return Kind::Get;
        }
        self.encode_set(key, rng, out);
        Kind::Set
    }

    /// Appends the command that writes `key`.
    pub(crate) fn encode_set(&self, key: u64, rng: &mut Rng, out: &mut Vec<u8>) {
        let from = rng.index(VARIETY_BYTES);
        out.extend_from_slice(&self.set_head);
        out.extend_from_slice(&digits(key));
        out.extend_from_slice(&self.set_middle);
        out.extend_from_slice(&self.text[from..from + self.value_bytes]);
        out.extend_from_slice(b"\r\n");
    }

    /// Returns how many keys there are.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    fn take_key(&self) -> u64 {
        let key = self.next_key.get();
        self.next_key
            .set(if key + 1 < self.keys { key + 1 } else { 0 });
        key
    }
}

fn encode_get(key: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"*2\r\n$3\r\nGET\r\n$16\r\nkey:");
    out.extend_from_slice(&digits(key));
    out.extend_from_slice(b"\r\n");
}

/// Maps 64 random bits to a number below `n`, by their upper bits.
fn scale(bits: u64, n: u64) -> u64 {
    ((u128::from(bits) * u128::from(n)) >> 64) as u64
}

fn digits(mut number: u64) -> [u8; KEY_DIGITS] {
    let mut digits = [b'0'; KEY_DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_resp_with_the_sizes_asked_for() {
        let workload = Workload::new(0, (10, Order::Sequential), 3);
        let (mut rng, mut out) = (Rng::new(7), Vec::new());
        assert_eq!(workload.encode_next(&mut rng, &mut out), Kind::Set);
        let text = String::from_utf8(out).unwrap();
        let (head, value) = text
            .split_once("\r\n$3\r\n")
            .map(|(_, rest)| rest.split_at(30))
            .unwrap();
        assert_eq!(head, "SET\r\n$16\r\nkey:000000000000\r\n$3");
        assert_eq!(value.len(), 2 + 3 + 2);
        let mut out = Vec::new();
        encode_get(KEYS_MAX - 1, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$16\r\nkey:999999999999\r\n");
    }

    #[test]
    fn sequential_keys_begin_again_after_the_last() {
        let workload = Workload::new(100, (3, Order::Sequential), 1);
        let keys: Vec<u64> = (0..7).map(|_| workload.take_key()).collect();
        assert_eq!(keys, [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn reads_and_keys_are_drawn_evenly_and_apart() {
        let workload = Workload::new(30, (2, Order::Random), 1);
        let (mut rng, mut out) = (Rng::new(7), Vec::new());
        let mut counts = [[0_u32; 2]; 2];
        for _ in 0..40_000 {
            out.clear();
            let kind = workload.encode_next(&mut rng, &mut out);
            let at = out.windows(4).position(|window| window == b"key:").unwrap();
            counts[kind.index()][usize::from(out[at + 15] - b'0')] += 1;
        }
        for key in 0..2 {
            assert!(
                (5_700..6_300).contains(&counts[Kind::Get.index()][key]),
                "{counts:?}"
            );
            assert!(
                (13_600..14_400).contains(&counts[Kind::Set.index()][key]),
                "{counts:?}"
            );
        }
    }
}
