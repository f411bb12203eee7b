//! Media as genisoimage and xorriso make them, and media that nobody should make.

use super::Volume;
use crate::error::{Errno, Kind, Result};
use crate::format::ReadAt;
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

/// A directory record of a file.
fn section(name: &[u8], start: u32, size: u32, flags: u8) -> Vec<u8> {
    let mut raw = vec![0; (33 + name.len()).next_multiple_of(2)];
    raw[0] = raw.len() as u8;
    raw[2..6].copy_from_slice(&start.to_le_bytes());
    raw[10..14].copy_from_slice(&size.to_le_bytes());
    (raw[25], raw[32]) = (flags, name.len() as u8);
    raw[33..33 + name.len()].copy_from_slice(name);
    raw
}

#[test]
fn a_file_of_several_sections_is_one_file() {
    let mut image = image("iso-relaxed");
    let at = record(&image, b"ovf-env.xml");
    let start = u32::from_le_bytes(image[at + 2..at + 6].try_into().unwrap());
    // Two sections in one sector, the last in the next: writers do that at a sector's end.
    let directory = image.len();
    image.resize(directory + 4096, 0);
    let dots =
        [section(&[0], directory as u32 / 2048, 4096, 2), section(&[1], directory as u32 / 2048, 4096, 2)];
    let parts = [section(b"big", start, 2048, 0x80), section(b"big", start, 2048, 0x80)];
    let before = [dots.concat(), parts.concat()].concat();
    image[directory..directory + before.len()].copy_from_slice(&before);
    let rest = [section(b"big", start + 1, 100, 0), section(b"other", start, 1, 0)].concat();
    image[directory + 2048..directory + 2048 + rest.len()].copy_from_slice(&rest);
    let root = 16 * 2048 + 156;
    image[root + 2..root + 6].copy_from_slice(&(directory as u32 / 2048).to_le_bytes());
    image[root + 10..root + 14].copy_from_slice(&4096_u32.to_le_bytes());
    let expected = [&DOCUMENT[..2048], &DOCUMENT[..2048], &DOCUMENT[2048..2148]].concat();
    assert!(read(&image, "big").as_deref() == Ok(&expected[..]));
    assert_eq!(read(&image, "other").as_deref(), Ok(&DOCUMENT[..1]));
    // A last section that never comes is no file.
    image[directory + 2048 + 25] = 0x80;
    image[directory + 2048 + 36 + 25] = 0x80;
    assert!(read(&image, "big").is_err());
}

#[test]
fn what_zisofs_compressed_is_named() {
    let mut image = image("iso-rock-ridge");
    let at = image.windows(11).position(|window| window == b"ovf-env.xml").unwrap();
    // The time stamps come after the name.
    let entry = at + image[at..].windows(2).position(|window| window == b"TF").unwrap();
    image[entry..entry + 2].copy_from_slice(b"ZF");
    let error = read(&image, "ovf-env.xml").unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Unsupported, "file compressed with zisofs"));
}

#[test]
fn the_last_session_is_the_one_that_is_read() {
    struct Sessions<'i>(Strict<'i>);
    impl ReadAt for Sessions<'_> {
        fn size_bytes(&self) -> u64 {
            self.0.size_bytes()
        }
        fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
            self.0.read_at(offset, buf)
        }
        fn session_bytes(&self) -> u64 {
            64 * 2048
        }
    }
    let mut image = image("iso-relaxed");
    image.resize(4 << 20, 0);
    image.copy_within(16 * 2048..18 * 2048, 80 * 2048);
    image[16 * 2048..17 * 2048].fill(0);
    let mut device = Sessions(Strict::new(&image));
    let mut scratch = [0; 4096];
    assert_eq!(Volume::is_recognised(&mut device), Ok(true));
    let volume = Volume::open(&mut device, &mut scratch).unwrap();
    let found = in_turn(volume.trees(), &mut |tree| find(tree, &mut device, "ovf-env.xml", &mut scratch));
    assert_eq!(found.map(|file| file.size_bytes()), Ok(DOCUMENT.len() as u64));
    assert_eq!(Volume::is_recognised(&mut Strict::new(&image)), Ok(false));
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
