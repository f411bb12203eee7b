//! What does the first sector say a disk is: GPT behind a protective MBR, MBR, or neither? And which partitions do the
//! four records of a sector name, there and in the chain of logical ones? (UEFI 2.10, 5.2; Linux
//! block/partitions/{efi,msdos}.c)

use super::field::{le16, le32, put_le32};

const TABLE: usize = 446;
const RECORD_BYTES: usize = 16;
const FLAG: usize = 0;
const TYPE: usize = 4;
const END_CHS: usize = 5;
const START: usize = 8;
const SIZE: usize = 12;
/// Partition type of a GPT's protective record.
const PROTECTIVE: u8 = 0xEE;
/// Types of the partition that holds the logical ones.
const EXTENDED: [u8; 3] = [0x05, 0x0F, 0x85];
/// Cylinder, head and sector of whatever lies too far out for them: nobody reads more from these.
const FAR_OUT: [u8; 3] = [0xFE, 0xFF, 0xFF];
/// What the kernel needs to see before it believes the records.
const SIGNED: u16 = 0xAA55;

/// Meaning of sector 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mbr {
    /// No 0x55AA, or no partition at all.
    None,
    /// One record, type 0xEE, from block 1 on: a GPT follows.
    Protective {
        /// Which of the four records.
        slot: u8,
        /// Its size in blocks; `0xFFFF_FFFF` when the disk is larger than that or the tool did not care.
        blocks: u32,
    },
    /// Such a record beside others: the kernel believes the GPT, old loaders these.
    Hybrid,
    /// A record of type 0xEE that does not begin at block 1: the kernel believes neither table.
    Unclear,
    /// Real partitions.
    Dos {
        /// The disk signature: first half of a PARTUUID.
        signature: u32,
    },
}

/// One of the four records of a sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// Type; of a record in use even 0, which tools write for "empty" over a partition that is there.
    pub kind: u8,
    /// First block, relative to what the sector counts from.
    pub first: u32,
    /// Size in blocks.
    pub blocks: u32,
}

impl Record {
    /// True when it names a partition: the size alone says so to Linux and to libfdisk, whatever the type is
    /// (`block/partitions/msdos.c`, `is_used_partition` in libfdisk/src/dos.c).
    #[must_use]
    pub const fn is_used(&self) -> bool {
        self.blocks != 0
    }

    /// True for what stands for a GPT.
    #[must_use]
    pub const fn is_protective(&self) -> bool {
        self.kind == PROTECTIVE
    }

    /// True when logical partitions are inside.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        is_extended(self.kind)
    }
}

/// True for the types of a partition that holds logical ones.
#[must_use]
pub fn is_extended(kind: u8) -> bool {
    EXTENDED.contains(&kind)
}

/// The four records of a sector; `None` when it is not signed.
#[must_use]
pub fn records(sector: &[u8]) -> Option<[Record; 4]> {
    let mut all = [Record::default(); 4];
    for (record, raw) in all.iter_mut().zip(sector.get(TABLE..510)?.chunks_exact(RECORD_BYTES)) {
        *record = Record { kind: *raw.get(TYPE)?, first: le32(raw, START)?, blocks: le32(raw, SIZE)? };
    }
    (le16(sector, 510) == Some(SIGNED)).then_some(all)
}

impl Mbr {
    /// Reads the first sector (at least 512 bytes).
    #[must_use]
    pub fn parse(sector: &[u8]) -> Self {
        let Some(records) = records(sector) else { return Self::None };
        let typed = records.iter().filter(|record| record.kind != 0).count();
        let is_empty = typed == 0 && !records.iter().any(Record::is_used);
        let protective = (0..).zip(&records).find(|(_, record)| record.is_protective());
        match (typed, protective) {
            _ if is_empty => Self::None,
            (_, Some((_, record))) if record.first != 1 => Self::Unclear,
            (1, Some((slot, record))) => Self::Protective { slot, blocks: record.blocks },
            (_, Some(_)) => Self::Hybrid,
            // The boot sector of a FAT or NTFS on the whole disk is signed too: its flags are something else.
            (_, None) if !flags(sector).all(|flag| matches!(flag, 0 | 0x80)) => Self::None,
            (_, None) => Self::Dos { signature: le32(sector, 440).unwrap_or_default() },
        }
    }
}

fn flags(sector: &[u8]) -> impl Iterator<Item = u8> {
    let raw = sector.get(TABLE..510).unwrap_or_default();
    raw.chunks_exact(RECORD_BYTES).map(|record| record.get(FLAG).copied().unwrap_or_default())
}

fn record_mut(sector: &mut [u8], slot: u8) -> Option<&mut [u8]> {
    let at = usize::from(slot).checked_mul(RECORD_BYTES)?.checked_add(TABLE)?;
    sector.get_mut(at..510)?.get_mut(..RECORD_BYTES)
}

/// Sets the size of a protective record and nothing else; `None` when there is no such record.
#[must_use]
pub fn set_protective_blocks(sector: &mut [u8], slot: u8, blocks: u32) -> Option<()> {
    put_le32(record_mut(sector, slot)?, SIZE, blocks)
}

/// Sets the size of a partition's record, and its end in the cylinders that nobody counts any more.
#[must_use]
pub fn set_blocks(sector: &mut [u8], slot: u8, blocks: u32) -> Option<()> {
    let record = record_mut(sector, slot)?;
    *record.get_mut(END_CHS..)?.first_chunk_mut()? = FAR_OUT;
    put_le32(record, SIZE, blocks)
}

/// The size a protective record of a disk of `blocks` blocks should have.
#[must_use]
pub fn protective_blocks(blocks: u64) -> u32 {
    u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Mbr, Record, protective_blocks, records, set_blocks, set_protective_blocks};
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::vec::Vec;

    fn sector(types: [u8; 4]) -> [u8; 512] {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xAA]);
        sector[440..444].copy_from_slice(&[4, 3, 2, 1]);
        for (slot, kind) in types.into_iter().enumerate() {
            sector[446 + slot * 16 + 4] = kind;
            sector[446 + slot * 16 + 8] = 1;
            sector[446 + slot * 16 + 12] = 9;
        }
        sector
    }

    #[test]
    fn each_kind_is_told_apart() {
        assert_eq!(Mbr::parse(&[0; 512]), Mbr::None);
        assert_eq!(Mbr::parse(&[]), Mbr::None);
        assert_eq!(Mbr::parse(&sector([0; 4])), Mbr::Dos { signature: 0x0102_0304 }, "a size is enough");
        let mut empty = sector([0; 4]);
        empty[446..510].fill(0);
        assert_eq!(Mbr::parse(&empty), Mbr::None);
        assert_eq!(Mbr::parse(&sector([0xEE, 0, 0, 0])), Mbr::Protective { slot: 0, blocks: 9 });
        assert_eq!(Mbr::parse(&sector([0, 0, 0, 0xEE])), Mbr::Protective { slot: 3, blocks: 9 });
        assert_eq!(Mbr::parse(&sector([0xEE, 0x83, 0, 0])), Mbr::Hybrid);
        assert_eq!(Mbr::parse(&sector([0x83, 0, 0, 0])), Mbr::Dos { signature: 0x0102_0304 });
        let mut unclear = sector([0xEE, 0, 0, 0]);
        unclear[446 + 8] = 63;
        assert_eq!(Mbr::parse(&unclear), Mbr::Unclear);
        let mut ntfs = sector([0x83, 0x6C, 0, 0]);
        ntfs[446 + 16] = 0x72;
        assert_eq!(Mbr::parse(&ntfs), Mbr::None);
    }

    #[test]
    fn the_size_is_capped_and_lands_in_its_record() {
        assert_eq!(protective_blocks(1 << 40), u32::MAX);
        let mut sector = sector([0, 0xEE, 0, 0]);
        set_protective_blocks(&mut sector, 1, protective_blocks(1000)).unwrap();
        assert_eq!(Mbr::parse(&sector), Mbr::Protective { slot: 1, blocks: 999 });
        assert_eq!(set_protective_blocks(&mut sector, 4, 1), None);
    }

    #[test]
    fn only_the_end_of_one_record_changes() {
        let before = sector([0x83, 0x82, 0x05, 0]);
        let mut after = before;
        set_blocks(&mut after, 1, 0x0102_0304).unwrap();
        let differing: Vec<_> = (0..512).filter(|at| before[*at] != after[*at]).collect();
        assert!(differing.iter().all(|at| (446 + 16 + 5..446 + 16 + 16).contains(at)), "{differing:?}");
        assert!(!differing.iter().any(|at| (446 + 16 + 8..446 + 16 + 12).contains(at)), "{differing:?}");
        let all = records(&after).unwrap();
        assert_eq!(all[1], Record { kind: 0x82, first: 1, blocks: 0x0102_0304 });
        assert!(all[2].is_extended() && all[2].is_used() && all[3].is_used(), "of type 0, but not of size 0");
        assert_eq!(set_blocks(&mut after, 4, 1), None);
        assert_eq!(records(&[0; 512]), None);
    }

    proptest! {
        #[test]
        fn no_sector_panics(bytes in any::<Vec<u8>>(), slot: u8, blocks: u32) {
            let mut bytes = bytes;
            let _ = (Mbr::parse(&bytes), records(&bytes));
            let _ = (set_protective_blocks(&mut bytes, slot, 1), set_blocks(&mut bytes, slot, blocks));
        }

        #[test]
        fn what_was_set_is_read(bytes in proptest::collection::vec(any::<u8>(), 512), slot in 0_u8..4, blocks: u32) {
            let mut bytes = bytes;
            bytes[510..].copy_from_slice(&[0x55, 0xAA]);
            let before = records(&bytes).unwrap();
            set_blocks(&mut bytes, slot, blocks).unwrap();
            for (at, record) in records(&bytes).unwrap().into_iter().enumerate() {
                let is_it = at == usize::from(slot);
                prop_assert_eq!(record, Record { blocks: if is_it { blocks } else { before[at].blocks }, ..before[at] });
                prop_assert_eq!(record.is_used(), record.blocks != 0);
            }
        }
    }
}
