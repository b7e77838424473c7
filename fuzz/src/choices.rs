//! Choices taken from the front of the fuzzer's bytes, one after another; 0 when none are left, so
//! every input means something.

/// What is left of the fuzzer's bytes.
#[derive(Clone, Debug)]
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// Says whether no bytes are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        byte
    }

    /// Takes a number of eight bytes, little-endian, or of as many as are left.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, n| number | u64::from(self.byte()) << (8 * n))
    }

    /// Takes a number of two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// Takes up to `bytes` bytes.
    pub fn bytes(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
