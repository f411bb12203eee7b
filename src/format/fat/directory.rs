//! Which names does a directory have? (fatgen103, "FAT Directory Structure" and "Long File Names")

use super::MEDIUM;
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le16;
use crate::format::file::File;
use crate::format::volume::name::{Name, push_chars, push_utf16};
use core::ops::ControlFlow;

/// One entry, or a part of a long name.
pub(super) const ENTRY_BYTES: usize = 32;
/// Entries read at once; no sector is smaller.
const CHUNK: usize = 512;
/// UTF-16 units of a long name in one entry, and how many entries there may be.
const PART: usize = 13;
const PARTS: usize = 20;

/// Attributes.
const LABEL: u8 = 0x08;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0F;

/// An entry that is in use.
pub(super) struct Short<'b>(&'b [u8; ENTRY_BYTES]);

impl Short<'_> {
    fn attributes(&self) -> u8 {
        self.0[11]
    }

    /// It is the label of the volume, no file.
    pub(super) fn is_label(&self) -> bool {
        self.attributes() & (LABEL | DIRECTORY) == LABEL
    }

    pub(super) fn is_directory(&self) -> bool {
        self.attributes() & DIRECTORY != 0
    }

    /// First cluster; its upper half has a meaning in FAT32 only.
    pub(super) fn cluster(&self, has_upper: bool) -> u32 {
        let half = |at| u32::from(le16(self.0, at).unwrap_or(0));
        half(26) | if has_upper { half(20) << 16 } else { 0 }
    }

    pub(super) fn size_bytes(&self) -> u32 {
        crate::format::bytes::le32(self.0, 28).unwrap_or(0)
    }

    /// `.` and `..`.
    pub(super) fn is_dots(&self) -> bool {
        matches!(self.0, [b'.', b' ' | b'.', b' ', ..])
    }

    /// The eleven bytes of the label, or of the name.
    pub(super) fn raw_name(&self) -> [u8; 11] {
        let mut raw = *self.raw();
        if let [first @ 0x05, ..] = &mut raw {
            // Else it would mark a deleted entry.
            *first = 0xE5;
        }
        raw
    }

    /// `NAME.EXT`, with the lower case that Windows NT keeps in two bits.
    fn push_name(&self, name: &mut Name) -> Result<()> {
        let raw = self.raw_name();
        let (base, extension) = raw.split_at(8);
        let case = self.0[12];
        push_oem(name, base, case & 0x08 != 0)?;
        if !extension.trim_ascii_end().is_empty() {
            push_chars(name, &mut core::iter::once('.'))?;
            push_oem(name, extension, case & 0x10 != 0)?;
        }
        Ok(())
    }

    fn checksum(&self) -> u8 {
        self.raw().iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
    }

    fn raw(&self) -> &[u8; 11] {
        const { assert!(ENTRY_BYTES >= 11) };
        self.0.first_chunk().unwrap_or(&[0; 11])
    }
}

/// Which code page it is nobody says: beyond ASCII it is shown as unknown.
pub(super) fn push_oem(out: &mut dyn core::fmt::Write, raw: &[u8], is_lower: bool) -> Result<()> {
    let show = |byte: &u8| match (char::from(*byte), is_lower) {
        (c, _) if !c.is_ascii() => char::REPLACEMENT_CHARACTER,
        (c, true) => c.to_ascii_lowercase(),
        (c, false) => c,
    };
    push_chars(out, &mut raw.trim_ascii_end().iter().map(show))
}

/// A long name, whose parts come before its entry, the last first.
pub(super) struct Long {
    units: [u16; PARTS * PART],
    parts: u8,
    /// Parts still to come; a name is whole at 0.
    missing: u8,
    checksum: u8,
}

impl Long {
    const NONE: u8 = u8::MAX;

    const fn new() -> Self {
        Self { units: [0; PARTS * PART], parts: 0, missing: Self::NONE, checksum: 0 }
    }

    const fn clear(&mut self) {
        self.missing = Self::NONE;
    }

    /// Takes one part. One that does not follow on the last belongs to nobody.
    fn add(&mut self, raw: &[u8; ENTRY_BYTES]) {
        let (order, checksum) = (raw[0] & 0x3F, raw[13]);
        if raw[0] & 0x40 != 0 && (1..=PARTS as u8).contains(&order) {
            (self.parts, self.missing, self.checksum) = (order, order, checksum);
        }
        if self.missing != order || order == 0 || self.checksum != checksum {
            return self.clear();
        }
        self.missing = order.saturating_sub(1);
        // Attributes, checksum and cluster lie between its units.
        let units = [1..11, 14..26, 28..32].into_iter().filter_map(|range| raw.get(range)).flatten();
        let (low, high) = (units.clone().step_by(2), units.skip(1).step_by(2));
        let from = usize::from(self.missing).saturating_mul(PART);
        for (unit, (low, high)) in self.units.iter_mut().skip(from).zip(low.zip(high)) {
            *unit = u16::from_le_bytes([*low, *high]);
        }
    }

    /// The name, if it is whole and belongs to this entry.
    fn push_name(&self, short: &Short<'_>, name: &mut Name) -> Result<bool> {
        if self.missing != 0 || self.checksum != short.checksum() {
            return Ok(false);
        }
        let length = usize::from(self.parts).saturating_mul(PART);
        push_utf16(name, &mut self.units.iter().take(length).copied().take_while(|unit| *unit != 0))?;
        Ok(true)
    }
}

/// The long name of an entry, else the short one.
pub(super) fn push_name(short: &Short<'_>, long: &Long, name: &mut Name) -> Result<()> {
    if long.push_name(short, name)? { Ok(()) } else { short.push_name(name) }
}

/// Goes through the entries of a directory.
pub(super) fn each_entry(
    directory: &mut File,
    device: &mut dyn ReadAt,
    scratch: &mut [u8],
    each: &mut dyn FnMut(&Short<'_>, &Long) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut long = Long::new();
    let mut offset = 0_u64;
    while offset < directory.size_bytes() {
        let bad = malformed!(MEDIUM, "directory", offset);
        let chunk = scratch.get_mut(..CHUNK).ok_or(bad)?;
        let got = directory.read(device, offset, chunk)?;
        for raw in chunk.get(..got).unwrap_or_default().as_chunks::<ENTRY_BYTES>().0 {
            match (raw[0], raw[11] & 0x3F) {
                (0, _) => return Ok(()),
                (0xE5, _) => long.clear(),
                (_, LONG_NAME) => long.add(raw),
                _ => {
                    if each(&Short(raw), &long)?.is_break() {
                        return Ok(());
                    }
                    long.clear();
                }
            }
        }
        offset = offset.saturating_add(CHUNK as u64);
    }
    Ok(())
}
