//! Which device bytes are block n of partition p? (ECMA-167 3/10.7, UDF 2.2.8 to 2.2.10)

use super::MEDIUM;
use super::Volume;
use super::entry;
use super::sparing;
use super::virtual_table;
use crate::error::{Kind, Result};
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32};
use crate::format::file::File;
use crate::limits;

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
    Sparable { number: u16, packet_blocks: u16, tables: [u32; 4], table_count: u8 },
    /// Write-once media: blocks of that partition are looked up in a table at the end of the last session.
    Virtual { number: u16 },
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
            let packet_blocks = le16(map, 40).ok_or(bad)?;
            let table_count = *map.get(42).ok_or(bad)?;
            return Ok(Self::Sparable { number, packet_blocks, tables, table_count });
        }
        if name.starts_with(b"*UDF Virtual Partition") {
            return Ok(Self::Virtual { number });
        }
        Err(unsupported!(MEDIUM, "partition map of unknown kind"))
    }
}

/// A partition map that can be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Map {
    /// Blocks lie one after the other from here.
    Physical(Partition),
    /// The same, but for packets that moved.
    Sparable(Partition),
    /// Blocks are those of the volume's metadata file.
    Metadata,
    /// Blocks are looked up in the volume's table.
    Virtual(Partition),
}

impl Map {
    /// The partition whose blocks these are.
    const fn partition(&self) -> Option<&Partition> {
        match self {
            Self::Physical(partition) | Self::Sparable(partition) => Some(partition),
            Self::Metadata | Self::Virtual(_) => None,
        }
    }
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
            found.copied().ok_or(malformed!(MEDIUM, "map without partition", 0))
        };
        let map = match raw {
            MapRaw::Physical { number } => Map::Physical(physical(number)?),
            MapRaw::Sparable { number, packet_blocks, tables, table_count } => {
                let tables = tables.get(..usize::from(table_count)).unwrap_or(&tables);
                self.moved = sparing::read_moved(tables, packet_blocks, device, self.block(scratch)?)?;
                Map::Sparable(physical(number)?)
            }
            MapRaw::Metadata { number, main, mirror } => {
                physical(number)?;
                self.load_metadata(number, [main, mirror], device, scratch)?;
                Map::Metadata
            }
            MapRaw::Virtual { number } => {
                let partition = physical(number)?;
                self.vat = virtual_table::load(self, self.map_of(number)?, &partition, device, scratch)?;
                Map::Virtual(partition)
            }
        };
        self.maps.push(map).map_err(|_| too_many!("UDF partition maps", MAPS))
    }

    /// The map that stands for the blocks of a partition themselves.
    fn map_of(&self, number: u16) -> Result<u16> {
        let is_base = |map: &Map| map.partition().is_some_and(|p| p.number == number);
        let base = self.maps.iter().position(is_base).and_then(|at| u16::try_from(at).ok());
        base.ok_or(malformed!(MEDIUM, "partition map before its base", 0))
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
        let map = self.map_of(number)?;
        let mut last = malformed!(MEDIUM, "no metadata file", 0);
        for block in files {
            match entry::load(self, device, Location { map, block }, scratch) {
                Ok(file) => {
                    self.metadata = file;
                    return Ok(());
                }
                Err(error) if error.is(Kind::Os) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The device byte where a block starts; the whole block lies inside its partition.
    pub(super) fn byte_of(&self, device: &mut dyn ReadAt, at: Location) -> Result<u64> {
        let (start, length) = self.run_at(device, at)?;
        let short = malformed!(MEDIUM, "block outside its partition", u64::from(at.block));
        start.filter(|_| length >= u64::from(self.block_bytes)).ok_or(short)
    }

    /// The device byte where a block starts (`None`: a hole), and for how many bytes the partition goes on there.
    fn run_at(&self, device: &mut dyn ReadAt, at: Location) -> Result<(Option<u64>, u64)> {
        let block = u64::from(self.block_bytes);
        let bytes = |blocks: u32| u64::from(blocks).saturating_mul(block);
        let offset = bytes(at.block);
        let outside = malformed!(MEDIUM, "block outside its partition", offset);
        let none = malformed!(MEDIUM, "no such partition", u64::from(at.map));
        let partition = match self.maps.get(usize::from(at.map)).ok_or(none)? {
            Map::Physical(partition) => partition,
            Map::Sparable(partition) => {
                if let Some((block, rest)) = self.moved.find(at.block) {
                    return Ok((Some(bytes(block)), bytes(rest)));
                }
                let rest = self.moved.distance(at.block).min(partition.blocks.saturating_sub(at.block));
                return match partition.start_block.checked_add(at.block).filter(|_| rest > 0) {
                    Some(block) => Ok((Some(bytes(block)), bytes(rest))),
                    None => Err(outside),
                };
            }
            Map::Metadata => {
                let run = self.metadata.locate(offset).ok_or(outside)?;
                return Ok((run.start, run.length_bytes));
            }
            Map::Virtual(partition) => {
                let real = self.vat.look_up(device, at.block)?;
                let start = bytes(partition.start_block).saturating_add(bytes(real));
                return if real < partition.blocks { Ok((Some(start), block)) } else { Err(outside) };
            }
        };
        let rest = partition.blocks.checked_sub(at.block).filter(|rest| *rest > 0).ok_or(outside)?;
        let start = bytes(partition.start_block).saturating_add(offset);
        Ok((Some(start), bytes(rest)))
    }

    /// Appends `length_bytes` from a block on to `file`, split where the partition is not contiguous.
    pub(super) fn push_run(
        &self,
        device: &mut dyn ReadAt,
        file: &mut File,
        at: Location,
        length_bytes: u64,
    ) -> Result<()> {
        let (mut at, mut missing) = (at, length_bytes);
        // Each turn is a block at least; where every block is looked up, a hostile length would take for ever.
        for _ in 0..limits::SCATTERED_RUNS {
            if missing == 0 {
                return Ok(());
            }
            let (start, length) = self.run_at(device, at)?;
            let length = length.min(missing);
            file.push(start, length, device.size_bytes())?;
            missing = missing.saturating_sub(length);
            let blocks = length.checked_div(u64::from(self.block_bytes)).and_then(|n| u32::try_from(n).ok());
            let past = malformed!(MEDIUM, "extent outside its partition", u64::from(at.block));
            at.block = blocks.and_then(|blocks| at.block.checked_add(blocks)).ok_or(past)?;
        }
        if missing == 0 { Ok(()) } else { Err(too_many!("pieces of an extent", limits::SCATTERED_RUNS)) }
    }
}
