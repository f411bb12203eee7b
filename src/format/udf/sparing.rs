//! Which packets of a rewritten disc have moved? (UDF 2.2.12)

use super::MEDIUM;
use super::tag::{TAG_BYTES, crc, has_checksum};
use crate::error::{Kind, Result};
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};
use crate::limits;

/// Fixed part of a sparing table; entries of 8 bytes follow.
const HEADER: usize = 56;

/// A packet that moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Packet {
    /// Its first block in the partition.
    block: u32,
    /// Its first block on the device now.
    now: u32,
}

/// The packets that moved.
#[derive(Debug, Default)]
pub(super) struct Moved {
    packet_blocks: u32,
    packets: heapless::Vec<Packet, { limits::MOVED_PACKETS }>,
}

impl Moved {
    /// The device block of a block that moved, and for how many blocks its packet goes on.
    pub(super) fn find(&self, block: u32) -> Option<(u32, u32)> {
        self.packets.iter().find_map(|packet| {
            let skip = block.checked_sub(packet.block).filter(|skip| *skip < self.packet_blocks)?;
            Some((packet.now.checked_add(skip)?, self.packet_blocks.saturating_sub(skip)))
        })
    }

    /// For how many blocks nothing moved, from one on that did not.
    pub(super) fn distance(&self, block: u32) -> u32 {
        let later = self.packets.iter().filter_map(|packet| packet.block.checked_sub(block));
        later.min().unwrap_or(u32::MAX)
    }

    /// Takes an entry, unless it is free: 0xFFFFFFFF is not used, 0xFFFFFFF0 not usable.
    fn add(&mut self, entry: &[u8]) -> Result<()> {
        let bad = malformed!(MEDIUM, "sparing table", 0);
        let block = le32(entry, 0).ok_or(bad)?;
        if block >= 0xFFFF_FFF0 {
            return Ok(());
        }
        if self.packet_blocks == 0 {
            return Err(bad);
        }
        let packet = Packet { block, now: le32(entry, 4).ok_or(bad)? };
        self.packets.push(packet).map_err(|_| too_many!("moved packets", limits::MOVED_PACKETS))
    }
}

/// Reads the first good one of the tables, given by their device blocks.
///
/// # Errors
/// `TooMany` packets moved, `Malformed` when no table is good, `Os`.
#[inline(never)]
pub(super) fn read_moved(
    tables: &[u32],
    packet_blocks: u16,
    device: &mut dyn ReadAt,
    block: &mut [u8],
) -> Result<Moved> {
    let mut failure = malformed!(MEDIUM, "no sparing table", 0);
    for table in tables {
        let mut moved = Moved { packet_blocks: u32::from(packet_blocks), packets: heapless::Vec::new() };
        match read_table(*table, &mut moved, device, block) {
            Err(error) if error.is(Kind::Malformed) => failure = error,
            done => return done.map(|()| moved),
        }
    }
    Err(failure)
}

/// A table is longer than a block, so CRC and entries are looked at block by block.
fn read_table(table: u32, moved: &mut Moved, device: &mut dyn ReadAt, block: &mut [u8]) -> Result<()> {
    let mut at = u64::from(table).saturating_mul(block.len() as u64);
    let bad = malformed!(MEDIUM, "sparing table", at);
    read_block(device, at, block)?;
    let tag = *block.first_chunk::<TAG_BYTES>().ok_or(bad)?;
    let is_table = block.get(17..).is_some_and(|name| name.starts_with(b"*UDF Sparing Table"));
    if !is_table || !has_checksum(&tag) || le32(&tag, 12) != Some(table) {
        return Err(bad);
    }
    let entries_bytes = usize::from(le16(block, 48).ok_or(bad)?).saturating_mul(8);
    let mut covered = usize::from(le16(&tag, 10).ok_or(bad)?);
    let mut entries = covered.saturating_add(TAG_BYTES).checked_sub(HEADER).ok_or(bad)?.min(entries_bytes);
    if entries < entries_bytes {
        return Err(bad);
    }
    let mut sum = 0;
    let (mut sum_from, mut entries_from) = (TAG_BYTES, HEADER);
    loop {
        let body = block.get(sum_from..).ok_or(bad)?;
        let part = body.get(..covered.min(body.len())).ok_or(bad)?;
        sum = crc(sum, part);
        let listed = block.get(entries_from..).ok_or(bad)?;
        let listed = listed.get(..entries.min(listed.len())).ok_or(bad)?;
        listed.chunks_exact(8).try_for_each(|entry| moved.add(entry))?;
        covered = covered.saturating_sub(part.len());
        entries = entries.saturating_sub(listed.len());
        if covered == 0 {
            break;
        }
        (sum_from, entries_from) = (0, 0);
        at = at.saturating_add(block.len() as u64);
        read_block(device, at, block)?;
    }
    if Some(sum) == le16(&tag, 8) { Ok(()) } else { Err(bad) }
}

fn read_block(device: &mut dyn ReadAt, at: u64, block: &mut [u8]) -> Result<()> {
    if at.checked_add(block.len() as u64).is_none_or(|end| end > device.size_bytes()) {
        return Err(malformed!(MEDIUM, "sparing table past the end of the medium", at));
    }
    device.read_at(at, block)
}
