//! What does a GUID partition table say, and how is one partition's end changed? (UEFI 2.10, 5.3)
//!
//! ```text
//! LBA 0               1        2 ...          first usable ... last usable      ... n-2   n-1
//! protective MBR | header | entries | ... |        partitions        | ... | entries | header
//!                     primary                                                  backup
//! ```
//!
//! Our own code and not `gpt_disk_types`: we change one field and must keep every byte we do not know
//! (headers longer than 92 bytes, entries above 128, reserved fields), while that crate checksums a fixed
//! 92 bytes and holds entries by value.

use super::crc32::Crc32;
use super::field::{le32, le64, put_le32, put_le64};
use super::guid::Guid;
use crate::error::Result;
use crate::limits;

const WHAT: &str = "GPT";
/// LBA of the primary header.
pub const PRIMARY_LBA: u64 = 1;
const SIGNATURE: &[u8; 8] = b"EFI PART";
/// Bytes of a header of revision 1.0.
const HEADER_BYTES: usize = 92;
const ENTRY_BYTES: core::ops::RangeInclusive<u32> = 128..=4096;
/// Where a partition entry keeps its last LBA.
pub const LAST_LBA_FIELD: u64 = 40;

/// Logical block size of a disk: 512 or 4096 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockSize(u32);

impl BlockSize {
    /// Only what disks have.
    ///
    /// # Errors
    /// `Unsupported`.
    pub const fn new(bytes: u32) -> Result<Self> {
        match bytes {
            512 | 4096 => Ok(Self(bytes)),
            _ => Err(unsupported!("disk", "logical sectors of neither 512 nor 4096 bytes")),
        }
    }

    /// Bytes of a block.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Bytes of a block, for slices.
    #[must_use]
    pub const fn as_usize(self) -> usize {
        self.0 as usize
    }

    /// Blocks that hold so many bytes.
    #[must_use]
    pub fn blocks_for(self, bytes: u64) -> u64 {
        bytes.div_ceil(self.bytes())
    }
}

/// How large a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DiskSize {
    /// Its logical block size.
    pub block: BlockSize,
    /// Its number of blocks, at least 6: two headers, two arrays, the protective MBR, one block of data.
    pub blocks: u64,
}

impl DiskSize {
    /// A disk of so many bytes; a broken last block does not count.
    ///
    /// # Errors
    /// `Unsupported` for odd block sizes and disks too small for a table.
    pub fn new(size_bytes: u64, block: BlockSize) -> Result<Self> {
        match size_bytes.checked_div(block.bytes()) {
            Some(blocks) if blocks >= 6 => Ok(Self { block, blocks }),
            _ => Err(unsupported!("disk", "too small for a partition table")),
        }
    }

    /// The last block, where the backup header belongs.
    #[must_use]
    pub fn last_lba(self) -> u64 {
        self.blocks.saturating_sub(1)
    }

    /// Byte offset of a block; saturates far beyond any disk.
    #[must_use]
    pub fn offset(self, lba: u64) -> u64 {
        lba.saturating_mul(self.block.bytes())
    }
}

/// A header whose checksum and bounds hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GptHeader {
    /// Bytes of the header that its checksum covers (92 to a block).
    pub header_bytes: u32,
    /// Where this header is.
    pub my_lba: u64,
    /// Where the other one should be; not checked.
    pub alternate_lba: u64,
    /// First block partitions may use.
    pub first_usable_lba: u64,
    /// Last block partitions may use.
    pub last_usable_lba: u64,
    /// Identity of the disk.
    pub disk_guid: Guid,
    /// First block of the entries that belong to this header.
    pub entries_lba: u64,
    /// Number of entries, used or not.
    pub entry_count: u32,
    /// Bytes of an entry: 128 times a power of two, up to 4096.
    pub entry_bytes: u32,
    /// Checksum of the entries.
    pub entries_crc: u32,
}

impl GptHeader {
    /// Reads the header at block `at`. `sector` is that whole block.
    ///
    /// # Errors
    /// `Malformed` (the rule says which), `Unsupported` for a later revision, `TooMany` for an entry array
    /// above [`limits::GPT_ARRAY`].
    pub fn parse(sector: &[u8], at: u64, disk: DiskSize) -> Result<Self> {
        if !is_signed(sector) {
            return Err(malformed!(WHAT, "no EFI PART signature", at));
        }
        if le32(sector, 8) != Some(0x0001_0000) {
            return Err(unsupported!(WHAT, "revision other than 1.0"));
        }
        let fields = Self::fields(sector).ok_or(malformed!(WHAT, "header shorter than 92 bytes", at))?;
        if Some(header_crc(sector, fields.header_bytes).ok_or(malformed!(WHAT, "header size", at))?)
            != le32(sector, 16)
        {
            return Err(malformed!(WHAT, "header checksum", at));
        }
        fields.check(at, disk).map(|()| fields)
    }

    fn fields(sector: &[u8]) -> Option<Self> {
        Some(Self {
            header_bytes: le32(sector, 12)?,
            my_lba: le64(sector, 24)?,
            alternate_lba: le64(sector, 32)?,
            first_usable_lba: le64(sector, 40)?,
            last_usable_lba: le64(sector, 48)?,
            disk_guid: Guid::from_mixed(*sector.get(56..)?.first_chunk()?),
            entries_lba: le64(sector, 72)?,
            entry_count: le32(sector, 80)?,
            entry_bytes: le32(sector, 84)?,
            entries_crc: le32(sector, 88)?,
        })
    }

    fn check(&self, at: u64, disk: DiskSize) -> Result<()> {
        if self.my_lba != at {
            return Err(malformed!(WHAT, "header is not where it says", at));
        }
        if !ENTRY_BYTES.contains(&self.entry_bytes) || !self.entry_bytes.is_power_of_two() {
            return Err(malformed!(WHAT, "entry size", at));
        }
        if self.entry_count == 0 {
            return Err(malformed!(WHAT, "no entries", at));
        }
        if self.array_bytes() > limits::GPT_ARRAY as u64 {
            return Err(too_many!("GPT entries, bytes", limits::GPT_ARRAY));
        }
        if self.first_usable_lba > self.last_usable_lba || self.last_usable_lba >= disk.blocks {
            return Err(malformed!(WHAT, "usable blocks outside the disk", at));
        }
        let blocks = disk.block.blocks_for(self.array_bytes());
        let end =
            self.entries_lba.checked_add(blocks).ok_or(malformed!(WHAT, "entries outside the disk", at))?;
        // Each on its side of the partitions: a primary's entries behind them would be in a grown one's way.
        let is_apart = if at == PRIMARY_LBA {
            self.entries_lba > PRIMARY_LBA && end <= self.first_usable_lba
        } else {
            self.entries_lba > self.last_usable_lba && end <= disk.blocks
        };
        let holds_header = (self.entries_lba..end).contains(&at);
        let header_is_usable = (self.first_usable_lba..=self.last_usable_lba).contains(&at);
        if !is_apart || holds_header || header_is_usable {
            return Err(malformed!(WHAT, "entries, headers and usable blocks overlap", at));
        }
        Ok(())
    }

    /// Writes the fields over `sector` (a whole block) and its checksum last. Other bytes stay, so `sector`
    /// is best the block that was read.
    ///
    /// # Errors
    /// `Malformed` when the header is larger than the block.
    pub fn emit(&self, sector: &mut [u8]) -> Result<()> {
        self.put(sector).ok_or(malformed!(WHAT, "header larger than its block", self.my_lba))
    }

    fn put(&self, sector: &mut [u8]) -> Option<()> {
        *sector.first_chunk_mut()? = *SIGNATURE;
        put_le32(sector, 8, 0x0001_0000)?;
        put_le32(sector, 12, self.header_bytes)?;
        put_le32(sector, 20, 0)?;
        put_le64(sector, 24, self.my_lba)?;
        put_le64(sector, 32, self.alternate_lba)?;
        put_le64(sector, 40, self.first_usable_lba)?;
        put_le64(sector, 48, self.last_usable_lba)?;
        *sector.get_mut(56..)?.first_chunk_mut()? = self.disk_guid.to_mixed();
        put_le64(sector, 72, self.entries_lba)?;
        put_le32(sector, 80, self.entry_count)?;
        put_le32(sector, 84, self.entry_bytes)?;
        put_le32(sector, 88, self.entries_crc)?;
        let crc = header_crc(sector, self.header_bytes)?;
        put_le32(sector, 16, crc)
    }

    /// Bytes of the entries; at most [`limits::GPT_ARRAY`] in a header that was parsed.
    #[must_use]
    pub fn array_bytes(&self) -> u64 {
        u64::from(self.entry_count).saturating_mul(u64::from(self.entry_bytes))
    }

    /// Checksum of `array` (which may be padded to whole blocks); `None` when it is too short.
    #[must_use]
    pub fn array_crc(&self, array: &[u8]) -> Option<u32> {
        let bytes = usize::try_from(self.array_bytes()).ok()?;
        Some(Crc32::new().with(array.get(..bytes)?).value())
    }

    /// The entries in use, in order of their numbers.
    pub fn entries<'a>(&self, array: &'a [u8]) -> impl Iterator<Item = PartitionEntryView<'a>> + use<'a> {
        let count = usize::try_from(self.entry_count).unwrap_or_default();
        let step = usize::try_from(self.entry_bytes).unwrap_or_default().max(1);
        let all = (1..).zip(array.chunks_exact(step).take(count));
        all.map(|(number, bytes)| PartitionEntryView { number, bytes })
            .filter(|entry| !entry.type_guid().is_zero())
    }

    /// The entry of that number, if it is in use.
    #[must_use]
    pub fn entry<'a>(&self, array: &'a [u8], number: u32) -> Option<PartitionEntryView<'a>> {
        self.entries(array).find(|entry| entry.number == number)
    }

    /// Byte offset, from the start of the array, of the last LBA of an entry.
    #[must_use]
    pub fn last_lba_offset(&self, number: u32) -> Option<u64> {
        let index = number.checked_sub(1).filter(|index| *index < self.entry_count)?;
        u64::from(index).checked_mul(u64::from(self.entry_bytes))?.checked_add(LAST_LBA_FIELD)
    }

    /// Changes the last LBA of an entry and nothing else; `None` when there is no such entry.
    #[must_use]
    pub fn set_last_lba(&self, array: &mut [u8], number: u32, last_lba: u64) -> Option<()> {
        put_le64(array, usize::try_from(self.last_lba_offset(number)?).ok()?, last_lba)
    }
}

/// The checksum is taken with its own field as zero.
fn header_crc(sector: &[u8], header_bytes: u32) -> Option<u32> {
    let header = sector.get(..usize::try_from(header_bytes).ok()?)?;
    if header.len() < HEADER_BYTES {
        return None;
    }
    let (before, behind) = (header.get(..16)?, header.get(20..)?);
    Some(Crc32::new().with(before).with(&[0; 4]).with(behind).value())
}

/// True when signature and checksum of a header hold: nobody tore it, whatever it says.
#[must_use]
pub fn is_whole(sector: &[u8]) -> bool {
    let crc = le32(sector, 12).and_then(|header_bytes| header_crc(sector, header_bytes));
    is_signed(sector) && crc.is_some() && crc == le32(sector, 16)
}

/// True when it begins like a header, torn or not.
#[must_use]
pub fn is_signed(sector: &[u8]) -> bool {
    sector.first_chunk() == Some(SIGNATURE)
}

/// Disk GUID and first block of the entries as an unchecked header has them: no growth changes either, so a torn one
/// still says both.
#[must_use]
pub fn torn_fields(sector: &[u8]) -> Option<(Guid, u64)> {
    let fields = GptHeader::fields(sector).filter(|_| is_signed(sector))?;
    Some((fields.disk_guid, fields.entries_lba))
}

/// Where an unchecked header says the other one is: a hint for finding a backup when the disk has grown
/// since, which must then pass all checks itself.
#[must_use]
pub fn alternate_hint(sector: &[u8]) -> Option<u64> {
    is_signed(sector).then(|| le64(sector, 32)).flatten()
}

/// One used entry as it is on the disk; its blocks are unchecked.
#[derive(Clone, Copy, Debug)]
pub struct PartitionEntryView<'a> {
    /// Partition number, from 1.
    pub number: u32,
    bytes: &'a [u8],
}

impl<'a> PartitionEntryView<'a> {
    /// The entry in these bytes.
    #[must_use]
    pub const fn new(number: u32, bytes: &'a [u8]) -> Self {
        Self { number, bytes }
    }

    fn guid(&self, at: usize) -> Guid {
        let raw = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        raw.map_or_else(Guid::default, |raw| Guid::from_mixed(*raw))
    }

    /// What it is for.
    #[must_use]
    pub fn type_guid(&self) -> Guid {
        self.guid(0)
    }

    /// Its identity: PARTUUID.
    #[must_use]
    pub fn unique_guid(&self) -> Guid {
        self.guid(16)
    }

    /// Attribute bits.
    #[must_use]
    pub fn attributes(&self) -> u64 {
        le64(self.bytes, 48).unwrap_or_default()
    }

    /// First block.
    #[must_use]
    pub fn first_lba(&self) -> u64 {
        le64(self.bytes, 32).unwrap_or_default()
    }

    /// Last block, inclusive.
    #[must_use]
    pub fn last_lba(&self) -> u64 {
        le64(self.bytes, 40).unwrap_or_default()
    }

    /// Number of blocks; `None` when it ends before it starts.
    #[must_use]
    pub fn blocks(&self) -> Option<u64> {
        self.last_lba().checked_sub(self.first_lba())?.checked_add(1)
    }

    /// True when its name (UTF-16, up to 36 units, ended by 0) is `name`: PARTLABEL.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        let raw = self.bytes.get(56..128).unwrap_or_default();
        let units = raw.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
        !name.is_empty() && units.take_while(|unit| *unit != 0).eq(name.encode_utf16())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{BlockSize, DiskSize, GptHeader, Guid, PRIMARY_LBA, alternate_hint, is_whole};
    use crate::error::Kind;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::vec::Vec;

    /// What sgdisk would write: a header for a disk of `blocks`, its checksum of the array still 0.
    pub(crate) fn header(disk: DiskSize, entry_count: u32, entry_bytes: u32) -> GptHeader {
        let array = disk.block.blocks_for(u64::from(entry_count) * u64::from(entry_bytes));
        GptHeader {
            header_bytes: 92,
            my_lba: PRIMARY_LBA,
            alternate_lba: disk.last_lba(),
            first_usable_lba: 2 + array,
            last_usable_lba: disk.last_lba() - array - 1,
            disk_guid: Guid::from_text_order([7; 16]),
            entries_lba: 2,
            entry_count,
            entry_bytes,
            entries_crc: 0,
        }
    }

    /// Fills one entry; its unique GUID is its number.
    pub(crate) fn put_entry(array: &mut [u8], header: &GptHeader, number: u32, first: u64, last: u64) {
        let entry = &mut array[(number - 1) as usize * header.entry_bytes as usize..];
        entry[..16].fill(0xAB);
        entry[16..32].fill(number as u8);
        entry[32..40].copy_from_slice(&first.to_le_bytes());
        entry[40..48].copy_from_slice(&last.to_le_bytes());
        entry[48..56].copy_from_slice(&[number as u8, 0, 0, 0, 0, 0, 0, 0x80]);
        entry[56..128].fill(0);
        for (i, unit) in std::format!("part {number}").encode_utf16().enumerate() {
            entry[56 + 2 * i..58 + 2 * i].copy_from_slice(&unit.to_le_bytes());
        }
    }

    fn disk(blocks: u64, block: u32) -> DiskSize {
        let block = BlockSize::new(block).unwrap();
        DiskSize::new(blocks * block.bytes(), block).unwrap()
    }

    #[test]
    fn a_header_round_trips_and_keeps_unknown_bytes() {
        for (block, header_bytes) in [(512, 92), (512, 512), (4096, 100)] {
            let disk = disk(4096, block);
            let header = GptHeader { header_bytes, ..header(disk, 128, 128) };
            let mut sector = std::vec![0x5A; disk.block.as_usize()];
            header.emit(&mut sector).unwrap();
            assert_eq!(GptHeader::parse(&sector, 1, disk), Ok(header));
            assert!(sector[92..].iter().all(|b| *b == 0x5A));
            assert_eq!(alternate_hint(&sector), Some(4095));
        }
    }

    #[test]
    fn every_bit_of_a_header_is_guarded() {
        let disk = disk(4096, 512);
        let mut sector = std::vec![0; 512];
        header(disk, 128, 128).emit(&mut sector).unwrap();
        for bit in 0..92 * 8 {
            sector[bit / 8] ^= 1 << (bit % 8);
            assert!(GptHeader::parse(&sector, 1, disk).is_err(), "bit {bit}");
            sector[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(GptHeader::parse(&sector, 1, disk).is_ok());
        assert!(GptHeader::parse(&sector, 2, disk).is_err());
        assert!(GptHeader::parse(&sector[..91], 1, disk).is_err());
    }

    type Change = fn(&mut GptHeader);

    #[test]
    fn bounds_hold_even_under_a_good_checksum() {
        let disk = disk(4096, 512);
        let cases: [(&str, Change); 13] = [
            ("entry size", |h| h.entry_bytes = 64),
            ("entry size", |h| h.entry_bytes = 192),
            ("entry size", |h| h.entry_bytes = 8192),
            ("no entries", |h| h.entry_count = 0),
            ("GPT entries, bytes", |h| h.entry_count = u32::MAX),
            ("header size", |h| h.header_bytes = 91),
            ("usable blocks outside the disk", |h| h.last_usable_lba = 4096),
            ("usable blocks outside the disk", |h| h.first_usable_lba = u64::MAX),
            ("entries outside the disk", |h| h.entries_lba = u64::MAX),
            ("entries, headers and usable blocks overlap", |h| h.entries_lba = 1),
            ("entries, headers and usable blocks overlap", |h| h.entries_lba = 3),
            ("entries, headers and usable blocks overlap", |h| h.entries_lba = h.last_usable_lba + 1),
            ("entries, headers and usable blocks overlap", |h| h.first_usable_lba = 0),
        ];
        for (rule, change) in cases {
            let mut header = header(disk, 128, 128);
            change(&mut header);
            let mut sector = std::vec![0; 512];
            // A header size that is refused cannot be emitted either: put the field in by hand.
            let good = GptHeader { header_bytes: 92, ..header };
            good.emit(&mut sector).unwrap();
            if header.header_bytes != 92 {
                sector[12..16].copy_from_slice(&header.header_bytes.to_le_bytes());
            }
            let error = GptHeader::parse(&sector, 1, disk).unwrap_err();
            assert_eq!(error.reason(), rule, "{header:?}");
            assert_eq!(is_whole(&sector), header.header_bytes == 92);
        }
    }

    #[test]
    fn larger_arrays_are_too_many_not_cut() {
        let disk = disk(1 << 20, 512);
        let mut sector = std::vec![0; 512];
        header(disk, 256, 4096).emit(&mut sector).unwrap();
        let error = GptHeader::parse(&sector, 1, disk).unwrap_err();
        assert!(error.is(Kind::TooMany));
    }

    #[test]
    fn one_field_of_one_entry_changes() {
        for entry_bytes in [128, 256, 4096] {
            let disk = disk(4096, 512);
            let mut header = header(disk, 8, entry_bytes);
            let mut array = std::vec![0; header.array_bytes() as usize];
            put_entry(&mut array, &header, 1, 100, 200);
            put_entry(&mut array, &header, 8, 50, 99);
            let before = array.clone();
            header.entries_crc = header.array_crc(&array).unwrap();
            header.set_last_lba(&mut array, 1, 3000).unwrap();
            let differing: Vec<_> = (0..array.len()).filter(|i| array[*i] != before[*i]).collect();
            assert!(differing.iter().all(|i| (40..48).contains(i)), "{differing:?}");
            assert_ne!(header.array_crc(&array), Some(header.entries_crc));
            let entry = header.entry(&array, 1).unwrap();
            assert_eq!((entry.first_lba(), entry.last_lba(), entry.blocks()), (100, 3000, Some(2901)));
            assert!(entry.has_name("part 1") && !entry.has_name("part 11") && !entry.has_name(""));
            assert_eq!(entry.unique_guid(), Guid::from_text_order([1; 16]));
            assert_eq!(header.entries(&array).map(|e| e.number).collect::<Vec<_>>(), [1, 8]);
            assert!(header.entry(&array, 2).is_none() && header.entry(&array, 0).is_none());
            assert!(header.set_last_lba(&mut array, 9, 1).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), at: u64, blocks in 6_u64..1 << 40) {
            let _ = GptHeader::parse(&bytes, at, disk(blocks, 512));
            let _ = (alternate_hint(&bytes), is_whole(&bytes));
        }

        #[test]
        fn no_entries_panic(array in any::<Vec<u8>>(), count: u32, entry_bytes: u32, number: u32) {
            let disk = disk(4096, 512);
            let header = GptHeader { entry_count: count, entry_bytes, ..header(disk, 128, 128) };
            for entry in header.entries(&array) {
                let _ = (entry.blocks(), entry.unique_guid(), entry.has_name("root"));
            }
            let mut array = array;
            let _ = (header.array_crc(&array), header.set_last_lba(&mut array, number, 1));
        }

        /// With a repaired checksum any field may hold anything.
        #[test]
        fn a_hostile_header_is_refused_or_in_bounds(
            my in 0_u64..3, first: u64, last: u64, entries: u64, count in 0_u32..400, power in 5_u32..14,
        ) {
            let disk = disk(4096, 512);
            let hostile = GptHeader {
                my_lba: my, first_usable_lba: first, last_usable_lba: last, entries_lba: entries,
                entry_count: count, entry_bytes: 1 << power, ..header(disk, 128, 128)
            };
            let mut sector = std::vec![0; 512];
            hostile.emit(&mut sector).unwrap();
            if let Ok(header) = GptHeader::parse(&sector, 1, disk) {
                prop_assert_eq!(header, hostile);
                prop_assert!(header.entries_lba + disk.block.blocks_for(header.array_bytes()) <= 4096);
            }
        }
    }
}
