//! What does the first sector say a disk is: GPT behind a protective MBR, MBR, or neither?
//! (UEFI 2.10, 5.2)

use super::field::{le16, le32, put_le32};

const TABLE: usize = 446;
const RECORD_BYTES: usize = 16;
const TYPE: usize = 4;
const SIZE: usize = 12;
/// Partition type of a GPT's protective record.
const PROTECTIVE: u8 = 0xEE;

/// Meaning of sector 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mbr {
    /// No 0x55AA, or no partition at all.
    None,
    /// One record, type 0xEE: a GPT follows.
    Protective {
        /// Which of the four records.
        slot: u8,
        /// Its size in blocks; 0xFFFF_FFFF when the disk is larger than that or the tool did not care.
        blocks: u32,
    },
    /// A protective record beside real ones: two tables that must agree, which only their maker can keep.
    Hybrid,
    /// Real partitions.
    Dos {
        /// The disk signature: first half of a PARTUUID.
        signature: u32,
    },
}

impl Mbr {
    /// Reads the first sector (at least 512 bytes).
    #[must_use]
    pub fn parse(sector: &[u8]) -> Self {
        if le16(sector, 510) != Some(0xAA55) {
            return Self::None;
        }
        let records = sector.get(TABLE..510).unwrap_or_default().chunks_exact(RECORD_BYTES);
        let kind = |record: &[u8]| record.get(TYPE).copied().unwrap_or_default();
        let used = records.clone().filter(|record| kind(record) != 0).count();
        match (used, (0..).zip(records).find(|(_, record)| kind(record) == PROTECTIVE)) {
            (0, _) => Self::None,
            (1, Some((slot, record))) => {
                Self::Protective { slot, blocks: le32(record, SIZE).unwrap_or_default() }
            }
            (_, Some(_)) => Self::Hybrid,
            (_, None) => Self::Dos { signature: le32(sector, 440).unwrap_or_default() },
        }
    }
}

/// Sets the size of a protective record; `None` when there is no such record.
#[must_use]
pub fn set_protective_blocks(sector: &mut [u8], slot: u8, blocks: u32) -> Option<()> {
    let at = usize::from(slot).checked_mul(RECORD_BYTES)?.checked_add(TABLE)?;
    let record = sector.get_mut(at..510)?.get_mut(..RECORD_BYTES)?;
    put_le32(record, SIZE, blocks)
}

/// The size a protective record of a disk of `blocks` blocks should have.
#[must_use]
pub fn protective_blocks(blocks: u64) -> u32 {
    u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Mbr, protective_blocks, set_protective_blocks};
    use proptest::prelude::{any, proptest};

    fn sector(types: [u8; 4]) -> [u8; 512] {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector[440..444].copy_from_slice(&[4, 3, 2, 1]);
        for (slot, kind) in types.into_iter().enumerate() {
            sector[446 + slot * 16 + 4] = kind;
            sector[446 + slot * 16 + 12] = 9;
        }
        sector
    }

    #[test]
    fn each_kind_is_told_apart() {
        assert_eq!(Mbr::parse(&[0; 512]), Mbr::None);
        assert_eq!(Mbr::parse(&[]), Mbr::None);
        assert_eq!(Mbr::parse(&sector([0; 4])), Mbr::None);
        assert_eq!(Mbr::parse(&sector([0xEE, 0, 0, 0])), Mbr::Protective { slot: 0, blocks: 9 });
        assert_eq!(Mbr::parse(&sector([0, 0, 0, 0xEE])), Mbr::Protective { slot: 3, blocks: 9 });
        assert_eq!(Mbr::parse(&sector([0xEE, 0x83, 0, 0])), Mbr::Hybrid);
        assert_eq!(Mbr::parse(&sector([0x83, 0, 0, 0])), Mbr::Dos { signature: 0x0102_0304 });
    }

    #[test]
    fn the_size_is_capped_and_lands_in_its_record() {
        assert_eq!(protective_blocks(1 << 40), u32::MAX);
        let mut sector = sector([0, 0xEE, 0, 0]);
        set_protective_blocks(&mut sector, 1, protective_blocks(1000)).unwrap();
        assert_eq!(Mbr::parse(&sector), Mbr::Protective { slot: 1, blocks: 999 });
        assert_eq!(set_protective_blocks(&mut sector, 4, 1), None);
    }

    proptest! {
        #[test]
        fn no_sector_panics(bytes in any::<Vec<u8>>(), slot: u8) {
            let mut bytes = bytes;
            let _ = Mbr::parse(&bytes);
            let _ = set_protective_blocks(&mut bytes, slot, 1);
        }
    }
}
