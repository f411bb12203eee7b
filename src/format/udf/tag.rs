//! Is this block the descriptor it claims to be? (ECMA-167 3/7.2, 4/7.2)

use super::MEDIUM;
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};

/// Length of a descriptor tag.
pub(super) const TAG_BYTES: usize = 16;

/// Tag identifiers (ECMA-167 3/7.2.1 and 4/7.2.1).
pub(super) mod id {
    pub(in super::super) const ANCHOR: u16 = 2;
    pub(in super::super) const VOLUME_POINTER: u16 = 3;
    pub(in super::super) const PARTITION: u16 = 5;
    pub(in super::super) const LOGICAL_VOLUME: u16 = 6;
    pub(in super::super) const TERMINATING: u16 = 8;
    pub(in super::super) const FILE_SET: u16 = 256;
    pub(in super::super) const FILE_IDENTIFIER: u16 = 257;
    pub(in super::super) const ALLOCATION_EXTENT: u16 = 258;
    pub(in super::super) const FILE_ENTRY: u16 = 261;
    pub(in super::super) const EXTENDED_FILE_ENTRY: u16 = 266;
}

/// Reads the block at byte `at` and checks its tag; `location` is the block number that the tag must
/// carry (UDF 2.2.1.3: a stale copy of another block is not accepted). Returns its identifier.
pub(super) fn read_tagged(device: &mut dyn ReadAt, at: u64, location: u32, block: &mut [u8]) -> Result<u16> {
    let end = at.checked_add(block.len() as u64);
    if end.is_none_or(|end| end > device.size_bytes()) {
        return Err(malformed!(MEDIUM, "block past the end of the medium", at));
    }
    device.read_at(at, block)?;
    let identifier = check_tag(block).ok_or(malformed!(MEDIUM, "descriptor tag checksum or CRC", at))?;
    if le32(block, 12) != Some(location) {
        return Err(malformed!(MEDIUM, "descriptor tag location", at));
    }
    Ok(identifier)
}

/// The identifier of the descriptor at the start of `bytes`, if its checksum and CRC are right.
pub(super) fn check_tag(bytes: &[u8]) -> Option<u16> {
    let (tag, body) = bytes.split_first_chunk::<TAG_BYTES>()?;
    has_checksum(tag).then_some(())?;
    let covered = body.get(..usize::from(le16(tag, 10)?))?;
    let identifier = le16(tag, 0)?;
    (le16(tag, 8)? == crc(0, covered) && identifier != 0).then_some(identifier)
}

/// True when byte 4 is the sum of the others.
pub(super) fn has_checksum(tag: &[u8; TAG_BYTES]) -> bool {
    let sum = tag.iter().enumerate().filter(|(i, _)| *i != 4).fold(0_u8, |sum, (_, b)| sum.wrapping_add(*b));
    tag.get(4) == Some(&sum)
}

/// CRC-CCITT, polynomial 0x1021, of what came before (0 at the start) and `bytes` (ECMA-167 3/7.2.6; vector in UDF 6.5).
pub(super) fn crc(before: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(before, |crc: u16, byte| {
        let mut x = (crc >> 8) ^ u16::from(*byte);
        x ^= x >> 4;
        (crc << 8) ^ (x << 12) ^ (x << 5) ^ x
    })
}

#[cfg(test)]
mod tests {
    use super::{check_tag, crc};

    #[test]
    fn the_crc_is_that_of_the_specification() {
        assert_eq!(crc(0, &[0x70, 0x6a, 0x77]), 0x3299);
        assert_eq!(crc(crc(0, b"1234"), b"56789"), 0x31c3);
    }

    #[test]
    fn a_block_of_zeros_is_no_descriptor() {
        assert_eq!(check_tag(&[0; 512]), None);
        assert_eq!(check_tag(&[0; 15]), None);
    }
}
