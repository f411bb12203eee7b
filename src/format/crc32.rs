//! Which checksum protects a GPT? CRC-32 of IEEE 802.3, reflected (UEFI 2.10, 5.3.2).
//! A 16-entry table: 64 bytes, and a 16 KiB entry array takes microseconds.

/// Remainders of the sixteen nibbles for the reflected polynomial 0xEDB88320.
const NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut nibble = 0_usize;
    while nibble < 16 {
        let mut rest = nibble as u32;
        let mut bit = 0;
        while bit < 4 {
            rest = if rest & 1 == 1 { (rest >> 1) ^ 0xEDB8_8320 } else { rest >> 1 };
            bit += 1;
        }
        #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
        {
            table[nibble] = rest;
        }
        nibble += 1;
    }
    table
};

/// A checksum that grows piece by piece.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Crc32 {
    /// Of nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(u32::MAX)
    }

    /// Adds bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let nibble = |rest: u32| {
            let at = (rest & 15) as usize;
            (rest >> 4) ^ NIBBLES.get(at).copied().unwrap_or_default()
        };
        Self(bytes.iter().fold(self.0, |rest, byte| nibble(nibble(rest ^ u32::from(*byte)))))
    }

    /// The checksum.
    #[must_use]
    pub const fn value(self) -> u32 {
        !self.0
    }
}

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Crc32;

    /// The check value every catalogue gives for CRC-32/ISO-HDLC.
    #[test]
    fn the_check_value_is_right() {
        assert_eq!(Crc32::new().with(b"123456789").value(), 0xCBF4_3926);
        assert_eq!(Crc32::new().with(b"12345").with(b"6789").value(), 0xCBF4_3926);
        assert_eq!(Crc32::new().value(), 0);
    }
}
