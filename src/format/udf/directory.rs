//! Which names does a directory have? (ECMA-167 4/14.4, UDF 2.1.1, 2.3.4)

use super::MEDIUM;
use super::partition::Location;
use super::tag::{check_tag, id};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le16;
use crate::format::file::File;

/// Fixed part of a file identifier descriptor.
const HEADER: usize = 38;
/// Characteristics: a directory; the entry is deleted; it is the parent.
const DIRECTORY: u8 = 0x02;
const DELETED: u8 = 0x04;
const PARENT: u8 = 0x08;

/// A file identifier descriptor.
pub(super) struct Identifier<'b> {
    flags: u8,
    /// Where its file entry is.
    pub(super) icb: Location,
    /// OSTA compressed Unicode.
    pub(super) name: &'b [u8],
    /// Length on the medium, padding included.
    pub(super) length: usize,
}

impl Identifier<'_> {
    pub(super) const fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    pub(super) const fn is_listed(&self) -> bool {
        self.flags & (DELETED | PARENT) == 0
    }
}

/// Reads the entry at `offset` of a directory.
pub(super) fn read_entry<'b>(
    directory: &mut File,
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
