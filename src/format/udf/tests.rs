//! Media as genisoimage, udfkit and mkudffs make them, and media that nobody should make.

mod planted;

use super::Volume;
use super::tag::check_tag;
use crate::error::{Errno, Kind, Result};
use crate::format::media::{DOCUMENT, Strict, image};
use crate::format::volume::tree::find;
use planted::{ALLOCATION, DIRECTORY, FILE_ENTRY, FORMS, Form, Planted, long, reseal, short};
use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::vec;
use std::vec::Vec;

fn read(image: &[u8], path: &str) -> Result<Vec<u8>> {
    let mut device = Strict::new(image);
    let mut scratch = [0; 4096];
    assert!(Volume::is_recognised(&mut device)?);
    let volume = Volume::open(&mut device, &mut scratch)?;
    let mut file = find(&volume, &mut device, path, &mut scratch)?;
    let mut content = vec![0; usize::try_from(file.size_bytes()).unwrap().min(1 << 20)];
    let mut offset = 0;
    for part in content.chunks_mut(700) {
        assert_eq!(file.read(&mut device, offset, part), Ok(part.len()));
        offset += part.len() as u64;
    }
    Ok(content)
}

fn broken(result: Result<Vec<u8>>) -> &'static str {
    match result {
        Err(error) if !error.is(Kind::Os) => error.reason(),
        other => panic!("{other:?}"),
    }
}

const EMPTY: [&str; 5] = ["udf-102", "udf-201", "udf-201-512", "udf-201-4096", "udf-sparable"];

/// Written by the kernel's own driver.
const LINUX: [&str; 5] = ["linux-102", "linux-201", "linux-201-512", "linux-201-4096", "linux-sparable"];

#[test]
fn the_document_is_read_from_what_other_programs_wrote() {
    for name in [&["bridge", "bd-250"][..], &LINUX].concat() {
        let image = image(name);
        assert_eq!(read(&image, "ovf-env.xml").as_deref(), Ok(DOCUMENT), "{name}");
        assert_eq!(read(&image, "CustomData.bin").as_deref(), Ok(&b"#!/bin/sh\n"[..]), "{name}");
        for none in ["none", "deleted"] {
            assert_eq!(read(&image, none), Err(os!("find file", Errno::NOENT)), "{name}");
        }
        assert_eq!(read(&image, "OVF-ENV.XML"), Err(os!("find file", Errno::NOENT)), "{name}");
        assert_eq!(read(&image, "ovf-env.xml/x"), Err(os!("find file", Errno::NOTDIR)), "{name}");
    }
    for name in LINUX {
        assert_eq!(read(&image(name), "sub/price \u{20ac}.xml").as_deref(), Ok(DOCUMENT), "{name}");
    }
    assert_eq!(read(&image("bd-250"), "BDMV/index.bdmv").as_deref(), Ok(&b"INDX0200"[..]));
    assert_eq!(read(&image("bd-250"), "BDMV"), Err(os!("find file", Errno::ISDIR)));
}

#[test]
fn every_revision_block_size_and_form_is_read() {
    for name in EMPTY {
        assert_eq!(read(&image(name), "ovf-env.xml"), Err(os!("find file", Errno::NOENT)), "{name}");
        for form in FORMS {
            for is_extended in [false, true] {
                let planted = Planted::new(image(name), is_extended);
                let room = planted.block - 240;
                let content =
                    if form == Form::Embedded { &DOCUMENT[..room.min(DOCUMENT.len())] } else { DOCUMENT };
                let planted = planted.with_file("ovf-env.xml", content, form);
                assert_eq!(read(&planted.image, "ovf-env.xml").as_deref(), Ok(content), "{name} {form:?}");
            }
        }
    }
}

#[test]
fn holes_are_zeros_and_preallocated_space_is_no_content() {
    let mut planted = Planted::new(image("udf-201"), false).with_file("f", b"x", Form::Short);
    let block = planted.block as u32;
    let runs =
        [short(2 << 30 | block, 0), short(block, 42), short(1 << 30 | block, 9), short(5, 9999)].concat();
    planted.entry(FILE_ENTRY, 5, 0, u64::from(2 * block + 3), &runs);
    let content = read(&planted.image, "f").unwrap();
    assert_eq!(content.len(), 2 * planted.block + 3);
    assert!(content[..planted.block].iter().all(|b| *b == 0));
    assert_eq!(content[planted.block..2 * planted.block], planted.image[planted.at(42)..planted.at(43)]);
}

/// Places of the sparing tables.
fn tables(image: &[u8]) -> Vec<usize> {
    let is_table = |at: &usize| image[*at + 17..].starts_with(b"*UDF Sparing Table");
    (0..image.len()).step_by(2048).filter(is_table).collect()
}

#[test]
fn moved_packets_are_read_where_they_are_now() {
    let mut planted = Planted::new(image("udf-sparable"), false).with_file("f", DOCUMENT, Form::Short);
    let packet_blocks = 16;
    let first = planted::DIRECTORY / packet_blocks * packet_blocks;
    let length = packet_blocks as usize * 2048;
    for at in tables(&planted.image) {
        planted.image[at + 56..at + 60].copy_from_slice(&first.to_le_bytes());
        reseal(&mut planted.image[at..]);
        let now = u32::from_le_bytes(planted.image[at + 60..at + 64].try_into().unwrap()) as usize * 2048;
        let from = planted.at(first);
        let packet = planted.image[from..from + length].to_vec();
        if packet.iter().any(|byte| *byte != 0xA5) {
            planted.image[now..now + length].copy_from_slice(&packet);
            planted.image[from..from + length].fill(0xA5);
        }
    }
    assert!(tables(&planted.image).len() > 1);
    assert_eq!(read(&planted.image, "f").as_deref(), Ok(DOCUMENT));
    for at in tables(&planted.image) {
        for entry in 0..crate::limits::MOVED_PACKETS + 1 {
            planted.image[at + 56 + entry * 8 + 3] = 0;
        }
        reseal(&mut planted.image[at..]);
    }
    assert_eq!(broken(read(&planted.image, "f")), "moved packets");
}

#[test]
fn a_write_once_disc_is_read_through_its_table() {
    let image = image("udf-vat");
    assert_eq!(read(&image, "none"), Err(os!("find file", Errno::NOENT)));
    let mut without = image.clone();
    let last = without.len() - 2048;
    without[last] ^= 1;
    assert_eq!(broken(read(&without, "x")), "descriptor tag checksum or CRC");
    let planted = Planted::new(image, false);
    // The table moves the root to block 7; it is in the last block, behind the entry and the table's own header.
    let vat = planted.image.len() - 2048;
    let fixed = if planted.image[vat] == 10 { 216 } else { 176 };
    let header = usize::from(planted.image[vat + fixed]);
    let mut planted = planted;
    planted.forge(vat, fixed + header + 4 * planted.root as usize, &7_u32.to_le_bytes());
    let planted = planted.with_virtual_root("f", &DOCUMENT[..1000], 7);
    assert_eq!(read(&planted.image, "f").as_deref(), Ok(&DOCUMENT[..1000]));
    let mut device = Strict::new(&planted.image);
    let volume = Volume::open(&mut device, &mut [0; 4096]).unwrap();
    for block in [2, 1000, u32::MAX] {
        let at = super::partition::Location { map: 1, block };
        assert!(volume.byte_of(&mut device, at).is_err(), "{block}");
    }
}

#[test]
fn larger_blocks_and_other_strategies_are_named() {
    let planted = Planted::new(image("udf-201"), false).with_file("f", b"x", Form::Short);
    let mut chained = planted.image.clone();
    let at = planted.at(FILE_ENTRY);
    chained[at + 20..at + 22].copy_from_slice(&4096_u16.to_le_bytes());
    reseal(&mut chained[at..at + 2048]);
    assert_eq!(broken(read(&chained, "f")), "ICB strategy other than 4");
    let mut extended = planted.image.clone();
    extended[at + 34] = 2;
    reseal(&mut extended[at..at + 2048]);
    assert_eq!(broken(read(&extended, "f")), "extended allocation descriptors");
    // An anchor 256 blocks of 8 KiB in.
    let mut large = vec![0; 8192 * 257];
    large[32768..40960].copy_from_slice(&planted.image[32768..40960]);
    large[8192 * 256..][..2048].copy_from_slice(&planted.image[256 * 2048..][..2048]);
    assert_eq!(broken(read(&large, "f")), "blocks above 4096 bytes");
}

#[test]
fn second_copies_are_used_when_the_first_are_gone() {
    let planted = Planted::new(image("udf-201"), false).with_file("f", b"x", Form::Short);
    let wipe = |image: &mut Vec<u8>, block: usize| image[block * 2048..(block + 1) * 2048].fill(0xA5);
    let mut no_anchor = planted.image.clone();
    wipe(&mut no_anchor, 256);
    assert_eq!(read(&no_anchor, "f").as_deref(), Ok(&b"x"[..]));
    let mut no_main = planted.image.clone();
    (20..36).for_each(|block| wipe(&mut no_main, block));
    assert_eq!(read(&no_main, "f").as_deref(), Ok(&b"x"[..]));
    let last = no_anchor.len() / 2048 - 1;
    wipe(&mut no_anchor, last);
    assert_eq!(broken(read(&no_anchor, "f")), "no anchor");
}

#[test]
fn the_metadata_mirror_is_used_when_the_metadata_file_is_gone() {
    let mut image = image("bd-250");
    let entries = |image: &[u8]| -> Vec<usize> {
        let is_metadata = |at: &usize| check_tag(&image[*at..]) == Some(266) && image[*at + 27] == 250;
        (0..image.len()).step_by(2048).filter(is_metadata).collect()
    };
    let found = entries(&image);
    assert_eq!(found.len(), 1);
    image[found[0] + 100] ^= 1;
    assert_eq!(read(&image, "ovf-env.xml").as_deref(), Ok(DOCUMENT));
}

#[test]
fn rings_come_to_an_end() {
    let with = |form| Planted::new(image("udf-201"), false).with_file("f", DOCUMENT, form);
    let mut chain = with(Form::Chained);
    chain.allocation(&long((3 << 30) | 2048, ALLOCATION));
    assert_eq!(broken(read(&chain.image, "f")), "allocation extents of a file");

    let mut directory = with(Form::Short);
    let root = directory.root;
    directory.entry(root, 4, 0, 2048, &short(2048, root));
    assert_eq!(broken(read(&directory.image, "f")), "file identifier");

    let mut icb = with(Form::Short);
    let at = icb.at(DIRECTORY) + 40;
    let own = long(2048, root);
    let entry = &mut icb.image[at..at + 40];
    entry[20..36].copy_from_slice(&own);
    reseal(entry);
    assert_eq!(read(&icb.image, "f/f/f/f/f"), Err(os!("find file", Errno::ISDIR)));
    assert_eq!(read(&icb.image, "f/f/none"), Err(os!("find file", Errno::NOENT)));

    // A volume descriptor pointer to itself.
    let mut pointer = with(Form::Short);
    for block in (20..36).chain(383..399) {
        let extent = [32768_u32.to_le_bytes(), u32::to_le_bytes(block)].concat();
        let at = block as usize * 2048;
        if check_tag(&pointer.image[at..]).is_some() {
            pointer.forge(at, 0, &3_u16.to_le_bytes());
            pointer.forge(at, 20, &extent);
        }
    }
    assert_eq!(broken(read(&pointer.image, "f")), "no logical volume");
}

#[test]
fn huge_numbers_are_refused() {
    let with = || Planted::new(image("udf-201"), false).with_file("f", DOCUMENT, Form::Short);
    let huge = [0xFF; 8];
    for (what, block, offset, length) in [
        ("information length", FILE_ENTRY, 56, 8),
        ("extended attributes", FILE_ENTRY, 168, 4),
        ("allocation descriptors", FILE_ENTRY, 172, 4),
        ("extent place", FILE_ENTRY, 204, 4),
        ("directory length", u32::MAX, 56, 8),
        ("directory place", u32::MAX, 204, 4),
    ] {
        let mut planted = with();
        let block = if block == u32::MAX { planted.root } else { block };
        let at = planted.at(block);
        planted.forge(at, offset, &huge[..length]);
        let result = read(&planted.image, "f");
        assert!(matches!(result, Err(error) if error.is(Kind::Malformed)), "{what}: {result:?}");
    }
    let mut planted = with();
    let root = planted.root;
    let runs = [short(2 << 30 | 0x3FFF_F800, 0), short(2 << 30 | 0x3FFF_F800, 0)].concat();
    planted.entry(root, 4, 0, 0x7FFF_F000, &runs);
    assert_eq!(broken(read(&planted.image, "f")), "bytes of a directory");
}

#[test]
fn too_small_media_are_no_udf() {
    let whole = image("udf-102");
    for length in [0, 1, 2047, 32768, 34816, 100_000, 520_000] {
        let mut device = Strict::new(&whole[..length]);
        if Volume::is_recognised(&mut device).unwrap() {
            assert!(Volume::open(&mut device, &mut [0; 4096]).is_err());
        }
    }
    assert!(Volume::open(&mut Strict::new(&whole), &mut [0; 100]).is_err(), "scratch too small");
}

/// Whatever comes out, it comes out, reads stay on the medium, and their number is bounded (see `Strict`).
fn survive(image: &[u8]) {
    let mut device = Strict::new(image);
    let mut scratch = [0; 4096];
    if let Ok(volume) = Volume::open(&mut device, &mut scratch)
        && let Ok(mut file) = find(&volume, &mut device, "ovf-env.xml", &mut scratch)
    {
        let _ = file.read(&mut device, file.size_bytes() / 2, &mut scratch);
    }
}

/// Places of all descriptors, so that changes hit what is parsed.
fn descriptors(image: &[u8]) -> Vec<usize> {
    (0..image.len()).step_by(4).filter(|at| check_tag(&image[*at..]).is_some()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn flipped_bytes_never_panic_or_hang(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..512, any::<u8>()), 1..12),
        form in prop::sample::select(&FORMS[..]),
        is_sealed in any::<bool>(),
    ) {
        let content = if form == Form::Embedded { &DOCUMENT[..1000] } else { DOCUMENT };
        let planted = Planted::new(image("udf-201"), false).with_file("ovf-env.xml", content, form);
        for mut image in [planted.image, image("bd-250"), image("bridge"), image("linux-102")] {
            let places = descriptors(&image);
            for (place, offset, value) in &flips {
                let at = *place.get(&places);
                let end = (at + 2048).min(image.len());
                if let Some(byte) = image[at..end].get_mut(*offset) {
                    *byte = *value;
                }
                if is_sealed && end - at >= 16 {
                    reseal(&mut image[at..end]);
                }
            }
            survive(&image);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_or_hang(bytes in prop::collection::vec(any::<u8>(), 0..8192), at in 0_usize..600_000) {
        let mut image = image("udf-201");
        let end = (at + bytes.len()).min(image.len());
        image[at..end].copy_from_slice(&bytes[..end - at]);
        survive(&image);
        survive(&bytes);
    }
}
