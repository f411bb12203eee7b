//! Which entry of a directory has this name? (ECMA-167 4/14.4, UDF 2.1.1, 2.3.4)

use super::MEDIUM;
use super::partition::Location;
use super::tag::{check_tag, id};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le16;
use crate::format::file::File;
use crate::limits;

/// Fixed part of a file identifier descriptor.
const HEADER: usize = 38;
/// Characteristics: the entry is deleted, or is the parent.
const DELETED_OR_PARENT: u8 = 0x04 | 0x08;

/// Finds `name`, letter for letter, among the entries of `directory`.
pub(super) fn find(
    directory: &File,
    device: &mut dyn ReadAt,
    name: &str,
    scratch: &mut [u8],
) -> Result<Option<Location>> {
    if directory.size_bytes() > limits::DIRECTORY {
        return Err(too_many!("bytes of a directory", limits::DIRECTORY as usize));
    }
    let mut offset = 0;
    while offset < directory.size_bytes() {
        let entry = read_entry(directory, device, offset, scratch)?;
        if entry.flags & DELETED_OR_PARENT == 0 && is_name(entry.name, name) {
            return Ok(Some(entry.icb));
        }
        offset = offset.saturating_add(entry.length as u64);
    }
    Ok(None)
}

/// A file identifier descriptor.
struct Identifier<'b> {
    flags: u8,
    icb: Location,
    name: &'b [u8],
    /// Length on the medium, padding included.
    length: usize,
}

fn read_entry<'b>(
    directory: &File,
    device: &mut dyn ReadAt,
    offset: u64,
    scratch: &'b mut [u8],
) -> Result<Identifier<'b>> {
    let bad = malformed!(MEDIUM, "file identifier", offset);
    let header = scratch.get_mut(..HEADER).ok_or(bad)?;
    if directory.read(device, offset, header)? < HEADER {
        return Err(bad);
    }
    let name_length = usize::from(*header.get(19).ok_or(bad)?);
    let use_length = usize::from(le16(header, 36).ok_or(bad)?);
    let name_start = HEADER.saturating_add(use_length);
    let name_end = name_start.saturating_add(name_length);
    let length = name_end.checked_next_multiple_of(4).ok_or(bad)?;
    // UDF 2.3.4: an identifier is not longer than a block, so scratch holds any that is allowed.
    let whole = scratch.get_mut(..length).ok_or(bad)?;
    if directory.read(device, offset, whole)? < length {
        return Err(bad);
    }
    let whole: &[u8] = whole;
    if check_tag(whole) != Some(id::FILE_IDENTIFIER) {
        return Err(bad);
    }
    Ok(Identifier {
        flags: *whole.get(18).ok_or(bad)?,
        icb: Location::parse_long(whole, 20).ok_or(bad)?,
        name: whole.get(name_start..name_end).ok_or(bad)?,
        length,
    })
}

/// OSTA compressed Unicode (UDF 2.1.1): 8 has one byte per character, 16 two, big-endian.
fn is_name(raw: &[u8], wanted: &str) -> bool {
    match raw.split_first() {
        Some((8, rest)) => rest.iter().map(|b| char::from(*b)).eq(wanted.chars()),
        Some((16, rest)) => {
            let (pairs, odd) = rest.as_chunks::<2>();
            odd.is_empty() && pairs.iter().map(|pair| u16::from_be_bytes(*pair)).eq(wanted.encode_utf16())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_compared_letter_for_letter_in_both_compressions() {
        assert!(is_name(b"\x08ovf-env.xml", "ovf-env.xml"));
        assert!(is_name(b"\x08caf\xe9", "caf\u{e9}"));
        assert!(is_name(b"\x10\0o\x20\xac", "o\u{20ac}"));
        for other in
            [&b"\x08OVF-ENV.XML"[..], b"\x08ovf-env.xml\0", b"\x10\0o\0", b"\xfe\0\0\0\0", b"", b"\x08"]
        {
            assert!(!is_name(other, "ovf-env.xml") && !is_name(other, "o"), "{other:?}");
        }
    }
}
