//! Which files has a FAT volume?
//!
//! FAT12, FAT16 and FAT32 with long names, sectors of 512 to 4096 bytes. Sources: Microsoft's fatgen103, and where
//! writers differ from it what Linux (fs/fat/inode.c) and blkid (libblkid's vfat.c) take for FAT. Names are found
//! without regard to ASCII case. That two files share clusters is not noticed: nothing is written here.

pub(crate) mod chain;
mod directory;

#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};
use crate::format::file::File;
use crate::format::volume::name::{Label, Name, trimmed};
use crate::format::volume::tree::{Each, Node, Tree};
use crate::format::volume::{FileKind, is_of_device};
use crate::limits;
use chain::{Chain, Table, Width, Window};
use core::ops::ControlFlow;
use directory::{ENTRY_BYTES, each_entry, push_name, push_oem};

/// The object of every error in here.
const MEDIUM: &str = "FAT medium";
/// Bytes of the boot sector that say something.
const BOOT_BYTES: usize = 512;
/// The root of FAT12 and FAT16, which is in no cluster. No entry can name it.
const FIXED_ROOT: u64 = u64::MAX;

/// A FAT volume whose boot sector has been checked.
#[derive(Debug)]
pub struct Volume {
    table: Table,
    /// Cluster of the root directory, or [`FIXED_ROOT`].
    root: u64,
    fixed_root: FixedRoot,
    label: Label,
    boot_label: Label,
}

/// Where the root of FAT12 and FAT16 is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct FixedRoot {
    start_bytes: u64,
    length_bytes: u64,
}

impl Volume {
    /// Reads the boot sector; `None`: it is not that of a FAT volume. `scratch` holds
    /// [`SCRATCH_BYTES`](crate::format::volume::SCRATCH_BYTES).
    ///
    /// # Errors
    /// `Os` when it cannot be read.
    pub fn open(device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<Option<Self>> {
        let full = too_many!("bytes of a block", scratch.len());
        let sector = scratch.get_mut(..BOOT_BYTES).ok_or(full)?;
        if device.size_bytes() < BOOT_BYTES as u64 {
            return Ok(None);
        }
        device.read_at(0, sector)?;
        let Some(mut volume) = parse(sector) else { return Ok(None) };
        match volume.load_label(device, scratch) {
            Err(error) if is_of_device(error) => Err(error),
            // blkid's way, too: a root that cannot be read has no label.
            _ => Ok(Some(volume)),
        }
    }

    /// The label in the root directory; empty: none.
    #[must_use]
    pub fn label(&self) -> &str {
        trimmed(&self.label)
    }

    /// The label in the boot sector; empty: none, or `NO NAME`.
    #[must_use]
    pub fn boot_label(&self) -> &str {
        trimmed(&self.boot_label)
    }

    fn load_label(&mut self, device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<()> {
        let mut label = Label::new();
        let mut root = self.directory(device, self.root)?;
        each_entry(&mut root, device, scratch, &mut |entry, _| {
            if !entry.is_label() || entry.cluster(true) != 0 {
                return Ok(ControlFlow::Continue(()));
            }
            push_oem(&mut label, &entry.raw_name(), false)?;
            Ok(ControlFlow::Break(()))
        })?;
        self.label = label;
        Ok(())
    }

    /// The bytes of the directory that begins at this cluster. Its length is that of its chain.
    fn directory(&self, device: &mut dyn ReadAt, at: u64) -> Result<File> {
        let full = too_many!("bytes of a directory", limits::DIRECTORY as usize);
        if at == FIXED_ROOT {
            let mut file = File::new();
            let FixedRoot { start_bytes, length_bytes } = self.fixed_root;
            file.push(Some(start_bytes), length_bytes, device.size_bytes())?;
            return if length_bytes > limits::DIRECTORY { Err(full) } else { Ok(file) };
        }
        let start = self.chain(at)?;
        let (_, cluster_bytes) = start.run()?;
        let (mut length_bytes, mut chain, mut window) = (cluster_bytes, start, Window::new());
        while chain.advance(device, &mut window)? {
            length_bytes = length_bytes.saturating_add(cluster_bytes);
            if length_bytes > limits::DIRECTORY {
                return Err(full);
            }
        }
        File::in_chain(length_bytes, start, device)
    }

    fn chain(&self, at: u64) -> Result<Chain> {
        let first = u32::try_from(at).map_err(|_| malformed!(MEDIUM, "no such cluster", at))?;
        Ok(Chain::new(self.table, first))
    }
}

impl Tree for Volume {
    fn root(&self) -> Node {
        Node { kind: FileKind::Directory, at: self.root, size_bytes: 0 }
    }

    fn is_name(&self, have: &str, wanted: &str) -> bool {
        have.eq_ignore_ascii_case(wanted)
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
        let mut directory = self.directory(device, directory.at)?;
        each_entry(&mut directory, device, scratch, &mut |entry, long| {
            if entry.is_label() || entry.is_dots() {
                return Ok(ControlFlow::Continue(()));
            }
            name.clear();
            push_name(entry, long, &mut name)?;
            let kind = if entry.is_directory() { FileKind::Directory } else { FileKind::File };
            let at = u64::from(entry.cluster(self.table.width == Width::Fat32));
            each(name.as_str(), Node { kind, at, size_bytes: u64::from(entry.size_bytes()) })
        })
    }

    fn file(&self, device: &mut dyn ReadAt, node: Node, _: &mut [u8]) -> Result<File> {
        if node.size_bytes == 0 {
            return Ok(File::new());
        }
        File::in_chain(node.size_bytes, self.chain(node.at)?, device)
    }
}

/// What a boot sector says, if it is one of a FAT volume.
fn parse(sector: &[u8]) -> Option<Volume> {
    let byte = |at: usize| sector.get(at).copied();
    let sector_bytes = le16(sector, 11).filter(|size| matches!(size, 512 | 1024 | 2048 | 4096))?;
    let sector_clusters = byte(13).filter(|count| count.is_power_of_two())?;
    let reserved = le16(sector, 14).filter(|count| *count > 0)?;
    let fats = byte(16).filter(|count| *count > 0)?;
    let is_medium = byte(21).is_some_and(|medium| medium == 0xF0 || medium >= 0xF8);
    let is_signed = le16(sector, 510) == Some(0xAA55);
    let is_other = matches!(sector.get(54..62), Some(b"JFS     " | b"HPFS    "));
    (is_medium && is_signed && !is_other).then_some(())?;

    let or_wide = |at, wide_at| match le16(sector, at)? {
        0 => le32(sector, wide_at),
        short => Some(u32::from(short)),
    };
    let sectors = or_wide(19, 32).filter(|count| *count > 0)?;
    let fat_sectors = or_wide(22, 36).filter(|count| *count > 0)?;
    let is_wide = le16(sector, 22) == Some(0);
    let root_bytes = u64::from(le16(sector, 17)?).checked_mul(ENTRY_BYTES as u64)?;
    let bytes = |sectors: u64| sectors.checked_mul(u64::from(sector_bytes));
    let fats_sectors = u64::from(fat_sectors).checked_mul(u64::from(fats))?;
    let root_sector = u64::from(reserved).checked_add(fats_sectors)?;
    let root_sectors = root_bytes.div_ceil(u64::from(sector_bytes));
    let data_sector = root_sector.checked_add(root_sectors)?;
    let clusters = u64::from(sectors).checked_sub(data_sector)?.checked_div(u64::from(sector_clusters))?;
    let width = match clusters {
        _ if is_wide => Width::Fat32,
        // Linux's MAX_FAT12; no formatter makes a volume between this and Microsoft's 4085.
        0..=0xFF4 => Width::Fat12,
        0xFF5..=0xFFF4 => Width::Fat16,
        _ => return None,
    };
    let bits = match width {
        Width::Fat12 => 12,
        Width::Fat16 => 16,
        Width::Fat32 => 32,
    };
    let entries = bytes(u64::from(fat_sectors))?.checked_mul(8)?.checked_div(bits)?.checked_sub(2)?;
    let clusters = u32::try_from(clusters.min(entries)).ok().filter(|count| *count < 0x0FFF_FFF7)?;
    let table = Table {
        width,
        start_bytes: bytes(u64::from(reserved))?,
        data_bytes: bytes(data_sector)?,
        cluster_bytes: u32::from(sector_bytes).checked_mul(u32::from(sector_clusters))?,
        clusters,
    };
    let root = if is_wide { u64::from(le32(sector, 44)?) } else { FIXED_ROOT };
    let fixed_root = FixedRoot { start_bytes: bytes(root_sector)?, length_bytes: root_bytes };
    let mut boot_label = Label::new();
    let at = if is_wide { 71 } else { 43 };
    let raw = sector.get(at..)?.first_chunk::<11>()?;
    if raw != b"NO NAME    " {
        push_oem(&mut boot_label, raw, false).ok()?;
    }
    Some(Volume { table, root, fixed_root, label: Label::new(), boot_label })
}
