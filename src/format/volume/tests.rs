//! Bridge media, and media that are none.

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
