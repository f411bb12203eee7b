//! What partition table does a disk have, and which copy of it is whole?

use super::mbr_table;
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::crc32::Crc32;
use crate::format::gpt::{self, BlockSize, DiskSize, GptHeader, PRIMARY_LBA};
use crate::format::guid::Guid;
use crate::format::mbr::{self, Mbr};
use crate::limits;

/// Largest logical block, and the unit of writes that a disk with 4 KiB physical sectors does whole.
pub const WINDOW: usize = 4096;

/// Buffers of one table, out of what the stage was lent.
pub struct Space<'s> {
    /// Block 0 as read.
    pub mbr: &'s mut [u8],
    /// The block the primary header is written into: as read, or the backup's when the primary's is broken.
    pub header: &'s mut [u8],
    /// The entries, padded to whole blocks.
    pub array: &'s mut [u8],
    /// For whoever needs a few bytes, never for long.
    pub window: &'s mut [u8],
    /// Names of block devices.
    pub names: &'s mut [u8],
}

impl<'s> Space<'s> {
    /// Splits [`limits::GROW_SCRATCH`] bytes.
    ///
    /// # Errors
    /// `TooMany` when there are fewer.
    pub fn new(scratch: &'s mut [u8]) -> Result<Self> {
        let short = too_many!("scratch of grow", scratch.len());
        let (mbr, rest) = scratch.split_at_mut_checked(WINDOW).ok_or(short)?;
        let (header, rest) = rest.split_at_mut_checked(WINDOW).ok_or(short)?;
        let (array, rest) = rest.split_at_mut_checked(limits::GPT_ARRAY).ok_or(short)?;
        let (window, names) = rest.split_at_mut_checked(2 * WINDOW).ok_or(short)?;
        Ok(Self { mbr, header, array, window, names })
    }
}

/// Which copy of the table was whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The primary: what the kernel uses too.
    Primary,
    /// Only the backup: a write of the primary was cut. The kernel has no partitions of this disk unless it
    /// was booted with `gpt`.
    Backup,
}

/// A table whose checksums hold, where it has any; its bytes are in [`Space`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// The disk it is on.
    pub disk: DiskSize,
    /// The primary header: as read, or as it must become when only the backup is whole.
    pub header: GptHeader,
    /// Where it was read from.
    pub source: Source,
    /// It is an MBR: `header` and the entries are what a GPT would say in its place ([`mbr_table`]).
    pub is_mbr: bool,
    /// The backup at the end of the disk was torn or wiped: nothing else lies there.
    pub backup_is_damaged: bool,
    /// The protective MBR's record.
    pub mbr_slot: u8,
    /// And its size.
    pub mbr_blocks: u32,
    /// Where the records of a hybrid MBR begin, but for protective ones; 0 for none.
    pub hybrid: [u32; 4],
    /// First block of the entries that were read.
    array_lba: u64,
    /// Checksum of all that was read: block 0, block 1, entries.
    fingerprint: u32,
}

/// Reads and checks the table of a disk.
///
/// # Errors
/// `Unsupported` for disks without a table; `Malformed` when neither copy of a GPT is whole.
pub fn read(device: &mut dyn ReadAt, block: BlockSize, space: &mut Space<'_>) -> Result<Table> {
    let disk = DiskSize::new(device.size_bytes(), block)?;
    let sector = part(space.mbr, block.as_usize())?;
    device.read_at(0, sector)?;
    match Mbr::parse(sector) {
        Mbr::None => Err(unsupported!("partition table", "none, or a file system on the whole disk")),
        Mbr::Unclear => {
            Err(unsupported!("partition table", "neither MBR nor GPT: the protective MBR begins elsewhere"))
        }
        Mbr::Dos { signature } => mbr_table::read(device, disk, signature, space),
        Mbr::Protective { slot, blocks } => {
            Ok(Table { mbr_slot: slot, mbr_blocks: blocks, ..read_gpt(device, disk, space)? })
        }
        Mbr::Hybrid => {
            let records = mbr::records(sector).unwrap_or_default();
            let first = |record: mbr::Record| if record.is_protective() { 0 } else { record.first };
            Ok(Table { hybrid: records.map(first), ..read_gpt(device, disk, space)? })
        }
    }
}

/// Reads the GPT of the disk whose first block is in `space.mbr`.
fn read_gpt(device: &mut dyn ReadAt, disk: DiskSize, space: &mut Space<'_>) -> Result<Table> {
    let len = disk.block.as_usize();
    device.read_at(disk.offset(PRIMARY_LBA), part(space.header, len)?)?;
    let seen = Crc32::new().with(part(space.mbr, len)?).with(part(space.header, len)?);

    let primary = GptHeader::parse(part(space.header, len)?, PRIMARY_LBA, disk);
    if let Err(why) = primary
        && gpt::is_whole(part(space.header, len)?)
    {
        // Not damaged, only more than we understand: nothing to repair.
        return Err(why);
    }
    let whole = primary.and_then(|header| read_array(device, disk, &header, space.array).map(|()| header));
    let (header, array_lba, source) = match whole {
        Ok(header) => (header, header.entries_lba, Source::Primary),
        Err(why) => {
            let torn = gpt::torn_fields(part(space.header, len)?);
            let backup = read_backup(device, disk, space).map_err(|_| why)?;
            (as_primary(device, &backup, torn, disk, space.window)?, backup.entries_lba, Source::Backup)
        }
    };
    let fingerprint = seen.with(padded(space.array, &header, disk)?).value();
    let table = Table::new(disk, header, source, array_lba, fingerprint);
    let backup_is_damaged = source == Source::Primary && is_backup_damaged(device, &header, disk, space)?;
    Ok(Table { backup_is_damaged, ..table })
}

/// True when the end of the disk, where the primary says that the backup is, holds a torn one or nothing. Anything
/// else there is somebody's, and a whole backup that says something else is somebody's change.
fn is_backup_damaged(
    device: &mut dyn ReadAt,
    primary: &GptHeader,
    disk: DiskSize,
    space: &mut Space<'_>,
) -> Result<bool> {
    let last = disk.last_lba();
    if primary.alternate_lba != last {
        return Ok(false);
    }
    let sector = part(space.window, disk.block.as_usize())?;
    device.read_at(disk.offset(last), sector)?;
    let Ok(backup) = GptHeader::parse(sector, last, disk) else {
        return Ok(!gpt::is_whole(sector) && (gpt::is_signed(sector) || sector.iter().all(|byte| *byte == 0)));
    };
    Ok(!has_entries(device, &backup, backup.entries_lba, disk, space.window)?)
}

/// True when the entries of `header` lie at a block. In pieces: the buffer for entries holds another copy.
fn has_entries(
    device: &mut dyn ReadAt,
    header: &GptHeader,
    lba: u64,
    disk: DiskSize,
    window: &mut [u8],
) -> Result<bool> {
    let (mut crc, mut left, mut at) = (Crc32::new(), header.array_bytes(), disk.offset(lba));
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(WINDOW).min(WINDOW);
        let piece = part(window, length.next_multiple_of(disk.block.as_usize()))?;
        device.read_at(at, piece)?;
        crc = crc.with(piece.get(..length).unwrap_or_default());
        left = left.saturating_sub(length as u64);
        at = at.saturating_add(WINDOW as u64);
    }
    Ok(crc.value() == header.entries_crc)
}

/// The first `len` bytes of a buffer of [`Space`].
pub(super) fn part(buffer: &mut [u8], len: usize) -> Result<&mut [u8]> {
    let limit = buffer.len();
    buffer.get_mut(..len).ok_or(too_many!("partition table block", limit))
}

/// The entries of `header`, padded to whole blocks.
pub(super) fn padded<'a>(array: &'a mut [u8], header: &GptHeader, disk: DiskSize) -> Result<&'a mut [u8]> {
    let bytes = disk.offset(disk.block.blocks_for(header.array_bytes()));
    part(array, usize::try_from(bytes).unwrap_or(usize::MAX))
}

fn read_array(device: &mut dyn ReadAt, disk: DiskSize, header: &GptHeader, array: &mut [u8]) -> Result<()> {
    let entries = padded(array, header, disk)?;
    device.read_at(disk.offset(header.entries_lba), entries)?;
    if header.array_crc(entries) != Some(header.entries_crc) {
        return Err(malformed!("GPT", "checksum of the entries", header.entries_lba));
    }
    Ok(())
}

/// The backup at the end of the disk; else where the primary says one is, for a disk that grew between the cut
/// and now. Leaves the backup's block in `space.header` only when the primary's is of no use.
fn read_backup(device: &mut dyn ReadAt, disk: DiskSize, space: &mut Space<'_>) -> Result<GptHeader> {
    let len = disk.block.as_usize();
    let primary = part(space.header, len)?;
    let is_header_whole = gpt::is_whole(primary);
    let hint = gpt::alternate_hint(primary).filter(|lba| *lba < disk.last_lba()).unwrap_or(disk.last_lba());
    let mut why = malformed!("GPT", "no backup header", disk.last_lba());
    for lba in [disk.last_lba(), hint] {
        let sector = part(space.window, len)?;
        device.read_at(disk.offset(lba), sector)?;
        let header = GptHeader::parse(sector, lba, disk);
        match header.and_then(|header| read_array(device, disk, &header, space.array).map(|()| header)) {
            Ok(header) => {
                if !is_header_whole {
                    part(space.header, len)?.copy_from_slice(part(space.window, len)?);
                }
                return Ok(header);
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// The primary header that belongs to a backup. A torn one still says which disk and where its entries are; of one that
/// is no more the entries are believed where nearly all are, if they are still there or nothing else can be (boot loaders
/// of small boards lie between header and entries).
fn as_primary(
    device: &mut dyn ReadAt,
    backup: &GptHeader,
    torn: Option<(Guid, u64)>,
    disk: DiskSize,
    window: &mut [u8],
) -> Result<GptHeader> {
    const FIRST: u64 = PRIMARY_LBA + 1;
    let (disk_guid, entries_lba) = torn.unwrap_or((backup.disk_guid, FIRST));
    if disk_guid != backup.disk_guid {
        return Err(unsupported!("GPT", "the damaged primary and the backup are of two disks"));
    }
    let blocks = disk.block.blocks_for(backup.array_bytes());
    let end = entries_lba.checked_add(blocks).filter(|end| *end <= backup.first_usable_lba);
    let end = end.filter(|_| entries_lba >= FIRST);
    let end = end.ok_or(malformed!("GPT", "no room for the primary's entries", entries_lba))?;
    let is_told = torn.is_some() || end == backup.first_usable_lba;
    if !is_told && !has_entries(device, backup, entries_lba, disk, window)? {
        return Err(unsupported!("GPT", "nothing says where the damaged primary's entries were"));
    }
    Ok(GptHeader { my_lba: PRIMARY_LBA, alternate_lba: backup.my_lba, entries_lba, ..*backup })
}

impl Table {
    /// One whose first block says nothing more.
    pub(super) const fn new(
        disk: DiskSize,
        header: GptHeader,
        source: Source,
        array_lba: u64,
        fingerprint: u32,
    ) -> Self {
        Self {
            disk,
            header,
            source,
            is_mbr: false,
            backup_is_damaged: false,
            mbr_slot: 0,
            mbr_blocks: u32::MAX,
            hybrid: [0; 4],
            array_lba,
            fingerprint,
        }
    }

    /// True when the disk still holds what was read.
    ///
    /// # Errors
    /// `Os` when it cannot be read.
    pub fn is_unchanged(&self, device: &mut dyn ReadAt, space: &mut Space<'_>) -> Result<bool> {
        let size = DiskSize::new(device.size_bytes(), self.disk.block)?;
        if self.is_mbr {
            let seen = mbr_table::fingerprint(device, self.disk, space)?;
            return Ok(size == self.disk && seen == self.fingerprint);
        }
        let window = &mut *space.window;
        let block = part(window, self.disk.block.as_usize())?;
        let array = self.disk.block.blocks_for(self.header.array_bytes());
        let end = self.array_lba.saturating_add(array);
        let mut seen = Crc32::new();
        for lba in [0, PRIMARY_LBA].into_iter().chain(self.array_lba..end) {
            device.read_at(self.disk.offset(lba), block)?;
            seen = seen.with(block);
        }
        Ok(size == self.disk && seen.value() == self.fingerprint)
    }
}

/// A table that nobody read.
#[cfg(test)]
pub(super) fn for_tests(disk: DiskSize, header: GptHeader) -> Table {
    Table::new(disk, header, Source::Primary, header.entries_lba, 0)
}
