//! Which file of an ISO 9660 volume has this path, and where are its bytes?
//!
//! Names are looked for in the Joliet tree first (letter for letter), then in the primary one: by Rock Ridge
//! name (letter for letter), else by the plain name, where case and `;1` do not count. Not supported, and said so:
//! interleaved files and files of several sections (above 4 GiB).

mod record;

#[cfg(test)]
mod tests;

use crate::error::{Errno, Result};
use crate::format::ReadAt;
use crate::format::bytes::le16;
use crate::format::file::File;
use crate::format::volume::is_of_device;
use crate::limits;
use record::{Names, Record};

/// The object of every error in here.
const MEDIUM: &str = "ISO 9660 medium";
/// Logical sector (ECMA-119 6.1.2): descriptors and directory records keep to it.
const SECTOR: usize = 2048;
/// The first volume descriptor's sector.
const FIRST: u64 = 16;

/// An ISO 9660 volume whose descriptors have been checked.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    primary: Tree,
    joliet: Option<Tree>,
}

/// One hierarchy of directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Tree {
    block_bytes: u16,
    /// Extent of the root directory.
    root: Record,
}

impl Volume {
    /// True when the medium claims to be one.
    ///
    /// # Errors
    /// `Os` when it cannot be read.
    pub fn is_recognised(device: &mut dyn ReadAt) -> Result<bool> {
        let mut id = [0; 7];
        let at = FIRST.saturating_mul(SECTOR as u64);
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
        let sector = scratch.get_mut(..SECTOR).ok_or(full)?;
        let (mut primary, mut joliet) = (None, None);
        for index in 0..limits::VOLUME_DESCRIPTORS as u64 {
            let at = FIRST.saturating_add(index).saturating_mul(SECTOR as u64);
            if at.saturating_add(SECTOR as u64) > device.size_bytes() {
                break;
            }
            device.read_at(at, sector)?;
            if sector.get(1..6) != Some(b"CD001") {
                break;
            }
            match sector.first() {
                Some(1) if primary.is_none() => primary = Some(Tree::parse(sector, at)?),
                Some(2) if joliet.is_none() && is_joliet(sector) => joliet = Some(Tree::parse(sector, at)?),
                Some(255) => break,
                _ => {}
            }
        }
        let primary = primary.ok_or(malformed!(MEDIUM, "no primary volume descriptor", 0))?;
        Ok(Self { primary, joliet })
    }

    /// Finds a regular file by its path from the root (`a/b`).
    ///
    /// # Errors
    /// `Os(NOENT)` when there is none, `Os(ISDIR)` or `Os(NOTDIR)`; else as [`Volume::open`].
    pub fn find(&self, device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<File> {
        let primary = |device: &mut dyn ReadAt, scratch: &mut [u8]| {
            self.primary.find(device, path, Names::Primary, scratch)
        };
        let Some(tree) = &self.joliet else { return primary(device, scratch) };
        tree.find(device, path, Names::Joliet, scratch).or_else(|error| {
            // The tree with the real names says best why nothing was found.
            if is_of_device(error) { Err(error) } else { primary(device, scratch).map_err(|_| error) }
        })
    }
}

impl Tree {
    /// Reads a primary or supplementary volume descriptor (ECMA-119 8.4, 8.5).
    fn parse(sector: &[u8], at: u64) -> Result<Self> {
        let bad = malformed!(MEDIUM, "volume descriptor", at);
        let block_bytes = le16(sector, 128).ok_or(bad)?;
        if !matches!(block_bytes, 512 | 1024 | 2048) {
            return Err(malformed!(MEDIUM, "logical block size", at));
        }
        let root = Record::parse(sector.get(156..190).ok_or(bad)?).ok_or(bad)?;
        if !root.is_directory() {
            return Err(malformed!(MEDIUM, "root is no directory", at));
        }
        Ok(Self { block_bytes, root })
    }

    fn find(&self, device: &mut dyn ReadAt, path: &str, names: Names, scratch: &mut [u8]) -> Result<File> {
        let mut found = self.root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !found.is_directory() {
                return Err(os!("find file", Errno::NOTDIR));
            }
            let directory = self.file(&found, device)?;
            let child = record::find(&directory, device, name, names, scratch)?;
            found = child.ok_or(os!("find file", Errno::NOENT))?;
        }
        if found.is_directory() {
            return Err(os!("find file", Errno::ISDIR));
        }
        self.file(&found, device)
    }

    /// The bytes a record points to. An extended attribute record comes before them (ECMA-119 6.5.1).
    fn file(&self, record: &Record, device: &dyn ReadAt) -> Result<File> {
        record.check_simple()?;
        let block = u64::from(record.start_block).saturating_add(u64::from(record.attribute_blocks));
        let start = block.saturating_mul(u64::from(self.block_bytes));
        let mut file = File::new();
        file.push(Some(start), u64::from(record.size_bytes), device.size_bytes())?;
        Ok(file)
    }
}

/// Joliet: a supplementary descriptor whose escape sequence says UCS-2 level 1, 2 or 3.
fn is_joliet(sector: &[u8]) -> bool {
    matches!(sector.get(88..91), Some(b"%/@" | b"%/C" | b"%/E"))
}
