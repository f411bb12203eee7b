//! Which file of a UDF volume has this path, and where are its bytes?
//!
//! UDF 1.02 to 2.60 as far as reading goes: blocks of 512 to 4096 bytes, embedded, short and long allocation,
//! chained allocation, metadata partition, sparable partition, virtual partition, the last session. Named streams
//! are not looked at. Not supported, and said so: strategy 4096, extended allocation, larger blocks.

mod directory;
mod entry;
mod partition;
mod sequence;
mod sparing;
mod tag;
mod virtual_table;

#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::format::ReadAt;
use crate::format::file::File;
use crate::format::volume::FileKind;
use crate::format::volume::name::{Label, Name, push_osta, trimmed};
use crate::format::volume::tree::{Each, Node, Tree};
use crate::limits;
use partition::{Location, MAPS, Map};
use tag::{id, read_tagged};

/// The object of every error in here.
const MEDIUM: &str = "UDF medium";

/// Block sizes in the order of their likelihood: optical media have 2048.
const BLOCK_SIZES: [u32; 4] = [2048, 512, 4096, 1024];
/// Those that mkudffs makes beyond them.
const LARGE_BLOCK_SIZES: [u32; 3] = [8192, 16384, 32768];

/// A UDF volume whose descriptors have been checked.
#[derive(Debug)]
pub struct Volume {
    block_bytes: u32,
    maps: heapless::Vec<Map, MAPS>,
    metadata: File,
    moved: sparing::Moved,
    vat: virtual_table::VirtualTable,
    root: Location,
    label: Label,
}

impl Volume {
    /// True when the medium claims to be one.
    ///
    /// # Errors
    /// `Os` when it cannot be read.
    pub fn is_recognised(device: &mut dyn ReadAt) -> Result<bool> {
        sequence::is_recognised(device)
    }

    /// Reads the volume's descriptors. `scratch` holds [`SCRATCH_BYTES`](crate::format::volume::SCRATCH_BYTES).
    ///
    /// # Errors
    /// `Malformed`, `Unsupported`, `TooMany` about the medium; `Os` when it cannot be read.
    pub fn open(device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<Self> {
        let mut failure = malformed!(MEDIUM, "no anchor", 0);
        for block_bytes in BLOCK_SIZES {
            let block = block_of(scratch, block_bytes)?;
            match sequence::find_anchor(device, block_bytes, block) {
                Ok([main, reserve]) => {
                    return Self::open_sequence(device, main, block)
                        .or_else(|error| Self::open_sequence(device, reserve, block).map_err(|_| error));
                }
                Err(error) if error.errno().is_some() => failure = error,
                Err(_) => {}
            }
        }
        let block = block_of(scratch, 512)?;
        for block_bytes in LARGE_BLOCK_SIZES {
            if sequence::find_anchor(device, block_bytes, block).is_ok() {
                return Err(unsupported!(MEDIUM, "blocks above 4096 bytes"));
            }
        }
        Err(failure)
    }

    fn open_sequence(device: &mut dyn ReadAt, run: sequence::Run, block: &mut [u8]) -> Result<Self> {
        let described = sequence::read_sequence(device, run, block)?;
        let block_bytes = u32::try_from(block.len()).map_err(|_| malformed!(MEDIUM, "block size", 0))?;
        let root = described.logical.file_set;
        let mut volume = Self {
            block_bytes,
            maps: heapless::Vec::new(),
            metadata: File::new(),
            moved: sparing::Moved::default(),
            vat: virtual_table::VirtualTable::default(),
            root,
            label: described.logical.label,
        };
        for map in described.logical.maps {
            volume.add_map(map, &described.partitions, device, block)?;
        }
        let at = volume.byte_of(device, root)?;
        if read_tagged(device, at, root.block, block)? != id::FILE_SET {
            return Err(malformed!(MEDIUM, "no file set where one belongs", at));
        }
        volume.root = Location::parse_long(block, 400).ok_or(malformed!(MEDIUM, "file set", at))?;
        Ok(volume)
    }

    /// The logical volume identifier; empty: none.
    #[must_use]
    pub fn label(&self) -> &str {
        trimmed(&self.label)
    }

    /// The part of `scratch` that holds one block.
    fn block<'s>(&self, scratch: &'s mut [u8]) -> Result<&'s mut [u8]> {
        block_of(scratch, self.block_bytes)
    }
}

impl Tree for Volume {
    fn root(&self) -> Node {
        node_at(FileKind::Directory, self.root)
    }

    fn is_name(&self, have: &str, wanted: &str) -> bool {
        have == wanted
    }

    fn stat(&self, device: &mut dyn ReadAt, node: Node, scratch: &mut [u8]) -> Result<Node> {
        let header = entry::load_header(self, device, place_of(node), scratch)?;
        Ok(Node { kind: header.kind, size_bytes: header.size_bytes, ..node })
    }

    #[inline(never)]
    fn each(
        &self,
        device: &mut dyn ReadAt,
        directory: Node,
        detail: bool,
        scratch: &mut [u8],
        each: Each<'_>,
    ) -> Result<()> {
        let mut name = Name::new();
        let mut directory = entry::load(self, device, place_of(directory), scratch)?;
        if directory.size_bytes() > limits::DIRECTORY {
            return Err(too_many!("bytes of a directory", limits::DIRECTORY as usize));
        }
        let mut offset = 0;
        while offset < directory.size_bytes() {
            let entry = directory::read_entry(&mut directory, device, offset, scratch)?;
            offset = offset.saturating_add(entry.length as u64);
            name.clear();
            if !entry.is_listed() || !push_osta(&mut name, entry.name)? {
                continue;
            }
            let kind = if entry.is_directory() { FileKind::Directory } else { FileKind::File };
            let mut node = node_at(kind, entry.icb);
            if detail {
                node = self.stat(device, node, scratch)?;
            }
            if each(name.as_str(), node)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn file(&self, device: &mut dyn ReadAt, node: Node, scratch: &mut [u8]) -> Result<File> {
        entry::load(self, device, place_of(node), scratch)
    }
}

fn node_at(kind: FileKind, at: Location) -> Node {
    Node { kind, at: u64::from(at.map) << 32 | u64::from(at.block), size_bytes: 0 }
}

fn place_of(node: Node) -> Location {
    let [b0, b1, b2, b3, m0, m1, ..] = node.at.to_le_bytes();
    Location { map: u16::from_le_bytes([m0, m1]), block: u32::from_le_bytes([b0, b1, b2, b3]) }
}

fn block_of(scratch: &mut [u8], block_bytes: u32) -> Result<&mut [u8]> {
    let full = too_many!("bytes of a block", scratch.len());
    scratch.get_mut(..block_bytes as usize).ok_or(full)
}
