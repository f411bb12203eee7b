//! How far can a partition grow? Pure: a table, the disk's size and the kernel's view in, a plan out.

use super::mbr_table::{is_extended, record_lba};
use super::table::Table;
use crate::error::Result;
use crate::format::gpt::{DiskSize, PartitionEntryView};
use crate::format::mbr::protective_blocks;
use crate::sys::KernelPartition;

/// New ends are aligned down to this, as all partition tools align; and less than this is not worth a write
/// (growpart's fudge, so that it has nothing left to do either).
pub const ALIGNMENT: u64 = 1024 * 1024;

/// What an MBR leaves free at the end of the disk: room for the backup of a GPT, should it become one (growpart's 33
/// sectors).
const MBR_RESERVE: u64 = 33;
/// First block that no record of an MBR reaches, with room for an end that is aligned.
const MBR_LIMIT: u64 = u32::MAX as u64;

/// What growing is worth, and where it ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// New ends are aligned down to this, in bytes; 0: to a block.
    pub alignment: u64,
    /// Less than this many bytes is not worth a write.
    pub least_bytes: u64,
    /// Blocks that stay free before whatever ends the partition.
    pub free_blocks: u64,
    /// Blocks at the end of the disk that are no partition's, whatever the table is.
    pub end_blocks: u64,
}

impl Rules {
    /// Those of the root.
    pub const ROOT: Self =
        Self { alignment: ALIGNMENT, least_bytes: ALIGNMENT, free_blocks: 0, end_blocks: 0 };
}

/// The new end of what a record of an MBR names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordEnd {
    /// The block that holds the record.
    pub at: u64,
    /// What its first block is counted from.
    pub base: u64,
    /// First block of what it names.
    pub first: u64,
    /// Its last block tomorrow.
    pub last: u64,
    /// It is the extended partition, or a link inside of it.
    pub is_extended: bool,
}

/// What will be done to one partition, as plain data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Growth {
    /// Its number.
    pub number: u32,
    /// The disk.
    pub disk: DiskSize,
    /// Its first block.
    pub first_lba: u64,
    /// Its last block today.
    pub old_last_lba: u64,
    /// Its last block tomorrow.
    pub new_last_lba: u64,
    /// The last block partitions may use, tomorrow.
    pub last_usable_lba: u64,
    /// The last block it could have, before alignment.
    pub limit: u64,
    /// The partition that follows it on the disk.
    pub next: Option<u32>,
    /// The records of an MBR that change, in the order they are written: a partition is never larger than what it is
    /// in.
    pub records: [Option<RecordEnd>; 3],
    /// Something behind the limit is lost to it: an MBR ends at 2^32 blocks.
    pub is_cut: bool,
    /// The backup of the table is written anew.
    pub repairs_backup: bool,
    /// New size in the protective MBR, if it must change.
    pub mbr_blocks: Option<u32>,
    /// An extended partition: the kernel's own for it is a token of two sectors that keeps its size.
    pub is_token: bool,
    /// The kernel knows the partition and must be told of its new size.
    pub needs_kernel_resize: bool,
}

impl Growth {
    /// True when the table itself changes.
    #[must_use]
    pub fn needs_table(&self) -> bool {
        self.new_last_lba != self.old_last_lba
    }

    /// True when anything on the disk changes.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.needs_table() || self.mbr_blocks.is_some() || self.repairs_backup
    }

    /// True when all is as it should be.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.writes() && !self.needs_kernel_resize
    }

    /// Size today.
    #[must_use]
    pub fn old_bytes(&self) -> u64 {
        self.bytes_to(self.old_last_lba)
    }

    /// Size tomorrow.
    #[must_use]
    pub fn new_bytes(&self) -> u64 {
        self.bytes_to(self.new_last_lba)
    }

    /// The partition tomorrow, for BLKPG.
    #[must_use]
    pub fn kernel_partition(&self) -> KernelPartition {
        KernelPartition {
            number: self.number,
            start_bytes: self.disk.offset(self.first_lba),
            length_bytes: self.new_bytes(),
        }
    }

    fn bytes_to(&self, last_lba: u64) -> u64 {
        self.disk.offset(last_lba.saturating_add(1).saturating_sub(self.first_lba))
    }
}

/// Plans the growth of partition `number`. `kernel` is what the kernel has for it, if anything.
///
/// # Errors
/// `Malformed` when the table contradicts itself; `Unsupported` when the kernel and the table disagree, a hybrid MBR
/// has the partition too, or the disk became smaller: then all is left alone.
pub fn plan(
    table: &Table,
    array: &[u8],
    number: u32,
    kernel: Option<KernelPartition>,
    rules: Rules,
) -> Result<Growth> {
    let disk = table.disk;
    let entry = table.header.entry(array, number).ok_or(malformed!(
        "partition table",
        "no such partition",
        u64::from(number)
    ))?;
    let (first, last) = (entry.first_lba(), entry.last_lba());
    let beside = || table.hybrid.iter().map(|start| u64::from(*start)).filter(|start| *start != 0);
    if beside().any(|start| (first..=last).contains(&start)) {
        return Err(unsupported!("partition table", "the hybrid MBR has this partition too"));
    }
    let last_usable_lba = last_usable(table)?;
    for other in table.header.entries(array) {
        check_blocks(&other, table.header.first_usable_lba, last_usable_lba)?;
    }
    let next = nearest_behind(table, array, &entry)?;
    // What only a hybrid MBR names is somebody's too.
    let starts = beside().filter(|start| *start > last).chain(next.map(|(_, start)| start));
    let room = starts.min().map_or(last_usable_lba, |start| start.saturating_sub(1));
    let end = if table.is_mbr { mbr_end(disk) } else { disk.last_lba().saturating_sub(rules.end_blocks) };
    let limit = room.min(end).saturating_sub(rules.free_blocks);
    let new_last_lba = grown_end(disk, last, limit, rules);
    let mut growth = Growth {
        number,
        disk,
        first_lba: first,
        old_last_lba: last,
        new_last_lba,
        last_usable_lba,
        limit,
        next: next.map(|(number, _)| number),
        records: [None; 3],
        is_cut: table.is_mbr && next.is_none() && disk.blocks > MBR_LIMIT,
        repairs_backup: false,
        mbr_blocks: None,
        is_token: table.is_mbr && is_extended(&entry),
        needs_kernel_resize: false,
    };
    growth.mbr_blocks = stale_mbr(table, &growth);
    growth.repairs_backup = table.backup_is_damaged && !growth.needs_table();
    if table.is_mbr && growth.needs_table() {
        growth.records = record_ends(table, array, &entry, new_last_lba);
    }
    let kernel = kernel.filter(|_| !growth.is_token);
    growth.needs_kernel_resize =
        kernel.map(|kernel| is_behind(kernel, &growth)).transpose()?.unwrap_or_default();
    Ok(growth)
}

/// What begins first behind a partition: its number and first block. A logical partition begins with its record, and
/// is inside of the extended one.
fn nearest_behind(table: &Table, array: &[u8], entry: &PartitionEntryView<'_>) -> Result<Option<(u32, u64)>> {
    let (first, last) = (entry.first_lba(), entry.last_lba());
    let is_logical = |entry: &PartitionEntryView<'_>| table.is_mbr && record_lba(entry) != 0;
    let is_outer = |entry: &PartitionEntryView<'_>| table.is_mbr && is_extended(entry);
    let mut nearest: Option<(u32, u64)> = None;
    for other in table.header.entries(array).filter(|other| other.number != entry.number) {
        if is_logical(entry) && is_outer(&other) || is_outer(entry) && is_logical(&other) {
            continue;
        }
        let record = if is_logical(&other) { record_lba(&other) } else { other.first_lba() };
        if other.first_lba() <= last && other.last_lba() >= first || (first..=last).contains(&record) {
            return Err(malformed!("partition table", "partitions overlap", u64::from(entry.number)));
        }
        for start in [record, other.first_lba()] {
            if start > last && nearest.is_none_or(|(_, nearest)| start < nearest) {
                nearest = Some((other.number, start));
            }
        }
    }
    Ok(nearest)
}

/// The last block that a partition of an MBR may have: sizes and starts have 32 bits.
fn mbr_end(disk: DiskSize) -> u64 {
    disk.last_lba().saturating_sub(MBR_RESERVE).min(MBR_LIMIT.saturating_sub(1))
}

/// The extended partition grows with the last logical one in it, and so does the link that names this one.
fn record_ends(
    table: &Table,
    array: &[u8],
    entry: &PartitionEntryView<'_>,
    last: u64,
) -> [Option<RecordEnd>; 3] {
    let at = record_lba(entry);
    let own =
        Some(RecordEnd { at, base: at, first: entry.first_lba(), last, is_extended: is_extended(entry) });
    let entries = || table.header.entries(array);
    let Some(outer) = entries().find(is_extended).filter(|_| at != 0) else { return [own, None, None] };
    let base = outer.first_lba();
    let extended = RecordEnd { at: 0, base: 0, first: base, last, is_extended: true };
    let before = entries().find(|other| other.number.checked_add(1) == Some(entry.number));
    let before = before.as_ref().map(record_lba).filter(|lba| *lba != 0).unwrap_or(base);
    let link = RecordEnd { at: before, base, first: at, last, is_extended: true };
    [(outer.last_lba() < last).then_some(extended), (at != base).then_some(link), own]
}

/// Where partitions may end once the backup has moved to the end of the disk. A table that is there already
/// keeps its own word.
fn last_usable(table: &Table) -> Result<u64> {
    let last = table.disk.last_lba();
    if table.is_mbr {
        return Ok(last);
    }
    let array = table.disk.block.blocks_for(table.header.array_bytes());
    let possible = last.checked_sub(array).and_then(|lba| lba.checked_sub(1));
    let possible = possible.ok_or(malformed!("GPT", "entries larger than the disk", 0))?;
    if table.header.alternate_lba == last {
        return Ok(possible.min(table.header.last_usable_lba));
    }
    Ok(possible)
}

fn check_blocks(entry: &PartitionEntryView<'_>, first_usable: u64, last_usable: u64) -> Result<()> {
    if entry.blocks().is_none() {
        return Err(malformed!(
            "partition table",
            "partition ends before it starts",
            u64::from(entry.number)
        ));
    }
    if entry.first_lba() < first_usable || entry.last_lba() > last_usable {
        return Err(malformed!(
            "partition table",
            "partition outside the usable blocks",
            u64::from(entry.number)
        ));
    }
    Ok(())
}

/// The highest aligned end up to `limit`, or the present one when that would gain too little.
fn grown_end(disk: DiskSize, last: u64, limit: u64, rules: Rules) -> u64 {
    let unit = (rules.alignment / disk.block.bytes()).max(1);
    let end = limit.saturating_add(1) / unit * unit;
    // What counts is the room: of an end that stays unaligned growpart would see as much, and find something to do.
    let room = limit.saturating_sub(last);
    let is_worth_it = room >= (rules.least_bytes / disk.block.bytes()).max(1);
    if is_worth_it { end.saturating_sub(1).max(last) } else { last }
}

/// A protective MBR of another size than the disk's is what a cut right before the last write, or in it, leaves; it is
/// put right with a growth or after one, never on a disk that was not grown.
fn stale_mbr(table: &Table, growth: &Growth) -> Option<u32> {
    let wanted = protective_blocks(table.disk.blocks);
    let belongs_here = growth.needs_table() || table.header.alternate_lba == table.disk.last_lba();
    let is_stale = table.mbr_blocks != u32::MAX && table.mbr_blocks != wanted;
    (belongs_here && is_stale && !table.is_mbr).then_some(wanted)
}

/// True when the kernel must hear of the new end.
fn is_behind(kernel: KernelPartition, growth: &Growth) -> Result<bool> {
    if kernel.number != growth.number || kernel.start_bytes != growth.disk.offset(growth.first_lba) {
        return Err(unsupported!("partition table", "the kernel has this partition at another place"));
    }
    if kernel.length_bytes > growth.old_bytes() {
        return Err(unsupported!("partition table", "the kernel has this partition larger than the table"));
    }
    if kernel.length_bytes < growth.old_bytes() && growth.needs_table() {
        // Somebody else is at work: their table is new, their kernel's is not, and it is not our end.
        return Err(unsupported!("partition table", "the kernel has this partition smaller than the table"));
    }
    Ok(kernel.length_bytes < growth.new_bytes())
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, Growth, Rules, plan};
    use crate::disk::table::{Table, for_tests};
    use crate::error::Result;
    use crate::format::gpt::tests::{header, put_entry};
    use crate::format::gpt::{BlockSize, DiskSize};
    use crate::sys::KernelPartition;
    use proptest::prelude::{prop, prop_assert, proptest};
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;

    /// A table made for `image` MiB on a disk of `disk` bytes.
    fn table(block: u32, image: u64, disk: u64, parts: &[(u32, u64, u64)]) -> (Table, Vec<u8>) {
        let block = BlockSize::new(block).unwrap();
        let header = header(DiskSize::new(image * MIB, block).unwrap(), 128, 128);
        let mut array = std::vec![0; 128 * 128];
        for (number, first, last) in parts {
            put_entry(&mut array, &header, *number, *first, *last);
        }
        (for_tests(DiskSize::new(disk, block).unwrap(), header), array)
    }

    fn grow(image: u64, disk: u64, parts: &[(u32, u64, u64)], kernel: Option<(u64, u64)>) -> Result<Growth> {
        let (table, array) = table(512, image, disk, parts);
        let seen = |(start_bytes, length_bytes)| KernelPartition { number: 1, start_bytes, length_bytes };
        plan(&table, &array, 1, kernel.map(seen), Rules::ROOT)
    }

    #[test]
    fn less_than_the_alignment_is_nothing() {
        let last = 64 * 2048 - 34;
        for extra in [0, 1, 33, 2047] {
            let growth = grow(64, 64 * MIB + extra * 512, &[(1, 2048, last)], None).unwrap();
            assert!(!growth.needs_table(), "{extra}: {growth:?}");
        }
        let growth = grow(64, 65 * MIB, &[(1, 2048, last)], None).unwrap();
        assert_eq!(growth.new_last_lba, 64 * 2048 - 1, "growpart would take what is left: 1 MiB is not");
        let growth = grow(64, 67 * MIB, &[(1, 2048, last)], None).unwrap();
        assert_eq!(growth.new_last_lba, 66 * 2048 - 1);
    }

    #[test]
    fn the_next_by_place_is_the_limit_not_the_next_by_number() {
        let parts = [(14, 2048, 4095), (1, 8192, 16383), (2, 4096, 8191), (3, 40960, 50000)];
        let growth = grow(64, 640 * MIB, &parts, None).unwrap();
        assert_eq!((growth.new_last_lba, growth.next), (40959, Some(3)));
    }

    #[test]
    fn a_smaller_disk_and_overlaps_are_refused() {
        assert!(grow(64, 32 * MIB, &[(1, 2048, 64 * 2048 - 34)], None).is_err());
        assert!(grow(64, 640 * MIB, &[(1, 2048, 9999), (2, 9999, 20000)], None).is_err());
        assert!(grow(64, 640 * MIB, &[(1, 2049, 2047)], None).is_err());
        assert!(grow(64, 640 * MIB, &[(1, 33, 9999)], None).is_err());
        assert!(grow(64, 640 * MIB, &[(2, 2048, 9999)], None).is_err());
    }

    #[test]
    fn the_kernels_view_decides_whether_it_is_told() {
        let parts = [(1, 2048, 64 * 2048 - 34)];
        let bytes = (64 * 2048 - 34 - 2047) * 512;
        assert!(grow(64, 640 * MIB, &parts, Some((MIB, bytes))).unwrap().needs_kernel_resize);
        assert!(grow(64, 64 * MIB, &parts, Some((MIB, bytes))).unwrap().is_nothing());
        assert!(grow(64, 64 * MIB, &parts, Some((MIB, bytes - 512))).unwrap().needs_kernel_resize);
        assert!(grow(64, 640 * MIB, &parts, Some((2 * MIB, bytes))).is_err());
        assert!(grow(64, 640 * MIB, &parts, Some((MIB, bytes + 512))).is_err());
    }

    proptest! {
        /// Whatever the table says, the new end is no earlier, aligned, and free.
        #[test]
        fn growth_takes_only_free_blocks(
            parts in prop::collection::vec((1_u32..=128, 0_u64..140_000, 0_u64..140_000), 1..6),
            extra in 0_u64..1 << 30,
            is_4k: bool,
        ) {
            let block = if is_4k { 4096 } else { 512 };
            let (table, array) = table(block, 64, 64 * MIB + extra, &parts);
            for (number, ..) in &parts {
                let Ok(growth) = plan(&table, &array, *number, None, Rules::ROOT) else { continue };
                prop_assert!(growth.new_last_lba >= growth.old_last_lba);
                prop_assert!(growth.new_last_lba <= growth.last_usable_lba);
                prop_assert!(growth.last_usable_lba < table.disk.blocks);
                if growth.needs_table() {
                    prop_assert!((growth.new_last_lba + 1) * u64::from(block) % ALIGNMENT == 0);
                }
                // growpart and systemd-repart, coming later, find nothing worth a change.
                prop_assert!((growth.limit - growth.new_last_lba) * u64::from(block) < ALIGNMENT);
                for other in table.header.entries(&array).filter(|other| other.number != *number) {
                    prop_assert!(other.last_lba() < growth.first_lba || other.first_lba() > growth.new_last_lba);
                }
            }
        }

        #[test]
        fn no_table_panics(array in prop::collection::vec(0_u8..=255, 128 * 128), number: u32, extra: u64) {
            let (table, _) = table(512, 64, 64 * MIB + extra % (1 << 60), &[]);
            let _ = plan(&table, &array, number, None, Rules::ROOT);
        }
    }
}
