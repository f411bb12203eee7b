//! Which files has an ISO 9660 volume?
//!
//! As Linux does it: Rock Ridge's names where there is Rock Ridge, else Joliet's, else the plain ones in lower case
//! and without version. A file that one tree has not, or has broken, is looked for in the other. Of several sessions
//! the last is read. Not supported, and said so: interleaved files and zisofs.

mod record;
mod rock_ridge;

#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::le16;
use crate::format::file::File;
use crate::format::volume::name::{Label, Name, push_utf8, push_utf16_be, trimmed};
use crate::format::volume::tree::{Each, Node, Tree};
use crate::format::volume::{FileKind, is_of_device};
use crate::limits;
use record::{RECORD_BYTES, Record};
use rock_ridge::Attributes;

/// The object of every error in here.
const MEDIUM: &str = "ISO 9660 medium";
/// Logical sector (ECMA-119 6.1.2): descriptors and directory records keep to it.
const SECTOR: usize = 2048;
/// The first volume descriptor's sector.
const FIRST: u64 = 16;
/// Where the root's directory record is in a volume descriptor, and the volume identifier.
const ROOT: usize = 156;
const LABEL: core::ops::Range<usize> = 40..72;

/// How the names of a hierarchy are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Names {
    /// `NAME.EXT;1`.
    Plain,
    /// Beside them, after so many bytes of each system use area.
    RockRidge(u8),
    /// UCS-2, big-endian.
    Joliet,
}

/// An ISO 9660 volume whose descriptors have been checked.
#[derive(Debug)]
pub struct Volume {
    primary: Hierarchy,
    joliet: Option<Hierarchy>,
    label: Label,
}

/// One hierarchy of directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hierarchy {
    block_bytes: u16,
    /// Byte of the root's record, in the volume descriptor.
    root: u64,
    names: Names,
}

impl Volume {
    /// True when the medium claims to be one.
    ///
    /// # Errors
    /// `Os` when it cannot be read.
    pub fn is_recognised(device: &mut dyn ReadAt) -> Result<bool> {
        let mut id = [0; 7];
        let at = descriptor_at(device, 0);
        if at.saturating_add(SECTOR as u64) > device.size_bytes() {
            return Ok(false);
        }
        device.read_at(at, &mut id)?;
        Ok(id.get(1..6) == Some(b"CD001"))
    }

    /// Reads the volume's descriptors. `scratch` holds [`SCRATCH_BYTES`](crate::format::volume::SCRATCH_BYTES).
    ///
    /// # Errors
    /// `Malformed` about the medium; `Os` when it cannot be read.
    pub fn open(device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<Self> {
        let full = too_many!("bytes of a block", scratch.len());
        let (mut primary, mut joliet) = (None, None);
        let (mut plain_label, mut joliet_label) = ([b' '; 32], None);
        for index in 0..limits::VOLUME_DESCRIPTORS as u64 {
            let at = descriptor_at(device, index);
            if at.saturating_add(SECTOR as u64) > device.size_bytes() {
                break;
            }
            let sector = scratch.get_mut(..SECTOR).ok_or(full)?;
            device.read_at(at, sector)?;
            if sector.get(1..6) != Some(b"CD001") {
                break;
            }
            let label = || sector.get(LABEL).and_then(|field| field.first_chunk().copied());
            match sector.first() {
                Some(1) if primary.is_none() => {
                    plain_label = label().unwrap_or(plain_label);
                    primary = Some(Hierarchy::parse(sector, at, Names::Plain)?);
                }
                Some(2) if joliet.is_none() && is_joliet(sector) => {
                    joliet_label = label();
                    joliet = Some(Hierarchy::parse(sector, at, Names::Joliet)?);
                }
                Some(255) => break,
                _ => {}
            }
        }
        let mut primary = primary.ok_or(malformed!(MEDIUM, "no primary volume descriptor", 0))?;
        primary.find_rock_ridge(device, scratch)?;
        Ok(Self { primary, joliet, label: label_of(&plain_label, joliet_label)? })
    }

    /// The volume identifier, with the letters that Joliet's has of it; empty: none.
    #[must_use]
    pub fn label(&self) -> &str {
        trimmed(&self.label)
    }

    /// The one with the real names first.
    pub(crate) fn trees(&self) -> [Option<&dyn Tree>; 2] {
        let joliet = self.joliet.as_ref().map(|joliet| joliet as &dyn Tree);
        let primary = Some(&self.primary as &dyn Tree);
        if joliet.is_none() || self.primary.names != Names::Plain {
            return [primary, joliet];
        }
        [joliet, primary]
    }
}

/// Where the volume descriptor of this number is, in the last session.
fn descriptor_at(device: &dyn ReadAt, index: u64) -> u64 {
    FIRST.saturating_add(index).saturating_mul(SECTOR as u64).saturating_add(device.session_bytes())
}

/// Joliet: a supplementary descriptor whose escape sequence says UCS-2 level 1, 2 or 3.
fn is_joliet(sector: &[u8]) -> bool {
    matches!(sector.get(88..91), Some(b"%/@" | b"%/C" | b"%/E"))
}

/// The label as libblkid makes it (superblocks/iso9660.c, merge_utf16be_ascii): Joliet has 16 characters with their
/// case, the plain identifier has 32 of a poor alphabet. Where one can be the other, each gives what it has.
fn label_of(plain: &[u8; 32], joliet: Option<[u8; 32]>) -> Result<Label> {
    let mut label = Label::new();
    let Some(joliet) = joliet else {
        push_utf8(&mut label, plain)?;
        return Ok(label);
    };
    let units = joliet.as_chunks::<2>().0;
    let mut merged = [0; 64];
    for (i, (out, byte)) in merged.as_chunks_mut::<2>().0.iter_mut().zip(plain).enumerate() {
        *out = match units.get(i) {
            None => [0, *byte],
            Some(unit) if *byte == b'_' => *unit,
            Some([0, b'_']) => [0, *byte],
            Some([0, low]) if low.eq_ignore_ascii_case(byte) => {
                [0, if byte.is_ascii_uppercase() { *low } else { *byte }]
            }
            Some(_) => {
                push_utf16_be(&mut label, &joliet)?;
                return Ok(label);
            }
        };
    }
    push_utf16_be(&mut label, &merged)?;
    Ok(label)
}

impl Hierarchy {
    /// Reads a primary or supplementary volume descriptor (ECMA-119 8.4, 8.5).
    fn parse(sector: &[u8], at: u64, names: Names) -> Result<Self> {
        let bad = malformed!(MEDIUM, "volume descriptor", at);
        let block_bytes = le16(sector, 128).ok_or(bad)?;
        if !matches!(block_bytes, 512 | 1024 | 2048) {
            return Err(malformed!(MEDIUM, "logical block size", at));
        }
        let root = Record::parse(sector.get(ROOT..).ok_or(bad)?).ok_or(bad)?;
        if !root.is_directory() {
            return Err(malformed!(MEDIUM, "root is no directory", at));
        }
        Ok(Self { block_bytes, root: at.saturating_add(ROOT as u64), names })
    }

    /// Rock Ridge begins with a mark in the root's own record (SUSP 5.3). A root that cannot be read has none:
    /// whoever reads it is told.
    fn find_rock_ridge(&mut self, device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<()> {
        let mut directory = match self.extent(device, self.root, scratch) {
            Ok(directory) => directory,
            Err(error) if is_of_device(error) => return Err(error),
            Err(_) => return Ok(()),
        };
        let own = scratch.get_mut(..RECORD_BYTES).unwrap_or_default();
        let got = directory.read(device, 0, own)?;
        let record = Record::parse(own.get(..got).unwrap_or_default());
        if let Some(skip) = record.and_then(|record| rock_ridge::skip_of(record.system_use(own))) {
            self.names = Names::RockRidge(skip);
        }
        Ok(())
    }

    const fn byte_of(&self, block: u32) -> u64 {
        (block as u64).saturating_mul(self.block_bytes as u64)
    }

    /// The bytes that the record at byte `at` of the device points to, and those of the sections after it.
    fn extent(&self, device: &mut dyn ReadAt, at: u64, scratch: &mut [u8]) -> Result<File> {
        let mut file = File::new();
        let mut at = at;
        for _ in 0..limits::FILE_EXTENTS {
            let (raw, next) = record::read_at(device, at, scratch)?;
            if raw.is_empty() && file.size_bytes() > 0 {
                // The rest of the sector: the next section's record is in the next one.
                at = next;
                continue;
            }
            let record = Record::parse(raw).ok_or(malformed!(MEDIUM, "directory record", at))?;
            record.check_simple()?;
            // An extended attribute record comes before the bytes (ECMA-119 6.5.1).
            let start = record.start_block.checked_add(u32::from(record.attribute_blocks));
            let start = self.byte_of(start.ok_or(malformed!(MEDIUM, "directory record", at))?);
            file.push(Some(start), u64::from(record.size_bytes), device.size_bytes())?;
            if !record.goes_on() {
                return Ok(file);
            }
            at = next;
        }
        Err(too_many!("sections of a file", limits::FILE_EXTENTS))
    }

    /// Name and node of a record; `None`: it is not to be seen. `rest` is room for what continues it.
    fn understand(
        &self,
        device: &mut dyn ReadAt,
        (raw, at): (&[u8], u64),
        rest: &mut [u8],
        name: &mut Name,
    ) -> Result<Option<Node>> {
        let record = Record::parse(raw).ok_or(malformed!(MEDIUM, "directory record", at))?;
        let kind = if record.is_directory() { FileKind::Directory } else { FileKind::File };
        let mut node = Node { kind, at, size_bytes: u64::from(record.size_bytes) };
        name.clear();
        match self.names {
            Names::Joliet => {
                push_utf16_be(name, record.name(raw))?;
                // Joliet keeps the version of ISO 9660; most writers do write it.
                name.strip(";1");
            }
            Names::Plain => record.push_plain_name(raw, name)?,
            Names::RockRidge(skip) => {
                let use_area = record.system_use(raw).get(usize::from(skip)..).unwrap_or_default();
                let found = Attributes::read(use_area, self.block_bytes, device, rest)?;
                if found.is_relocated {
                    return Ok(None);
                }
                match found.name() {
                    [] => record.push_plain_name(raw, name)?,
                    real => push_utf8(name, real)?,
                }
                node.kind = found.kind().unwrap_or(kind);
                if let Some(block) = found.child_block {
                    // A directory moved up: its own first record, `.`, says where it is.
                    node = Node { kind: FileKind::Directory, at: self.byte_of(block), size_bytes: 0 };
                }
            }
        }
        Ok(Some(node))
    }
}

impl Tree for Hierarchy {
    fn root(&self) -> Node {
        Node { kind: FileKind::Directory, at: self.root, size_bytes: 0 }
    }

    fn is_name(&self, have: &str, wanted: &str) -> bool {
        have == wanted || self.names == Names::Plain && record::is_plain_name(have, wanted)
    }

    #[inline(never)]
    fn each(
        &self,
        device: &mut dyn ReadAt,
        directory: Node,
        _: bool,
        scratch: &mut [u8],
        each: Each<'_>,
    ) -> Result<()> {
        let mut name = Name::new();
        let mut directory = self.extent(device, directory.at, scratch)?;
        if directory.size_bytes() > limits::DIRECTORY {
            return Err(too_many!("bytes of a directory", limits::DIRECTORY as usize));
        }
        let full = too_many!("bytes of a block", scratch.len());
        let (own, rest) = scratch.split_at_mut_checked(RECORD_BYTES).ok_or(full)?;
        // A file whose sections are still coming.
        let mut begun: Option<Node> = None;
        let mut offset = 0;
        while offset < directory.size_bytes() {
            let (raw, next) = record::read_in(&mut directory, device, offset, own)?;
            let place = directory.locate(offset).and_then(|extent| extent.start);
            offset = next;
            let Some(record) = Record::parse(raw).filter(|record| record.is_listed(raw)) else { continue };
            let node = match begun {
                Some(node) => Some(node),
                None => self.understand(device, (raw, place.unwrap_or(0)), rest, &mut name)?,
            };
            let Some(mut node) = node else { continue };
            if begun.is_some() {
                node.size_bytes = node.size_bytes.saturating_add(u64::from(record.size_bytes));
            }
            begun = record.goes_on().then_some(node);
            if begun.is_none() && each(name.as_str(), node)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn file(&self, device: &mut dyn ReadAt, node: Node, scratch: &mut [u8]) -> Result<File> {
        if let Names::RockRidge(skip) = self.names {
            let full = too_many!("bytes of a block", scratch.len());
            let (own, rest) = scratch.split_at_mut_checked(RECORD_BYTES).ok_or(full)?;
            let (raw, _) = record::read_at(device, node.at, own)?;
            let record = Record::parse(raw).ok_or(malformed!(MEDIUM, "directory record", node.at))?;
            let use_area = record.system_use(raw).get(usize::from(skip)..).unwrap_or_default();
            if Attributes::read(use_area, self.block_bytes, device, rest)?.is_compressed {
                return Err(unsupported!(MEDIUM, "file compressed with zisofs"));
            }
        }
        self.extent(device, node.at, scratch)
    }
}
