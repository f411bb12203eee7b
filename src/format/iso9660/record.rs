//! Which record of a directory has this name? (ECMA-119 9.1, 7.5; Joliet; SUSP 5, RRIP 4.1.4)

use super::{MEDIUM, SECTOR};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le32;
use crate::format::file::File;
use crate::limits;

/// Fixed part of a directory record.
const HEADER: usize = 33;

/// How the names of a tree are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Names {
    /// Rock Ridge where there is one, else `NAME.EXT;1`.
    Primary,
    /// UCS-2, big-endian.
    Joliet,
}

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
            is_interleaved: header.get(26..28)? != [0, 0],
        })
    }

    pub(super) const fn is_directory(&self) -> bool {
        self.flags & 0x02 != 0
    }

    /// Associated files belong to another of the same name (resource forks).
    const fn is_associated(&self) -> bool {
        self.flags & 0x04 != 0
    }

    /// Refuses what we do not read.
    pub(super) const fn check_simple(&self) -> Result<()> {
        if self.flags & 0x80 != 0 {
            return Err(unsupported!(MEDIUM, "file of several sections"));
        }
        if self.is_interleaved {
            return Err(unsupported!(MEDIUM, "interleaved file"));
        }
        Ok(())
    }
}

/// Finds `name` among the records of `directory`.
pub(super) fn find(
    directory: &File,
    device: &mut dyn ReadAt,
    name: &str,
    names: Names,
    scratch: &mut [u8],
) -> Result<Option<Record>> {
    if directory.size_bytes() > limits::DIRECTORY {
        return Err(too_many!("bytes of a directory", limits::DIRECTORY as usize));
    }
    let mut offset = 0_u64;
    while offset < directory.size_bytes() {
        let sector_end = offset.saturating_add(1).next_multiple_of(SECTOR as u64);
        let Some(record) = read_record(directory, device, offset, sector_end, scratch)? else {
            // A record does not cross a sector (ECMA-119 6.8.1.1): zeros fill the rest.
            offset = sector_end;
            continue;
        };
        let parsed = Record::parse(record).ok_or(malformed!(MEDIUM, "directory record", offset))?;
        if !parsed.is_associated() && is_named(record, name, names) {
            return Ok(Some(parsed));
        }
        offset = offset.saturating_add(record.len() as u64);
    }
    Ok(None)
}

/// The record at `offset`; `None` when the rest of the sector is empty.
fn read_record<'b>(
    directory: &File,
    device: &mut dyn ReadAt,
    offset: u64,
    sector_end: u64,
    scratch: &'b mut [u8],
) -> Result<Option<&'b [u8]>> {
    let bad = malformed!(MEDIUM, "directory record", offset);
    let room = usize::try_from(sector_end.saturating_sub(offset)).unwrap_or(usize::MAX).min(255);
    let buf = scratch.get_mut(..room).ok_or(bad)?;
    let got = directory.read(device, offset, buf)?;
    let length = usize::from(*buf.first().ok_or(bad)?);
    if length == 0 {
        return Ok(None);
    }
    let whole = buf.get(..got).and_then(|buf| buf.get(..length)).filter(|whole| whole.len() > HEADER);
    whole.ok_or(bad).map(Some)
}

#[inline(never)]
fn is_named(record: &[u8], wanted: &str, names: Names) -> bool {
    let length = usize::from(record.get(32).copied().unwrap_or(0));
    let end = HEADER.saturating_add(length);
    let name = record.get(HEADER..end).unwrap_or_default();
    // "." and ".." are a single 0 and 1.
    if matches!(name, [] | [0] | [1]) {
        return false;
    }
    match names {
        Names::Joliet => is_joliet_name(name, wanted),
        Names::Primary => {
            // System use begins at an even place (ECMA-119 9.1.12).
            let system_use = record.get(end.next_multiple_of(2)..);
            match rock_ridge_is(system_use.unwrap_or_default(), wanted) {
                Some(is_equal) => is_equal,
                None => is_plain_name(name, wanted),
            }
        }
    }
}

/// `OVF-ENV.XML;1`: case and version do not count. Strict writers put `_` for what ISO 9660 has no letter for.
fn is_plain_name(name: &[u8], wanted: &str) -> bool {
    let name = name.split(|b| *b == b';').next().unwrap_or_default();
    // A name without extension may end with its dot.
    let name = if wanted.contains('.') { name } else { name.strip_suffix(b".").unwrap_or(name) };
    let is_same = |(have, want): (&u8, u8)| {
        let is_replaced = *have == b'_' && !want.is_ascii_alphanumeric() && want != b'.';
        have.eq_ignore_ascii_case(&want) || is_replaced
    };
    name.len() == wanted.len() && name.iter().zip(wanted.bytes()).all(is_same)
}

/// Joliet keeps the version of ISO 9660 (`;1`), most writers do write it.
fn is_joliet_name(name: &[u8], wanted: &str) -> bool {
    let (pairs, odd) = name.as_chunks::<2>();
    let units = || pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    odd.is_empty()
        && (units().eq(wanted.encode_utf16()) || units().eq(wanted.encode_utf16().chain([0x3b, 0x31])))
}

/// Compares with the Rock Ridge name; `None` when there is none in the record itself.
fn rock_ridge_is(system_use: &[u8], wanted: &str) -> Option<bool> {
    let mut rest = system_use;
    let mut wanted = wanted.as_bytes();
    let mut has_name = false;
    while let Some([a, b, length, version]) = rest.first_chunk::<4>().copied() {
        let length = usize::from(length);
        let entry = rest.get(..length).filter(|_| version == 1)?;
        if (a, b) == (b'N', b'M') {
            let flags = *entry.get(4)?;
            let part = entry.get(5..)?;
            has_name = true;
            wanted = match wanted.strip_prefix(part) {
                Some(left) if flags & 1 == 0 => return Some(left.is_empty()),
                Some(left) => left,
                None => return Some(false),
            };
        }
        rest = rest.get(length..).filter(|_| length >= 4)?;
    }
    // The name goes on in a continuation area: longer than anything we look for.
    has_name.then_some(false)
}

#[cfg(test)]
mod tests {
    use super::{is_joliet_name, is_plain_name, rock_ridge_is};

    #[test]
    fn plain_names_differ_in_case_and_version_only() {
        for same in ["OVF-ENV.XML;1", "ovf-env.xml", "Ovf-Env.Xml;2", "OVF_ENV.XML;1"] {
            assert!(is_plain_name(same.as_bytes(), "ovf-env.xml"), "{same}");
        }
        for other in ["OVF-ENV.XM;1", "OVF-ENV.XML1", "OVFENV.XML;1", ";1", "OVF-ENV_XML;1", "_VF-ENV.XML"] {
            assert!(!is_plain_name(other.as_bytes(), "ovf-env.xml"), "{other}");
        }
        assert!(is_plain_name(b"README.;1", "readme"));
    }

    #[test]
    fn joliet_names_are_compared_letter_for_letter() {
        assert!(is_joliet_name(b"\0a\0.\0b\0;\x001", "a.b"));
        assert!(is_joliet_name(b"\0a\0.\0b", "a.b"));
        assert!(!is_joliet_name(b"\0A\0.\0b", "a.b"));
        assert!(!is_joliet_name(b"\0a\0.\0b\0", "a.b"));
    }

    #[test]
    fn a_rock_ridge_name_may_come_in_parts() {
        assert_eq!(rock_ridge_is(b"PX\x04\x01NM\x08\x01\0a.bTF\x04\x01", "a.b"), Some(true));
        assert_eq!(rock_ridge_is(b"NM\x07\x01\x01a.NM\x06\x01\0b", "a.b"), Some(true));
        assert_eq!(rock_ridge_is(b"NM\x07\x01\x01a.", "a.b"), Some(false));
        assert_eq!(rock_ridge_is(b"NM\x08\x01\0A.b", "a.b"), Some(false));
        for none in [&b""[..], b"PX\x04\x01", b"NM\0\x01", b"NM\xff\x01\0a.b", b"\0\0\0\0\0"] {
            assert_eq!(rock_ridge_is(none, "a.b"), None, "{none:?}");
        }
    }
}
