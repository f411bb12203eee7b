//! Images of media for tests, kept as text by the scripts in `tests/fixtures/media`.

use crate::error::Result;
use crate::format::ReadAt;
use std::vec;
use std::vec::Vec;

/// What ovf-env.xml on every image says.
pub(crate) const DOCUMENT: &[u8] = include_bytes!("../../../tests/fixtures/media/ovf-env.xml");

macro_rules! images {
    ($($name:literal)*) => {
        /// An image's bytes.
        pub(crate) fn image(name: &str) -> Vec<u8> {
            match name {
                $($name => unfold(include_str!(concat!("../../../tests/fixtures/media/", $name, ".hex"))),)*
                _ => panic!("no image {name}"),
            }
        }
    };
}

images! {
    "fat-12" "fat-16" "fat-32"
    "bridge" "bd-250" "iso-plain" "iso-relaxed" "iso-joliet" "iso-rock-ridge" "iso-xorriso"
    "udf-102" "udf-201" "udf-201-512" "udf-201-4096" "udf-sparable" "udf-vat"
    "ntfs-fresh" "ntfs-fresh-64k" "ntfs-empty-512" "ntfs-one-file" "ntfs-one-directory" "ntfs-short-name"
    "ntfs-many-files" "ntfs-deleted" "ntfs-other-label"
    "config-drive-iso" "config-drive-fat" "nocloud-fat"
    "linux-102" "linux-201" "linux-201-512" "linux-201-4096" "linux-sparable"
}

/// `offset bytes` in hexadecimal; the last line is the size.
fn unfold(text: &str) -> Vec<u8> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let mut image = vec![0; number(lines().next_back().unwrap())];
    for (at, bytes) in lines().filter_map(|line| line.split_once(' ')) {
        for (i, pair) in bytes.as_bytes().chunks(2).enumerate() {
            image[number(at) + i] = number(core::str::from_utf8(pair).unwrap()) as u8;
        }
    }
    image
}

/// A medium on which a read past the end is a failed test, and so is a reader that does not come to an end.
pub(crate) struct Strict<'i> {
    /// The image.
    pub(crate) bytes: &'i [u8],
    /// Reads so far.
    pub(crate) reads: u32,
}

impl<'i> Strict<'i> {
    pub(crate) fn new(bytes: &'i [u8]) -> Self {
        Self { bytes, reads: 0 }
    }
}

impl ReadAt for Strict<'_> {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.reads += 1;
        assert!(self.reads < 100_000, "the reader does not end");
        let start = usize::try_from(offset).unwrap();
        buf.copy_from_slice(&self.bytes[start..start + buf.len()]);
        Ok(())
    }
}
