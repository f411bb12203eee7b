//! What do the system use entries of a record say? (SUSP 1.12; RRIP 1.12, 4.1)

use super::{MEDIUM, SECTOR};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le32;
use crate::format::volume::FileKind;
use crate::limits;

/// File name bytes; NAME_MAX of every Unix.
const NAME_BYTES: usize = 255;

/// What counts of Rock Ridge.
#[derive(Default)]
pub(super) struct Attributes {
    name: heapless::Vec<u8, NAME_BYTES>,
    /// `st_mode`; 0 is none.
    mode: u32,
    /// The record only keeps the place of a directory that was moved up, and is at this block.
    pub(super) child_block: Option<u32>,
    /// The directory belongs somewhere else, where it has a record with a `child_block`.
    pub(super) is_relocated: bool,
    /// zisofs.
    pub(super) is_compressed: bool,
}

/// A continuation area.
#[derive(Clone, Copy)]
struct Area {
    block: u32,
    offset: u32,
    length: u32,
}

/// How many bytes come before the entries of each system use area, if the root's own begins with the mark `SP`.
/// Linux (fs/isofs/rock.c) looks for it at the start and behind the attributes of CD-ROM XA.
pub(super) fn skip_of(system_use: &[u8]) -> Option<u8> {
    [0, 14].into_iter().find_map(|at| match system_use.get(at..)?.first_chunk()? {
        [b'S', b'P', 7, 1, 0xBE, 0xEF, skip] => Some(*skip),
        _ => None,
    })
}

impl Attributes {
    /// The name's bytes; empty: none.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// What the mode says it is.
    pub(super) const fn kind(&self) -> Option<FileKind> {
        match self.mode & 0o170_000 {
            0 => None,
            0o100_000 => Some(FileKind::File),
            0o040_000 => Some(FileKind::Directory),
            0o120_000 => Some(FileKind::Symlink),
            _ => Some(FileKind::Other),
        }
    }

    /// Reads a record's entries and those in the areas that continue them. `scratch` holds a sector.
    #[inline(never)]
    pub(super) fn read(
        system_use: &[u8],
        block_bytes: u16,
        device: &mut dyn ReadAt,
        scratch: &mut [u8],
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut next = found.add_all(system_use)?;
        for _ in 0..limits::CONTINUATIONS {
            let Some(area) = next else { return Ok(found) };
            let at = u64::from(area.block).saturating_mul(u64::from(block_bytes));
            let at = at.saturating_add(u64::from(area.offset));
            let bad = malformed!(MEDIUM, "continuation area", at);
            let length = usize::try_from(area.length).ok().filter(|length| *length <= SECTOR);
            let part = length.and_then(|length| scratch.get_mut(..length)).ok_or(bad)?;
            if at.checked_add(part.len() as u64).is_none_or(|end| end > device.size_bytes()) {
                return Err(bad);
            }
            device.read_at(at, part)?;
            next = found.add_all(part)?;
        }
        Err(too_many!("continuation areas of a record", limits::CONTINUATIONS))
    }

    /// Takes the entries of one area; returns where they go on.
    fn add_all(&mut self, area: &[u8]) -> Result<Option<Area>> {
        let (mut rest, mut next) = (area, None);
        while let Some([a, b, length, _]) = rest.first_chunk::<4>().copied() {
            let length = usize::from(length);
            // Less than a header is the end: writers fill up with zeros.
            let Some((entry, behind)) = rest.split_at_checked(length).filter(|_| length >= 4) else { break };
            rest = behind;
            match &[a, b] {
                b"NM" => self.add_name(entry)?,
                b"PX" => self.mode = le32(entry, 4).unwrap_or(0),
                b"CL" => self.child_block = le32(entry, 4),
                b"RE" => self.is_relocated = true,
                b"ZF" => self.is_compressed = true,
                b"CE" => next = area_of(entry),
                b"ST" => break,
                _ => {}
            }
        }
        Ok(next)
    }

    /// A part of the name. Flags 2 and 4 stand for `.` and `..`.
    fn add_name(&mut self, entry: &[u8]) -> Result<()> {
        let Some((flags, part)) = entry.get(4..).and_then(<[u8]>::split_first) else { return Ok(()) };
        if flags & 6 != 0 {
            return Ok(());
        }
        let full = too_many!("bytes of a Rock Ridge name", NAME_BYTES);
        self.name.extend_from_slice(part).map_err(|_| full)
    }
}

fn area_of(entry: &[u8]) -> Option<Area> {
    Some(Area { block: le32(entry, 4)?, offset: le32(entry, 12)?, length: le32(entry, 20)? })
}

#[cfg(test)]
mod tests {
    use super::{Attributes, skip_of};
    use crate::error::Kind;
    use crate::format::media::Strict;
    use crate::format::volume::FileKind;
    use std::vec::Vec;

    fn read(area: &[u8], medium: &[u8]) -> Result<Attributes, crate::error::Error> {
        Attributes::read(area, 2048, &mut Strict::new(medium), &mut [0; 2048])
    }

    fn continuation(block: u32, offset: u32, length: u32) -> Vec<u8> {
        let mut entry = b"CE\x1c\x01".to_vec();
        for number in [block, offset, length] {
            entry.extend(number.to_le_bytes());
            entry.extend(number.to_be_bytes());
        }
        entry
    }

    #[test]
    fn a_name_may_come_in_parts_and_go_on_elsewhere() {
        assert_eq!(read(b"PX\x04\x01NM\x08\x01\0a.bTF\x04\x01", &[]).unwrap().name(), b"a.b");
        assert_eq!(read(b"NM\x07\x01\x01a.NM\x06\x01\0b", &[]).unwrap().name(), b"a.b");
        for none in
            [&b""[..], b"PX\x04\x01", b"NM\0\x01", b"NM\xff\x01\0a.b", b"\0\0\0\0\0", b"NM\x05\x01\x02"]
        {
            assert_eq!(read(none, &[]).unwrap().name(), b"", "{none:?}");
        }
        let mut medium = [0; 4096];
        medium[2058..2066].copy_from_slice(b"NM\x08\x01\0xyz");
        let area = [&b"NM\x08\x01\x01abc"[..], &continuation(1, 10, 8)].concat();
        assert_eq!(read(&area, &medium).unwrap().name(), b"abcxyz");
    }

    #[test]
    fn continuations_end_and_stay_on_the_medium() {
        let mut medium = [0; 4096];
        let ring = continuation(1, 0, 28);
        medium[2048..2076].copy_from_slice(&ring);
        assert!(matches!(read(&ring, &medium), Err(error) if error.is(Kind::TooMany)));
        for (block, offset, length) in [(2, 0, 1), (1, 2048, 1), (1, 0, 2049), (u32::MAX, u32::MAX, 4)] {
            let result = read(&continuation(block, offset, length), &medium);
            assert!(matches!(result, Err(error) if error.is(Kind::Malformed)), "{block} {offset} {length}");
        }
    }

    #[test]
    fn the_mode_says_what_it_is() {
        for (mode, kind) in [
            (0o100_644_u32, Some(FileKind::File)),
            (0o040_755, Some(FileKind::Directory)),
            (0o120_777, Some(FileKind::Symlink)),
            (0o020_600, Some(FileKind::Other)),
            (0o644, None),
        ] {
            let area = [&b"PX\x24\x01"[..], &mode.to_le_bytes(), &[0; 28]].concat();
            assert_eq!(read(&area, &[]).unwrap().kind(), kind, "{mode:o}");
        }
    }

    #[test]
    fn the_mark_may_come_after_the_attributes_of_xa() {
        let mark = b"SP\x07\x01\xbe\xef\x0e";
        assert_eq!(skip_of(mark), Some(14));
        assert_eq!(skip_of(&[&[0; 14][..], mark].concat()), Some(14));
        assert_eq!(skip_of(b"RR\x05\x01\x81"), None);
    }
}
