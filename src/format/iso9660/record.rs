//! What does a directory record say? (ECMA-119 9.1, 7.5)

use super::{MEDIUM, SECTOR};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le32;
use crate::format::file::File;
use crate::format::volume::name::{Name, push_chars};

/// Fixed part of a directory record.
const HEADER: usize = 33;
/// The longest record: its length is a byte.
pub(super) const RECORD_BYTES: usize = 255;

/// A directory record's fixed part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Record {
    /// First block of the extent.
    pub(super) start_block: u32,
    /// Blocks of the extended attribute record before the bytes.
    pub(super) attribute_blocks: u8,
    /// Length of the bytes.
    pub(super) size_bytes: u32,
    flags: u8,
    name_bytes: u8,
    is_interleaved: bool,
}

impl Record {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<HEADER>()?;
        Some(Self {
            start_block: le32(header, 2)?,
            attribute_blocks: *header.get(1)?,
            size_bytes: le32(header, 10)?,
            flags: *header.get(25)?,
            name_bytes: *header.get(32)?,
            is_interleaved: header.get(26..28)? != [0, 0],
        })
    }

    pub(super) const fn is_directory(&self) -> bool {
        self.flags & 0x02 != 0
    }

    /// More sections of the same file follow: a section is shorter than 4 GiB.
    pub(super) const fn goes_on(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// Refuses what we do not read.
    pub(super) const fn check_simple(&self) -> Result<()> {
        if self.is_interleaved {
            return Err(unsupported!(MEDIUM, "interleaved file"));
        }
        Ok(())
    }

    /// The name's bytes in the whole record.
    pub(super) fn name<'b>(&self, raw: &'b [u8]) -> &'b [u8] {
        let end = HEADER.saturating_add(usize::from(self.name_bytes));
        raw.get(HEADER..end).unwrap_or_default()
    }

    /// What follows the name, from an even place on (ECMA-119 9.1.12).
    pub(super) fn system_use<'b>(&self, raw: &'b [u8]) -> &'b [u8] {
        let end = HEADER.saturating_add(usize::from(self.name_bytes)).next_multiple_of(2);
        let length = raw.first().copied().map_or(0, usize::from);
        raw.get(end..length.min(raw.len())).unwrap_or_default()
    }

    /// False for `.` and `..`, which are a single 0 and 1, and for what belongs to another file of the same name
    /// (resource forks).
    pub(super) fn is_listed(&self, raw: &[u8]) -> bool {
        self.flags & 0x04 == 0 && !matches!(self.name(raw), [] | [0] | [1])
    }

    /// `NAME.EXT;1` as Linux shows it.
    pub(super) fn push_plain_name(&self, raw: &[u8], name: &mut Name) -> Result<()> {
        let shown = self.name(raw).split(|b| *b == b';').next().unwrap_or_default();
        // A name without extension ends with its dot.
        let shown = shown.strip_suffix(b".").unwrap_or(shown);
        let show = |byte: &u8| match char::from(*byte) {
            c if c.is_ascii() => c.to_ascii_lowercase(),
            _ => char::REPLACEMENT_CHARACTER,
        };
        push_chars(name, &mut shown.iter().map(show))
    }
}

/// As [`read_in`], at a byte of the device.
pub(super) fn read_at<'b>(
    device: &mut dyn ReadAt,
    at: u64,
    scratch: &'b mut [u8],
) -> Result<(&'b [u8], u64)> {
    let mut around = File::new();
    let sector = at.saturating_add(1).next_multiple_of(SECTOR as u64).saturating_sub(SECTOR as u64);
    let in_sector = at.saturating_sub(sector);
    around.push(Some(sector), SECTOR as u64, device.size_bytes())?;
    let (raw, next) = read_in(&mut around, device, in_sector, scratch)?;
    Ok((raw, next.saturating_add(sector)))
}

/// Reads the record at `offset` of a directory; empty when the rest of the sector is. Also returns where the next
/// one is.
pub(super) fn read_in<'b>(
    directory: &mut File,
    device: &mut dyn ReadAt,
    offset: u64,
    scratch: &'b mut [u8],
) -> Result<(&'b [u8], u64)> {
    let bad = malformed!(MEDIUM, "directory record", offset);
    let sector_end = offset.saturating_add(1).next_multiple_of(SECTOR as u64);
    let room = usize::try_from(sector_end.saturating_sub(offset)).unwrap_or(usize::MAX).min(RECORD_BYTES);
    let buf = scratch.get_mut(..room).ok_or(bad)?;
    let got = directory.read(device, offset, buf)?;
    let length = usize::from(*buf.first().ok_or(bad)?);
    if length == 0 {
        // A record does not cross a sector (ECMA-119 6.8.1.1): zeros fill the rest.
        return Ok((&[], sector_end));
    }
    let whole = buf.get(..got).and_then(|buf| buf.get(..length)).filter(|whole| whole.len() > HEADER);
    Ok((whole.ok_or(bad)?, offset.saturating_add(length as u64)))
}

/// Case does not count. Strict writers put `_` for what ISO 9660 has no letter for.
#[inline(never)]
pub(super) fn is_plain_name(have: &str, wanted: &str) -> bool {
    let is_same = |(have, want): (u8, u8)| {
        let is_replaced = have == b'_' && !want.is_ascii_alphanumeric() && want != b'.';
        have.eq_ignore_ascii_case(&want) || is_replaced
    };
    have.len() == wanted.len() && have.bytes().zip(wanted.bytes()).all(is_same)
}

#[cfg(test)]
mod tests {
    use super::{Record, is_plain_name};
    use crate::format::volume::name::Name;
    use std::vec;

    fn shown(name: &[u8]) -> std::string::String {
        let mut raw = vec![0; 33 + name.len()];
        raw[32] = name.len() as u8;
        raw[33..].copy_from_slice(name);
        let mut shown = Name::new();
        Record::parse(&raw).unwrap().push_plain_name(&raw, &mut shown).unwrap();
        shown.as_str().into()
    }

    #[test]
    fn plain_names_differ_in_case_and_version_only() {
        for same in ["OVF-ENV.XML;1", "ovf-env.xml", "Ovf-Env.Xml;2", "OVF_ENV.XML;1"] {
            assert!(is_plain_name(&shown(same.as_bytes()), "ovf-env.xml"), "{same}");
        }
        for other in ["OVF-ENV.XM;1", "OVF-ENV.XML1", "OVFENV.XML;1", ";1", "OVF-ENV_XML;1", "_VF-ENV.XML"] {
            assert!(!is_plain_name(&shown(other.as_bytes()), "ovf-env.xml"), "{other}");
        }
        assert_eq!(shown(b"README.;1"), "readme");
        assert_eq!(shown(b"\xe9;1"), "\u{fffd}");
    }
}
