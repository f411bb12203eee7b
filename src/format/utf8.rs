//! Is this byte stream UTF-8? Answered byte by byte, so that chunk boundaries do not matter.

/// A validator; the well-formed sequences are those of Unicode 15, table 3-7.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Utf8 {
    missing: u8,
    low: u8,
    high: u8,
}

impl Utf8 {
    /// At the start of a character.
    #[must_use]
    pub const fn new() -> Self {
        Self { missing: 0, low: 0x80, high: 0xbf }
    }

    /// False when `byte` cannot come here; the stream is not UTF-8 then.
    #[must_use]
    pub fn accept(&mut self, byte: u8) -> bool {
        if self.missing > 0 {
            let fits = byte >= self.low && byte <= self.high;
            *self = Self { missing: self.missing.saturating_sub(1), ..Self::new() };
            return fits;
        }
        let (missing, low, high) = match byte {
            0..=0x7f => return true,
            0xc2..=0xdf => (1, 0x80, 0xbf),
            0xe0 => (2, 0xa0, 0xbf),
            0xed => (2, 0x80, 0x9f),
            0xe1..=0xef => (2, 0x80, 0xbf),
            0xf0 => (3, 0x90, 0xbf),
            0xf1..=0xf3 => (3, 0x80, 0xbf),
            0xf4 => (3, 0x80, 0x8f),
            _ => return false,
        };
        *self = Self { missing, low, high };
        true
    }

    /// True between characters: the stream may end here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.missing == 0
    }
}

impl Default for Utf8 {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Utf8;
    use proptest::prelude::{any, proptest};
    use std::vec::Vec;

    fn is_utf8(bytes: &[u8]) -> bool {
        let mut utf8 = Utf8::new();
        bytes.iter().all(|byte| utf8.accept(*byte)) && utf8.is_whole()
    }

    #[test]
    fn every_character_is_accepted() {
        for character in '\0'..=char::MAX {
            assert!(is_utf8(character.encode_utf8(&mut [0; 4]).as_bytes()), "{character:?}");
        }
    }

    #[test]
    fn every_pair_and_hard_triple_is_judged_as_core_does() {
        let edges = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff];
        for a in 0..=255_u8 {
            for b in 0..=255_u8 {
                assert_eq!(is_utf8(&[a, b]), core::str::from_utf8(&[a, b]).is_ok());
                for c in edges {
                    assert_eq!(is_utf8(&[a, b, c]), core::str::from_utf8(&[a, b, c]).is_ok());
                    assert_eq!(is_utf8(&[a, b, c, 0x80]), core::str::from_utf8(&[a, b, c, 0x80]).is_ok());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_judged_as_core_does(bytes in any::<Vec<u8>>()) {
            assert_eq!(is_utf8(&bytes), core::str::from_utf8(&bytes).is_ok());
        }
    }
}
