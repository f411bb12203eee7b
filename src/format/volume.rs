//! Which file system is on this medium, and where is a file of it?
//!
//! The provisioning medium is read straight from the block device: hardened images have no udf.ko, and some
//! platforms deliver ISO 9660 instead of UDF (WALinuxAgent#246, #1507).

use crate::error::{Errno, Error, Result};
use crate::format::ReadAt;
use crate::format::file::File;
use crate::format::{iso9660, udf};

/// What [`find_file`] needs to work in: one block of the largest size.
pub const SCRATCH_BYTES: usize = 4096;

/// A file system that is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// ECMA-167 with OSTA UDF.
    Udf,
    /// ECMA-119, with or without Joliet and Rock Ridge.
    Iso9660,
}

impl Kind {
    /// In the order they are tried: a bridge medium has both, and UDF has the real names.
    pub const ALL: [Self; 2] = [Self::Udf, Self::Iso9660];

    /// Its name for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udf => "UDF",
            Self::Iso9660 => "ISO 9660",
        }
    }
}

/// Finds a regular file by its path from the root (`a/b`). The kinds that the medium claims to be are tried
/// in turn, so on a bridge medium one broken tree is made good by the other. `scratch` holds [`SCRATCH_BYTES`].
///
/// # Errors
/// `Unsupported` when it claims to be none. Else what the first kind it claims to be says: `Os(NOENT)` when there
/// is no such file, `Os(ISDIR)`, `Os(NOTDIR)`; `Malformed`, `Unsupported`, `TooMany` about the medium. Any other
/// `Os` is the device's and ends it at once (see [`is_of_device`]).
pub fn find_file(device: &mut dyn ReadAt, path: &str, scratch: &mut [u8]) -> Result<(Kind, File)> {
    let mut failure = None;
    for kind in Kind::ALL {
        let found = match kind {
            Kind::Udf if udf::Volume::is_recognised(device)? => {
                udf::Volume::open(device, scratch).and_then(|volume| volume.find(device, path, scratch))
            }
            Kind::Iso9660 if iso9660::Volume::is_recognised(device)? => {
                iso9660::Volume::open(device, scratch).and_then(|volume| volume.find(device, path, scratch))
            }
            _ => continue,
        };
        match found {
            Ok(file) => return Ok((kind, file)),
            Err(error) if is_of_device(error) => return Err(error),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or(NO_FILE_SYSTEM))
}

/// What [`find_file`] says of a medium that claims to be nothing it knows.
pub const NO_FILE_SYSTEM: Error = unsupported!("medium", "neither UDF nor ISO 9660");

/// True for errors of the device, false for what the medium's content says.
#[must_use]
pub fn is_of_device(error: Error) -> bool {
    let of_content = [Errno::NOENT, Errno::NOTDIR, Errno::ISDIR];
    error.errno().is_some_and(|errno| !of_content.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::{Kind, NO_FILE_SYSTEM, SCRATCH_BYTES, find_file};
    use crate::error::{Errno, Error};
    use crate::format::ReadAt;
    use crate::format::media::{DOCUMENT, Strict, image};

    fn find(image: &[u8], path: &str) -> Result<(Kind, u64), Error> {
        let found = find_file(&mut Strict::new(image), path, &mut [0; SCRATCH_BYTES]);
        found.map(|(kind, file)| (kind, file.size_bytes()))
    }

    #[test]
    fn udf_is_read_before_iso_and_iso_when_udf_is_broken() {
        let size = DOCUMENT.len() as u64;
        let mut bridge = image("bridge");
        assert_eq!(find(&bridge, "ovf-env.xml"), Ok((Kind::Udf, size)));
        assert_eq!(find(&image("iso-plain"), "ovf-env.xml"), Ok((Kind::Iso9660, size)));
        let none = os!("find file", Errno::NOENT);
        assert_eq!(find(&bridge, "none"), Err(none));
        bridge[256 * 2048] ^= 1;
        let last = bridge.len() - 2048;
        bridge[last] ^= 1;
        assert_eq!(find(&bridge, "ovf-env.xml"), Ok((Kind::Iso9660, size)));
        assert!(matches!(find(&bridge, "none"), Err(error) if error.reason() == "no anchor"));
    }

    #[test]
    fn a_medium_without_file_system_is_named() {
        for size in [0, 2048, 1 << 20] {
            assert_eq!(find(&std::vec![0x55; size], "x"), Err(NO_FILE_SYSTEM), "{size}");
        }
    }

    /// A device of which one block is bad.
    struct Scratched<'i>(Strict<'i>, u64);

    impl ReadAt for Scratched<'_> {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
            if (offset..offset + buf.len() as u64).contains(&self.1) {
                return Err(os!("read disk", Errno::IO));
            }
            self.0.read_at(offset, buf)
        }
    }

    #[test]
    fn a_bad_block_is_the_device_s_error_or_made_good_by_a_second_copy() {
        let image = image("bridge");
        let mut failures = 0;
        for block in 16..image.len() as u64 / 2048 {
            let mut device = Scratched(Strict::new(&image), block * 2048);
            match find_file(&mut device, "ovf-env.xml", &mut [0; SCRATCH_BYTES]) {
                Ok((kind, _)) => assert_eq!(kind, Kind::Udf),
                Err(error) => {
                    assert_eq!(error, os!("read disk", Errno::IO), "{block}");
                    failures += 1;
                }
            }
        }
        assert!((3..12).contains(&failures), "{failures}");
    }
}
