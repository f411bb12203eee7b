//! Where is the volume described? Recognition, anchors and the volume descriptor sequence
//! (ECMA-167 2/8, 3/8.4, 3/10; UDF 2.2.3).

use super::MEDIUM;
use super::partition::{Location, MAPS, MapRaw, Partition};
use super::tag::{id, read_tagged};
use crate::error::{Kind, Result};
use crate::format::ReadAt;
use crate::format::bytes::le32;
use crate::format::volume::name::{Label, push_osta};
use crate::limits;

/// The volume recognition sequence: 2048-byte structures from byte 32768; with 4096-byte blocks only every
/// second place is used. ISO 9660 descriptors may come first.
const RECOGNITION: core::ops::Range<u64> = 16..80;

/// Partitions of a volume. UDF 2.2.14 has one or two.
const PARTITIONS: usize = 4;

/// True when the medium says that it holds a file system by ECMA-167 (NSR02 or NSR03).
///
/// # Errors
/// `Os` when it cannot be read.
pub(super) fn is_recognised(device: &mut dyn ReadAt) -> Result<bool> {
    let mut id = [0; 7];
    for sector in RECOGNITION {
        let at = sector.saturating_mul(2048).saturating_add(device.session_bytes());
        if at.saturating_add(2048) > device.size_bytes() {
            break;
        }
        device.read_at(at, &mut id)?;
        match id.get(1..6) {
            Some(b"NSR02" | b"NSR03") => return Ok(true),
            Some(b"TEA01") => break,
            _ => {}
        }
    }
    Ok(false)
}

/// A run of blocks of the device (`extent_ad`, ECMA-167 3/7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    length_bytes: u32,
    start_block: u32,
}

impl Run {
    fn parse(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self { length_bytes: le32(bytes, at)?, start_block: le32(bytes, at.checked_add(4)?)? })
    }
}

/// Finds an anchor for this block size; returns the main and the reserve descriptor sequence.
///
/// # Errors
/// `Malformed` when there is none, `Os` when the medium cannot be read.
pub(super) fn find_anchor(device: &mut dyn ReadAt, block_bytes: u32, block: &mut [u8]) -> Result<[Run; 2]> {
    let block_bytes = u64::from(block_bytes);
    let blocks = |bytes: u64| bytes.checked_div(block_bytes).unwrap_or(0);
    let last = blocks(device.size_bytes()).saturating_sub(1);
    let session = blocks(device.session_bytes());
    let mut failure = malformed!(MEDIUM, "no anchor", 0);
    // 512 is Linux's own addition, for media that were closed badly.
    for place in [session.saturating_add(256), last.saturating_sub(256), last, 512] {
        let Ok(location) = u32::try_from(place) else { continue };
        match read_tagged(device, place.saturating_mul(block_bytes), location, block) {
            Ok(id::ANCHOR) => {
                let runs = Run::parse(block, 16).zip(Run::parse(block, 24));
                return runs.map(|(main, reserve)| [main, reserve]).ok_or(failure);
            }
            Err(error) if error.is(Kind::Os) => failure = error,
            Ok(_) | Err(_) => {}
        }
    }
    Err(failure)
}

/// What the descriptors say.
pub(super) struct Described {
    /// Partitions by number.
    pub(super) partitions: heapless::Vec<Partition, PARTITIONS>,
    /// The logical volume.
    pub(super) logical: LogicalVolume,
}

/// A logical volume descriptor (ECMA-167 3/10.6).
pub(super) struct LogicalVolume {
    sequence: u32,
    /// Its partition maps, in order.
    pub(super) maps: heapless::Vec<MapRaw, MAPS>,
    /// Where its file set descriptor is.
    pub(super) file_set: Location,
    /// Its identifier, which blkid calls the label.
    pub(super) label: Label,
}

impl LogicalVolume {
    #[inline(never)]
    fn parse(block: &[u8]) -> Result<Self> {
        let bad = malformed!(MEDIUM, "logical volume descriptor", 0);
        if le32(block, 212) != u32::try_from(block.len()).ok() {
            return Err(malformed!(MEDIUM, "logical block size is not that of the anchor", 0));
        }
        let table_bytes = usize::try_from(le32(block, 264).ok_or(bad)?).map_err(|_| bad)?;
        let mut table = block.get(440..).and_then(|rest| rest.get(..table_bytes)).ok_or(bad)?;
        let mut maps = heapless::Vec::new();
        for _ in 0..le32(block, 268).ok_or(bad)? {
            let (map, length) = MapRaw::parse(table)?;
            let full = too_many!("UDF partition maps", MAPS);
            maps.push(map).map_err(|_| full)?;
            table = table.get(length..).ok_or(bad)?;
        }
        let file_set = Location::parse_long(block, 248).ok_or(bad)?;
        let mut label = Label::new();
        push_dstring(&mut label, block.get(84..212).ok_or(bad)?)?;
        Ok(Self { sequence: le32(block, 16).ok_or(bad)?, maps, file_set, label })
    }
}

/// The characters of a `dstring` (UDF 2.1.3): its last byte is their length, the compression included.
fn push_dstring(label: &mut Label, field: &[u8]) -> Result<()> {
    let Some((length, room)) = field.split_last() else { return Ok(()) };
    push_osta(label, room.get(..usize::from(*length)).unwrap_or(room)).map(|_| ())
}

/// Reads the descriptors of one sequence. Of several for one object the newest prevails (ECMA-167 3/8.4.3).
///
/// # Errors
/// `Malformed` when a needed one is missing, `Os`.
pub(super) fn read_sequence(device: &mut dyn ReadAt, run: Run, block: &mut [u8]) -> Result<Described> {
    let mut partitions = heapless::Vec::new();
    let mut logical: Option<LogicalVolume> = None;
    let (mut at, mut end) = run_blocks(run, block.len());
    for _ in 0..limits::VOLUME_DESCRIPTORS {
        if at >= end {
            break;
        }
        let byte = u64::from(at).saturating_mul(block.len() as u64);
        let identifier = match read_tagged(device, byte, at, block) {
            Ok(identifier) => identifier,
            Err(error) if error.is(Kind::Os) => return Err(error),
            // ECMA-167 3/8.4.2: what is not recorded ends the sequence, as a terminating descriptor does.
            Err(_) => break,
        };
        match identifier {
            id::PARTITION => {
                let partition =
                    Partition::parse(block).ok_or(malformed!(MEDIUM, "partition descriptor", byte))?;
                keep_newest(&mut partitions, partition)?;
            }
            id::LOGICAL_VOLUME => {
                let found = LogicalVolume::parse(block)?;
                if logical.as_ref().is_none_or(|known| found.sequence >= known.sequence) {
                    logical = Some(found);
                }
            }
            id::VOLUME_POINTER => {
                let next =
                    Run::parse(block, 20).ok_or(malformed!(MEDIUM, "volume descriptor pointer", byte))?;
                (at, end) = run_blocks(next, block.len());
                continue;
            }
            id::TERMINATING => break,
            _ => {}
        }
        at = at.saturating_add(1);
    }
    let logical = logical.ok_or(malformed!(MEDIUM, "no logical volume", 0))?;
    Ok(Described { partitions, logical })
}

/// First block and the one after the last.
fn run_blocks(run: Run, block_bytes: usize) -> (u32, u32) {
    let blocks = u32::try_from(block_bytes).ok().and_then(|bytes| run.length_bytes.checked_div(bytes));
    (run.start_block, run.start_block.saturating_add(blocks.unwrap_or(0)))
}

fn keep_newest(known: &mut heapless::Vec<Partition, PARTITIONS>, found: Partition) -> Result<()> {
    match known.iter_mut().find(|partition| partition.number == found.number) {
        Some(old) if found.sequence >= old.sequence => *old = found,
        Some(_) => {}
        None => {
            let full = too_many!("UDF partitions", PARTITIONS);
            known.push(found).map_err(|_| full)?;
        }
    }
    Ok(())
}
