//! Is this NTFS volume as the platform made it: its label, and nothing in its root directory but what is known?
//!
//! Read on the block device: images have no NTFS driver, and mounting a disk that may be somebody's is no
//! way to look at it. Whatever is not understood is an error, and an error proves nothing.
//!
//! Source: fs/ntfs/layout.h and fs/ntfs3/ntfs.h of Linux.

use super::ReadAt;
use super::field::{le16, le32, le64};
use super::file::File;
use crate::error::Result;

/// What [`examine`] needs to work in: a file record and an index block of the largest size.
pub const SCRATCH_BYTES: usize = 2 * MAX_BLOCK;
const MAX_BLOCK: usize = 4096;
const WHAT: &str = "NTFS volume";

/// Sectors as the update sequences count them, whatever the disk's are.
const STRIDE: usize = 512;
/// `$Volume` and the root directory, in `$MFT`.
const VOLUME: u32 = 3;
const ROOT: u32 = 5;
/// Records below are the file system's own.
const FIRST_USER_RECORD: u64 = 16;
/// Index blocks of a root directory: with more of them it has hundreds of names.
const MAX_INDEX_BLOCKS: u64 = 16;

const ATTRIBUTE_LIST: u32 = 0x20;
const VOLUME_NAME: u32 = 0x60;
const VOLUME_INFORMATION: u32 = 0x70;
const INDEX_ROOT: u32 = 0x90;
const INDEX_ALLOCATION: u32 = 0xA0;
const END: u32 = 0xFFFF_FFFF;
/// Name of the attributes that index file names.
const FILE_NAMES: &str = "$I30";
/// Name space of a short name; the long name has an entry of its own.
const DOS: u8 = 2;
/// Name space of a long name that has a short one.
const WIN32: u8 = 1;

/// What a device holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// No NTFS.
    Other,
    /// NTFS with another label.
    OtherLabel,
    /// NTFS of that label with at least one name in its root directory that is not among the known ones.
    Files,
    /// NTFS of that label, marked as in use: its journal may know of files that no directory names yet.
    Dirty,
    /// NTFS of that label, and nothing in its root directory but known names.
    Untouched,
}

/// Looks at a device. Names are compared without regard to ASCII case. `scratch` holds [`SCRATCH_BYTES`].
///
/// # Errors
/// `Malformed` or `Unsupported` when it is NTFS and cannot be understood to the end; `Os`.
#[inline(never)]
pub fn examine(device: &mut dyn ReadAt, label: &str, known: &[&str], scratch: &mut [u8]) -> Result<Found> {
    let short = too_many!(WHAT, scratch.len());
    let (record, block) = scratch.split_at_mut_checked(MAX_BLOCK).ok_or(short)?;
    let boot = record.get_mut(..STRIDE).ok_or(short)?;
    if device.size_bytes() < STRIDE as u64 {
        return Ok(Found::Other);
    }
    device.read_at(0, boot)?;
    if boot.get(3..11) != Some(b"NTFS    ") {
        return Ok(Found::Other);
    }
    let shape = Shape::parse(boot, device.size_bytes()).ok_or(malformed!(WHAT, "boot sector", 0))?;
    let record = record.get_mut(..shape.record_bytes).ok_or(short)?;
    read_record(device, &shape, VOLUME, record)?;
    let name = find(record, VOLUME_NAME, "")?.map(resident).transpose()?.unwrap_or_default();
    if !is_text(name, label) {
        return Ok(Found::OtherLabel);
    }
    if is_dirty(record)? {
        return Ok(Found::Dirty);
    }
    read_record(device, &shape, ROOT, record)?;
    let mut names = Names { known, short: 0, long: 0, has_others: false };
    if list_root(device, &shape, record, block, &mut names)? && names.are_known() {
        return Ok(Found::Untouched);
    }
    Ok(Found::Files)
}

/// What chkdsk and mount(8) heed.
fn is_dirty(volume: &[u8]) -> Result<bool> {
    const DIRTY: u16 = 1;
    let broken = malformed!(WHAT, "$VOLUME_INFORMATION", 0);
    let flags = le16(resident(find(volume, VOLUME_INFORMATION, "")?.ok_or(broken)?)?, 10);
    Ok(flags.ok_or(broken)? & DIRTY != 0)
}

/// Sizes and places of a volume.
struct Shape {
    cluster_bytes: u64,
    record_bytes: usize,
    /// Of `$MFT`; its first sixteen records are always together.
    mft: u64,
}

impl Shape {
    fn parse(boot: &[u8], device_bytes: u64) -> Option<Self> {
        let sector = u64::from(le16(boot, 0x0B)?);
        let per_cluster = power_or_count(*boot.get(0x0D)?)?;
        let cluster_bytes = sector.checked_mul(per_cluster)?;
        let is_possible = (256..=4096).contains(&sector) && cluster_bytes <= 2 << 20;
        if le64(boot, 0x28)?.checked_mul(sector)? > device_bytes
            || !is_possible
            || !sector.is_power_of_two()
            || !cluster_bytes.is_power_of_two()
        {
            return None;
        }
        let record = *boot.get(0x40)?;
        let bytes = power_or_count(record)?;
        let record_bytes = if record <= 0x80 { bytes.checked_mul(cluster_bytes)? } else { bytes };
        let record_bytes = usize::try_from(record_bytes).ok().filter(|bytes| is_block_size(*bytes))?;
        let mft = le64(boot, 0x30)?.checked_mul(cluster_bytes)?;
        Some(Self { cluster_bytes, record_bytes, mft })
    }
}

/// A count up to 128 (sectors of a cluster of 64 KiB), or the negative of a power of two.
fn power_or_count(byte: u8) -> Option<u64> {
    match byte {
        0..=0x80 => Some(u64::from(byte)),
        0x81.. => 1_u64.checked_shl(u32::from(byte.wrapping_neg())),
    }
}

fn is_block_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && (STRIDE..=MAX_BLOCK).contains(&bytes)
}

fn read_record(device: &mut dyn ReadAt, shape: &Shape, number: u32, record: &mut [u8]) -> Result<()> {
    const IN_USE: u16 = 1;
    let offset = u64::from(number).saturating_mul(record.len() as u64);
    let at = shape.mft.checked_add(offset).ok_or(malformed!(WHAT, "place of $MFT", 0))?;
    read_block(device, at, b"FILE", record)?;
    // Its own number (NTFS 3.1 and later) and no base record: this is the record that was looked for.
    let is_it = le32(record, 0x2C) == Some(number) && le64(record, 0x20) == Some(0);
    let flags = le16(record, 0x16).unwrap_or_default();
    if is_it && flags & IN_USE != 0 { Ok(()) } else { Err(malformed!(WHAT, "file record", at)) }
}

/// Reads a block of a multi-sector structure and puts back the ends of its sectors, which the update sequence
/// array holds.
fn read_block(device: &mut dyn ReadAt, at: u64, magic: &[u8; 4], block: &mut [u8]) -> Result<()> {
    let torn = malformed!(WHAT, "update sequence", at);
    if at.checked_add(block.len() as u64).is_none_or(|end| end > device.size_bytes()) {
        return Err(malformed!(WHAT, "block past the end of the volume", at));
    }
    device.read_at(at, block)?;
    if !block.starts_with(magic) {
        return Err(malformed!(WHAT, "signature of a block", at));
    }
    put_sector_ends_back(block).ok_or(torn)
}

fn put_sector_ends_back(block: &mut [u8]) -> Option<()> {
    let (array, count) = (usize::from(le16(block, 4)?), usize::from(le16(block, 6)?));
    if count.checked_sub(1)? != block.len() / STRIDE || array.checked_add(count.checked_mul(2)?)? > STRIDE - 2
    {
        return None;
    }
    let (mut saved, mark) = (array, le16(block, array)?);
    for end in (STRIDE..=block.len()).step_by(STRIDE) {
        let at = end.checked_sub(2)?;
        saved = saved.checked_add(2)?;
        if le16(block, at)? != mark {
            return None;
        }
        let bytes: [u8; 2] = *block.get(saved..)?.first_chunk()?;
        *block.get_mut(at..)?.first_chunk_mut()? = bytes;
    }
    Some(())
}

/// The attribute of this type and name.
fn find<'r>(record: &'r [u8], wanted: u32, name: &str) -> Result<Option<&'r [u8]>> {
    let broken = malformed!(WHAT, "attributes of a file record", 0);
    let mut rest = record.get(usize::from(le16(record, 0x14).ok_or(broken)?)..).ok_or(broken)?;
    loop {
        let kind = le32(rest, 0).ok_or(broken)?;
        if kind == END {
            return Ok(None);
        }
        if kind == ATTRIBUTE_LIST {
            return Err(unsupported!(WHAT, "attributes in more than one file record"));
        }
        let length = le32(rest, 4).and_then(|length| usize::try_from(length).ok());
        // A header's length at least: the walk comes to an end.
        let length = length.filter(|length| *length >= 0x18).ok_or(broken)?;
        let (attribute, behind) = rest.split_at_checked(length).ok_or(broken)?;
        if kind == wanted && is_text(name_of(attribute).ok_or(broken)?, name) {
            return Ok(Some(attribute));
        }
        rest = behind;
    }
}

fn name_of(attribute: &[u8]) -> Option<&[u8]> {
    let bytes = usize::from(*attribute.get(9)?).checked_mul(2)?;
    attribute.get(usize::from(le16(attribute, 0x0A)?)..)?.get(..bytes)
}

fn is_resident(attribute: &[u8]) -> bool {
    attribute.get(8) == Some(&0)
}

fn resident(attribute: &[u8]) -> Result<&[u8]> {
    let value = || {
        let length = usize::try_from(le32(attribute, 0x10)?).ok()?;
        attribute.get(usize::from(le16(attribute, 0x14)?)..)?.get(..length)
    };
    value().filter(|_| is_resident(attribute)).ok_or(malformed!(WHAT, "resident attribute", 0))
}

/// Where the bytes of an attribute lie that is no part of its record.
fn runs(attribute: &[u8], shape: &Shape, device_bytes: u64) -> Result<File> {
    let broken = malformed!(WHAT, "runs of an attribute", 0);
    // Neither compressed, encrypted nor sparse, and the first part of it.
    let is_plain = le16(attribute, 0x0C) == Some(0) && le64(attribute, 0x10) == Some(0);
    if is_resident(attribute) || !is_plain {
        return Err(unsupported!(WHAT, "resident, compressed, encrypted or sparse index"));
    }
    let at = usize::from(le16(attribute, 0x20).ok_or(broken)?);
    let mut rest = attribute.get(at..).ok_or(broken)?;
    let (mut file, mut cluster) = (File::new(), 0_i64);
    while let Some((head, behind)) = rest.split_first().filter(|(head, _)| **head != 0) {
        let (length, behind) = behind.split_at_checked(usize::from(head & 15)).ok_or(broken)?;
        let (step, behind) = behind.split_at_checked(usize::from(head >> 4)).ok_or(broken)?;
        // A run without a place is a hole.
        if step.is_empty() {
            return Err(broken);
        }
        let clusters = u64::try_from(signed(length).ok_or(broken)?).map_err(|_| broken)?;
        cluster = signed(step).and_then(|step| cluster.checked_add(step)).ok_or(broken)?;
        let bytes = |clusters: u64| clusters.checked_mul(shape.cluster_bytes).ok_or(broken);
        let start = bytes(u64::try_from(cluster).map_err(|_| broken)?)?;
        file.push(Some(start), bytes(clusters)?, device_bytes)?;
        rest = behind;
    }
    Ok(file)
}

/// A little-endian number of up to eight bytes, with its sign; none is 0.
fn signed(bytes: &[u8]) -> Option<i64> {
    let is_negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
    let mut wide = if is_negative { [0xFF; 8] } else { [0; 8] };
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}

/// The names of a directory, counted.
struct Names<'k> {
    known: &'k [&'k str],
    short: u32,
    long: u32,
    has_others: bool,
}

impl Names<'_> {
    /// Each short name belongs to a known long one.
    fn are_known(&self) -> bool {
        !self.has_others && self.short <= self.long
    }

    /// The entries of one node, up to the one that ends it. A node's header counts from its own start.
    fn add(&mut self, node: &[u8]) -> Option<()> {
        const LAST: u16 = 2;
        let (start, end) = (usize::try_from(le32(node, 0)?).ok()?, usize::try_from(le32(node, 4)?).ok()?);
        let mut rest = node.get(start..end)?;
        while le16(rest, 0x0C)? & LAST == 0 {
            let (entry, behind) =
                rest.split_at_checked(usize::from(le16(rest, 8)?)).filter(|(entry, _)| entry.len() > 16)?;
            self.add_entry(entry)?;
            rest = behind;
        }
        Some(())
    }

    fn add_entry(&mut self, entry: &[u8]) -> Option<()> {
        const NUMBER: u64 = (1 << 48) - 1;
        if le64(entry, 0)? & NUMBER < FIRST_USER_RECORD {
            return Some(());
        }
        let key = entry.get(16..)?;
        let (length, space) = (*key.get(0x40)?, *key.get(0x41)?);
        let name = key.get(0x42..)?.get(..usize::from(length).checked_mul(2)?)?;
        if space == DOS {
            self.short = self.short.saturating_add(1);
        } else if self.known.iter().any(|known| is_text(name, known)) {
            self.long = self.long.saturating_add(u32::from(space == WIN32));
        } else {
            self.has_others = true;
        }
        Some(())
    }
}

/// Collects the names of the root directory: those in its record, and every block of its index whether the
/// tree leads there or not. False: it has too many to look at.
#[inline(never)]
fn list_root(
    device: &mut dyn ReadAt,
    shape: &Shape,
    record: &[u8],
    block: &mut [u8],
    names: &mut Names<'_>,
) -> Result<bool> {
    let broken = malformed!(WHAT, "index of the root directory", 0);
    let root = resident(find(record, INDEX_ROOT, FILE_NAMES)?.ok_or(broken)?)?;
    names.add(root.get(16..).ok_or(broken)?).ok_or(broken)?;
    let Some(allocation) = find(record, INDEX_ALLOCATION, FILE_NAMES)? else { return Ok(true) };
    let bytes = le32(root, 8).and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = bytes.filter(|bytes| is_block_size(*bytes)).ok_or(broken)?;
    let block = block.get_mut(..bytes).ok_or(broken)?;
    let file = runs(allocation, shape, device.size_bytes())?;
    let data_bytes = le64(allocation, 0x30).ok_or(broken)?;
    if data_bytes > MAX_INDEX_BLOCKS.saturating_mul(bytes as u64) {
        return Ok(false);
    }
    for at in (0..data_bytes).step_by(bytes) {
        let extent = file.locate(at).filter(|extent| extent.length_bytes >= bytes as u64).ok_or(broken)?;
        read_block(device, extent.start.ok_or(broken)?, b"INDX", block)?;
        names.add(block.get(0x18..).ok_or(broken)?).ok_or(broken)?;
    }
    Ok(true)
}

/// True when UTF-16 says the same as `text`, but for ASCII case.
fn is_text(raw: &[u8], text: &str) -> bool {
    let (units, rest) = raw.as_chunks::<2>();
    let lower = |unit: u16| if (0x41..=0x5A).contains(&unit) { unit | 0x20 } else { unit };
    let units = units.iter().map(|unit| lower(u16::from_le_bytes(*unit)));
    rest.is_empty() && units.eq(text.encode_utf16().map(lower))
}

#[cfg(test)]
mod tests {
    use super::{Found, SCRATCH_BYTES, examine, power_or_count, signed};
    use crate::error::Result;
    use crate::format::media::{Strict, image};
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::sync::LazyLock;
    use std::vec::Vec;

    const LABEL: &str = "Temporary Storage";
    const KNOWN: &[&str] = &["dataloss_warning_readme.txt", "System Volume Information", "$RECYCLE.BIN"];

    fn look(image: &[u8], known: &[&str]) -> Result<Found> {
        examine(&mut Strict::new(image), LABEL, known, &mut [0; SCRATCH_BYTES])
    }

    #[test]
    fn a_fresh_volume_is_told_from_one_with_files() {
        for (name, found) in [
            ("ntfs-fresh", Found::Untouched),
            ("ntfs-fresh-64k", Found::Untouched),
            ("ntfs-empty-512", Found::Untouched),
            ("ntfs-one-file", Found::Files),
            ("ntfs-one-directory", Found::Files),
            ("ntfs-short-name", Found::Files),
            ("ntfs-many-files", Found::Files),
            // Blocks of the index that nothing leads to any more still name them: it was in use.
            ("ntfs-deleted", Found::Files),
            ("ntfs-other-label", Found::OtherLabel),
            ("iso-plain", Found::Other),
        ] {
            assert_eq!(look(&image(name), KNOWN), Ok(found), "{name}");
        }
        assert_eq!(look(&[], KNOWN), Ok(Found::Other));
        assert_eq!(look(&[0; 4096], KNOWN), Ok(Found::Other));
        assert_eq!(look(&image("ntfs-fresh"), &KNOWN[..2]), Ok(Found::Files), "each known name counts");
    }

    #[test]
    fn a_volume_in_use_is_not_fresh() {
        for name in ["ntfs-fresh", "ntfs-empty-512", "ntfs-fresh-64k"] {
            let whole = image(name);
            let mut dirty = 0;
            // $VOLUME_INFORMATION: type, 24 bytes in the record, 12 of value; version 3.1 and no flag at its end.
            for at in 0..whole.len() - 0x30 {
                if whole[at..at + 4] == [0x70, 0, 0, 0] && whole[at + 0x20..at + 0x24] == [3, 1, 0, 0] {
                    let mut image = whole.clone();
                    image[at + 0x22] = 1;
                    dirty += usize::from(look(&image, KNOWN) == Ok(Found::Dirty));
                    image[at + 0x22] = 2;
                    assert_eq!(look(&image, KNOWN), Ok(Found::Untouched), "{name}: another flag");
                }
            }
            assert_eq!(dirty, 1, "{name}");
        }
    }

    #[test]
    fn a_short_name_alone_is_nobody_s() {
        let mut image = image("ntfs-fresh");
        // The name spaces of a pair: the long name's becomes a short one's too.
        let long: Vec<u8> = "System Volume".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let at = image.windows(long.len()).position(|bytes| bytes == long).unwrap();
        assert_eq!(image[at - 1], super::WIN32);
        image[at - 1] = super::DOS;
        assert_eq!(look(&image, KNOWN), Ok(Found::Files));
    }

    #[test]
    fn a_torn_sector_proves_nothing() {
        for name in ["ntfs-fresh", "ntfs-empty-512", "ntfs-fresh-64k"] {
            let whole = image(name);
            let mut refused = 0;
            for end in (512..=whole.len()).step_by(512).map(|end| end - 1) {
                let mut torn = whole.clone();
                torn[end] ^= 0x10;
                refused += usize::from(look(&torn, KNOWN).is_err());
            }
            // Two records of two sectors, one block of eight.
            assert!(refused >= 12, "{name}: {refused}");
        }
    }

    #[test]
    fn a_device_cut_short_is_no_panic_and_no_proof() {
        let whole = image("ntfs-fresh");
        for length in (0..whole.len() - 512).step_by(512) {
            assert_ne!(look(&whole[..length], KNOWN), Ok(Found::Untouched), "{length}");
        }
    }

    #[test]
    fn numbers_of_runs_and_sizes() {
        assert_eq!(signed(&[]), Some(0));
        assert_eq!(signed(&[0x80]), Some(-128));
        assert_eq!(signed(&[0xFF, 0x7F]), Some(0x7FFF));
        assert_eq!(signed(&[0; 9]), None);
        assert_eq!([1, 0xF6, 0x80, 0x81].map(power_or_count), [Some(1), Some(1024), Some(128), None]);
    }

    static FRESH: LazyLock<Vec<u8>> = LazyLock::new(|| image("ntfs-fresh"));
    static PLACES: LazyLock<Vec<usize>> =
        LazyLock::new(|| (0..FRESH.len()).filter(|at| FRESH[*at] != 0).collect());

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut image = FRESH.clone();
            image[..bytes.len()].copy_from_slice(&bytes);
            image[3..11].copy_from_slice(b"NTFS    ");
            let _ = look(&image, KNOWN);
        }

        /// Whatever changes in what counts: no panic, no endless walk, and with no known names no proof.
        #[test]
        fn hostile_structures_are_no_panic(changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
            let mut image = FRESH.clone();
            for (place, byte) in changes {
                image[PLACES[place % PLACES.len()]] = byte;
            }
            let _ = look(&image, KNOWN);
        }

        #[test]
        fn runs_are_read_to_their_end(value: i64) {
            let bytes = value.to_le_bytes();
            prop_assert_eq!(signed(&bytes), Some(value));
            prop_assert!(signed(&bytes[..3]).is_some_and(|short| (-1 << 23..1 << 23).contains(&short)));
        }
    }
}
