//! What does an information control block say: which kind of file, and where are its bytes?
//! (ECMA-167 4/14.6, 4/14.9, 4/14.12, 4/14.17)

use super::MEDIUM;
use super::Volume;
use super::partition::Location;
use super::tag::{id, read_tagged};
use crate::error::Result;
use crate::format::ReadAt;
use crate::format::bytes::{le16, le32, le64};
use crate::format::file::File;
use crate::format::volume::FileKind;

/// Blocks of allocation descriptors that one file may chain; a hostile chain may be a ring.
const CHAIN: usize = 8;

/// What a file entry says before its descriptors.
pub(super) struct Header {
    pub(super) kind: FileKind,
    /// The number in the entry: the kinds of the system's own files differ in it.
    pub(super) raw_kind: u8,
    pub(super) size_bytes: u64,
    /// Where the entry is on the device.
    byte: u64,
    form: u16,
    /// Its descriptors in the block.
    range: core::ops::Range<usize>,
}

/// How a file's allocation descriptors are written (ICB flags, bits 0 to 2).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Short,
    Long,
}

impl Form {
    const fn bytes(self) -> usize {
        match self {
            Self::Short => 8,
            Self::Long => 16,
        }
    }
}

/// Reads the file entry at `at` into `scratch`, which holds one block.
pub(super) fn load_header(
    volume: &Volume,
    device: &mut dyn ReadAt,
    at: Location,
    scratch: &mut [u8],
) -> Result<Header> {
    let byte = volume.byte_of(device, at)?;
    let block = volume.block(scratch)?;
    let header = match read_tagged(device, byte, at.block, block)? {
        id::FILE_ENTRY => 176,
        id::EXTENDED_FILE_ENTRY => 216,
        _ => return Err(malformed!(MEDIUM, "no file entry where one belongs", byte)),
    };
    let bad = malformed!(MEDIUM, "file entry", byte);
    if le16(block, 20) != Some(4) {
        // Strategy 4096 chains entries for write-once media.
        return Err(unsupported!(MEDIUM, "ICB strategy other than 4"));
    }
    let raw_kind = *block.get(27).ok_or(bad)?;
    let kind = match raw_kind {
        4 => FileKind::Directory,
        // 0: unspecified (ECMA-167), and the VAT before UDF 2.00, which has 248; 249: real-time file; 250, 251:
        // metadata file and mirror (UDF 2.50).
        0 | 5 | 248..=251 => FileKind::File,
        12 => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let size_bytes = le64(block, 56).ok_or(bad)?;
    let attributes = header_field(block, header, 8).ok_or(bad)?;
    let start = attributes.checked_add(header).ok_or(bad)?;
    let length = header_field(block, header, 4).ok_or(bad)?;
    let end = start.checked_add(length).filter(|end| *end <= block.len()).ok_or(bad)?;
    let form = le16(block, 34).ok_or(bad)? & 7;
    Ok(Header { kind, raw_kind, size_bytes, byte, form, range: start..end })
}

/// Finds the bytes of the file whose entry is at `at`. `scratch` holds one block.
#[inline(never)]
pub(super) fn load(
    volume: &Volume,
    device: &mut dyn ReadAt,
    at: Location,
    scratch: &mut [u8],
) -> Result<File> {
    let Header { size_bytes, byte, form, range, .. } = load_header(volume, device, at, scratch)?;
    let mut file = File::new();
    let form = match form {
        0 => Form::Short,
        1 => Form::Long,
        3 => {
            let bad = malformed!(MEDIUM, "file entry", byte);
            let fits = size_bytes <= range.len() as u64;
            let first = byte.checked_add(range.start as u64).filter(|_| fits).ok_or(bad)?;
            file.push(Some(first), size_bytes, device.size_bytes())?;
            return Ok(file);
        }
        _ => return Err(unsupported!(MEDIUM, "extended allocation descriptors")),
    };
    let runs = Runs { volume, form, map: at.map, size_bytes };
    runs.collect(device, scratch, range, &mut file)?;
    Ok(file)
}

/// The two length fields end the fixed part of a file entry: L_EA at 8, L_AD at 4 bytes before it.
fn header_field(block: &[u8], header: usize, before: usize) -> Option<usize> {
    usize::try_from(le32(block, header.checked_sub(before)?)?).ok()
}

/// Collects the extents of one file.
struct Runs<'v> {
    volume: &'v Volume,
    form: Form,
    /// Short descriptors name no partition: theirs is the entry's own.
    map: u16,
    size_bytes: u64,
}

impl Runs<'_> {
    /// Goes through the descriptors in `range` of the block in `scratch`, and through those it chains to.
    fn collect(
        &self,
        device: &mut dyn ReadAt,
        scratch: &mut [u8],
        mut range: core::ops::Range<usize>,
        file: &mut File,
    ) -> Result<()> {
        for _ in 0..CHAIN {
            let descriptors = scratch.get(range).unwrap_or_default();
            let Some(next) = self.push_all(device, descriptors, file)? else {
                return self.check_size(file);
            };
            let byte = self.volume.byte_of(device, next)?;
            let block = self.volume.block(scratch)?;
            if read_tagged(device, byte, next.block, block)? != id::ALLOCATION_EXTENT {
                return Err(malformed!(MEDIUM, "no allocation extent where one belongs", byte));
            }
            let length = le32(block, 20).and_then(|length| usize::try_from(length).ok());
            let end = length.and_then(|length| length.checked_add(24)).filter(|end| *end <= block.len());
            range = 24..end.ok_or(malformed!(MEDIUM, "allocation extent length", byte))?;
        }
        Err(too_many!("allocation extents of a file", CHAIN))
    }

    /// Appends what the descriptors name; returns where they go on.
    fn push_all(
        &self,
        device: &mut dyn ReadAt,
        descriptors: &[u8],
        file: &mut File,
    ) -> Result<Option<Location>> {
        let block = u64::from(self.volume.block_bytes);
        for descriptor in descriptors.chunks_exact(self.form.bytes()) {
            let bad = malformed!(MEDIUM, "allocation descriptor", 0);
            let word = le32(descriptor, 0).ok_or(bad)?;
            let (kind, length) = (word >> 30, u64::from(word & 0x3FFF_FFFF));
            let at = match self.form {
                Form::Short => le32(descriptor, 4).map(|block| Location { map: self.map, block }),
                Form::Long => Location::parse_long(descriptor, 0),
            };
            let missing = self.size_bytes.saturating_sub(file.size_bytes());
            match kind {
                // ECMA-167 4/12: a zero length ends the list, and all but the last are whole blocks.
                _ if length == 0 || missing == 0 => return Ok(None),
                3 => return at.map(Some).ok_or(bad),
                _ if length < missing && length & block.saturating_sub(1) != 0 => {
                    return Err(malformed!(MEDIUM, "extent is not a whole number of blocks", 0));
                }
                0 => self.volume.push_run(device, file, at.ok_or(bad)?, length.min(missing))?,
                _ => file.push(None, length.min(missing), device.size_bytes())?,
            }
        }
        Ok(None)
    }

    fn check_size(&self, file: &File) -> Result<()> {
        if file.size_bytes() != self.size_bytes {
            return Err(malformed!(MEDIUM, "file longer than its extents", 0));
        }
        Ok(())
    }
}
