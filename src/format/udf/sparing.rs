//! Has a packet of a rewritten disc moved? (UDF 2.2.12)
//!
//! Sparing tables matter only then, and that is said, not guessed around.

use super::MEDIUM;
use super::tag::{TAG_BYTES, crc, has_checksum};
use crate::error::{Kind, Result};
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};

/// Fixed part of a sparing table; entries of 8 bytes follow.
const HEADER: usize = 56;

/// Passes when the first good one of the tables, given by their device blocks, has only free entries.
///
/// # Errors
/// `Unsupported` when a packet has moved, `Malformed` when no table is good, `Os`.
pub(super) fn refuse_moved(tables: &[u32], device: &mut dyn ReadAt, block: &mut [u8]) -> Result<()> {
    let mut failure = malformed!(MEDIUM, "no sparing table", 0);
    for table in tables {
        match check_table(*table, device, block) {
            Err(error) if error.is(Kind::Malformed) => failure = error,
            done => return done,
        }
    }
    Err(failure)
}

/// A table is longer than a block, so CRC and entries are looked at block by block.
fn check_table(table: u32, device: &mut dyn ReadAt, block: &mut [u8]) -> Result<()> {
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
    let (mut sum, mut has_moved) = (0, false);
    let (mut sum_from, mut entries_from) = (TAG_BYTES, HEADER);
    loop {
        let body = block.get(sum_from..).ok_or(bad)?;
        let part = body.get(..covered.min(body.len())).ok_or(bad)?;
        sum = crc(sum, part);
        let listed = block.get(entries_from..).ok_or(bad)?;
        let listed = listed.get(..entries.min(listed.len())).ok_or(bad)?;
        has_moved |= listed.chunks_exact(8).any(|entry| !is_free(entry));
        covered = covered.saturating_sub(part.len());
        entries = entries.saturating_sub(listed.len());
        if covered == 0 {
            break;
        }
        (sum_from, entries_from) = (0, 0);
        at = at.saturating_add(block.len() as u64);
        read_block(device, at, block)?;
    }
    match (Some(sum) == le16(&tag, 8), has_moved) {
        (false, _) => Err(bad),
        (true, true) => Err(unsupported!(MEDIUM, "rewritten disc with moved packets")),
        (true, false) => Ok(()),
    }
}

fn read_block(device: &mut dyn ReadAt, at: u64, block: &mut [u8]) -> Result<()> {
    if at.checked_add(block.len() as u64).is_none_or(|end| end > device.size_bytes()) {
        return Err(malformed!(MEDIUM, "sparing table past the end of the medium", at));
    }
    device.read_at(at, block)
}

/// 0xFFFFFFFF: not used; 0xFFFFFFF0: not usable.
fn is_free(entry: &[u8]) -> bool {
    le32(entry, 0).is_some_and(|packet| packet >= 0xFFFF_FFF0)
}
