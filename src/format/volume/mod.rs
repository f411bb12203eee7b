//! Which file system is on this medium, what is it called, and which files does it have?
//!
//! Media are read straight from the block device: hardened images have no udf.ko, and some platforms deliver
//! ISO 9660 or FAT instead of UDF (WALinuxAgent#246, #1507). Nothing is kept but the volume's own numbers; what is
//! read passes through the scratch that the caller lends.

pub(crate) mod name;
pub(crate) mod tree;

#[cfg(test)]
mod tests;

use crate::error::{Errno, Error, Result};
use crate::format::ReadAt;
use crate::format::file::File;
use crate::format::{fat, iso9660, udf};
use core::ops::ControlFlow;
use tree::{Tree, find, in_turn, list, walk};

/// What everything here needs to work in: one block of the largest size.
pub const SCRATCH_BYTES: usize = 4096;

/// A file system that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ECMA-167 with OSTA UDF.
    Udf,
    /// ECMA-119, with or without Joliet and Rock Ridge.
    Iso9660,
    /// FAT12, FAT16 or FAT32, with long names.
    Fat,
}

impl Kind {
    /// In the order they are tried: a bridge medium has both of the first, and UDF has the real names.
    pub const ALL: [Self; 3] = [Self::Udf, Self::Iso9660, Self::Fat];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udf => "UDF",
            Self::Iso9660 => "ISO 9660",
            Self::Fat => "FAT",
        }
    }

    /// blkid's TYPE.
    #[must_use]
    pub const fn blkid_type(self) -> &'static str {
        match self {
            Self::Udf => "udf",
            Self::Iso9660 => "iso9660",
            Self::Fat => "vfat",
        }
    }
}

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// Has bytes.
    File,
    /// Has names below it.
    Directory,
    /// Leads elsewhere; it is never followed.
    Symlink,
    /// A device, a socket ...
    Other,
}

/// One name of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Its name: never empty, `.` or `..`, without `/` and NUL. Bytes that are no text are shown as U+FFFD.
    pub name: &'a str,
    /// What it stands for.
    pub kind: FileKind,
    /// Bytes of a file; of anything else it says nothing.
    pub size_bytes: u64,
}

/// What is at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file; of anything else it says nothing.
    pub size_bytes: u64,
}

/// A volume whose descriptors have been checked.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is no heap to box it on, and one at a time")]
pub enum Volume {
    /// See [`Kind::Udf`].
    Udf(udf::Volume),
    /// See [`Kind::Iso9660`].
    Iso9660(iso9660::Volume),
    /// See [`Kind::Fat`].
    Fat(fat::Volume),
}

impl Volume {
    /// Recognises what is on the medium. `scratch` holds [`SCRATCH_BYTES`]. On a bridge medium one broken
    /// volume is made good by the other.
    ///
    /// # Errors
    /// [`NONE_OF_ALL`] when it claims to be nothing that is read. Else `Malformed`, `Unsupported`, `TooMany`
    /// about the first kind it claims to be; `Os` is the device's.
    pub fn open(device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<Self> {
        let mut failure = None;
        for kind in Kind::ALL {
            match Self::open_as(kind, device, scratch) {
                Ok(None) => {}
                Ok(Some(volume)) => return Ok(volume),
                Err(error) if is_of_device(error) => return Err(error),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or(NONE_OF_ALL))
    }

    /// As [`open`](Self::open), of this kind only; `None`: it does not claim to be one.
    ///
    /// # Errors
    /// As `open`.
    #[inline(never)]
    pub fn open_as(kind: Kind, device: &mut dyn ReadAt, scratch: &mut [u8]) -> Result<Option<Self>> {
        Ok(match kind {
            Kind::Udf if udf::Volume::is_recognised(device)? => {
                Some(Self::Udf(udf::Volume::open(device, scratch)?))
            }
            Kind::Iso9660 if iso9660::Volume::is_recognised(device)? => {
                Some(Self::Iso9660(iso9660::Volume::open(device, scratch)?))
            }
            Kind::Fat => fat::Volume::open(device, scratch)?.map(Self::Fat),
            _ => None,
        })
    }

    /// Which kind it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Udf(_) => Kind::Udf,
            Self::Iso9660(_) => Kind::Iso9660,
            Self::Fat(_) => Kind::Fat,
        }
    }

    /// Its label, as blkid's LABEL: UDF's logical volume identifier, ISO 9660's volume identifier with what Joliet
    /// knows of it, the label entry in FAT's root directory. Empty: none.
    #[must_use]
    pub fn label(&self) -> &str {
        match self {
            Self::Udf(volume) => volume.label(),
            Self::Iso9660(volume) => volume.label(),
            Self::Fat(volume) => volume.label(),
        }
    }

    /// The label in FAT's boot sector, as blkid's LABEL_FATBOOT. Empty: none.
    #[must_use]
    pub fn boot_label(&self) -> &str {
        match self {
            Self::Fat(volume) => volume.boot_label(),
            _ => "",
        }
    }

    /// Finds a regular file by its path from the root (`a/b`). Case counts, but for FAT and for plain ISO 9660.
    ///
    /// # Errors
    /// `Os(NOENT)` when there is no such file, `Os(ISDIR)`, `Os(NOTDIR)`; `Unsupported` for a symbolic link;
    /// `Malformed`, `Unsupported`, `TooMany` about the medium. Any other `Os` is the device's.
    pub fn find(&self, device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<File> {
        in_turn(self.trees(), &mut |tree| find(tree, device, path, scratch))
    }

    /// Says what is at a path; a symbolic link in its last place is named as one.
    ///
    /// # Errors
    /// As [`find`](Self::find), but for `Os(ISDIR)`.
    pub fn stat(&self, device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<Stat> {
        let node = in_turn(self.trees(), &mut |tree| walk(tree, device, path, scratch))?;
        Ok(Stat { kind: node.kind, size_bytes: node.size_bytes })
    }

    /// Calls `each` with every name of a directory, in the medium's order, until it breaks off; `""` is the root.
    ///
    /// # Errors
    /// As [`find`](Self::find), `Os(NOTDIR)` for a file, and what `each` returns.
    pub fn list(
        &self,
        device: &mut dyn ReadAt,
        path: &str,
        scratch: &mut [u8],
        each: &mut dyn FnMut(&Entry<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut is_begun = false;
        in_turn(self.trees(), &mut |tree| {
            // What was listed half is not begun again in another tree: its error stands.
            if is_begun {
                return Err(os!("find file", Errno::NOENT));
            }
            list(tree, device, path, scratch, &mut |entry| {
                is_begun = true;
                each(entry)
            })
        })
    }

    fn trees(&self) -> [Option<&dyn Tree>; 2] {
        match self {
            Self::Udf(volume) => [Some(volume), None],
            Self::Iso9660(volume) => volume.trees(),
            Self::Fat(volume) => [Some(volume), None],
        }
    }
}

/// Finds a regular file by its path from the root (`a/b`) on an optical medium. The kinds that it claims to be
/// are tried in turn, so on a bridge medium one broken tree is made good by the other. `scratch` holds
/// [`SCRATCH_BYTES`].
///
/// # Errors
/// As [`Volume::open`] and [`Volume::find`], about the first kind it claims to be (see [`is_of_device`]).
pub fn find_file(device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<(Kind, File)> {
    let mut failure = None;
    for kind in [Kind::Udf, Kind::Iso9660] {
        let found = match Volume::open_as(kind, device, scratch) {
            Ok(None) => continue,
            Ok(Some(volume)) => volume.find(device, path, scratch),
            Err(error) => Err(error),
        };
        match found {
            Ok(file) => return Ok((kind, file)),
            Err(error) if is_of_device(error) => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or(NO_FILE_SYSTEM))
}

/// What [`Volume::open`] says of a medium that claims to be nothing that is read.
pub const NONE_OF_ALL: Error = unsupported!("medium", "neither UDF, ISO 9660 nor FAT");

/// The same of [`find_file`].
pub const NO_FILE_SYSTEM: Error = unsupported!("medium", "neither UDF nor ISO 9660");

/// True for errors of the device, false for what the medium's content says.
#[must_use]
pub fn is_of_device(error: Error) -> bool {
    let of_content = [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR];
    error.errno().is_some_and(|errno| !of_content.contains(&errno))
}
