//! Which device bytes are block n of partition p? (ECMA-167 3/10.7, UDF 2.2.8 to 2.2.10)

use super::MEDIUM;
use super::Volume;
use super::entry;
use super::sparing;
use crate::error::{Kind, Result};
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};
use crate::format::file::File;

/// Partition maps of a volume. UDF knows at most two, plus one for a disc that is rewritten.
pub(super) const MAPS: usize = 4;

/// A partition as its descriptor has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Partition {
    /// Volume descriptor sequence number: the highest prevails.
    pub(super) sequence: u32,
    /// What the maps call it.
    pub(super) number: u16,
    /// First block on the device.
    pub(super) start_block: u32,
    /// Length in blocks.
    pub(super) blocks: u32,
}

impl Partition {
    /// Reads a partition descriptor (ECMA-167 3/10.5).
    pub(super) fn parse(block: &[u8]) -> Option<Self> {
        Some(Self {
            sequence: le32(block, 16)?,
            number: le16(block, 22)?,
            start_block: le32(block, 188)?,
            blocks: le32(block, 192)?,
        })
    }
}

/// A partition map as the logical volume descriptor has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MapRaw {
    /// Type 1: the partition itself.
    Physical { number: u16 },
    /// Blocks are those of the metadata file, which lies in the partition of that number.
    Metadata { number: u16, main: u32, mirror: u32 },
    /// As physical, but packets may have moved: the table says which.
    Sparable { number: u16, tables: [u32; 4], table_count: u8 },
    /// Write-once media: blocks are looked up in a table at the end of the last session.
    Virtual,
}

impl MapRaw {
    /// Reads the map at the start of `bytes`; also returns its length.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, usize)> {
        let bad = malformed!(MEDIUM, "partition map", 0);
        let (kind, length) = (*bytes.first().ok_or(bad)?, *bytes.get(1).ok_or(bad)?);
        let map = bytes.get(..usize::from(length)).ok_or(bad)?;
        let parsed = match (kind, length) {
            (1, 6) => le16(map, 4).map(|number| Self::Physical { number }),
            (2, 64) => return Self::parse_type_2(map).map(|map| (map, usize::from(length))),
            _ => None,
        };
        parsed.map(|map| (map, usize::from(length))).ok_or(bad)
    }

    fn parse_type_2(map: &[u8]) -> Result<Self> {
        let bad = malformed!(MEDIUM, "partition map", 0);
        let number = le16(map, 38).ok_or(bad)?;
        let word = |at| le32(map, at).ok_or(bad);
        let name = map.get(5..28).ok_or(bad)?;
        if name.starts_with(b"*UDF Metadata Partition") {
            return Ok(Self::Metadata { number, main: word(40)?, mirror: word(44)? });
        }
        if name.starts_with(b"*UDF Sparable Partition") {
            let tables = [word(48)?, word(52)?, word(56)?, word(60)?];
            return Ok(Self::Sparable { number, tables, table_count: *map.get(42).ok_or(bad)? });
        }
        if name.starts_with(b"*UDF Virtual Partition") {
            return Ok(Self::Virtual);
        }
        Err(unsupported!(MEDIUM, "partition map of unknown kind"))
    }
}

/// A partition map that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Map {
    /// Blocks lie one after the other from here.
    Physical(Partition),
    /// Blocks are those of the volume's metadata file.
    Metadata,
}

/// A block of a partition (`lb_addr`, ECMA-167 4/7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Location {
    /// Index of the partition map.
    pub(super) map: u16,
    /// Block within that partition.
    pub(super) block: u32,
}

impl Location {
    /// Reads the address of a `long_ad` (ECMA-167 4/14.14.2) at `at`.
    pub(super) fn parse_long(bytes: &[u8], at: usize) -> Option<Self> {
        let bytes = bytes.get(at..)?;
        Some(Self { block: le32(bytes, 4)?, map: le16(bytes, 8)? })
    }
}

impl Volume {
    /// Makes a map usable: finds its partition, reads the tables it needs.
    pub(super) fn add_map(
        &mut self,
        raw: MapRaw,
        partitions: &[Partition],
        device: &mut dyn ReadAt,
        scratch: &mut [u8],
    ) -> Result<()> {
        let physical = |number| {
            let found = partitions.iter().find(|partition| partition.number == number);
            found.map(|partition| Map::Physical(*partition)).ok_or(malformed!(
                MEDIUM,
                "map without partition",
                0
            ))
        };
        let map = match raw {
            MapRaw::Physical { number } => physical(number)?,
            MapRaw::Sparable { number, tables, table_count } => {
                let tables = tables.get(..usize::from(table_count)).unwrap_or(&tables);
                sparing::refuse_moved(tables, device, self.block(scratch)?)?;
                physical(number)?
            }
            MapRaw::Metadata { number, main, mirror } => {
                physical(number)?;
                self.load_metadata(number, [main, mirror], device, scratch)?;
                Map::Metadata
            }
            MapRaw::Virtual => {
                return Err(unsupported!(MEDIUM, "write-once disc (VAT)"));
            }
        };
        self.maps.push(map).map_err(|_| too_many!("UDF partition maps", MAPS))
    }

    /// Finds the extents of the metadata file, or of its mirror (UDF 2.2.13).
    fn load_metadata(
        &mut self,
        number: u16,
        files: [u32; 2],
        device: &mut dyn ReadAt,
        scratch: &mut [u8],
    ) -> Result<()> {
        if self.metadata.size_bytes() > 0 {
            return Err(unsupported!(MEDIUM, "second metadata partition"));
        }
        let is_base = |map: &Map| matches!(map, Map::Physical(p) if p.number == number);
        let base = self.maps.iter().position(is_base).and_then(|at| u16::try_from(at).ok());
        let map = base.ok_or(malformed!(MEDIUM, "metadata partition before its base", 0))?;
        let mut last = malformed!(MEDIUM, "no metadata file", 0);
        for block in files {
            match entry::load(self, device, Location { map, block }, scratch) {
                Ok(entry) => {
                    self.metadata = entry.file;
                    return Ok(());
                }
                Err(error) if error.is(Kind::Os) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The device byte where a block starts; the whole block lies inside its partition.
    pub(super) fn byte_of(&self, at: Location) -> Result<u64> {
        let block = u64::from(self.block_bytes);
        let offset = u64::from(at.block).saturating_mul(block);
        let outside = malformed!(MEDIUM, "block outside its partition", offset);
        match self.maps.get(usize::from(at.map)).ok_or(malformed!(
            MEDIUM,
            "no such partition",
            u64::from(at.map)
        ))? {
            Map::Physical(partition) if at.block < partition.blocks => {
                let start = u64::from(partition.start_block).saturating_mul(block);
                start.checked_add(offset).ok_or(outside)
            }
            Map::Physical(_) => Err(outside),
            Map::Metadata => {
                let run = self.metadata.locate(offset).filter(|run| run.length_bytes >= block);
                run.and_then(|run| run.start).ok_or(outside)
            }
        }
    }

    /// Appends `length_bytes` from a block on to `file`, split where the partition is not contiguous.
    pub(super) fn push_run(
        &self,
        file: &mut File,
        at: Location,
        length_bytes: u64,
        device_bytes: u64,
    ) -> Result<()> {
        let block = u64::from(self.block_bytes);
        let first = u64::from(at.block).saturating_mul(block);
        let outside = malformed!(MEDIUM, "extent outside its partition", first);
        let end = first.saturating_add(length_bytes);
        match self.maps.get(usize::from(at.map)).ok_or(malformed!(
            MEDIUM,
            "no such partition",
            u64::from(at.map)
        ))? {
            Map::Physical(partition) => {
                if end > u64::from(partition.blocks).saturating_mul(block) {
                    return Err(outside);
                }
                let start = u64::from(partition.start_block).saturating_mul(block).saturating_add(first);
                file.push(Some(start), length_bytes, device_bytes)
            }
            Map::Metadata => {
                let mut offset = first;
                while let Some(wanted) = end.checked_sub(offset).filter(|wanted| *wanted > 0) {
                    let run = self.metadata.locate(offset).ok_or(outside)?;
                    let length = run.length_bytes.min(wanted);
                    file.push(run.start, length, device_bytes)?;
                    offset = offset.saturating_add(length);
                }
                Ok(())
            }
        }
    }
}
