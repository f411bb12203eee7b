//! Which 128-bit identity does a disk, a partition or a file system have?

use core::fmt;

/// Sixteen bytes in the order of the text form. GPT stores the first three groups little-endian, file
/// systems store all of them in text order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guid([u8; 16]);

/// Where the bytes of GPT's form go in the text form (UEFI 2.10, appendix A).
const MIXED: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// From bytes in text order, as ext4, xfs and btrfs store it.
    #[must_use]
    pub const fn from_text_order(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// From GPT's mixed-endian bytes.
    #[must_use]
    pub fn from_mixed(bytes: [u8; 16]) -> Self {
        Self(MIXED.map(|at| bytes.get(at).copied().unwrap_or_default()))
    }

    /// As GPT's mixed-endian bytes (the order is its own inverse).
    #[must_use]
    pub fn to_mixed(self) -> [u8; 16] {
        Self::from_mixed(self.0).0
    }

    /// From two words of this machine's memory that hold the bytes in text order.
    #[must_use]
    pub fn from_words(first: u64, second: u64) -> Self {
        let mut bytes = [0; 16];
        let all = first.to_ne_bytes().into_iter().chain(second.to_ne_bytes());
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        Self(bytes)
    }

    /// The first group of the text form, which is enough to tell known types apart.
    #[must_use]
    pub const fn first_group(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }

    /// What stands for the PARTUUID `signature-number` of an MBR partition: of no kind that a GUID can be (its variant
    /// bits are of NCS), so that no GPT entry has it by chance.
    #[must_use]
    pub const fn of_mbr(signature: u32, number: u8) -> Self {
        let [a, b, c, d] = signature.to_be_bytes();
        Self([a, b, c, d, b'M', b'B', b'R', 0, 0, number, 0, 0, 0, 0, 0, 0])
    }

    /// True for the all-zero value, which marks an unused partition entry.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }

    /// Reads `8-4-4-4-12` hexadecimal digits of either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 36 {
            return None;
        }
        let mut digits = text.bytes().enumerate().filter_map(|(i, byte)| match (i, byte) {
            (8 | 13 | 18 | 23, b'-') => None,
            (8 | 13 | 18 | 23, _) => Some(None),
            _ => Some(char::from(byte).to_digit(16)),
        });
        let mut bytes = [0; 16];
        for byte in &mut bytes {
            let (high, low) = (digits.next()??, digits.next()??);
            *byte = u8::try_from(high << 4 | low).ok()?;
        }
        digits.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Guid;
    use proptest::prelude::{any, proptest};
    use std::string::ToString;

    /// UEFI 2.10 appendix A: the EFI system partition's type, as stored and as written.
    #[test]
    fn gpt_stores_three_groups_little_endian() {
        let stored =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        let guid = Guid::from_mixed(stored);
        assert_eq!(guid.to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
        assert_eq!(guid.to_mixed(), stored);
    }

    #[test]
    fn other_shapes_are_not_guids() {
        for bad in
            ["", "6f4a-beef", "c12a7328xf81f-11d2-ba4b-00a0c93ec93b", "{12a7328-f81f-11d2-ba4b-00a0c93ec93b"]
        {
            assert_eq!(Guid::parse(bad), None, "{bad}");
        }
        assert!(Guid::parse("C12A7328-F81F-11D2-BA4B-00A0C93EC93B").is_some());
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 16]) {
            let guid = Guid::from_text_order(bytes);
            assert_eq!(Guid::parse(&guid.to_string()), Some(guid));
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Guid::parse(&text);
        }
    }
}
