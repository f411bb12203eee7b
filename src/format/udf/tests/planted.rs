//! Puts a file into the empty volumes that mkudffs makes, in every form a driver may have written it.

use crate::format::media::Strict;
use crate::format::udf::Volume;
use crate::format::udf::partition::{Map, Partition};
use crate::format::udf::tag::crc;
use std::vec;
use std::vec::Vec;

/// How the file's bytes are recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    /// In the entry itself.
    Embedded,
    /// Short descriptors, one per block, no two blocks neighbours.
    Short,
    /// The same with long descriptors.
    Long,
    /// Long descriptors of which all but the first are in a chained allocation extent.
    Chained,
}

pub(crate) const FORMS: [Form; 4] = [Form::Embedded, Form::Short, Form::Long, Form::Chained];

/// First block of the partition that is used for what is planted.
const FREE: u32 = 40;
/// Blocks with a part in the tests of hostile media.
pub(crate) const FILE_ENTRY: u32 = FREE;
pub(crate) const ALLOCATION: u32 = FREE + 1;
pub(crate) const DIRECTORY: u32 = FREE + 2;

/// An image that is changed through the reader's own view of it.
pub(crate) struct Planted {
    pub(crate) image: Vec<u8>,
    pub(crate) block: usize,
    partition: Partition,
    pub(crate) root: u32,
    is_extended: bool,
}

impl Planted {
    pub(crate) fn new(image: Vec<u8>, is_extended: bool) -> Self {
        let volume = Volume::open(&mut Strict::new(&image), &mut [0; 4096]).unwrap();
        let (Map::Physical(partition) | Map::Sparable(partition)) = volume.maps[0] else {
            panic!("no partition")
        };
        let (block, root) = (volume.block_bytes as usize, volume.root.block);
        Self { image, block, partition, root, is_extended }
    }

    /// Puts `content` at `name` in the root directory, which has nothing else.
    pub(crate) fn with_file(mut self, name: &str, content: &[u8], form: Form) -> Self {
        let directory = [self.identifier("", 0x0A, self.root), self.identifier(name, 0, FILE_ENTRY)].concat();
        self.write(DIRECTORY, &directory);
        let run = short(directory.len() as u32, DIRECTORY);
        self.entry(self.root, 4, 0, directory.len() as u64, &run);
        let size = content.len() as u64;
        if form == Form::Embedded {
            self.entry(FILE_ENTRY, 5, 3, size, content);
            return self;
        }
        let mut descriptors = vec![];
        for (i, piece) in content.chunks(self.block).enumerate() {
            let at = DIRECTORY + 2 + 2 * i as u32;
            self.write(at, piece);
            let length = piece.len() as u32;
            descriptors.push(if form == Form::Short { short(length, at) } else { long(length, at) });
        }
        if form == Form::Chained {
            let rest = descriptors.split_off(1).concat();
            self.allocation(&rest);
            descriptors.push(long((3 << 30) | self.block as u32, ALLOCATION));
        }
        let flags = u16::from(form != Form::Short);
        self.entry(FILE_ENTRY, 5, flags, size, &descriptors.concat());
        self
    }

    /// Puts `content` at `name` on a write-once disc, whose root is at block `real` of the partition: the file's
    /// entry is in no table, its bytes are read through none.
    pub(crate) fn with_virtual_root(mut self, name: &str, content: &[u8], real: u32) -> Self {
        let (entry, directory) = (5, 6);
        let names = [self.identifier("", 0x0A, entry), self.identifier(name, 0, entry)].concat();
        self.write(directory, &names);
        let length = names.len() as u32;
        self.entry(real, 4, 1, u64::from(length), &long(length, directory));
        let (at, virtual_block) = (self.at(real), self.root.to_le_bytes());
        self.forge(at, 12, &virtual_block);
        self.entry(entry, 5, 3, content.len() as u64, content);
        self
    }

    /// Byte offset of a block of the partition.
    pub(crate) fn at(&self, block: u32) -> usize {
        (self.partition.start_block + block) as usize * self.block
    }

    fn write(&mut self, block: u32, bytes: &[u8]) {
        let at = self.at(block);
        self.image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A file entry, or an extended one.
    pub(crate) fn entry(&mut self, block: u32, kind: u8, flags: u16, size: u64, allocation: &[u8]) {
        let (tag, header) = if self.is_extended { (266, 216) } else { (261, 176) };
        let mut bytes = vec![0; self.block];
        bytes[20] = 4;
        bytes[24] = 1;
        bytes[27] = kind;
        bytes[34..36].copy_from_slice(&flags.to_le_bytes());
        bytes[56..64].copy_from_slice(&size.to_le_bytes());
        // Extended attributes before the descriptors, as Windows writes them.
        bytes[header - 8] = 24;
        bytes[header - 4..header].copy_from_slice(&(allocation.len() as u32).to_le_bytes());
        bytes[header + 24..header + 24 + allocation.len()].copy_from_slice(allocation);
        seal(&mut bytes, tag, block);
        self.write(block, &bytes);
    }

    /// An allocation extent descriptor.
    pub(crate) fn allocation(&mut self, descriptors: &[u8]) {
        let mut bytes = vec![0; self.block];
        bytes[20..24].copy_from_slice(&(descriptors.len() as u32).to_le_bytes());
        bytes[24..24 + descriptors.len()].copy_from_slice(descriptors);
        seal(&mut bytes, 258, ALLOCATION);
        self.write(ALLOCATION, &bytes);
    }

    /// A file identifier.
    fn identifier(&self, name: &str, flags: u8, icb: u32) -> Vec<u8> {
        let name_bytes = if name.is_empty() { vec![] } else { [&[8], name.as_bytes()].concat() };
        let mut bytes = vec![0; (38 + name_bytes.len()).next_multiple_of(4)];
        bytes[16] = 1;
        bytes[18] = flags;
        bytes[19] = name_bytes.len() as u8;
        bytes[20..36].copy_from_slice(&long(self.block as u32, icb));
        bytes[38..38 + name_bytes.len()].copy_from_slice(&name_bytes);
        seal(&mut bytes, 257, DIRECTORY);
        bytes
    }

    /// Changes bytes of the descriptor at byte `at` and makes checksum and CRC right again.
    pub(crate) fn forge(&mut self, at: usize, offset: usize, bytes: &[u8]) {
        let block = &mut self.image[at..at + self.block];
        block[offset..offset + bytes.len()].copy_from_slice(bytes);
        reseal(block);
    }
}

/// `short_ad`.
pub(crate) fn short(length: u32, block: u32) -> Vec<u8> {
    [length.to_le_bytes(), block.to_le_bytes()].concat()
}

/// `long_ad` in partition 0.
pub(crate) fn long(length: u32, block: u32) -> Vec<u8> {
    [&length.to_le_bytes()[..], &block.to_le_bytes(), &[0; 8]].concat()
}

/// Writes the tag.
fn seal(bytes: &mut [u8], tag: u16, location: u32) {
    bytes[0..2].copy_from_slice(&tag.to_le_bytes());
    bytes[2] = 2;
    let covered = (bytes.len() - 16) as u16;
    bytes[10..12].copy_from_slice(&covered.to_le_bytes());
    bytes[12..16].copy_from_slice(&location.to_le_bytes());
    reseal(bytes);
}

/// Makes CRC and checksum of a tag right again.
pub(crate) fn reseal(bytes: &mut [u8]) {
    let covered = usize::from(u16::from_le_bytes([bytes[10], bytes[11]])).min(bytes.len() - 16);
    bytes[10..12].copy_from_slice(&(covered as u16).to_le_bytes());
    let crc = crc(0, &bytes[16..16 + covered]);
    bytes[8..10].copy_from_slice(&crc.to_le_bytes());
    bytes[4] = 0;
    bytes[4] = bytes[..16].iter().fold(0, |sum, b| sum.wrapping_add(*b));
}
