//! Which file of a UDF volume has this path, and where are its bytes?
//!
//! UDF 1.02 to 2.60 as far as reading goes: any block size, embedded, short and long allocation, chained
//! allocation, metadata partition, sparable partition as long as nothing was moved. Not supported, and said
//! so: write-once discs (VAT, strategy 4096).

mod directory;
mod entry;
mod partition;
mod sequence;
mod sparing;
mod tag;

#[cfg(test)]
mod tests;

use crate::error::{Errno, Result};
use crate::format::ReadAt;
use crate::format::file::File;
use entry::Kind;
use partition::{Location, MAPS, Map};
use tag::{id, read_tagged};

/// The object of every error in here.
const MEDIUM: &str = "UDF medium";

/// Block sizes in the order of their likelihood: optical media have 2048.
const BLOCK_SIZES: [u32; 4] = [2048, 512, 4096, 1024];

/// A UDF volume whose descriptors have been checked.
#[derive(Debug)]
pub struct Volume {
    block_bytes: u32,
    maps: heapless::Vec<Map, MAPS>,
    metadata: File,
    root: Location,
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
            match sequence::find_anchor(device, block) {
                Ok([main, reserve]) => {
                    return Self::open_sequence(device, main, block)
                        .or_else(|error| Self::open_sequence(device, reserve, block).map_err(|_| error));
                }
                Err(error) if error.errno().is_some() => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn open_sequence(device: &mut dyn ReadAt, run: sequence::Run, block: &mut [u8]) -> Result<Self> {
        let described = sequence::read_sequence(device, run, block)?;
        let block_bytes = u32::try_from(block.len()).map_err(|_| malformed!(MEDIUM, "block size", 0))?;
        let root = described.logical.file_set;
        let mut volume = Self { block_bytes, maps: heapless::Vec::new(), metadata: File::new(), root };
        for map in described.logical.maps {
            volume.add_map(map, &described.partitions, device, block)?;
        }
        let at = volume.byte_of(root)?;
        if read_tagged(device, at, root.block, block)? != id::FILE_SET {
            return Err(malformed!(MEDIUM, "no file set where one belongs", at));
        }
        volume.root = Location::parse_long(block, 400).ok_or(malformed!(MEDIUM, "file set", at))?;
        Ok(volume)
    }

    /// Finds a regular file by its path from the root (`a/b`), letter for letter.
    ///
    /// # Errors
    /// `Os(NOENT)` when there is none, `Os(ISDIR)` or `Os(NOTDIR)`; else as [`Volume::open`].
    #[inline(never)]
    pub fn find(&self, device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<File> {
        let mut found = entry::load(self, device, self.root, scratch)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if found.kind != Kind::Directory {
                return Err(os!("find file", Errno::NOTDIR));
            }
            let icb = directory::find(&found.file, device, name, scratch)?;
            let icb = icb.ok_or(os!("find file", Errno::NOENT))?;
            found = entry::load(self, device, icb, scratch)?;
        }
        match found.kind {
            Kind::File => Ok(found.file),
            Kind::Directory => Err(os!("find file", Errno::ISDIR)),
            Kind::Other => Err(unsupported!(MEDIUM, "not a regular file")),
        }
    }

    /// The part of `scratch` that holds one block.
    fn block<'s>(&self, scratch: &'s mut [u8]) -> Result<&'s mut [u8]> {
        block_of(scratch, self.block_bytes)
    }
}

fn block_of(scratch: &mut [u8], block_bytes: u32) -> Result<&mut [u8]> {
    let full = too_many!("bytes of a block", scratch.len());
    scratch.get_mut(..block_bytes as usize).ok_or(full)
}
