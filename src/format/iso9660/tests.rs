//! Media as genisoimage and xorriso make them, and media that nobody should make.

use super::Volume;
use crate::error::{Errno, Kind, Result};
use crate::format::media::{DOCUMENT, Strict, image};
use crate::format::volume::tree::{find, in_turn};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::vec;
use std::vec::Vec;

fn read(image: &[u8], path: &str) -> Result<Vec<u8>> {
    let mut device = Strict::new(image);
    let mut scratch = [0; 4096];
    assert!(Volume::is_recognised(&mut device)?);
    let volume = Volume::open(&mut device, &mut scratch)?;
    let mut file = in_turn(volume.trees(), &mut |tree| find(tree, &mut device, path, &mut scratch))?;
    let mut content = vec![0; usize::try_from(file.size_bytes()).unwrap()];
    assert_eq!(file.read(&mut device, 0, &mut content), Ok(content.len()));
    Ok(content)
}

const IMAGES: [&str; 6] =
    ["iso-plain", "iso-relaxed", "iso-joliet", "iso-rock-ridge", "iso-xorriso", "bridge"];

#[test]
fn the_document_is_read_from_what_other_programs_wrote() {
    for name in IMAGES {
        let image = image(name);
        assert_eq!(read(&image, "ovf-env.xml").as_deref(), Ok(DOCUMENT), "{name}");
        assert_eq!(read(&image, "none"), Err(os!("find file", Errno::NOENT)), "{name}");
        assert_eq!(read(&image, "ovf-env.xml/x"), Err(os!("find file", Errno::NOTDIR)), "{name}");
        assert_eq!(read(&image, ""), Err(os!("find file", Errno::ISDIR)), "{name}");
    }
}

/// A drive of which a read fails.
struct Failing<'i> {
    strict: Strict<'i>,
    left: u32,
}

impl crate::format::ReadAt for Failing<'_> {
    fn size_bytes(&self) -> u64 {
        self.strict.size_bytes()
    }
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.left = self.left.checked_sub(1).ok_or(os!("read disk", Errno::IO))?;
        self.strict.read_at(offset, buf)
    }
}

#[test]
fn a_drive_that_fails_does_not_change_the_names() {
    for name in IMAGES {
        let image = image(name);
        let mut failures = 0;
        loop {
            let mut device = Failing { strict: Strict::new(&image), left: failures };
            match Volume::open(&mut device, &mut [0; 4096]) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.errno(), Some(Errno::IO), "{name}"),
            }
            failures += 1;
        }
        assert!(failures > 2, "{name}");
    }
}

/// Byte offset of the record that has this name, in the primary tree.
fn record(image: &[u8], name: &[u8]) -> usize {
    image.windows(name.len()).position(|window| window == name).unwrap() - 33
}

#[test]
fn records_that_lie_are_refused() {
    let good = image("iso-relaxed");
    let at = record(&good, b"ovf-env.xml");
    let root = 16 * 2048 + 156;
    for (what, place, bytes) in [
        ("file past the end", at + 2, &[0xFF; 4][..]),
        ("file longer than the medium", at + 10, &[0xFF; 4]),
        ("record shorter than its header", at, &[33]),
        ("root past the end", root + 2, &[0xFF; 4]),
        ("root that is no directory", root + 25, &[0]),
        ("block size of 3", 16 * 2048 + 128, &[3]),
    ] {
        let mut image = good.clone();
        image[place..place + bytes.len()].copy_from_slice(bytes);
        let result = read(&image, "ovf-env.xml");
        assert!(matches!(result, Err(error) if error.is(Kind::Malformed)), "{what}: {result:?}");
    }
    let mut image = good.clone();
    image[at + 26] = 1;
    let error = read(&image, "ovf-env.xml").unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Unsupported, "interleaved file"));
}

#[test]
fn rings_and_endless_directories_come_to_an_end() {
    let mut image = image("iso-relaxed");
    let at = record(&image, b"ovf-env.xml");
    let root = 16 * 2048 + 156;
    let (start, size) = (image[root + 2..root + 10].to_vec(), image[root + 10..root + 18].to_vec());
    image[at + 2..at + 10].copy_from_slice(&start);
    image[at + 10..at + 18].copy_from_slice(&size);
    image[at + 25] = 2;
    assert_eq!(read(&image, "ovf-env.xml/ovf-env.xml/none"), Err(os!("find file", Errno::NOENT)));
    let end = image.len() as u32 / 2048;
    image[root + 2..root + 6].copy_from_slice(&end.to_le_bytes());
    image.resize(4 << 20, 0);
    image[root + 10..root + 14].copy_from_slice(&(3_u32 << 20).to_le_bytes());
    assert!(matches!(read(&image, "x"), Err(error) if error.is(Kind::TooMany)));
    image[root + 10..root + 14].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    assert_eq!(read(&image, "x"), Err(os!("find file", Errno::NOENT)));
}

#[test]
fn a_broken_joliet_tree_is_made_good_by_the_primary_one() {
    let mut image = image("iso-xorriso");
    let joliet = (16..32).map(|sector| sector * 2048).find(|at| image[*at] == 2).unwrap();
    image[joliet + 156 + 2..joliet + 156 + 6].fill(0xFF);
    assert_eq!(read(&image, "ovf-env.xml").as_deref(), Ok(DOCUMENT));
}

#[test]
fn the_extended_attribute_record_is_skipped() {
    let mut image = image("iso-relaxed");
    let at = record(&image, b"ovf-env.xml");
    image[at + 1] = 1;
    image[at + 2] -= 1;
    assert_eq!(read(&image, "ovf-env.xml").as_deref(), Ok(DOCUMENT));
}

fn survive(image: &[u8]) {
    let mut device = Strict::new(image);
    let mut scratch = [0; 4096];
    if let Ok(volume) = Volume::open(&mut device, &mut scratch)
        && let Ok(mut file) =
            in_turn(volume.trees(), &mut |tree| find(tree, &mut device, "ovf-env.xml", &mut scratch))
    {
        let _ = file.read(&mut device, file.size_bytes() / 2, &mut scratch);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn flipped_bytes_never_panic_or_hang(
        name in prop::sample::select(&IMAGES[..]),
        flips in prop::collection::vec((0_usize..0xFFFF, any::<u8>()), 1..16),
    ) {
        let mut image = image(name);
        let used: Vec<usize> = (0x8000..image.len()).filter(|at| image[*at] != 0).collect();
        for (place, value) in flips {
            image[used[place % used.len()]] = value;
        }
        survive(&image);
    }

    #[test]
    fn arbitrary_bytes_never_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..8192), at in 0x8000_usize..0xF000) {
        let mut image = image("iso-joliet");
        image[at..at + bytes.len()].copy_from_slice(&bytes);
        survive(&image);
        survive(&bytes);
    }
}
