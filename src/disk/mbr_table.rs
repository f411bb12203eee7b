//! Which partitions does a disk with an MBR have? Its records and the chain of logical ones are noted as entries of a
//! GPT, in the same buffer: who looks for a partition, plans its growth or shows it need not know which table it is.
//!
//! ```text
//! block 0: 4 records         extended partition: first block            the next logical one
//!   1 2 3 4 ---extended----> [record of 5 | link ] .... 5 ....  -link-> [record of 6 | link ] .... 6 ....
//! ```
//! Numbers are the kernel's (block/partitions/msdos.c): the slot up to 4, from 5 on the place in the chain. What the
//! kernel reads in another way than we do (two extended partitions, empty links) is refused.

use super::table::{Source, Space, Table, part};
use crate::error::{Error, Result};
use crate::format::ReadAt;
use crate::format::crc32::Crc32;
use crate::format::field::put_le64;
use crate::format::gpt::{DiskSize, GptHeader, PRIMARY_LBA, PartitionEntryView};
use crate::format::guid::Guid;
use crate::format::mbr::{self, Record};
use crate::limits;

const WHAT: &str = "MBR";
const ENTRY_BYTES: usize = 128;
const ARRAY_BYTES: usize = limits::MBR_PARTITIONS * ENTRY_BYTES;
/// Number of the first logical partition.
const FIRST_LOGICAL: u32 = 5;

/// A partition as its record says, in blocks of the disk.
struct Found {
    number: u32,
    kind: u8,
    first: u64,
    last: u64,
    /// The block its record is in.
    record_lba: u64,
}

/// Reads the partitions of the MBR in `space.mbr`.
///
/// # Errors
/// `Malformed`, `Unsupported`, `TooMany` where the chain of logical partitions is none we can follow; `Os`.
#[inline(never)]
pub(super) fn read(
    device: &mut dyn ReadAt,
    disk: DiskSize,
    signature: u32,
    space: &mut Space<'_>,
) -> Result<Table> {
    let array = part(space.array, ARRAY_BYTES)?;
    array.fill(0);
    let mut outer = None;
    for (number, record) in (1..).zip(mbr::records(space.mbr).unwrap_or_default()) {
        if !record.is_used() {
            continue;
        }
        let found = Found::new(number, &record, 0, 0);
        if record.is_extended() && outer.replace((found.first, found.last)).is_some() {
            return Err(unsupported!(WHAT, "two extended partitions"));
        }
        found.note(array, signature)?;
    }
    if let Some(outer) = outer {
        read_chain(device, disk, outer, signature, array, part(space.window, disk.block.as_usize())?)?;
    }
    let fingerprint = fingerprint(device, disk, space)?;
    let header = GptHeader {
        header_bytes: 0,
        my_lba: PRIMARY_LBA,
        alternate_lba: disk.last_lba(),
        first_usable_lba: 1,
        last_usable_lba: disk.last_lba(),
        disk_guid: Guid::of_mbr(signature, 0),
        entries_lba: 0,
        entry_count: limits::MBR_PARTITIONS as u32,
        entry_bytes: ENTRY_BYTES as u32,
        entries_crc: 0,
    };
    let mut table = Table::new(disk, header, Source::Primary, 0, fingerprint);
    table.is_mbr = true;
    Ok(table)
}

impl Found {
    fn new(number: u32, record: &Record, base: u64, record_lba: u64) -> Self {
        let first = base.saturating_add(u64::from(record.first));
        let last = first.saturating_add(u64::from(record.blocks)).saturating_sub(1);
        Self { number, kind: record.kind, first, last, record_lba }
    }

    /// As an entry of a GPT: type and place are the record's, the unique GUID is [`Guid::of_mbr`], the attributes say
    /// where the record is.
    fn note(&self, array: &mut [u8], signature: u32) -> Result<()> {
        let full = too_many!("MBR partitions", limits::MBR_PARTITIONS);
        let index = usize::try_from(self.number).ok().and_then(|number| number.checked_sub(1)).ok_or(full)?;
        let entry = array.get_mut(index * ENTRY_BYTES..).and_then(|rest| rest.get_mut(..ENTRY_BYTES));
        let number = u8::try_from(self.number).map_err(|_| full)?;
        self.put(entry.ok_or(full)?, Guid::of_mbr(signature, number)).ok_or(full)
    }

    fn put(&self, entry: &mut [u8], guid: Guid) -> Option<()> {
        *entry.first_chunk_mut()? = [self.kind, 1];
        *entry.get_mut(16..)?.first_chunk_mut()? = guid.to_mixed();
        put_le64(entry, 32, self.first)?;
        put_le64(entry, 40, self.last)?;
        put_le64(entry, 48, self.record_lba)
    }
}

fn read_chain(
    device: &mut dyn ReadAt,
    disk: DiskSize,
    outer: (u64, u64),
    signature: u32,
    array: &mut [u8],
    sector: &mut [u8],
) -> Result<()> {
    let (mut at, mut number) = (outer.0, FIRST_LOGICAL);
    loop {
        if at > outer.1 || at > disk.last_lba() {
            return Err(outside(number));
        }
        device.read_at(disk.offset(at), sector)?;
        let Some(records) = mbr::records(sector) else {
            // An extended partition that never held one.
            return if at == outer.0 { Ok(()) } else { Err(broken_link(number)) };
        };
        let (data, link) = split(&records)?;
        match data {
            Some(record) => {
                let found = Found::new(number, &record, at, at);
                if record.first == 0 || found.last > outer.1 {
                    return Err(outside(number));
                }
                found.note(array, signature)?;
                number = number.saturating_add(1);
            }
            // What is left when the first of several was deleted.
            None if at == outer.0 => {}
            None if link.is_none() => return Ok(()),
            None => return Err(unsupported!(WHAT, "an empty place in the chain of logical partitions")),
        }
        let Some(link) = link else { return Ok(()) };
        if link.first == 0 {
            return Err(broken_link(number));
        }
        at = outer.0.saturating_add(u64::from(link.first));
    }
}

fn outside(number: u32) -> Error {
    malformed!(WHAT, "logical partition outside the extended one", u64::from(number))
}

fn broken_link(number: u32) -> Error {
    malformed!(WHAT, "chain of logical partitions", u64::from(number))
}

/// The partition of a sector in the chain, and the link to the next.
fn split(records: &[Record; 4]) -> Result<(Option<Record>, Option<Record>)> {
    let (mut data, mut link) = (None, None);
    for record in records.iter().filter(|record| record.is_used()) {
        let place = if record.is_extended() { &mut link } else { &mut data };
        if place.replace(*record).is_some() {
            return Err(unsupported!(WHAT, "several logical partitions in one place of their chain"));
        }
    }
    Ok((data, link))
}

/// Checksum of every sector with records, as they are now.
///
/// # Errors
/// `Os`.
pub(super) fn fingerprint(device: &mut dyn ReadAt, disk: DiskSize, space: &mut Space<'_>) -> Result<u32> {
    let sector = part(space.window, disk.block.as_usize())?;
    device.read_at(0, sector)?;
    let mut seen = Crc32::new().with(sector);
    let (entries, _) = space.array.as_chunks::<ENTRY_BYTES>();
    for (number, bytes) in (1..).zip(entries.iter().take(limits::MBR_PARTITIONS)) {
        let entry = PartitionEntryView::new(number, bytes);
        let lba = if is_extended(&entry) { entry.first_lba() } else { record_lba(&entry) };
        if lba > 0 && lba <= disk.last_lba() {
            device.read_at(disk.offset(lba), sector)?;
            seen = seen.with(sector);
        }
    }
    Ok(seen.value())
}

/// The type in its record.
#[must_use]
pub fn kind(entry: &PartitionEntryView<'_>) -> u8 {
    entry.type_guid().to_mixed().first().copied().unwrap_or_default()
}

/// True for the one that holds the logical partitions.
#[must_use]
pub fn is_extended(entry: &PartitionEntryView<'_>) -> bool {
    mbr::is_extended(kind(entry))
}

/// The block that holds its record; 0 for all but logical partitions.
#[must_use]
pub fn record_lba(entry: &PartitionEntryView<'_>) -> u64 {
    entry.attributes()
}
