//! In which order is a grown table written, so that the partitions are there after every power cut?
//!
//! ```text
//! backup entries and header at the new end | flush      the old primary is whole
//! primary header with the changed entry    | flush      one aligned 4 KiB write where both fit
//! protective MBR                           | flush      only a size that nobody relies on
//! ```
//! An MBR has no copy: each record that changes is one sector, and a disk writes a sector or does not.
//! ```text
//! record of the extended partition | flush      only larger: everything inside is where it was
//! link that names the partition    | flush
//! record of the partition          | flush
//! ```
//! A primary that was torn in the second step is invalid; the backup is whole then, and the next boot's `grow`
//! restores the primary from it ([`restore`]), as [`write`] does before anything else. Every run ends in the bytes of an uncut run.

use super::grow::{Growth, RecordEnd};
use super::table::{Source, Space, Table, WINDOW, padded};
use crate::error::{Error, Result};
use crate::format::gpt::{GptHeader, PRIMARY_LBA};
use crate::format::mbr;
use crate::sys::Block;

/// Somebody else is at work.
pub const CHANGED: Error = unsupported!("partition table", "it changed while we looked at it");
const MISMATCH: Error = malformed!("partition table", "growth of another table", 0);

/// Writes the growth. Nothing is written when the disk no longer holds what was read.
///
/// # Errors
/// `Unsupported` when the table changed; `Os` as the disk says, after which a later run completes it.
pub fn write(disk: &mut dyn Block, table: &Table, growth: &Growth, space: &mut Space<'_>) -> Result<()> {
    check_unchanged(disk, table, space)?;
    if table.is_mbr {
        return if growth.needs_table() { write_records(disk, growth, space.window) } else { Ok(()) };
    }
    if table.source == Source::Backup {
        write_restored(disk, table, space)?;
    }
    if growth.repairs_backup {
        write_backup(disk, table, &table.header, space)?;
        disk.flush()?;
    }
    if growth.needs_table() {
        let header = grown_header(table, growth, space.array)?;
        write_backup(disk, table, &header, space)?;
        disk.flush()?;
        write_primary(disk, table, growth, &header, space)?;
        disk.flush()?;
    }
    if let Some(blocks) = growth.mbr_blocks {
        let sector = space.mbr.get_mut(..table.disk.block.as_usize()).ok_or(MISMATCH)?;
        mbr::set_protective_blocks(sector, table.mbr_slot, blocks).ok_or(MISMATCH)?;
        disk.write_at(0, sector)?;
        disk.flush()?;
    }
    Ok(())
}

/// Writes the primary from the backup that was read.
///
/// # Errors
/// As [`write`].
pub fn restore(disk: &mut dyn Block, table: &Table, space: &mut Space<'_>) -> Result<()> {
    check_unchanged(disk, table, space)?;
    write_restored(disk, table, space)
}

fn write_restored(disk: &mut dyn Block, table: &Table, space: &mut Space<'_>) -> Result<()> {
    disk.write_at(
        table.disk.offset(table.header.entries_lba),
        padded(space.array, &table.header, table.disk)?,
    )?;
    let sector = space.header.get_mut(..table.disk.block.as_usize()).ok_or(MISMATCH)?;
    table.header.emit(sector)?;
    disk.write_at(table.disk.offset(PRIMARY_LBA), sector)?;
    disk.flush()
}

/// What a cut run has done already is not done again.
#[inline(never)]
fn write_records(disk: &mut dyn Block, growth: &Growth, window: &mut [u8]) -> Result<()> {
    let sector = window.get_mut(..growth.disk.block.as_usize()).ok_or(MISMATCH)?;
    for end in growth.records.iter().flatten() {
        let offset = growth.disk.offset(end.at);
        disk.read_at(offset, sector)?;
        let slot = slot_of(sector, end).ok_or(MISMATCH)?;
        if let Some(blocks) = slot.larger {
            mbr::set_blocks(sector, slot.number, blocks).ok_or(MISMATCH)?;
            disk.write_at(offset, sector)?;
            disk.flush()?;
        }
    }
    Ok(())
}

/// A record of a sector.
struct Slot {
    number: u8,
    /// Its new size, where that is larger than it is.
    larger: Option<u32>,
}

fn slot_of(sector: &[u8], end: &RecordEnd) -> Option<Slot> {
    let blocks =
        end.last.checked_sub(end.first)?.checked_add(1).and_then(|blocks| u32::try_from(blocks).ok())?;
    let first = end.first.checked_sub(end.base)?;
    // A partition counts from its own sector and a link from the extended partition: both can say the same number.
    let is_it = |record: &mbr::Record| {
        record.is_used() && record.is_extended() == end.is_extended && u64::from(record.first) == first
    };
    let mut all = (0..).zip(mbr::records(sector)?).filter(|(_, record)| is_it(record));
    let (number, record) = all.next()?;
    if all.next().is_some() {
        return None;
    }
    Some(Slot { number, larger: (record.blocks < blocks).then_some(blocks) })
}

fn check_unchanged(disk: &mut dyn Block, table: &Table, space: &mut Space<'_>) -> Result<()> {
    if table.is_unchanged(disk, space)? {
        return Ok(());
    }
    Err(CHANGED)
}

/// Changes the entry in `array` and returns the primary header that goes with it.
fn grown_header(table: &Table, growth: &Growth, array: &mut [u8]) -> Result<GptHeader> {
    table.header.set_last_lba(array, growth.number, growth.new_last_lba).ok_or(MISMATCH)?;
    Ok(GptHeader {
        alternate_lba: table.disk.last_lba(),
        last_usable_lba: growth.last_usable_lba,
        entries_crc: table.header.array_crc(array).ok_or(MISMATCH)?,
        ..table.header
    })
}

fn write_backup(
    disk: &mut dyn Block,
    table: &Table,
    header: &GptHeader,
    space: &mut Space<'_>,
) -> Result<()> {
    let entries = padded(space.array, header, table.disk)?;
    let blocks = table.disk.block.blocks_for(header.array_bytes());
    let entries_lba = table.disk.last_lba().checked_sub(blocks).ok_or(MISMATCH)?;
    let backup =
        GptHeader { my_lba: header.alternate_lba, alternate_lba: PRIMARY_LBA, entries_lba, ..*header };
    let len = table.disk.block.as_usize();
    let sector = space.window.get_mut(..len).ok_or(MISMATCH)?;
    sector.copy_from_slice(space.header.get(..len).ok_or(MISMATCH)?);
    backup.emit(sector)?;
    disk.write_at(table.disk.offset(entries_lba), entries)?;
    disk.write_at(table.disk.offset(backup.my_lba), sector)
}

/// One write when header and changed entry share an aligned 4 KiB; else the entry first, because a header
/// must not exist without its entries.
fn write_primary(
    disk: &mut dyn Block,
    table: &Table,
    growth: &Growth,
    header: &GptHeader,
    space: &mut Space<'_>,
) -> Result<()> {
    let sector = space.header.get_mut(..table.disk.block.as_usize()).ok_or(MISMATCH)?;
    header.emit(sector)?;
    let header_at = table.disk.offset(PRIMARY_LBA);
    let field_in_array = header.last_lba_offset(growth.number).ok_or(MISMATCH)?;
    let field_at = table.disk.offset(header.entries_lba).checked_add(field_in_array).ok_or(MISMATCH)?;
    let field = growth.new_last_lba.to_le_bytes();
    let window = space.window.get_mut(..WINDOW).ok_or(MISMATCH)?;
    if window_of(header_at) == window_of(field_at) {
        return patch(disk, window, &[(header_at, sector), (field_at, &field)]);
    }
    patch(disk, window, &[(field_at, &field)])?;
    patch(disk, window, &[(header_at, sector)])
}

fn window_of(offset: u64) -> u64 {
    offset / WINDOW as u64 * WINDOW as u64
}

/// Puts `pieces` into the aligned 4 KiB that holds them all, and writes that.
fn patch(disk: &mut dyn Block, window: &mut [u8], pieces: &[(u64, &[u8])]) -> Result<()> {
    let start = pieces.first().map(|(offset, _)| window_of(*offset)).ok_or(MISMATCH)?;
    disk.read_at(start, window)?;
    for (offset, bytes) in pieces {
        let at = offset.checked_sub(start).and_then(|at| usize::try_from(at).ok()).ok_or(MISMATCH)?;
        let place = window.get_mut(at..).and_then(|rest| rest.get_mut(..bytes.len()));
        place.ok_or(MISMATCH)?.copy_from_slice(bytes);
    }
    disk.write_at(start, window)
}
