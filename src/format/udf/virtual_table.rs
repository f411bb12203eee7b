//! Where is a block of a write-once disc now? (UDF 2.2.11: the virtual allocation table)

use super::MEDIUM;
use super::Volume;
use super::entry;
use super::partition::{Location, Partition};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le16;
use crate::format::file::File;

/// Blocks at the end of a disc that are looked at: drives differ in what they take for its last one.
const LAST_BLOCKS: u64 = 4;
/// File type of the table from UDF 2.00 on; 0 before.
const VIRTUAL_TABLE: u8 = 248;
/// What ends the table before UDF 2.00: an identifier and a block number.
const TRAILER: u64 = 36;

/// The table: 32 bits for each virtual block.
#[derive(Debug, Default)]
pub(super) struct VirtualTable {
    file: File,
    /// Bytes before the first entry, and of all entries.
    header: u64,
    length: u64,
}

impl VirtualTable {
    /// The block of the partition that this virtual block is.
    pub(super) fn look_up(&self, device: &mut dyn ReadAt, block: u32) -> Result<u32> {
        let outside = malformed!(MEDIUM, "block not in the VAT", u64::from(block));
        let skip = u64::from(block).saturating_mul(4);
        if skip >= self.length {
            return Err(outside);
        }
        let mut entry = [0; 4];
        // Entries are 4 bytes apart, but an extent of bytes may end anywhere.
        self.file.clone().read(device, skip.saturating_add(self.header), &mut entry)?;
        Some(u32::from_le_bytes(entry)).filter(|real| *real != u32::MAX).ok_or(outside)
    }
}

/// Finds the table: its entry is the last block of the last session. `map` is that of the partition itself.
pub(super) fn load(
    volume: &Volume,
    map: u16,
    partition: &Partition,
    device: &mut dyn ReadAt,
    scratch: &mut [u8],
) -> Result<VirtualTable> {
    let end = device.size_bytes().checked_div(u64::from(volume.block_bytes)).unwrap_or(0);
    let mut failure = malformed!(MEDIUM, "no VAT at the end of the disc", end);
    for back in 1..=LAST_BLOCKS {
        let block = end.checked_sub(back).and_then(|block| u32::try_from(block).ok());
        let Some(block) = block.and_then(|block| block.checked_sub(partition.start_block)) else { break };
        match load_at(volume, Location { map, block }, device, scratch) {
            Err(error) if error.errno().is_some() => return Err(error),
            Err(error) if back == 1 => failure = error,
            Err(_) => {}
            Ok(table) => return Ok(table),
        }
    }
    Err(failure)
}

fn load_at(
    volume: &Volume,
    at: Location,
    device: &mut dyn ReadAt,
    scratch: &mut [u8],
) -> Result<VirtualTable> {
    let bad = malformed!(MEDIUM, "VAT", u64::from(at.block));
    let raw_kind = entry::load_header(volume, device, at, scratch)?.raw_kind;
    let mut file = entry::load(volume, device, at, scratch)?;
    let size_bytes = file.size_bytes();
    let (header, length) = if raw_kind == VIRTUAL_TABLE {
        let start = scratch.get_mut(..2).ok_or(bad)?;
        file.read(device, 0, start)?;
        let header = u64::from(le16(start, 0).ok_or(bad)?);
        (header, size_bytes.checked_sub(header).ok_or(bad)?)
    } else {
        let length = size_bytes.checked_sub(TRAILER).ok_or(bad)?;
        let end = scratch.get_mut(..32).ok_or(bad)?;
        file.read(device, length, end)?;
        if !end.get(1..).is_some_and(|name| name.starts_with(b"*UDF Virtual Alloc Tbl")) {
            return Err(bad);
        }
        (0, length)
    };
    Ok(VirtualTable { file, header, length })
}
